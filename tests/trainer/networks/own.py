"""Networks of users' own, most with a fault."""

import keras

L = keras.layers


def _ended(inputs, x, classes):
    return keras.Model(inputs, L.Dense(classes)(L.Flatten()(x)))


def fine(blocks, input_shape, classes):
    inputs = keras.Input(input_shape)
    return _ended(inputs, L.Conv2D(4, 3)(inputs), classes)


def nothing(blocks, input_shape, classes):
    keras.Input(input_shape)


def unbuilt(blocks, input_shape, classes):
    return keras.Sequential([L.Flatten(), L.Dense(classes)])


def two_outputs(blocks, input_shape, classes):
    inputs = keras.Input(input_shape)
    x = L.Flatten()(inputs)
    return keras.Model(inputs, [L.Dense(classes)(x), L.Dense(classes)(x)])


def too_narrow(blocks, input_shape, classes):
    inputs = keras.Input(input_shape)
    return _ended(inputs, inputs, classes - 1)


def feature_map(blocks, input_shape, classes):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, L.Conv2D(classes, 3)(inputs))


def probabilities(blocks, input_shape, classes):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, L.Dense(classes, "softmax", name="end")(L.Flatten()(inputs)))


def softmax_layer(blocks, input_shape, classes):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, L.Softmax()(L.Dense(classes)(L.Flatten()(inputs))))


def decayed(blocks, input_shape, classes):
    inputs = keras.Input(input_shape)
    x = L.Conv2D(4, 3, kernel_regularizer=keras.regularizers.L2(0.5), name="conv")(inputs)
    return _ended(inputs, x, classes)


def constrained(blocks, input_shape, classes):
    inputs = keras.Input(input_shape)
    x = L.Conv2D(4, 3, kernel_constraint=keras.constraints.MaxNorm(1), name="conv")(inputs)
    return _ended(inputs, x, classes)


def active(blocks, input_shape, classes):
    inputs = keras.Input(input_shape)
    x = L.Conv2D(4, 3, activity_regularizer="l2", name="conv")(inputs)
    return _ended(inputs, x, classes)


def nested_decay(blocks, input_shape, classes):
    inputs = keras.Input(input_shape)
    block = keras.Sequential(
        [keras.Input(input_shape), L.Conv2D(4, 3, bias_regularizer="l1", name="conv")], name="block"
    )
    return _ended(inputs, block(inputs), classes)


def twins(blocks, input_shape, classes):
    def tower(name):
        images = keras.Input(input_shape)
        return keras.Model(images, L.Conv2D(4, 3, name="conv")(images), name=name)

    inputs = keras.Input(input_shape)
    towers = [tower(name)(inputs) for name in ("left", "right")]
    return _ended(inputs, L.Concatenate()(towers), classes)


class Subclassed(keras.Model):
    def __init__(self, classes):
        super().__init__()
        self.flatten = L.Flatten()
        self.first = L.Dense(8, name="fc")
        self.second = L.Dense(classes, name="fc")

    def call(self, x):
        return self.second(self.first(self.flatten(x)))


def subclassed(blocks, input_shape, classes):
    model = Subclassed(classes)
    model(keras.Input(input_shape))
    return model


def other_images(blocks, input_shape, classes):
    inputs = keras.Input((32, 32, 3))
    return _ended(inputs, L.Conv2D(4, 3)(inputs), classes)
