"""Tickets that are taken away: what strangers load computes what Keras computed."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file
from torch.nn.utils import prune

from jackpot.card import card
from jackpot.stores import sqlite_file
from tests import configs
from tests.trainer import stored
from trainer import networks
from trainer.export import folder, keras_file, plain_torch
from trainer.export.__main__ import main
from trainer.pruning import masks
from trainer.pruning.scores import magnitude
from trainer.store.ticket import load_ticket

NETWORKS = {
    "lenet-300-100": (8, 8, 1),
    "resnet20": (16, 16, 3),
    "resnet32-no-residual": (16, 16, 3),
    "resnet18": (136, 136, 3),
    "mobilenet-v1": (32, 32, 3),
    "vgg16": (32, 32, 3),
}


def pruned(name: str, shape: tuple[int, ...]) -> tuple[keras.Model, dict[str, np.ndarray]]:
    """A network with statistics as after training, and a mask of three quarters of its weights."""
    model = networks.build(name, input_shape=shape, classes=10, seed=1)
    generator = torch.Generator().manual_seed(0)
    for variable in model.variables:
        if not variable.path.endswith("kernel"):
            variable.assign(torch.rand(variable.shape, generator=generator) + 0.5)
    found = networks.find(name)
    kernels = masks.kernels(model, masks.pruned_paths(model, found.pruned, found.kept))
    mask = masks.prune(magnitude(kernels), 0.75)
    for variable in model.variables:
        if variable.path in mask:
            variable.assign(variable.numpy() * mask[variable.path])
    return model, mask


SLOW = ("resnet18", "vgg16")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NETWORKS]
)
def test_plain_torch_computes_what_keras_computes(name: str):
    model, mask = pruned(name, NETWORKS[name])
    exported = plain_torch.of_keras(model, mask, "a ticket")
    assert plain_torch.verified(exported, model) < 1e-5
    assert "import keras" not in exported.source
    assert "jackpot" not in exported.source
    kept = [a for n, a in exported.state.items() if n.endswith("weight_mask")]
    assert sum(int(a.sum()) for a in kept) == sum(int(m.sum()) for m in mask.values())
    assert set(exported.state) & {n.replace("_mask", "_orig") for n in exported.state}


def test_a_network_that_differs_is_refused():
    model, mask = pruned("lenet-300-100", (8, 8, 1))
    exported = plain_torch.of_keras(model, mask)
    exported.state["hidden1.bias"] = exported.state["hidden1.bias"] + 1
    with pytest.raises(plain_torch.CannotExport, match="off that of Keras"):
        plain_torch.verified(exported, model)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda: keras.layers.LayerNormalization(name="n"), "LayerNormalization 'n' has no plain"),
        (lambda: keras.layers.Dense(4, "relu", name="d"), "Dense 'd' has no plain torch form"),
        (lambda: keras.layers.ReLU(max_value=6, name="r"), "ReLU 'r' has no plain torch form"),
    ],
)
def test_what_has_no_plain_form_is_refused_by_name(layer, words: str):
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(layer()(inputs)))
    with pytest.raises(plain_torch.CannotExport, match=words):
        plain_torch.of_keras(model)


def test_a_keras_file_has_keras_own_layers_and_the_same_outputs(tmp_path: Path):
    model, mask = pruned("resnet20", (16, 16, 3))
    keras_file.write(tmp_path / "model.keras", model, mask)
    # In a process that knows nothing of this program.
    images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys, keras, numpy as np\n"
        "model = keras.models.load_model('model.keras')\n"
        "assert not any(m.startswith(('trainer', 'jackpot')) for m in sys.modules)\n"
        "np.save('logits.npy', keras.ops.convert_to_numpy(model(np.load('images.npy'))))\n"
        "print(sum(int((keras.ops.convert_to_numpy(v) == 0).sum()) for v in model.variables))\n"
    )
    script = tmp_path / "load.py"
    script.write_text(code)
    ran = subprocess.run(
        [sys.executable, "-P", str(script)],
        cwd=tmp_path,
        env={"KERAS_BACKEND": "torch", "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    with torch.no_grad():
        expected = model(torch.from_numpy(images), training=False).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=1e-4, atol=1e-4)
    assert int(ran.stdout) >= sum(int((~entry).sum()) for entry in mask.values())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, _empty_database: Path) -> str:
    return configs.trained(
        tmp_path_factory.mktemp("export"),
        _empty_database,
        configs.tiny(
            tmp_path_factory.mktemp("config"), settings="[pretrain, lt, rr, sdt]"
        ).read_text(),
    )


@pytest.mark.parametrize("which", ["initial", "final"])
def test_a_folder_for_a_hub(study: str, tmp_path: Path, which: str, capsys):
    run = stored.labelled(study)["lt-imp s=0.750"]
    target = tmp_path / "ticket"
    arguments = [run.info.run_id, str(target), "--tracking-uri", study, "--weights", which]
    assert main(arguments) == 0
    assert "computes the same logits" in capsys.readouterr().out
    assert {path.name for path in target.iterdir()} == {
        *("README.md", "model.keras", "model.py", "model.safetensors", "ticket"),
    }
    # A stranger's steps: torch and safetensors alone.
    scope: dict = {"__name__": "model"}
    exec((target / "model.py").read_text(), scope)
    network = scope["load"](str(target / "model.safetensors"))
    name = f"{'ticket/initial' if which == 'initial' else 'weights/final'}.safetensors"
    weights, mask = stored.weights(run, name), stored.mask(run)
    images = torch.randn(5, 1, 8, 8)
    x = images.permute(0, 2, 3, 1).flatten(1).numpy()
    for layer in ("hidden1", "hidden2"):
        x = np.maximum(x @ weights[f"{layer}/kernel"] + weights[f"{layer}/bias"], 0)
    expected = x @ weights["classifier/kernel"] + weights["classifier/bias"]
    with torch.no_grad():
        np.testing.assert_allclose(network(images).numpy(), expected, rtol=1e-4, atol=1e-4)
    # Pruned weights stay 0 while it is trained, and when the masks are made permanent.
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        network(images).square().sum().backward()
        optimizer.step()
    assert prune.is_pruned(network.hidden1)
    prune.remove(network.hidden1, "weight")
    kept = torch.from_numpy(mask["hidden1/kernel"].T.copy())
    assert not network.hidden1.weight[~kept].any()
    assert network.hidden1.weight[kept].any()
    # Jackpot's own way back.
    _, again = load_ticket(target)
    assert all((again[path] == mask[path]).all() for path in mask)
    card = (target / "README.md").read_text()
    for words in (
        "less (0.3053), over (0.3761)",
        "lottery-ticket",
        run.info.run_id,
        "of lenet-300-100 on digits at sparsity 0.750",
        "- ① non-trivial sparsity and sufficient epochs: ",
        "lenet-300-100",
    ):
        assert words in card
    assert load_file(target / "model.safetensors")["hidden1.weight_mask"].shape == (300, 64)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "nonsense"),
        (["0" * 32], "not found"),
    ],
)
def test_a_run_that_is_not_there_is_one_sentence(
    study: str, tmp_path: Path, arguments: list[str], words: str, capsys
):
    code = main([*arguments, str(tmp_path / "x"), "--tracking-uri", study])
    assert code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert not (tmp_path / "x").exists()


def test_a_folder_that_is_in_use_is_left_alone(study: str, tmp_path: Path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    run = stored.labelled(study)["lt-imp s=0.750"]
    assert main([run.info.run_id, str(tmp_path), "--tracking-uri", study]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_a_store_says_of_itself_is_no_code(tmp_path: Path):
    """A run's name becomes part of `model.py`."""
    model, mask = pruned("lenet-300-100", (8, 8, 1))
    about = f'x"""\nopen({str(tmp_path / "owned")!r}, "w")\n"""\\'
    exported = plain_torch.of_keras(model, mask, about)
    assert plain_torch.verified(exported, model) < 1e-5
    assert not (tmp_path / "owned").exists()
    assert "\\" not in exported.source.split("Plain PyTorch")[0]
    assert card(about, {"network": "a|b\n# c"}, ["<b>"], "", {}).count("\n# ") == 1


