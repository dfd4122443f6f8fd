"""Networks stepped side by side compute what each computes alone."""

import keras
import numpy as np
import pytest
import torch
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from tests.trainer import stored
from tests.trainer.execution.test_faults import journals, start, wait_for_epochs
from trainer import networks
from trainer.datasets import Augmentation, Source, Split
from trainer.datasets.batches import DeviceBatches, GroupBatches
from trainer.pruning import masks
from trainer.pruning.scores import magnitude
from trainer.study.optimizers import SGD
from trainer.training.lowering import CannotLower, lower
from trainer.training.state import TrainingState
from trainer.training.stepped import Member, SteppedModel


@pytest.fixture
def float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def built(name: str, shape: tuple[int, int, int], count: int) -> list[keras.Model]:
    return [networks.build(name, input_shape=shape, classes=10, seed=k) for k in range(count)]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet20", (16, 16, 3)),
        pytest.param("resnet32-no-residual", (16, 16, 3), marks=pytest.mark.slow),
        pytest.param("resnet18", (40, 40, 3), marks=pytest.mark.slow),
        pytest.param("resnet50", (64, 64, 3), marks=pytest.mark.slow),
        ("mobilenet-v1", (32, 32, 3)),
        pytest.param("vgg16", (32, 32, 3), marks=pytest.mark.slow),
        ("lenet-300-100", (8, 8, 1)),
    ],
)
def test_each_network_computes_what_it_computes_alone(name, shape, float64):
    count = 2
    alone, joined = built(name, shape, count), built(name, shape, count)
    together = lower(*joined)
    images = torch.randn(count, 3, *shape, dtype=torch.float64)
    outputs = together(torch.cat(list(images), dim=-1), True).unflatten(1, (count, -1))
    expected = [lower(model)(x, True) for model, x in zip(alone, images, strict=True)]
    close = {"rtol": 1e-9, "atol": 1e-11}
    torch.testing.assert_close(outputs, torch.stack(expected, 1), **close)
    (outputs**2).sum().backward()
    for logits in expected:
        (logits**2).sum().backward()
    for model, same in zip(alone, joined, strict=True):
        for a, b in zip(model.variables, same.variables, strict=True):
            torch.testing.assert_close(b.value, a.value, **close)
            if a.trainable:
                torch.testing.assert_close(b.value.grad, a.value.grad, **close)
    # In evaluation all of them see the same images.
    with torch.no_grad():
        seen = together(images[0], False).unflatten(1, (count, -1))
        expected = [lower(model)(images[0], False) for model in alone]
    torch.testing.assert_close(seen, torch.stack(expected, 1), **close)
    together.zero_gradients()
    assert all(not v.value.grad.any() for model in joined for v in model.trainable_variables)


SOURCE = Source(
    "", (0.5,), (0.25,), 10, (8, 8, 1), 50, 20, augmentation=Augmentation(pad=1, flip=True)
)
RATES = [0.05, 0.02, 0.05, 0.01]
TRIALS = [1, 1, 2, 2]
FIRST = [0, 0, 0, 2]


def images(dtype: torch.dtype = torch.float64) -> DeviceBatches:
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (50, 8, 8, 1), np.uint8), rng.integers(0, 10, 50))
    return DeviceBatches(split, SOURCE, 16, "cpu", epoch_seed=lambda epoch: epoch, dtype=dtype)


