"""Residual networks for 32 × 32 images (He et al. 2016), with projection shortcuts."""

import keras

from trainer.networks.layers import Blocks, Start


def resnet20(blocks: Blocks, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Three stages of three basic blocks with 16, 32 and 64 channels: 272,474 parameters.

    Where shape changes, the shortcut is a 1 × 1 convolution with batch norm. Kernels start
    Kaiming-normal by fan-out.
    """
    inputs = keras.Input(input_shape, name="images")
    x = blocks.conv(inputs, blocks.channels(16), 3, name="stem", start=Start.KAIMING_NORMAL_FAN_OUT)
    x = blocks.relu(blocks.norm(x, name="stem_norm"), name="stem_relu")
    for stage, channels in enumerate((16, 32, 64), start=1):
        for block in range(1, 4):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _basic_block(
                blocks, x, blocks.channels(channels), stride, name=f"stage{stage}_block{block}"
            )
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, blocks.dense(x, classes, name="classifier"), name="resnet20")


def _basic_block(
    blocks: Blocks, x: keras.KerasTensor, channels: int, stride: int, name: str
) -> keras.KerasTensor:
    start = Start.KAIMING_NORMAL_FAN_OUT
    y = blocks.conv(x, channels, 3, name=f"{name}_conv1", stride=stride, start=start)
    y = blocks.relu(blocks.norm(y, name=f"{name}_norm1"), name=f"{name}_relu1")
    y = blocks.conv(y, channels, 3, name=f"{name}_conv2", start=start)
    y = blocks.norm(y, name=f"{name}_norm2")
    if stride > 1:
        x = blocks.conv(x, channels, 1, name=f"{name}_shortcut", stride=stride, start=start)
        x = blocks.norm(x, name=f"{name}_shortcut_norm")
    y = keras.layers.Add(name=f"{name}_add")([y, x])
    return blocks.relu(y, name=f"{name}_relu2")
