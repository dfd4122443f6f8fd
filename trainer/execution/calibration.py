"""Measures how fast a study's networks are stepped on this machine, in a few seconds.

Needs no dataset: the images are random. Imports Keras and torch, which takes seconds besides.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch

from jackpot import artifacts
from jackpot.settings import SETTINGS
from trainer import datasets, networks
from trainer.datasets import Source
from trainer.datasets.batches import DeviceBatches, GroupBatches, Recordable, evaluation_batch
from trainer.execution.estimate import Speed, Speeds
from trainer.networks import small_dense
from trainer.pruning import masks
from trainer.store.shared import SharedFiles
from trainer.study.config import Study
from trainer.study.plan import plan
from trainer.training import recording
from trainer.training.lowering import CannotLower
from trainer.training.process import device_name, prepare_process
from trainer.training.state import TrainingState
from trainer.training.stepped import Member, SteppedModel

log = logging.getLogger(__name__)
# Of one batch: a step of ImageNet's would take minutes and more memory than a laptop has.
_MOST_PIXELS = 2**20
# Of a pass: on a GPU the pauses between passes would count too much otherwise.
_BATCHES = {"cpu": 4, "cuda": 200}
_BUDGET_S = {"cpu": 2.0, "cuda": 0.3}
# Steps before the first that is timed: recordings are made within them.
_WARM_UP = 5
# A larger group is worthwhile if its speed is higher by this factor.
_GAIN = 1.05
_ON_A_GPU = (1, 2, 4, 8)


def fastest_group_size(config: Study, shared: SharedFiles) -> int:
    """How many runs `fuse: auto` steps side by side: on a GPU, the fastest measured number.

    On a CPU, one: a single run keeps it busy, and several would differ in the last bits.
    """
    if not torch.cuda.is_available():
        return 1
    speed = _speed(config, _described(config), {}, _ON_A_GPU, shared)
    best = 1
    for count in sorted(speed.image_s):
        if count / speed.per_image(count) > _GAIN * best / speed.per_image(best):
            best = count
    return best


def calibrated(config: Study, counts: Sequence[int], shared: SharedFiles) -> Speeds:
    """The speeds of the study's dense networks, and of a small-dense one of middle size.

    Args:
        config: the study.
        counts: numbers of networks side by side.
        shared: where the figures are kept: they are measured once per machine.
    """
    source = _described(config)
    dense = _speed(config, source, {}, counts, shared)
    trained = (*SETTINGS.values(), *config.chosen_settings)
    speeds = {setting.name: dense for setting in trained}
    target = _middle_target(config, source)
    if target:
        channels, _ = small_dense.matching_channels(
            config.network, source.input_shape, source.classes, target
        )
        narrow = _speed(config, source, channels, counts, shared)
        speeds |= {s.name: narrow for s in config.chosen_settings if s.is_narrow}
    return Speeds(speeds, f"calibration steps at {1 / dense.per_image(1):,.0f} images/s")


def _speed(
    config: Study,
    source: Source,
    channels: Mapping[int, int],
    counts: Sequence[int],
    shared: SharedFiles,
) -> Speed:
    prepare_process(config.training.devices_per_run)
    facts = {
        "network": config.network,
        "sha256": networks.fingerprint(config.network),
        "channels": sorted(channels.items()),
        "source": [*source.input_shape, source.classes],
        "batch": config.training.batch_size,
        "precision": config.training.precision,
        "counts": list(counts),
        "device": [device_name(), torch.get_num_threads(), torch.__version__],
    }

    def make(path: Path) -> None:
        measured = asdict(_measured(config, source, channels, counts))
        artifacts.write(path, {}, {"speed": json.dumps(measured)})

    def read(path: Path) -> Speed:
        _, about = artifacts.read(path)
        told = json.loads(about["speed"])
        return Speed({int(k): v for k, v in told["image_s"].items()}, told["evaluation_s"])

    return shared.once("speed", facts, make, read)


def _described(config: Study) -> Source:
    """The dataset; its normalisation is made up where it is measured when images are decoded."""
    source = datasets.find(config.dataset.name)
    if source.kind == "images" and not source.mean:
        channels = source.input_shape[2]
        source = replace(source, mean=(0.5,) * channels, std=(0.25,) * channels)
    return source


def _middle_target(config: Study, source: Source) -> int | None:
    """Parameters of about the middle one of the study's small-dense networks; None without any."""
    sparsities = sorted({r.sparsity for r in plan(config).runs if r.setting.is_narrow})
    if not sparsities:
        return None
    with keras.device("meta"):
        dense = networks.build(
            config.network, input_shape=source.input_shape, classes=source.classes
        )
    kept = 1 - sparsities[len(sparsities) // 2]
    return round(small_dense.trainable_parameters(dense) * kept)


def rehearsal(config: Study, group_size: int) -> Callable[[int], None]:
    """Returns a function that takes training steps of the study's networks, then evaluates once.

    The function's argument is the number of steps. Batches have the study's size, images are
    random. It needs as much memory as a group of runs needs besides the dataset.
    """
    prepare_process(config.training.devices_per_run)
    bench = _Networks(config, _described(config), {}, group_size, config.training.batch_size, 4)
    train, _ = bench.training(group_size)
    evaluate, _ = bench.evaluation(group_size)

    def steps(count: int) -> None:
        train(count)
        evaluate(1)

    return steps


def _measured(
    config: Study, source: Source, channels: Mapping[int, int], counts: Sequence[int]
) -> Speed:
    """Steps and evaluates random images, some seconds for each of `counts`."""
    batch = min(config.training.batch_size, max(1, _MOST_PIXELS // source.places))
    batches = _BATCHES["cuda" if torch.cuda.is_available() else "cpu"]
    bench = _Networks(config, source, channels, max(counts), batch, batches)
    image_s: dict[int, float] = {}
    evaluation_s = float("inf")
    for count in sorted(counts):
        try:
            train, images = bench.training(count)
            trained = _seconds(train, bench.device) / images
            evaluate, images = bench.evaluation(count)
            evaluated = _seconds(evaluate, bench.device) / (images * count)
        except (CannotLower, torch.OutOfMemoryError) as reason:
            if not image_s:
                raise
            log.info("not more than %s runs side by side: %s", max(image_s), reason)
            break
        finally:
            bench.release()
        image_s[count] = trained
        evaluation_s = min(evaluation_s, evaluated)
    return Speed(image_s, evaluation_s)


def _random(source: Source, count: int, rng: np.random.Generator) -> np.ndarray:
    """Images or features of the dataset's kind; of integers, 0 and 1, which any network takes."""
    shape = (count, *source.input_shape)
    if source.kind == "images":
        return rng.integers(0, 256, shape, np.uint8)
    if source.of_integers:
        return rng.integers(0, 2, shape)
    return rng.standard_normal(shape, np.float32)


class _Networks:
    """Networks of a study, to be stepped on random images.

    Args:
        config, source: the study, and what is known of its dataset.
        channels: channel counts in place of the network's own.
        count: how many networks.
        batch: images of a training step.
        batches: training steps of a pass.
    """

    def __init__(
        self,
        config: Study,
        source: Source,
        channels: Mapping[int, int],
        count: int,
        batch: int,
        batches: int,
    ) -> None:
        self._source, self._precision = source, config.training.precision
        self._members: list[Member] = []
        for _ in range(count):
            network = networks.build(
                config.network,
                input_shape=source.input_shape,
                classes=source.classes,
                channels=channels,
            )
            state = TrainingState.fresh(network, config.training.optimizer)
            self._members.append(Member(network, state, lambda step: 1e-6))
        self.device = self._members[0].state.device
        self._batch = batch
        images = max(batches * batch, evaluation_batch(source, 1, self.device))
        rng = np.random.default_rng(0)
        self._split = datasets.Split(
            _random(source, images, rng), rng.integers(0, source.classes, images)
        )
        self._model: SteppedModel | None = None
        self._recorder: recording.Recorder | None = None

    def training(self, count: int) -> tuple[Callable[[int], None], int]:
        """Returns a function that runs training steps of `count` networks, and the images per step.

        Raises:
            CannotLower: they cannot be stepped side by side.
        """
        self._recorder = recording.recorder(self.device)
        model = self._model = SteppedModel(
            *self._members[:count], precision=self._precision, recorder=self._recorder
        )
        for member in self._members[:count]:
            # A mask, as most runs have one; what it prunes does not matter.
            paths = masks.pruned_paths(member.network)
            kernels = masks.kernels(member.network, paths)
            member.state.keep_masked({path: np.ones(k.shape, bool) for path, k in kernels.items()})
        passes: Any = self._passes(self._batch, lambda epoch: epoch)
        if count > 1:
            orders = [passes.again(lambda e, k=k: 1000 * k + e, 0) for k in range(count)]
            passes = GroupBatches(orders, range(count))
        return self._stepping(model, model.train_step, passes), self._batch

    def evaluation(self, count: int) -> tuple[Callable[[int], None], int]:
        """Returns a function that evaluates the networks last trained, and the images per step."""
        model, batch = self._model, evaluation_batch(self._source, count, self.device)
        if model is None:
            raise RuntimeError("nothing has been trained")
        test = torch.no_grad()(model.test_step)
        return self._stepping(model, test, self._passes(batch, None)), batch

    def release(self) -> None:
        """Lets go of what the networks were last stepped with."""
        if self._model is not None:
            self._model.release()
            self._model = None

    def _passes(self, batch: int, epoch_seed: Callable[[int], int] | None) -> DeviceBatches:
        # Whole batches alone.
        split = self._split.part(0, len(self._split) // batch * batch)
        return DeviceBatches(split, self._source, batch, self.device, epoch_seed=epoch_seed)

    def _stepping(
        self, model: SteppedModel, step: Callable[[Any], Any], passes: Any
    ) -> Callable[[int], None]:
        if self._recorder:
            passes = Recordable(passes)

        def endless() -> Iterator[Any]:
            while True:
                passes.on_epoch_begin()
                yield from passes.get_torch_dataloader()

        given = endless()

        def steps(count: int) -> None:
            for data in islice(given, count):
                step(data)
            model.get_metrics_result()  # Waits for the device.

        return steps


def _seconds(steps: Callable[[int], None], device: torch.device) -> float:
    """Seconds of a step."""
    burst = 1 if device.type == "cpu" else 20
    steps(1 if device.type == "cpu" else _WARM_UP)
    began, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - began < _BUDGET_S[device.type]:
        steps(burst)
        done += burst
    return (time.perf_counter() - began) / done
