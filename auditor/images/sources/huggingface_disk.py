"""Data sets that Hugging Face's package `datasets` saved to disk."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from auditor.core.phrases import one_line
from auditor.errors import ImagesError
from auditor.images.label_columns import Labelling, candidates, column
from auditor.images.label_meaning import Column
from auditor.images.listings import Listing, list_rows, see_few_rows
from auditor.images.sources.hub import label_texts, photo_of, row_ids

__all__ = ["list_saved"]


class _Table(Protocol):
    """What is used of `datasets.Dataset`."""

    features: Mapping[str, Any]

    def __len__(self) -> int: ...
    def __getitem__(self, key: int | str) -> Any: ...
    def cast_column(self, name: str, feature: Any) -> _Table: ...
    def with_format(self, form: None, /) -> _Table: ...


def _opened(path: str) -> tuple[_Table, str]:
    """The dataset with its image column left undecoded, and that column's name."""
    try:
        status = os.stat(Path(path) / "state.json")
    except OSError as error:
        raise ImagesError(f"Cannot open the dataset {path}: {one_line(error)}.") from None
    return _kept_open(path, (status.st_ino, status.st_mtime_ns))


@functools.lru_cache(maxsize=4)
def _kept_open(path: str, written: tuple[int, int]) -> tuple[_Table, str]:
    """The dataset as it was `written`: another one may take its place."""
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise ImagesError(
            f"{path} is a Hugging Face dataset, which needs the package datasets: "
            "install auditor[datasets]."
        ) from None
    if not hasattr(datasets, "load_from_disk"):
        raise ImagesError(
            f"{path} needs the package datasets, and {getattr(datasets, '__file__', 'a module')} "
            "has its name; rename that file."
        )
    try:
        saved: _Table = datasets.load_from_disk(path)
        table = saved.with_format(None)  # labels as Python's numbers, and all columns
    except Exception as error:  # whatever the package meets in a damaged folder
        raise ImagesError(f"Cannot open the dataset {path}: {one_line(error)}.") from None
    images = [name for name, kind in table.features.items() if isinstance(kind, datasets.Image)]
    if len(images) != 1:
        raise ImagesError(f"The dataset {path} must have one image column, not {len(images)}.")
    return table.cast_column(images[0], datasets.Image(decode=False)), images[0]


@dataclass(frozen=True)
class _TableRows:
    """Reads the photos of a dataset on disk; a value, so that it can go to other processes."""

    path: str

    def __call__(self, i: int) -> bytes:
        table, name = _opened(self.path)
        return photo_of(table[i][name], self.path)


def list_saved(path: Path, labelling: Labelling | None) -> Listing:
    """The photos of a dataset saved to disk, in the order of its rows.

    Raises:
        ImagesError: it cannot be opened, lacks a column, or labels do not match the classes.
    """
    table, image = _opened(str(path))
    see_few_rows(len(table), path)
    columns: list[Column] = []
    if labelling is not None:
        declared = {
            name: getattr(kind, "names", None)
            for name, kind in table.features.items()
            if name != image
        }
        own = [name for name, classes in declared.items() if classes is not None]
        names = candidates(declared, labelling, source=str(path), declared=own)
        for name in names:
            stored = declared[name]
            classes = None if stored is None else tuple(map(str, stored))
            texts = label_texts(list(table[name]), classes, name, str(path))
            explicit = labelling.column is not None
            columns.append(column(name, texts, declared=classes, explicit=explicit))
    return list_rows(
        row_ids(len(table)), _TableRows(str(path)), columns, labelling, source=str(path)
    )
