"""Exports of FiftyOne: a folder `data` of photos beside `labels.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from auditor.core.phrases import counted, few, one_line, shown
from auditor.core.storage import read_text
from auditor.errors import ImagesError
from auditor.images.label_columns import Labelling, column
from auditor.images.listings import MAX_BYTES, Listing, PhotoFiles, list_rows, told_apart, utf8
from auditor.images.sources.folders import search
from auditor.images.sources.hub import label_texts
from auditor.record.schema import Remark

__all__ = ["is_export", "list_export"]


def is_export(root: Path) -> bool:
    """Whether a folder looks like FiftyOne's image classification export."""
    return (root / "labels.json").is_file() and (root / "data").is_dir()


def list_export(root: Path, labelling: Labelling | None) -> Listing:
    """The photos of a `FiftyOneImageClassificationDataset`.

    `labels.json` gives each photo's target by its path without the suffix: a place in `classes`, or
    a name.

    Raises:
        ImagesError: `labels.json` cannot be read or is of another kind, or labels do not match.
    """
    tree = search(root / "data")
    found = sorted((utf8(relative), path) for relative, path in tree.photos)
    ids = told_apart(name for name, _ in found)
    read = PhotoFiles(tuple(path for _, path in found))
    if labelling is None:
        return list_rows(ids, read, (), None, source=str(root))
    if labelling.column is not None:
        raise ImagesError(f"{root} has one kind of labels only; leave --label-column out.")
    classes, targets = _labels(root / "labels.json")
    values = [_target(targets, name) for name, _ in found]
    texts = label_texts(values, classes, "label", str(root))
    return list_rows(
        ids,
        read,
        [column("label", texts, declared=_numbered(classes, values))],
        labelling,
        source=str(root),
        remarks=_absent(targets, [name for name, _ in found], root),
    )


def _numbered(classes: tuple[str, ...] | None, values: Sequence[object]) -> tuple[str, ...] | None:
    """The list of classes where targets are places in it, not names."""
    numbers = any(isinstance(value, int) for value in values)
    return classes if numbers else None


def _labels(path: Path) -> tuple[tuple[str, ...] | None, Mapping[str, Any]]:
    try:
        data = json.loads(read_text(path, limit=MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ImagesError(f"Cannot read {path}: {one_line(error)}.") from None
    targets = data.get("labels") if isinstance(data, dict) else None
    if not isinstance(targets, dict):
        raise ImagesError(
            f"{path} has no table of labels; export the data set from FiftyOne as "
            "FiftyOneImageClassificationDataset."
        )
    names = data.get("classes")
    if names is None:
        return None, targets
    if not isinstance(names, list) or any(not isinstance(name, str) for name in names):
        raise ImagesError(f"The classes of {path} must be a list of names.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ImagesError(f"{path} declares the class {shown(twice)} twice; mend its class names.")
    return tuple(names), targets


def _target(targets: Mapping[str, Any], name: str) -> object:
    """The target of a photo; with its confidence and attributes it is a table."""
    target = targets.get(name, targets.get(str(Path(name).with_suffix(""))))
    return target.get("label") if isinstance(target, dict) else target


def _absent(targets: Mapping[str, Any], names: Sequence[str], root: Path) -> tuple[Remark, ...]:
    here = {*names, *(str(Path(name).with_suffix("")) for name in names)}
    absent = [key for key in targets if key not in here]
    if not absent:
        return ()
    said = f"{counted(len(absent), 'labelled photo')} of {root} not found in its folder data"
    return (Remark(code="photos-missing", text=f"{said}: {few(absent, 5)}."),)
