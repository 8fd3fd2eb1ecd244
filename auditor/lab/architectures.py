"""Networks of lab classifiers: a small residual one, a small transformer, a frozen trunk.

`architecture(kind, classes, size)` builds any of them untrained. For a file of weights each has a
factory without arguments whose name says all that:
`python:auditor.lab.architectures:residual_12_64` is the residual network of 12 classes for photos
of 64 pixels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from auditor.concepts.embedded_probe import FINAL, read_trunk
from auditor.lab.plans import Architecture

__all__ = ["MEAN", "STD", "FrozenNetwork", "LabNetwork", "architecture", "factory"]

MEAN, STD = 0.5, 0.25  # how the lab normalises photos, whatever the network
TRUNK_MEAN, TRUNK_STD = 127 / 255, 128 / 255  # what the frozen trunk was trained with


class _Block(nn.Module):
    """Two convolutions beside a shortcut connection (He et al., arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            skip = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.skip = nn.Sequential(skip, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps of shape (n, outputs, H / stride, W / stride)."""
        y = self.relu1(self.bn1(self.conv1(x)))
        out: Tensor = self.relu2(self.bn2(self.conv2(y)) + self.skip(x))
        return out


class LabNetwork(nn.Module):
    """A residual network of 0.3 million weights: stem, four blocks, mean, linear head."""

    def __init__(self, classes: int, widths: Sequence[int] = (16, 32, 64, 128)) -> None:
        super().__init__()
        first = widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU()
        )
        pairs = zip((first, *widths), widths, strict=False)
        blocks = [_Block(a, b, 1 if k == 0 else 2) for k, (a, b) in enumerate(pairs)]
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (n, classes) for normalised images of shape (n, 3, H, W)."""
        logits: Tensor = self.head(self.flatten(self.pool(self.blocks(self.stem(x)))))
        return logits


class FrozenNetwork(nn.Module):
    """The offline probe's ImageNet trunk, an EfficientNet-Lite0, under a linear head.

    Only the head is trained: features of real photos that never saw a planted shortcut.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.trunk: Any = timm.create_model("tf_efficientnet_lite0", num_classes=0)
        self.trunk.load_state_dict(read_trunk(self.trunk.state_dict()))
        self.norm = nn.BatchNorm1d(FINAL, affine=False)
        self.head = nn.Linear(FINAL, classes)

    def features(self, x: Tensor) -> Tensor:
        """The trunk's pooled features of shape (n, 1280) for normalised images."""
        rescaled = (x * STD + (MEAN - TRUNK_MEAN)) / TRUNK_STD
        features: Tensor = self.trunk(rescaled)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (n, classes) for normalised images of shape (n, 3, H, W)."""
        logits: Tensor = self.head(self.norm(self.features(x)))
        return logits


def _transformer(classes: int, size: int) -> nn.Module:
    """A vision transformer of 0.5 million weights on patches of 8 pixels (arXiv 2010.11929)."""
    net: nn.Module = timm.models.VisionTransformer(
        img_size=size, patch_size=8, embed_dim=96, depth=4, num_heads=4, mlp_ratio=3,
        num_classes=classes, global_pool="avg", class_token=False,
    )  # fmt: skip
    return net


def architecture(kind: Architecture, classes: int, size: int) -> nn.Module:
    """An untrained network that gives logits of shape (n, classes).

    Args:
        kind: "residual"; "transformer"; or "frozen", whose trunk holds ImageNet weights.
        classes: number of logits.
        size: height and width of its input in pixels.

    Raises:
        ProbeError: the frozen trunk's weights are missing or altered.
    """
    if kind == "residual":
        return LabNetwork(classes)
    return _transformer(classes, size) if kind == "transformer" else FrozenNetwork(classes)


def factory(kind: Architecture, classes: int, size: int) -> str:
    """The name under which a weights file finds its architecture (`--arch`)."""
    return f"python:auditor.lab.architectures:{kind}_{classes}_{size}"


def __getattr__(name: str) -> Callable[[], nn.Module]:
    """Factories by name (PEP 562): a factory takes no arguments, so its name says them."""
    found = re.fullmatch(r"(residual|transformer|frozen)_(\d{1,4})_(\d{1,4})", name)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    kind, classes, size = found.groups()

    def build() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            return architecture(kind, int(classes), int(size))  # type: ignore[arg-type]

    return build
