"""LeNet-300-100, the fully connected network of Frankle & Carbin (2019), for small images."""

import keras

from trainer.networks.layers import Blocks, Init


def lenet_300_100(blocks: Blocks, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Two hidden layers of 300 and 100 units with ReLU, started Glorot-normal as in that paper.

    Torch's default start would not do: it draws the second layer from half the range of the first,
    so that global magnitude pruning empties the second layer first.
    """
    inputs = keras.Input(input_shape, name="images")
    x = keras.layers.Flatten(name="flatten")(inputs)
    for i, units in enumerate((300, 100), start=1):
        x = blocks.dense(x, blocks.channels(units), name=f"hidden{i}", start=Init.GLOROT_NORMAL)
        x = blocks.relu(x, name=f"hidden{i}_relu")
    x = blocks.dense(x, classes, name="classifier", start=Init.GLOROT_NORMAL)
    return keras.Model(inputs, x, name="lenet-300-100")
