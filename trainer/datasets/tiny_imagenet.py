"""Tiny-ImageNet (Stanford CS231N) as a TFDS builder: TFDS has none of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
SHA256 = "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"
SIZE = 248_100_043


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """200 classes of 64 × 64 images: 500 each to train on, 50 each to validate.

    The archive's test split has no labels and is left out. Labels count the classes in the order
    of their WordNet ids.
    """

    VERSION = tfds.core.Version("1.0.0")

    @tfds.core.utils.classproperty
    @classmethod
    def url_infos(cls) -> dict[str, Any]:
        """Size and checksum of the download."""
        return {URL: tfds.download.checksums.UrlInfo(SIZE, SHA256, Path(URL).name)}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(64, 64, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(num_classes=200),
                    "id": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://cs231n.stanford.edu/",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        folder = Path(dl_manager.download_and_extract(URL)) / "tiny-imagenet-200"
        classes = sorted((folder / "wnids.txt").read_text().split())
        return {
            "train": self._generate_examples(train_files(folder), classes),
            "validation": self._generate_examples(validation_files(folder), classes),
        }

    def _generate_examples(
        self, files: Iterator[tuple[Path, str]], classes: list[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        number = {name: i for i, name in enumerate(classes)}
        for path, name in files:
            yield path.name, {"image": path, "label": number[name], "id": path.name}


def train_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Images to train on with the WordNet id of their class."""
    for path in sorted(folder.glob("train/*/images/*.JPEG")):
        yield path, path.parts[-3]


def validation_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Images to validate on with the WordNet id of their class."""
    for line in (folder / "val" / "val_annotations.txt").read_text().splitlines():
        name, wnid, *_ = line.split("\t")
        yield folder / "val" / "images" / name, wnid
