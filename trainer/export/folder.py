"""A ticket's folder for a model hub: plain torch, `.keras`, the ticket's own files, and a card."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import polars as pl
from safetensors.numpy import save_file

from jackpot import artifacts, contrasts, wording
from jackpot.card import card
from jackpot.conditions import CONDITIONS, Criteria, with_beside
from jackpot.contract import Artifact, Metric, Param
from jackpot.definition import judge
from trainer.export import keras_file, plain_torch
from trainer.store.ticket import described, fill
from trainer.store.tracking import Store, StoredRun

Which = Literal["initial", "final"]
_LOADING = {
    "PyTorch (`pip install torch safetensors`)": "from model import load\n\n"
    "network = load('model.safetensors')  # logits of images, (batch, channels, height, width)",
    "Keras": "import keras\n\nmodel = keras.models.load_model('model.keras')  # channels last",
    "Jackpot": "from trainer.pruning.callbacks import ApplyMask\n"
    "from trainer.store.ticket import load_ticket\n\n"
    "model, mask = load_ticket('.')\nmodel.fit(…, callbacks=[ApplyMask(mask)])",
}


def write(
    store: Store, run_id: str, target: Path, which: Which = "initial", network: str | None = None
) -> list[str]:
    """Writes a ticket's folder.

    Args:
        store: that holds the run.
        run_id: of a finished run.
        target: folder, which is made; it must be empty.
        which: the weights of `model.safetensors` and `model.keras`: those that the run starts from,
            or those that it ended with. The ticket's own files hold the former.
        network: see `trainer.store.ticket.load_ticket`.

    Returns:
        What a user should know, a sentence each.

    Raises:
        ArtifactError: a file of the run is damaged, or does not say which network it is.
        StoreAway, StoreRefused: the store, or no such run.
        ValueError: the folder is not empty.
        CannotExport: the plain torch network does not compute what Keras computes.
    """
    if target.exists() and any(target.iterdir()):
        raise ValueError(f"{target} is not empty: name a new folder")
    run = store.run(run_id)
    with TemporaryDirectory(prefix="jackpot-") as downloads:
        folder = store.fetch(run_id, Artifact.TICKET_INITIAL.partition("/")[0], Path(downloads))
        mask: artifacts.Mask = {}
        masked = folder.parent / Artifact.TICKET_MASK
        if masked.exists():
            mask, _ = artifacts.read_mask(masked)
        name = Artifact.TICKET_INITIAL if which == "initial" else Artifact.WEIGHTS_FINAL
        path = store.fetch(run_id, name, Path(downloads))
        values, about = artifacts.read_weights(path, mask)
        model = described(path, about, network)
        fill(model, values, str(path))
        target.mkdir(parents=True, exist_ok=True)
        (target / "ticket").mkdir()
        for file in folder.glob("*.safetensors"):
            shutil.copyfile(file, target / "ticket" / file.name)
    title = f"{about.get('run_name', run_id)}, {which} weights"
    said, loading = [], dict(_LOADING)
    try:
        exported = plain_torch.of_keras(model, mask, f"{run.params.get('network', '')}: {title}")
        away = plain_torch.verified(exported, model)
    except plain_torch.CannotExport as reason:
        if "off that of Keras" in str(reason):
            raise
        said.append(f"No plain torch: {reason}.")
        del loading[next(iter(loading))]
    else:
        (target / "model.py").write_text(exported.source)
        arrays = {k: np.ascontiguousarray(v) for k, v in exported.state.items()}
        save_file(arrays, target / "model.safetensors", {"format": "pt"})
        said.append(f"Plain torch computes the same logits, within {away:.0e} of the largest.")
    keras_file.write(target / "model.keras", model, mask)
    facts = {str(p): run.params[p] for p in Param if p in run.params}
    accuracy = run.metrics.get(Metric.VAL_ACCURACY)
    if accuracy is not None:
        facts["test accuracy after its training"] = f"{100 * accuracy:.2f} %"
    text = card(title, facts, _lineage(run), verdict(store, run), loading)
    (target / "README.md").write_text(text, encoding="utf-8")
    return said


def _lineage(run: StoredRun) -> list[str]:
    said = [f"study {run.study}", f"MLflow run {run.run_id}, run key {run.key}"]
    if run.init_run_id:
        said.append(f"initial weights from run {run.init_run_id}")
    if run.mask_run_id:
        said.append(f"mask pruned from the weights of run {run.mask_run_id}")
    return [*said, f"dataset {run.params.get(Param.DATASET, '')}, SHA-256 {run.dataset_sha256}"]


def verdict(store: Store, run: StoredRun) -> str:
    """What the definition says of a run's ticket, in its study; empty if it is no ticket there.

    Raises:
        StoreAway: the store does not answer.
    """
    pruner, setting = run.params.get(Param.PRUNER), run.params.get(Param.SETTING, "")
    if pruner is None:
        return ""
    runs = store.finished(run.params[Param.NETWORK], run.params[Param.DATASET]).values()
    rows = [_row(other) for other in runs if other.study == run.study]
    frame = pl.DataFrame(rows, infer_schema_length=None).unique(
        ["setting", "pruner", "sparsity", "learning_rate", "pretrain_learning_rate", "trial"]
    )
    try:
        criteria = Criteria(ticket=setting)
        conditions = with_beside(CONDITIONS, frame["setting"], setting)
        found = judge(frame, criteria, conditions=conditions)
    except (ValueError, KeyError):
        return ""
    sparsity = float(run.params[Param.SPARSITY])
    for judgement in found:
        if judgement.pruner == pruner and abs(judgement.sparsity - sparsity) < 1e-9:
            marks = ", ".join(
                f"{one.condition.name} {contrasts.MARKS[one.decision]}"
                for one in judgement.conditions
            )
            return (
                f"{setting} under {pruner} at {wording.sparsity(sparsity)}, over learning rates "
                f"and {judgement.trials[1]} trials: {judgement.verdict} (by the means alone: "
                f"{judgement.point_verdict}). Conditions: {marks}."
            )
    return ""


def _row(run: StoredRun) -> dict[str, object]:
    params = run.params
    number = {
        name: float(params[name]) if name in params else None
        for name in (Param.SPARSITY, Param.LEARNING_RATE, Param.PRETRAIN_LEARNING_RATE)
    }
    rewound = int(params.get(Param.REWIND_EPOCH, 0))
    return {
        "network": params[Param.NETWORK],
        "dataset": params[Param.DATASET],
        "setting": params[Param.SETTING],
        "pruner": params.get(Param.PRUNER),
        **{str(name): value for name, value in number.items()},
        "trial": int(params[Param.TRIAL]),
        "accuracy": run.metrics.get(Metric.VAL_ACCURACY),
        "epochs": int(params[Param.EPOCHS]) + rewound,
    }
