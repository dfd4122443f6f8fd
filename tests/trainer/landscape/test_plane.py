import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.landscape.plane import (
    Plane,
    filter_normalised,
    principal,
    random,
    vector,
)


def spiral(rng: np.random.Generator, weights: int = 50, points: int = 20) -> np.ndarray:
    """A trajectory within a plane of a space of many weights."""
    basis = np.linalg.qr(rng.standard_normal((weights, 2)))[0].T
    turn = np.linspace(0, 3, points)[:, None]
    inside = np.exp(-turn) * np.concatenate([np.cos(4 * turn), 3 * np.sin(4 * turn)], 1)
    return rng.standard_normal(weights) + inside @ basis


def of_one_filter(path: np.ndarray) -> list[dict[str, np.ndarray]]:
    return [{"kernel": point[:, None]} for point in path]


def test_a_trajectory_in_a_plane_is_found_whole():
    path = spiral(np.random.default_rng(0))
    plane = principal(of_one_filter(path))
    coordinates = plane.project(path)
    np.testing.assert_allclose(coordinates[-1], 0, atol=1e-10)
    for point, (a, b) in zip(path, coordinates, strict=True):
        np.testing.assert_allclose(plane.at(a, b), point, atol=1e-8)
    assert sum(plane.explained) == pytest.approx(1)
    assert plane.explained[0] > plane.explained[1] > 0
    # Distances are those of the weights, in lengths of the one filter that there is.
    length = np.sqrt((path**2).sum(1).mean())
    np.testing.assert_allclose(
        np.linalg.norm(np.diff(coordinates, axis=0), axis=1),
        np.linalg.norm(np.diff(path, axis=0), axis=1) / length,
    )


def test_principal_directions_are_those_of_numpys_svd():
    rng = np.random.default_rng(1)
    path = rng.standard_normal((12, 300)).cumsum(0)
    plane = principal(of_one_filter(path))
    _, lengths, directions = np.linalg.svd(path - path.mean(0), full_matrices=False)
    for found, expected in zip((plane.first, plane.second), directions[:2], strict=True):
        assert abs(found @ expected) / np.linalg.norm(found) == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(plane.explained, (lengths**2 / (lengths**2).sum())[:2])


def test_a_distance_of_one_moves_the_filters_by_their_lengths():
    rng = np.random.default_rng(3)
    scales = np.array([0.1, 1.0, 5.0, 30.0])
    path = [
        {"kernel": scales * (10 + w), "beta": w[0]}
        for w in rng.standard_normal((6, 3, 4)).cumsum(0)
    ]
    plane = principal(path)
    lengths = {
        "kernel": np.sqrt(np.mean([(x["kernel"] ** 2).sum(0) for x in path], axis=0)),
        "beta": np.sqrt(np.mean([(x["beta"] ** 2).sum() for x in path])),
    }
    for direction in (plane.first, plane.second):
        kernel, beta = direction[:12].reshape(3, 4), direction[12:]
        moved = [*np.linalg.norm(kernel, axis=0) / lengths["kernel"]]
        moved.append(np.linalg.norm(beta) / lengths["beta"])
        assert np.mean(np.square(moved)) == pytest.approx(1)


def test_a_filter_that_decays_to_nothing_does_not_take_the_plane():
    # As weight decay leaves a filter that no image needs: 1e-6 of its initial length.
    rng = np.random.default_rng(4)
    path = [{"kernel": x} for x in 1 + 0.3 * rng.standard_normal((8, 5, 3)).cumsum(0)]
    for point, shrinking in zip(path, np.geomspace(1, 1e-6, 8), strict=True):
        point["kernel"][:, 0] = shrinking
    plane = principal(path)
    moved = np.linalg.norm(plane.first.reshape(5, 3), axis=0)
    assert moved[0] / plane.lengths.reshape(5, 3)[0, 0] < 3
    assert moved[1:].max() > 0.1


@pytest.mark.parametrize("factor", [2.0, np.array([0.5, 2.0, 8.0])], ids=["layer", "each filter"])
def test_the_scale_of_the_filters_changes_no_coordinate(factor):
    rng = np.random.default_rng(5)
    path = [{"kernel": w[:4], "beta": w[4]} for w in rng.standard_normal((6, 5, 3)).cumsum(0)]
    scaled = [point | {"kernel": factor * point["kernel"]} for point in path]
    for plane, other in (
        (principal(path), principal(scaled)),
        (
            random(path[-1], {}, np.random.default_rng(6)),
            random(scaled[-1], {}, np.random.default_rng(6)),
        ),
    ):
        np.testing.assert_allclose(
            plane.project(np.stack([vector(x) for x in path])),
            other.project(np.stack([vector(x) for x in scaled])),
            atol=1e-12,
        )
        here, there = plane.at(0.3, -0.2), other.at(0.3, -0.2)
        np.testing.assert_allclose(factor * here[:12].reshape(4, 3), there[:12].reshape(4, 3))
        np.testing.assert_allclose(here[12:], there[12:])


@given(st.integers(0, 2**32 - 1))
def test_projection_is_the_nearest_point_for_any_two_directions(seed: int):
    rng = np.random.default_rng(seed)
    lengths = rng.uniform(0.5, 2, 8)
    plane = Plane(*rng.standard_normal((3, 8)), lengths)
    point = rng.standard_normal(8)
    ((a, b),) = plane.project(point[None])
    rest = (point - plane.at(a, b)) / lengths
    assert abs(rest @ (plane.first / lengths)) < 1e-6
    assert abs(rest @ (plane.second / lengths)) < 1e-6


@pytest.mark.parametrize("points", [np.zeros((2, 5)), np.outer(np.arange(5.0), np.ones(4))])
def test_what_spans_no_plane_is_said(points: np.ndarray):
    with pytest.raises(ValueError, match="spans no plane"):
        principal(of_one_filter(points))


def test_random_directions_are_as_long_as_the_weights_filter_by_filter():
    rng = np.random.default_rng(0)
    weights = {
        "conv/kernel": rng.standard_normal((3, 3, 4, 6)).astype(np.float32),
        "norm/gamma": np.ones(6, np.float32),
        "depthwise/kernel": rng.standard_normal((3, 3, 5, 1)).astype(np.float32),
        "classifier/kernel": rng.standard_normal((6, 10)).astype(np.float32),
    }
    mask = {"conv/kernel": rng.random((3, 3, 4, 6)) < 0.3}
    weights["conv/kernel"] *= mask["conv/kernel"]
    weights["classifier/kernel"][:, 3] = 0
    direction = vector(filter_normalised(weights, mask, rng))
    conv, gamma, depthwise, dense = np.split(direction, [216, 222, 267])
    np.testing.assert_allclose(
        np.linalg.norm(depthwise.reshape(9, 5), axis=0),
        np.linalg.norm(weights["depthwise/kernel"].reshape(9, 5), axis=0),
        rtol=1e-5,
    )
    conv, dense = conv.reshape(3, 3, 4, 6), dense.reshape(6, 10)
    assert (conv[~mask["conv/kernel"]] == 0).all()
    assert (gamma == 0).all()
    for found, path in ((conv, "conv/kernel"), (dense, "classifier/kernel")):
        axes = tuple(range(found.ndim - 1))
        np.testing.assert_allclose(
            np.sqrt((found**2).sum(axes)), np.sqrt((weights[path] ** 2).sum(axes)), rtol=1e-5
        )
    assert not np.allclose(direction, vector(filter_normalised(weights, mask, rng)))
