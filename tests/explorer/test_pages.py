"""Every page, run as Streamlit runs it, on a real study and on stores that have none."""

import json
import shutil
import sqlite3
from pathlib import Path

import polars as pl
import pytest
from mlflow import MlflowClient
from streamlit.testing.v1 import AppTest

import explorer
from explorer.readers import reader
from explorer.readers.frames import trainings
from explorer.snapshot import snapshot

PAGES = sorted((Path(explorer.__file__).parent / "views").glob("*.py"))
PAGE = {page.stem: page for page in PAGES}


@pytest.fixture(autouse=True)
def _fresh():
    snapshot.clear()


def open_page(page: Path, uri: str, monkeypatch) -> AppTest:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    app = AppTest.from_file(str(page), default_timeout=60)
    if page.stem == "point":
        # Of the pages, the one that shows what a link names.
        for name, value in {"setting": "pretrain", "s": "0", "lr": "0.1"}.items():
            app.query_params[name] = value
    return app.run()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_a_study(page: Path, trained: str, adaptive: str, monkeypatch):
    app = open_page(page, adaptive if page.stem == "looks" else trained, monkeypatch)
    assert not app.exception
    assert app.title[0].value
    assert not app.info, [info.value for info in app.info]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, _empty_database: Path) -> dict[str, str]:
    """Stores without a study, by what they have instead."""
    folder = tmp_path_factory.mktemp("stores")
    shutil.copyfile(_empty_database, folder / "strangers.db")
    client = MlflowClient(f"sqlite:///{folder}/strangers.db")
    client.create_run(client.create_experiment("<script>alert(1)</script>"))
    return {
        "missing": f"sqlite:///{folder}/missing.db",
        "empty": f"sqlite:///{_empty_database}",
        "strangers": f"sqlite:///{folder}/strangers.db",
    }


OF_A_STORE = [page for page in PAGES if page.stem != "paper"]


@pytest.mark.parametrize("page", OF_A_STORE, ids=lambda page: page.stem)
@pytest.mark.parametrize("kind", ["missing", "empty", "strangers"])
def test_a_page_is_calm_without_one(page: Path, kind: str, stores: dict[str, str], monkeypatch):
    app = open_page(page, stores[kind], monkeypatch)
    assert not app.exception
    assert "make demo" in app.info[0].value


def test_the_papers_numbers_need_no_store(stores: dict[str, str], monkeypatch):
    app = open_page(PAGE["paper"], stores["missing"], monkeypatch)
    assert not app.exception
    statements = app.table[0].value
    assert list(statements["agree"]) == ["×", "✓", "×", "✓", "✓"]
    assert set(app.dataframe[0].value["holds"]) == {"✓", "×", "?"}


def test_figure_3_holds_every_mean(trained: str, monkeypatch):
    page = PAGE["learning_rate"]
    app = open_page(page, trained, monkeypatch)
    key, panel = (json.loads(chart.proto.spec) for chart in app.get("vega_lite_chart"))
    entries = key["encoding"]["stroke"]["scale"]["domain"]
    lines = ["pretrain", "LT-IMP", "LT-OMP", "RR-IMP", "RR-OMP", "SDT"]
    assert entries == [*lines, "jackpot, undecided"]
    assert panel["title"] == "sparsity 0.750"
    assert panel["layer"][2]["encoding"]["x"]["scale"]["type"] == "log"
    # Two rates at which nothing diverged, of each entry.
    assert len(app.dataframe[0].value) == 2 * len(lines)


def test_the_definition_judges_with_the_reading_chosen(trained: str, monkeypatch):
    page = PAGE["definition"]
    app = open_page(page, trained, monkeypatch)
    table = app.dataframe[0].value
    assert set(table["pruner"]) == {"IMP", "OMP"}
    at = table[table["sparsity"] == 0.75]
    assert not at["verdict"].str.startswith("not enough").any()
    # Of a round of IMP that is not sparse enough, RR and SDT need not be trained.
    assert list(table[table["sparsity"] == "0.500"]["verdict"]) == ["none"]
    app.number_input(key="sparsity").set_value(0.9).run()
    again = app.dataframe[0].value
    assert (again["①"] == "×").all()
    assert not app.exception


