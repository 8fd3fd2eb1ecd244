"""Class names: from the user's file, and those of ImageNet."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from auditor.core.storage import read_text
from auditor.errors import ModelError

__all__ = ["MAX_DIGITS", "ClassNames", "imagenet", "read_class_names"]

MAX_DIGITS = 20  # of an index: Python reads no number of thousands of digits
MAX_BYTES = 2**24  # of a file of class names, 16 MiB: a thousand times those of ImageNet


@dataclass(frozen=True)
class ClassNames:
    """The name of each class, and the id of its folder where there is one."""

    names: tuple[str, ...]
    ids: tuple[str, ...] | None


def read_class_names(path: Path) -> ClassNames:
    """Read names from a text file (one a line), or CSV or JSON rows with index, id and name.

    JSON may also be a list of names, or an object from index to name or to [id, name]. `wnid` is
    read as `id`. Without `index` the rows are in the order of the classes; `id` is optional, for
    all rows alike.

    Raises:
        ModelError: the file cannot be read, or indices, ids or names are missing or doubled.
    """
    try:
        text = read_text(path, limit=MAX_BYTES)
        if path.suffix.lower() == ".csv":
            rows: list[object] = list(csv.DictReader(text.splitlines(), strict=True))
        elif path.suffix.lower() == ".json":
            rows = _json_rows(json.loads(text))
        else:
            rows = list(text.rstrip().splitlines())
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise ModelError(f"Cannot read the class names {path}: {why}.") from None
    if not rows:
        raise ModelError(f"{path} holds no rows of class names.")
    return _in_order([_row(row, place, path) for place, row in enumerate(rows)], path)


def imagenet(n_classes: int) -> ClassNames | None:
    """Names and WordNet ids of ImageNet's 1000 classes, or `None` for another number.

    The names are torchvision's, one for each class and not all different; the ids are timm's.

    >>> imagenet(1000).names[207], imagenet(1000).ids[207]
    ('golden retriever', 'n02099601')
    """
    if n_classes != 1000:
        return None
    import torchvision
    from timm.data.imagenet_info import ImageNetInfo

    names = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]
    info = ImageNetInfo("imagenet-1k")
    return ClassNames(tuple(names), tuple(info.index_to_label_name(i) for i in range(n_classes)))


Row = tuple[int, str | None, str]


def _json_rows(data: object) -> list[object]:
    if isinstance(data, list):
        return data
    if not isinstance(data, dict):
        return []
    rows: list[object] = []
    for index, value in data.items():
        pair = value if isinstance(value, list) and len(value) == 2 else [None, value]
        rows.append({"index": index, "id": pair[0], "name": pair[1]})
    return rows


def _row(row: object, place: int, path: Path) -> Row:
    if isinstance(row, str):
        row = {"name": row}
    if not isinstance(row, dict):
        raise ModelError(f"Row {place + 1} of {path} is neither a name nor a table of names.")
    fields = {
        str(key).strip().lower(): str(value).strip()
        for key, value in row.items()
        if value is not None
    }
    name = fields.get("name", "")
    if not name:
        raise ModelError(f"Row {place + 1} of {path} has no name.")
    index = fields.get("index", str(place))
    if not (index.isascii() and index.isdigit() and len(index) <= MAX_DIGITS):
        raise ModelError(
            f"Row {place + 1} of {path} has the index {index[:80]!r}, not a whole number."
        )
    return int(index), fields.get("id") or fields.get("wnid") or None, name


def _in_order(rows: list[Row], path: Path) -> ClassNames:
    rows = sorted(rows, key=lambda row: row[0])
    for place, (index, _, _) in enumerate(rows):
        if index != place:
            what = "twice" if index < place else "but not the one before it"
            raise ModelError(
                f"{path} holds the class index {index} {what}; "
                f"the {len(rows)} rows must have the indices 0 to {len(rows) - 1}."
            )
    ids = tuple(text for _, text, _ in rows if text is not None)
    if ids and (len(ids) < len(rows) or len(set(ids)) < len(ids)):
        raise ModelError(f"{path} must give each class an id of its own, or none of them.")
    return ClassNames(tuple(name for _, _, name in rows), ids or None)
