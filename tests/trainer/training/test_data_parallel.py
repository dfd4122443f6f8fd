"""One run over two processes (gloo): what the paper's one process computes, twice as wide."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from jackpot import artifacts
from tests.trainer import stored
from tests.trainer.execution.test_faults import start, wait_for_epochs
from tests.trainer.zygote import Command, imported
from trainer import datasets, networks
from trainer.datasets import Augmentation, Source, Split, Stream
from trainer.datasets.batches import DeviceBatches
from trainer.datasets.passes import WHOLE, Part
from trainer.datasets.streams import StreamedBatches
from trainer.pruning import masks
from trainer.pruning.scores import magnitude
from trainer.study.optimizers import SGD
from trainer.training.data_parallel import AverageStatistics, PeerLost, Peers, started_peers
from trainer.training.state import TrainingState
from trainer.training.stepped import Member, SteppedModel

TWO = "{epochs: 3, batch_size: 63, rewind_epoch: 1, devices_per_run: 2}"
SOURCE = Source(
    "", mean=(0.5,), std=(0.25,), classes=10, input_shape=(8, 8, 1), train_size=27, test_size=27
)


@pytest.fixture(scope="module", autouse=True)
def _processes_start_fast() -> Iterator[None]:
    """As forks, without their seconds of imports; CUDA could not be used in a fork.

    A command of its own (`start`) spawns them as for a user.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not torch.cuda.is_available():
            forking = SimpleNamespace(get_context=lambda method: imported())
            patch.setattr("trainer.training.data_parallel.multiprocessing", forking)
        yield


@dataclass(frozen=True)
class Work:
    """A few steps of a network on made-up images."""

    network: str
    steps: int
    masked: bool = False


# Without batch norm, with it, and pruned.
WORKS = (
    Work("lenet-300-100", 1),
    Work("lenet-300-100", 4),
    Work("resnet20", 1),
    Work("resnet20", 4, masked=True),
)


def images() -> Split:
    rng = np.random.default_rng(0)
    return Split(rng.integers(0, 256, (27, 8, 8, 1), np.uint8), rng.integers(0, 10, 27))


def stepped(work: Work, others: Peers | None) -> tuple[SteppedModel, list]:
    network = networks.build(work.network, input_shape=(8, 8, 1), classes=10, seed=1)
    state = TrainingState.fresh(network, SGD(name="sgd"))
    member = Member(network, state, lambda step: 0.1)
    model = SteppedModel(member, others=others)
    if work.masked:
        kernels = masks.kernels(network, masks.pruned_paths(network, kept=["classifier"]))
        member.state.keep_masked(masks.prune(magnitude(kernels), 0.7))
    part = others.part if others else WHOLE
    batches = DeviceBatches(images(), SOURCE, 18, "cpu", epoch_seed=lambda epoch: epoch, part=part)
    return model, batches


def work(others: Peers | None, job: Work) -> dict[str, np.ndarray]:
    """Takes the steps: weights, statistics, and the gradients before the last of them."""
    model, batches = stepped(job, others)
    state, gradients = model.members[0].state, {}
    optimizer_step = state.optimizer.step

    def step() -> None:
        gradients.update({f"gradient/{p}": w.grad.numpy().copy() for p, w in state.weights.items()})
        optimizer_step()

    state.optimizer.step = step
    while state.steps < job.steps:
        batches.on_epoch_begin()
        for data in batches.get_torch_dataloader():
            if state.steps < job.steps:
                model.train_step(data)
    own = {f"own/{path}": s.numpy().copy() for path, s in state.statistics.items()}
    if others:
        AverageStatistics(others, state.statistics.values()).on_test_begin()
    counted = {name: np.array(value) for name, value in model.get_metrics_result().items()}
    return {
        name: np.copy(array) for name, array in (state.arrays() | gradients | own | counted).items()
    }


def works(others: Peers, folder: Path) -> None:
    """Does all of them and writes what is left to a file per process and work."""
    for i, job in enumerate(WORKS):
        artifacts.write(folder / f"{i}-{others.part.index}.safetensors", work(others, job), {})


@pytest.fixture(scope="module")
def on_two(tmp_path_factory: pytest.TempPathFactory) -> dict[Work, list[dict[str, np.ndarray]]]:
    """What each of two processes has after each work. To start one takes many seconds: once."""
    folder = tmp_path_factory.mktemp("on_two")
    with started_peers(2, works, folder, threading.Event()) as others:
        works(others, folder)
    return {
        job: [artifacts.read(folder / f"{i}-{index}.safetensors")[0] for index in (0, 1)]
        for i, job in enumerate(WORKS)
    }


