"""The paper's networks once more, written from the papers as torch functions of named weights.

Shapes and poolings are those of the authors' definitions; names of layers are ours.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


class Twin:
    """Weights in torch's layout, by layer: convolutions (out, in, h, w), dense (out, in)."""

    def __init__(self, variables: Mapping[str, Tensor]) -> None:
        self.weights = {
            path: _to_torch(path, value.detach().clone()).requires_grad_()
            for path, value in variables.items()
        }

    def conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel = self.weights[f"{name}/kernel"]
        return F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    def depthwise(self, x: Tensor, name: str, stride: int) -> Tensor:
        kernel = self.weights[f"{name}/kernel"]
        return F.conv2d(x, kernel, stride=stride, padding=1, groups=x.shape[1])

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean = x.mean((0, 2, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
        scale, shift = self.weights[f"{name}/gamma"], self.weights[f"{name}/beta"]
        return (x - mean) / (variance + 1e-5).sqrt() * scale.view(1, -1, 1, 1) + shift.view(
            1, -1, 1, 1
        )

    def dense(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.weights[f"{name}/kernel"], self.weights[f"{name}/bias"])

    def step(self, loss: Tensor, velocity: dict[str, Tensor], rate: float) -> None:
        """SGD with momentum 0.9 and coupled L2 of 5e-4 (table E.1)."""
        gradients = torch.autograd.grad(loss, list(self.weights.values()))
        with torch.no_grad():
            for (path, weight), gradient in zip(self.weights.items(), gradients, strict=True):
                velocity[path] = 0.9 * velocity.get(path, 0) + gradient + 5e-4 * weight
                weight -= rate * velocity[path]


def _to_torch(path: str, value: Tensor) -> Tensor:
    if not path.endswith("kernel"):
        return value
    if value.ndim == 2:
        return value.T.contiguous()
    # A depthwise kernel is (h, w, channels, 1), others (h, w, in, out).
    order = (2, 3, 0, 1) if "depthwise" in path else (3, 2, 0, 1)
    return value.permute(order).contiguous()


def lenet(net: Twin, images: Tensor) -> Tensor:
    x = images.flatten(1)
    for name in ("hidden1", "hidden2"):
        x = net.dense(x, name).relu()
    return net.dense(x, "classifier")


def basic(net: Twin, x: Tensor, name: str, stride: int, projected: bool, residual: bool) -> Tensor:
    y = net.norm(net.conv(x, f"{name}_conv1", stride), f"{name}_norm1").relu()
    y = net.norm(net.conv(y, f"{name}_conv2"), f"{name}_norm2")
    return (y + _shortcut(net, x, name, stride, projected) if residual else y).relu()


def bottleneck(
    net: Twin, x: Tensor, name: str, stride: int, projected: bool, residual: bool
) -> Tensor:
    y = net.norm(net.conv(x, f"{name}_conv1"), f"{name}_norm1").relu()
    y = net.norm(net.conv(y, f"{name}_conv2", stride), f"{name}_norm2").relu()
    y = net.norm(net.conv(y, f"{name}_conv3"), f"{name}_norm3")
    return (y + _shortcut(net, x, name, stride, projected)).relu()


def _shortcut(net: Twin, x: Tensor, name: str, stride: int, projected: bool) -> Tensor:
    if not projected:
        return x
    return net.norm(net.conv(x, f"{name}_shortcut", stride), f"{name}_shortcut_norm")


def resnet(
    depths: tuple[int, ...],
    block: Callable[..., Tensor] = basic,
    *,
    residual: bool = True,
    wide_first: bool = False,
    pooled: bool = False,
    large: bool = False,
) -> Callable[[Twin, Tensor], Tensor]:
    """Stages of `depths` blocks.

    Args:
        wide_first: the first block of the first stage is projected too.
        pooled: a 3 × 3 max pooling at stride 2 follows the stem.
        large: the stem is 7 × 7 at stride 2.
    """

    def forward(net: Twin, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2)
        x = net.norm(net.conv(x, "stem", 2 if large else 1), "stem_norm").relu()
        if pooled:
            x = F.max_pool2d(x, 3, 2, 1)
        for stage, depth in enumerate(depths, start=1):
            for i in range(1, depth + 1):
                stride = 2 if stage > 1 and i == 1 else 1
                projected = i == 1 and (stage > 1 or wide_first)
                x = block(net, x, f"stage{stage}_block{i}", stride, projected, residual)
        return net.dense(x.mean((2, 3)), "classifier")

    return forward


def mobilenet(net: Twin, images: Tensor) -> Tensor:
    x = net.norm(net.conv(images.permute(0, 3, 1, 2), "stem"), "stem_norm").relu()
    for i, stride in enumerate((1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1), start=1):
        name = f"block{i}"
        x = net.norm(net.depthwise(x, f"{name}_depthwise", stride), f"{name}_norm1").relu()
        x = net.norm(net.conv(x, f"{name}_pointwise"), f"{name}_norm2").relu()
    return net.dense(x.mean((2, 3)), "classifier")


def vgg16(net: Twin, images: Tensor) -> Tensor:
    """Four max poolings, none after the last block, then an average pooling of what is left."""
    x = images.permute(0, 3, 1, 2)
    for i in range(1, 14):
        name = "stem" if i == 1 else f"conv{i}"
        x = net.norm(net.conv(x, name), f"{name}_norm").relu()
        if i in (2, 4, 7, 10):
            x = F.max_pool2d(x, 2)
    x = F.avg_pool2d(x, x.shape[-1])
    return net.dense(x.flatten(1), "classifier")


def layer_norm(net: Twin, x: Tensor, name: str) -> Tensor:
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
    scaled = (x - mean) / (variance + 1e-5).sqrt()
    return scaled * net.weights[f"{name}/gamma"] + net.weights[f"{name}/beta"]


def attention(net: Twin, x: Tensor, name: str, heads: int = 4) -> Tensor:
    query, key, value = (
        net.dense(x, f"{name}/{part}").unflatten(-1, (heads, -1)).transpose(1, 2)
        for part in ("query", "key", "value")
    )
    seen = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(-1) @ value
    return net.dense(seen.transpose(1, 2).flatten(2), f"{name}/output")


def vit(net: Twin, images: Tensor) -> Tensor:
    kernel = net.weights["stem/kernel"]
    patches = F.conv2d(
        images.permute(0, 3, 1, 2), kernel, net.weights["stem/bias"], stride=kernel.shape[-2:]
    )
    x = patches.flatten(2).transpose(1, 2) + net.weights["positions/embedding"]
    for i in range(1, 5):
        name = f"block{i}"
        x = x + attention(net, layer_norm(net, x, f"{name}_norm1"), f"{name}_attention")
        y = net.dense(layer_norm(net, x, f"{name}_norm2"), f"{name}_wide")
        y = y * 0.5 * (1 + torch.erf(y / 2**0.5))
        x = x + net.dense(y, f"{name}_narrow")
    return net.dense(layer_norm(net, x, "norm").mean(1), "classifier")


# Network, shape of its images, and its twin.
TWINS = {
    "lenet": ("lenet-300-100", (8, 8, 1), lenet),
    "resnet20": ("resnet20", (32, 32, 3), resnet((3, 3, 3))),
    "resnet20 without": (
        "resnet20-no-residual",
        (16, 16, 3),
        resnet((3, 3, 3), residual=False),
    ),
    "resnet32": ("resnet32", (16, 16, 3), resnet((5, 5, 5))),
    "no residual": ("resnet32-no-residual", (16, 16, 3), resnet((5, 5, 5), residual=False)),
    "resnet18": ("resnet18", (32, 32, 3), resnet((2, 2, 2, 2))),
    "resnet18 large": (
        "resnet18",
        (136, 136, 3),
        resnet((2, 2, 2, 2), pooled=True, large=True),
    ),
    "resnet50": (
        "resnet50",
        (64, 64, 3),
        resnet((3, 4, 6, 3), bottleneck, wide_first=True, pooled=True),
    ),
    "mobilenet": ("mobilenet-v1", (32, 32, 3), mobilenet),
    "vgg16": ("vgg16", (32, 32, 3), vgg16),
    "vgg16 on Tiny-ImageNet": ("vgg16", (64, 64, 3), vgg16),
    "vit": ("vit-small", (16, 16, 3), vit),
}
