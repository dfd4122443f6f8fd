"""How far training moves the largest weights, and how well it does, from different initial weights.

    python -m benchmarks.initial_weights before=sqlite:///before.db after=sqlite:///after.db

Reads pretraining runs from stores that two versions of the trainer wrote with the same config, and
keeps R_0.1(θ₀, θ_T) over the pruned layers and the test accuracy of each.
"""

import sys

import keras

from benchmarks import record
from explorer.readers import reader
from explorer.readers.frames import trainings
from jackpot import artifacts, correlation
from jackpot.contract import Artifact
from trainer import networks
from trainer.pruning import masks

P = 0.1


def pruned(name: str, weights: artifacts.Arrays) -> list[str]:
    """Paths of the kernels that a registered network prunes."""
    with keras.device("meta"):
        model = networks.build(name, input_shape=(32, 32, 3), classes=10)
    found = networks.find(name)
    return [p for p in masks.pruned_paths(model, found.pruned, found.kept) if p in weights]


def main() -> None:
    rows = []
    for argument in sys.argv[1:]:
        version, _, uri = argument.partition("=")
        store = reader(uri)
        for run in trainings(store.runs()).filter(status="FINISHED").iter_rows(named=True):
            with (
                store.artifact(run["run_id"], Artifact.TICKET_INITIAL) as first,
                store.artifact(run["run_id"], Artifact.WEIGHTS_FINAL) as last,
            ):
                initial, trained = (artifacts.read_weights(path)[0] for path in (first, last))
            paths = pruned(run["network"].partition(" ")[0], initial)
            value = correlation.indicator(
                {path: initial[path] for path in paths}, {path: trained[path] for path in paths}, P
            )
            row = {
                "version": version,
                "network": run["network"].partition(" ")[0],
                **{name: run[name] for name in ("learning_rate", "epochs", "train_images")},
                "correlation": round(value, 4),
                "accuracy": round(run["val_accuracy"], 4),
            }
            rows.append(row)
            print(row)
    record.keep("initial-weights", rows, by=("version", "network", "learning_rate"))


if __name__ == "__main__":
    main()
