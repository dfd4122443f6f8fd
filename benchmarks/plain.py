"""The paper's networks as a careful user of PyTorch writes them, to measure ours against."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from trainer.datasets import Dataset, Split
from trainer.study.config import Training


def conv(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias, padded by half its size."""
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)


class Basic(nn.Module):
    """Two 3 × 3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, channels: int, stride: int, projected: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, channels, 3, stride), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels, channels, 3), nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(
                conv(inputs, channels, 1, stride), nn.BatchNorm2d(channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1 × 1, 3 × 3, 1 × 1 to four times the channels, and a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, channels: int, stride: int, projected: bool) -> None:
        super().__init__()
        wide = 4 * channels
        self.conv1, self.bn1 = conv(inputs, channels, 1), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels, channels, 3, stride), nn.BatchNorm2d(channels)
        self.conv3, self.bn3 = conv(channels, wide, 1), nn.BatchNorm2d(wide)
        self.shortcut = nn.Sequential()
        if projected:
            self.shortcut = nn.Sequential(conv(inputs, wide, 1, stride), nn.BatchNorm2d(wide))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


def resnet(
    block: type[Basic | Bottleneck], channels: tuple[int, ...], depths: tuple[int, ...]
) -> nn.Module:
    """A residual network for 32 × 32 images."""
    inputs = channels[0]
    layers: list[nn.Module] = [conv(3, inputs, 3), nn.BatchNorm2d(inputs), nn.ReLU()]
    for stage, (count, depth) in enumerate(zip(channels, depths, strict=True)):
        for i in range(depth):
            layers.append(block(inputs, count, 2 if stage and i == 0 else 1, i == 0))
            inputs = count * block.expansion
    return _classified(layers, inputs)


def vgg16() -> nn.Module:
    """VGG-16 with batch norm and one dense layer."""
    layers: list[nn.Module] = []
    inputs = 3
    for count, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers += [conv(inputs, count, 3), nn.BatchNorm2d(count), nn.ReLU(inplace=True)]
            inputs = count
        layers.append(nn.MaxPool2d(2))
    return _classified(layers, inputs)


def mobilenet_v1() -> nn.Module:
    """MobileNet-v1 for 32 × 32 images."""
    layers: list[nn.Module] = [conv(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(inplace=True)]
    inputs, before = 32, 64
    for count in (64, 128, 128, 256, 256, *(6 * (512,)), 1024, 1024):
        stride = 1 if count == before else 2
        layers += [conv(inputs, inputs, 3, stride, groups=inputs), nn.BatchNorm2d(inputs)]
        layers += [nn.ReLU(inplace=True), conv(inputs, count, 1), nn.BatchNorm2d(count)]
        layers.append(nn.ReLU(inplace=True))
        inputs = before = count
    return _classified(layers, inputs)


def _classified(layers: list[nn.Module], inputs: int) -> nn.Module:
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)]
    return nn.Sequential(*layers, *pooled)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet20": lambda: resnet(Basic, (16, 32, 64), (3, 3, 3)),
    "resnet32": lambda: resnet(Basic, (32, 64, 128), (5, 5, 5)),
    "resnet18": lambda: resnet(Basic, (64, 128, 256, 512), (2, 2, 2, 2)),
    "resnet50": lambda: resnet(Bottleneck, (64, 128, 256, 512), (3, 4, 6, 3)),
    "mobilenet-v1": mobilenet_v1,
    "vgg16": vgg16,
}


def narrow_resnet20(share: float) -> nn.Module:
    """ResNet-20 with that share of its channels."""
    channels = tuple(max(1, round(share * count)) for count in (16, 32, 64))
    return resnet(Basic, channels, (3, 3, 3))


def train(
    network: nn.Module,
    dataset: Dataset,
    recipe: Training,
    learning_rate: float,
    epochs: int,
    kept: float | None,
    device: str,
) -> float:
    """One training as a one-page script would do it: images in memory, evaluated after each epoch.

    Args:
        network, dataset, recipe, learning_rate, epochs: what to train, and how.
        kept: share of the weights that a mask keeps; None masks nothing.
        device: where.

    Returns:
        Test accuracy at the end.
    """
    torch.backends.cudnn.benchmark = True
    network = network.to(device, memory_format=torch.channels_last)
    masks = {
        weight: (torch.rand_like(weight) < kept).float()
        for weight in (list(network.parameters()) if kept else [])
        if weight.ndim == 4
    }
    sgd = recipe.optimizer
    optimizer = torch.optim.SGD(
        network.parameters(), learning_rate, sgd.momentum, weight_decay=sgd.weight_decay
    )
    milestones = getattr(recipe.schedule, "milestones", [])
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones)
    mean = torch.tensor(dataset.source.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(dataset.source.std, device=device).view(1, 3, 1, 1)

    def loaded(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.tensor(split.images, device=device).permute(0, 3, 1, 2)
        return (images / 255 - mean) / std, torch.tensor(split.labels, device=device)

    images, labels = loaded(dataset.train)
    tests, expected = loaded(dataset.test)
    padded = F.pad(images, (4, 4, 4, 4))
    accuracy = 0.0
    for _ in range(epochs):
        network.train()
        for chosen in torch.randperm(len(images), device=device).split(recipe.batch_size):
            # One crop and one flip a batch, the cheapest augmentation there is.
            top, left = torch.randint(0, 9, (2,)).tolist()
            batch = padded[chosen, :, top : top + 32, left : left + 32]
            if torch.rand(()) < 0.5:
                batch = batch.flip(3)
            batch = batch.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            F.cross_entropy(network(batch), labels[chosen]).backward()
            optimizer.step()
            with torch.no_grad():
                for weight, mask in masks.items():
                    weight.mul_(mask)
        schedule.step()
        network.eval()
        with torch.no_grad():
            correct = sum(
                (
                    network(batch.contiguous(memory_format=torch.channels_last)).argmax(1) == truth
                ).sum()
                for batch, truth in zip(tests.split(1000), expected.split(1000), strict=True)
            )
        accuracy = float(correct) / len(tests)
    return accuracy
