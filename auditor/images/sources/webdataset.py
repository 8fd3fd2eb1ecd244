"""WebDataset: tar files in which files of one name and several endings are one sample.

Nothing is unpacked: photos are read from their place in the tar file.
"""

from __future__ import annotations

import json
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from auditor.core.phrases import few, one_line, shown
from auditor.errors import ImagesError
from auditor.images.label_columns import LABEL_COLUMNS, Labelling, candidates, column
from auditor.images.listings import (
    MAX_BYTES,
    SUFFIXES,
    Listing,
    list_rows,
    see_few_rows,
    told_apart,
    utf8,
)
from auditor.images.sources.hub import label_texts
from auditor.record.schema import Remark

__all__ = ["list_tars"]

MAX_HEADER = 2**20
"""Bytes of a long name or of other attributes of a member."""
MAX_LABEL = 2**20
"""Bytes of a file with a sample's label."""
LABEL_ENDINGS = ("cls", "txt", "json")


@dataclass(frozen=True)
class _Part:
    """Where a file lies in a tar file."""

    tar: int
    start: int
    size: int


@dataclass
class _Sample:
    """Files of one name by their endings."""

    parts: dict[str, _Part] = field(default_factory=dict)


@dataclass(frozen=True)
class _TarRows:
    """Reads photos from tar files; a value, so that it can go to other processes."""

    tars: tuple[str, ...]
    parts: tuple[_Part, ...]

    def __call__(self, i: int) -> bytes:
        part = self.parts[i]
        if part.size > MAX_BYTES:
            raise OSError(f"larger than {MAX_BYTES // 2**20} MiB")
        return _bytes(self.tars[part.tar], part)


def list_tars(paths: Sequence[Path], labelling: Labelling | None, *, source: str) -> Listing:
    """The photos of tar files, each named by its tar file where there are several.

    The label of a sample is its `.cls` or `.txt` file, or a value of its `.json` file.

    Raises:
        ImagesError: a tar file is damaged, a sample holds several photos, or labels do not match.
    """
    samples: dict[str, _Sample] = {}
    others = 0
    for number, path in enumerate(paths):
        prefix = f"{path.name}/" if len(paths) > 1 else ""
        for name, part in _members(path, number):
            folder, _, base = name.rpartition("/")
            key, _, ending = base.partition(".")
            if not key or not ending:
                others += 1
                continue
            full = f"{prefix}{folder}/{key}" if folder else f"{prefix}{key}"
            sample = samples.setdefault(full, _Sample())
            if ending.lower() in sample.parts:
                raise ImagesError(f"{path} holds the file {shown(name)} twice.")
            sample.parts[ending.lower()] = part
        see_few_rows(len(samples), source)
    photos: dict[str, _Part] = {}
    labels: dict[str, _Sample] = {}
    for key, sample in samples.items():
        of_photo = _photo(key, sample, source)
        if of_photo is None:
            others += len(sample.parts)
            continue
        photos[f"{key}.{of_photo}"] = sample.parts[of_photo]
        labels[f"{key}.{of_photo}"] = sample
        others += len(sample.parts) - 1 - len(set(LABEL_ENDINGS) & set(sample.parts))
    columns = [] if labelling is None else _columns(paths, list(labels.values()), labelling, source)
    return list_rows(
        told_apart(map(utf8, photos)),
        _TarRows(tuple(map(str, paths)), tuple(photos.values())),
        columns,
        labelling,
        source=source,
        remarks=_skipped(others, source),
    )


def _photo(key: str, sample: _Sample, source: str) -> str | None:
    """The ending of a sample's photo."""
    endings = [ending for ending in sample.parts if f".{ending}" in SUFFIXES]
    if not endings:  # such as left.jpg
        endings = [ending for ending in sample.parts if Path(f"x.{ending}").suffix in SUFFIXES]
    if len(endings) > 1:
        raise ImagesError(
            f"The sample {shown(key)} of {source} holds several photos ({few(endings)}); each "
            "needs a sample of its own."
        )
    return endings[0] if endings else None


def _columns(
    paths: Sequence[Path], samples: Sequence[_Sample], labelling: Labelling, source: str
) -> list[Any]:
    """Columns of labels, by the ending of their files or by their names in JSON."""
    rows = [_labels_of(paths, sample) for sample in samples]
    names = list(dict.fromkeys(name for row in rows for name in row))
    if labelling.column is None:
        known = {*LABEL_COLUMNS, "txt"}
        names = [name for name in names if name.strip().lower() in known]
    if not rows:
        return []
    if not names:
        raise ImagesError(
            f"{source} has no labels: a sample needs a file .cls, .txt, or .json with a label."
        )
    used = candidates(names, labelling, source=source, declared=names)
    return [
        column(
            name,
            label_texts([row.get(name) for row in rows], None, name, source),
            explicit=labelling.column is not None,
        )
        for name in used
    ]


def _labels_of(paths: Sequence[Path], sample: _Sample) -> dict[str, object]:
    found: dict[str, object] = {}
    for ending in LABEL_ENDINGS:
        part = sample.parts.get(ending)
        if part is None:
            continue
        path = paths[part.tar]
        if part.size > MAX_LABEL:
            raise ImagesError(f"A file .{ending} of {path} is larger than {MAX_LABEL} bytes.")
        try:
            text = _bytes(str(path), part).decode("utf-8-sig")
            values = json.loads(text) if ending == "json" else {ending: text.strip()}
        except (OSError, ValueError, RecursionError) as error:
            raise ImagesError(
                f"A file .{ending} of {path} cannot be read: {one_line(error)}."
            ) from None
        if isinstance(values, dict):
            found = {**values, **found}
    return found


def _skipped(others: int, source: str) -> tuple[Remark, ...]:
    if not others:
        return ()
    said = f"In {source} {others} files were passed over that are neither photos nor labels."
    return (Remark(code="files-skipped", text=said),)


# --- tar files -----------------------------------------------------------------------------------


class _Headers:
    """A tar file of which headers are read: a header that claims to be long is not."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self.file = file.seek, file.tell, file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise OSError(f"a header is longer than {MAX_HEADER} bytes")
        return self.file.read(size)


def _members(path: Path, number: int) -> Iterator[tuple[str, _Part]]:
    """Names and places of the visible files of a tar file; links and devices are no files."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError("it is not a regular file")
        with path.open("rb") as file:
            total = os.fstat(file.fileno()).st_size
            headers: Any = _Headers(file)
            with tarfile.open(fileobj=headers, mode="r:") as archive:
                for member in archive:
                    if member.offset_data + member.size > total:
                        raise OSError("it is cut off")
                    hidden = member.name.rpartition("/")[2].startswith(".")
                    plain = member.type in tarfile.REGULAR_TYPES and not member.issparse()
                    if plain and not hidden:
                        yield member.name, _Part(number, member.offset_data, member.size)
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        raise ImagesError(f"Cannot read the tar file {path}: {one_line(error)}.") from None


def _bytes(path: str, part: _Part) -> bytes:
    with open(path, "rb") as file:
        file.seek(part.start)
        data = file.read(part.size)
    if len(data) < part.size:
        raise OSError("the tar file is cut off")
    return data
