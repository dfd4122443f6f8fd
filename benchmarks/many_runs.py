"""Fills a SQLite store with many finished runs, and times what the explorer does with it.

    python -m benchmarks.many_runs [--runs 10000] [--store /tmp/many/mlflow.db]

The runs are made up, and say so in their study's name; they pass through the trainer's own plan,
journal and delivery, so that the store looks exactly as studies leave it (160 epochs of five
metrics each).
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from explorer.readers import ApiReader, reader
from explorer.readers.frames import different, launches, merged, of_plan
from jackpot.contract import Kind, Tag
from jackpot.definition import judge
from jackpot.trials import accuracies
from trainer.execution.record import write_record
from trainer.store.delivery import Delivery
from trainer.store.journal import RunStart, WorkDir
from trainer.store.tracking import Store
from trainer.study.config import Study
from trainer.study.plan import Plan, RunSpec, plan

EPOCHS = 160


def study(trials: int) -> Study:
    """The paper's ResNet-20 study with as many trials as it takes."""
    return Study.model_validate(
        {
            "study": "made-up-for-a-benchmark",
            "network": "resnet20",
            "dataset": "cifar10",
            "learning_rates": [0.001, 0.005, 0.01, 0.05, 0.1, 0.15],
            "settings": ["pretrain", "lt", "rr", "wr", "sdt"],
            "pruning": {"rounds": 14, "sparsities": [0.59, 0.832, 0.914, 0.945, 0.956]},
            "trials": trials,
            "training": {"epochs": EPOCHS, "batch_size": 64, "rewind_epoch": 8},
        }
    )


def record(work: WorkDir, plan_: Plan, spec: RunSpec, rng: np.random.Generator) -> None:
    """One made-up run in the trainer's journal."""
    folder = work.open(spec.key)
    folder.start(
        RunStart(
            key=spec.key,
            kind=Kind.TRAINING,
            experiment=plan_.study,
            name=spec.name,
            params={str(k): v for k, v in spec.params().items()},
            tags={Tag.KIND: Kind.TRAINING, Tag.RUN_KEY: spec.key, Tag.STUDY: plan_.study},
            launch=plan_.key,
        )
    )
    ceiling = 0.9 - 0.1 * spec.sparsity + 0.01 * rng.normal()
    for epoch in range(spec.first_epoch + 1, EPOCHS + 1):
        accuracy = ceiling * (1 - 0.5 * 0.95**epoch)
        folder.metrics(
            epoch,
            {
                "loss": 1 - accuracy,
                "accuracy": accuracy,
                "val_loss": 1.1 - accuracy,
                "val_accuracy": accuracy,
                "learning_rate": spec.learning_rate,
            },
        )
    folder.summary(EPOCHS, {"best_val_accuracy": accuracy, "images_per_second": 400.0}, {})
    folder.end("FINISHED")


def fill(file: Path, runs: int) -> None:
    """Makes the store, launch record included."""
    config = study(max(1, runs // len(plan(study(1)).runs)))
    plan_ = plan(config)
    work = WorkDir(file.parent / "work")
    store = Store(f"sqlite:///{file}")
    store.create_schema()
    delivery = Delivery(store, work, every_s=0.2).start()
    rng = np.random.default_rng(0)
    launch = work.open(plan_.key)
    launch.start(
        RunStart(
            key=plan_.key,
            kind=Kind.LAUNCH,
            experiment=plan_.study,
            name=f"launch, {len(plan_.runs)} runs",
            params={},
            tags={
                Tag.KIND: Kind.LAUNCH,
                Tag.PLAN_KEY: plan_.key,
                Tag.STUDY: plan_.study,
            },
        )
    )
    write_record(launch, plan_, config)
    for done, spec in enumerate(plan_.runs):
        record(work, plan_, spec, rng)
        while done % 200 == 0 and len(work.folders()) > 300:
            time.sleep(0.5)
    launch.end("FINISHED")
    delivery.close(600, {plan_.key, *(spec.key for spec in plan_.runs)})


def timed(name: str, what) -> object:  # noqa: ANN001
    """Prints how long `what()` takes and returns its answer."""
    began = time.perf_counter()
    answer = what()
    print(f"{name:>34}: {time.perf_counter() - began:6.2f} s")
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    file = options.store or Path(tempfile.mkdtemp()) / "mlflow.db"
    file.parent.mkdir(parents=True, exist_ok=True)
    os.chdir(file.parent)
    if not file.exists():
        timed("filling the store", lambda: fill(file, options.runs))
    sql = reader(f"sqlite:///{file}")
    runs = timed("first read, SQL", sql.runs)
    print(f"{runs.height:>34} runs, {file.stat().st_size / 1e9:.2f} GB")
    timed("first read, MLflow's API", ApiReader(f"sqlite:///{file}").runs)

    def refresh() -> None:
        listing = sql.listing()
        merged(runs, sql.runs(different(runs, listing).to_list()), listing["run_id"])

    timed("refresh", refresh)
    chosen = launches(runs)["run_id"][0]
    plan_ = timed("plan of the launch", lambda: sql.plan(chosen))
    found = timed("runs of the plan", lambda: of_plan(runs, plan_))
    timed("verdicts", lambda: judge(accuracies(found, "last")))


if __name__ == "__main__":
    main()
