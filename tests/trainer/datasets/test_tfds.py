"""Datasets that TFDS prepared, read from small folders with the real builders' features."""

import hashlib
import io
import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
import torch
from PIL import Image

from tests.trainer import stored
from tests.trainer.datasets import prepared
from trainer import datasets
from trainer.datasets import DATASETS, DatasetError, decoding, from_tfds
from trainer.datasets.batches import batches
from trainer.datasets.streams import StreamedBatches
from trainer.study.config_file import load_study
from trainer.study.plan import plan

COUNT = {"train": 24, "validation": 10}


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    # TFDS reads the variable when it is imported.
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("JACKPOT_CACHE_DIR", str(tmp_path / "cache"))
    from_tfds.describe.cache_clear()
    return tmp_path / "tfds"


def shrink(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    small = replace(DATASETS[name], train_size=COUNT["train"], test_size=COUNT["validation"])
    monkeypatch.setitem(DATASETS, name, small)


@pytest.fixture
def tiny(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict]]:
    shrink("tiny_imagenet", monkeypatch)
    rng = np.random.default_rng(0)
    splits = {
        split: [
            {"image": prepared.picture(rng, 64, 64), "label": i * 8, "id": b"x"}
            for i in range(count)
        ]
        for split, count in COUNT.items()
    }
    features = {
        "image": tfds.features.Image(shape=(64, 64, 3), encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(num_classes=200),
        "id": tfds.features.Text(),
    }
    prepared.write(data_dir, "tiny_imagenet", "1.0.0", features, splits)
    return splits


@pytest.fixture
def imagenet(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict]]:
    shrink("imagenet2012", monkeypatch)
    rng = np.random.default_rng(1)
    splits = {
        split: [
            {
                "image": prepared.picture(rng, *rng.integers(230, 400, 2)),
                "label": 40 * i,
                "file_name": b"n0.JPEG",
            }
            for i in range(count)
        ]
        for split, count in COUNT.items()
    }
    features = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(num_classes=1000),
        "file_name": tfds.features.Text(),
    }
    prepared.write(data_dir, "imagenet2012", "5.1.0", features, splits)
    return splits


def test_tiny_imagenet_is_decoded(tiny):
    found = datasets.load("tiny_imagenet")
    assert found.train.images.shape == (24, 64, 64, 3)
    assert found.test.labels.tolist() == [8 * i for i in range(10)]
    with Image.open(io.BytesIO(tiny["validation"][3]["image"])) as image:
        np.testing.assert_array_equal(found.test.images[3], np.asarray(image))


def test_the_tiny_imagenet_builder_finds_images_and_classes(tmp_path: Path):
    from trainer.datasets import tiny_imagenet

    folder = tmp_path / "tiny-imagenet-200"
    rng = np.random.default_rng(0)
    for wnid in ("n02", "n01"):
        (folder / "train" / wnid / "images").mkdir(parents=True)
        for i in range(2):
            picture = prepared.picture(rng, 64, 64)
            (folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG").write_bytes(picture)
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t62\t62\n")
    assert [name for _, name in tiny_imagenet.train_files(folder)] == ["n01", "n01", "n02", "n02"]
    builder = tiny_imagenet.TinyImagenet(data_dir=tmp_path / "out", file_format="array_record")
    examples = dict(
        builder._generate_examples(tiny_imagenet.validation_files(folder), ["n01", "n02"])
    )
    assert examples["val_0.JPEG"]["label"] == 1
    assert examples["val_0.JPEG"]["image"] == folder / "val" / "images" / "val_0.JPEG"
    assert builder.info.features["label"].num_classes == 200
    assert builder.url_infos[tiny_imagenet.URL].checksum == tiny_imagenet.SHA256


def test_imagenet_is_streamed(imagenet):
    found = datasets.load("imagenet2012", train_images=20)
    assert (len(found.train), len(found.test)) == (20, 10)
    evaluated = batches(found.test, found.source, 4, "cpu")
    assert isinstance(evaluated, StreamedBatches)
    seen = list(evaluated.get_torch_dataloader())
    assert [len(labels) for _, labels in seen] == [4, 4, 2]
    assert torch.cat([labels for _, labels in seen]).tolist() == [40 * i for i in range(10)]
    # The centre, normalised as the source says.
    with Image.open(io.BytesIO(imagenet["validation"][5]["image"])) as image:
        expected = decoding.cropped(image, (224, 224), None) / 255
    mean, std = np.array(found.source.mean), np.array(found.source.std)
    np.testing.assert_allclose(seen[1][0][1].numpy(), (expected - mean) / std, atol=1e-5)


def test_a_streamed_epoch_is_replayed_by_its_seed_whatever_the_workers(imagenet):
    found = datasets.load("imagenet2012")

    def epoch(number: int, workers: int) -> tuple[list[int], str]:
        made = StreamedBatches(
            found.train,
            found.source,
            8,
            "cpu",
            epoch_seed=lambda e: 100 + e,
            first_epoch=number,
            workers=workers,
        )
        made.on_epoch_begin()
        seen = list(made.get_torch_dataloader())
        pixels = hashlib.sha256(b"".join(x.numpy().tobytes() for x, _ in seen)).hexdigest()
        return torch.cat([labels for _, labels in seen]).tolist(), pixels

    first = epoch(0, 0)
    assert first == epoch(0, 2)
    assert sorted(first[0]) == [40 * i for i in range(24)]
    other = epoch(1, 0)
    assert sorted(other[0]) == sorted(first[0])
    assert other[0] != first[0]
    assert other[1] != first[1]


def test_a_random_crop_lies_within_the_image_and_has_the_size():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (200, 300, 3), np.uint8))
    crops = [decoding.cropped(image, (32, 32), seed) for seed in range(50)]
    assert {crop.shape for crop in crops} == {(32, 32, 3)}
    assert len({crop.tobytes() for crop in crops}) > 40
    for seed in range(200):
        left, top, right, bottom = decoding._random((300, 50), np.random.default_rng(seed))
        assert 0 <= left < right <= 300
        assert 0 <= top < bottom <= 50
    grey = Image.fromarray(np.full((40, 40), 7, np.uint8))
    assert (decoding.cropped(grey, (16, 16), 1) == 7).all()


