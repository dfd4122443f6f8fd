"""`python -m trainer.export <run id> <folder>`: a ticket, ready for a model hub."""

import argparse
import os
import sys
from pathlib import Path

from jackpot.contract import DEFAULT_TRACKING_URI
from jackpot.stores import print_anywhere, sqlite_file, tracking_uri

OK, BAD_INPUT = 0, 2


def parser() -> argparse.ArgumentParser:
    """The arguments of `python -m trainer.export`."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.export",
        description="Writes a ticket to a folder: as plain PyTorch (model.py, model.safetensors), "
        "as model.keras, as the ticket's own files, and with a card that says what it is.",
    )
    parser.add_argument("run", help="id of the MLflow run")
    parser.add_argument("folder", type=Path, help="new folder")
    parser.add_argument("--weights", choices=("initial", "final"), default="initial")
    parser.add_argument("--network", help="package.module:function of a network of your own")
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
    from trainer.export.folder import write
    from trainer.store.tracking import Store, StoreAway, StoreRefused

    try:
        uri = options.tracking_uri or tracking_uri()
        file = sqlite_file(uri)
        if file is not None and not file.is_file():
            raise ValueError(f"{uri}: there is no such file")
        said = write(Store(uri), options.run, options.folder, options.weights, options.network)
    except (ArtifactError, StoreAway, StoreRefused, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    print("\n".join([*said, f"Written to {options.folder}."]))
    return OK


if __name__ == "__main__":
    sys.exit(main())
