"""The corpus of hostile inputs and faults: what is tried, and what is right.

A case is a row of a table: it prepares a folder, calls the program as the shell does, and says with
which code it has to end and what its one sentence has to tell. Nothing but the row's input differs
from an audit that works, which the first test shows.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from auditor.cli import commands

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

BANK = """
[[concept]]
name = "black border"
category = "frame"
drawing = "black_border"
prompts = ["a photo with a black border"]

[[concept]]
name = "sky"
category = "background"
prompts = ["a blue sky"]
"""


@dataclass(frozen=True)
class Called:
    """How a call of the program ended."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> str:
        """The last line on standard error, where the one sentence stands."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        return lines[-1] if lines else ""


@dataclass(frozen=True)
class Place:
    """The folder of a case."""

    folder: Path
    patched: pytest.MonkeyPatch

    def write(self, name: str, data: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def call(self, *line: str) -> Called:
        """Call the program as the shell does; a bug escapes."""
        self.patched.setattr(sys, "argv", ["auditor", *map(str, line)])
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                commands.main()
            except SystemExit as stopped:
                code = stopped.code if isinstance(stopped.code, int) else int(bool(stopped.code))
        return Called(code, out.getvalue(), err.getvalue())

    def audit(self, *line: str, **settings: Any) -> Called:
        """An audit of the usual model and photos, less what the settings and options change."""
        return self.call("audit", str(self.settings(**settings)), *line)

    def settings(self, **changes: Any) -> Path:
        """The usual settings as YAML; names with two underscores reach into tables."""
        base: dict[str, Any] = {
            "model": {"spec": "python:nets:make"},
            "images": "photos",
            "pool": "pool",
            "concepts": "bank.toml",
            "out": "out",
            "batch": 8,
            "pdf": "no",
            "prototypes": {"per_class": 1, "steps": 2},
            "statistics": {"permutations": 99, "bootstrap": 99},
        }
        for name, value in changes.items():
            *parents, last = name.split("__")
            table = base
            for parent in parents:
                table = table.setdefault(parent, {})
            table[last] = value
        return self.write("conf.yaml", json.dumps(base))

    def photos(self, root: str = "photos", *, n: int = 4, labels: Sequence[str] = ("0", "1", "2")):
        rng = np.random.default_rng(0)
        for k, label in enumerate(labels):
            for i in range(n):
                save(self.folder / root / label / f"{i}.png", picture(rng, k))

    def network(self, *, forward: str = "", make: str = "") -> str:
        """A module whose network has another `forward`, or whose factory another body."""
        text = NETS
        if forward:
            text = text.replace("return self.logits(x)", forward.replace("\n", "\n        "))
        if make:
            text = text.replace("return Net().eval()", make.replace("\n", "\n    "))
        self.write("hostile.py", text)
        return "python:hostile:make"


def picture(rng: np.random.Generator, label: int, side: int = 40) -> np.ndarray:
    """A striped picture of shape (side, side, 3) whose colour and direction tell its class."""
    y, x = np.mgrid[0:side, 0:side]
    wave = (np.sin(x / 2), np.sin(y / 2), np.sin((x + y) / 2))[label % 3]
    base = np.array([[200, 90, 60], [60, 170, 90], [70, 90, 200]][label % 3])
    noisy = base + 50 * wave[..., None] + rng.normal(0, 15, (side, side, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


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
