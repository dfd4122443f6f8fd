"""Pruning as a Keras callback, for any Keras model on torch.

The trainer's own runs need none: their training state owns the mask.
"""

import logging
from collections.abc import Sequence

import keras
import numpy as np
import torch

from jackpot.artifacts import Mask
from trainer.keras_internals import averages
from trainer.pruning.masks import fitted, kernels, prune, pruned_paths
from trainer.pruning.scores import magnitude

log = logging.getLogger(__name__)


class ApplyMask(keras.callbacks.Callback):
    """Keeps pruned weights at 0.0, from before the first step and after every one.

    Masking the weights *after* the optimizer's step is what makes this exact: with momentum or
    weight decay, a masked gradient alone still moves a pruned weight. The averages of an optimizer
    with `use_ema` are masked as well, since Keras or `SwapEMAWeights` puts them in the weights'
    place.

    Args:
        mask: boolean arrays by variable path, True where a weight survives
            (`trainer.pruning.masks`, or `load_ticket`). Paths of an earlier build of the model are
            matched where that leaves no choice (`masks.fitted`).

    Raises:
        MaskError: when training starts, if the mask does not fit the model.

    Example:
        >>> import keras, numpy as np
        >>> from trainer.pruning import masks
        >>> from trainer.pruning.scores import magnitude
        >>> layers = [keras.layers.Dense(32, name="hidden"), keras.layers.Dense(2, name="head")]
        >>> model = keras.Sequential([keras.Input((8,)), *layers])
        >>> model.compile("adam", "mse")
        >>> weights = masks.kernels(model, masks.pruned_paths(model, kept=["head"]))
        >>> mask = masks.prune(magnitude(weights), sparsity=0.75)
        >>> inputs, targets = np.random.rand(64, 8), np.random.rand(64, 2)
        >>> history = model.fit(inputs, targets, callbacks=[ApplyMask(mask)], verbose=0)
        >>> int(np.count_nonzero(model.layers[0].kernel))
        64
    """

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self.mask = mask
        self._weights: list[torch.Tensor] = []
        self._masks: list[torch.Tensor] = []
        self._averaged = False

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Checks that the mask fits and applies it once."""
        variables = {v.path: v for v in self.model.variables}
        self.mask = fitted(self.mask, {path: tuple(v.shape) for path, v in variables.items()})
        self._weights = [variables[path].value.detach() for path in self.mask]
        self._masks = laid_out(self._weights, self.mask)
        self._averaged = False
        apply_(self._weights, self._masks)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Sets the pruned weights back to 0.0."""
        if not self._averaged:
            self._add_averages()
        apply_(self._weights, self._masks)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Once more: after the last step Keras may put averages in the weights' place."""
        apply_(self._weights, self._masks)

    def _add_averages(self) -> None:
        """Masks what the optimizer keeps of the weights too; it has none before its first step."""
        variables = {v.path: v for v in self.model.variables}
        kept = averages(self.model.optimizer)
        for path, entry in self.mask.items():
            average = kept.get(id(variables[path]))
            if average is not None:
                self._weights.append(average.detach())
                self._masks += laid_out([average.detach()], {path: entry})
        self._averaged = True


def laid_out(weights: Sequence[torch.Tensor], mask: Mask) -> list[torch.Tensor]:
    """The mask of each of the weights, in the weight's dtype, device and memory layout.

    One laid out as its weight lets the multiplication run without a copy.
    """
    return [
        torch.empty_like(weight).copy_(torch.from_numpy(entry))
        for weight, entry in zip(weights, mask.values(), strict=True)
    ]


@torch.no_grad()
def apply_(weights: list[torch.Tensor], masks: list[torch.Tensor]) -> None:
    """Multiplies each weight by its mask in place: one fused call for all layers."""
    if weights:
        torch._foreach_mul_(weights, masks)


