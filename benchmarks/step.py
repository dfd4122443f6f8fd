"""Our training step against a plain PyTorch loop of the same network, interleaved in one run.

    python -m benchmarks.step [--rounds 9] [--steps 4] [--batch 128] [--threads 1]

The plain loop is what a careful user of PyTorch writes: modules in channels-last memory and
`torch.optim.SGD` over one ready-made batch. Ours is what the trainer does, mask applied; with
`--batches` it also makes its batches (crop, flip, normalise) inside the timed part. Each has a
process of its own, set up as its user would; they take turns round by round, and the ratio is
taken within each round, so that a machine whose speed drifts does not decide. Time is the
process's CPU time on a CPU (other tenants of the machine do not count), wall time on a GPU.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from trainer import networks
from trainer.config import SGD
from trainer.datasets import DATASETS, Split
from trainer.datasets.batches import DeviceBatches
from trainer.networks.small_dense import trainable_parameters
from trainer.pruning import masks
from trainer.pruning.scores import magnitude
from trainer.training.process import keep_freed_memory
from trainer.training.state import TrainingState
from trainer.training.stepped import Member, SteppedModel


class Block(nn.Module):
    """A basic block with a projection shortcut, as one writes it in PyTorch."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def plain_resnet20() -> nn.Module:
    """ResNet-20 with 272,474 parameters."""
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    channels_in = 16
    for channels, first in ((16, 1), (32, 2), (64, 2)):
        for stride in (first, 1, 1):
            layers.append(Block(channels_in, channels, stride))
            channels_in = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def plain(batch: int, device: str) -> Callable[[int], None]:
    """Trains some steps the plain way."""
    model = plain_resnet20().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(batch, 3, 32, 32).to(device, memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,), device=device)

    def train(steps: int) -> None:
        model.train()
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()

    assert sum(p.numel() for p in model.parameters()) == 272_474
    return train


def ours(batch: int, device: str, batches: bool) -> Callable[[int], None]:
    """Trains some steps through the trainer's own model, mask applied."""
    keep_freed_memory()
    network = networks.build("resnet20", input_shape=(32, 32, 3), classes=10)
    assert trainable_parameters(network) == 272_474
    member = Member(network, TrainingState.of(network, SGD()), lambda step: 0.1)
    model = SteppedModel(member)
    registered = networks.NETWORKS["resnet20"]
    paths = masks.pruned_paths(network, registered.pruned, registered.kept)
    member.keep_masked(masks.prune(masks.kernels(network, paths), 0.832, magnitude))
    rng = np.random.default_rng(0)
    split = Split(
        rng.integers(0, 256, (20 * batch, 32, 32, 3), np.uint8), rng.integers(0, 10, 20 * batch)
    )
    made = DeviceBatches(split, DATASETS["cifar10"], batch, device, epoch_seed=lambda e: e)
    ready = next(made.get_torch_dataloader())

    def train(steps: int) -> None:
        made.on_epoch_begin()
        fresh = made.get_torch_dataloader()
        for _ in range(steps):
            model.train_step(next(fresh) if batches else ready)

    return train


VARIANTS: dict[str, Callable[[int, str], Callable[[int], None]]] = {
    "plain": plain,
    "ours": lambda batch, device: ours(batch, device, batches=False),
    "ours with batches": lambda batch, device: ours(batch, device, batches=True),
}


def serve(name: str, options: argparse.Namespace, pipe: Connection) -> None:
    """A process that trains when told to and answers with the seconds it took."""
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train = VARIANTS[name](options.batch, device)
    clock = time.perf_counter if device == "cuda" else time.process_time
    while pipe.recv():
        began = clock()
        train(options.steps)
        if device == "cuda":
            torch.cuda.synchronize()
        pipe.send(clock() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for name in VARIANTS:
        pipes[name], theirs = context.Pipe()
        context.Process(target=serve, args=(name, options, theirs), daemon=True).start()
    speeds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for round_ in range(options.rounds + 1):
        for name, pipe in pipes.items():
            pipe.send(True)
            seconds = pipe.recv()
            if round_:  # the first warms up
                speeds[name].append(options.steps * options.batch / seconds)
    for pipe in pipes.values():
        pipe.send(False)
    print(f"ResNet-20, batch {options.batch}, {options.threads} threads, {options.rounds} rounds")
    for name, values in speeds.items():
        ratios = [a / b for a, b in zip(values, speeds["plain"], strict=True)]
        print(
            f"{name:>18}: {statistics.median(values):8.1f} images/s, ratio to plain "
            f"{statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f})"
        )


if __name__ == "__main__":
    main()
