"""Our training step against a plain PyTorch loop of the same network, interleaved in one run.

    python -m benchmarks.step [--network resnet20] [--batch 128] [--threads 1] [--together 4]
                              [--rounds 9] [--steps 4]

The plain loop is what a careful user of PyTorch writes: modules in channels-last memory and
`torch.optim.SGD` over one ready-made batch. Ours is what the trainer does, mask applied; `with
batches` makes its batches too (crop, flip, normalise) inside the timed part; `in bfloat16` is ours
in that precision; `together` steps several runs side by side and counts the images of all. Each
has a process of its own, set up as its user would; they take turns round by round, and the ratio
is taken within each round, so that a machine whose speed drifts does not decide. Time is the
process's CPU time on a CPU (other tenants of the machine do not count), wall time on a GPU.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.plain import NETWORKS
from trainer import networks
from trainer.config import SGD
from trainer.datasets import DATASETS, Split
from trainer.datasets.batches import DeviceBatches, SideBySide
from trainer.networks.small_dense import trainable_parameters
from trainer.pruning import masks
from trainer.pruning.scores import magnitude
from trainer.training.process import keep_freed_memory
from trainer.training.state import TrainingState
from trainer.training.stepped import Member, SteppedModel

Train = Callable[[int], int]
"""Takes so many steps and returns the images that it trained on."""


def plain(options: argparse.Namespace, device: str) -> Train:
    """The plain way."""
    model = NETWORKS[options.network]().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    batch = options.batch
    images = torch.randn(batch, 3, 32, 32).to(device, memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,), device=device)
    network = networks.build(options.network, input_shape=(32, 32, 3), classes=10)
    assert sum(p.numel() for p in model.parameters()) == trainable_parameters(network)

    def train(steps: int) -> int:
        model.train()
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
        return steps * batch

    return train


def ours(
    options: argparse.Namespace,
    device: str,
    *,
    batches: bool = False,
    precision: str = "float32",
    together: int = 1,
) -> Train:
    """The trainer's own model, mask applied."""
    keep_freed_memory()
    members = []
    for seed in range(together):
        network = networks.build(options.network, input_shape=(32, 32, 3), classes=10, seed=seed)
        members.append(Member(network, TrainingState.of(network, SGD()), lambda step: 0.1))
    model = SteppedModel(*members, precision=precision)
    registered = networks.NETWORKS[options.network]
    for member in members:
        paths = masks.pruned_paths(member.network, registered.pruned, registered.kept)
        kernels = masks.kernels(member.network, paths)
        member.keep_masked(masks.prune(kernels, 0.832, magnitude))
    rng, count = np.random.default_rng(0), 20 * options.batch
    split = Split(rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, 10, count))
    made = DeviceBatches(split, DATASETS["cifar10"], options.batch, device, epoch_seed=lambda e: e)
    if together > 1:
        orders = [made.again(lambda e, k=k: 1000 * k + e, 0) for k in range(together)]
        made = SideBySide(orders, range(together))
    made.on_epoch_begin()
    ready = next(iter(made.get_torch_dataloader()))

    def train(steps: int) -> int:
        made.on_epoch_begin()
        fresh = iter(made.get_torch_dataloader())
        for _ in range(steps):
            model.train_step(next(fresh) if batches else ready)
        return steps * options.batch * together

    return train


VARIANTS: dict[str, Callable[[argparse.Namespace, str], Train]] = {
    "plain": plain,
    "ours": ours,
    "ours with batches": partial(ours, batches=True),
    "ours in bfloat16": partial(ours, precision="bfloat16"),
}


def variants(options: argparse.Namespace) -> dict[str, Callable[[argparse.Namespace, str], Train]]:
    if options.together == 1:
        return VARIANTS
    return VARIANTS | {f"{options.together} together": partial(ours, together=options.together)}


def serve(name: str, options: argparse.Namespace, pipe: Connection) -> None:
    """A process that trains when told to and answers with the images per second."""
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train = variants(options)[name](options, device)
    clock = time.perf_counter if device == "cuda" else time.process_time
    while pipe.recv():
        began = clock()
        images = train(options.steps)
        if device == "cuda":
            torch.cuda.synchronize()
        pipe.send(images / (clock() - began))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=NETWORKS, default="resnet20")
    parser.add_argument("--together", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for name in variants(options):
        pipes[name], theirs = context.Pipe()
        context.Process(target=serve, args=(name, options, theirs), daemon=True).start()
    speeds: dict[str, list[float]] = {name: [] for name in pipes}
    for round_ in range(options.rounds + 1):
        for name, pipe in pipes.items():
            pipe.send(True)
            speed = pipe.recv()
            if round_:  # the first warms up
                speeds[name].append(speed)
    for pipe in pipes.values():
        pipe.send(False)
    print(
        f"{options.network}, batch {options.batch}, {options.threads} threads, "
        f"{options.rounds} rounds"
    )
    for name, values in speeds.items():
        ratios = [a / b for a, b in zip(values, speeds["plain"], strict=True)]
        print(
            f"{name:>18}: {statistics.median(values):8.1f} images/s, ratio to plain "
            f"{statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f})"
        )


if __name__ == "__main__":
    main()
