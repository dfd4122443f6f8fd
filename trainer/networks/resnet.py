"""Residual networks (He et al. 2016), with projection shortcuts, in the paper's sizes.

Initial weights are those of the authors' code: convolutions Kaiming-normal, by fan-out on small
images and by fan-in on ImageNet; classifiers N(0, 0.01²) with bias 0 but for ResNet-20 and on
ImageNet, where they are torch's default. ResNet-18 and ResNet-50 on small images are not in that
code: they start as ResNet-32 does.
"""

from collections.abc import Callable, Sequence
from functools import partial

import keras

from trainer.networks.layers import Blocks, Init

Block = Callable[[Blocks, keras.KerasTensor, int, int, str], keras.KerasTensor]
_SMALL, _LARGE = 32, 128
_EXPANSION = 4
_FAN_OUT = Init.KAIMING_NORMAL_FAN_OUT


def resnet20(blocks: Blocks, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Three stages of three basic blocks with 16, 32 and 64 channels: 272,474 parameters.

    Convolutions start Kaiming-normal by fan-out, the classifier as torch's (the authors' code).
    """
    inputs = keras.Input(input_shape, name="images")
    x = _stem(blocks, inputs, blocks.channels(16), _FAN_OUT)
    x = _stages(blocks, x, _basic_block, (16, 32, 64), (3, 3, 3))
    return _classified(blocks, inputs, x, classes, "resnet20", Init.TORCH_DEFAULT)


def resnet20_no_residual(
    blocks: Blocks, input_shape: tuple[int, int, int], classes: int
) -> keras.Model:
    """`resnet20` with every shortcut removed and nothing else changed: 269,722 parameters.

    The paper's figures 4 and 5 do the same to `resnet32`; this one trains on a laptop.
    """
    inputs = keras.Input(input_shape, name="images")
    x = _stem(blocks, inputs, blocks.channels(16), _FAN_OUT)
    x = _stages(blocks, x, partial(_basic_block, residual=False), (16, 32, 64), (3, 3, 3))
    return _classified(blocks, inputs, x, classes, "resnet20-no-residual", Init.TORCH_DEFAULT)


def resnet32(blocks: Blocks, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Three stages of five basic blocks, twice as wide as usual: 1,860,522 parameters.

    Convolutions start Kaiming-normal by fan-out, the classifier N(0, 0.01²) with bias 0 (the
    authors' code).
    """
    inputs = keras.Input(input_shape, name="images")
    x = _stem(blocks, inputs, blocks.channels(32), _FAN_OUT)
    x = _stages(blocks, x, _basic_block, (32, 64, 128), (5, 5, 5))
    return _classified(blocks, inputs, x, classes, "resnet32")


def resnet32_no_residual(
    blocks: Blocks, input_shape: tuple[int, int, int], classes: int
) -> keras.Model:
    """`resnet32` with every shortcut removed and nothing else changed (figures 4 and 5).

    It starts as `resnet32` does (the authors' code).
    """
    inputs = keras.Input(input_shape, name="images")
    x = _stem(blocks, inputs, blocks.channels(32), _FAN_OUT)
    x = _stages(blocks, x, partial(_basic_block, residual=False), (32, 64, 128), (5, 5, 5))
    return _classified(blocks, inputs, x, classes, "resnet32-no-residual")


