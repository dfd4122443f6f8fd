"""A dataset of your own: images that are prepared once as TFDS prepares them, without TensorFlow.

python -m examples.dataset ~/tensorflow_datasets     # then: dataset: "tfds:shapes"
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2


def images(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bars that lie or stand: uint8, shape (count, 8, 8, 1), and labels 0 or 1."""
    labels = rng.integers(0, 2, count)
    pictures = rng.integers(0, 64, (count, 8, 8, 1), np.uint8)
    for picture, label, at in zip(pictures, labels, rng.integers(0, 8, count), strict=True):
        if label:
            picture[:, at] = 255
        else:
            picture[at] = 255
    return pictures, labels


def prepare(folder: Path, version: str = "1.0.0") -> None:
    """Writes the dataset `shapes` into a TFDS folder, in array_record format.

    Args:
        folder: that `TFDS_DATA_DIR` names, such as `~/tensorflow_datasets`.
        version: of the dataset.
    """
    target = folder / "shapes" / version
    target.mkdir(parents=True)
    features = {
        "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=["lying", "standing"]),
    }
    tfds.features.FeaturesDict(features).save_config(target)
    rng, splits = np.random.default_rng(0), []
    for split, count in (("train", 512), ("test", 200)):
        file = target / f"shapes-{split}.array_record-00000-of-00001"
        writer = ArrayRecordWriter(str(file), "group_size:1")
        for picture, label in zip(*images(count, rng), strict=True):
            writer.write(_record(picture, int(label)))
        writer.close()
        splits.append(
            {
                "name": split,
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "numBytes": str(file.stat().st_size),
                "shardLengths": [str(count)],
            }
        )
    info = {"name": "shapes", "version": version, "fileFormat": "array_record", "splits": splits}
    (target / "dataset_info.json").write_text(json.dumps(info))


def _record(picture: np.ndarray, label: int) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(picture[..., 0]).save(encoded, "PNG")
    example = tf_example_pb2.Example()
    example.features.feature["image"].bytes_list.value.append(encoded.getvalue())
    example.features.feature["label"].int64_list.value.append(label)
    return example.SerializeToString()


if __name__ == "__main__":
    prepare(Path(sys.argv[1]).expanduser())
