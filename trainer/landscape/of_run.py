"""A run's loss landscape: its artifacts → plane → surface → artifact of the run."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import numpy as np
from rich.progress import Progress

from jackpot import artifacts, revisions
from jackpot.contract import (
    FILTER_LENGTHS,
    TRAJECTORY,
    Artifact,
    Param,
    Tag,
    landscape_artifact,
    trajectory_artifact,
)
from trainer import datasets
from trainer.landscape import plane as planes
from trainer.landscape import surface
from trainer.landscape.plane import Vector
from trainer.launch import work_dir
from trainer.store.ticket import described, fill
from trainer.store.tracking import Store, StoredRun

if TYPE_CHECKING:
    import keras

    from trainer.datasets import Dataset, Source, Split, Stream

# Images that are measured at once: no more than suits the device, but enough for batch norm.
_MOST, _LEAST = 1000, 64


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        directions: `pca` of the trajectory, or `random` and filter-normalised.
        batch_norm: `re-estimated`: the statistics are those of the images at each point; `fixed`:
            those of the final weights everywhere, with which the loss explodes beside them.
        points: of the grid along each side.
        images: first training images to measure on.
        margin: room around the path, as a share of its extent (pca).
        extent: half of the grid's side, in lengths of the filters (random).
        seed: of random directions.

    Raises:
        ValueError: a number out of range.
    """

    directions: Literal["pca", "random"] = "pca"
    batch_norm: Literal["re-estimated", "fixed"] = "re-estimated"
    points: int = 25
    images: int = 1000
    margin: float = 0.3
    extent: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("points", self.points, 2),
            ("images", self.images, 1),
            ("margin", self.margin, 0),
        ):
            if value < least:
                raise ValueError(f"--{name}: expected {least} or more, received {value}")
        if self.extent <= 0:
            raise ValueError(f"--extent: expected a number above 0, received {self.extent}")


@dataclass(frozen=True)
class Kept:
    """What a run kept of its way.

    Attributes:
        about: metadata of its final weights.
        final: all variables by path.
        mask: empty for a dense network.
        epochs: epochs of the schedule done at each point of the trajectory.
        trajectory: all variables at those points, from the initial to the final weights.
    """

    about: dict[str, str]
    final: artifacts.Arrays
    mask: artifacts.Mask
    epochs: list[int]
    trajectory: list[artifacts.Arrays]


