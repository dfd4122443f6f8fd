"""A network that has changed is another one: in keys, on screen, and for its files."""

from pathlib import Path

import polars as pl
import pytest

from explorer.readers.frames import labelled
from jackpot import artifacts, revisions
from trainer import networks
from trainer.store.ticket import load_ticket


def ticket(folder: Path, name: str, revision: str | None) -> Path:
    model = networks.build(name, input_shape=(32, 32, 3), classes=10)
    about = {"network": name, "input_shape": "32x32x3", "classes": "10", "channels": "{}"}
    if revision is not None:
        about["network_revision"] = revision
    values = {v.path: v.numpy() for v in model.variables}
    artifacts.write_weights(folder / "ticket" / "initial.safetensors", values, about, None)
    return folder


@pytest.mark.parametrize(
    ("name", "revision", "words"),
    [
        ("resnet32", None, None),  # The same function: it started otherwise.
        ("resnet32", "2", None),
        ("vgg16", "2", None),
        ("vgg16", None, "revision 1 of vgg16, .*fifth max pooling"),
        ("resnet20", "2", "this version builds revision 1"),
        ("resnet20", "x", "this version builds revision 1"),
    ],
)
def test_files_of_another_network_are_refused(tmp_path: Path, name, revision, words):
    folder = ticket(tmp_path, name, revision)
    if words is None:
        assert load_ticket(folder).model.built
        return
    with pytest.raises(artifacts.ArtifactError, match=words):
        load_ticket(folder)


def test_the_explorer_never_mixes_revisions():
    runs = pl.DataFrame(
        {
            "network": ["resnet32", "resnet32", "resnet20", "own:net", "resnet32", None],
            "network_revision": [None, 2, None, None, 3, None],
            "dataset": ["cifar10", "cifar100", "cifar100", None, "cifar100", None],
            "dataset_revision": [None, 2, None, None, None, None],
        }
    )
    named = labelled(runs)
    assert named["network"].to_list() == [
        "resnet32 (revision 1)",
        "resnet32",
        "resnet20",
        "own:net (revision 1)",
        "resnet32 (revision 3)",
        None,
    ]
    assert named["dataset"].to_list() == [
        "cifar10",
        "cifar100",
        "cifar100 (revision 1)",
        None,
        "cifar100 (revision 1)",
        None,
    ]
    assert revisions.current(revisions.of_network("vgg16")) == 2