def test_a_dataset_of_ones_own_is_found_by_name(data_dir: Path):
    rng = np.random.default_rng(0)
    splits = {
        split: [
            {"image": prepared.picture(rng, 12, 10, "PNG"), "label": i % 4} for i in range(count)
        ]
        for split, count in (("train", 30), ("test", 7))
    }
    features = {
        "image": tfds.features.Image(shape=(12, 10, 3)),
        "label": tfds.features.ClassLabel(num_classes=4),
    }
    prepared.write(data_dir, "my_pictures", "1.2.3", features, splits)
    source = datasets.find("tfds:my_pictures")
    assert (source.input_shape, source.classes) == ((12, 10, 3), 4)
    assert (source.train_size, source.test_size) == (30, 7)
    found = datasets.load("tfds:my_pictures", train_images=20)
    scaled = datasets.load("tfds:my_pictures").train.images / 255
    np.testing.assert_allclose(found.source.mean, scaled.mean((0, 1, 2)))
    np.testing.assert_allclose(found.source.std, scaled.std((0, 1, 2)))
    assert found.train.images.shape == (20, 12, 10, 3)


def test_what_is_no_labelled_pictures_is_said(data_dir: Path):
    floats = {
        "image": tfds.features.Tensor(shape=(4, 4, 1), dtype=np.float32),
        "label": tfds.features.ClassLabel(num_classes=2),
    }
    prepared.write(data_dir, "floats", "1.0.0", floats, {"train": [], "test": []})
    with pytest.raises(DatasetError, match=r"expected images of uint8, found .*float32"):
        datasets.find("tfds:floats")
    features = {"text": tfds.features.Text()}
    prepared.write(data_dir, "letters", "1.0.0", features, {"train": [{"text": b"a"}]})
    with pytest.raises(
        DatasetError, match=r"expected features 'image' and 'label', found \['text'\]"
    ):
        datasets.find("tfds:letters")
    with pytest.raises(DatasetError, match="TFDS does not know it"):
        datasets.find("tfds:nothing_of_this_name")


PICTURES = {
    "image": tfds.features.Image(shape=(12, 10, 3)),
    "label": tfds.features.ClassLabel(num_classes=4),
}


def pictures(data_dir: Path, name: str = "my_pictures", shift: int = 0, **splits: int) -> Path:
    """Prepares a dataset; `shift` changes its labels, and nothing else."""
    rng = np.random.default_rng(0)
    examples = {
        split: [
            {
                "image": prepared.picture(rng, 12, 10, "PNG"),
                "label": -1 if split == "test" and "validation" in splits else (i + shift) % 4,
            }
            for i in range(count)
        ]
        for split, count in splits.items()
    }
    prepared.write(data_dir, name, "1.2.3", PICTURES, examples)
    return data_dir / name / "1.2.3"


