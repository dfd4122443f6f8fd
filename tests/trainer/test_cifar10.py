"""The smoke study on real CIFAR-10: slow, run by `make test-slow`."""

import os
from pathlib import Path

import pytest

from tests.trainer import stored

CONFIG = Path(__file__).parents[2] / "configs" / "resnet20-smoke.yaml"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif("TFDS_DATA_DIR" not in os.environ, reason="needs CIFAR-10 in TFDS_DATA_DIR")
def test_every_setting_learns_on_real_images(train, store_uri, capsys):
    assert train(CONFIG) == 0
    with capsys.disabled():
        print(capsys.readouterr().out)
    found = stored.labelled(store_uri)
    assert len(found) == 9
    for name, run in found.items():
        # Chance is 10 %; the standard error of a share of 2,000 images is under 1.1 points.
        assert run.data.metrics["val_accuracy"] > 0.25, name