def test_only_tickets_have_a_verdict(study: str, tmp_path: Path):
    run = stored.labelled(study)["rr-imp s=0.750"]
    assert main([run.info.run_id, str(tmp_path / "x"), "--tracking-uri", study]) == 0
    assert "It was not judged" in (tmp_path / "x" / "README.md").read_text()


def test_layers_with_names_that_torch_cannot_have_are_renamed():
    inputs = keras.Input((5,))
    x = keras.layers.Dropout(0.5, name="forward")(keras.layers.Dense(4, name="1st")(inputs))
    x = keras.layers.Dense(4, name="a-b")(keras.layers.Dense(4, name="training")(x))
    x = keras.layers.Dense(4, name="a_b")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="train")(x))
    exported = plain_torch.of_keras(model)
    assert plain_torch.verified(exported, model) < 1e-5
    copy = keras_file.of_plain_layers(model)
    images = np.ones((2, 5), "float32")
    np.testing.assert_allclose(copy(images).detach(), model(images).detach())
    assert keras_file.not_of_keras(copy) == []
    vit = networks.build("vit-small", input_shape=(16, 16, 3), classes=10)
    assert "trainer.networks.layers:SelfAttention" in keras_file.not_of_keras(vit)


@pytest.mark.parametrize(
    ("shape", "layer"),
    [
        ((4, 4, 2), keras.layers.Dense(3, name="head")),
        ((5, 8), keras.layers.BatchNormalization(name="norm")),
    ],
)
def test_what_torch_lays_out_otherwise_has_no_plain_form(shape: tuple, layer: keras.layers.Layer):
    """It is refused as a layer, so that the rest of the folder is written."""
    inputs = keras.Input(shape)
    with pytest.raises(plain_torch.CannotExport, match=f"'{layer.name}' has no plain torch form"):
        plain_torch.of_keras(keras.Model(inputs, layer(inputs)))


