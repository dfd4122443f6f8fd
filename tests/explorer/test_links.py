import json
from urllib.parse import parse_qs, urlparse

import polars as pl

from explorer.figures import by_learning_rate
from explorer.figures.points import points
from explorer.links import address, of_points
from explorer.readers import reader
from jackpot.conditions import Criteria
from jackpot.definition import judge
from jackpot.trials import accuracies


def test_one_run_has_a_page_and_several_a_comparison():
    assert address("http://host:1/", "7", ["ab"]) == "http://host:1/#/experiments/7/runs/ab"
    page = urlparse(address("http://host:1", "7", ["ab", "cd"]).replace("/#", ""))
    asked = {name: json.loads(value) for name, (value,) in parse_qs(page.query).items()}
    assert page.path == "/compare-runs"
    assert asked == {"runs": ["ab", "cd"], "experiments": ["7"]}


def test_every_point_of_the_figure_leads_to_its_trials(trained: str):
    runs = of_points(accuracies(reader(trained).runs()), "http://host:1")
    assert runs["link"].null_count() == 0
    shown = points(runs)
    assert shown["link"].n_unique() == shown.height
    point = shown.filter(pl.col("line") == "SDT").row(0, named=True)
    trials = runs.filter(
        pl.col("setting") == "sdt",
        pl.col("learning_rate") == point["learning_rate"],
        pl.col("sparsity") == point["sparsity"],
    )
    assert trials.height == 2
    assert all(run_id in point["link"] for run_id in trials["run_id"])
    criteria = Criteria()
    data = by_learning_rate.panels(runs, judge(runs, criteria), criteria, "digits")
    chart = by_learning_rate.chart(data)
    dots = chart.to_dict()["spec"]["layer"][4]
    assert dots["encoding"]["href"]["field"] == "link"
