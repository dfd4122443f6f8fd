import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trainer import networks
from trainer.pruning import masks
from trainer.pruning.scores import magnitude
from trainer.study.optimizers import SGD
from trainer.training.lowering import lower
from trainer.training.state import TrainingState
from trainer.training.stepped import Member, SteppedModel


def pair(name: str, shape: tuple[int, int, int]) -> tuple[keras.Model, keras.Model]:
    """The same network twice."""
    return tuple(networks.build(name, input_shape=shape, classes=10, seed=4) for _ in range(2))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet20", (16, 16, 3)),
        pytest.param("resnet32", (16, 16, 3), marks=pytest.mark.slow),
        ("resnet32-no-residual", (16, 16, 3)),
        ("resnet18", (16, 16, 3)),
        pytest.param("resnet18", (40, 40, 3), marks=pytest.mark.slow),
        pytest.param("resnet50", (130, 130, 3), marks=pytest.mark.slow),
        ("mobilenet-v1", (16, 16, 3)),
        ("vgg16", (32, 32, 3)),
        ("lenet-300-100", (8, 8, 1)),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_the_lowered_network_equals_the_keras_call(name, shape, training):
    called, lowered = pair(name, shape)
    compare(called, lowered, shape, training, torch.float32, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet20", (16, 16, 3)),
        ("resnet32-no-residual", (16, 16, 3)),
        pytest.param("resnet18", (40, 40, 3), marks=pytest.mark.slow),
        pytest.param("resnet50", (64, 64, 3), marks=pytest.mark.slow),
        ("mobilenet-v1", (16, 16, 3)),
        pytest.param("vgg16", (32, 32, 3), marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_the_lowered_network_equals_the_keras_call_in_float64(name, shape, training):
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        # Up to the last convolution: Keras's Dense and mean compute float64 in float32 on torch.
        called, lowered = (
            keras.Model(model.inputs, model.layers[-3].output) for model in pair(name, shape)
        )
        compare(called, lowered, shape, training, torch.float64, rtol=1e-9, atol=1e-12)
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


def compare(called, lowered, shape, training, dtype, **close):
    network = lower(lowered)
    assert network.by_keras == []
    images = torch.randn(6, *shape, dtype=dtype)
    expected, found = called(images, training=training), network(images, training)
    if found.ndim == 4:
        found = found.permute(0, 2, 3, 1)
    torch.testing.assert_close(found, expected, **close)
    if training:
        for outputs in (expected, found):
            (outputs * outputs).mean().backward()
    for a, b in zip(called.variables, lowered.variables, strict=True):
        torch.testing.assert_close(a.value, b.value, **close)
        if training and a.trainable:
            torch.testing.assert_close(a.value.grad, b.value.grad, **close)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet20", (16, 16, 3)),
        pytest.param("resnet32", (16, 16, 3), marks=pytest.mark.slow),
        pytest.param("resnet32-no-residual", (16, 16, 3), marks=pytest.mark.slow),
        pytest.param("resnet18", (16, 16, 3), marks=pytest.mark.slow),
        pytest.param("resnet50", (64, 64, 3), marks=pytest.mark.slow),
        pytest.param("mobilenet-v1", (64, 64, 3), marks=pytest.mark.slow),
        pytest.param("vgg16", (32, 32, 3), marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-9), ("float32", 1e-4)])
def test_ten_lowered_steps_equal_ten_of_the_keras_call(name, shape, dtype, close):
    """Weights, momentum and statistics; in float32 differences of sums grow over the steps."""
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        called, lowered = (
            keras.Model(model.inputs, model.layers[-3].output) for model in pair(name, shape)
        )
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
    network = lower(lowered)
    states = [TrainingState.fresh(model, SGD(name="sgd")) for model in (called, lowered)]
    for seed in range(10):
        images = torch.randn(
            4, *shape, dtype=getattr(torch, dtype), generator=torch.Generator().manual_seed(seed)
        )
        for state, outputs in zip(
            states, (called(images, training=True), network(images, True)), strict=True
        ):
            (outputs * outputs).mean().backward()
            state.step(0.01)
            state.drop_gradients()
    for path, tensor in states[0].tensors().items():
        assert (states[1].tensors()[path] - tensor).norm() <= close * (tensor.norm() + 1e-3), path