def copied(study: str, tmp_path: Path) -> tuple[str, MlflowClient]:
    """The study's store, to be changed; its artifacts are those of the first."""
    with (
        closing(sqlite3.connect(sqlite_file(study))) as theirs,
        closing(sqlite3.connect(tmp_path / "mlflow.db")) as ours,
    ):
        theirs.backup(ours)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    return uri, MlflowClient(uri)


def said(uri: str, run_id: str, target: Path) -> str:
    assert main([run_id, str(target), "--tracking-uri", uri]) == 0
    return (target / "README.md").read_text().partition("## Verdict")[2].partition("##")[0]


def test_the_card_waits_for_runs_to_come_and_knows_of_those_that_diverged(
    study: str, tmp_path: Path
):
    uri, client = copied(study, tmp_path)
    runs = stored.labelled(uri)
    ticket, rival = (runs[name].info.run_id for name in ("lt-imp s=0.750", "rr-imp s=0.750"))
    whole = said(uri, ticket, tmp_path / "whole")
    assert "to come" not in whole
    client.delete_run(rival)
    assert "So far: 1 planned run to come" in said(uri, ticket, tmp_path / "waiting")
    client.restore_run(rival)
    client.set_tag(rival, "failure", "loss became nan in epoch 1")
    client.set_terminated(rival, "FAILED")
    diverged = said(uri, ticket, tmp_path / "diverged")
    assert "to come" not in diverged
    assert diverged != whole
    third = next(line for line in diverged.splitlines() if "③" in line)
    assert ": runs are missing" in third or ": holds" in third


def test_a_ticket_whose_plan_is_gone_was_not_judged(study: str, tmp_path: Path):
    uri, client = copied(study, tmp_path)
    run = stored.labelled(uri)["lt-imp s=0.750"]
    client.delete_run(run.data.tags["mlflow.parentRunId"])
    client.set_tag(run.info.run_id, "mlflow.parentRunId", "0" * 32)
    assert "It was not judged" in said(uri, run.info.run_id, tmp_path / "x")


