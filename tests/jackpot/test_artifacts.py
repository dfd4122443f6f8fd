from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jackpot import artifacts

MASKS = st.lists(
    hnp.arrays(bool, hnp.array_shapes(max_dims=4, max_side=7)), min_size=1, max_size=3
).map(lambda found: {f"z{9 - i}/kernel": entry for i, entry in enumerate(found)})


@settings(max_examples=50)
@given(MASKS)
def test_masks_and_sparse_weights_come_back(tmp_path_factory, mask):
    folder = tmp_path_factory.mktemp("files")
    artifacts.write_mask(folder / "mask.safetensors", mask, {"network": "x"})
    found, about = artifacts.read_mask(folder / "mask.safetensors")
    assert list(found) == list(mask), "in the order of the network"
    assert about["network"] == "x"
    for path, entry in mask.items():
        np.testing.assert_array_equal(found[path], entry)
    rng = np.random.default_rng(0)
    weights = {p: rng.normal(size=m.shape).astype(np.float32) * m for p, m in mask.items()}
    weights["norm/gamma"] = np.ones(3, np.float32)
    artifacts.write_weights(folder / "final.safetensors", weights, {}, mask)
    back, _ = artifacts.read_weights(folder / "final.safetensors", mask)
    for path, array in weights.items():
        np.testing.assert_array_equal(back[path], array)


def test_only_survivors_take_space(tmp_path: Path):
    weights = {"a/kernel": np.ones(80_000, np.float32)}
    mask = {"a/kernel": np.arange(80_000) % 10 == 0}
    artifacts.write_weights(tmp_path / "w.safetensors", weights, {}, mask)
    artifacts.write_mask(tmp_path / "m.safetensors", mask, {})
    assert (tmp_path / "w.safetensors").stat().st_size < 8_000 * 4 + 1000
    assert (tmp_path / "m.safetensors").stat().st_size < 10_000 + 1000


@settings(max_examples=60)
@given(data=st.data())
def test_any_flipped_bit_is_noticed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("files")
    path = folder / "w.safetensors"
    artifacts.write_weights(path, {"a/kernel": np.arange(12, dtype=np.float32)}, {"network": "x"})
    whole = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    path.write_bytes(whole)
    try:
        arrays, about = artifacts.read_weights(path)
    except artifacts.ArtifactError:
        return
    # A flip in the header's padding changes nothing that is read.
    assert about["network"] == "x"
    np.testing.assert_array_equal(arrays["a/kernel"], np.arange(12))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_bytes(b"\x80\x04K\x01."), "damaged"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage, words):
    path = tmp_path / "w.safetensors"
    artifacts.write_weights(path, {"a": np.ones(3)}, {})
    damage(path)
    with pytest.raises(artifacts.ArtifactError, match=words) as caught:
        artifacts.read_weights(path)
    assert str(path) in str(caught.value)


def test_foreign_and_mismatched_files_are_refused(tmp_path: Path):
    from safetensors.numpy import save_file

    save_file({"a": np.ones(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(artifacts.ArtifactError, match="carries no SHA-256"):
        artifacts.read(tmp_path / "foreign.safetensors")
    artifacts.write_weights(tmp_path / "w.safetensors", {"a": np.ones(2)}, {})
    with pytest.raises(artifacts.ArtifactError, match="holds no mask"):
        artifacts.read_mask(tmp_path / "w.safetensors")
    mask = {"a": np.array([True, False, True])}
    artifacts.write_weights(tmp_path / "s.safetensors", {"a": np.ones(3)}, {}, mask)
    with pytest.raises(artifacts.ArtifactError, match="surviving values"):
        artifacts.read_weights(tmp_path / "s.safetensors")
    with pytest.raises(artifacts.ArtifactError, match="surviving values"):
        artifacts.read_weights(tmp_path / "s.safetensors", {"a": np.ones(3, bool)})


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch):
    path = tmp_path / "w.safetensors"
    artifacts.write(path, {"a": np.ones(2)}, {})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        artifacts.write(path, {"a": np.zeros(2)}, {})
    monkeypatch.undo()
    np.testing.assert_array_equal(artifacts.read(path)[0]["a"], np.ones(2))
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
