"""How long a study will take: from earlier runs in the store, or from a short calibration."""

import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from mlflow_server.contract import Metric, Param
from trainer import datasets
from trainer.config import Study
from trainer.plan import RunSpec
from trainer.tracking import StoredRun

# What evaluation saves: no backward pass, which takes about twice the time of the forward one.
_EVALUATION_SPEEDUP = 3.0
# Where nothing is known of it; else from the time that it takes to build a network, which a run
# does about twice, and what a run takes whatever its network (`benchmarks/overhead.py`).
_OVERHEAD_PER_RUN_S = 0.3
_FIXED_PER_RUN_S, _BUILDS_PER_RUN = 0.1, 2
_CALIBRATION_PIXELS = 2**20


@dataclass(frozen=True)
class Throughput:
    """Images per second of training steps by setting, and where the figure comes from.

    Attributes:
        per_run_s: seconds that a run takes besides: building its network, writing, and the like.
    """

    by_setting: Mapping[str, float]
    origin: str
    per_run_s: float = _OVERHEAD_PER_RUN_S

    def of(self, spec: RunSpec) -> float:
        """The figure for a run; a setting without its own takes the slowest known."""
        return self.by_setting.get(spec.setting, min(self.by_setting.values()))


def seconds(runs: Iterable[RunSpec], throughput: Throughput) -> float:
    """Estimated time for `runs` one after another, in seconds."""
    total = 0.0
    for spec in runs:
        data = spec.dataset
        train, test = datasets.sizes(data.name, data.train_images, data.test_images)
        heldout = data.validation_images or 0
        evaluations = sum(epoch > spec.first_epoch for epoch in spec.training.evaluated_epochs)
        images = spec.epochs * (train - heldout)
        images += evaluations * (test + heldout) / _EVALUATION_SPEEDUP
        total += images / throughput.of(spec) + throughput.per_run_s
    return total


def from_earlier_runs(
    config: Study, known: Iterable[StoredRun], together: int
) -> Throughput | None:
    """Throughput of finished runs that step as the study's do; None without any.

    They share network and dataset (as `known` does), batch size, precision, devices, and whether
    several are stepped together.
    """
    training = config.training
    asked = (str(training.batch_size), training.precision, str(training.devices_per_run))
    measured: dict[str, list[float]] = {}
    for run in known:
        same = asked == (
            run.params.get(Param.BATCH_SIZE),
            run.params.get(Param.PRECISION, "float32"),
            run.params.get(Param.DEVICES_PER_RUN, "1"),
        )
        if same and (run.fused > 1) == (together > 1) and Metric.IMAGES_PER_SECOND in run.metrics:
            setting = run.params.get(Param.SETTING, "")
            measured.setdefault(setting, []).append(run.metrics[Metric.IMAGES_PER_SECOND])
    if not measured:
        return None
    medians = {setting: statistics.median(values) for setting, values in measured.items()}
    count = sum(len(values) for values in measured.values())
    return Throughput(medians, f"the speed of {count} earlier run{'s' * (count > 1)}")


def calibrate(config: Study, together: int, budget_s: float = 3.0) -> Throughput:
    """Times training steps of the study's network on random images, for about `budget_s` seconds.

    `together` networks are stepped side by side; the throughput is that of all.

    Needs no dataset on this machine. Takes an import of Keras and torch besides.
    """
    import numpy as np

    from trainer import networks
    from trainer.datasets.batches import DeviceBatches, SideBySide
    from trainer.training.lowering import CannotLower
    from trainer.training.process import prepare_process
    from trainer.training.state import TrainingState
    from trainer.training.stepped import Member, SteppedModel

    source = datasets.find(config.dataset.name)
    if not source.mean:
        channels = source.input_shape[2]
        source = replace(source, mean=(0.5,) * channels, std=(0.25,) * channels)
    # A step of ImageNet's batch would take minutes and more memory than a laptop has.
    pixels = source.input_shape[0] * source.input_shape[1]
    batch = min(config.training.batch_size, max(1, _CALIBRATION_PIXELS // pixels))
    prepare_process()
    members = []
    for _ in range(max(2, together)):  # The first pays for what Keras does once.
        building = time.perf_counter()
        network = networks.build(
            config.network, input_shape=source.input_shape, classes=source.classes
        )
        state = TrainingState.of(network, config.training.optimizer)
        members.append(Member(network, state, lambda step: 1e-6))
        per_run_s = _FIXED_PER_RUN_S + _BUILDS_PER_RUN * (time.perf_counter() - building)
    members = members[:together]
    try:
        model = SteppedModel(*members, precision=config.training.precision)
    except CannotLower:
        members = members[:1]
        model = SteppedModel(*members, precision=config.training.precision)
    state = members[0].state
    rng = np.random.default_rng(0)
    split = datasets.Split(
        rng.integers(0, 256, (4 * batch, *source.input_shape), np.uint8),
        rng.integers(0, source.classes, 4 * batch),
    )
    batches: DeviceBatches | SideBySide = DeviceBatches(
        split, source, batch, state.device, epoch_seed=lambda epoch: epoch
    )
    if len(members) > 1:
        orders = [batches.again(lambda epoch, k=k: 1000 * k + epoch, 0) for k in range(together)]
        batches = SideBySide(orders, range(together))

    def steps() -> int:
        batches.on_epoch_begin()
        before = state.steps
        for data in batches.get_torch_dataloader():
            model.train_step(data)
            if time.perf_counter() - began > 2 * budget_s:
                break
        model.get_metrics_result()  # waits for the device
        return state.steps - before

    began = time.perf_counter()
    steps()
    began, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - began < budget_s:
        done += steps()
    rate = done * batch * len(members) / (time.perf_counter() - began)
    origin = f"{done} calibration steps at {rate:,.0f} images/s"
    return Throughput({"pretrain": rate}, origin, per_run_s)
