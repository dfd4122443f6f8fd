"""A store that others write to: whatever it holds, every page says something and runs nothing."""

import json
import math
import shutil
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from streamlit.testing.v1 import AppTest

from explorer import snapshot, tables
from tests.explorer.test_pages import PAGES

NAMES = [
    "<script>alert(1)</script>",
    "![x](http://127.0.0.1/x.png) [y](javascript:alert(1))",
    '=HYPERLINK("http://127.0.0.1", "x")',
    "../../../etc/passwd",
    "/etc/passwd\n\u202e\u0000"[:-1],
    "\\input{/etc/passwd} $$ % & ~ ^ _ { }",
    "x" * 4000,
    "🎰 ‏ ",
]
NUMBERS = [math.nan, math.inf, -math.inf, 1e308, -1.0, 0.5, 1.0, 0.0]
PARAMS = ["nan", "inf", "-1", "1e999", "", "0.1", "=1+1", "9" * 400]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, _empty_database: Path) -> str:
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copyfile(_empty_database, folder / "mlflow.db")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.create_experiment("hostile", (folder / "artifacts").as_uri())
    runs = []
    for i, name in enumerate(NAMES):
        for setting in ("pretrain", "lt", "rr", "sdt", "own-setting"):
            key = f"{name}{i}{setting}"[:200]
            params = {
                **{"network": name[:400], "dataset": NAMES[-1 - i][:400], "setting": setting},
                **{"sparsity": "0.9" if setting != "pretrain" else "0", "trial": str(i % 2)},
                **{"learning_rate": PARAMS[i] or "0.1", "epochs": "160", "pruner": name[:50]},
                **{"round": PARAMS[-1 - i] or "1", "optimizer": name[:100]},
            }
            run = client.create_run(
                experiment,
                run_name=name,
                tags={"kind": "training", "run_key": key, "study": "hostile", "failure": name},
            )
            now = int(time.time() * 1000)
            client.log_batch(
                run.info.run_id,
                params=[Param(k, v) for k, v in params.items()],
                tags=[RunTag("residual", name[:100]), RunTag("test_set_size", PARAMS[i] or "x")],
                metrics=[
                    Metric(metric, NUMBERS[(i + j) % len(NUMBERS)], now, step)
                    for j, metric in enumerate(("val_accuracy", "best_val_accuracy", "loss"))
                    for step in (1, 160, -5)
                ],
            )
            for file in ("ticket/mask", "ticket/initial", "weights/final"):
                path = folder / "made" / f"{file}.safetensors"
                path.parent.mkdir(parents=True, exist_ok=True)
                # A header that says it has 2 ** 60 bytes.
                path.write_bytes((2**60).to_bytes(8, "little") + b"{" * 100)
                client.log_artifact(run.info.run_id, str(path), file.rpartition("/")[0])
            client.set_terminated(run.info.run_id)
            runs.append({"run_key": key, "name": name, "parent_run_keys": [name], **params})
    launch = client.create_run(
        experiment,
        run_name=NAMES[1],
        tags={"kind": "launch", "plan_key": "x", "study": "hostile", "run_key": "x"},
    )
    plan = {"study": NAMES[0], "runs": runs, "criteria": {"tolerance": 1e308, NAMES[0]: -1}}
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "config.yaml").write_text("a: &a [*a]\nstudy: " + "[" * 50 + "]" * 50 + "\n")
    for file in ("plan.json", "config.yaml"):
        client.log_artifact(launch.info.run_id, str(folder / file))
    client.set_terminated(launch.info.run_id)
    return uri


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_opens(page: Path, hostile: str, monkeypatch):
    snapshot.snapshot.clear()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", hostile)
    app = AppTest.from_file(str(page), default_timeout=120).run()
    assert not app.exception, [e.value for e in app.exception]
    # Names stand in texts and tables; what is rendered as markup never holds them.
    for element in (*app.markdown, *app.caption, *app.info, *app.warning, *app.error):
        for name in NAMES[:3]:
            assert name not in element.value, type(element)


def test_no_download_computes_anything():
    import polars as pl

    frame = pl.DataFrame({"name": NAMES, "sparsity": [0.9] * len(NAMES)})
    text = tables.csv(frame)
    assert "\n'=HYPERLINK" in text or "\"'=HYPERLINK" in text
    assert "\n=HYPERLINK" not in text
    assert "\\input" not in tables.latex(frame)
