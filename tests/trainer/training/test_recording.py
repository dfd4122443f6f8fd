"""Recorded steps compute what steps do that are run as they are."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.trainer import stored
from tests.trainer.training.tape import Tape
from tests.trainer.training.test_lowering import odd
from trainer import networks
from trainer.datasets import Augmentation, Source, Split
from trainer.datasets.batches import DeviceBatches, GroupBatches, Recordable
from trainer.pruning import masks
from trainer.pruning.scores import magnitude
from trainer.study.optimizers import SGD
from trainer.training import per_step, recording
from trainer.training.recording import Recordings
from trainer.training.state import TrainingState
from trainer.training.stepped import Member, SteppedModel

SHAPE = (8, 8, 1)
SOURCE = Source("", (0.5,), (0.25,), 10, SHAPE, 50, 20, augmentation=Augmentation(1, True))


def split(count: int) -> Split:
    rng = np.random.default_rng(count)
    return Split(rng.integers(0, 256, (count, *SHAPE), np.uint8), rng.integers(0, 10, count))


def members(name: str, count: int, first: int, mixup: bool) -> list[Member]:
    found = []
    for k in range(count):
        network = networks.build(name, input_shape=SHAPE, classes=10, seed=k)
        state = TrainingState.fresh(network, SGD(name="sgd", nesterov=k == 1))
        state.steps = first
        # What float32 holds exactly: recorded steps read their rates from a tensor.
        share = (lambda step, k=k: (k + step % 7 + 1) / 11) if mixup else None
        found.append(Member(network, state, lambda step, k=k: 2.0 ** -(5 + k + step // 9), share))
        if k != 1:
            kept = [
                layer
                for layer in ("classifier", "stem")
                if layer in {x.name for x in network.layers}
            ]
            paths = masks.pruned_paths(network, kept=kept)
            kernels = masks.kernels(network, paths)
            found[-1].state.keep_masked(masks.prune(magnitude(kernels), 0.6))
    return found


def trained(
    name: str, count: int, tape: Tape | None, epochs: int = 3, mixup: bool = False
) -> tuple[list[Member], list[list[dict]]]:
    """Members after some epochs, and their results of every pass: training and test."""
    found = members(name, count, 4, mixup)
    model = SteppedModel(*found, label_smoothing=0.1, recorder=tape)
    batches: DeviceBatches | GroupBatches
    batches = DeviceBatches(split(100), SOURCE, 16, "cpu", epoch_seed=lambda epoch: epoch)
    if count > 1:
        other = batches.again(lambda epoch: 100 + epoch, 1)
        batches = GroupBatches([batches, other], [k % 2 for k in range(count)])
    tests: DeviceBatches = DeviceBatches(split(37), SOURCE, 8, "cpu")
    seen = []
    for _ in range(epochs):
        for adapter in (batches, tests):
            given = Recordable(adapter) if tape else adapter
            if adapter is tests:
                seen.append(model.measure(given))
                continue
            model.reset_metrics()
            given.on_epoch_begin()
            for data in given.get_torch_dataloader():
                model.train_step(data)
            model.get_metrics_result()
            seen.append(model.results)
    return found, seen


@pytest.mark.parametrize("name", ["resnet20", "lenet-300-100"])
@pytest.mark.parametrize(
    ("count", "mixup"), [(1, False), pytest.param(3, False, marks=pytest.mark.slow), (3, True)]
)
def test_recorded_epochs_are_the_same_to_the_bit(name, count, mixup, monkeypatch):
    # Some epochs end in the middle of the rates that were brought to the device, some after.
    monkeypatch.setattr(per_step, "STEPS_AHEAD", 5)
    tape = Tape()
    plain, expected = trained(name, count, None, mixup=mixup)
    recorded, found = trained(name, count, tape, mixup=mixup)
    # Whole and last batches, of training and of evaluation; the last ones are few, and warm up.
    assert tape.recorded == 2
    assert tape.replayed >= 3 * (6 + 4) - 2 * 3
    assert found == expected
    for mine, its in zip(recorded, plain, strict=True):
        assert mine.state.steps == its.state.steps == 4 + 3 * 7
        theirs = its.state.tensors()
        for path, tensor in mine.state.tensors().items():
            assert torch.equal(tensor, theirs[path]), path


def test_an_image_is_seen_once_an_epoch_from_a_recording():
    batches = DeviceBatches(split(40), SOURCE, 8, "cpu", epoch_seed=lambda epoch: epoch)
    seen = torch.zeros(40, dtype=torch.int64)
    batches._labels.copy_(torch.arange(40))

    def work() -> None:
        _, labels = batches.make(8)
        seen.index_add_(0, labels, torch.ones_like(labels))

    runs = Recordings(Tape())
    for _ in range(3):
        batches.on_epoch_begin()
        batches.begin()
        for _ in batches.counts():
            runs("some", work)
    assert seen.tolist() == [3] * 40


@pytest.mark.parametrize("fuse", [pytest.param("off", marks=pytest.mark.slow), "2"])
def test_a_recorded_study_is_the_study(fuse, write_config, store_uri, train, tmp_path, monkeypatch):
    """Through Keras's `fit`: keys, epochs, masks and numbers."""
    config = write_config(
        settings="[lt]",
        pruners="[omp]",
        learning_rates="[0.0625, 0.03125]",
        dataset="{name: digits, train_images: 500, test_images: 100, validation_images: 50}",
        training="{epochs: 4, batch_size: 64, rewind_epoch: 1, evaluate_every: 2}",
        fuse=fuse,
    )
    plain = f"sqlite:///{tmp_path}/plain/mlflow.db"
    assert train(config, "--tracking-uri", plain) == 0
    tapes = []

    def tape(device: torch.device) -> Tape:
        tapes.append(Tape())
        return tapes[-1]

    monkeypatch.setattr(recording, "recorder", tape)
    assert train(config) == 0
    assert tapes
    assert all(tape.replayed for tape in tapes)
    theirs = {run.info.run_name: run for run in stored.runs(plain)}
    for run in stored.runs(store_uri):
        same = theirs[run.info.run_name]
        for metric in ("loss", "accuracy", "val_loss", "heldout_accuracy", "measured_sparsity"):
            assert run.data.metrics[metric] == same.data.metrics[metric]
            assert stored.steps(store_uri, run, metric) == stored.steps(plain, same, metric)


