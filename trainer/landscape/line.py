"""Loss and accuracy on the straight line between the final weights of two runs.

Two copies of a network that differ in the order of their images end in one basin if there is no
barrier between them (Frankle et al. 2020); so do the networks of neighbouring IMP rounds, under the
mask of the later one, if pruning stays within a basin (Paul et al. 2023).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import numpy as np
from rich.progress import Progress

from jackpot import artifacts
from jackpot.connectivity import barrier
from jackpot.contract import Artifact, Param, Tag, connectivity_artifact
from trainer.landscape.of_run import images_of, keep, measuring
from trainer.store.ticket import described, fill
from trainer.store.tracking import Store, StoredRun

if TYPE_CHECKING:
    import keras

    from trainer.datasets import Dataset


@dataclass(frozen=True)
class LineOptions:
    """How to measure.

    Attributes:
        batch_norm: `re-estimated`: the statistics are those of training images at each point;
            `fixed`: those of the two ends, interpolated as the weights are.
        points: on the line, both ends included.
        images: first training images that statistics are estimated on.

    Raises:
        ValueError: a number out of range.
    """

    batch_norm: Literal["re-estimated", "fixed"] = "re-estimated"
    points: int = 25
    images: int = 1000

    def __post_init__(self) -> None:
        if self.points < 3:
            raise ValueError(f"--points: expected 3 or more on a line, received {self.points}")
        if self.images < 1:
            raise ValueError(f"--images: expected 1 or more, received {self.images}")


def line(
    store: Store,
    run_id: str,
    other_id: str,
    options: LineOptions,
    network: str | None = None,
    own_dataset: str | None = None,
) -> str:
    """Measures the line on the test images, stores it with the first run, and says what it found.

    Args:
        store: that holds both runs.
        run_id, other_id: of finished runs of one network and dataset. If the mask of one was pruned
            from the final weights of the other, both ends are taken under that mask.
        options: how.
        network: see `trainer.store.ticket.load_ticket`.
        own_dataset: see `images_of`.

    Raises:
        ArtifactError: a file of a run is gone or damaged.
        DatasetError: the images are not available.
        StoreAway, StoreRefused: the store cannot be reached, or has no such run.
        ValueError: runs of different networks or images.
    """
    if run_id == other_id:
        raise ValueError(f"--to: {other_id} is the run itself; name another one")
    runs = [store.run(found) for found in (run_id, other_id)]
    _check_alike(runs)
    dataset = images_of(runs[0], options.images, own_dataset)
    with TemporaryDirectory(prefix="jackpot-") as downloads:
        kept = [_final(store, run.run_id, Path(downloads) / run.run_id) for run in runs]
    ends, masks, about = [k[0] for k in kept], [k[1] for k in kept], kept[0][2]
    if {p: w.shape for p, w in ends[0].items()} != {p: w.shape for p, w in ends[1].items()}:
        raise ValueError("the runs' networks are of other widths: there is no line between them")
    shared = ""
    for i, j in ((0, 1), (1, 0)):
        if runs[j].mask_run_id == runs[i].run_id:
            ends[i] = {p: w * masks[j].get(p, 1) for p, w in ends[i].items()}
            shared = f", both under the mask of {runs[j].run_id}"
    model = described(Path(Artifact.WEIGHTS_FINAL), about, network)
    fill(model, ends[0], Artifact.WEIGHTS_FINAL)
    with Progress(transient=True) as bar:
        task = bar.add_task("points of the line", total=options.points)
        arrays = measured(model, ends, dataset, options, lambda: bar.advance(task))
    identity = {
        "run_id": run_id,
        "other_run_id": other_id,
        "batch_norm": options.batch_norm,
        "dataset_sha256": dataset.digest,
    }
    name = connectivity_artifact(other_id, options.batch_norm)
    keep(store, run_id, name, Tag.CONNECTIVITY, identity, arrays)
    found = barrier(arrays["alpha"], 1 - arrays["accuracy"])
    return (
        f"Error barrier {100 * found.height:.2f} points at α = {found.alpha:g} on "
        f"{len(dataset.test):,} test images (ends {100 * found.ends[0]:.2f} and "
        f"{100 * found.ends[1]:.2f} %){shared}. It is stored with run {run_id}; the explorer's "
        "page Runs and tickets draws it."
    )


def measured(
    model: "keras.Model",
    ends: list[artifacts.Arrays],
    dataset: "Dataset",
    options: LineOptions,
    on_point: Callable[[], None] = lambda: None,
) -> artifacts.Arrays:
    """`alpha`, and `loss` and `accuracy` on the test images there, shape (points,).

    Args:
        model: of both ends; it is left at other weights.
        ends: all variables by path.
        dataset: whose test images are measured, and training images give the statistics.
        options: how.
        on_point: called after each point.
    """
    paths = [v.path for v in model.variables if v.value.is_floating_point()]
    vectors = [np.concatenate([end[p].ravel() for p in paths]) for end in ends]
    statistics = dataset.train if options.batch_norm == "re-estimated" else None
    at = measuring(model, paths, dataset.test, dataset.source, statistics)
    alpha = np.linspace(0, 1, options.points)
    found = []
    for share in alpha:
        between = (1 - share) * vectors[0] + share * vectors[1]
        found.append(at(between.astype(np.float32)))
        on_point()
    loss, accuracy = np.array(found).T
    return {"alpha": alpha, "loss": loss, "accuracy": accuracy}


def _check_alike(runs: list[StoredRun]) -> None:
    for name in (Param.NETWORK, Param.DATASET, Param.NETWORK_REVISION, Param.TEST_IMAGES):
        values = [run.params.get(name) for run in runs]
        if values[0] != values[1]:
            raise ValueError(f"the runs have {name} {values[0]} and {values[1]}: expected one")
    digests = [run.dataset_sha256 for run in runs]
    if digests[0] != digests[1]:
        raise ValueError("the runs were trained on other images of one name")


def _final(
    store: Store, run_id: str, into: Path
) -> tuple[artifacts.Arrays, artifacts.Mask, dict[str, str]]:
    into.mkdir()
    mask: artifacts.Mask = {}
    if Artifact.TICKET_MASK in store.listed(run_id, "ticket"):
        mask, _ = artifacts.read_mask(store.fetch(run_id, Artifact.TICKET_MASK, into))
    path = store.fetch(run_id, Artifact.WEIGHTS_FINAL, into)
    weights, about = artifacts.read_weights(path, mask)
    return weights, mask, about
