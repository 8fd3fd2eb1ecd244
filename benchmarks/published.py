"""Published spurious features of ImageNet classes, and the photos that audits of them run on.

Features: `spurious-imagenet-dev/features.json`, after "Spurious Features Everywhere" (ICCV 2023).
The photos there that show only the feature are not used.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from auditor.concepts.probes import ProbeModel

__all__ = ["Published", "control", "labelled_photos", "place", "scenes", "write_table"]


@dataclass(frozen=True)
class Published:
    """Classes by index, each with the feature that people named for it."""

    indices: tuple[int, ...]
    names: tuple[str, ...]
    features: tuple[str, ...]

    @staticmethod
    def read(data: Path) -> Published:
        rows = json.loads((data / "spurious-imagenet-dev/features.json").read_text())
        return Published(
            tuple(row["index"] for row in rows),
            tuple(row["name"] for row in rows),
            tuple(row["spurious_feature"] for row in rows),
        )

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The features, each once."""
        return tuple(dict.fromkeys(self.features))


def labelled_photos(data: Path) -> list[tuple[Path, str]]:
    """Photos of ImageNet classes, each with its WordNet id."""
    return [
        (path.resolve(), path.parent.name)
        for folder in ("imagenet-ccby", "imagenet-extra")
        for path in sorted((data / folder).glob("*/*.jpg"))
    ]


def scenes(data: Path) -> list[tuple[Path, str]]:
    """Photos without a class."""
    return [(path.resolve(), "") for path in sorted((data / "coco-mini/images").iterdir())]


def write_table(path: Path, photos: Sequence[tuple[Path, str]], *, labelled: bool) -> str:
    """Write a manifest of photos, with labels or without; returns its path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"] if labelled else ["path"])
        writer.writerows(row if labelled else row[:1] for row in photos)
    return str(path)


def place(values: Mapping[str, float | None], wanted: str) -> int:
    """Place of a concept among those that have a value; behind all where it has none."""
    own = values[wanted]
    known = [value for value in values.values() if value is not None]
    return len(values) if own is None else 1 + sum(value > own for value in known)


def control(probe: ProbeModel, published: Published) -> list[int]:
    """Place of each class's feature by its text's similarity to the class's name, no model used."""
    names = published.vocabulary
    texts = probe.encode_texts(names).cpu().numpy()
    classes = probe.encode_texts([f"a photo of a {name}" for name in published.names])
    scores = classes.cpu().numpy() @ texts.T
    return [
        place(dict(zip(names, map(float, row), strict=True)), feature)
        for row, feature in zip(scores, published.features, strict=True)
    ]


def first_five(places: Sequence[int]) -> float:
    """Share of places among the first five."""
    return float(np.mean(np.array(places) <= 5))