def test_layers_that_keras_computes_are_not_recorded():
    network = odd()
    tape = Tape()
    state = TrainingState.fresh(network, SGD(name="sgd"))
    model = SteppedModel(Member(network, state, lambda step: 0.125), recorder=tape)
    rng = np.random.default_rng(0)
    source = Source("", (0.5,) * 3, (0.25,) * 3, 3, (8, 8, 3), 50, 20)
    images = Split(rng.integers(0, 256, (50, 8, 8, 3), np.uint8), rng.integers(0, 3, 50))
    batches = Recordable(DeviceBatches(images, source, 5, "cpu", epoch_seed=lambda epoch: epoch))
    batches.on_epoch_begin()
    for data in batches.get_torch_dataloader():
        model.train_step(data)
    assert state.steps == 10
    assert tape.recorded == 0


class Refusing(Tape):
    """Cannot record."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.asked = error, 0

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.asked += 1
        raise self.error


def test_what_cannot_be_recorded_runs_as_it_is_and_one_line_says_so(caplog):
    tape, done = Refusing(RuntimeError("operation not permitted")), []
    runs = Recordings(tape)
    for step in range(20):
        runs("some", lambda step=step: done.append(step))
        runs("other", lambda step=step: done.append(-step))
    assert sorted(done) == sorted([*range(20), *(-step for step in range(20))])
    assert tape.asked == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "operation not permitted" in caplog.text


def test_memory_that_runs_out_while_recording_is_the_callers():
    runs, done = Recordings(Refusing(torch.OutOfMemoryError("CUDA out of memory"))), []

    def all_of_it() -> None:
        for step in range(20):
            runs("some", lambda step=step: done.append(step))

    with pytest.raises(torch.OutOfMemoryError):
        all_of_it()
    assert done == [0, 1, 2]


def test_the_tape_refuses_what_a_cuda_graph_refuses():
    x = torch.ones(3)
    for work in (
        lambda: x.add_(x.sum().item()),
        lambda: x.add_(torch.tensor([1.0, 2.0, 3.0])),
        lambda: x[x > 0].sum(),
    ):
        with pytest.raises(RuntimeError, match="not permitted"):
            Tape().record(work)
