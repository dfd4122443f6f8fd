"""MobileNet-v1 (Howard et al. 2017) for 32 × 32 images: its stem keeps their size."""

import keras

from trainer.networks.layers import Blocks, Init

# Channels of the thirteen blocks; the first of 128, 256, 512 and 1024 halve the image.
_BLOCKS = (64, 128, 128, 256, 256, *(6 * (512,)), 1024, 1024)


def mobilenet_v1(blocks: Blocks, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Stem of 32 channels and thirteen depthwise-separable blocks: 3,217,226 parameters.

    Each convolution, depthwise and pointwise, is followed by batch norm and ReLU. All layers start
    as torch's do (the authors' code).
    """
    start = Init.TORCH_DEFAULT
    inputs = keras.Input(input_shape, name="images")
    x = blocks.conv(inputs, blocks.channels(32), 3, name="stem", start=start)
    x = blocks.relu(blocks.norm(x, name="stem_norm"), name="stem_relu")
    before = _BLOCKS[0]
    for i, count in enumerate(_BLOCKS, start=1):
        name, stride = f"block{i}", 1 if count == before else 2
        x = blocks.depthwise(x, 3, name=f"{name}_depthwise", stride=stride, start=start)
        x = blocks.relu(blocks.norm(x, name=f"{name}_norm1"), name=f"{name}_relu1")
        x = blocks.conv(x, blocks.channels(count), 1, name=f"{name}_pointwise", start=start)
        x = blocks.relu(blocks.norm(x, name=f"{name}_norm2"), name=f"{name}_relu2")
        before = count
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, blocks.dense(x, classes, name="classifier"), name="mobilenet-v1")
