"""`python -m trainer.landscape --run <id>`: the loss around a run's final weights, into MLflow."""

import argparse
import os
import sys

from jackpot.contract import DEFAULT_TRACKING_URI
from jackpot.stores import print_anywhere, sqlite_file, tracking_uri

OK, BAD_INPUT, INTERRUPTED = 0, 2, 130


def parser() -> argparse.ArgumentParser:
    """The arguments of `python -m trainer.landscape`."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.landscape",
        description="Measures loss and accuracy over a plane through a run's final weights, along "
        "the principal directions of its training (the study must set trajectory_every) or random "
        "filter-normalised ones, and stores them with the run for the explorer to draw. Running "
        "the same command again resumes where the last one stopped.",
    )
    parser.add_argument("--run", required=True, help="id of the MLflow run")
    parser.add_argument(
        "--to",
        help="id of another run: measures the line between the final weights of both, on test "
        "images, in place of a plane",
    )
    parser.add_argument("--directions", choices=("pca", "random"), default="pca")
    parser.add_argument(
        "--batch-norm",
        choices=("re-estimated", "fixed"),
        default="re-estimated",
        help="statistics: of the images at each point, or those of the final weights everywhere",
    )
    parser.add_argument("--points", type=int, default=25, help="along each side of the grid")
    parser.add_argument(
        "--images", type=int, default=1000, help="training images to measure on (the first ones)"
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=0.3,
        help="room around the path, as a share of its extent (pca)",
    )
    parser.add_argument(
        "--extent",
        type=float,
        default=1.0,
        help="half of the grid's side, in lengths of the filters (random)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of random directions")
    parser.add_argument("--network", help="package.module:function of a network of your own")
    parser.add_argument("--dataset", help="package.module:function of a dataset of your own")
    parser.add_argument(
        "--tracking-uri",
        help=f"MLflow store (default: $MLFLOW_TRACKING_URI, else {DEFAULT_TRACKING_URI})",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    print_anywhere()
    options = parser().parse_args(arguments)
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "torch"
    from jackpot.artifacts import ArtifactError
    from trainer.datasets import DatasetError
    from trainer.landscape.line import LineOptions, line
    from trainer.landscape.of_run import Options, landscape
    from trainer.store.tracking import Store, StoreAway, StoreRefused

    try:
        chosen = Options(
            directions=options.directions,
            batch_norm=options.batch_norm,
            points=options.points,
            images=options.images,
            margin=options.margin,
            extent=options.extent,
            seed=options.seed,
        )
        uri = options.tracking_uri or tracking_uri()
        store, file = Store(uri), sqlite_file(uri)
        if file is not None and not file.is_file():
            raise ValueError(f"{uri}: there is no such file")
        own = options.network, options.dataset
        if options.to:
            between = LineOptions(options.batch_norm, options.points, options.images)
            print(line(store, options.run, options.to, between, *own))
        else:
            print(landscape(store, options.run, chosen, *own))
    except (ArtifactError, DatasetError, StoreAway, StoreRefused, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on where this one stopped.", file=sys.stderr)
        return INTERRUPTED
    return OK


if __name__ == "__main__":
    sys.exit(main())
