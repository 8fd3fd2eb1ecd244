"""What a benchmark of prototypes prints: a table for the terminal, and contact sheets."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from auditor.core.storage import write_atomically

__all__ = ["sheet", "table"]

TILE, LABEL = 112, 150
LIMIT = 300_000  # bytes of a contact sheet
COLUMNS = (
    "", "n", "s each", "ratio", "p", "norm.", "held", "worst", "spec.", "held", "random", "told",
    "first 5 / median place in the others", "named bridge, score",
)  # fmt: skip


def table(result: Mapping[str, Any]) -> str:
    """The figures of every model and method, one row each.

    Columns: prototypes; seconds for each, and the ratio to the first row; median class probability;
    normalised path similarity, over layers that this engine did not use, and in the worst layer;
    class-specific, and over layers that this engine did not use; both in a network with random
    weights, pooled over its layers; mean AUC of telling prototypes from photos; share in the first
    5 and median place by each other model; share of published features named in the first 5 by the
    bridge and by the combined score.
    """
    lines: list[str] = []
    for model, found in result["models"].items():
        rows: list[tuple[str, ...]] = [COLUMNS]
        rows += [_row(name, method) for name, method in found["methods"].items()]
        for name, reference in found.get("photos", {}).items():
            rows.append(_row(f"photos, {name}", reference))
        widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
        lines += ["", model]
        lines += ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
                  for row in rows]  # fmt: skip
        if "name_control" in found:
            lines.append(f"named by the class's name alone, no model: {found['name_control']:.2f}")
    return "\n".join(lines).lstrip("\n") + "\n"


def _row(name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    speed = found.get("speed", {})
    alike = found.get("similarity", {})
    blank = found.get("random_weights", {})
    transfer = [
        f"{_at(one, 'shares', '5', 'value')} / {_at(one, 'median', digits=0)}"
        for one in found.get("transfer", {}).values()
    ]
    naming = found.get("naming")
    return (
        name,
        str(found.get("n", speed.get("n", ""))),
        _at(speed, "seconds"),
        _at(speed, "ratio"),
        _at(found, "probability", "median", digits=3),
        _at(alike, "normalised", "mean", "value"),
        _at(alike, "normalised", "held_out", "value"),
        _at(alike, "normalised", "worst"),
        _at(alike, "specific", "mean", "value"),
        _at(alike, "specific", "held_out", "value"),
        f"{_at(blank, 'normalised', 'pooled')}, {_at(blank, 'specific', 'pooled')}"
        if blank else "",
        _at(found, "told_apart", "mean"),
        "   ".join(transfer),
        f"{_at(naming, 'bridge', 'share')}, {_at(naming, 'score', 'share')}" if naming else "",
    )  # fmt: skip


def _at(value: object, *keys: str, digits: int = 2) -> str:
    """A number inside nested mappings, as text; nothing where it is missing."""
    for key in keys:
        if not isinstance(value, Mapping) or value.get(key) is None:
            return ""
        value = value[key]
    return f"{value:.{digits}f}"


def sheet(
    path: Path,
    rows: Mapping[str, Mapping[int, NDArray[np.uint8]]],
    columns: Mapping[int, str],
) -> None:
    """Write a JPEG of one row for each method and one column for each class, below 300 kB."""
    canvas = Image.new("RGB", (LABEL + TILE * len(columns), 16 + TILE * len(rows)), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(11)
    for column, name in enumerate(columns.values()):
        draw.text((LABEL + column * TILE + 2, 2), name[:18], fill="black", font=font)
    for row, (name, images) in enumerate(rows.items()):
        top = 16 + row * TILE
        draw.text((4, top + TILE // 2 - 6), name, fill="black", font=font)
        for column, index in enumerate(columns):
            if index in images:
                tile = Image.fromarray(images[index]).resize((TILE - 2, TILE - 2))
                canvas.paste(tile, (LABEL + column * TILE, top))
    for quality in range(92, 20, -6):
        file = io.BytesIO()
        canvas.save(file, "jpeg", quality=quality)
        if file.tell() < LIMIT:
            break
    write_atomically(path, file.getvalue())
