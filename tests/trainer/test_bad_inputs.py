"""Bad input of every kind gets one clear sentence, in which the thing and the place are named."""

import sys
from pathlib import Path

import pytest

from mlflow_server.copy import main as copy
from tests.configs import tiny
from trainer.cli import main
from trainer.landscape.__main__ import main as landscape

MODULE = """
import keras

L = keras.layers
not_callable = 3
score = lambda look: {}


def raises(blocks, shape, classes):
    raise RuntimeError("boom")


def no_arguments():
    pass


def exits(blocks, shape, classes):
    raise SystemExit(3)


def words(blocks, shape, classes):
    return "a model"


def layers(blocks, shape, classes):
    return [keras.Input(shape)]


def draws(blocks, shape, classes):
    inputs = keras.Input(shape)
    return keras.Model(inputs, L.Dense(classes, name="end")(L.RandomCrop(4, 4)(inputs)))
"""
OVERRIDES = [
    ("network=mods:raises", "cannot be built for inputs of 8 × 8 × 1: RuntimeError: boom (mods.py"),
    ("network=mods:no_arguments", "takes 0 positional arguments but 3 were given"),
    ("network=mods:not_callable", "expected a function, found a int"),
    ("network=mods:exits", "SystemExit: 3 (mods.py, line "),
    ("network=mods:words", "returned str: expected a built keras.Model"),
    ("network=mods:layers", "returned list: expected a built keras.Model"),
    ("network=mods:draws", "returns outputs of shape (None, 4, 4, 10): expected (None, 10)"),
    ("network=mods:missing", "module 'mods' has no 'missing'"),
    ("network=wrong_syntax:f", "SyntaxError: invalid syntax (wrong_syntax.py, line 1)"),
    ("network=imports_nothing:f", "cannot be imported: No module named 'nothing_of_this_name'"),
    ("network=ends_python:f", "cannot be imported: SystemExit: 4 (ends_python.py, line 1)"),
    ("network=no_such_module:f", "there is no module 'no_such_module'"),
    ("network=../../x:y", "unknown network '../../x:y'"),
    ("network=''", "unknown network ''"),
    ("pruners=[mods:score]", "expected a Pruner, found a function"),
    ("pruners=[mods:missing]", "module 'mods' has no 'missing'"),
    ("pruners=[]", "at least 1 item"),
    ("learning_rates=[0]", "learning_rates[0]: should be greater than 0, found 0"),
    ("learning_rates=[-0.1]", "should be greater than 0, found -0.1"),
    ("learning_rates=[fast]", "should be a valid number, found 'fast'"),
    ("learning_rates=0.1", "should be a valid list, found 0.1"),
    ("learning_rates=[]", "at least 1 item"),
    ("learning_rates=[0.1, 0.10]", "0.1 is named twice"),
    ("learning_rates=[true]", "should be a valid number, found True"),
    ("learning_rates=[1e400]", "should be a finite number, found inf"),
    ("learning_rates=[.nan]", "should be a finite number, found nan"),
    ("learning_rates.9=0.1", "'9' is not an index of a list of 1"),
    ("trials=2.5", "trials: should be a valid integer, found 2.5"),
    ("trials=0", "should be greater than or equal to 1, found 0"),
    ("trials=[1", "the value is not valid YAML: expected ',' or ']'"),
    ("trials.x=1", "'trials' is 1 (int), it has no keys of its own"),
    ("seed=-1", "seed: should be greater than or equal to 0"),
    ("seed=4294967296", "seed: should be less than 4294967296"),
    ("study=a/b", "study: expected a name of letters"),
    ("study=..", "study: expected a name of letters"),
    ("study=🎰", "study: expected a name of letters"),
    ("dataset=null", "dataset: should be a valid dictionary"),
    ("dataset=cifar-10", "did you mean 'cifar10'?"),
    (
        "dataset=tfds:no_such_thing_xyz",
        "Dataset no_such_thing_xyz not found.",
    ),
    ("dataset=tfds:UPPER", "unknown dataset 'tfds:UPPER'"),
    ("dataset.test_images=0", "dataset.test_images: should be greater than or equal to 1"),
    ("dataset.test_images=360", "digits has 359 images there, not 360"),
    ("dataset.validation_images=256", "256 leave no image to train on"),
    ("dataset.augmentation.pad=65", "should be less than or equal to 64"),
    ("training.epochs=null", "training.epochs: should be a valid integer, found nothing"),
    ("training.epochs=0", "should be greater than or equal to 1"),
    ("training.schedule={name: step, milestones: [2, 1]}", "milestones must ascend"),
    ("training.schedule={name: step, milestones: [99]}", "milestone 99 is never reached"),
    ("training.schedule={name: linear}", "'name' must be one of 'step', 'cosine', 'constant'"),
    ("training.warmup_epochs=99", "warm-up of 99 epochs is longer than the training of 3"),
    ("training.optimizer={name: lion}", "unknown optimizer 'lion'; known here: sgd, adam, adamw"),
    ("training.optimizer={name: sgd, momentum: 1.5}", "momentum: should be less than 1"),
    ("training.optimizer={name: adam, momentum: 0.9}", "unknown key; known here: name, weight_dec"),
    ("training.label_smoothing=1.0", "should be less than 1, found 1.0"),
    ("training.mixup=-1", "training.mixup: should be greater than or equal to 0"),
    ("training.precision=float16", "did you mean 'bfloat16'?"),
    ("training.devices_per_run=65", "should be less than or equal to 64"),
    ("training.rewind_epoch=3", "rewind epoch 3 leaves nothing to train"),
    ("training.epoch=3", "unknown key; did you mean 'epochs'?"),
    ("pruning.sparsities=[1.0]", "should be less than 1, found 1.0"),
    ("pruning.sparsities=[75]", "should be less than 1, found 75"),
    ("pruning.fraction=0", "pruning.fraction: should be greater than 0"),
    ("pruning.layers=[3]", "pruning.layers[0]: should be a valid string, found 3"),
    ("pruning.layers=['[']", "'[' matches no layer with a kernel"),
    ("pruning.mask_epoch=first", "expected 'last' or 'best', found 'first'"),
    ("settings=[ltt]", "unknown setting 'ltt'; did you mean 'lt'?"),
    ("settings=lt", "settings: should be a valid list, found 'lt'"),
    ("fuse=always", "fuse: expected 'auto' or 'off', found 'always'"),
    ("criteria.tolerance=2", "should be less than or equal to 1, found 2"),
    ("training.epochs", "expected key=value with a dotted key"),
    ("=3", "expected key=value with a dotted key"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with modules in which something is wrong."""
    (tmp_path / "mods.py").write_text(MODULE)
    (tmp_path / "wrong_syntax.py").write_text("def f(:\n")
    (tmp_path / "imports_nothing.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "ends_python.py").write_text("raise SystemExit(4)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("mods", None)


@pytest.mark.parametrize(("override", "words"), OVERRIDES)
def test_a_config(override: str, words: str, folder: Path, capsys):
    before = {path.name for path in folder.iterdir()} | {"tiny.yaml", "__pycache__"}
    uri = f"sqlite:///{folder}/mlflow.db"
    arguments = ["--config", str(tiny(folder)), "--tracking-uri", uri, "--dry-run"]
    assert main([*arguments, "--set", override]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ")
    assert "\n" not in said, "one sentence"
    assert words in said
    assert {path.name for path in folder.iterdir()} <= before, "nothing was made"


@pytest.mark.parametrize(
    ("program", "arguments", "words"),
    [
        (main, ["--config", "."], "cannot be read as text"),
        (main, ["--config", "/bin/ls"], "cannot be read as text"),
        (main, ["--config", "tinny.yaml"], "no such file; did you mean tiny.yaml?"),
        (main, ["--config", "/dev/null"], "expected a mapping of keys"),
        (main, ["--config", "tiny.yaml", "--tracking-uri", "ftp://x"], "expected sqlite:///"),
        (main, ["--config", "tiny.yaml", "--tracking-uri", "file:///tmp/x"], "expected sqlite:///"),
        (main, ["--config", "tiny.yaml", "--ray-address", "auto"], "need --executor ray"),
        (
            main,
            ["--config", "tiny.yaml", "--executor", "ray", "--runs-per-device", "-1"],
            "--runs-per-device: expected 1 or more, received -1",
        ),
        (landscape, ["--run", "x", "--tracking-uri", "sqlite:///none.db"], "there is no such file"),
        (landscape, ["--run", "x", "--points", "1"], "--points: expected 2 or more"),
        (landscape, ["--run", "x", "--extent", "0"], "--extent: expected a number above 0"),
        (copy, ["sqlite:///none.db", "sqlite:///new.db"], "there is no such file"),
        (copy, ["sqlite:///tiny.yaml", "sqlite:///new.db"], "cannot be read as a database"),
        (copy, ["what", "sqlite:///new.db"], "expected sqlite:///"),
    ],
)
def test_a_command(program, arguments: list[str], words: str, folder: Path, capsys):
    tiny(folder)
    before = {path.name for path in folder.iterdir()}
    assert program(arguments) == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "\n" not in said, "one sentence"
    assert {path.name for path in folder.iterdir()} == before, "nothing was made"
