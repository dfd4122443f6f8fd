"""What the paper's networks are made of: layers that compute exactly as torch's do.

Keras's own defaults differ silently from the networks of the paper: `padding="same"` pads the
other side at stride 2, batch norm uses another momentum, epsilon and variance, and kernels start
Glorot-uniform.
"""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum, auto
from functools import partial
from typing import Any

import keras
import numpy as np
import torch.nn.functional as F
from torch import Tensor

if keras.backend.backend() != "torch":
    raise ImportError(
        f"the trainer runs Keras on torch, but Keras was started on {keras.backend.backend()!r}; "
        "set KERAS_BACKEND=torch, or import trainer before keras"
    )


class Init(StrEnum):
    """How kernels start."""

    KAIMING_NORMAL_FAN_OUT = auto()
    """N(0, 2 / fan-out): the gain of ReLU (He et al. 2015)."""
    KAIMING_NORMAL_FAN_IN = auto()
    """N(0, 2 / fan-in)."""
    NORMAL = auto()
    """N(0, 0.01²), for classifiers."""
    GLOROT_NORMAL = auto()
    """N(0, 2 / (fan-in + fan-out))."""
    TORCH_DEFAULT = auto()
    """Uniform within ±1/√fan-in: about √6 narrower than Kaiming-normal."""


@keras.saving.register_keras_serializable(package="jackpot")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch norm over the last axis with torch's arithmetic.

    Running statistics move by `1 - momentum` towards each batch's mean and *unbiased* variance, as
    in the authors' code; Keras's own layer keeps the biased one. Evaluation uses the running
    statistics.
    """

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Normalises `inputs`, shape (batch, ..., channels), per channel."""
        outputs = F.batch_norm(
            inputs.movedim(-1, 1),
            self.moving_mean.value,
            self.moving_variance.value,
            self.gamma.value,
            self.beta.value,
            # As Keras's own: a frozen layer normalises by its running statistics.
            training=bool(training) and self.trainable,
            momentum=1.0 - self.momentum,
            eps=self.epsilon,
        )
        return outputs.movedim(1, -1)


@keras.saving.register_keras_serializable(package="jackpot")
class SelfAttention(keras.layers.Layer):
    """Multi-head self-attention of tokens, shape (batch, tokens, features).

    Four dense layers with a start of their own each. Keras's MultiHeadAttention draws all of its
    kernels from one seed, so that queries and keys would start alike.

    Args:
        heads: number of heads.
        size: features of each head's queries, keys and values.
        seeds: of the four kernels.
    """

    def __init__(self, heads: int, size: int, seeds: Sequence[int], **options: Any) -> None:
        super().__init__(**options)
        self.heads, self.size, self.seeds = heads, size, tuple(seeds)

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Makes the four layers for inputs of that shape."""
        widths = (*3 * (self.heads * self.size,), shape[-1])
        names = ("query", "key", "value", "output")
        for name, width, seed in zip(names, widths, self.seeds, strict=True):
            start = keras.initializers.GlorotUniform(seed)
            layer = keras.layers.Dense(width, kernel_initializer=start, name=name)
            layer.build(shape if name != "output" else (*shape[:-1], widths[0]))
            setattr(self, f"{name}_layer", layer)

    def call(self, tokens: Tensor) -> Tensor:
        """Each token's mean over all, weighted by how its query meets their keys."""
        parts = (self.query_layer, self.key_layer, self.value_layer)
        query, key, value = (
            layer(tokens).unflatten(-1, (self.heads, self.size)).transpose(1, 2) for layer in parts
        )
        seen = F.scaled_dot_product_attention(query, key, value)
        return self.output_layer(seen.transpose(1, 2).flatten(2))

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """That of the inputs."""
        return shape

    def get_config(self) -> dict[str, Any]:
        """What the layer is made of."""
        return super().get_config() | {
            "heads": self.heads,
            "size": self.size,
            "seeds": list(self.seeds),
        }


