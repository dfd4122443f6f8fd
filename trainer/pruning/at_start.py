"""Scores of a network that has not been trained: by its first gradients, or by none at all.

Each takes a `Look` and gives a score for each weight that may be pruned; larger is more important.
Gradients are computed in float64: in float32 those of second order are off by percents, and sums
over paths of a deep network are beyond the largest number. `docs/pruners.md` says what each score
is checked against.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from trainer.pruning.look import Look
from trainer.pruning.scores import Scores

if TYPE_CHECKING:
    import keras
    from torch import Tensor

_OF_EACH_CLASS = 10
"""Training images of each class (SynFlow's code for SNIP, GraSP's configs for CIFAR)."""
_AT_ONCE = 256
_TEMPERATURE = 200.0
"""GraSP divides logits by it before the loss (Wang et al. 2020, section 4)."""


def drawn(look: Look) -> Scores:
    """Uniform draws: which weights survive depends on nothing but the seed."""
    return {path: look.rng.random(kernel.shape) for path, kernel in look.weights.items()}


def snip(look: Look) -> Scores:
    """|g · w|, g being the loss's gradient (Lee et al. 2019, equation 6).

    Over 10 images of each class, in batches of 256, with batch norm's running statistics. The
    original divides by the scores' sum, which changes no rank.
    """
    import torch.nn.functional as F

    from trainer.keras_internals import in_float64

    network = look.network_in_float64
    images, labels = look.of_each_class(_OF_EACH_CLASS)
    kernels = _kernels(network, look)
    total = [0.0 * kernel.detach() for kernel in kernels]
    for batch, of in zip(images.split(_AT_ONCE), labels.split(_AT_ONCE), strict=True):
        with in_float64():
            logits = network(batch.double(), training=False)
        loss = F.cross_entropy(logits, of, reduction="sum")
        total = [sum_ + g for sum_, g in zip(total, _gradients(loss, kernels), strict=True)]
    gradients = [sum_ / len(labels) for sum_ in total]
    return _named(look, [(g * w).abs() for g, w in zip(gradients, kernels, strict=True)])


def grasp(look: Look) -> Scores:
    """w · H g: what the gradient's norm would gain by the weight's removal (Wang et al. 2020).

    The paper removes the weights of the largest −w · H g (equation 8), which are the smallest here.
    Over 10 images of each class in two halves, with batch norm in training mode: g is the sum of
    both halves' gradients, H g the sum of their products with g. Each half has all classes; the
    authors' code puts half of the classes in each, which only batch norm can tell.
    """
    import torch
    import torch.nn.functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from trainer.keras_internals import in_float64

    network = look.network_in_float64
    images, labels = look.of_each_class(_OF_EACH_CLASS)
    kernels = _kernels(network, look)
    by_class = torch.sort(labels, stable=True).indices
    parts = []
    for half in (by_class[0::2], by_class[1::2]):
        # Many classes do not fit into memory at once; each part counts by its images.
        parts += [(images[i], labels[i], len(i) / len(half)) for i in half.split(_AT_ONCE)]

    def gradients(batch: "Tensor", of: "Tensor", share: float, again: bool) -> "Sequence[Tensor]":
        # Other kernels of attention have no second derivative.
        with in_float64(), sdpa_kernel(SDPBackend.MATH):
            logits = network(batch.double(), training=True)
            loss = share * F.cross_entropy(logits / _TEMPERATURE, of)
            return _gradients(loss, kernels, again)

    whole = [torch.zeros_like(kernel) for kernel in kernels]
    for part in parts:
        found = gradients(*part, again=False)
        whole = [sum_ + g for sum_, g in zip(whole, found, strict=True)]
    product = [torch.zeros_like(kernel) for kernel in whole]
    for part in parts:
        pairs = zip(whole, gradients(*part, again=True), strict=True)
        inner = torch.stack([(fixed * g).sum() for fixed, g in pairs]).sum()
        product = [sum_ + h for sum_, h in zip(product, _gradients(inner, kernels), strict=True)]
    return _named(look, [w * h for w, h in zip(kernels, product, strict=True)])


def synflow(look: Look) -> Scores:
    """|∂R/∂w · w| with R = 1ᵀ f(1; |w|) (Tanaka et al. 2020, equation 2).

    All parameters and running statistics are replaced by their magnitudes, and the input by ones.
    No image is looked at.
    """
    import torch

    from trainer.keras_internals import functional, in_float64, stateless

    network = look.network_in_float64
    kernels = _kernels(network, look)
    real = [v for v in network.variables if v.value.is_floating_point()]
    values = [(variable, variable.value.detach().abs()) for variable in real]
    by_path = {variable.path: value for variable, value in values}
    magnitudes = [by_path[path].requires_grad_() for path in look.weights]
    # A subclassed network has no `input_shape`: that of an image, of which nothing else is seen.
    graph = functional(network)
    shape = graph.input_shape[1:] if graph else next(look.batches())[0].shape[1:]
    with in_float64(), stateless(values), torch.enable_grad():
        ones = torch.ones((1, *shape), dtype=torch.float64, device=kernels[0].device)
        gradients = _gradients(network(ones, training=False).sum(), magnitudes)
    return _named(look, [g * w for g, w in zip(gradients, magnitudes, strict=True)])


def _kernels(network: "keras.Model", look: Look) -> "list[Tensor]":
    by_path = {variable.path: variable.value for variable in network.variables}
    return [by_path[path] for path in look.weights]


def _gradients(
    value: "Tensor", kernels: "Sequence[Tensor]", again: bool = False
) -> "Sequence[Tensor]":
    """Gradients by the kernels, 0 where the value does not depend on one."""
    import torch

    return torch.autograd.grad(
        value, kernels, create_graph=again, allow_unused=True, materialize_grads=True
    )


def _named(look: Look, scores: "Sequence[Tensor]") -> Scores:
    arrays = [np.asarray(score.detach().cpu().numpy(), np.float64) for score in scores]
    return dict(zip(look.weights, arrays, strict=True))
