"""Peak memory of a run and of runs that are stepped side by side.

    python -m benchmarks.memory [--networks resnet20 vgg16] [--batch 64] [--together 1 2 4 8]

Each row is a process of its own that steps and evaluates random CIFAR-like images: on a CPU its
maximum resident set less what it held after its imports, on a GPU the memory that torch reserved.
"""

import argparse
import multiprocessing
import resource

import torch

from benchmarks import record
from benchmarks.plain import NETWORKS
from trainer.study.config import Study


def measure(network: str, batch: int, together: int) -> record.Row:
    """Bytes at the peak, in this process."""
    from trainer.execution import calibration

    config = Study.model_validate(
        {
            "study": "memory",
            "network": network,
            "dataset": "cifar10",
            "learning_rates": [0.1],
            "settings": ["pretrain"],
            "training": {"epochs": 1, "batch_size": batch},
        }
    )
    imports = _resident()
    calibration.rehearsal(config, together)(6)
    peak = torch.cuda.max_memory_reserved() if record.gpu() else _resident() - imports
    return {
        "network": network,
        "batch": batch,
        "together": together,
        "megabytes": peak / 2**20,
        "imports_megabytes": imports / 2**20,
    }


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["resnet20", "vgg16"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--together", nargs="+", type=int, default=[1, 2, 4, 8])
    options = parser.parse_args()
    rows = []
    for network in options.networks:
        for together in options.together:
            # A process for each: a peak never falls again.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(measure, (network, options.batch, together)))
            print(
                f"{network:>13}, {together} side by side: {rows[-1]['megabytes']:7.0f} MiB",
                flush=True,
            )
    record.keep("memory", rows, by=("network", "batch", "together"))


if __name__ == "__main__":
    main()
