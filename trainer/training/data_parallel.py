"""One run over several devices of one machine, a process for each: DistributedDataParallel.

The run's own process is the first of them, and the only one that records anything; the others are
started with the run and end with it. Batch norm normalises each process's part of a batch
separately, and the running statistics are averaged before they are used.

Only this module uses `torch.distributed`: Keras announces a `DataParallel` distribution on torch
for 3.16 that could replace this module.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import keras
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from jackpot.contract import Metric
from trainer.datasets.passes import Part
from trainer.study.config import Training
from trainer.training.lowering import Network

_HOST = "127.0.0.1"
# Longer than the first process ever keeps the others waiting while it writes files.
_TIMEOUT = timedelta(minutes=10)
# A process that died of an error takes a while to end.
_NOTICE_S = 30.0


class PeerLost(Exception):
    """One of the processes of a run died; its checkpoint is where the run can go on."""


class TooFewDevices(OSError):
    """This machine has fewer devices than a run is to use; nothing is lost."""


class Peers:
    """What the processes of one run compute together. All must make the same calls in one order.

    Args:
        part: which of the processes this is.
    """

    def __init__(self, part: Part) -> None:
        self.part = part

    def forward(self, network: Network, weights: Iterable[Tensor]) -> Callable[[Tensor], Tensor]:
        """`network` in training, whose backward pass averages the gradients of all processes.

        The weights of the first process become those of all.
        """
        return nn.parallel.DistributedDataParallel(_Forward(network, weights))

    def sums(self, values: list[float]) -> list[float]:
        """Each value's sum over all processes."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        totals = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(totals)
        return totals.tolist()

    @torch.no_grad()
    def average_(self, tensors: Iterable[Tensor]) -> None:
        """Sets each tensor of floats to the mean of all processes'."""
        floats = [t for t in tensors if t.is_floating_point()]
        if not floats:
            return
        mean = torch.cat([t.flatten() for t in floats])
        dist.all_reduce(mean)
        mean /= self.part.count
        for tensor, values in zip(floats, mean.split([t.numel() for t in floats]), strict=True):
            tensor.copy_(values.view_as(tensor))


class AverageStatistics(keras.callbacks.Callback):
    """Averages the running statistics of batch norm over all processes before they are used.

    They are not what gradients flow to, so DistributedDataParallel leaves them alone.
    """

    def __init__(self, peers: Peers, statistics: Iterable[Tensor]) -> None:
        super().__init__()
        self._peers, self._statistics = peers, list(statistics)

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Averages before an evaluation."""
        self._peers.average_(self._statistics)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Averages before a checkpoint; right after an evaluation nothing is left to average."""
        if Metric.VAL_LOSS not in (logs or {}):
            self._peers.average_(self._statistics)


class _Forward(nn.Module):
    """A lowered network as DistributedDataParallel wants it."""

    def __init__(self, network: Network, weights: Iterable[Tensor]) -> None:
        super().__init__()
        self._network = network
        self.weights = nn.ParameterList(weights)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return self._network(images, True)


@dataclass(frozen=True)
class _Peer:
    """What a process needs to join."""

    part: Part
    port: int
    threads: int


