"""A ticket's folder for a model hub: plain torch, `.keras`, the ticket's own files, and a card."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import polars as pl
from safetensors.numpy import save_file

from jackpot import artifacts, citation
from jackpot.card import card, with_jackpot
from jackpot.conditions import CONDITIONS, Criteria, with_beside, with_said
from jackpot.contract import Artifact, Metric, Param
from jackpot.definition import judge
from jackpot.looks import LookThen
from jackpot.settings import SETTINGS
from jackpot.trials import below
from trainer import datasets
from trainer.export import keras_file, plain_torch
from trainer.store.ticket import described, fill
from trainer.store.tracking import Store, StoreAway, StoredRun, StoreRefused

Which = Literal["initial", "final"]
# Sparsities that are this close are one.
_SAME = 1e-9
_TORCH, _KERAS = "PyTorch (`pip install torch safetensors`)", "Keras"


def _loading(shape: tuple[int, ...], network: str) -> dict[str, str]:
    """How each file of a network is loaded, for inputs of a shape."""
    inputs = ", ".join(map(str, ("batch", *shape)))
    takes = f"# logits of features, ({inputs})"
    torchs, keras_ = takes, takes
    if len(shape) == 3:
        height, width, channels = shape
        torchs = f"# logits of images, (batch, {channels}, {height}, {width})"
        keras_ = f"# logits of images, ({inputs})"
    return {
        _TORCH: f"from model import load\n\nnetwork = load('model.safetensors')  {torchs}",
        _KERAS: f"import keras\n\nmodel = keras.models.load_model('model.keras')  {keras_}",
        "Jackpot": with_jackpot(network),
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
        ValueError: the folder is not empty, or the run has not finished.
        CannotExport: the plain torch network does not compute what Keras computes.
    """
    if target.exists() and any(target.iterdir()):
        raise ValueError(f"{target} is not empty: name a new folder")
    run = store.run(run_id)
    if run.status != "FINISHED":
        raise ValueError(f"run {run_id} is {run.status}: only what has finished is taken away")
    with TemporaryDirectory(prefix="jackpot-") as made:
        whole = Path(made) / "whole"
        whole.mkdir()
        said = _write(store, run, whole, which, network)
        # All of it or nothing.
        shutil.copytree(whole, target, dirs_exist_ok=True)
    return said