def members(name: str) -> list[Member]:
    """Four networks: two trials, several rates, two of them pruned, one ahead by two epochs."""
    found = []
    for k, network in enumerate(built(name, (8, 8, 1), 4)):
        state = TrainingState.fresh(network, SGD(name="sgd", nesterov=k == 1))
        state.steps = 4 * FIRST[k]
        found.append(Member(network, state, lambda step, k=k: RATES[k] / (1 + step // 4)))
    return found


def mask_of(member: Member) -> masks.Mask:
    paths = masks.pruned_paths(member.network, kept=["classifier"])
    return masks.prune(magnitude(masks.kernels(member.network, paths)), 0.6)


def train(model: SteppedModel, batches: GroupBatches | DeviceBatches, epochs: int) -> list[dict]:
    for _ in range(epochs):
        model.reset_metrics()
        batches.on_epoch_begin()
        for data in batches.get_torch_dataloader():
            model.train_step(data)
        model.get_metrics_result()
    return model.results


@pytest.mark.parametrize("name", ["resnet20", "lenet-300-100"])
def test_three_epochs_equal_those_of_each_alone(name, float64):
    joined, alone, results = members(name), members(name), []
    model, base = SteppedModel(*joined, label_smoothing=0.1), images()
    seeds = {trial: (lambda epoch, trial=trial: 100 * trial + epoch) for trial in (1, 2)}
    orders = [base.again(seeds[1], 0), base.again(seeds[2], 0), base.again(seeds[2], 2)]
    for k in (0, 2):
        joined[k].state.keep_masked(mask_of(joined[k]))
    results = train(model, GroupBatches(orders, [0, 0, 1, 2]), 3)
    for k, member in enumerate(alone):
        single = SteppedModel(member, label_smoothing=0.1)
        if k in (0, 2):
            member.state.keep_masked(mask_of(member))
        (expected,) = train(single, base.again(seeds[TRIALS[k]], FIRST[k]), 3)
        assert results[k] == pytest.approx(expected, rel=1e-9)
        theirs = joined[k].state.tensors()
        assert joined[k].state.steps == member.state.steps == 4 * (FIRST[k] + 3)
        for path, tensor in member.state.tensors().items():
            torch.testing.assert_close(theirs[path], tensor, rtol=1e-9, atol=1e-9)
    for k in (0, 2):
        weights = {v.path: v.numpy() for v in joined[k].network.variables}
        for path, mask in mask_of(alone[k]).items():
            assert mask.shape == weights[path].shape
        pruned = sum(int((weights[path] == 0).sum()) for path in mask_of(joined[k]))
        assert pruned == round(0.6 * sum(m.size for m in mask_of(joined[k]).values()))


class Backwards(DataAdapter):
    """The same batches, each with its images in the other order."""

    def __init__(self, batches: DeviceBatches) -> None:
        self._batches = batches

    def on_epoch_begin(self) -> None:
        self._batches.on_epoch_begin()

    def get_torch_dataloader(self):
        return ((x.flip(0), y.flip(0)) for x, y in self._batches.get_torch_dataloader())


@pytest.mark.parametrize(
    "name", [pytest.param("resnet20", marks=pytest.mark.slow), "lenet-300-100"]
)
def test_in_float32_the_difference_is_that_of_another_order_of_sums(name, monkeypatch):
    """Measured against the same training with the images of each batch in the other order."""
    # Small rates: at large ones a ResNet of batches this small soon forgets where it came from.
    monkeypatch.setattr(f"{__name__}.RATES", [rate / 100 for rate in RATES])

    def fresh() -> DeviceBatches:
        return images(torch.float32)

    joined, alone, reordered = members(name), members(name), members(name)
    order = fresh()
    train(SteppedModel(*joined), GroupBatches([order], [0] * 4), 3)
    for k in range(4):
        train(SteppedModel(alone[k]), fresh(), 3)
        train(SteppedModel(reordered[k]), Backwards(fresh()), 3)

        def distance(member: Member, k: int = k) -> float:
            weights = alone[k].state.weights
            found = member.state.weights
            away = [(found[path] - weight).detach().norm() for path, weight in weights.items()]
            whole = [weight.detach().norm() for weight in weights.values()]
            return float(torch.stack(away).norm() / torch.stack(whole).norm())

        assert 0 < distance(reordered[k]) < 1e-4
        # At the smallest rate the other order may round to nearly the same weights.
        rounding = max(distance(reordered[k]), torch.finfo(torch.float32).eps)
        assert distance(joined[k]) < 5 * rounding


@pytest.mark.parametrize(
    "name",
    [
        *("resnet20", "lenet-300-100"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("mobilenet-v1", "vgg16")),
    ],
)
@pytest.mark.parametrize("count", [1, 2])
def test_a_run_that_goes_on_from_its_state_ends_with_the_same_bits(name, count):
    """Momentum must follow its weights, whose memory is laid out anew when they are stepped."""
    shape = (32, 32, 1) if name != "lenet-300-100" else (8, 8, 1)
    rng = np.random.default_rng(0)
    data = [
        (
            torch.from_numpy(rng.normal(size=(8, *shape[:2], count)).astype(np.float32)),
            torch.from_numpy(rng.integers(0, 10, (8, count))),
        )
        for _ in range(4)
    ]

    def fresh() -> list[Member]:
        models = built(name, shape, count)
        return [
            Member(m, TrainingState.fresh(m, SGD(name="sgd")), lambda step: 0.05) for m in models
        ]

    undisturbed, first, second = fresh(), fresh(), fresh()
    for members_, part in ((undisturbed, data), (first, data[:2])):
        model = SteppedModel(*members_)
        for batch in part:
            model.train_step(batch)
    for before, after in zip(first, second, strict=True):
        saved = {path: array.copy() for path, array in before.state.arrays().items()}
        after.state.load(saved, before.state.steps)
    model = SteppedModel(*second)
    for batch in data[2:]:
        model.train_step(batch)
    # And once more in the same process, in a group of another size.
    for member in second:
        SteppedModel(member)
    for whole, resumed in zip(undisturbed, second, strict=True):
        theirs = resumed.state.tensors()
        for path, tensor in whole.state.tensors().items():
            assert torch.equal(theirs[path], tensor), path


def test_a_layer_that_is_called_twice_has_one_set_of_weights(float64):
    def twice(seed: int) -> keras.Model:
        inputs = keras.Input((8, 8, 3))
        conv = keras.layers.Conv2D(
            3, 3, padding="same", use_bias=False,
            kernel_initializer=keras.initializers.GlorotUniform(seed),
        )  # fmt: skip
        x = keras.layers.GlobalAveragePooling2D()(conv(conv(inputs)))
        return keras.Model(inputs, x)

    compare_own(twice)


def test_networks_that_norm_or_add_their_images(float64):
    from trainer.networks.layers import BatchNormalization

    def normed(seed: int) -> keras.Model:
        inputs = keras.Input((8, 8, 3))
        x = BatchNormalization(momentum=0.9, epsilon=1e-5)(inputs)
        start = keras.initializers.GlorotUniform(seed)
        y = keras.layers.Conv2D(
            3, 3, padding="same", use_bias=False, kernel_initializer=start
        )(inputs)  # fmt: skip
        return keras.Model(
            inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([x, y, inputs]))
        )

    compare_own(normed)


def compare_own(build, training=True, dtype=torch.float64, rtol=1e-9, atol=1e-12) -> None:
    """Two of a user's own networks side by side, trained a step and evaluated, and each alone."""
    alone, joined = ([build(seed) for seed in (1, 2)] for _ in range(2))
    together, images = lower(*joined), torch.randn(2, 5, 8, 8, 3, dtype=dtype)
    close = {"rtol": rtol, "atol": atol}
    outputs = together(torch.cat(list(images), dim=-1), training).unflatten(1, (2, -1))
    (outputs**2).sum().backward()
    for k, (model, same) in enumerate(zip(alone, joined, strict=True)):
        network = lower(model)
        expected = network(images[k], training)
        torch.testing.assert_close(outputs[:, k], expected, **close)
        (expected**2).sum().backward()
        for a, b in zip(model.trainable_variables, same.trainable_variables, strict=True):
            torch.testing.assert_close(b.value.grad, a.value.grad, **close)
        with torch.no_grad():
            seen = together(images[0], False).unflatten(1, (2, -1))[:, k]
            torch.testing.assert_close(seen, network(images[0], False), **close)
    together.zero_gradients()
    every = [v.value.grad for model in joined for v in model.trainable_variables]
    assert all(grad is None or not grad.any() for grad in every)


def test_a_member_whose_numbers_are_lost_takes_no_other_with_it(float64):
    joined, alone = members("resnet20"), members("resnet20")
    for variable in joined[1].network.trainable_variables:
        variable.value.data.fill_(float("nan"))
    base = images()
    results = train(SteppedModel(*joined), GroupBatches([base.again(lambda e: e, 0)], [0] * 4), 1)
    assert np.isnan(results[1]["loss"])
    for k in (0, 2, 3):
        (expected,) = train(SteppedModel(alone[k]), base.again(lambda e: e, 0), 1)
        assert results[k] == pytest.approx(expected, rel=1e-9)


def test_layers_that_keras_computes_are_each_networks_own():
    from tests.trainer.training.test_lowering import odd

    # In float32: Keras's Dense computes float64 in float32 on torch.
    compare_own(odd, training=False, dtype=torch.float32, rtol=1e-4, atol=1e-5)


def test_networks_without_a_lowered_form_are_not_stepped_together():
    def split() -> keras.Model:
        inputs = keras.Input((8,))
        first, second = keras.ops.split(inputs, 2, axis=-1)
        return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Add()([first, second])))

    with pytest.raises(CannotLower):
        lower(split(), split())