@pytest.mark.parametrize("page", ["overview", "definition", "guideline"])
def test_links_keep_how_the_reader_judges(page: str, trained: str, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", trained)
    app = AppTest.from_file(str(PAGE[page]), default_timeout=60)
    app.query_params["tolerance"], app.query_params["reading"] = "3", "joint"
    app.run()
    assert not app.exception
    table = app.dataframe[-1 if page == "overview" else 0].value
    links = list(table["evidence"])
    assert links
    assert all("tolerance=3" in link and "reading=joint" in link for link in links)


def test_a_link_that_names_no_ticket_of_ours_says_so(trained: str, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", trained)
    app = AppTest.from_file(str(PAGE["definition"]), default_timeout=60)
    app.query_params["ticket"] = "no-such"
    app.run()
    assert "“Ticket”" in app.warning[0].value
    app.radio(key="ticket").set_value("wr").run()
    assert not app.warning


def test_a_point_takes_part_where_its_learning_rate_is_compared(trained: str, monkeypatch):
    """Each condition but ④ compares settings at the best rate of each."""
    parts = {}
    for rate in ("0.02", "0.1"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", trained)
        app = AppTest.from_file(str(PAGE["point"]), default_timeout=60)
        for name, value in {"setting": "sdt", "s": "0.75", "lr": rate}.items():
            app.query_params[name] = value
        app.run()
        assert not app.exception
        table = app.dataframe[1].value
        parts[rate] = set(table[table["condition"].str.startswith("②")]["part"])
    other = {"0.02": "0.1", "0.1": "0.02"}
    taken = [rate for rate, said in parts.items() if said == {"what it is compared with"}]
    assert len(taken) == 1
    (best,) = taken
    assert parts[other[best]] == {f"none: what it is compared with is taken at {best}"}


def test_a_study_is_read_by_its_own_criteria(store_uri: str, write_config, train, monkeypatch):
    said = "{tolerance: 0.02, epochs: 3}"
    assert train(write_config(settings="[lt]", pruners="[omp]", criteria=said)) == 0
    app = open_page(PAGE["definition"], store_uri, monkeypatch)
    assert "Assumed" not in texts(app)
    assert "Similar: within 2 points" in app.code[-1].value
    assert "sufficient epochs: 3" in app.code[-1].value
    # The reader's own stand above them.
    app.number_input(key="epochs").set_value(7).run()
    assert "sufficient epochs: 7" in app.code[-1].value
    # The paper's own number too, where the study says another.
    app.number_input(key="tolerance").set_value(0.5).run()
    assert "Similar: within 0.5 points" in app.code[-1].value


def test_names_from_the_store_are_data(store_uri: str, monkeypatch):
    client = MlflowClient(store_uri)
    experiment = client.create_experiment("evil")
    run = client.create_run(
        experiment,
        run_name="![x](http://127.0.0.1/x.png)<script>alert(1)</script>",
        tags={"kind": "launch", "study": "![x](http://127.0.0.1/x.png)", "plan_key": "x"},
    )
    for page in PAGES:
        app = open_page(page, store_uri, monkeypatch)
        assert not app.exception
        for element in [*app.markdown, *app.caption, *app.info, *app.subheader, *app.title]:
            assert "x.png" not in element.value
    assert run.info.run_id


def test_a_server_that_is_down_is_said_calmly(unused_tcp_port: int, monkeypatch):
    app = open_page(PAGES[0], f"http://127.0.0.1:{unused_tcp_port}", monkeypatch)
    assert not app.exception
    assert "cannot be read" in app.error[0].value
    assert not any("Train a study first" in info.value for info in app.info)


def test_a_file_that_is_no_store_is_not_a_study_to_be_trained(tmp_path: Path, monkeypatch):
    (tmp_path / "text.db").write_text("no database at all, but long enough to be one" * 99)
    app = open_page(PAGES[0], f"sqlite:///{tmp_path}/text.db", monkeypatch)
    assert not app.exception
    assert "cannot be read" in app.error[0].value
    assert "not a database" in app.text[0].value
    app = open_page(PAGES[0], f"sqlite:///{tmp_path}/none.db", monkeypatch)
    assert "Train a study first" in app.info[0].value


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, _empty_database: Path) -> Path:
    """A folder with a store: one learning rate, one trial, one sparsity, one ablation."""
    from trainer.cli import main

    folder = tmp_path_factory.mktemp("small")
    config = folder / "small.yaml"
    config.write_text(
        "study: small\n"
        "network: lenet-300-100\n"
        "dataset: {name: digits, train_images: 256, test_images: 100}\n"
        "settings: [pretrain, lt, rr, sdt]\n"
        "pruners: [omp]\n"
        "learning_rates: [0.1]\n"
        "trials: 1\n"
        "pruning: {sparsities: [0.7]}\n"
        "training: {epochs: 2, batch_size: 64}\n"
        "ablation: [{pretrain_learning_rate: 0.1, learning_rates: [0.05, 0.1]}]\n"
    )
    shutil.copyfile(_empty_database, folder / "mlflow.db")
    assert main(["--config", str(config), "--tracking-uri", f"sqlite:///{folder}/mlflow.db"]) == 0
    return folder


def copy_database(source: Path, target: Path) -> None:
    """With what is still in its write-ahead log."""
    with sqlite3.connect(source) as database:
        database.execute("VACUUM INTO ?", (str(target),))


def texts(app: AppTest) -> str:
    elements = [*app.info, *app.warning, *app.text, *app.caption]
    return "\n".join(element.value for element in elements)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_one_trial_of_one_learning_rate(page: Path, small: Path, monkeypatch):
    app = open_page(page, f"sqlite:///{small}/mlflow.db", monkeypatch)
    assert not app.exception
    asks_for = {"landscape": "trajectory_every", "looks": "until: decided"}
    if page.stem in asks_for:
        assert asks_for[page.stem] in app.info[0].value
    else:
        assert not app.info, [info.value for info in app.info]


def test_table_4_crosses_the_rates_and_no_other_page_mixes_them(small: Path, monkeypatch):
    uri = f"sqlite:///{small}/mlflow.db"
    table = open_page(PAGE["ablation"], uri, monkeypatch).dataframe[0].value
    rates = set(zip(table["pretrain_learning_rate"], table["learning_rate"], strict=True))
    assert rates == {(0.1, 0.05), (0.1, 0.1)}
    assert list(table["trials"]) == [1, 1]
    correlated = open_page(PAGE["correlation"], uri, monkeypatch).dataframe[0].value
    assert set(correlated["learning_rate"]) == {0.1}
    points = open_page(PAGE["learning_rate"], uri, monkeypatch).dataframe[0].value
    assert set(points["learning_rate"]) == {0.1}


def test_one_trial_has_no_interval(small: Path, monkeypatch):
    uri = f"sqlite:///{small}/mlflow.db"
    app = open_page(PAGE["definition"], uri, monkeypatch)
    detail = app.dataframe[1].value
    assert detail["margin (points)"].notna().sum() == 4
    assert detail["from"].isna().all()
    # Accuracies are left open; the study's sparsity and epochs are not.
    assert list(detail["holds"]) == ["✓", "△", "△", "△", "△"]
    assert "One trial of each decides nothing" in texts(app)
    assert "Nothing tells how much trials vary" in texts(app)
    assert "Assumed, as the paper does not name digits" in texts(app)
    assert "On 100 test images, a difference has a standard error of" in texts(app)


@pytest.mark.parametrize("kept", ["pretrain", "lt", None])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_calm_while_a_study_is_half_finished(
    page: Path, kept: str | None, small: Path, tmp_path: Path, monkeypatch
):
    copy_database(small / "mlflow.db", tmp_path / "half.db")
    uri = f"sqlite:///{tmp_path}/half.db"
    client = MlflowClient(uri)
    runs = trainings(reader(uri).runs())
    finished = runs.filter(pl.col("setting").eq_missing(pl.lit(kept))).height
    for run_id, setting in runs.select("run_id", "setting").iter_rows():
        if setting == kept:
            continue
        if setting == "pretrain":
            # As a run looks while it trains.
            client.update_run(run_id, status="RUNNING")
        else:
            client.delete_run(run_id)
    app = open_page(page, uri, monkeypatch)
    assert not app.exception
    if page.stem == "overview":
        (study,) = app.dataframe[-1].value.to_dict("records")
        assert (study["planned"], study["finished"]) == (6, finished)


def test_overview_counts(trained: str, monkeypatch):
    app = open_page(PAGE["overview"], trained, monkeypatch)
    (study,) = app.dataframe[-1].value.to_dict("records")
    assert (study["finished"], study["failed"], study["planned"]) == (36, 4, 54)


def test_table_3_has_the_marks(trained: str, monkeypatch):
    (row,) = open_page(PAGE["across"], trained, monkeypatch).dataframe[0].value.to_dict("records")
    assert (row["dataset"], row["source"]) == ("digits", "tiny")
    assert len(row["lenet-300-100"].split()) == 4
    assert "?" not in row["lenet-300-100"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_calm_when_artifacts_were_deleted(
    page: Path, small: Path, tmp_path: Path, monkeypatch
):
    shutil.copytree(small / "mlartifacts", tmp_path / "copy" / "mlartifacts")
    copy_database(small / "mlflow.db", tmp_path / "copy" / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/copy/mlflow.db"
    with sqlite3.connect(tmp_path / "copy" / "mlflow.db") as database:
        moved = str(small), str(tmp_path / "copy")
        database.execute("UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?)", moved)
    for file in (tmp_path / "copy" / "mlartifacts").rglob("*.safetensors"):
        file.unlink()
    app = open_page(page, uri, monkeypatch)
    assert not app.exception
    if page.stem == "correlation":
        assert "3 runs could not be compared" in texts(app)
    if page.stem == "runs":
        assert "The ticket's files are not to be had" in texts(app)
    shutil.rmtree(tmp_path / "copy" / "mlartifacts")
    snapshot.clear()
    app = open_page(page, uri, monkeypatch)
    assert not app.exception
    if page.stem == "overview":
        assert "its plan is gone" in app.dataframe[-1].value["launch"][0]
    elif page in OF_A_STORE and page.stem not in ("guideline", "across"):
        assert "The plan of this launch cannot be read" in texts(app)


def test_a_link_shows_the_same_view_after_another_launch(small: Path, tmp_path: Path, monkeypatch):
    copy_database(small / "mlflow.db", tmp_path / "later.db")
    uri = f"sqlite:///{tmp_path}/later.db"
    client = MlflowClient(uri)
    runs = reader(uri).runs()
    (launch,) = runs.filter(pl.col("kind") == "launch").to_dicts()
    first = trainings(runs)["run_key"][0]
    (tmp_path / "plan.json").write_text(json.dumps({"runs": [{"run_key": first, "name": "one"}]}))
    later = client.create_run(
        client.create_experiment("elsewhere", (tmp_path / "artifacts").as_uri()),
        start_time=launch["start_time"] + 1000,
        tags={"kind": "launch", "study": "small", "plan_key": "another"},
    )
    client.log_artifact(later.info.run_id, str(tmp_path / "plan.json"))

    def shown(**asked: str) -> int:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        app = AppTest.from_file(str(PAGE["runs"]), default_timeout=60)
        for name, value in asked.items():
            app.query_params[name] = value
        app.run()
        assert not app.exception
        # The address names what is shown, for the next reader.
        assert app.query_params["study"] == "small" or app.query_params["study"] == ["small"]
        return len(app.dataframe[0].value)

    assert shown() == 1, "the newest launch, which plans one run"
    assert shown(study="small", launch=launch["run_id"]) == 6


def test_runs_are_filtered(trained: str, monkeypatch):
    app = open_page(PAGE["runs"], trained, monkeypatch)
    everything = len(app.dataframe[0].value)
    app.multiselect(key="runs_setting").set_value(["sdt"]).run()
    app.multiselect(key="runs_learning_rate").set_value([0.1]).run()
    shown = app.dataframe[0].value
    assert not app.exception
    assert set(shown["setting"]) == {"sdt"}
    assert set(shown["learning_rate"]) == {0.1}
    assert len(shown) < everything
    assert shown["MLflow"].str.startswith("http://127.0.0.1:5000/#/experiments/").all()


def test_correlation_with_the_trained_subnetwork(trained: str, monkeypatch):
    app = open_page(PAGE["correlation"], trained, monkeypatch)
    app.radio(key="trained_by").set_value("the subnetwork itself").run()
    assert not app.exception
    assert not app.warning
    table = app.dataframe[0].value
    assert set(table["pair"].str[:2]) == {"de", "LT", "RR"}
    assert table["correlation"].between(0, 1).all()
