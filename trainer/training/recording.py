"""Records the work of a step once and replays it: CUDA graphs.

A small network's step is a few hundred kernels that a GPU runs faster than a host launches them. A
recording launches them all at once. It repeats work on tensors at fixed addresses, so
whatever changes between two steps (weights, the position in the epoch, learning rates) must be
read from tensors and written in place.
"""

import logging
from collections import Counter
from collections.abc import Callable, Hashable
from functools import cache
from typing import Protocol

import torch

log = logging.getLogger(__name__)
Work = Callable[[], None]
# Steps that choose convolution algorithms and set up workspaces, which a recording cannot do.
_WARM_UP = 3


class Recorder(Protocol):
    """A way to record work on a device."""

    def run(self, work: Work) -> None:
        """Runs `work` as it will be recorded."""

    def record(self, work: Work) -> Work:
        """Records `work` without running it, and returns what replays it.

        Raises:
            RuntimeError: something in `work` cannot be recorded; nothing of it has been done.
        """


def recorder(device: torch.device) -> Recorder | None:
    """What records on a device; None where it would save nothing: a CPU launches what it runs."""
    return CudaGraphs() if device.type == "cuda" else None


@cache
def _stream(device: int) -> torch.cuda.Stream:
    """The one stream that this process records on: libraries keep a workspace for each."""
    return torch.cuda.Stream(device)


class CudaGraphs:
    """Records CUDA graphs, which share their memory for what lives within a step."""

    def __init__(self) -> None:
        self._stream = _stream(torch.cuda.current_device())
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, work: Work) -> None:
        """Runs `work` on the stream that it will be recorded on."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def record(self, work: Work) -> Work:
        """Records `work`; other threads may go on meanwhile."""
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                work()
        except RuntimeError:
            # torch does not restore the stream after a failed recording.
            torch.cuda.set_stream(current)
            raise
        return graph.replay


class Recordings:
    """Runs work by name: directly a few times, then from a recording.

    Once something cannot be recorded, all work is run directly from then on; a log line says why.

    Args:
        recorder: how to record.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._refused = False
        self._runs: Counter[Hashable] = Counter()
        self._replays: dict[Hashable, Work] = {}

    def __call__(self, name: Hashable, work: Work) -> None:
        """Runs `work` once. The same name always stands for the same work on the same tensors.

        Args:
            name: of the work.
            work: must not rely on side effects of an earlier call: a recording that failed may
                have left them half done.

        Raises:
            OutOfMemoryError: while recording, as in any run.
        """
        replay = self._replays.get(name)
        if replay is None:
            if self._refused or self._runs[name] < _WARM_UP:
                self._runs[name] += 1
                self._recorder.run(work)
                return
            try:
                replay = self._replays[name] = self._recorder.record(work)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                log.warning("steps are launched kernel by kernel, which is slower: %s", error)
                self._refused = True
                self._recorder.run(work)
                return
        replay()
