"""A small vision transformer (Dosovitskiy et al. 2021; its mean in place of a class token)."""

import keras

from trainer.networks.layers import Blocks, Init

_DEPTH, _HEADS = 4, 4


def vit_small(blocks: Blocks, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Patches of an eighth of each side, 4 blocks of 4 heads, 96 features, 192 in between.

    Raises:
        ValueError: images whose sides are no multiples of 8.
    """
    height, width, _ = input_shape
    if height % 8 or width % 8:
        raise ValueError(
            f"vit-small takes images whose sides are multiples of 8, not {height} × {width}"
        )
    patch = (height // 8, width // 8)
    images = keras.Input(input_shape, name="images")
    x = blocks.patches(images, blocks.channels(96), patch, name="stem")
    x = keras.layers.Reshape((64, -1), name="tokens")(x)
    x = blocks.positions(x, name="positions")
    for i in range(1, _DEPTH + 1):
        name = f"block{i}"
        y = blocks.layer_norm(x, name=f"{name}_norm1")
        y = blocks.attention(y, _HEADS, blocks.channels(24), name=f"{name}_attention")
        x = keras.layers.Add(name=f"{name}_add1")([x, y])
        y = blocks.layer_norm(x, name=f"{name}_norm2")
        y = blocks.dense(y, blocks.channels(192), name=f"{name}_wide", start=Init.GLOROT_NORMAL)
        y = keras.layers.Activation("gelu", name=f"{name}_gelu")(y)
        y = blocks.dense(y, x.shape[-1], name=f"{name}_narrow", start=Init.GLOROT_NORMAL)
        x = keras.layers.Add(name=f"{name}_add2")([x, y])
    x = blocks.layer_norm(x, name="norm")
    x = keras.layers.GlobalAveragePooling1D(name="mean")(x)
    x = blocks.dense(x, classes, name="classifier", start=Init.NORMAL)
    return keras.Model(images, x, name="vit-small")
