"""The gallery: a store packed into one small file, opened elsewhere, and its page."""

from pathlib import Path

import polars as pl
import pytest

from benchmarks import gallery
from explorer.readers import reader
from explorer.readers.frames import launches, trainings
from jackpot import stores
from jackpot.contract import Kind, Tag


@pytest.fixture(scope="module")
def unpacked(adaptive: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of an adaptive study, packed and unpacked in another folder."""
    folder = tmp_path_factory.mktemp("unpacked")
    packed = folder / gallery.STORE
    gallery.pack(stores.sqlite_file(adaptive), packed)
    for _ in range(2):  # A second time in place of the first.
        assert gallery.unpack(packed, folder) == f"sqlite:///{folder}/mlflow.db"
    return folder


def test_a_packed_store_has_all_that_the_explorer_reads_of_it(adaptive: str, unpacked: Path):
    before, after = reader(adaptive), reader(f"sqlite:///{unpacked}/mlflow.db")
    assert after.runs().equals(before.runs())
    launch = launches(after.runs())["run_id"][0]
    assert after.planned(launch).looks == before.planned(launch).looks
    ids = trainings(after.runs())["run_id"].to_list()
    assert after.curves(ids, "loss").equals(before.curves(ids, "loss"))
    assert not list(unpacked.rglob("*.safetensors"))


def test_artifacts_that_were_moved_with_their_store_are_found(adaptive: str, unpacked: Path):
    """The paths that MLflow keeps lead to the first folder: the same files are in the second."""
    launch = launches(reader(adaptive).runs())["run_id"][0]
    (kept,) = unpacked.rglob("plan.json")
    first = stores.sqlite_file(adaptive).parent
    hidden = first.rename(first.with_name("away"))
    try:
        with reader(f"sqlite:///{unpacked}/mlflow.db").artifact(launch, "plan.json") as path:
            assert path == kept
    finally:
        hidden.rename(first)


def test_a_store_too_large_for_a_repository_is_refused(adaptive: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(gallery, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="more than 1,000"):
        gallery.pack(stores.sqlite_file(adaptive), tmp_path / "store.tar.xz")


def test_its_page_has_verdicts_figures_costs_and_configs(unpacked: Path, tmp_path: Path):
    text = gallery.page(f"sqlite:///{unpacked}/mlflow.db", tmp_path)
    for name in ("adaptive-accuracy-vs-learning-rate.svg", "adaptive-looks.svg", "adaptive.yaml"):
        assert f"({name})" in text
        assert (tmp_path / name).stat().st_size
    contents = next(
        line for line in text.splitlines() if line.startswith("| [adaptive](#adaptive)")
    )
    *_, tickets, jackpots, secondary, none, undecided, runs, _ = contents.strip("| ").split(" | ")
    verdicts = [0 if n == "–" else int(n) for n in (jackpots, secondary, none, undecided)]
    assert sum(verdicts) == int(tickets) > 0
    assert (
        int(runs)
        == reader(f"sqlite:///{unpacked}/mlflow.db")
        .runs()
        .filter(pl.col(Tag.KIND) == Kind.TRAINING, status="FINISHED")
        .height
    )
    row = next(line for line in text.splitlines() if line.startswith("| OMP at 0.750 |"))
    # Four margins with their bounds.
    assert row.count(" to ") >= 4
    assert "It cost" in text
    assert "**4.**" in text
