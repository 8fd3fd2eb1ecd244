"""A small network with as many outputs as are asked for, as `--model python:...`.

    AUDITOR_OUTPUTS=21000 auditor audit --model python:benchmarks.small_network:small ...

It has learned nothing. What its audit costs is what an audit of so many classes costs without its
network.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

__all__ = ["small"]


def small() -> nn.Module:
    """Four convolutions and a linear layer for images of 64 pixels, with random weights."""
    outputs = int(os.environ["AUDITOR_OUTPUTS"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        blocks: list[nn.Module] = []
        for before, after in ((3, 16), (16, 32), (32, 64), (64, 128)):
            convolution = nn.Conv2d(before, after, 3, 2, 1, bias=False)
            blocks.append(nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU()))
        pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
        net: Any = nn.Sequential(nn.Sequential(*blocks), *pool, nn.Linear(128, outputs))
    net.auditor = {
        "size": 64,
        "resize": 64,
        "interpolation": "bicubic",
        "mean": (0.5,) * 3,
        "std": (0.25,) * 3,
        "class_names": [f"class {k}" for k in range(outputs)],
    }
    return net
