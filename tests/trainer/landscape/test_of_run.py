"""Loss landscapes: of known functions, and of a real run."""

import numpy as np
import pytest
from mlflow import MlflowClient

from jackpot import artifacts
from tests.trainer import stored
from trainer.landscape import surface
from trainer.landscape.__main__ import main
from trainer.landscape.of_run import images_of
from trainer.landscape.plane import principal
from trainer.store.tracking import StoredRun


def descent(gradient, start: np.ndarray, steps: int, rate: float) -> np.ndarray:
    path = [start]
    for _ in range(steps):
        path.append(path[-1] - rate * gradient(path[-1]))
    return np.stack(path)


def of_one_filter(path: np.ndarray) -> list[dict[str, np.ndarray]]:
    return [{"kernel": point[:, None]} for point in path]


def test_a_quadratic_bowl_is_drawn_as_it_is(tmp_path):
    # 40 weights, but only two of them curve differently from 0: the bowl's plane is known.
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((40, 2)))[0]
    curvature = np.array([1.0, 9.0])

    def loss(weights):
        return 0.5 * float(curvature @ (axes.T @ weights) ** 2)

    path = descent(lambda w: axes @ (curvature * (axes.T @ w)), axes @ [3.0, 2.0], 30, 0.1)
    plane = principal(of_one_filter(path))
    a, b = surface.around(plane.project(path), 9, 0.25)
    found = surface.measure(
        plane, a, b, lambda w: (loss(w), 0.0), tmp_path / "p.safetensors", {"of": "bowl"}
    )
    # The function on the plane, from its own coordinates.
    corner = np.stack([axes.T @ plane.first, axes.T @ plane.second], 1)
    origin = axes.T @ plane.origin
    for row, second in enumerate(b):
        for column, first in enumerate(a):
            at = origin + corner @ [first, second]
            assert found.loss[row, column] == pytest.approx(0.5 * curvature @ at**2, rel=1e-9)
    assert a[0] < plane.project(path)[:, 0].min()
    assert a[-1] > plane.project(path)[:, 0].max()


def test_a_problem_of_two_parameters_is_its_own_plane(tmp_path):
    # Rosenbrock's valley: the plane is the whole space, whatever its directions.
    def valley(w):
        return (1 - w[0]) ** 2 + 5 * (w[1] - w[0] ** 2) ** 2

    def slope(w):
        bend = w[1] - w[0] ** 2
        return np.array([-2 * (1 - w[0]) - 20 * bend * w[0], 10 * bend])

    path = descent(slope, np.array([-1.0, 1.5]), 400, 0.01)
    plane = principal(of_one_filter(path))
    a, b = surface.around(plane.project(path), 31, 0.2)
    found = surface.measure(
        plane, a, b, lambda w: (valley(w), 0.0), tmp_path / "p.safetensors", {"of": "valley"}
    )
    row, column = np.unravel_index(np.argmin(found.loss), found.loss.shape)
    lowest = plane.at(a[column], b[row])
    # The grid's lowest point is near the valley's, (1, 1), and every point is the function's own.
    assert np.abs(lowest - 1).max() < 2 * (a[1] - a[0])
    for i, second in enumerate(b):
        for j, first in enumerate(a):
            assert found.loss[i, j] == pytest.approx(valley(plane.at(first, second)))


def test_an_interrupted_grid_goes_on_where_it_stopped(tmp_path):
    plane = principal(of_one_filter(np.random.default_rng(0).standard_normal((5, 10)).cumsum(0)))
    a = b = np.linspace(-1, 1, 4)
    calls = []

    def at(weights):
        calls.append(weights)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return float(weights @ weights), 0.5

    progress = tmp_path / "p.safetensors"
    with pytest.raises(KeyboardInterrupt):
        surface.measure(plane, a, b, at, progress, {"run": "1"})
    found = surface.measure(plane, a, b, at, progress, {"run": "1"})
    assert len(calls) == 10 + 8, "two whole rows of four were kept"
    whole = surface.measure(plane, a, b, at, tmp_path / "other.safetensors", {"run": "1"})
    np.testing.assert_array_equal(found.loss, whole.loss)
    # Another run's progress is not taken up, nor a damaged one.
    before = len(calls)
    surface.measure(plane, a, b, at, progress, {"run": "2"})
    progress.write_bytes(b"nothing of ours")
    surface.measure(plane, a, b, at, progress, {"run": "2"})
    assert len(calls) == before + 32


