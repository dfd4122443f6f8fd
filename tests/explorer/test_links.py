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
    """In MLflow's view of training runs, not in that of GenAI."""
    view = "?workflowType=machine_learning"
    assert address("http://host:1/", "7", ["ab"]) == f"http://host:1/#/experiments/7/runs/ab{view}"
    page = urlparse(address("http://host:1", "7", ["ab", "cd"]).replace("/#", ""))
    asked = {name: value for name, (value,) in parse_qs(page.query).items()}
    assert page.path == "/compare-runs"
    assert asked.pop("workflowType") == "machine_learning"
    assert {name: json.loads(value) for name, value in asked.items()} == {
        "runs": ["ab", "cd"],
        "experiments": ["7"],
    }


def test_every_point_of_the_figure_leads_to_its_evidence(trained: str):
    runs = of_points(accuracies(reader(trained).runs()), {"study": "a b&c", "launch": "l"})
    assert runs["link"].null_count() == 0
    shown = points(runs)
    assert shown["link"].n_unique() == shown.height
    point = shown.filter(pl.col("line") == "LT-IMP").row(0, named=True)
    asked = {name: value for name, (value,) in parse_qs(urlparse(point["link"]).query).items()}
    assert asked.pop("study") == "a b&c"
    assert (asked["launch"], asked["setting"], asked["pruner"]) == ("l", "lt", "imp")
    # As exact as the store has them: the page looks for these numbers.
    assert float(asked["s"]) == point["sparsity"]
    assert float(asked["lr"]) == point["learning_rate"]
    criteria = Criteria()
    data = by_learning_rate.panels(runs, judge(runs, criteria), criteria, "digits")
    layers = by_learning_rate.chart(data).to_dict()["spec"]["layer"]
    linked = [layer for layer in layers if "href" in layer["encoding"]]
    assert {layer["encoding"]["href"]["field"] for layer in linked} == {"link"}
    assert {layer["mark"]["type"] for layer in linked} == {"point"}