def resnet18(blocks: Blocks, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Four stages of two basic blocks: 11,173,962 parameters on CIFAR-10, 11,689,512 on ImageNet.

    On ImageNet convolutions start Kaiming-normal by fan-in and the classifier as torch's (the
    authors' code); on smaller images, which that code has no ResNet-18 for, as `resnet32` does.
    The stem depends on the images; see `_stem_for`.
    """
    return _for_any_images(blocks, input_shape, classes, _basic_block, (2, 2, 2, 2), "resnet18")


def resnet50(blocks: Blocks, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Four stages of 3, 4, 6 and 3 bottleneck blocks: 25,557,032 parameters on ImageNet.

    It starts as `resnet18` does.
    """
    return _for_any_images(blocks, input_shape, classes, _bottleneck, (3, 4, 6, 3), "resnet50")


def _for_any_images(
    blocks: Blocks,
    input_shape: tuple[int, int, int],
    classes: int,
    block: Callable[..., keras.KerasTensor],
    depths: Sequence[int],
    name: str,
) -> keras.Model:
    """Four stages of 64 to 512 channels, for images of any size."""
    large = min(input_shape[:2]) > _LARGE
    start = Init.KAIMING_NORMAL_FAN_IN if large else _FAN_OUT
    inputs = keras.Input(input_shape, name="images")
    x = _stem_for(blocks, inputs, start)
    x = _stages(blocks, x, partial(block, start=start), (64, 128, 256, 512), depths)
    classifier = Init.TORCH_DEFAULT if large else Init.NORMAL
    return _classified(blocks, inputs, x, classes, name, classifier)


def _stem(
    blocks: Blocks,
    x: keras.KerasTensor,
    channels: int,
    start: Init,
    size: int = 3,
    stride: int = 1,
) -> keras.KerasTensor:
    x = blocks.conv(x, channels, size, name="stem", stride=stride, start=start)
    return blocks.relu(blocks.norm(x, name="stem_norm"), name="stem_relu")


def _stem_for(blocks: Blocks, images: keras.KerasTensor, start: Init) -> keras.KerasTensor:
    """The stem for images of this size.

    Up to 32 pixels (CIFAR) 3 × 3; up to 128 (Tiny-ImageNet) 3 × 3, then max pooling, so that the
    stages see what they see on CIFAR; above (ImageNet) 7 × 7 at stride 2, then max pooling.
    """
    pixels = min(images.shape[1:3])
    size, stride = (7, 2) if pixels > _LARGE else (3, 1)
    x = _stem(blocks, images, blocks.channels(64), start, size, stride)
    return x if pixels <= _SMALL else blocks.max_pool(x, 3, 2, name="stem_pool")


def _stages(
    blocks: Blocks,
    x: keras.KerasTensor,
    block: Block,
    channels: Sequence[int],
    depths: Sequence[int],
) -> keras.KerasTensor:
    """Stages of `depths` blocks; every stage but the first halves the image."""
    for stage, (count, depth) in enumerate(zip(channels, depths, strict=True), start=1):
        for i in range(1, depth + 1):
            stride = 2 if stage > 1 and i == 1 else 1
            x = block(blocks, x, count, stride, f"stage{stage}_block{i}")
    return x


def _classified(
    blocks: Blocks,
    inputs: keras.KerasTensor,
    x: keras.KerasTensor,
    classes: int,
    name: str,
    start: Init = Init.NORMAL,
) -> keras.Model:
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    logits = blocks.dense(x, classes, name="classifier", start=start)
    return keras.Model(inputs, logits, name=name)


def _basic_block(
    blocks: Blocks,
    x: keras.KerasTensor,
    count: int,
    stride: int,
    name: str,
    *,
    start: Init = _FAN_OUT,
    residual: bool = True,
) -> keras.KerasTensor:
    """Two 3 × 3 convolutions, the first with the stride."""
    channels = blocks.channels(count)
    y = blocks.conv(x, channels, 3, name=f"{name}_conv1", stride=stride, start=start)
    y = blocks.relu(blocks.norm(y, name=f"{name}_norm1"), name=f"{name}_relu1")
    y = blocks.conv(y, channels, 3, name=f"{name}_conv2", start=start)
    y = blocks.norm(y, name=f"{name}_norm2")
    if residual:
        y = _joined(blocks, x, y, stride, stride > 1, start, name)
    return blocks.relu(y, name=f"{name}_relu2")


def _bottleneck(
    blocks: Blocks,
    x: keras.KerasTensor,
    count: int,
    stride: int,
    name: str,
    *,
    start: Init = _FAN_OUT,
) -> keras.KerasTensor:
    """1 × 1, 3 × 3 with the stride, 1 × 1 to four times the channels."""
    channels, wide = blocks.channels(count), blocks.channels(_EXPANSION * count)
    y = blocks.conv(x, channels, 1, name=f"{name}_conv1", start=start)
    y = blocks.relu(blocks.norm(y, name=f"{name}_norm1"), name=f"{name}_relu1")
    y = blocks.conv(y, channels, 3, name=f"{name}_conv2", stride=stride, start=start)
    y = blocks.relu(blocks.norm(y, name=f"{name}_norm2"), name=f"{name}_relu2")
    y = blocks.conv(y, wide, 1, name=f"{name}_conv3", start=start)
    y = blocks.norm(y, name=f"{name}_norm3")
    first = name.endswith("_block1")
    y = _joined(blocks, x, y, stride, first, start, name)
    return blocks.relu(y, name=f"{name}_relu3")


def _joined(
    blocks: Blocks,
    x: keras.KerasTensor,
    y: keras.KerasTensor,
    stride: int,
    projected: bool,
    start: Init,
    name: str,
) -> keras.KerasTensor:
    """y + x; where the network changes shape, x goes through a 1 × 1 convolution and a norm.

    This depends on the architecture, not on the channel counts, so that a small-dense network has
    the same layers.
    """
    if projected:
        x = blocks.conv(x, y.shape[-1], 1, name=f"{name}_shortcut", stride=stride, start=start)
        x = blocks.norm(x, name=f"{name}_shortcut_norm")
    return keras.layers.Add(name=f"{name}_add")([y, x])