@pytest.mark.parametrize("directions", ["pca", "random"])
def test_the_landscape_of_a_run_is_stored_with_it(
    directions, write_config, store_uri, train, capsys, tmp_path
):
    config = write_config(settings="[lt]", pruners="[imp]", trajectory_every="1")
    assert train(config) == 0
    study = stored.labelled(store_uri)
    client = MlflowClient(store_uri)
    for label in ("pretrain", "lt-imp s=0.750"):
        run = study[label]
        command = ["--run", run.info.run_id, "--tracking-uri", store_uri, "--points", "5"]
        assert main([*command, "--images", "200", "--directions", directions]) == 0
        found, about = artifacts.read(stored.file(run, f"landscape/{directions}.safetensors"))
        assert client.get_run(run.info.run_id).data.tags["landscape"] == directions
        assert about["run_id"] == run.info.run_id
        assert found["loss"].shape == (5, 5)
        assert np.isfinite(found["loss"]).all()
        assert found["epochs"].tolist() == [0, 1, 2, 3]
        np.testing.assert_allclose(found["path"][-1], 0, atol=1e-4)
        if directions == "pca":
            assert 0.9 < found["explained"].sum() <= 1 + 1e-9
        else:
            # The middle of the grid is the trained network itself.
            lowest = found["accuracy"][2, 2]
            assert lowest >= run.data.metrics["accuracy"] - 0.1
            assert found["loss"][2, 2] < found["loss"][[0, 0, -1, -1], [0, -1, 0, -1]].min()
    assert main([*command, "--images", "50", "--directions", "random"]) == 0
    measured = client.get_run(study["lt-imp s=0.750"].info.run_id).data.tags["landscape"]
    assert measured == ("pca,random" if directions == "pca" else "random")
    # Rounds on the way to the reported sparsity keep no trajectory.
    on_the_way = study["lt-imp s=0.500"]
    assert not stored.file(on_the_way, "trajectory").exists()
    assert main(["--run", on_the_way.info.run_id, "--tracking-uri", store_uri]) == 2
    assert "kept no trajectory" in capsys.readouterr().err
    assert not list(tmp_path.glob(".jackpot/*/landscape/*.safetensors")), "nothing is left behind"


def test_a_run_on_an_earlier_revision_of_its_images_is_refused(store_uri, capsys):
    client = MlflowClient(store_uri)
    run = client.create_run(client.create_experiment("old"))
    client.log_param(run.info.run_id, "dataset", "cifar100")
    client.log_param(run.info.run_id, "epochs", "2")
    assert main(["--run", run.info.run_id, "--tracking-uri", store_uri]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "was trained on revision 1 of cifar100; this version reads revision 2" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run", "0" * 32], "not found"),
        (["--run", "x", "--points", "1"], "--points: expected 2 or more"),
        (["--run", "x", "--extent", "0"], "--extent"),
    ],
)
def test_bad_input_is_one_line(arguments, words, store_uri, capsys):
    assert main([*arguments, "--tracking-uri", store_uri]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert len(said.strip().splitlines()) == 1


def test_no_module_is_imported_since_a_store_names_it(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text("raise SystemExit('it was run')")
    monkeypatch.syspath_prepend(tmp_path)
    params = {"dataset": "theirs:load", "epochs": "3"}
    run = StoredRun("0" * 32, "key", {}, params, 1, "cpu", "study", "", 0.0)
    with pytest.raises(ValueError, match="if it is yours, say --dataset theirs:load"):
        images_of(run, 10)
