"""Published accuracies over figures 1 and 3."""

from pathlib import Path

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

import explorer
from explorer.figures import by_learning_rate, by_sparsity
from explorer.figures.published import overlaid
from explorer.snapshot import snapshot
from jackpot import Criteria, literature
from jackpot.definition import judge
from tests.jackpot.test_definition import runs, three_trials

# As Ma et al. train ResNet-20, at rates and a sparsity that they print.
CURVES = {
    "pretrain": {0.01: 90.3, 0.1: 92.4},
    "lt": {0.01: 89.4, 0.1: 87.3},
    "rr": {0.01: 83.0, 0.1: 86.0},
    "sdt": {0.01: 80.0, 0.1: 85.0},
}


@pytest.fixture
def study() -> pl.DataFrame:
    frame = runs(three_trials(CURVES), sparsity=1 - 0.8**11)
    return frame.with_columns(batch_size=pl.lit(64, pl.Int64))


def marks(data: pl.DataFrame) -> list[tuple]:
    found = data.filter(pl.col("published").is_not_null())
    return sorted(found.select("panel", "line", "learning_rate", "published").rows())


def test_figure_3_has_them_at_their_rates(study: pl.DataFrame):
    data = by_learning_rate.panels(study, judge(study), Criteria(), "cifar10")
    both = overlaid(data, literature.beside(study))
    panel = "sparsity 0.914"
    assert [row for row in marks(both) if row[1] == "LT-IMP"] == [
        (panel, "LT-IMP", 0.005, 87.4),
        (panel, "LT-IMP", 0.01, 89.4),
        (panel, "LT-IMP", 0.1, 87.3),
    ]
    assert (panel, "pretrain", 0.1, 92.4) in marks(both)
    assert both.filter(pl.col("accuracy").is_not_null()).height == data.height
    spec = by_learning_rate.chart(both).to_dict()
    assert "isValid(datum.published)" in str(spec)
    assert "isValid(datum.published)" not in str(by_learning_rate.chart(data).to_dict())


def test_figure_1_has_them_in_the_panel_of_their_rate(study: pl.DataFrame):
    both = overlaid(by_sparsity.panels(study), literature.beside(study))
    found = marks(both)
    assert ("learning rate 0.1", "LT-IMP", 0.1, 87.3) in found
    assert not any(row[2] == 0.005 for row in found), "it has no panel"
    by_sparsity.chart(both).to_dict()


def test_what_is_printed_without_a_spread_is_not_called_equal(study: pl.DataFrame):
    says = literature.beside(study).filter(source=literature.MA)
    assert set(says["says"]) == {"not comparable"}


def test_nothing_published_changes_nothing(study: pl.DataFrame):
    data = by_sparsity.panels(study)
    none = literature.beside(study.with_columns(network=pl.lit("mine")))
    assert overlaid(data, none).drop("published", strict=False).height == data.height


@pytest.mark.parametrize("page", ["learning_rate", "sparsity"])
def test_the_switch_of_a_page_shows_marks_and_a_table(
    page: str, study: pl.DataFrame, trained: str, monkeypatch: pytest.MonkeyPatch
):
    """On a real study; what is published is made to be of its network."""
    snapshot.clear()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", trained)
    real = literature.points
    monkeypatch.setattr(
        literature,
        "points",
        lambda network, dataset: real("resnet20", "cifar10").with_columns(
            network=pl.lit(network), dataset=pl.lit(dataset)
        ),
    )
    file = Path(explorer.__file__).parent / "views" / f"{page}.py"
    app = AppTest.from_file(str(file), default_timeout=60).run()
    (switch,) = [toggle for toggle in app.toggle if toggle.label == "Published accuracies"]
    assert "isValid" not in app.get("vega_lite_chart")[0].proto.spec
    switch.set_value(True).run()
    assert not app.exception
    (table,) = [f.value for f in app.dataframe if "why" in f.value.columns]
    assert set(table["says"]) == {"not comparable"}
    assert table["why"].str.contains("4 epochs, not").any()