@contextmanager
def started_peers(
    count: int, follow: Callable[..., None], job: Any, stop: threading.Event
) -> Iterator[Peers | None]:
    """Starts `count` − 1 more processes that each call `follow(peers, job)`, and joins them.

    Args:
        count: processes, this one included; 1 starts none and gives None.
        follow: a module-level function that does the same as this process with its own `Peers`.
        job: what it needs to know; anything that can be pickled.
        stop: ends the wait for the others.

    Raises:
        PeerLost: one of them ended before this one was done.
        TooFewDevices: this machine has fewer GPUs; with none, the processes share the CPU.
    """
    if count == 1:
        yield None
        return
    if torch.cuda.is_available() and torch.cuda.device_count() < count:
        raise TooFewDevices(_too_few(count))
    store = TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    peers = [
        context.Process(
            target=_run,
            args=(_Peer(Part(index, count), store.port, torch.get_num_threads()), follow),
            name=f"device {index} of {count}",
        )
        for index in range(1, count)
    ]
    try:
        for peer in peers:
            peer.start()
        while not store.check([_ready(index) for index in range(1, count)]):
            _look_for_dead(peers, 0.1)
            if stop.is_set():
                raise KeyboardInterrupt
        _join(store, Part(0, count))
        # Now, not as an argument: a process that dies before it has read a large one is waited for.
        dist.broadcast_object_list([job], src=0)
        yield Peers(Part(0, count))
        for peer in peers:
            peer.join()
    except RuntimeError as error:
        # torch raises this for a closed connection; this process's own errors are raised unchanged.
        _look_for_dead(peers, _NOTICE_S, error)
        raise
    finally:
        for peer in peers:
            if peer.pid is not None:
                peer.kill()
                peer.join()
        if dist.is_initialized():
            dist.destroy_process_group()


def _too_few(count: int) -> str:
    return f"training.devices_per_run: {count}, but {torch.cuda.device_count()} GPUs are here"


def check_devices(training: Training, train_images: int, fewest_evaluated: int, here: bool) -> None:
    """Sees whether runs can be spread over as many devices as the study says.

    Args:
        training: the recipe.
        train_images: images of an epoch.
        fewest_evaluated: images of the smallest split that is evaluated on.
        here: whether runs are trained on this machine.

    Raises:
        ValueError: some pass has fewer images than there are devices, or this machine has fewer.
    """
    count, batch_size = training.devices_per_run, training.batch_size
    where = f"training.devices_per_run: {count} devices cannot share"
    last = min(batch_size, train_images % batch_size or batch_size)
    if last < count:
        raise ValueError(
            f"{where} the last batch of an epoch, which has {last} of {train_images:,} images; "
            f"choose another training.batch_size than {batch_size}"
        )
    if here and torch.cuda.is_available() and torch.cuda.device_count() < count:
        raise ValueError(_too_few(count))
    if fewest_evaluated < count:
        raise ValueError(f"{where} {fewest_evaluated} images to evaluate on")


def _ready(index: int) -> str:
    return f"ready/{index}"


def _join(store: TCPStore, part: Part) -> None:
    """Joins the others. All are on this machine: no need to ask a name server for it."""
    if torch.cuda.is_available():
        torch.cuda.set_device(part.index)
    loopback = {"linux": "lo", "darwin": "lo0"}.get(sys.platform)
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    dist.init_process_group(
        "nccl" if torch.cuda.is_available() else "gloo",
        store=store,
        rank=part.index,
        world_size=part.count,
        timeout=_TIMEOUT,
    )


def _run(peer: _Peer, follow: Callable[..., None]) -> None:
    """Runs one of the other processes from start to end."""
    # Requests to stop a run go to its first process, which ends this one.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(peer.threads)
    store = TCPStore(_HOST, peer.port, is_master=False)
    store.set(_ready(peer.part.index), "")
    _join(store, peer.part)
    jobs: list[Any] = [None]
    dist.broadcast_object_list(jobs, src=0)
    follow(Peers(peer.part), jobs[0])
    dist.destroy_process_group()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _look_for_dead(
    peers: Sequence[BaseProcess], patience_s: float, cause: Exception | None = None
) -> None:
    """Raises PeerLost if one has ended, or ends within `patience_s` seconds."""
    ended = wait([peer.sentinel for peer in peers], timeout=patience_s)
    for index, peer in enumerate(peers, start=1):
        if peer.sentinel in ended:
            peer.join()  # Its exit code comes a moment after its end.
            raise PeerLost(
                f"process {index + 1} of {len(peers) + 1} died (exit code {peer.exitcode})"
            ) from cause
