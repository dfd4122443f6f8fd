"""Reads a ticket back: initial weights and mask as a Keras model that is ready to train."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from jackpot import revisions, stores
from jackpot.contract import Artifact

if TYPE_CHECKING:
    import keras

    from jackpot.artifacts import Arrays, Mask


class LoadedTicket(NamedTuple):
    """A ticket.

    Attributes:
        model: built Keras model, at the ticket's initial weights, pruned weights 0.0.
        mask: boolean arrays by variable path, True where a weight survives; empty if dense.
    """

    model: "keras.Model"
    mask: "Mask"


def load_ticket(
    source: str | Path, tracking_uri: str | None = None, network: str | None = None
) -> LoadedTicket:
    """Loads a ticket from a folder or from an MLflow run.

    Args:
        source: a folder that holds `ticket/initial.safetensors` (and `ticket/mask.safetensors`
            for a sparse ticket), or the id of an MLflow run of the trainer.
        tracking_uri: the store that holds the run; default: $MLFLOW_TRACKING_URI, else
            `sqlite:///mlflow.db`.
        network: for a network of your own, its `package.module:function`: no module is imported
            because a file names it.

    Returns:
        The model and its mask. Training keeps the model sparse with `ApplyMask(mask)`.

    Raises:
        ArtifactError: no ticket there, or one that is damaged.
        StoreAway: the store or its artifacts cannot be reached.
        StoreRefused: no run of that id.

    Example:
        >>> model, mask = load_ticket("0a1b2c…")  # doctest: +SKIP
        >>> model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss=…)  # doctest: +SKIP
        >>> model.fit(images, labels, callbacks=[ApplyMask(mask)])  # doctest: +SKIP
    """
    folder = Path(source)
    if folder.is_dir():
        return _from_folder(folder, network)
    with TemporaryDirectory(prefix="jackpot-") as downloads:
        return _from_folder(_downloaded(str(source), tracking_uri, Path(downloads)), network)


def fill(model: "keras.Model", values: "Arrays", source: str) -> None:
    """Gives every variable of `model` its value.

    Args:
        model: built.
        values: by variable path; values that the model does not have are ignored.
        source: where they come from, for the error.

    Raises:
        ArtifactError: a variable without a value.
    """
    from jackpot.artifacts import ArtifactError

    for variable in model.variables:
        if variable.path not in values:
            raise ArtifactError(f"{source}: lacks '{variable.path}', which {model.name} has")
        variable.assign(values[variable.path])


def described(path: Path, about: dict[str, str], network: str | None = None) -> "keras.Model":
    """The network that a file of weights describes, with freshly drawn weights.

    Args:
        path: of the file, for errors.
        about: its metadata.
        network: see `load_ticket`.

    Raises:
        ArtifactError: it describes none, or one that is neither the trainer's nor `network`.
    """
    from jackpot.artifacts import ArtifactError
    from trainer import networks

    named = about.get("network", "")
    if named not in networks.NETWORKS and named != network:
        raise ArtifactError(
            f"{path}: holds network '{named}', which is not one of the trainer's; if it is yours, "
            f"say network='{named}'"
        )
    _check_revision(path, named, about.get("network_revision", "1"))
    try:
        input_shape = tuple(int(n) for n in about["input_shape"].split("x"))
        return networks.build(
            named,
            input_shape=input_shape,
            classes=int(about["classes"]),
            channels={int(own): int(new) for own, new in json.loads(about["channels"]).items()},
        )
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise ArtifactError(f"{path}: does not say which network it is: {error}") from None


def _check_revision(path: Path, network: str, revision: str) -> None:
    """Refuses weights of a revision that computes something else. Raises: ArtifactError."""
    from jackpot.artifacts import ArtifactError

    earlier = revisions.of_network(network)
    now = revisions.current(earlier)
    if not revision.isdecimal() or not 1 <= int(revision) <= now:
        raise ArtifactError(
            f"{path}: holds revision {revision} of {network}; this version builds revision {now}"
        )
    for then in earlier[int(revision) - 1 :]:
        if not then.same_function:
            raise ArtifactError(
                f"{path}: holds revision {revision} of {network}, which is another network than "
                f"revision {now}: {then.words}. The version that trained it can load it"
            )


def _downloaded(run_id: str, tracking_uri: str | None, into: Path) -> Path:

    from jackpot.artifacts import ArtifactError
    from trainer.store.tracking import Store

    if not run_id.isalnum():
        raise ArtifactError(f"'{run_id}' is neither a folder nor the id of an MLflow run")
    uri = tracking_uri or stores.tracking_uri()
    file = stores.sqlite_file(uri)
    if file is not None and not file.is_file():
        raise ArtifactError(f"'{run_id}' is no folder, and there is no store {uri}")
    folder = Artifact.TICKET_INITIAL.partition("/")[0]
    return Store(uri).fetch(run_id, folder, into).parent


def _from_folder(folder: Path, network: str | None) -> LoadedTicket:
    from jackpot import artifacts
    from trainer.pruning.masks import fitted

    mask: Mask = {}
    if (folder / Artifact.TICKET_MASK).exists():
        mask, _ = artifacts.read_mask(folder / Artifact.TICKET_MASK)
    path = folder / Artifact.TICKET_INITIAL
    initial, about = artifacts.read_weights(path, mask)
    model = described(path, about, network)
    mask = fitted(mask, {v.path: tuple(v.shape) for v in model.variables})
    fill(model, initial, str(path))
    return LoadedTicket(model, mask)
