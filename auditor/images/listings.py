"""Listings: photos that a source names, with their labels and the way to read their bytes.

Nothing is decoded here. `auditor.images.sources.forms` knows the forms that photos come in.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from auditor.errors import ImagesError
from auditor.images.label_columns import Labelling, Labels, read_labels
from auditor.images.label_meaning import Column
from auditor.record.schema import Remark

__all__ = [
    "MAX_BYTES",
    "MAX_ROWS",
    "SUFFIXES",
    "Listing",
    "PhotoFiles",
    "Rows",
    "list_rows",
    "see_few_rows",
    "told_apart",
    "utf8",
    "within",
]

SUFFIXES = frozenset(
    f".{end}"
    for end in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif"),
        *("tif", "tiff", "avif", "heic", "heif"),
    )
)

MAX_BYTES = 2**29
"""Largest file that is read whole, 512 MiB: above any photo that may be decoded."""

MAX_ROWS = 4_000_000
"""Photos that a table may name; at 10 ms a photo they take 11 hours to decode."""


@dataclass(frozen=True)
class Listing:
    """Photos that a source names.

    Attributes:
        ids: unique names of the photos, sorted.
        labels: class indices, or `None` where no labels were asked for.
        read: the bytes of the photo at a position of `ids`; raises `OSError`.
        readings: class indices by other readings of the labels, which fit too but were not taken.
        remarks: what the source turned out to be, and what of it was passed over.
    """

    ids: tuple[str, ...]
    labels: tuple[int, ...] | None
    read: Callable[[int], bytes] = field(repr=False, compare=False)
    readings: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class PhotoFiles:
    """Reads files; a value, so that it can go to other processes."""

    paths: tuple[str, ...]

    def __call__(self, i: int) -> bytes:
        """The bytes of the file at position `i`; raises `OSError`."""
        path = self.paths[i]
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a regular file")
        if status.st_size > MAX_BYTES:
            raise OSError(f"larger than {MAX_BYTES // 2**20} MiB")
        return Path(path).read_bytes()


@dataclass(frozen=True)
class Rows:
    """A reader of some rows of another reader; a value, so that it can go to other processes."""

    read: Callable[[int], bytes]
    rows: tuple[int, ...]

    def __call__(self, i: int) -> bytes:
        """The bytes of the photo in row `rows[i]`; raises `OSError`."""
        return self.read(self.rows[i])


def list_rows(
    ids: Sequence[str],
    read: Callable[[int], bytes],
    columns: Sequence[Column],
    labelling: Labelling | None,
    *,
    source: str,
    remarks: tuple[Remark, ...] = (),
) -> Listing:
    """The listing of a source's rows: those without a label are left out, the others sorted by id.

    Args:
        ids: unique names of the rows.
        read: the bytes of a row's photo.
        columns: columns that may hold labels; not used without `labelling`.
        labelling: how labels are understood; `None` lists photos without labels.
        source: for sentences.
        remarks: what is to be said of the source.

    Raises:
        ImagesError: labels do not match the model's classes.
    """
    labels = Labels((), {}, ()) if labelling is None else _labels(columns, labelling, source)
    kept = [row for row in range(len(ids)) if labelling is None or labels.classes[row] is not None]
    order = sorted(kept, key=ids.__getitem__)
    return Listing(
        ids=tuple(ids[row] for row in order),
        labels=None if labelling is None else _at(labels.classes, order),
        read=Rows(read, tuple(order)),
        readings={way: _at(classes, order) for way, classes in labels.others.items()},
        remarks=(*remarks, *labels.remarks),
    )


def _labels(columns: Sequence[Column], labelling: Labelling, source: str) -> Labels:
    if not any(column.values for column in columns):
        return Labels((), {}, ())
    return read_labels(columns, labelling, source=source)


def _at(classes: Sequence[int | None], order: Sequence[int]) -> tuple[int, ...]:
    return tuple(label for row in order if (label := classes[row]) is not None)


def see_few_rows(count: int, source: object) -> None:
    """See that a table is not longer than can be audited.

    Raises:
        ImagesError: it has more than `MAX_ROWS` rows.
    """
    if count > MAX_ROWS:
        raise ImagesError(
            f"{source} has {count:,} rows, more than the {MAX_ROWS:,} that can be audited; give a "
            "sample of them."
        )


def within(root: str, name: str) -> str:
    """The path of a data set's own file.

    Raises:
        OSError: the name leads out of the data set's folder.
    """
    path = os.path.normpath(os.path.join(root, name))
    if os.path.commonpath([os.path.abspath(root), os.path.abspath(path)]) != os.path.abspath(root):
        raise OSError("its path leads out of the data set")
    return path


def utf8(name: str) -> str:
    """File names are bytes; what is no UTF-8 in them is written as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def told_apart(names: Iterable[str]) -> list[str]:
    """The names, those that were there before with the number of their row.

    >>> told_apart(["a.jpg", "b.jpg", "a.jpg"])
    ['a.jpg', 'b.jpg', 'a.jpg#3']
    """
    taken: dict[str, None] = {}
    for row, name in enumerate(names, start=1):
        while name in taken:
            name = f"{name}#{row}"
        taken[name] = None
    return list(taken)
