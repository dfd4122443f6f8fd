"""`python -m mlflow_server.copy SOURCE TARGET`: copies studies from one tracking store to another.

Launches and trainings with params, tags, every point of every metric, and artifacts; run ids
that refer to other runs are translated. The same command again copies only what is new.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from jackpot import schema, stores
from jackpot.contract import NOTE_TAG, PARENT_TAG, Kind, Tag
from jackpot.stores import experiment_settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

OK, BAD_INPUT = 0, 2
# MLflow's own limits per call.
_PARAMS, _POINTS, _PAGE = 100, 1000, 1000
_IDS = (PARENT_TAG, Tag.MASK_RUN_ID, Tag.INIT_RUN_ID)
_COPIED_FROM = "copied_from"


def parser() -> argparse.ArgumentParser:
    """The arguments of `python -m mlflow_server.copy`."""
    parser = argparse.ArgumentParser(
        prog="python -m mlflow_server.copy",
        description="Copies studies from one tracking store to another, such as from a laptop's "
        "SQLite file to a team's server. The same command again copies only what is new.",
    )
    parser.add_argument("source", help="such as sqlite:///mlflow.db")
    parser.add_argument("target", help="such as http://mlflow.lab.org:5000")
    parser.add_argument("--study", help="copy this study alone")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    stores.print_anywhere()
    options = parser().parse_args(arguments)
    stores.quiet_client()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        for uri in (options.source, options.target):
            stores.check_uri(uri)
        if not stores.is_server(options.source) and schema.check(options.source) is None:
            # MLflow would make an empty one.
            raise schema.SchemaError(f"{stores.shown(options.source)}: there is no such file")
        schema.make(options.target)
        source, target = MlflowClient(options.source), MlflowClient(options.target)
    except (ValueError, OSError) as error:
        print(f"error: {stores.one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    try:
        for said in copy(source, target, options.target, options.study):
            print(said, flush=True)
    except (MlflowException, OSError) as error:
        print(
            f"error: {stores.one_line(error)}. The same command goes on from here.", file=sys.stderr
        )
        return BAD_INPUT
    return OK


def copy(
    source: "MlflowClient", target: "MlflowClient", target_uri: str, study: str | None = None
) -> Iterator[str]:
    """Copies study by study and says what was done.

    Raises:
        MlflowException: one of the stores cannot do it.
    """
    experiments = [e for e in source.search_experiments() if study in (None, e.name)]
    for experiment in experiments:
        runs = sorted(_runs(source, experiment), key=lambda run: run.info.start_time)
        if not runs:
            continue
        into = _experiment(target, target_uri, experiment.name, experiment.tags.get(NOTE_TAG, ""))
        there = {_identity(run): run for run in _runs(target, into)}
        ids: dict[str, str] = {}
        copied = known = running = 0
        for run in runs:
            found = there.get(_identity(run))
            if found is not None and found.info.status != "RUNNING":
                ids[run.info.run_id] = found.info.run_id
                known += 1
                continue
            if run.info.status == "RUNNING":
                running += 1
                continue
            if found is not None:
                if found.data.tags.get(_COPIED_FROM) != run.info.run_id:
                    continue  # Somebody trains it there at this moment.
                target.delete_run(found.info.run_id)  # Left half done by an earlier copy.
            ids[run.info.run_id] = _copied(source, target, run, into.experiment_id, ids)
            copied += 1
        left = f", {running} still run and are left out" if running else ""
        yield f"{experiment.name}: {copied} runs copied, {known} were there{left}"


def _runs(client: "MlflowClient", experiment: "Experiment") -> Iterator["Run"]:
    """The trainer's runs in an experiment."""
    for kind in Kind:
        ask = partial(
            client.search_runs,
            [experiment.experiment_id],
            f"tags.{Tag.KIND} = '{kind}'",
            max_results=_PAGE,
        )
        yield from stores.every(ask)


def _identity(run: "Run") -> tuple[str | None, ...]:
    """What makes a run the same in both stores: its key, and of several attempts, its start."""
    tags = run.data.tags
    return tags.get(Tag.KIND), tags.get(Tag.RUN_KEY, tags.get(Tag.PLAN_KEY)), run.info.start_time


def _experiment(target: "MlflowClient", uri: str, name: str, note: str) -> "Experiment":
    found = target.get_experiment_by_name(name)
    if found is not None:
        return found
    made = target.create_experiment(name, **experiment_settings(uri, name))
    if note:
        target.set_experiment_tag(made, NOTE_TAG, note)
    return target.get_experiment(made)


def _copied(
    source: "MlflowClient",
    target: "MlflowClient",
    run: "Run",
    experiment_id: str,
    ids: dict[str, str],
) -> str:
    """Copies `run` to the target and returns the new id; the new run ends when complete."""
    from mlflow.entities import Param

    tags = dict(run.data.tags) | {_COPIED_FROM: run.info.run_id}
    tags |= {name: ids.get(tags[name], tags[name]) for name in _IDS if name in tags}
    new = target.create_run(
        experiment_id, start_time=run.info.start_time, tags=tags, run_name=run.info.run_name
    ).info.run_id
    params = [Param(*item) for item in run.data.params.items()]
    for first in range(0, len(params), _PARAMS):
        target.log_batch(new, params=params[first : first + _PARAMS])
    if run.inputs is not None and run.inputs.dataset_inputs:
        target.log_inputs(new, run.inputs.dataset_inputs)
    points = [
        point
        for metric in run.data.metrics
        for point in source.get_metric_history(run.info.run_id, metric)
    ]
    for first in range(0, len(points), _POINTS):
        target.log_batch(new, metrics=points[first : first + _POINTS])
    with TemporaryDirectory(prefix="jackpot-copy-") as folder:
        if source.list_artifacts(run.info.run_id):
            # A local store hands out its own folder instead of a copy.
            target.log_artifacts(new, source.download_artifacts(run.info.run_id, "", folder))
    target.set_terminated(new, run.info.status, run.info.end_time)
    return new


if __name__ == "__main__":
    sys.exit(main())