def landscape(
    store: Store,
    run_id: str,
    options: Options,
    network: str | None = None,
    own_dataset: str | None = None,
) -> str:
    """Measures a run's landscape, stores it as an artifact of the run, and says what it did.

    Coordinates are in lengths of the filters, see `trainer.landscape.plane`. Points of the
    trajectory are projected on the plane: the loss drawn under one is the plane's, not its own.

    Args:
        store: that holds the run.
        run_id: of a finished run.
        options: how.
        network: see `trainer.store.ticket.load_ticket`.
        own_dataset: see `images_of`.

    Raises:
        ArtifactError: a file of the run is gone or damaged, or it kept no trajectory.
        DatasetError: the images are not available.
        StoreAway, StoreRefused: the store cannot be reached, or has no such run.
        ValueError: a trajectory that spans no plane, or a run that is none of the trainer's.
    """
    run = store.run(run_id)
    dataset = images_of(run, options.images, own_dataset)
    with TemporaryDirectory(prefix="jackpot-") as downloads:
        kept = _kept(store, run_id, run.params, Path(downloads), options.directions)
    from trainer.keras_internals import batch_norms

    model = described(Path(Artifact.WEIGHTS_FINAL), kept.about, network)
    fill(model, kept.final, Artifact.WEIGHTS_FINAL)
    with Progress(transient=True) as bar:
        rows = bar.add_task(f"{run_id[:8]}: rows of the grid", total=options.points)
        identity = {
            **{name: str(value) for name, value in asdict(options).items()},
            "batch_norm": options.batch_norm if batch_norms(model) else "none",
            "units": FILTER_LENGTHS,
            "run_id": run_id,
            "dataset_sha256": dataset.digest,
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        progress = work_dir(store).path / "landscape" / f"{digest}.safetensors"
        arrays = measured(
            model, kept, dataset, options, progress, identity, lambda _: bar.advance(rows)
        )
    name = landscape_artifact(options.directions, options.batch_norm)
    keep(store, run_id, name, Tag.LANDSCAPE, identity, arrays)
    progress.unlink()
    loss = arrays["loss"][np.isfinite(arrays["loss"])]
    return (
        f"Measured {options.points} × {options.points} points on {len(dataset.train):,} training "
        f"images: loss from {loss.min():.3g} to {loss.max():.3g}. It is stored with run {run_id}; "
        "the explorer's page Loss landscape draws it."
    )


def measured(
    model: "keras.Model",
    kept: Kept,
    dataset: "Dataset",
    options: Options,
    progress: Path,
    identity: dict[str, str],
    on_row: Callable[[int], None] = lambda row: None,
) -> artifacts.Arrays:
    """The arrays of the artifact: grid, loss, accuracy, and the training's path on the plane.

    Args:
        model: the run's network, with its final weights; it is left at other ones.
        kept: what the run kept.
        dataset: images to measure on.
        options: how.
        progress, identity, on_row: see `surface.measure`.

    Raises:
        ValueError: a trajectory that spans no plane.
    """
    trainable = [v.path for v in model.trainable_variables]
    trajectory = [{path: weights[path] for path in trainable} for weights in kept.trajectory]
    if options.directions == "pca":
        plane = planes.principal(trajectory)
    else:
        final = {path: kept.final[path] for path in trainable}
        plane = planes.random(final, kept.mask, np.random.default_rng(options.seed))
    path = plane.project(np.stack([planes.vector(weights) for weights in trajectory]))
    if options.directions == "pca":
        a, b = surface.around(path, options.points, options.margin)
    else:
        a = b = np.linspace(-options.extent, options.extent, options.points)
    split = dataset.train
    statistics = split if options.batch_norm == "re-estimated" else None
    at = measuring(model, trainable, split, dataset.source, statistics)
    found = surface.measure(plane, a, b, at, progress, identity, on_row)
    arrays = asdict(found) | {"path": path, "epochs": np.array(kept.epochs)}
    if plane.explained is not None:
        arrays["explained"] = np.array(plane.explained)
    return arrays


def _check_revision(run_id: str, params: dict[str, str]) -> None:
    """Refuses a run whose images were prepared otherwise than they are now. Raises: ValueError."""
    name = params[Param.DATASET]
    now = revisions.current(revisions.of_dataset(name))
    then = params.get(Param.DATASET_REVISION, "1")
    if then != str(now):
        raise ValueError(
            f"run {run_id} was trained on revision {then} of {name}; this version reads revision "
            f"{now}. The version that trained it can measure its landscape"
        )


def images_of(run: StoredRun, count: int, own_dataset: str | None = None) -> "Dataset":
    """A run's dataset, with its first `count` training images and its test images.

    Args:
        run: of the trainer.
        count: of training images.
        own_dataset: for a dataset of your own, its `package.module:function`: no module is imported
            because a store names it.

    Raises:
        DatasetError: the images are not available.
        ValueError: a run that is none of the trainer's, or images that are not those of the run.
    """
    params = run.params
    if not {Param.DATASET, Param.EPOCHS} <= set(params):
        raise ValueError(
            f"run {run.run_id} is not a training run of the trainer: it names no dataset"
        )
    _check_revision(run.run_id, params)
    name = params[Param.DATASET]
    known = name in datasets.DATASETS or datasets.TFDS.fullmatch(name)
    if not known and name != own_dataset:
        raise ValueError(
            f"run {run.run_id} was trained on '{name}', which is not one of the trainer's "
            f"datasets; if it is yours, say --dataset {name}"
        )
    dataset = datasets.load(name)
    if run.dataset_sha256 not in ("", dataset.digest, dataset.earlier_digest):
        raise ValueError(
            f"run {run.run_id} was trained on other images that were called {dataset.name!r} too: "
            f"SHA-256 {run.dataset_sha256[:12]}…, these have {dataset.digest[:12]}…"
        )
    count = min(count, int(params.get(Param.TRAIN_IMAGES, len(dataset.train))))
    tested = int(params.get(Param.TEST_IMAGES, len(dataset.test)))
    return replace(dataset, train=dataset.train.part(0, count), test=dataset.test.part(0, tested))


def _kept(store: Store, run_id: str, params: dict[str, str], into: Path, directions: str) -> Kept:
    def fetched(name: str) -> Path:
        return store.fetch(run_id, name, into)

    mask: artifacts.Mask = {}
    if Artifact.TICKET_MASK in store.listed(run_id, "ticket"):
        mask, _ = artifacts.read_mask(fetched(Artifact.TICKET_MASK))
    final, about = artifacts.read_weights(fetched(Artifact.WEIGHTS_FINAL), mask)
    first, _ = artifacts.read_weights(fetched(Artifact.TICKET_INITIAL), mask)
    numbers = [
        int(found[1])
        for name in store.listed(run_id, TRAJECTORY)
        if (found := re.fullmatch(rf"{TRAJECTORY}/epoch-(\d+)\.safetensors", name))
    ]
    if directions == "pca" and not numbers:
        raise artifacts.ArtifactError(
            f"run {run_id} kept no trajectory. Set trajectory_every in its study, delete the run "
            "in MLflow and launch the study again; or choose --directions random"
        )
    between = [
        artifacts.read_weights(fetched(trajectory_artifact(n)), mask)[0] for n in sorted(numbers)
    ]
    began = int(params.get(Param.REWIND_EPOCH, 0))
    last = began + int(params[Param.EPOCHS])
    epochs, trajectory = [began, *sorted(numbers)], [first, *between]
    if epochs[-1] != last:
        epochs, trajectory = [*epochs, last], [*trajectory, final]
    return Kept(about, final, mask, epochs, trajectory)


def measuring(
    model: "keras.Model",
    paths: list[str],
    split: "Split | Stream",
    source: "Source",
    estimated_on: "Split | Stream | None",
) -> surface.Measure:
    """Measures loss and accuracy at given weights, on the device.

    Args:
        model: whose variables at `paths` are given, one after another.
        paths: of variables.
        split: images to measure on.
        source: normalises them.
        estimated_on: images of which batch norm's statistics are estimated at each point; None:
            they stay, unless they are among the given variables.
    """
    import torch

    from trainer.datasets.batches import batches, evaluation_batch
    from trainer.landscape.statistics import Statistics
    from trainer.study.optimizers import SGD
    from trainer.training.process import prepare_process
    from trainer.training.state import TrainingState
    from trainer.training.stepped import Member, SteppedModel

    prepare_process()
    statistics = Statistics(model) if estimated_on is not None else None
    state = TrainingState.fresh(model, SGD(name="sgd"))
    stepped = SteppedModel(Member(model, state, lambda step: 0.0))
    known = state.weights | state.statistics
    tensors = [known[path] for path in paths]
    device = tensors[0].device
    size = min(_MOST, max(_LEAST, evaluation_batch(source, 1, device)))
    images = batches(split, source, size, device)
    others = images
    if estimated_on is not None and estimated_on is not split:
        others = batches(estimated_on, source, size, device)
    sizes = [tensor.numel() for tensor in tensors]

    @torch.no_grad()
    def at(vector: Vector) -> tuple[float, float]:
        parts = torch.from_numpy(vector).to(device).split(sizes)
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.reshape(tensor.shape))
        if statistics is not None:
            statistics.estimate(stepped.stepper.lowered, others)
        (found,) = stepped.measure(images)
        return found["loss"], found["accuracy"]

    return at


def keep(
    store: Store,
    run_id: str,
    name: str,
    tag: Tag,
    identity: dict[str, str],
    arrays: artifacts.Arrays,
) -> None:
    """Stores what was measured as a run's artifact, and in a tag which there are.

    Args:
        store: of the run.
        run_id: of the run.
        name: of the artifact; the tag lists the names in its folder.
        tag: to be set.
        identity, arrays: metadata and contents.

    Raises:
        StoreAway, StoreRefused: the store cannot be reached, or refuses it.
    """
    with TemporaryDirectory(prefix="jackpot-") as folder:
        file = Path(folder) / name
        artifacts.write(file, arrays, identity)
        store.put(run_id, file, name)
    kinds = {Path(listed).stem for listed in store.listed(run_id, Path(name).parts[0])}
    store.log(run_id, [], {tag: ",".join(sorted(kinds))})
