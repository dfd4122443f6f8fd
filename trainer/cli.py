"""The command line: `python -m trainer --config configs/digits.yaml`."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from jackpot.contract import DEFAULT_TRACKING_URI
from jackpot.stores import one_line, print_anywhere, tracking_uri

OK, INCOMPLETE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
_WIDTH_OF_FILES = 160


def parser() -> argparse.ArgumentParser:
    """The arguments of `python -m trainer`."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer",
        description="Trains every run of a lottery-ticket study that is not finished yet, and logs "
        "it to MLflow. Running the same command again resumes where the last one stopped.",
        epilog="Exit code: 0 every run is finished, 1 some are not, 2 bad input, 130 interrupted.",
    )
    parser.add_argument("--config", type=Path, required=True, help="the study's YAML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override a key of the config, such as training.epochs=10 or "
        "'learning_rates=[0.01, 0.1]'; may be repeated",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and its cost, train nothing"
    )
    parser.add_argument(
        "--budget",
        metavar="6h",
        help="stop training after this time (90m, 6h, 2d) or so many epochs of all runs together "
        "(500epochs); the same command goes on",
    )
    parser.add_argument(
        "--tracking-uri",
        default=None,
        help="MLflow store: sqlite:///file.db or a server's http://host:port "
        f"(default: $MLFLOW_TRACKING_URI, else {DEFAULT_TRACKING_URI})",
    )
    parser.add_argument(
        "--executor",
        choices=("serial", "ray"),
        default="serial",
        help="serial: in this process (default); ray: several at once, on any machines",
    )
    parser.add_argument(
        "--ray-address",
        help="a running Ray cluster, such as auto or ray-head:6379 (default: a local one)",
    )
    parser.add_argument(
        "--runs-per-device",
        type=int,
        help="runs that share a GPU, or without one, all CPU cores (default: as many as fit)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    print_anywhere()
    options = parser().parse_args(arguments)
    if "keras" not in sys.modules:
        # Another backend may be the user's own default: this program has no other.
        os.environ["KERAS_BACKEND"] = "torch"
    # Past this point imports cost time: `--help` and usage errors do not get here.
    from rich.console import Console

    from trainer.datasets import DatasetError
    from trainer.study.config_file import ConfigError, load_study

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("trainer").setLevel(logging.INFO)
    for chatty in ("absl", "mlflow", "alembic", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        # A file has room: in rich's 80 columns, tables of many learning rates fall apart.
        console.width = _WIDTH_OF_FILES
    uri = options.tracking_uri or tracking_uri()
    try:
        if options.executor != "ray" and (options.ray_address or options.runs_per_device):
            raise ValueError("--ray-address and --runs-per-device need --executor ray")
        if options.runs_per_device is not None and options.runs_per_device < 1:
            raise ValueError(
                f"--runs-per-device: expected 1 or more, received {options.runs_per_device}"
            )
        config = load_study(options.config, options.overrides)
        from trainer.execution.budget import Budget

        budget = Budget.of(options.budget) if options.budget is not None else None
        # MLflow's imports are slow: only after the config has been read.
        from trainer.launch import dry_run, launch
        from trainer.store.tracking import Store

        store = Store(uri, read_only=options.dry_run)
        store.check_schema()
        if options.dry_run:
            dry_run(config, store, console)
            return OK
        ray = None
        if options.executor == "ray":
            from trainer.execution.ray_executor import RayOptions

            ray = RayOptions(options.ray_address, options.runs_per_device)
        ended = launch(config, store, console, ray, budget)
    except (ConfigError, DatasetError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        # Of the store's folder, say; whatever runs met is told by their outcomes.
        print(f"error: {one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on where this one stopped.", file=sys.stderr)
        return INTERRUPTED
    if ended.interrupted:
        return INTERRUPTED
    return OK if ended.complete else INCOMPLETE
