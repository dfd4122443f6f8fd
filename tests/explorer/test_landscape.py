import json

import numpy as np
import pytest

from explorer.figures import landscape as figure
from explorer.landscape import Landscape, basin, contours, is_cut_off, levels, path


def bowl(points: int = 41, curvature: float = 1.0) -> Landscape:
    a = b = np.linspace(-2, 2, points)
    loss = 0.1 + curvature * (a[None, :] ** 2 + b[:, None] ** 2)
    way = np.array([[-1.5, 1.0], [-0.5, 0.2], [0.0, 0.0]])
    return Landscape(a, b, loss, np.exp(-loss), way, np.array([0, 5, 10]), (0.8, 0.15))


def test_contours_of_a_bowl_are_circles():
    lines = contours(bowl(), [0.35, 1.1])
    assert lines["line"].n_unique() == 2
    radius = np.hypot(lines["a"], lines["b"])
    np.testing.assert_allclose(radius, np.sqrt(lines["level"] - 0.1), atol=0.01)
    for _, line in lines.group_by("line"):
        assert line["order"].to_list() == list(range(line.height))


def test_the_basin_of_a_bowl_is_its_disc():
    assert basin(bowl(), 1.1) == pytest.approx(np.pi, rel=0.005)
    assert basin(bowl(curvature=4.0), 1.1) == pytest.approx(np.pi / 4, rel=0.02)
    assert basin(bowl(), 0.05) == 0
    # A ring: the hill in its middle is no part of the basin.
    ring = bowl()
    hollow = Landscape(
        ring.a, ring.b, np.abs(np.sqrt(ring.loss - 0.1) - 1), ring.accuracy, ring.path, ring.epochs
    )
    assert basin(hollow, 0.5) == pytest.approx(np.pi * (1.5**2 - 0.5**2), rel=0.02)


def test_a_basin_that_reaches_the_edge_is_cut_off():
    # The nearest edge of the bowl is at distance 2, where the loss is 0.1 + 4.
    assert not is_cut_off(bowl(), 4.0)
    assert is_cut_off(bowl(), 4.11)


def test_levels_are_shared_and_within_what_was_measured():
    both = levels([bowl(), bowl(curvature=10.0)])
    assert both == sorted(both)
    assert min(both) > 0.1
    assert max(both) < bowl(curvature=10.0).loss.max()


def test_the_path_ends_at_the_origin():
    assert path(bowl()).row(-1) == (10, 0.0, 0.0)


def test_two_runs_are_drawn_on_one_scale():
    found = {"one": bowl(), "two": bowl(curvature=9.0)}
    chart = figure.chart(figure.panels(found, levels(found.values()), 0.5)).to_dict()
    first, second = chart["hconcat"]
    assert [first["title"], second["title"]] == ["one", "two"]
    scales = [panel["layer"][1]["encoding"]["color"]["scale"] for panel in (first, second)]
    assert scales[0] == scales[1]
    assert chart["resolve"]["scale"]["color"] == "shared"
    assert "80% of the variance" in json.dumps(first)


def test_arrays_that_do_not_fit_are_refused():
    one = bowl()
    arrays = {name: getattr(one, name) for name in ("a", "b", "accuracy", "path", "epochs")}
    with pytest.raises(KeyError):
        Landscape.from_arrays(arrays, {})
    with pytest.raises(ValueError, match="shape"):
        Landscape.from_arrays(arrays | {"loss": one.loss[:3]}, {})
