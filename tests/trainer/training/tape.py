"""A recorder for CPUs that behaves as CUDA graphs do, so that what they record can be tested."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map


class Tape:
    """Records the tensor operations of some work, on the tensors at hand, and repeats them.

    As a CUDA graph, a recording knows no Python: what the work computed on the host, numbers and
    branches, stays as it was. Unlike one, the work runs while it is recorded, so what it changes is
    put back.

    Attributes:
        recorded, replayed: how often.
    """

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def run(self, work: Callable[[], None]) -> None:
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        operations = _Operations()
        with operations:
            work()
        operations.put_back()
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            operations.replay()

        return replay


class _Operations(TorchDispatchMode):
    """Operations with their tensors. Raises RuntimeError for one that reads a tensor on the host,
    or makes one of what the host knows, as capturing a CUDA graph does.
    """

    _REFUSED = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "lift_fresh")

    def __init__(self) -> None:
        super().__init__()
        self._steps: list[tuple] = []
        self._before: dict[int, tuple[Tensor, Tensor]] = {}
        self._made: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        # How many entries a boolean index picks is known on the host only once they are counted.
        counts = name in ("index", "index_put_") and any(x.dtype == torch.bool for x in tensors[1:])
        if name in self._REFUSED or counts:
            raise RuntimeError(f"operation not permitted when recording: {name}")
        for given in tensors:
            storage = given.untyped_storage().data_ptr()
            if storage not in self._before and storage not in self._made:
                whole = torch.empty(0, dtype=given.dtype).set_(given.untyped_storage())
                self._before[storage] = whole, whole.clone()
        outputs = function(*args, **kwargs)
        for output in tree_flatten(outputs)[0]:
            if isinstance(output, Tensor):
                storage = output.untyped_storage().data_ptr()
                if storage not in self._before:
                    self._made.add(storage)
        self._steps.append((function, args, kwargs, outputs))
        return outputs

    def put_back(self) -> None:
        for tensor, values in self._before.values():
            tensor.copy_(values)

    @torch.no_grad()
    def replay(self) -> None:
        for function, args, kwargs, outputs in self._steps:
            detached = tree_map(lambda x: x.detach() if isinstance(x, Tensor) else x, args)
            again = function(*detached, **kwargs)
            for old, new in zip(tree_flatten(outputs)[0], tree_flatten(again)[0], strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.detach().copy_(new)