def test_another_split_is_evaluated_on_where_test_has_no_labels(data_dir: Path):
    pictures(data_dir, train=30, test=7, validation=9)
    with pytest.raises(DatasetError, match="to evaluate on 'validation', say tfds:my_pictures@val"):
        datasets.load("tfds:my_pictures")
    assert len(datasets.load("tfds:my_pictures@validation").test) == 9
    with pytest.raises(DatasetError, match="splits 'train' and dev, found train, test, validation"):
        datasets.load("tfds:my_pictures@dev")


@pytest.mark.parametrize(
    ("label", "found"),
    [
        (tfds.features.Text(), "its labels are text: expected ClassLabel"),
        (np.int64, "its labels are Tensor of int64: expected ClassLabel"),
    ],
)
def test_labels_that_are_no_classes_are_named(data_dir: Path, label, found: str):
    features = {"image": tfds.features.Image(shape=(12, 10, 3)), "label": label}
    prepared.write(data_dir, "texts", "1.0.0", features, {"train": [], "test": []})
    with pytest.raises(DatasetError, match=found):
        datasets.find("tfds:texts")


def test_a_folder_in_tensorflows_format_is_named(data_dir: Path):
    folder = pictures(data_dir, train=4, test=2)
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    with pytest.raises(DatasetError, match="as tfrecord, which needs TensorFlow to be read"):
        datasets.load("tfds:my_pictures")


def test_corrected_labels_are_other_images(
    data_dir: Path, write_config, store_uri: str, train, capsys
):
    folder = pictures(data_dir, train=40, test=8)
    config = write_config(
        study="mine", dataset="tfds:my_pictures", settings="[lt]", pruners="[omp]"
    )
    assert train(config) == 0
    first = datasets.load("tfds:my_pictures")
    assert train(config) == 0
    assert "nothing to train" in capsys.readouterr().out
    shutil.rmtree(folder)
    pictures(data_dir, shift=1, train=40, test=8)
    second = datasets.load("tfds:my_pictures")
    assert second.digest != first.digest
    assert (second.train.labels == (first.train.labels + 1) % 4).all()
    assert train(config) == 2
    said = capsys.readouterr().err
    assert "study 'mine' has 2 finished runs on other images" in said
    assert "give the study another name" in said
    assert train(config, "--set", "study=corrected") == 0
    runs = stored.runs(store_uri, study="corrected")
    assert {run.data.tags["dataset_sha256"] for run in runs} == {second.digest}
    keys = {run.data.tags["run_key"] for run in stored.runs(store_uri)}
    assert len(keys) == 4, "no run is taken for one on other images"


def test_runs_of_earlier_versions_count_on_the_same_images(
    write_config, store_uri: str, train, capsys, tmp_path: Path
):
    """Earlier versions did not name the images in run keys, only in a tag."""
    config = write_config(settings="[lt]", pruners="[omp]")
    assert train(config) == 0
    before = plan(load_study(config))
    digest = datasets.load("digits").digest
    now = plan(load_study(config), digest)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        for old, new in zip(before.runs, now.runs, strict=True):
            assert old.key != new.key
            database.execute("UPDATE tags SET value = ? WHERE value = ?", (old.key, new.key))
    capsys.readouterr()
    assert train(config) == 0
    assert "nothing to train" in capsys.readouterr().out
    assert train(config, "--dry-run") == 0
    assert "2 runs are finished" in capsys.readouterr().out
    assert train(config, "--set", "trials=2") == 0
    assert len(stored.runs(store_uri)) == 4


def test_a_study_trains_on_streamed_images(
    imagenet, write_config, store_uri, train, tmp_path, monkeypatch
):
    own = """
import keras

def build(blocks, input_shape, classes):
    inputs = keras.Input(input_shape)
    x = keras.layers.AveragePooling2D(32)(inputs)
    x = blocks.relu(blocks.conv(x, blocks.channels(8), 3, name="body"), name="relu")
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, blocks.dense(x, classes, name="classifier"))
"""
    (tmp_path / "little.py").write_text(own)
    monkeypatch.syspath_prepend(tmp_path)
    config = write_config(
        network="little:build",
        dataset="{name: imagenet2012, validation_images: 4}",
        settings="[lt]",
        pruners="[omp]",
        training="{epochs: 2, batch_size: 8, label_smoothing: 0.1}",
    )
    assert train(config) == 0
    runs = stored.labelled(store_uri)
    assert set(runs) == {"pretrain", "lt-omp s=0.750"}
    for run in runs.values():
        assert stored.steps(store_uri, run, "heldout_accuracy") == [1, 2]
        assert run.data.params["label_smoothing"] == "0.1"