class GradualPruning(ApplyMask):
    """Prunes a model while it trains: a little more every few steps, by magnitude.

    At step t the sparsity is s_f + (s_i - s_f) · (1 - (t - begin) / (end - begin))³ (Zhu & Gupta
    2017, equation 1): fast at first, slow at the end. Weights are ranked over all layers at once,
    and a pruned weight stays pruned. Steps count over all calls of `fit` with this callback.

    Args:
        sparsity: s_f, from `end` on; in (0, 1).
        end: step at which it is reached.
        begin: step of the first pruning.
        every: steps between two prunings.
        initial: s_i, the sparsity at `begin`.
        pruned, kept: shell patterns over the model's layers (`trainer.pruning.masks.pruned_paths`).

    Raises:
        ValueError: numbers that make no schedule.
        MaskError: when training starts, if no layer of the model matches.

    Example:
        >>> import keras, numpy as np
        >>> layers = [keras.layers.Dense(32, name="hidden"), keras.layers.Dense(2, name="head")]
        >>> model = keras.Sequential([keras.Input((8,)), *layers])
        >>> model.compile("adam", "mse")
        >>> inputs, targets = np.random.rand(64, 8), np.random.rand(64, 2)
        >>> gradual = GradualPruning(0.75, end=6, every=2, kept=["head"])
        >>> history = model.fit(inputs, targets, 16, 2, callbacks=[gradual], verbose=0)
        >>> int(np.count_nonzero(model.layers[0].kernel)), gradual.reached
        (64, 0.75)
    """

    def __init__(
        self,
        sparsity: float,
        end: int,
        begin: int = 0,
        every: int = 100,
        initial: float = 0.0,
        pruned: Sequence[str] = ("*",),
        kept: Sequence[str] = (),
    ) -> None:
        super().__init__({})
        if not 0 <= initial <= sparsity < 1 or sparsity == 0:
            raise ValueError(
                "expected 0 <= initial <= sparsity < 1 and sparsity above 0; received "
                f"initial={initial}, sparsity={sparsity}"
            )
        if not (0 <= begin < end and every >= 1):
            raise ValueError(
                "expected 0 <= begin < end and every >= 1; received "
                f"begin={begin}, end={end}, every={every}"
            )
        self.sparsity, self.initial = sparsity, initial
        self.begin, self.end, self.every = begin, end, every
        self.step = 0
        self._patterns = tuple(pruned), tuple(kept)

    def at(self, step: int) -> float:
        """The sparsity that the schedule asks for at a step.

        >>> gradual = GradualPruning(0.8, end=100)
        >>> [round(gradual.at(step), 3) for step in (0, 50, 100, 200)]
        [0.0, 0.7, 0.8, 0.8]
        """
        done = min(max((step - self.begin) / (self.end - self.begin), 0.0), 1.0)
        return self.sparsity + (self.initial - self.sparsity) * (1 - done) ** 3

    @property
    def reached(self) -> float:
        """The share of the weights that the mask prunes now."""
        size = sum(entry.size for entry in self.mask.values())
        return 1 - sum(int(entry.sum()) for entry in self.mask.values()) / size if size else 0.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Finds the layers to prune, at the first call of `fit`."""
        if not self.mask:
            paths = pruned_paths(self.model, *self._patterns)
            shapes = {v.path: tuple(v.shape) for v in self.model.variables}
            self.mask = {path: np.ones(shapes[path], bool) for path in paths}
        super().on_train_begin(logs)
        self._prune_if_due()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Counts the step, prunes if it is time, and keeps pruned weights at 0.0."""
        self.step += 1
        self._prune_if_due()
        super().on_train_batch_end(batch, logs)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Says so if training ended before the schedule did."""
        super().on_train_end(logs)
        if self.step < self.end:
            log.warning(
                "gradual pruning: training ended at step %d of %d, at sparsity %.3f, not %.3f",
                *(self.step, self.end, self.reached, self.sparsity),
            )

    def _prune_if_due(self) -> None:
        is_due = self.step >= self.begin and (self.step - self.begin) % self.every == 0
        if not (is_due or self.step == self.end) or self.step > self.end:
            return
        scores = magnitude(kernels(self.model, list(self.mask)))
        self.mask = prune(scores, self.at(self.step), self.mask)
        paths = {v.path: v.value.detach() for v in self.model.variables}
        self._weights = [paths[path] for path in self.mask]
        self._masks = laid_out(self._weights, self.mask)
        self._averaged = False
        apply_(self._weights, self._masks)
