"""Networks of users' own through the command line: what is honoured, and what is said."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainer import stored

HEAD = "import keras\nL = keras.layers\n\n\ndef build(blocks, input_shape, classes):\n"
OWN = {
    "activation": """
    return keras.Sequential([
        keras.Input(input_shape), L.Conv2D(16, 3, activation="relu"), L.Flatten(),
        L.Dense(classes, name="classifier"),
    ])
""",
    "strided": """
    return keras.Sequential([
        keras.Input(input_shape), L.Conv2D(8, 3, strides=2, padding="same"), L.ReLU(),
        L.GlobalAveragePooling2D(), L.Dense(classes, name="classifier"),
    ])
""",
    "not together": """
    inputs = keras.Input(input_shape)
    x = L.Reshape((16, 4))(inputs)
    x = L.Conv1D(8, 3)(x)
    return keras.Model(inputs, L.Dense(classes, name="classifier")(L.Flatten()(x)))
""",
    "in place": """
    inputs = keras.Input(input_shape)
    x = L.RandomBrightness(0.1, value_range=(-2, 2))(L.Conv2D(3, 3)(inputs))
    return keras.Model(inputs, L.Dense(classes, name="classifier")(L.Flatten()(x)))
""",
    "head alone": """
    inputs = keras.Input(input_shape)
    body = keras.Sequential([keras.Input(input_shape), L.Conv2D(32, 3), L.Conv2D(64, 3)])
    x = L.GlobalAveragePooling2D()(body(inputs))
    return keras.Model(inputs, L.Dense(classes, name="top")(x))
""",
    "no kernel": """
    class Means(L.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(classes,), name="scale")

        def call(self, x):
            return keras.ops.mean(x, axis=(1, 2, 3))[:, None] * self.scale

    inputs = keras.Input(input_shape)
    return keras.Model(inputs, Means()(inputs))
""",
    "batch norm of one": """
    inputs = keras.Input(input_shape)
    x = L.BatchNormalization(name="norm")(L.Dense(8, name="body")(L.Flatten()(inputs)))
    return keras.Model(inputs, L.Dense(classes, name="classifier")(x))
""",
    "subclassed": """
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.flat, self.body = L.Flatten(), L.Dense(8, name="body")
            self.top = L.Dense(classes, name="classifier")

        def call(self, x, training=None):
            return self.top(self.body(self.flat(x)))

    net = Net()
    net(keras.Input(input_shape))
    return net
""",
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a network as a module and returns its name in a config."""

    def write(case: str) -> str:
        name = f"own_{case.replace(' ', '_')}"
        (tmp_path / f"{name}.py").write_text(HEAD + OWN[case])
        return f"{name}:build"

    monkeypatch.syspath_prepend(tmp_path)
    return write


@pytest.mark.parametrize("case", ["activation", "strided", "not together", "in place"])
def test_runs_side_by_side_or_one_by_one_are_trained(
    case: str, own, write_config, store_uri: str, train, caplog
):
    config = write_config(
        network=own(case),
        settings="[lt]",
        pruners="[omp]",
        learning_rates="[0.05, 0.01]",
        fuse="2",
        training="{epochs: 2, batch_size: 64}",
    )
    assert train(config) == 0
    runs = stored.runs(store_uri)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 4
    together = case in ("activation", "strided")
    assert ("one after another, not side by side" in caplog.text) != together
    assert all(("fused" in run.data.tags) == together for run in runs)


@pytest.mark.parametrize(
    ("case", "more", "code", "words"),
    [
        ("head alone", [], 0, "own_head_alone:build: prunes 640 of 19,466 weights, in 1 layers."),
        ("head alone", [], 0, "Most weights are elsewhere, and sparsities do not count them"),
        ("head alone", ["pruning.layers=['tpo']"], 2, "'tpo' matches no layer with a kernel"),
        (
            "batch norm of one",
            ["dataset.train_images=129"],
            2,
            "leaves one of 129 images for the last batch, of which batch norm 'norm' cannot take",
        ),
        ("batch norm of one", ["dataset.train_images=130"], 0, "prunes"),
        ("no kernel", [], 2, "has no layer with a kernel, which is what is pruned"),
        ("subclassed", [], 0, "own_subclassed:build: prunes 512 of 610 weights"),
    ],
)
def test_a_dry_run_says_what_a_launch_would(
    case: str, more: list[str], code: int, words: str, own, write_config, train, capsys
):
    config = write_config(network=own(case), settings="[lt]", pruners="[omp]")
    sets = [part for override in more for part in ("--set", override)]
    assert train(config, "--dry-run", *sets) == code
    said = capsys.readouterr()
    assert words in " ".join((said.out + said.err).split())