@keras.saving.register_keras_serializable(package="jackpot")
class Positions(keras.layers.Layer):
    """Adds to each token what is learned of its position, drawn from N(0, 0.02²)."""

    def __init__(self, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self.seed = seed

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Makes the embedding for tokens of that shape."""
        start = keras.initializers.RandomNormal(0.0, 0.02, seed=self.seed)
        self.embedding = self.add_weight(shape=shape[1:], initializer=start, name="embedding")

    def call(self, tokens: Tensor) -> Tensor:
        """Shape (batch, tokens, features), as the inputs."""
        return tokens + self.embedding.value

    def get_config(self) -> dict[str, Any]:
        """What the layer is made of."""
        return super().get_config() | {"seed": self.seed}


class Blocks:
    """Makes the named layers of one network: its channel counts, its stream of seeds.

    Convolutions start Kaiming-normal by fan-out unless `start` says otherwise. Batch norm follows
    them, so the scale of a kernel does not change what the network computes; it changes how far a
    step of a given learning rate turns it (van Laarhoven 2017), and with that every claim about
    learning rates.

    Args:
        channels: counts in place of the network's own; those without an entry stay.
        seed: seed of the first layer's draw; each further layer takes the next of the stream.

    Attributes:
        counts: the network's own channel counts, as far as it has asked for them.
    """

    def __init__(self, channels: Mapping[int, int] | None = None, seed: int = 0) -> None:
        self.counts: set[int] = set()
        self._channels = channels or {}
        self._seeds = iter(np.random.SeedSequence(seed).generate_state(1024).tolist())

    def channels(self, count: int) -> int:
        """The number of channels of layers that have `count` in the full-width network."""
        self.counts.add(count)
        return self._channels.get(count, count)

    def conv(
        self,
        x: keras.KerasTensor,
        filters: int,
        size: int,
        *,
        name: str,
        stride: int = 1,
        start: Init = Init.KAIMING_NORMAL_FAN_OUT,
    ) -> keras.KerasTensor:
        """Bias-free convolution, padded by size // 2 on each side as torch's `padding` does."""
        fan_in = size * size * x.shape[-1]
        if stride > 1 and size > 1:
            x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        return keras.layers.Conv2D(
            filters,
            size,
            strides=stride,
            padding="same" if stride == 1 else "valid",
            use_bias=False,
            kernel_initializer=self._kernel(start, fan_in, size * size * filters),
            name=name,
        )(x)

    def depthwise(
        self,
        x: keras.KerasTensor,
        size: int,
        *,
        name: str,
        stride: int = 1,
        start: Init = Init.KAIMING_NORMAL_FAN_OUT,
    ) -> keras.KerasTensor:
        """Bias-free convolution of each channel alone, padded as `conv`; both fans are size²."""
        if stride > 1:
            x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        return keras.layers.DepthwiseConv2D(
            size,
            strides=stride,
            padding="same" if stride == 1 else "valid",
            use_bias=False,
            depthwise_initializer=self._kernel(start, size * size, size * size),
            name=name,
        )(x)

    def max_pool(
        self, x: keras.KerasTensor, size: int, stride: int, *, name: str
    ) -> keras.KerasTensor:
        """Max pooling over `size` × `size` pixels with size // 2 more on each side.

        Those are zeros: after a ReLU they never win, as torch's -inf never do.
        """
        x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        return keras.layers.MaxPooling2D(size, strides=stride, name=name)(x)

    def norm(self, x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
        """Batch norm with torch's momentum 0.1 (Keras's 0.9) and epsilon 1e-5."""
        return BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)

    def relu(self, x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
        """max(x, 0)."""
        return keras.layers.ReLU(name=name)(x)

    def dense(
        self, x: keras.KerasTensor, units: int, *, name: str, start: Init = Init.TORCH_DEFAULT
    ) -> keras.KerasTensor:
        """Fully connected layer; its bias starts as torch.nn.Linear's, or at 0 for other starts."""
        bound = x.shape[-1] ** -0.5
        bias = (
            keras.initializers.RandomUniform(-bound, bound, seed=next(self._seeds))
            if start is Init.TORCH_DEFAULT
            else keras.initializers.Zeros()
        )
        return keras.layers.Dense(
            units,
            kernel_initializer=self._kernel(start, x.shape[-1], units),
            bias_initializer=bias,
            name=name,
        )(x)

    def patches(
        self, x: keras.KerasTensor, features: int, size: tuple[int, int], *, name: str
    ) -> keras.KerasTensor:
        """One vector of `features` for each patch of `size` pixels, with a bias."""
        fan_in = size[0] * size[1] * x.shape[-1]
        return keras.layers.Conv2D(
            features,
            size,
            strides=size,
            kernel_initializer=self._kernel(Init.GLOROT_NORMAL, fan_in, features),
            name=name,
        )(x)

    def attention(
        self, x: keras.KerasTensor, heads: int, size: int, *, name: str
    ) -> keras.KerasTensor:
        """Self-attention with `heads` heads of `size` features."""
        seeds = [next(self._seeds) for _ in range(4)]
        return SelfAttention(heads, size, seeds, name=name)(x)

    def positions(self, x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
        """Learned positions of tokens."""
        return Positions(next(self._seeds), name=name)(x)

    def layer_norm(self, x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
        """Layer norm over the features, with torch's epsilon 1e-5."""
        return keras.layers.LayerNormalization(epsilon=1e-5, name=name)(x)

    def _kernel(self, start: Init, fan_in: int, fan_out: int) -> keras.initializers.Initializer:
        seed = next(self._seeds)
        # By fans that are given, not found from a kernel's shape: Keras takes the channels of a
        # depthwise kernel for inputs of each filter.
        normal = partial(keras.initializers.RandomNormal, 0.0, seed=seed)
        match start:
            case Init.KAIMING_NORMAL_FAN_OUT:
                return normal(math.sqrt(2 / fan_out))
            case Init.KAIMING_NORMAL_FAN_IN:
                return normal(math.sqrt(2 / fan_in))
            case Init.NORMAL:
                return normal(0.01)
            case Init.GLOROT_NORMAL:
                return normal(math.sqrt(1 / ((fan_in + fan_out) / 2)))
            case Init.TORCH_DEFAULT:
                # Linear and convolution alike.
                bound = fan_in**-0.5
                return keras.initializers.RandomUniform(-bound, bound, seed=seed)