def test_bfloat16_is_near_float32_and_keeps_weights_whole():
    (network, same) = pair("resnet20", (16, 16, 3))
    batch = torch.randn(32, 16, 16, 3), torch.randint(0, 10, (32,))
    models = {}
    for precision, model in (("float32", network), ("bfloat16", same)):
        state = TrainingState.fresh(model, SGD(name="sgd"))
        models[precision] = SteppedModel(
            Member(model, state, lambda step: 0.01), precision=precision
        )
        for _ in range(3):
            models[precision].train_step(batch)
    full, half = (model.members[0].state.tensors() for model in models.values())
    assert {tensor.dtype for tensor in half.values()} == {torch.float32}
    moved = [not torch.equal(full[name], half[name]) for name in full]
    assert any(moved), "it is another arithmetic"
    losses = [model.get_metrics_result()["loss"] for model in models.values()]
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
    seen = []
    models["bfloat16"].stepper._evaluate(batch[0], False)
    hook = torch.overrides.TorchFunctionMode

    class Dtypes(hook):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if function is F.conv2d:
                seen.append(result.dtype)
            return result

    with Dtypes():
        logits = models["bfloat16"].stepper._evaluate(batch[0], True)
    assert set(seen) == {torch.bfloat16}
    assert logits.dtype == torch.float32


def test_no_step_copies_a_kernel():
    (model, _) = pair("resnet20", (16, 16, 3))
    lower(model)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            seen = layer.kernel.value.permute(3, 2, 0, 1)
            assert seen.is_contiguous(memory_format=torch.channels_last)


def odd(seed: int = 0) -> keras.Model:
    """Layers that Keras computes (some after a padding), between and beside others."""
    start = keras.initializers.GlorotUniform(seed)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.ZeroPadding2D(1)(inputs)
    x = keras.layers.Conv2D(4, 3, activation="gelu", kernel_initializer=start, name="odd")(x)
    y = keras.layers.Dropout(0.5)(x)
    z = keras.layers.ReLU()(y)
    x = keras.layers.Add()([x, z])
    x = keras.layers.ZeroPadding2D(((0, 1), (1, 0)))(x)
    x = keras.layers.ZeroPadding2D(1)(x)
    x = keras.layers.AveragePooling2D(2, name="mean")(x)
    x = keras.layers.Concatenate()([x, keras.layers.ReLU()(keras.ops.abs(x))])
    x = keras.layers.Dense(5, "tanh", kernel_initializer=start)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(3, kernel_initializer=start)(x))


@pytest.mark.parametrize("training", [False, True])
def test_unknown_layers_are_computed_by_keras_and_one_line_says_so(caplog, training):
    model, same = odd(), odd()
    network = lower(model)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    for name in ("Conv2D 'odd'", "AveragePooling2D 'mean'", "Concatenate", "Dense"):
        assert name in caplog.text
    assert "Flatten" not in caplog.text
    assert "ms of each step" in caplog.text
    images = torch.randn(2, 8, 8, 3)
    before = images.clone()
    torch.manual_seed(1)
    found = network(images, training)
    torch.manual_seed(1)
    expected = same(images, training=training)
    torch.testing.assert_close(found, expected)
    assert torch.equal(images, before)
    for outputs in (found, expected):
        (outputs**2).sum().backward()
    for a, b in zip(model.trainable_variables, same.trainable_variables, strict=True):
        torch.testing.assert_close(a.value.grad, b.value.grad)


def test_a_network_that_is_no_list_of_layers_is_called_as_a_whole(caplog):
    inputs = keras.Input((8,))
    first, second = keras.ops.split(inputs, 2, axis=-1)
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Add()([first, second])))
    network = lower(model)
    (record,) = caplog.records
    assert "several outputs" in record.getMessage()
    images = torch.randn(2, 8)
    torch.testing.assert_close(network(images, False), model(images))