STUDY = {
    "trials": "2",
    "learning_rates": "[0.05, 0.1]",
    "dataset": "{name: digits, train_images: 256, test_images: 100, validation_images: 50}",
    "training": "{epochs: 4, batch_size: 64, rewind_epoch: 1, evaluate_every: 2}",
    "pruning": "{fraction: 0.5, sparsities: [0.5]}",
}


def test_a_study_side_by_side_is_the_study_one_by_one(write_config, store_uri, train, tmp_path):
    """The same runs, keys and masks; numbers equal up to the order of sums."""
    config = write_config(**STUDY)
    serial = f"sqlite:///{tmp_path}/serial/mlflow.db"
    assert train(config, "--tracking-uri", serial) == 0
    assert train(config, "--set", "fuse=4") == 0
    theirs = {run.info.run_name: run for run in stored.runs(serial)}
    found = {run.info.run_name: run for run in stored.runs(store_uri)}
    assert set(found) == set(theirs)
    for name, run in found.items():
        same = theirs[name]
        assert run.data.tags["run_key"] == same.data.tags["run_key"]
        if name.startswith("pretrain"):
            assert run.data.tags["fused"] == "4"
        first = 2 if name.startswith("wr") else 1
        assert stored.steps(store_uri, run, "loss") == list(range(first, 5))
        assert stored.steps(store_uri, run, "heldout_loss") == [2, 4]
        for metric in ("measured_sparsity", "trainable_parameters", "learning_rate"):
            assert run.data.metrics[metric] == same.data.metrics[metric]
        assert run.data.metrics["loss"] == pytest.approx(same.data.metrics["loss"], rel=1e-4)
        if not name.startswith(("pretrain", "sdt")):
            mine, its = stored.mask(run), stored.mask(same)
            # Weights that differ in their last bits may change places at the threshold.
            moved = sum(int((mine[path] != its[path]).sum()) for path in mine)
            assert moved <= 0.001 * sum(mask.size for mask in mine.values())


