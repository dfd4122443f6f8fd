"""Trains several runs of a plan at once with Ray, on one machine or a cluster.

Each group of runs that are stepped side by side is a Ray task that takes the outcomes of their
parents' groups, so Ray starts it when they have ended. A worker that dies is replaced, and its runs
resume from their checkpoints. On the driver's machine, all processes share the work directory, from
which the driver delivers. On another machine, a worker delivers its own results before its runs
count as ended.
"""

import logging
import math
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from jackpot import stores
from trainer import datasets
from trainer.execution import group_size
from trainer.execution.attempt import Attempts
from trainer.execution.outcome import Outcome, Status, skipped
from trainer.execution.record import Launch
from trainer.store.delivery import Delivery
from trainer.store.journal import WorkDir
from trainer.store.tracking import Store, StoreAway, StoreRefused
from trainer.study.config import DatasetChoice, Study
from trainer.study.groups import by_depth
from trainer.study.plan import Plan, RunSpec

try:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise ValueError(
        "--executor ray needs Ray: pip install 'jackpot[ray]' (in a checkout: .venv/bin/pip "
        "install -e '.[ray]')"
    ) from error

log = logging.getLogger(__name__)
_RETRIES = 5
_EXCHANGE_S, _WAIT_S = 0.5, 2.0
_PARENT_PATIENCE_S = _DELIVERY_PATIENCE_S = 300.0
# What workers on other machines need to know as well.
_PASSED_ON = (
    "TFDS_DATA_DIR",
    "JACKPOT_CACHE_DIR",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
)
# A process of torch with CUDA holds so much before a network is there.
_CUDA_CONTEXT = 700 * 2**20
_MOST_PER_GPU = 8
# Steps that show what a run takes of a GPU.
_WARM_UP, _MEASURED = 5, 20


@dataclass(frozen=True)
class RayOptions:
    """How to use Ray.

    Attributes:
        address: of a running cluster; None starts one on this machine.
        runs_per_device: runs that share a GPU, or all CPU cores where there is none; None: as
            many as fit.

    Raises:
        ValueError: fewer than one run per device.
    """

    address: str | None = None
    runs_per_device: int | None = None

    def __post_init__(self) -> None:
        if self.runs_per_device is not None and self.runs_per_device < 1:
            raise ValueError(
                f"--runs-per-device: expected 1 or more, received {self.runs_per_device}"
            )


@dataclass(frozen=True)
class _Context:
    """What a worker needs beside its runs: the launch, and where the driver is."""

    launch: Launch
    node: str
    threads: int