def test_nested_and_sequential_networks_are_lowered(caplog):
    block = keras.Sequential([keras.Input((6, 6, 4)), keras.layers.Conv2D(4, 3)], name="block")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3),
            block,
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    network = lower(model)
    assert network.by_keras == ["Sequential 'block'"]
    images = torch.randn(2, 8, 8, 3)
    torch.testing.assert_close(network(images, True), model(images, training=True))


@pytest.mark.parametrize("nesterov", [False, True])
def test_ten_steps_equal_a_plain_loop_with_coupled_l2(nesterov: bool):
    stepped, plain = pair("lenet-300-100", (8, 8, 1))
    mask = masks.prune(magnitude(masks.kernels(stepped, ["hidden1/kernel", "hidden2/kernel"])), 0.7)
    recipe = SGD(name="sgd", momentum=0.9, weight_decay=0.01, nesterov=nesterov)
    state = TrainingState.fresh(stepped, recipe)
    member = Member(stepped, state, lambda step: 0.1 / (1 + step))
    model = SteppedModel(member)
    member.state.keep_masked(mask)
    weights = {v.path: v.value.detach().numpy().astype(np.float64) for v in plain.variables}
    for path, entry in mask.items():
        weights[path] *= entry
    velocity = {path: np.zeros_like(w) for path, w in weights.items()}
    rng = np.random.default_rng(0)
    for step in range(10):
        images = rng.normal(size=(16, 8, 8, 1)).astype(np.float32)
        labels = rng.integers(0, 10, 16)
        model.train_step((torch.from_numpy(images), torch.from_numpy(labels)))
        for variable in plain.variables:
            variable.assign(weights[variable.path].astype(np.float32))
            variable.value.grad = None
        F.cross_entropy(plain(torch.from_numpy(images)), torch.from_numpy(labels)).backward()
        for variable in plain.variables:
            path = variable.path
            gradient = variable.value.grad.numpy() + 0.01 * weights[path]
            velocity[path] = 0.9 * velocity[path] + gradient
            move = gradient + 0.9 * velocity[path] if nesterov else velocity[path]
            weights[path] -= 0.1 / (1 + step) * move
            if path in mask:
                weights[path] *= mask[path]
    for variable in stepped.variables:
        np.testing.assert_allclose(variable.numpy(), weights[variable.path], rtol=2e-3, atol=2e-5)
        if variable.path in mask:
            assert (variable.numpy()[~mask[variable.path]] == 0.0).all()


def test_epoch_metrics_are_means_over_images():
    (network, _) = pair("lenet-300-100", (8, 8, 1))
    model = SteppedModel(
        Member(network, TrainingState.fresh(network, SGD(name="sgd")), lambda step: 0.0)
    )
    images, labels = torch.randn(50, 8, 8, 1), torch.randint(0, 10, (50,))
    for part in (slice(0, 40), slice(40, 50)):
        model.train_step((images[part], labels[part]))
    logits = network(images)
    expected = {
        "loss": F.cross_entropy(logits, labels).item(),
        "accuracy": (logits.argmax(1) == labels).double().mean().item(),
    }
    assert model.get_metrics_result() == pytest.approx(expected, rel=1e-5)
    model.reset_metrics()
    assert model.get_metrics_result() == {"loss": 0.0, "accuracy": 0.0}


def test_labels_are_smoothed_in_training_alone():
    (network, same) = pair("lenet-300-100", (8, 8, 1))
    images, labels = torch.randn(6, 8, 8, 1), torch.arange(6)
    state = TrainingState.fresh(network, SGD(name="sgd"))
    model = SteppedModel(Member(network, state, lambda step: 0.1), label_smoothing=0.2)
    model.reset_metrics()
    model.train_step((images, labels))
    trained = model.get_metrics_result()["loss"]
    logits = same(images)
    expected = F.cross_entropy(logits, labels, label_smoothing=0.2)
    assert trained == pytest.approx(expected.item(), rel=1e-5)
    model.reset_metrics()
    with torch.no_grad():
        model.test_step((images, labels))
    assert model.get_metrics_result()["loss"] == pytest.approx(
        F.cross_entropy(network(images), labels).item(), rel=1e-5
    )
