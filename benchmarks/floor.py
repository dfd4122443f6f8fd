"""How far a training step is from what the machine could do at best.

    python -m benchmarks.floor [--networks resnet20 …] [--batch 64] [--threads 1]

Arithmetic floor: floating-point operations of the convolutions, forward and backward (torch's own
counter), at the speed of a large matrix product. Memory floor: every tensor that an operation of
our step reads or writes, once, at the speed of a large copy; caches can beat it. Both speeds are
measured here, in turns with the step.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import record
from benchmarks.plain import NETWORKS
from benchmarks.step import ours

# Side of the matrices, and bytes copied: far more than caches hold.
_SIDE = {False: 1536, True: 8192}
_COPIED = {False: 2**27, True: 2**30}
_PICKS = ("index", "index_select", "gather")
_VIEWS = ("view", "permute", "transpose", "t", "expand", "unsqueeze", "alias", "detach", "select")


class Traffic(TorchDispatchMode):
    """Counts the bytes of all tensors that operations read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        outputs = function(*args, **(kwargs or {}))
        if function.overloadpacket.__name__ not in _VIEWS:
            given = [x for x in tree_leaves((args, kwargs)) if torch.is_tensor(x)]
            made = [x for x in tree_leaves(outputs) if torch.is_tensor(x)]
            if function.overloadpacket.__name__ in _PICKS:
                given[0] = made[0]  # Of a whole dataset, only what is picked is read.
            self.bytes += sum(x.numel() * x.element_size() for x in [*given, *made])
        return outputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows = [distance(name, options) for name in options.networks]
    for row in rows:
        print(
            f"{row['network']:>13}: step {row['step_ms']:8.2f} ms, arithmetic "
            f"{row['arithmetic_ms']:8.2f} ms, memory {row['memory_ms']:8.2f} ms: "
            f"{row['distance']:.1f} times the higher floor"
        )
    record.keep("floor", [row | {"threads": options.threads} for row in rows], by=("network",))


def distance(name: str, options: argparse.Namespace) -> record.Row:
    """Milliseconds of a step and of its floors."""
    batch, device = options.batch, "cuda" if record.gpu() else "cpu"
    with FlopCounterMode(display=False) as flops:
        train = ours(name, batch, device)
        torch.set_num_threads(options.threads)
        train(1)
    with Traffic() as traffic:
        train(1)
    train(6 if record.gpu() else 1)  # From here on a recording is replayed.
    side, copied = _SIDE[record.gpu()], _COPIED[record.gpu()]
    a = torch.randn(side, side, device=device)
    source = torch.empty(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    torch.backends.cuda.matmul.allow_tf32 = True  # As convolutions are computed.
    times: dict[str, list[float]] = {"step": [], "product": [], "copy": []}
    work: dict[str, Callable[[], object]] = {
        "step": lambda: train(10 if record.gpu() else 2),
        "product": lambda: a @ a,
        "copy": lambda: target.copy_(source),
    }
    for round_ in range(options.rounds + 1):
        for what, run in work.items():
            took = timed(run)
            if round_:
                times[what].append(took)
    median = {what: statistics.median(values) for what, values in times.items()}
    step = median["step"] / (10 if record.gpu() else 2)
    # Backward takes two products for each of forward. (The counter's own count of backward passes
    # takes grouped convolutions for whole ones.)
    counted = 3 * flops.get_flop_counts()["Global"][torch.ops.aten.convolution]
    arithmetic = counted / (2 * side**3 / median["product"])
    memory = traffic.bytes / (2 * copied / median["copy"])
    return {
        "network": name,
        "batch": batch,
        "step_ms": 1000 * step,
        "arithmetic_ms": 1000 * arithmetic,
        "memory_ms": 1000 * memory,
        "distance": step / max(arithmetic, memory),
    }


def timed(run: Callable[[], object]) -> float:
    """Seconds, on a CPU of this process alone."""
    clock = time.perf_counter if record.gpu() else time.process_time
    if record.gpu():
        torch.cuda.synchronize()
    began = clock()
    run()
    if record.gpu():
        torch.cuda.synchronize()
    return clock() - began


if __name__ == "__main__":
    main()
