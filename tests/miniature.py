"""A miniature project: a tiny network, its photos and a bank, as a user has them in a folder."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from auditor.cli import commands
from auditor.concepts import probes
from auditor.concepts.probes import load as load_probe
from auditor.prototypes.collages import collages

STRIPES = "from tiny import Stripes as net\n"
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
COLOURS = ((140, 120, 110), (110, 140, 120), (110, 120, 175))


@functools.lru_cache(maxsize=8)
def _drawn(n: int, height: int, width: int, seed: int) -> Tensor:
    return collages(n, height, width, seed=seed)


def drawn_once(n: int, height: int, width: int, *, seed: int = 0) -> Tensor:
    """The same collages for all audits of tiny networks, which would draw most of their time."""
    return _drawn(n, height, width, seed).clone()


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


def called(*line: object) -> Called:
    """Call the program as the shell does; a bug escapes."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patched,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patched.setattr(sys, "argv", ["auditor", *map(str, line)])
        try:
            commands.main()
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else int(bool(stopped.code))
    return Called(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Project:
    """The folder of a user; empty until it is filled."""

    folder: Path

    def filled(
        self,
        *,
        factory: str = STRIPES,
        names: Sequence[str] = ("across", "down"),
        bank: str = BANK,
        labels: Sequence[str] = ("0", "1"),
        n: int = 12,
        side: int = 32,
    ) -> Project:
        """The module `mine`, `names.json`, `bank.toml`, and `n` photos of each label."""
        self.write("mine.py", factory)
        self.write("names.json", json.dumps(names))
        self.write("bank.toml", bank)
        self.photos(labels=labels, n=n, side=side)
        return self

    def write(self, name: str, data: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def photos(
        self,
        root: str = "photos",
        *,
        labels: Sequence[str] = ("0", "1"),
        n: int = 12,
        side: int = 32,
        seed: int = 0,
    ) -> None:
        """Photos in a folder for each label, by their number in it."""
        rng = np.random.default_rng(seed)
        for k, label in enumerate(labels):
            (self.folder / root / label).mkdir(parents=True, exist_ok=True)
            for i in range(n):
                photo = Image.fromarray(picture(rng, k, side))
                photo.save(self.folder / root / label / f"{i}.png")

    def settings(self, **changes: Any) -> dict[str, Any]:
        """The settings of a quick audit; names with two underscores reach into tables."""
        settings: dict[str, Any] = {
            "model": {"spec": "python:mine:net", "size": 32, "class_names": "names.json"},
            "images": "photos",
            "concepts": "bank.toml",
            "prototypes": {"per_class": 1, "steps": 2},
            "statistics": {"permutations": 99, "bootstrap": 99},
        }
        for name, value in changes.items():
            *parents, last = name.split("__")
            table = settings
            for parent in parents:
                table = table.setdefault(parent, {})
            table[last] = value
        return settings


def picture(rng: np.random.Generator, label: int, side: int) -> NDArray[np.uint8]:
    """Stripes of shape (side, side, 3) whose direction and colour tell the class."""
    y, x = np.mgrid[0:side, 0:side]
    wave = np.sin((y, x, x + y)[label % 3] * rng.uniform(1, 2))
    noisy = COLOURS[label % 3] + 90 * wave[..., None] + rng.normal(0, 20, (side, side, 3))
    return noisy.clip(0, 255).astype(np.uint8)


@contextlib.contextmanager
def at_home(folder: Path) -> Iterator[Project]:
    """A project in the current folder, and a tiny probe in place of the embedded one."""

    def chosen(spec: str, **options: Any) -> probes.ProbeModel:
        return (tiny.probe if spec == "offline" else load_probe)(spec, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.syspath_prepend(str(folder))
        patched.setattr(probes, "load", chosen)
        yield Project(folder)
    for name, module in list(sys.modules.items()):
        if str(vars(module).get("__file__")).startswith(str(folder)):
            del sys.modules[name]  # the next project imports its own


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An empty project in the current folder."""
    with at_home(tmp_path) as home:
        yield home


@pytest.fixture
def user(project: Project) -> dict[str, Any]:
    """The settings of a project with a name to escape and a photo to put aside."""
    project.filled(names=("across", "<script>alert(1)</script>"))
    project.write("photos/0/broken.png", b"\x89PNG\r\n\x1a\nnothing")
    return project.settings(prototypes__per_class=2, prototypes__steps=6)