def planned_by(client: MlflowClient, run, plan: dict, folder: Path) -> None:
    """Says that a launch with another plan trained a run, and no other."""
    client.delete_run(run.data.tags["mlflow.parentRunId"])
    launch = client.create_run(
        run.info.experiment_id, tags={"kind": "launch", "study": run.data.tags["study"]}
    )
    (folder / "plan.json").write_text(json.dumps(plan))
    client.log_artifact(launch.info.run_id, str(folder / "plan.json"))
    client.set_tag(run.info.run_id, "mlflow.parentRunId", launch.info.run_id)


@pytest.mark.parametrize(
    "plan",
    [
        {"runs": [{"name": "without a key"}]},
        {"runs": 3},
        [],
        {"runs": [], "looks": [{"tickets": [{"pruner": "imp", "sparsity": 0.75}]}]},
    ],
)
def test_a_ticket_whose_plan_is_damaged_was_not_judged(study: str, tmp_path: Path, plan):
    uri, client = copied(study, tmp_path)
    run = stored.labelled(uri)["lt-imp s=0.750"]
    planned_by(client, run, plan, tmp_path)
    assert "It was not judged" in said(uri, run.info.run_id, tmp_path / "x")


@pytest.mark.parametrize("verdict", ["none", "jackpot"])
def test_the_card_of_an_adaptive_study_says_what_its_last_look_did(
    study: str, tmp_path: Path, verdict: str
):
    uri, client = copied(study, tmp_path)
    run = stored.labelled(uri)["lt-imp s=0.750"]
    ticket = {
        **{"pruner": "imp", "sparsity": 0.75, "verdict": verdict, "standing": "decided"},
        **{"look": 2, "decisions": {"1": "holds", "2": None, "3": "fails"}},
        **{"margins": {}, "needs": {}},
    }
    looks = [
        {
            **{"number": n, "trials": 2 * n, "share": 0.1, "runs": 4, "rates": [0.1]},
            **{"grown": [], "tickets": tickets, "why": ""},
        }
        # Of the last, runs are missing.
        for n, tickets in ((1, [ticket | {"look": 1}]), (2, [ticket]), (3, []))
    ]
    planned_by(
        client, run, {"runs": [{"run_key": run.data.tags["run_key"]}], "looks": looks}, tmp_path
    )
    words = {"none": "is no winning ticket", "jackpot": "is a jackpot ticket"}[verdict]
    card = said(uri, run.info.run_id, tmp_path / "x")
    assert f"LT-IMP at sparsity 0.750 {words}, by look 2 of its study." in card
    assert "1 ✓, 2 ?, 3 ×" in card


def test_a_store_that_was_moved_with_its_artifacts_is_read(study: str, tmp_path: Path):
    run = stored.labelled(study)["lt-imp s=0.750"]
    first = sqlite_file(study).parent
    shutil.copytree(first / "mlartifacts", tmp_path / "mlartifacts")
    uri, _ = copied(study, tmp_path)
    away = first.rename(first.with_name("away"))
    try:
        assert main([run.info.run_id, str(tmp_path / "x"), "--tracking-uri", uri]) == 0
    finally:
        away.rename(first)
    model, mask = load_ticket(tmp_path / "x")
    assert mask
    assert model.count_params() > 0


def test_a_card_says_what_goes_in(tmp_path: Path):
    text = card("x", {"network": "lenet-300-100"}, [], "", {}, "")
    assert "pipeline_tag" not in text
    for shape, words in (((40,), "features, (batch, 40)"), ((8, 9, 3), "(batch, 3, 8, 9)")):
        assert any(words in code for code in folder._loading(shape, "lenet-300-100").values())
    own = folder._loading((40,), "mine:net")["Jackpot"]
    assert 'load_ticket(".", network="mine:net")' in own