def test_two_processes_compute_what_one_does(on_two):
    """Without batch norm: the same gradients, also where parts of a batch differ in size."""
    # Batches of 18 and 9 images: parts of 9 and 9, then of 4 and 5.
    for job in WORKS[:2]:
        first, second = on_two[job]
        one = work(None, job)
        for name in first:
            assert first[name].tobytes() == second[name].tobytes(), name
            np.testing.assert_allclose(first[name], one[name], rtol=2e-5, atol=2e-7, err_msg=name)


def test_with_batch_norm_gradients_are_the_mean_of_the_parts(on_two):
    first, second = on_two[WORKS[2]]
    model, batches = stepped(WORKS[2], None)
    batches.on_epoch_begin()
    data, labels = next(iter(batches.get_torch_dataloader()))
    weights, statistics = model.members[0].state.weights, []
    for part in (Part(0, 2), Part(1, 2)):
        before = [s.clone() for s in model.members[0].state.statistics.values()]
        own = slice(part.of(18).start, part.of(18).stop)
        logits = model.stepper.lowered(data[own], True)
        (torch.nn.functional.cross_entropy(logits, labels[own]) / 2).backward()
        statistics.append([s.clone() for s in model.members[0].state.statistics.values()])
        for statistic, value in zip(
            model.members[0].state.statistics.values(), before, strict=True
        ):
            statistic.copy_(value)
    for path, weight in weights.items():
        expected = weight.grad.numpy()
        np.testing.assert_allclose(first[f"gradient/{path}"], expected, rtol=1e-5, atol=1e-7)
    for path, one, other in zip(model.members[0].state.statistics, *statistics, strict=True):
        assert first[f"own/{path}"].tobytes() == one.numpy().tobytes()
        assert second[f"own/{path}"].tobytes() == other.numpy().tobytes()
        mean = (one + other) / 2
        np.testing.assert_allclose(first[f"statistics/{path}"], mean, rtol=1e-6, atol=1e-9)
        assert first[f"statistics/{path}"].tobytes() == second[f"statistics/{path}"].tobytes()


def test_masks_are_exact_in_every_process(on_two):
    first, second = on_two[WORKS[3]]
    weights = [name for name in first if name.startswith(("weights/", "momentum/"))]
    for name in weights:
        assert first[name].tobytes() == second[name].tobytes(), name
    kernels = [first[n] for n in weights if n.startswith("weights/") and first[n].ndim == 4]
    zeros = sum(int((kernel == 0).sum()) for kernel in kernels)
    assert zeros == round(0.7 * sum(kernel.size for kernel in kernels))


def test_parts_are_the_batch():
    for count in (1, 2, 3, 5):
        parts = [Part(index, count) for index in range(count)]
        for size in range(1, 20):
            covered = [i for part in parts for i in range(size)[part.of(size)]]
            assert covered == list(range(size))
            assert sum(part.weight(size) for part in parts) == pytest.approx(count)
    whole, halves = batches_of(WHOLE), [batches_of(Part(index, 2)) for index in (0, 1)]
    for (images_, labels), *two in zip(whole, *halves, strict=True):
        assert torch.equal(images_, torch.cat([part[0] for part in two]))
        assert torch.equal(labels, torch.cat([part[1] for part in two]))
        assert [part[2] for part in two] == [2 * len(part[1]) / len(labels) for part in two]


def batches_of(part: Part) -> list:
    source = Source(
        "", (0.5,), (0.25,), 10, (8, 8, 1), 27, 27, augmentation=Augmentation(pad=1, flip=True)
    )
    batches = DeviceBatches(images(), source, 6, "cpu", epoch_seed=lambda epoch: 3, part=part)
    batches.on_epoch_begin()
    return list(batches.get_torch_dataloader())


def test_parts_of_a_stream_are_the_batch(monkeypatch):
    class Numbers:
        def __init__(self, *_):
            pass

        def __getitem__(self, item):
            return np.full((8, 8, 1), item[0], np.uint8), item[0]

    monkeypatch.setattr("trainer.datasets.streams.Decoded", Numbers)

    def labels(part: Part) -> list[torch.Tensor]:
        batches = StreamedBatches(
            Stream("x", "train", 0, 27), SOURCE, 6, "cpu",
            epoch_seed=lambda epoch: 3, part=part, workers=0,
        )  # fmt: skip
        batches.on_epoch_begin()
        return [batch[1] for batch in batches.get_torch_dataloader()]

    for whole, *two in zip(labels(WHOLE), labels(Part(0, 2)), labels(Part(1, 2)), strict=True):
        assert torch.equal(whole, torch.cat(two))


