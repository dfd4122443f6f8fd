"""Sets up a process for training: threads, memory, choice of convolutions."""

import ctypes
import os
import sys

import torch

from trainer.keras_internals import train_in_float32

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_HUGE = 2**31 - 1


def prepare_process(sharing: int = 1) -> None:
    """Pins torch's threads to the processors at hand and keeps freed memory in the process.

    The number of threads decides in which order sums are taken, so results on a CPU depend on it;
    OMP_NUM_THREADS sets another.

    Args:
        sharing: processes that share the processors.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        has_affinity = hasattr(os, "sched_getaffinity")
        there = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
        torch.set_num_threads(max(1, there // sharing))
    keep_freed_memory()
    train_in_float32()
    # Shapes never change within a run: let a GPU try its convolutions once and keep the fastest.
    torch.backends.cudnn.benchmark = True


def device_name() -> str:
    """Name of the device that runs of this process train on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def keep_freed_memory() -> bool:
    """Tells glibc not to hand the buffers of each step back to the kernel.

    By default every activation over 32 MiB, and the top of the heap, goes back when it is freed,
    and the next step faults it in again page by page; on a CPU this costs about a tenth of a
    ResNet-20 step (`benchmarks/results.md`). The peak stays what it is: memory is only kept
    longer.

    Returns:
        Whether the C library took the advice; False where it is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _HUGE)) and bool(mallopt(_M_TRIM_THRESHOLD, _HUGE))
