"""Batch norm on a plane: its statistics, and that the scale of what it follows is not seen."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from explorer.landscape import Landscape, basin, contours, levels
from tests.trainer.networks.twins import TWINS, Twin
from trainer import datasets, networks
from trainer.datasets.batches import batches
from trainer.keras_internals import batch_norms
from trainer.landscape.of_run import Kept, Options, measured
from trainer.landscape.statistics import Statistics
from trainer.store.ticket import fill
from trainer.training.lowering import lower

SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def digits() -> datasets.Dataset:
    dataset = datasets.load("digits")
    return replace(dataset, train=dataset.train.part(0, 150))


def resnet() -> keras.Model:
    return networks.build("resnet20", input_shape=SHAPE, classes=10, seed=1)


def arrays_of(model: keras.Model) -> dict[str, np.ndarray]:
    return {v.path: v.value.detach().numpy().copy() for v in model.variables}


@pytest.mark.parametrize("size", [150, 64])
def test_estimated_statistics_are_those_of_the_images(size, digits):
    """A torch twin normalises by the statistics of the batch that it sees."""
    model = resnet()
    _, _, forward = TWINS["resnet20"]
    twin = Twin({v.path: v.value for v in model.trainable_variables})
    statistics = Statistics(model)
    network = lower(model)
    passes = batches(digits.train, digits.source, size, "cpu")
    before = [v.value.clone() for v in model.non_trainable_variables]
    statistics.estimate(network, passes)
    assert not any(
        torch.equal(x, v.value) for x, v in zip(before, model.non_trainable_variables, strict=True)
    )
    images, _ = next(iter(batches(digits.train, digits.source, 150, "cpu").get_torch_dataloader()))
    with torch.no_grad():
        found, expected = network(images, False), forward(twin, images)
    # One batch: but for the unbiased variance, exact. Several: each layer saw the others' batches.
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02 if size == 150 else 0.2)
    # The first layer's statistics are the images', however these were split.
    stem = F.conv2d(images.permute(0, 3, 1, 2), twin.weights["stem/kernel"], padding=1)
    norm = batch_norms(model)[0]
    torch.testing.assert_close(norm.moving_mean.value, stem.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        norm.moving_variance.value, stem.var((0, 2, 3)), rtol=5e-3, atol=1e-6
    )


@pytest.mark.parametrize(
    "batch_norm", ["re-estimated", pytest.param("fixed", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("directions", ["pca", "random"])
def test_doubling_what_batch_norm_follows_changes_no_figure(
    directions, batch_norm, digits, tmp_path
):
    """The same function of the images, from weights twice as large: the same figure."""
    rng = np.random.default_rng(0)
    model = resnet()
    point = arrays_of(model)
    trajectory = [point]
    for _ in range(4):
        point = {
            path: x + 0.2 * x.std() * rng.standard_normal(x.shape).astype(x.dtype)
            for path, x in point.items()
        }
        trajectory.append(point)

    def doubled(path: str, array: np.ndarray) -> np.ndarray:
        if path.endswith("moving_variance"):
            return 4 * array
        is_before_norm = path.endswith("kernel") and not path.startswith("classifier")
        return 2 * array if is_before_norm or path.endswith("moving_mean") else array

    options = Options(directions, batch_norm, points=5)
    drawn = []
    for scale, weights in (
        ("once", trajectory),
        ("twice", [{p: doubled(p, x) for p, x in at.items()} for at in trajectory]),
    ):
        model = resnet()
        fill(model, weights[-1], Path("final"))
        kept = Kept({}, weights[-1], {}, [0, 1, 2, 3, 4], weights)
        progress = tmp_path / f"{scale}.safetensors"
        arrays = measured(model, kept, digits, options, progress, {})
        drawn.append(Landscape.from_arrays(arrays, {"units": "filter lengths"}))
    once, twice = drawn
    assert once.loss.max() > 1.01 * once.loss.min(), "there is something to see"
    for name in ("a", "b", "path"):
        np.testing.assert_allclose(getattr(once, name), getattr(twice, name), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(once.loss, twice.loss, rtol=2e-3)
    at = levels(drawn)
    assert contours(once, at).height == pytest.approx(contours(twice, at).height, abs=4)
    assert basin(once, at[3]) == pytest.approx(basin(twice, at[3]), rel=5e-3)


def test_the_loss_beside_the_final_weights_is_that_of_a_network_with_its_own_statistics(
    digits, tmp_path
):
    """With fixed statistics a step off the final weights is no network that training could meet."""
    losses = {}
    for batch_norm in ("re-estimated", "fixed"):
        model = resnet()
        statistics = Statistics(model)
        statistics.estimate(lower(model), batches(digits.train, digits.source, 150, "cpu"))
        final = arrays_of(model)
        kept = Kept({}, final, {}, [0], [final])
        options = Options("random", batch_norm, points=3, extent=2.0)
        arrays = measured(model, kept, digits, options, tmp_path / batch_norm, {})
        losses[batch_norm] = arrays["loss"]
    # In the middle both are the network itself; far from it, chance (ln 10) against explosion.
    np.testing.assert_allclose(losses["fixed"][1, 1], losses["re-estimated"][1, 1], rtol=1e-2)
    assert losses["re-estimated"].max() < 3 * np.log(10)
    assert losses["fixed"].max() > 10 * losses["re-estimated"].max()