def test_a_diverged_run_leaves_its_group(write_config, store_uri, train, capsys):
    config = write_config(
        settings="[lt]", pruners="[omp]", learning_rates="[0.05, 900.0, 0.1]", fuse="3"
    )
    assert train(config) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "pretrain lr=900 trial=1: loss became nan in epoch" in said
    status = {run.info.run_name: run.info.status for run in stored.runs(store_uri)}
    assert sorted(status.values()) == ["FAILED"] + ["FINISHED"] * 4
    assert status["pretrain lr=900 trial=1"] == "FAILED"


@pytest.mark.slow
def test_a_killed_group_goes_on_in_another_composition(write_config, store_uri, train, tmp_path):
    config = write_config(
        settings="[pretrain]",
        dataset="{name: digits, train_images: 512, test_images: 100}",
        learning_rates="[0.05, 0.1, 0.02]",
        training="{epochs: 40, batch_size: 32}",
        fuse="3",
    )
    process = start(tmp_path, config, store_uri)
    wait_for_epochs(tmp_path, 10, process)
    process.kill()
    process.wait()
    assert len([path for path in journals(tmp_path) if '"metrics"' in path.read_text()]) == 3
    assert train(config, "--set", "fuse=2") == 0
    found = stored.runs(store_uri)
    assert len(found) == 3
    for run in found:
        assert run.info.status == "FINISHED"
        assert stored.steps(store_uri, run, "loss") == list(range(1, 41))
    serial = f"sqlite:///{tmp_path}/serial/mlflow.db"
    assert train(config, "--set", "fuse=off", "--tracking-uri", serial) == 0
    theirs = {run.info.run_name: run for run in stored.runs(serial)}
    for run in found:
        same = theirs[run.info.run_name].data.metrics
        assert run.data.metrics["loss"] == pytest.approx(same["loss"], rel=0.05, abs=1e-3)


def test_a_group_too_large_for_the_memory_is_halved(
    write_config, store_uri, train, capsys, monkeypatch
):
    from trainer.execution import run

    advance, asked = run.advance, []

    def small(runs, dataset, stop):
        asked.append(len(runs))
        if len(runs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        advance(runs, dataset, stop)

    monkeypatch.setattr(run, "advance", small)
    config = write_config(settings="[pretrain]", learning_rates="[0.05, 0.1, 0.2, 0.02, 0.01]")
    assert train(config, "--set", "fuse=5") == 0
    assert "out of memory: 2 runs side by side from now" in capsys.readouterr().out
    assert asked == [5, 2, 2, 1]
    assert {run.info.status for run in stored.runs(store_uri)} == {"FINISHED"}
