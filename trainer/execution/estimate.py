"""How long a study will take: arithmetic alone; `trainer.execution.calibration` measures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from statistics import median

import numpy as np

from jackpot.contract import Metric, Param
from trainer import datasets
from trainer.store.tracking import StoredRun
from trainer.study.config import Study
from trainer.study.plan import RunSpec

# Assumed speed-up of evaluation where it was not measured: it has no backward pass, which takes
# about twice the time of the forward pass.
_EVALUATION_SPEEDUP = 3.0
# Seconds that a launch takes besides its runs, and a run besides its steps, on the machine of
# `benchmarks/results/overhead-cpu.json`: imports, schema, images; weights, masks, files.
LAUNCH_S, RUN_S = 10.0, 0.12


@dataclass(frozen=True)
class Speed:
    """How fast networks of one structure are stepped.

    Attributes:
        image_s: seconds that a training step takes for each image of its batch, by the number of
            networks that are stepped side by side.
        evaluation_s: seconds to evaluate one network on one image.
    """

    image_s: Mapping[int, float]
    evaluation_s: float

    def per_image(self, group_size: int) -> float:
        """Seconds for each image of a batch, with `group_size` networks side by side."""
        known = sorted(self.image_s)
        between = float(np.interp(group_size, known, [self.image_s[count] for count in known]))
        # Beyond the measured sizes, each network costs the average of the largest group.
        return between * max(1.0, group_size / known[-1])


@dataclass(frozen=True)
class Speeds:
    """The speed of each setting, and where the figures come from."""

    by_setting: Mapping[str, Speed]
    origin: str

    def for_setting(self, setting: str) -> Speed:
        """The speed of a setting; one without its own takes the slowest known."""
        slowest = max(self.by_setting.values(), key=lambda speed: speed.per_image(1))
        return self.by_setting.get(setting, slowest)


def seconds(groups: Iterable[Sequence[RunSpec]], speeds: Speeds) -> float:
    """Estimated time of a launch that trains groups one after another, in seconds."""
    return LAUNCH_S + sum(_group(group, speeds) for group in groups)


def _group(group: Sequence[RunSpec], speeds: Speeds) -> float:
    data, training = group[0].dataset, group[0].training
    train, test = datasets.sizes(data.name, data.train_images, data.test_images)
    heldout = data.validation_images or 0
    # The slowest decides for all; each leaves the group when it is done.
    speed = max(
        (speeds.for_setting(spec.setting.name) for spec in group),
        key=lambda s: s.per_image(len(group)),
    )
    total, done = RUN_S * len(group), 0
    in_order = sorted(group, key=attrgetter("epochs"))
    for left, spec in zip(range(len(group), 0, -1), in_order, strict=True):
        total += (spec.epochs - done) * (train - heldout) * speed.per_image(left)
        done = spec.epochs
        evaluated = sum(epoch > spec.first_epoch for epoch in training.evaluated_epochs)
        total += evaluated * (test + heldout) * speed.evaluation_s
    return total


def from_earlier_runs(config: Study, known: Iterable[StoredRun], device: str) -> Speeds | None:
    """The speeds of finished runs that step as the study's do; None without any.

    They share network and dataset (as `known` does), kind of device, batch size, precision and
    devices per run.
    """
    training = config.training
    asked = (device, str(training.batch_size), training.precision, str(training.devices_per_run))
    found: dict[str, dict[int, list[float]]] = {}
    for run in known:
        same = asked == (
            run.device,
            run.params.get(Param.BATCH_SIZE),
            run.params.get(Param.PRECISION, "float32"),
            run.params.get(Param.DEVICES_PER_RUN, "1"),
        )
        if same and run.metrics.get(Metric.IMAGES_PER_SECOND):
            by_count = found.setdefault(run.params.get(Param.SETTING, ""), {})
            seen = by_count.setdefault(run.fused, [])
            seen.append(1 / run.metrics[Metric.IMAGES_PER_SECOND])
    if not found:
        return None
    speeds = {}
    for setting, by_count in found.items():
        image_s = {count: median(times) for count, times in by_count.items()}
        alone = min(seconds / count for count, seconds in image_s.items())
        speeds[setting] = Speed(image_s, alone / _EVALUATION_SPEEDUP)
    count = sum(len(times) for by_count in found.values() for times in by_count.values())
    return Speeds(speeds, f"the speed of {count} earlier run{'s' * (count > 1)}")
