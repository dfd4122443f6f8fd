"""VGG with batch norm and a single dense layer (Simonyan & Zisserman 2015), for 32 × 32 images."""

import keras

from trainer.networks.layers import Blocks, Init

# Channels of each convolution; None: a max pooling.
_VGG16: tuple[int | None, ...] = (
    *(64, 64, None),
    *(128, 128, None),
    *(256, 256, 256, None),
    *(512, 512, 512, None),
    *(512, 512, 512),
)  # fmt: skip


def vgg16(blocks: Blocks, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Thirteen 3 × 3 convolutions with batch norm and one dense layer: 14,724,042 parameters.

    Four max poolings halve the image; after the last convolution its mean is taken, over 2 × 2
    pixels on CIFAR and 4 × 4 on Tiny-ImageNet (the authors' code). Convolutions start
    Kaiming-normal by fan-out, the classifier N(0, 0.01²) with bias 0 (the authors' code).

    Raises:
        ValueError: images under 16 pixels, which four poolings would leave empty.
    """
    if min(input_shape[:2]) < 16:
        raise ValueError(f"vgg16 halves its images four times: 16 × 16 at least, not {input_shape}")
    inputs = x = keras.Input(input_shape, name="images")
    convs = pools = 0
    for item in _VGG16:
        if item is None:
            pools += 1
            x = keras.layers.MaxPooling2D(2, name=f"pool{pools}")(x)
            continue
        convs += 1
        name = "stem" if convs == 1 else f"conv{convs}"
        x = blocks.conv(x, blocks.channels(item), 3, name=name)
        x = blocks.relu(blocks.norm(x, name=f"{name}_norm"), name=f"{name}_relu")
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    logits = blocks.dense(x, classes, name="classifier", start=Init.NORMAL)
    return keras.Model(inputs, logits, name="vgg16")
