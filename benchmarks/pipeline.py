"""Times the input pipeline alone, and the training step that it feeds.

    python -m benchmarks.pipeline

CIFAR's batches are made on the device from random images of the same shape; ImageNet's are
decoded from random JPEGs of 400 × 350 pixels, by the same code that streams the real ones, in one
process: workers multiply it. A step is ResNet-20's or ResNet-50's on ready-made batches.
"""

import argparse
import io
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from trainer import networks
from trainer.datasets import DATASETS, Split, decoding
from trainer.datasets.batches import DeviceBatches
from trainer.study.optimizers import SGD
from trainer.training.process import prepare_process
from trainer.training.state import TrainingState
from trainer.training.stepped import Member, SteppedModel


def rate(images: int, work: Callable[[], None], device: str, seconds: float = 5.0) -> float:
    """Images per second of `work`, which handles `images` of them."""
    work()
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        done += images
    return done / (time.perf_counter() - began)


def step_rate(name: str, shape: tuple[int, int, int], batch: int, device: str) -> float:
    """Images per second of training steps on a batch that is there."""
    network = networks.build(name, input_shape=shape, classes=10)
    state = TrainingState.fresh(network, SGD(name="sgd"))
    model = SteppedModel(Member(network, state, lambda step: 1e-6))
    images = torch.randn(batch, *shape, device=device)
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    return rate(batch, lambda: model.train_step((images, labels)), device)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    prepare_process()
    rng = np.random.default_rng(0)
    cifar = DATASETS["cifar10"]
    split = Split(rng.integers(0, 256, (10_000, 32, 32, 3), np.uint8), np.zeros(10_000, int))
    made = DeviceBatches(split, cifar, 64, device, epoch_seed=lambda epoch: epoch)

    def epoch() -> None:
        made.on_epoch_begin()
        for _ in made.get_torch_dataloader():
            pass

    coarse = Image.fromarray(rng.integers(0, 256, (25, 20, 3), np.uint8))
    file = io.BytesIO()
    coarse.resize((400, 350), Image.Resampling.BICUBIC).save(file, "JPEG")

    def decode() -> None:
        with Image.open(io.BytesIO(file.getvalue())) as image:
            decoding.cropped(image, (224, 224), int(rng.integers(2**31)))

    batch = 16 if device == "cpu" else 128
    rows = [
        ("CIFAR-10: batches with crop and flip", rate(10_000, epoch, device)),
        ("ResNet-20: steps at batch 64", step_rate("resnet20", (32, 32, 3), 64, device)),
        ("ImageNet: decoded and cropped, one process", rate(1, decode, "cpu")),
        (
            f"ResNet-50: steps at batch {batch}",
            step_rate("resnet50", (224, 224, 3), batch, device),
        ),
    ]
    for name, images in rows:
        print(f"{name:>44}: {images:10,.0f} images/s")


if __name__ == "__main__":
    main()
