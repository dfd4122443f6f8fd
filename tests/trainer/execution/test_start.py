"""What a launch says, before it trains, of the network that it is given."""

from pathlib import Path

import numpy as np
import pytest

from tests.trainer import stored

TRANSFORMER = '''
import keras


def build(blocks, input_shape, classes):
    """Rows of the image as words: one block of attention, one layer between."""
    inputs = keras.Input(input_shape)
    x = keras.layers.Reshape((8, 8))(inputs)
    x = keras.layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = keras.layers.Dense(16, activation="relu", name="between")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, blocks.dense(x, classes, name="classifier"))
'''


@pytest.fixture
def transformer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    (tmp_path / "transformer.py").write_text(TRANSFORMER)
    monkeypatch.syspath_prepend(str(tmp_path))
    return {
        "network": '"transformer:build"',
        "dataset": "{name: digits, train_images: 128, test_images: 50}",
        "settings": "[pretrain, lt]",
        "pruners": "[omp]",
        "training": "{epochs: 1, batch_size: 64}",
    }


def test_kernels_that_are_not_pruned_are_named_with_their_share(
    write_config, store_uri, train, capsys, transformer
):
    """Attention has four kernels of 8·2·4 weights, the layer that is pruned 8·16."""
    assert train(write_config(**transformer)) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "kernels inside composite layers are not pruned: attention/query/kernel," in said
    assert "They hold 256 of 384 weights (67%), and sparsities count the other 128" in said
    assert "To prune them, name them in pruning.layers, such as 'attention/*'" in said


def test_named_kernels_inside_a_layer_are_pruned_and_train_under_the_mask(
    write_config, store_uri, train, capsys, transformer
):
    layers = '{sparsities: [0.75], layers: ["attention/*", between]}'
    assert train(write_config(**transformer | {"pruning": layers})) == 0
    assert "not pruned" not in capsys.readouterr().out
    (ticket,) = [r for r in stored.runs(store_uri) if r.data.params["setting"] == "lt"]
    mask, trained = stored.mask(ticket), stored.weights(ticket)
    assert sum(entry.size for entry in mask.values()) == 384
    assert sum(int((~entry).sum()) for entry in mask.values()) == 288
    assert len(mask) == 5
    for path, entry in mask.items():
        assert (trained[path][~entry] == 0).all()
        assert np.count_nonzero(trained[path]) == entry.sum()


def test_a_rule_for_masks_that_forgets_a_layer_is_refused(
    write_config, train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    """Else that layer would be trained whole, at a sparsity that is logged as if it were pruned."""
    (tmp_path / "forgetful.py").write_text(
        "from jackpot.settings import Setting, Weights\n"
        "def first(mask, rng):\n"
        "    return dict(list(mask.items())[:1])\n"
        "one = Setting('one', label='ONE', colour='#0f93a8', weights=Weights.KEPT, mask=first)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = write_config(settings="['forgetful:one']", pruners="[random]")
    assert train(config) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "its rule for masks gave none of" in said
    assert "expected one of each of 2 kernels, received 1" in said
