"""Every page, run as Streamlit runs it, on a real study and on stores that have none."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from streamlit.testing.v1 import AppTest

import explorer
from explorer import state

PAGES = sorted((Path(explorer.__file__).parent / "views").glob("*.py"))


@pytest.fixture(autouse=True)
def _fresh():
    state.snapshot.clear()


def open_page(page: Path, uri: str, monkeypatch) -> AppTest:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return AppTest.from_file(str(page), default_timeout=60).run()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_a_study(page: Path, trained: str, monkeypatch):
    app = open_page(page, trained, monkeypatch)
    assert not app.exception
    assert app.title[0].value
    assert not app.info, [info.value for info in app.info]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.parametrize("kind", ["missing", "empty", "strangers"])
def test_a_page_is_calm_without_one(page: Path, kind: str, tmp_path: Path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/store.db"
    if kind != "missing":
        client = MlflowClient(uri)
        client.search_experiments()
    if kind == "strangers":
        client.create_run(client.create_experiment("<script>alert(1)</script>"))
    app = open_page(page, uri, monkeypatch)
    assert not app.exception
    assert "make demo" in app.info[0].value


def test_figure_3_holds_every_mean(trained: str, monkeypatch):
    page = next(page for page in PAGES if page.stem == "learning_rate")
    app = open_page(page, trained, monkeypatch)
    spec = json.loads(app.get("vega_lite_chart")[0].proto.spec)
    assert spec["facet"]["field"] == "panel"
    assert spec["spec"]["layer"][2]["encoding"]["x"]["scale"]["type"] == "log"


def test_the_definition_judges_with_the_reading_chosen(trained: str, monkeypatch):
    page = next(page for page in PAGES if page.stem == "definition")
    app = open_page(page, trained, monkeypatch)
    table = app.dataframe[0].value
    assert set(table["pruner"]) == {"IMP", "OMP"}
    at = table[table["sparsity"] == 0.75]
    assert not at["verdict"].str.startswith("not enough").any()
    assert (table[table["sparsity"] == 0.5]["verdict"] == "not enough runs").all()
    app.number_input(key="sparsity").set_value(0.9).run()
    again = app.dataframe[0].value
    assert (again["①"] == "×").all()
    assert not app.exception


def test_names_from_the_store_are_data(trained: str, tmp_path: Path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/evil.db"
    client = MlflowClient(uri)
    experiment = client.create_experiment("evil")
    run = client.create_run(
        experiment,
        run_name="![x](http://127.0.0.1/x.png)<script>alert(1)</script>",
        tags={"kind": "launch", "study": "![x](http://127.0.0.1/x.png)", "plan_key": "x"},
    )
    for page in PAGES:
        app = open_page(page, uri, monkeypatch)
        assert not app.exception
        for element in [*app.markdown, *app.caption, *app.info, *app.subheader, *app.title]:
            assert "x.png" not in element.value
    assert run.info.run_id


def test_a_server_that_is_down_is_said_calmly(unused_tcp_port: int, monkeypatch):
    app = open_page(PAGES[0], f"http://127.0.0.1:{unused_tcp_port}", monkeypatch)
    assert not app.exception
    assert "cannot be read yet" in app.info[0].value
