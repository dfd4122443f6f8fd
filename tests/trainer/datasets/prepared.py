"""Writes small TFDS data directories as the real builders leave them, without TensorFlow."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2


def write(
    folder: Path,
    name: str,
    version: str,
    features: Mapping[str, Any],
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """A prepared dataset; images are given encoded, labels as numbers, everything else as bytes."""
    target = folder / name / version
    target.mkdir(parents=True)
    tfds.features.FeaturesDict(features).save_config(target)
    infos = []
    for split, examples in splits.items():
        file = target / f"{name}-{split}.array_record-00000-of-00001"
        writer = ArrayRecordWriter(str(file), "group_size:1")
        for example in examples:
            writer.write(_serialized(example))
        writer.close()
        infos.append(
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": split,
                "numBytes": str(file.stat().st_size),
                "shardLengths": [str(len(examples))],
            }
        )
    info = {"fileFormat": "array_record", "name": name, "splits": infos, "version": version}
    (target / "dataset_info.json").write_text(json.dumps(info))


def picture(rng: np.random.Generator, height: int, width: int, kind: str = "JPEG") -> bytes:
    """A smooth random picture, encoded."""
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
    file = io.BytesIO()
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(file, kind)
    return file.getvalue()


def _serialized(example: Mapping[str, Any]) -> bytes:
    message = tf_example_pb2.Example()
    for key, value in example.items():
        feature = message.features.feature[key]
        if isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.bytes_list.value.append(value)
    return message.SerializeToString()
