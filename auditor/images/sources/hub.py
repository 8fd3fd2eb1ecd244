"""Snapshots of data sets from the Hugging Face hub: Parquet files whose rows hold the photos.

The data set's own declaration of its classes stands in the files' schema or in its README.md.
"""

from __future__ import annotations

import functools
import json
import os
import re
import threading
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from auditor.core.phrases import counted, shown
from auditor.core.storage import read_text
from auditor.errors import ImagesError
from auditor.images.label_columns import Labelling, candidates, column
from auditor.images.label_meaning import Column
from auditor.images.listings import Listing, PhotoFiles, list_rows, see_few_rows, within
from auditor.images.sources.parquet import open_parquet, read_columns, read_schema
from auditor.record.schema import Remark

__all__ = ["has_photos", "label_texts", "list_shards", "photo_of", "row_ids", "splits"]

SHARD = re.compile(r"(?P<split>.+?)-\d+-of-(?P<count>\d{1,6})(-\w+)?\.parquet", re.IGNORECASE)
NUMBER = re.compile(r"\d+\.parquet", re.IGNORECASE)
HEADING = re.compile(r"^---[ \t]*$", re.MULTILINE)
MAX_README = 2**20
MAX_GROUP = 2**31
"""Bytes of photos in a row group, which is read whole, 2 GiB."""


def has_photos(path: Path) -> bool:
    """Whether a Parquet file holds photos and not only their paths."""
    return bool(_photo_columns(read_schema(path)))