def test_a_study_on_two_devices(write_config, store_uri, train):
    config = write_config(
        settings="[lt, sdt]",
        pruners="[omp]",
        network="resnet20",
        dataset="{name: digits, train_images: 200, test_images: 101, validation_images: 11}",
        training=TWO,
    )
    assert train(config) == 0
    found = stored.labelled(store_uri)
    assert set(found) == {"pretrain", "lt-omp s=0.750", "sdt s=0.750"}
    for run in found.values():
        assert run.data.params["devices_per_run"] == "2"
        assert stored.steps(store_uri, run, "val_accuracy") == [1, 2, 3]
    ticket = found["lt-omp s=0.750"]
    weights = stored.weights(ticket)
    for path, mask in stored.mask(ticket).items():
        assert not weights[path][~mask].any()
    # What was recorded is what the recorded weights give on all test images.
    network = networks.build("resnet20", input_shape=(8, 8, 1), classes=10)
    for variable in network.variables:
        variable.assign(weights[variable.path])
    data = datasets.load("digits", 200, 101)
    model = SteppedModel(
        Member(network, TrainingState.fresh(network, SGD(name="sgd")), lambda step: 0.0)
    )
    (measured,) = model.measure(DeviceBatches(data.test, data.source, 50, "cpu"))
    assert measured["accuracy"] == pytest.approx(ticket.data.metrics["val_accuracy"])
    assert measured["loss"] == pytest.approx(ticket.data.metrics["val_loss"], rel=1e-4)
    # Devices per run change the numbers, so they change the key.
    assert train(config, "--set", "training.devices_per_run=1", "--dry-run") == 0
    keys = {run.data.tags["run_key"] for run in found.values()}
    assert train(config, "--set", "training.devices_per_run=1", "--set", "settings=[pretrain]") == 0
    assert len({run.data.tags["run_key"] for run in stored.runs(store_uri)} - keys) == 1


def peers_of(process: Command) -> list[int]:
    """Processes that train parts of `process`'s batches."""
    answer = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", "spawn_main"], capture_output=True, text=True
    )
    return [int(pid) for pid in answer.stdout.split()]


LONG = {
    "settings": "[pretrain]",
    "dataset": "{name: digits, train_images: 512, test_images: 100}",
    "training": "{epochs: 100, batch_size: 32, rewind_epoch: 4, devices_per_run: 2}",
}


@pytest.mark.slow
def test_a_killed_process_costs_nothing(write_config, store_uri, tmp_path, train):
    config = write_config(**LONG)
    process = start(tmp_path, config, store_uri)
    wait_for_epochs(tmp_path, 8, process)
    (peer,) = peers_of(process)
    os.kill(peer, signal.SIGKILL)
    said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "process 2 of 2 died (exit code -9); it goes on" in " ".join(said.split())
    undisturbed = f"sqlite:///{tmp_path}/undisturbed/mlflow.db"
    assert train(config, "--tracking-uri", undisturbed) == 0
    (run,), (expected,) = stored.runs(store_uri), stored.runs(undisturbed)
    same = stored.weights(expected)
    for path, array in stored.weights(run).items():
        assert array.tobytes() == same[path].tobytes()
    histories = [
        [m.value for m in MlflowClient(uri).get_metric_history(r.info.run_id, "loss")]
        for uri, r in ((store_uri, run), (undisturbed, expected))
    ]
    assert histories[0] == histories[1]


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_no_process_outlives_the_run(write_config, store_uri, tmp_path, number):
    process = start(tmp_path, write_config(**LONG), store_uri)
    wait_for_epochs(tmp_path, 3, process)
    peers = peers_of(process)
    assert len(peers) == 1
    if number == signal.SIGINT:
        # A terminal sends it to all of them.
        os.killpg(process.pid, number)
        said = process.communicate(timeout=60)
        assert process.returncode == 130, said
    else:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in peers):
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.1)


def broken(others: Peers, job: object) -> None:
    raise AssertionError("as a program's error would")


def test_an_error_in_another_process_is_told():
    def share() -> None:
        with started_peers(2, broken, None, threading.Event()) as others:
            others.sums([1.0])

    with pytest.raises(PeerLost, match=r"process 2 of 2 died \(exit code 1\)"):
        share()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"training": TWO.replace("63", "255")}, "the last batch of an epoch, which has 1 of 256"),
        ({"training": TWO.replace("63", "1")}, "the last batch of an epoch, which has 1 of 256"),
        ({"dataset": "{name: digits, test_images: 1}"}, "cannot share 1 images to evaluate on"),
    ],
)
def test_too_few_images_for_the_devices(write_config, train, capsys, more, words):
    assert train(write_config(**{"training": TWO} | more)) == 2
    error = capsys.readouterr().err
    assert "training.devices_per_run: 2 devices cannot share" in error
    assert words in error