@dataclass
class Ray:
    """Trains the runs of a plan as Ray tasks, inside `connected`.

    Args:
        attempts: this process's own; each worker makes one for the same launch.
        config: the study.
        options: how to use Ray.
    """

    attempts: Attempts
    config: Study
    options: RayOptions

    def run(self, plan: Plan, known: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Trains what is not finished and returns the outcome of every run by key."""
        outcomes = dict(known)
        todo = [spec for spec in plan.runs if spec.key not in outcomes]
        try:
            self._run(todo, outcomes)
        except ray.exceptions.RayError as error:
            text = stores.one_line(error, 200)
            self.attempts.reporter.say(
                f"the Ray cluster is gone ({type(error).__name__}: {text}). Nothing is lost: "
                "the same command resumes the study"
            )
        return outcomes

    def _run(self, todo: list[RunSpec], outcomes: dict[str, Outcome]) -> None:
        """Fills in the outcome of each run as it ends."""
        share = self._share
        # On the driver's machine, which cannot be lost without the driver.
        node = ray.get_runtime_context().get_node_id()
        here = NodeAffinitySchedulingStrategy(node, soft=False)
        board = _ProgressBoard.options(  # type: ignore[attr-defined]  # Ray's decorator adds it.
            num_cpus=0, scheduling_strategy=here
        ).remote()
        context = ray.put(_Context(self.attempts.launch, node, share.threads))
        several = any(node["Resources"].get("GPU", 0) > 1 for node in ray.nodes())
        train = (_train_once if several else _train).options(
            num_cpus=share.cpus, num_gpus=share.gpus, max_retries=_RETRIES
        )
        groups: dict[Any, list[RunSpec]] = {}
        task_of: dict[str, Any] = {}
        for group in by_depth(todo, share.group_size, share.places):
            keys = dict.fromkeys(parent.key for spec in group for parent in spec.parents)
            known = {key: outcomes[key] for key in keys if key in outcomes}
            awaited = dict.fromkeys(task_of[key] for key in keys if key in task_of)
            task = train.remote(context, board, group, known, *awaited)
            groups[task] = group
            task_of |= {spec.key: task for spec in group}
        pending, stopped = list(groups), False
        while pending:
            ready, pending = ray.wait(pending, timeout=_EXCHANGE_S)
            self._report(ray.get(board.take.remote()))
            for task in ready:
                for key, outcome in self._ended(groups[task], task, outcomes).items():
                    outcomes[key] = outcome
                    self.attempts.delivery.alive.discard(key)
                    self.attempts.reporter.run_ended(outcome)
                    self.attempts.delivery.nudge()
            if self.attempts.stop.is_set() and not stopped:
                stopped = True
                ray.get(board.stop.remote())

    def _ended(
        self, group: list[RunSpec], task: Any, outcomes: dict[str, Outcome]
    ) -> dict[str, Outcome]:
        """How the runs of a group ended, without those that were stopped before they began."""
        try:
            return ray.get(task)
        except ray.exceptions.RayError as error:
            text = stores.one_line(error, 300)
            reason = f"its worker died {_RETRIES + 1} times: {type(error).__name__}: {text}"
            return {
                spec.key: skipped(spec, outcomes) or Outcome(spec, Status.FAILED, reason=reason)
                for spec in group
            }

    def _report(self, events: list[tuple[Any, ...]]) -> None:
        """Forwards the workers' events to the reporter."""
        reporter = self.attempts.reporter
        for kind, *told in events:
            if kind == "began":
                spec, epochs_done = told
                self.attempts.delivery.alive.add(spec.key)
                self.attempts.delivery.nudge()
                reporter.run_began(spec, epochs_done)
            elif kind == "epoch":
                reporter.epoch_ended(*told)
            else:
                reporter.say(*told)

    @cached_property
    def _share(self) -> "_Share":
        """The resources of each group of runs.

        On CPUs, a run has $OMP_NUM_THREADS threads, by default one: small networks train fastest in
        separate processes with one thread each. The result depends slightly on that number (the
        order of sums), so the serial executor needs the same number for bit-identical results.
        """
        there = ray.cluster_resources()
        cores, devices = int(there.get("CPU", 1)), int(there.get("GPU", 0))
        wanted, spread = self.options.runs_per_device, self.config.training.devices_per_run
        if spread > 1 and devices:
            # Such a run has whole devices, all of one machine.
            if wanted is not None:
                raise ValueError(
                    f"--runs-per-device {wanted}: runs with training.devices_per_run: {spread} "
                    "have whole devices"
                )
            most = max(int(node["Resources"].get("GPU", 0)) for node in ray.nodes())
            if most < spread:
                raise ValueError(
                    f"training.devices_per_run: {spread}, but no machine of the Ray cluster has "
                    f"more than {most} GPU(s)"
                )
            cpus = spread * min(1, cores / devices)
            return _Share(cpus, spread, max(1, cores // devices), 1, devices // spread)
        if not devices:
            threads = int(os.environ.get("OMP_NUM_THREADS", 1))
            cpus = min(threads * spread, cores) if wanted is None else max(cores / wanted, 1e-3)
            size = group_size.asked(self.config) or 1
            return _Share(cpus, 0, threads, size, max(1, int(cores / cpus)))
        size, fitting = self._measured(cores // devices)
        per_device = wanted or fitting
        cpus = cores / (devices * per_device)
        return _Share(cpus, 1 / per_device, max(1, int(cpus)), size, devices * per_device)

    def _measured(self, cores: int) -> tuple[int, int]:
        """Runs of a group, and groups that fit a GPU; `cores` of processors for each GPU."""
        measure = _measured_on_gpu.options(num_gpus=1)
        try:
            size, free, needed, busy = ray.get(
                measure.remote(self.config, str(self.attempts.work.path.absolute()))
            )
        except ray.exceptions.RayTaskError as error:
            text = stores.one_line(error.cause, 200)
            self.attempts.reporter.say(f"one run per GPU: measuring how many fit failed: {text}")
            return 1, 1
        return size, groups_per_gpu(free, needed, busy, cores)


@dataclass(frozen=True)
class _Share:
    """What each group has of the cluster, how large it is, and how many are trained at once."""

    cpus: float
    gpus: float
    threads: int
    group_size: int
    places: int


def groups_per_gpu(free: float, needed: float, busy: float, cores: int) -> int:
    """How many groups of runs share a GPU.

    Args:
        free: bytes of the GPU's memory that are free.
        needed: bytes that a group takes.
        busy: share of a group's time in which the GPU computes: groups beyond 1/busy only queue.
        cores: processor cores for each GPU: every group keeps one busy launching kernels.
    """
    return max(1, min(_MOST_PER_GPU, int(free // needed), math.ceil(1 / busy), cores))


# A process of its own, which gives back what it held of the GPU.
@ray.remote(max_calls=1)
def _measured_on_gpu(config: Study, work: str) -> tuple[int, float, float, float]:
    """Of a worker's GPU: runs of a group, free bytes, a group's bytes, and its share of time."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from trainer.execution import calibration

    size = group_size.here(config, WorkDir(Path(work)).speeds)
    steps = calibration.rehearsal(config, size)
    torch.cuda.reset_peak_memory_stats()
    steps(_WARM_UP)
    began = time.perf_counter()
    steps(_MEASURED)
    took = time.perf_counter() - began
    with profile(activities=[ProfilerActivity.CUDA]) as kernels:
        steps(_MEASURED)
    computing = sum(event.self_device_time_total for event in kernels.key_averages()) / 1e6
    source = datasets.find(config.dataset.name)
    images = 0 if source.streamed else source.train_size + source.test_size
    images *= math.prod(source.input_shape)
    needed = torch.cuda.max_memory_reserved() * 1.1 + images + _CUDA_CONTEXT
    free, _ = torch.cuda.mem_get_info()
    return size, free, needed, min(1.0, max(computing / took, 0.01))


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A connection to Ray, which is left as it was found.

    Args:
        address: of a running cluster; None starts one on this machine.

    Raises:
        ValueError: no Ray cluster at that address.
    """
    variables = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    variables |= {"KERAS_BACKEND": "torch"}
    started = not ray.is_initialized()
    if started:
        _answers(address)
        try:
            ray.init(
                # Left to itself, Ray would join whatever cluster was started here last.
                address=address or "local",
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": variables},
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            text = stores.one_line(error, 200)
            raise ValueError(f"--ray-address {address}: no Ray cluster answers: {text}") from None
    try:
        yield
    finally:
        if started:
            ray.shutdown()


def _answers(address: str | None) -> None:
    """Something listens at host:port: Ray itself would wait for minutes. Raises: ValueError."""
    host, colon, port = (address or "").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ValueError(f"--ray-address {address}: no Ray cluster answers: {error}") from None


@ray.remote
class _ProgressBoard:
    """Collects progress from workers, and tells them whether to stop."""

    def __init__(self) -> None:
        self._events: list[tuple[Any, ...]] = []
        self._stopped = False

    def exchange(self, events: list[tuple[Any, ...]]) -> bool:
        """Adds a worker's events, and returns whether the worker should stop."""
        self._events += events
        return self._stopped

    def take(self) -> list[tuple[Any, ...]]:
        """What was told since the last call."""
        events, self._events = self._events, []
        return events

    def stop(self) -> None:
        """From now on workers are told to stop."""
        self._stopped = True


class _BoardReporter:
    """A reporter that sends events to the board twice a second, and learns whether to stop."""

    def __init__(self, board: Any, stop: threading.Event) -> None:
        self._board, self._stop = board, stop
        self._events: list[tuple[Any, ...]] = []
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._exchange_often, daemon=True)

    def __enter__(self) -> "_BoardReporter":
        self._exchange()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._exchange()

    def run_began(self, spec: RunSpec, epochs_done: int) -> None:
        self._tell("began", spec, epochs_done)

    def epoch_ended(self, spec: RunSpec, epoch: int, metrics: dict[str, float]) -> None:
        self._tell("epoch", spec, epoch, metrics)

    def run_ended(self, outcome: Outcome) -> None:
        """The driver learns that from the task itself."""

    def say(self, message: str) -> None:
        self._tell("say", message)

    def _tell(self, *event: Any) -> None:
        with self._lock:
            self._events.append(event)

    def _exchange_often(self) -> None:
        while not self._over.wait(_EXCHANGE_S):
            self._exchange()

    def _exchange(self) -> None:
        with self._lock:
            events, self._events = self._events, []
        try:
            if ray.get(self._board.exchange.remote(events)):
                self._stop.set()
        except ray.exceptions.RayError:
            # The driver is gone: whatever is trained is kept, nobody waits for more.
            self._stop.set()


def _trained(
    context: _Context, board: Any, group: list[RunSpec], *parents: dict[str, Outcome]
) -> dict[str, Outcome]:
    """Trains runs side by side in a worker process, without those stopped before they began.

    Args:
        context, board: of the launch.
        group: the runs.
        parents: outcomes of their parents, by key.
    """
    import torch

    torch.set_num_threads(context.threads)
    stop = threading.Event()
    here = ray.get_runtime_context().get_node_id() == context.node
    launch = context.launch
    store, work = Store(launch.uri), WorkDir(Path(launch.work))
    delivery = Delivery(store, work)
    if not here:
        delivery.start()
    outcomes = {key: outcome for ended in parents for key, outcome in ended.items()}
    ended: dict[str, Outcome] = {}
    with _BoardReporter(board, stop) as reporter:
        attempts = Attempts(
            launch, store, work, delivery, lambda: _images(launch.dataset), reporter, stop
        )
        if not here:
            needed = {parent.key for spec in group for parent in spec.parents}
            _wait_for([outcomes[key] for key in needed if key in outcomes], store, stop)
        left = group
        while left and not stop.is_set():
            ended |= {s.key: o for s in left if (o := skipped(s, outcomes))}
            left = [spec for spec in left if spec.key not in ended]
            ended |= attempts.attempt([spec for spec in left if attempts.ready(spec, outcomes)])
            left = [spec for spec in left if spec.key not in ended]
            if left:
                stop.wait(_WAIT_S)
        undelivered = None if here else delivery.close(_DELIVERY_PATIENCE_S, set(ended))
        if undelivered is not None:
            for key in filter(work.finished, list(ended)):
                reason = undelivered.reason
                ended[key] = replace(ended[key], status=Status.FAILED, reason=reason)
    return ended


_train = ray.remote(_trained)
# On a machine of several GPUs: a process that has used one does not see another that Ray gives it.
_train_once = ray.remote(max_calls=1)(_trained)


def _wait_for(parents: Any, store: Store, stop: threading.Event) -> None:
    """Until parents that another machine trained have arrived in the store."""
    deadline = time.monotonic() + _PARENT_PATIENCE_S
    for parent in parents:
        while parent.status == Status.FINISHED and not stop.is_set():
            try:
                if store.finished_run(parent.spec.key) or time.monotonic() > deadline:
                    break
            except (StoreAway, StoreRefused):
                pass
            stop.wait(_WAIT_S)


@cache
def _loaded(chosen: str) -> Any:
    return datasets.as_chosen(DatasetChoice.model_validate_json(chosen))


def _images(chosen: DatasetChoice) -> Any:
    """The images, once per worker process."""
    return _loaded(chosen.model_dump_json())
