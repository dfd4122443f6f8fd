"""Our training step against a plain PyTorch loop of the same network, interleaved in one run.

    python -m benchmarks.step [--networks resnet20 vgg16 …] [--batch 64] [--threads 1]
                              [--together 4] [--rounds 9] [--steps 4] [--variants ours keras …]

The plain loop is what a careful user of PyTorch writes: modules in channels-last memory and
`torch.optim.SGD` over one ready-made batch. `ours` is what the trainer does: batches cropped,
flipped and normalised inside the timed part, mask applied, on a GPU recorded as CUDA graphs.
`together` steps several runs side by side and counts the images of all; `keras` is Keras's own
`fit` with its default layers. Each has a process of its own, set up as its user would; they take
turns round by round, and the ratio is taken within each round, so that a machine whose speed drifts
does not decide. Time is the process's CPU time on a CPU (other tenants of the machine do not
count), wall time on a GPU.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import keras
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import record
from benchmarks.plain import NETWORKS
from trainer import networks
from trainer.datasets import DATASETS, Split
from trainer.datasets.batches import DeviceBatches, GroupBatches, Recordable
from trainer.networks.layers import Blocks
from trainer.networks.small_dense import trainable_parameters
from trainer.pruning import masks
from trainer.pruning.scores import magnitude
from trainer.study.optimizers import SGD
from trainer.training import recording
from trainer.training.process import prepare_process
from trainer.training.state import TrainingState
from trainer.training.stepped import Member, SteppedModel

Train = Callable[[int], int]
"""Takes the given number of steps and returns the number of images trained on."""
SHAPE, CLASSES = (32, 32, 3), 10


def plain(name: str, batch: int, device: str) -> Train:
    """The plain way."""
    torch.backends.cudnn.benchmark = True
    model = NETWORKS[name]().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(batch, 3, 32, 32).to(device, memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (batch,), device=device)
    with keras.device("meta"):
        network = networks.build(name, input_shape=SHAPE, classes=CLASSES)
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
    name: str, batch: int, device: str, *, precision: str = "float32", together: int = 1
) -> Train:
    """The trainer's own model."""
    prepare_process()
    members = []
    for seed in range(together):
        network = networks.build(name, input_shape=SHAPE, classes=CLASSES, seed=seed)
        members.append(
            Member(network, TrainingState.fresh(network, SGD(name="sgd")), lambda step: 0.1)
        )
    recorder = recording.recorder(torch.device(device))
    model = SteppedModel(*members, precision=precision, recorder=recorder)
    registered = networks.NETWORKS[name]
    for member in members:
        paths = masks.pruned_paths(member.network, registered.pruned, registered.kept)
        kernels = masks.kernels(member.network, paths)
        member.state.keep_masked(masks.prune(magnitude(kernels), 0.832))
    # An epoch of CIFAR-10 on a GPU, where the pause between two would count too much otherwise.
    images = random_images(20 * batch if device == "cpu" else 50_000 // batch * batch)
    made: Any = DeviceBatches(images, DATASETS["cifar10"], batch, device, epoch_seed=lambda e: e)
    if together > 1:
        orders = [made.again(lambda e, k=k: 1000 * k + e, 0) for k in range(together)]
        made = GroupBatches(orders, range(together))
    passes = Recordable(made) if recorder else made

    def endless() -> Iterator[Any]:
        while True:
            passes.on_epoch_begin()
            yield from passes.get_torch_dataloader()

    given = endless()

    def train(steps: int) -> int:
        for _ in range(steps):
            model.train_step(next(given))
        return steps * batch * together

    return train


class DefaultBlocks(Blocks):
    """Blocks with Keras's own batch norm."""

    def norm(self, x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
        """Keras's defaults."""
        return keras.layers.BatchNormalization(name=name)(x)


def with_keras(name: str, batch: int, device: str) -> Train:
    """Keras's `fit`, default layers, on images that are in memory as floats."""
    registered = networks.NETWORKS[name]
    module = __import__(registered.module, fromlist=[registered.function])
    model = getattr(module, registered.function)(DefaultBlocks(), SHAPE, CLASSES)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
    images = np.random.default_rng(0).normal(size=(20 * batch, *SHAPE)).astype(np.float32)
    labels = np.zeros(20 * batch, np.int64)

    def train(steps: int) -> int:
        for start in range(0, steps, 20):
            count = min(20, steps - start) * batch
            model.fit(images[:count], labels[:count], batch_size=batch, verbose=0)
        return steps * batch

    return train


def random_images(count: int) -> Split:
    """CIFAR-like images and labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *SHAPE), np.uint8)
    return Split(images, rng.integers(0, CLASSES, count))


def variants(together: int) -> dict[str, Callable[[str, int, str], Train]]:
    """All that can be measured."""
    return {
        "plain": plain,
        "ours": ours,
        "bfloat16": partial(ours, precision="bfloat16"),
        "together": partial(ours, together=together),
        "keras": with_keras,
    }


def serve(variant: str, name: str, options: argparse.Namespace, pipe: Connection) -> None:
    """A process that trains when told to and answers with the images per second."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train = variants(options.together)[variant](name, options.batch, device)
    torch.set_num_threads(options.threads)
    clock = time.perf_counter if device == "cuda" else time.process_time
    while steps := pipe.recv():
        began = clock()
        images = train(steps)
        if device == "cuda":
            torch.cuda.synchronize()
        pipe.send(images / (clock() - began))


def compare(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Images per second of each variant for one network, in turns; one row a variant."""
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for variant in dict.fromkeys(["plain", *options.variants]):
        pipes[variant], theirs = context.Pipe()
        arguments = variant, name, options, theirs
        context.Process(target=serve, args=arguments, daemon=True).start()
        # The other end is the process's alone: if that dies, `recv` says so.
        theirs.close()
    speeds: dict[str, list[float]] = {variant: [] for variant in pipes}
    for round_ in range(options.rounds + 1):
        for variant, pipe in pipes.items():
            # The first round warms up, which takes a recorder some steps.
            pipe.send(options.steps if round_ else max(6, options.steps) if record.gpu() else 1)
            speed = pipe.recv()
            if round_:
                speeds[variant].append(speed)
    for pipe in pipes.values():
        pipe.send(0)
    rows = []
    for variant, values in speeds.items():
        ratios = [a / b for a, b in zip(values, speeds["plain"], strict=True)]
        row = {
            "network": name,
            "variant": f"{options.together} side by side" if variant == "together" else variant,
            "batch": options.batch,
            "threads": options.threads,
            "images_per_second": statistics.median(values),
            "ratio": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
        }
        print(
            f"{name:>13} {row['variant']:>15}: {row['images_per_second']:8.1f} images/s, ratio to "
            f"plain {row['ratio']:.3f} (from {row['lowest']:.3f} to {row['highest']:.3f})",
            flush=True,
        )
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--variants", nargs="+", choices=list(variants(1)), default=["ours"])
    parser.add_argument("--together", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    rows = [row for name in options.networks for row in compare(name, options)]
    record.keep("step", rows, by=("network", "variant", "batch", "threads"))


if __name__ == "__main__":
    main()