def splits(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each split, by a pattern that names them: `data/train-*.parquet`."""
    found: dict[str, list[Path]] = {}
    for path in sorted(paths):
        part = SHARD.fullmatch(path.name)
        if part is not None:
            pattern = f"{part['split']}-*.parquet"
        else:
            pattern = "*.parquet" if NUMBER.fullmatch(path.name) else path.name
        found.setdefault(str(path.parent / pattern), []).append(path)
    return found


def list_shards(
    paths: Sequence[Path], labelling: Labelling | None, *, source: str, readme: Path | None = None
) -> Listing:
    """The photos of one split, in the order of its files and rows.

    Args:
        paths: its Parquet files.
        labelling: how labels are understood; `None` lists photos without labels.
        source: for sentences.
        readme: the data set's description, which may declare classes.

    Raises:
        ImagesError: files cannot be read, differ, hold no photos or too many at a time, or labels
            do not match the model's classes.
    """
    schema = read_schema(paths[0])
    features = _features(schema, readme)
    found = _photo_columns(schema)
    if len(found) != 1:
        raise ImagesError(f"The data set {source} must have one image column, not {len(found)}.")
    groups, total = _groups(paths, found[0], schema, source)
    columns: list[Column] = []
    if labelling is not None:
        names = [name for name in schema.names if name != found[0]]
        declared = {name: _class_list(features.get(name), source) for name in names}
        own = [name for name, classes in declared.items() if classes is not None]
        used = candidates(names, labelling, source=source, declared=own)
        read = read_columns(paths, used)
        columns = [
            column(
                name,
                label_texts(read[name], declared[name], name, source),
                declared=declared[name],
                explicit=labelling.column is not None,
            )
            for name in used
        ]
    rows = _ShardRows(tuple(map(str, paths)), groups, found[0])
    return list_rows(
        row_ids(total), rows, columns, labelling, source=source, remarks=_missing(paths, source)
    )


def row_ids(count: int) -> tuple[str, ...]:
    """Numbers of rows with zeros before them, so that they sort as text."""
    width = len(str(max(0, count - 1)))
    return tuple(str(row).zfill(width) for row in range(count))


def label_texts(
    values: Sequence[object], classes: Sequence[str] | None, name: str, source: str
) -> list[str | None]:
    """Labels as text: of a declared list the name at the stored number; -1 says that none is known.

    Raises:
        ImagesError: a value is no text or whole number, or no place of the list.
    """
    texts: list[str | None] = []
    for row, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, str | int | None):
            raise ImagesError(
                f"The column {name} of {source} must hold text or whole numbers; row {row + 1} "
                f"holds a {type(value).__name__}."
            )
        if classes is None or not isinstance(value, int):
            texts.append(None if value is None else str(value))
        elif value == -1:
            texts.append(None)
        elif 0 <= value < len(classes):
            texts.append(classes[value])
        else:
            raise ImagesError(
                f"Row {row + 1} of {source} has the {name} {value}, and {len(classes)} classes are "
                "declared."
            )
    return texts


def photo_of(cell: Mapping[str, Any] | bytes | None, root: str) -> bytes:
    """The bytes of a photo's cell, which holds them or names a file of the data set.

    Raises:
        OSError: there are none, or the file cannot be read or lies outside of the data set.
    """
    if isinstance(cell, bytes):
        return cell
    data = None if cell is None else cell.get("bytes")
    if isinstance(data, bytes):
        return data
    path = None if cell is None else cell.get("path")
    if not isinstance(path, str):
        raise OSError("the row holds no photo")
    return PhotoFiles((within(root, path),))(0)


# --- files ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Group:
    """A row group: the row that it begins with, its file and its number there."""

    first: int
    shard: int
    number: int


@dataclass(frozen=True)
class _ShardRows:
    """Reads the photos of Parquet files; a value, so that it can go to other processes."""

    shards: tuple[str, ...]
    groups: tuple[_Group, ...]
    column: str

    def __call__(self, i: int) -> bytes:
        group = self.groups[bisect_right(self.groups, i, key=lambda each: each.first) - 1]
        shard = self.shards[group.shard]
        with _one_at_a_time:
            status = os.stat(shard)
            written = (status.st_ino, status.st_mtime_ns)
            cells = _row_group(shard, written, group.number, self.column)
        return photo_of(cells[i - group.first].as_py(), str(Path(shard).parent))


_one_at_a_time = threading.Lock()


@functools.lru_cache(maxsize=2)
def _row_group(shard: str, written: tuple[int, int], number: int, name: str) -> Any:
    """The photos of a row group of a file as it was `written`, equal ones kept once."""
    import pyarrow

    try:
        is_struct = pyarrow.types.is_struct(read_schema(Path(shard)).field(name).type)
        file = open_parquet(Path(shard), (f"{name}.bytes" if is_struct else name,))
        return file.read_row_group(number, columns=[name]).column(name)
    except (ImagesError, ValueError, pyarrow.ArrowException) as error:
        raise OSError(f"{shard} is damaged: {error}") from None


def _groups(
    paths: Sequence[Path], name: str, schema: Any, source: str
) -> tuple[tuple[_Group, ...], int]:
    groups: list[_Group] = []
    total = 0
    for shard, path in enumerate(paths):
        file = open_parquet(path)
        if file.schema_arrow.names != schema.names:
            raise ImagesError(f"{path} has other columns than {paths[0]}; give one split alone.")
        see_few_rows(total + file.metadata.num_rows, source)
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            chunks = [group.column(place) for place in range(group.num_columns)]
            size = sum(
                chunk.total_uncompressed_size
                for chunk in chunks
                if chunk.path_in_schema.split(".")[0] == name
            )
            if size > MAX_GROUP:
                raise ImagesError(
                    f"A row group of {path} holds {size / 2**30:.1f} GiB of photos, which are "
                    f"read at once; write it with row groups below {MAX_GROUP // 2**30} GiB."
                )
            if group.num_rows:
                groups.append(_Group(total, shard, number))
            total += group.num_rows
    return tuple(groups), total


def _missing(paths: Sequence[Path], source: str) -> tuple[Remark, ...]:
    part = SHARD.fullmatch(paths[0].name)
    if part is None or int(part["count"]) <= len(paths):
        return ()
    return (
        Remark(
            code="shards-missing",
            text=f"{source} is {counted(len(paths), 'file')} of the {int(part['count'])} that the "
            "split has by their names; the others were not read.",
        ),
    )


# --- what the data set declares ------------------------------------------------------------------


def _photo_columns(schema: Any) -> list[str]:
    """Columns of bytes, alone or beside a path."""
    from pyarrow import types

    def binary(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    found = []
    for each in schema:
        kind = each.type
        fields = [kind.field(k) for k in range(kind.num_fields)] if types.is_struct(kind) else []
        if binary(kind) or any(part.name == "bytes" and binary(part.type) for part in fields):
            found.append(each.name)
    return [name for name in found if schema.names.count(name) == 1]


def _features(schema: Any, readme: Path | None) -> Mapping[str, Any]:
    """The features by name, as the schema's metadata declares them or else the README.md."""
    stored = (schema.metadata or {}).get(b"huggingface")
    if stored is not None:
        try:
            features = json.loads(stored)["info"]["features"]
        except (ValueError, RecursionError, KeyError, TypeError):
            features = None
        if isinstance(features, dict):
            return features
    return {} if readme is None else _of_readme(readme)


def _of_readme(readme: Path) -> Mapping[str, Any]:
    """Features of the README's heading, where it declares those of one configuration."""
    try:
        parts = HEADING.split(read_text(readme, limit=MAX_README), maxsplit=2)
        heading = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    except Exception:  # whatever PyYAML meets in a text that is no YAML
        return {}
    info = heading.get("dataset_info") if isinstance(heading, dict) else None
    if isinstance(info, list) and len(info) == 1:
        info = info[0]
    features = info.get("features") if isinstance(info, dict) else None
    if not isinstance(features, list):
        return {}
    found: dict[str, Any] = {}
    for each in features:
        kind = each.get("dtype") if isinstance(each, dict) else None
        if isinstance(kind, dict) and isinstance(kind.get("class_label"), dict):
            found[str(each.get("name"))] = {"_type": "ClassLabel", **kind["class_label"]}
    return found


def _class_list(feature: object, source: str) -> tuple[str, ...] | None:
    """The classes of a ClassLabel in the order of their numbers, or `None` for another feature."""
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return None
    names = feature.get("names")
    if isinstance(names, dict):  # of a README: by number
        names = [names.get(str(k), names.get(k)) for k in range(len(names))]
    if not isinstance(names, list) or any(not isinstance(name, str | int) for name in names):
        return None
    classes = tuple(map(str, names))
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise ImagesError(
            f"{source} declares the class {shown(twice)} twice; mend its class names."
        )
    return classes
