"""A network: two convolutions and a classifier.

network: "examples.small_cnn:build"
"""

import keras

from trainer.networks.layers import Blocks


def build(blocks: Blocks, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Asks `blocks.channels` for each width, which small-dense training makes narrower."""
    images = keras.Input(input_shape)
    x = blocks.conv(images, blocks.channels(16), 3, name="stem")
    x = blocks.relu(blocks.norm(x, name="stem_norm"), name="stem_relu")
    x = blocks.conv(x, blocks.channels(32), 3, name="body", stride=2)
    x = blocks.relu(blocks.norm(x, name="body_norm"), name="body_relu")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, blocks.dense(x, classes, name="classifier"))
