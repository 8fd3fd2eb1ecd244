"""The corpus of hostile inputs and faults: what is tried, and what is right.

A case is a row of a table: it prepares a folder, calls the program as the shell does, and says with
which code it has to end and what its one sentence has to tell. Nothing but the row's input differs
from an audit that works, which the first test shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miniature import Called, Project, called

__all__ = ["NETS", "Called", "Fault", "Place", "rows"]

REFUSED = 2

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    auditor = dict(size=32, class_names=["alpha", "beta", "gamma"], mean=[0.5] * 3, std=[0.25] * 3)

    def __init__(self, k=3, c=3):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(c, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.conv2, self.act = nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(16, k)

    def logits(self, x):
        x = self.act(self.conv2(self.act(self.norm(self.conv(x)))))
        return self.head(self.pool(x).flatten(1))

    def forward(self, x):
        return self.logits(x)

def make():
    return Net().eval()
"""


@dataclass(frozen=True)
class Place(Project):
    """The folder of a case: a network, photos, a pool and a bank that can be audited."""

    def audit(self, *line: str, **changes: Any) -> Called:
        """An audit of the usual model and photos, less what the settings and options change."""
        return called("audit", self.settled(**changes), *line)

    def settled(self, **changes: Any) -> Path:
        """The file of the usual settings, less the changes."""
        usual = {"model": {"spec": "python:nets:make"}, "pool": "pool", "out": "out", "batch": 8}
        settings = self.settings(**{**usual, "pdf": "no", **changes})
        return self.write("conf.yaml", json.dumps(settings))

    def network(self, *, forward: str = "", make: str = "") -> str:
        """A module whose network has another `forward`, or whose factory another body."""
        text = NETS
        if forward:
            text = text.replace("return self.logits(x)", forward.replace("\n", "\n        "))
        if make:
            text = text.replace("return Net().eval()", make.replace("\n", "\n    "))
        self.write("hostile.py", text)
        return "python:hostile:make"


Try = Callable[[Place], Called]


@dataclass(frozen=True)
class Fault:
    """One row: `told` is a part of the one sentence that is right."""

    group: str
    name: str
    attempt: Try = field(repr=False)
    told: str
    code: int = REFUSED

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"


def rows(
    group: str, attempt: Callable[[Place, Any], Called], table: dict[str, tuple[Any, str]]
) -> Iterator[Fault]:
    """A fault for each row of a table: its name, its input and what is told."""
    for name, (value, told) in table.items():

        def one(place: Place, value: Any = value) -> Called:
            return attempt(place, value)

        yield Fault(group, name, one, told)