def _write(
    store: Store, run: StoredRun, target: Path, which: Which, network: str | None
) -> list[str]:
    with TemporaryDirectory(prefix="jackpot-") as downloads:
        ticket = Artifact.TICKET_INITIAL.partition("/")[0]
        folder = store.fetch(run.run_id, ticket, Path(downloads))
        mask: artifacts.Mask = {}
        masked = folder.parent / Artifact.TICKET_MASK
        if masked.exists():
            mask, _ = artifacts.read_mask(masked)
        name = Artifact.TICKET_INITIAL if which == "initial" else Artifact.WEIGHTS_FINAL
        path = store.fetch(run.run_id, name, Path(downloads))
        values, about = artifacts.read_weights(path, mask)
        (target / "ticket").mkdir()
        for file in folder.glob("*.safetensors"):
            shutil.copyfile(file, target / "ticket" / file.name)
    model = described(path, about, network)
    fill(model, values, str(path))
    title = f"{about.get('run_name', run.run_id)}, {which} weights"
    shape = tuple(model.inputs[0].shape[1:])
    said, loading = [], _loading(shape, about.get("network", ""))
    try:
        exported = plain_torch.of_keras(model, mask, f"{run.params.get('network', '')}: {title}")
    except plain_torch.CannotExport as reason:
        said.append(f"No plain torch: {reason}.")
        del loading[_TORCH]
    else:
        away = plain_torch.verified(exported, model)
        (target / "model.py").write_text(exported.source, encoding="utf-8")
        arrays = {k: np.ascontiguousarray(v) for k, v in exported.state.items()}
        save_file(arrays, target / "model.safetensors", {"format": "pt"})
        said.append(f"Plain torch computes the same logits, within {away:.0e} of the largest.")
    others = keras_file.write(target / "model.keras", model, mask)
    if others:
        modules = "".join(f"import {m}\n" for m in sorted({o.partition(":")[0] for o in others}))
        loading[_KERAS] = f"{modules}{loading[_KERAS]}"
        said.append(f"model.keras has layers that are not Keras's own: {', '.join(others)}.")
    facts = {str(p): run.params[p] for p in Param if p in run.params}
    source = datasets.DATASETS.get(run.params.get(Param.DATASET, ""))
    if source is not None and source.mean:
        mean, std = (", ".join(f"{x:g}" for x in values) for values in (source.mean, source.std))
        facts["inputs"] = f"pixels / 255, less ({mean}), over ({std})"
    elif source is None and len(shape) == 3:
        facts["inputs"] = (
            "pixels of 0 to 255: over 255, less the mean and over the standard deviation of the "
            "training images, by channel; features: as they are"
        )
    accuracy = run.metrics.get(Metric.VAL_ACCURACY)
    if accuracy is not None:
        facts["test accuracy after its training"] = f"{100 * accuracy:.2f} %"
    task = "image-classification" if len(shape) == 3 else ""
    text = card(title, facts, _lineage(run), verdict(store, run), loading, task)
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
    """What the definition says of a run's ticket, in its launch; empty if it is no ticket there.

    By the study's own criteria. Of an adaptive study, what its last look has recorded.

    Raises:
        StoreAway: the store does not answer.
    """
    pruner, row = run.params.get(Param.PRUNER), SETTINGS.get(run.params.get(Param.SETTING, ""))
    if pruner is None or row is None or not row.is_ticket or not run.launch_id:
        return ""
    # The study may have been launched again, for more trials.
    launches = dict.fromkeys([*store.launches(run.study), run.launch_id])
    found = ((launch_id, _planned(store, launch_id)) for launch_id in launches)
    launch_id, planned = next(
        ((i, plan) for i, plan in found if plan is not None and run.key in plan.runs), ("", None)
    )
    if planned is None:
        return ""
    sparsity = float(run.params[Param.SPARSITY])
    looks = [look for look in planned.looks if look.tickets]
    if looks and planned.criteria.ticket == row.name:
        for ticket in looks[-1].tickets:
            if ticket.pruner == pruner and abs(ticket.sparsity - sparsity) < _SAME:
                return citation.recorded(row.name, ticket, run.study, launch_id)
        return ""
    about = run.params[Param.NETWORK], run.params[Param.DATASET]
    finished, diverged = store.finished(*about), store.diverged(*about)
    rows = [
        _row(other.params, other.metrics.get(Metric.VAL_ACCURACY))
        for key, other in finished.items()
        if key in planned.runs
    ]
    if not rows:
        return ""
    others = {key: params for key, params in planned.runs.items() if key not in finished}
    rows += [_row(params, None, "FAILED") for key, params in others.items() if key in diverged]
    parents = ((key, params.get("parent_run_keys") or ()) for key, params in others.items())
    lost = {*diverged, *below(parents, diverged)}
    waiting = [_row(params, None) for key, params in others.items() if key not in lost]
    frame = pl.DataFrame(rows, infer_schema_length=None)
    own = replace(planned.criteria, ticket=row.name)
    conditions = with_beside(CONDITIONS, frame["setting"], row.name)
    pending = pl.DataFrame(waiting, infer_schema_length=None) if waiting else None
    for judgement in judge(frame, own, pending, conditions):
        if judgement.pruner == pruner and abs(judgement.sparsity - sparsity) < _SAME:
            return citation.text(judgement, run.study, launch_id, "last")
    return ""


@dataclass(frozen=True)
class _Planned:
    """What a launch planned: the study's criteria, its looks, and params of its runs by key."""

    criteria: Criteria
    looks: tuple[LookThen, ...]
    runs: Mapping[str, Mapping[str, str]]


def _planned(store: Store, launch_id: str) -> _Planned | None:
    """None if it cannot be read."""
    with TemporaryDirectory(prefix="jackpot-") as folder:
        try:
            path = store.fetch(launch_id, Artifact.LAUNCH_PLAN, Path(folder))
            plan = json.loads(path.read_text(encoding="utf-8"))
            return _Planned(
                with_said(Criteria(), plan.get("criteria", {})),
                tuple(map(LookThen.of, plan.get("looks", []))),
                {planned["run_key"]: dict(planned) for planned in plan["runs"]},
            )
        except (StoreAway, StoreRefused, AttributeError, KeyError, ValueError, TypeError, OSError):
            return None


def _row(
    params: Mapping[str, str], accuracy: float | None, status: str = "FINISHED"
) -> dict[str, object]:
    """A run as `jackpot.judge` takes it, by its params."""
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
        "accuracy": accuracy,
        "status": status,
        "epochs": int(params[Param.EPOCHS]) + rewound,
    }
