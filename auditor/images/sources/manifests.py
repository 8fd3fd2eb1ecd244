"""Manifests: tables of paths and labels in CSV, JSON Lines or Parquet."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from auditor.core.phrases import either, few, one_line
from auditor.core.storage import read_bytes
from auditor.errors import ImagesError
from auditor.images.label_columns import LABEL_COLUMNS, Labelling, candidates, column
from auditor.images.listings import (
    MAX_BYTES,
    Listing,
    PhotoFiles,
    list_rows,
    see_few_rows,
    told_apart,
    utf8,
)
from auditor.images.sources.parquet import read_columns, read_schema

__all__ = ["SUFFIXES_OF_TEXT", "has_labels", "list_manifest"]

PATH_COLUMNS = ("path", "image", "file", "file_name", "filename", "filepath", "image_path")
SUFFIXES_OF_TEXT = {".csv", ".tsv", ".jsonl", ".ndjson"}
DELIMITERS = ",;\t|"
MAX_LINE = 2**20  # characters of a row of JSON Lines


@dataclass(frozen=True)
class _Table:
    """Columns of text by their lower-case names."""

    names: tuple[str, ...]
    columns: Mapping[str, Sequence[str | None]]


def list_manifest(path: Path, labelling: Labelling | None) -> Listing:
    """The photos of a manifest, whose paths are relative to its folder.

    Text is UTF-8, or UTF-16 with a byte order mark; CSV may be separated by commas, semicolons,
    tabs or bars.

    Raises:
        ImagesError: the manifest cannot be read, lacks a column, or labels match no class.
    """
    try:
        table = _read(path, labelling)
    except (OSError, UnicodeError, csv.Error, ValueError, RecursionError) as error:
        raise ImagesError(f"Cannot read the manifest {path}: {one_line(error)}.") from None
    where = next((name for name in PATH_COLUMNS if name in table.names), None)
    if where is None:
        raise ImagesError(
            f"{path} needs a column of paths, named {either(PATH_COLUMNS)}; it has {_all(table)}."
        )
    places: list[str] = []
    for row, value in enumerate(table.columns[where]):
        if not value:
            raise ImagesError(f"{path} has no path in row {row + 1}.")
        places.append(value)
    columns = []
    if labelling is not None:
        names = candidates(table.names, labelling, source=str(path))
        explicit = labelling.column is not None
        columns = [column(name, table.columns[name], explicit=explicit) for name in names]
    files = PhotoFiles(tuple(str(path.parent / place) for place in places))
    ids = told_apart(map(utf8, places))
    return list_rows(ids, files, columns, labelling, source=str(path))


def has_labels(path: Path) -> bool:
    """Whether a file of metadata names photos and may label them."""
    try:
        lines = _lines(read_bytes(path, limit=MAX_BYTES))
        first = next(lines, "")
        if path.suffix.lower() == ".csv":
            names = _header(first)
        else:
            row = json.loads(first)
            names = [str(name).strip().lower() for name in row] if isinstance(row, dict) else []
    except (OSError, UnicodeError, csv.Error, ValueError, RecursionError):
        return False
    return "file_name" in names and not set(LABEL_COLUMNS).isdisjoint(names)


def _all(table: _Table) -> str:
    return f"the columns {few(table.names)}" if table.names else "none"


def _read(path: Path, labelling: Labelling | None) -> _Table:
    wanted = {*PATH_COLUMNS, *LABEL_COLUMNS}
    if labelling is not None and labelling.column is not None:
        wanted.add(labelling.column.strip().lower())
    if path.suffix.lower() in {".parquet", ".pq"}:
        names = {name: name.lower() for name in read_schema(path).names}
        _each_once(list(names.values()), wanted, path)
        used = [name for name, lower in names.items() if lower in wanted]
        read = read_columns([path], used)
        columns = {names[name]: _texts(name, values, path) for name, values in read.items()}
        return _Table(tuple(names.values()), columns)
    lines = _lines(read_bytes(path, limit=MAX_BYTES))
    if path.suffix.lower() in {".jsonl", ".ndjson"}:
        return _json_lines(lines, wanted, path)
    return _csv(lines, wanted, path)


def _lines(data: bytes) -> Iterator[str]:
    """Lines with their ends as they are, of UTF-16 where a mark says so, else of UTF-8."""
    marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding = "utf-16" if data.startswith(marks) else "utf-8-sig"
    return iter(io.TextIOWrapper(io.BytesIO(data), encoding=encoding, newline=""))


def _header(line: str, delimiter: str = ",") -> list[str]:
    row = next(csv.reader([line], delimiter=delimiter, strict=True), [])
    return [name.strip().lower() for name in row]


def _csv(lines: Iterator[str], wanted: set[str], path: Path) -> _Table:
    first = next(lines, "")
    headers = {delimiter: _header(first, delimiter) for delimiter in DELIMITERS}
    delimiter = next(
        (d for d, names in headers.items() if not set(PATH_COLUMNS).isdisjoint(names)), ","
    )
    names = headers[delimiter]
    _each_once(names, wanted, path)
    used = [(place, name) for place, name in enumerate(names) if name in wanted]
    columns: dict[str, list[str | None]] = {name: [] for _, name in used}
    shared: dict[str, str] = {}  # labels repeat
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    for count, row in enumerate(filter(None, rows), start=1):
        if count % 2**16 == 0:
            see_few_rows(count, path)
        for place, name in used:
            cell = row[place].strip() if place < len(row) else None
            columns[name].append(cell and shared.setdefault(cell, cell))
    return _counted_table(names, columns, path)


def _json_lines(lines: Iterable[str], wanted: set[str], path: Path) -> _Table:
    names: dict[str, None] = {}
    columns: dict[str, list[str | None]] = {}
    rows = (line for line in lines if line.strip())
    for count, line in enumerate(rows):
        if count % 2**16 == 0:
            see_few_rows(count, path)
        if len(line) > MAX_LINE:
            raise ValueError(f"row {count + 1} is longer than {MAX_LINE:,} characters")
        cells = json.loads(line)
        if not isinstance(cells, dict):
            raise ValueError(f"row {count + 1} is no object of names and values")
        row = {str(name).strip().lower(): value for name, value in cells.items()}
        if len(row) < len(cells):
            raise ValueError(f"row {count + 1} has a name twice in upper or lower case")
        names |= dict.fromkeys(row)
        for name in wanted.intersection(row):
            column = columns.setdefault(name, [])
            column += itertools.repeat(None, count - len(column))
            column += _texts(name, [row[name]], path)
    total = max(map(len, columns.values()), default=0)
    for column in columns.values():
        column += itertools.repeat(None, total - len(column))
    return _counted_table(list(names), columns, path)


def _counted_table(
    names: Sequence[str], columns: Mapping[str, Sequence[str | None]], path: Path
) -> _Table:
    see_few_rows(max(map(len, columns.values()), default=0), path)
    return _Table(tuple(names), columns)


def _texts(name: str, values: Sequence[object], path: Path) -> list[str | None]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, str | int | None):
            raise ImagesError(f"The column {name} of {path} must hold text or whole numbers.")
    return [None if value is None else str(value) for value in values]


def _each_once(names: Sequence[str], wanted: set[str], path: Path) -> None:
    """See that no column that is used stands there twice."""
    for name in sorted(wanted):
        if names.count(name) > 1:
            raise ImagesError(
                f"{path} has {names.count(name)} columns named {name!r} in upper or lower case; "
                "keep one of them."
            )
