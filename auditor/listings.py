"""Where photos and their labels come from: folders, manifests, Hugging Face datasets on disk.

A listing names photos and says how to read them; nothing is decoded here.
"""

from __future__ import annotations

import csv
import functools
import importlib
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from auditor.errors import ImagesError
from auditor.labels import MAX_DIGITS

__all__ = ["ClassMatcher", "Listing", "list_photos"]

logger = logging.getLogger(__name__)

SUFFIXES = frozenset(
    f".{end}"
    for end in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif"),
        *("tif", "tiff", "avif", "heic", "heif"),
    )
)

MAX_BYTES = 2**29
"""Largest file that is read whole, 512 MiB: above any photo that may be decoded."""

PATH_COLUMNS = ("path", "image", "file")
LABEL_COLUMNS = ("class_index", "index", "wnid", "class_id", "label", "class", "class_name")
ONLY_INDEX = {"class_index", "index"}
ONLY_ID = {"wnid", "class_id"}


@dataclass(frozen=True)
class Listing:
    """Photos that a source names.

    Attributes:
        ids: unique names of the photos, sorted.
        labels: class indices, or `None` where no labels were asked for.
        read: the bytes of the photo at a position of `ids`; raises `OSError`.
    """

    ids: tuple[str, ...]
    labels: tuple[int, ...] | None
    read: Callable[[int], bytes]


class ClassMatcher:
    """Finds the class that a folder or a label means: by folder id, by index or by name.

    Names are compared without regard to case, and spaces and underscores are alike.
    """

    def __init__(self, names: Sequence[str], ids: Sequence[str] | None) -> None:
        self.names: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            self.names.setdefault(_plain(name), []).append(index)
        self.ids = {text: index for index, text in enumerate(ids or ())}
        self.count = len(names)

    def by_index(self, text: str) -> set[int]:
        """The class with this index, as in "7" and "007"."""
        if not text.isascii() or not text.isdigit() or len(text) > MAX_DIGITS:
            return set()
        return {int(text)} if int(text) < self.count else set()

    def by_id(self, text: str) -> set[int]:
        """The class with this folder id."""
        return {self.ids[text]} if text in self.ids else set()

    def candidates(self, text: str) -> set[int]:
        """All classes that the text can mean: an id is taken as such before all else."""
        text = text.strip()
        return self.by_id(text) or self.by_index(text) | set(self.names.get(_plain(text), ()))

    def match(self, texts: Iterable[str], *, source: str, column: str = "") -> dict[str, int]:
        """The class of each distinct text.

        Raises:
            ImagesError: some match no class, or several.
        """
        find = self.candidates
        if column in ONLY_INDEX:
            find = self.by_index
        elif column in ONLY_ID:
            find = self.by_id
        found = {text: find(text) for text in sorted(set(texts))}
        unknown = [text for text, classes in found.items() if not classes]
        if unknown:
            raise ImagesError(
                f"{source} has {_counted(len(unknown), 'label')} that {_verb(unknown)} no class of "
                f"the model: {_few(unknown)}; name them by class index, folder id or class name."
            )
        unclear = [text for text, classes in found.items() if len(classes) > 1]
        if unclear:
            raise ImagesError(
                f"{source} has {_counted(len(unclear), 'label')} that could mean several classes "
                f"of the model: {_few(unclear)}; name them by class index or folder id."
            )
        return {text: classes.pop() for text, classes in found.items()}


def list_photos(spec: str, *, matcher: ClassMatcher | None) -> Listing:
    """List the photos of a folder, a CSV or Parquet manifest or a Hugging Face dataset.

    Args:
        spec: the path.
        matcher: finds the class of a folder or label; `None` lists photos without labels.

    Raises:
        ImagesError: the path cannot be used, or labels do not match the model's classes.
    """
    path = Path(spec)
    if os.path.isfile(spec):
        return _manifest(path, matcher)
    if not os.path.isdir(spec):
        raise ImagesError(f"There is no folder or manifest {spec}; check the path.")
    if (path / "dataset_dict.json").is_file():
        splits = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
        raise ImagesError(
            f"{spec} holds the splits {_few(splits)}; give the folder of one of them."
        )
    if (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
        return _huggingface(path, matcher)
    return _folder(path, matcher)


# --- folders -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Files:
    """Reads files; a value, so that it can go to other processes."""

    paths: tuple[str, ...]

    def __call__(self, i: int) -> bytes:
        path = self.paths[i]
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a regular file")
        if status.st_size > MAX_BYTES:
            raise OSError(f"larger than {MAX_BYTES // 2**20} MiB")
        return Path(path).read_bytes()


def _folder(root: Path, matcher: ClassMatcher | None) -> Listing:
    passed_over = 0
    found: list[tuple[str, str, str]] = []  # id, path, class folder
    for relative, path in _walk(root):
        if Path(relative).suffix.lower() in SUFFIXES:
            top = relative.split("/")[0] if "/" in relative else ""
            found.append((_text(relative), path, _text(top)))
        else:
            passed_over += 1
    if passed_over:
        logger.info("%d files in %s are no photos and were passed over.", passed_over, root)
    found.sort()
    names = _told_apart(name for name, _, _ in found)
    found = sorted((name, path, top) for name, (_, path, top) in zip(names, found, strict=True))
    labels = None
    if matcher is not None:
        loose = [name for name, _, top in found if not top]
        if loose:
            raise ImagesError(
                f"{root} holds {_counted(len(loose), 'photo')} outside of the class folders: "
                f"{_few(loose)}; put each into the folder of its class."
            )
        classes = matcher.match((top for _, _, top in found), source=str(root))
        labels = tuple(classes[top] for _, _, top in found)
    paths = tuple(path for _, path, _ in found)
    return Listing(tuple(name for name, _, _ in found), labels, _Files(paths))


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    """Relative and full paths of all visible files; each folder is entered once per class folder.

    Links are followed, and a link back to a folder that was entered before is not: a loop ends.
    """
    pending: list[tuple[str, str, set[tuple[int, int]]]] = [(str(root), "", set())]
    while pending:
        folder, prefix, seen = pending.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            raise ImagesError(f"Cannot list the folder {folder}: {error.strerror}.") from None
        for entry in entries:
            if entry.name.startswith("."):
                continue
            # a link may lead to itself
            if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                inner = seen if prefix else set(seen)
                pending.append((entry.path, f"{prefix}{entry.name}/", inner))
            else:
                yield prefix + entry.name, entry.path


# --- manifests -----------------------------------------------------------------------------------


def _manifest(path: Path, matcher: ClassMatcher | None) -> Listing:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        columns = _read_csv(path)
    elif suffix in {".parquet", ".pq"}:
        columns = _read_parquet(path)
    else:
        raise ImagesError(f"{path} is neither a folder nor a .csv or .parquet manifest.")
    where = _first(columns, PATH_COLUMNS)
    if where is None:
        raise ImagesError(f"{path} needs a column of paths, named {_either(PATH_COLUMNS)}.")
    places: list[str] = []
    for row, value in enumerate(columns[where]):
        if not value:
            raise ImagesError(f"{path} has no path in row {row + 1}.")
        places.append(value)
    names = _told_apart(map(_text, places))
    files = [str(path.parent / place) for place in places]
    order = sorted(range(len(names)), key=names.__getitem__)
    labels = None
    if matcher is not None:
        column = _label_column(columns, matcher)
        if column is None:
            raise ImagesError(f"{path} needs a column of labels, named {_either(LABEL_COLUMNS)}.")
        texts = [value or "" for value in columns[column]]
        classes = matcher.match(texts, source=str(path), column=column)
        labels = tuple(classes[texts[row]] for row in order)
    return Listing(
        tuple(names[row] for row in order), labels, _Files(tuple(files[row] for row in order))
    )


Columns = Mapping[str, Sequence[str | None]]


def _read_csv(path: Path) -> Columns:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            names = [name.strip().lower() for name in next(rows, ())]
            _each_once(names, path)
            columns: dict[str, list[str | None]] = {name: [] for name in names}
            for row in filter(None, rows):
                for place, name in enumerate(names):
                    columns[name].append(row[place].strip() if place < len(row) else None)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImagesError(f"Cannot read the manifest {path}: {error}.") from None
    return columns


def _read_parquet(path: Path) -> Columns:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise ImagesError(f"Cannot read the manifest {path}: {_line(error)}.") from None
    columns: dict[str, list[str | None]] = {}
    _each_once([name.lower() for name in table.column_names], path)
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name.lower() not in {*PATH_COLUMNS, *LABEL_COLUMNS}:
            continue
        try:
            values = column.to_pylist()
        except UnicodeDecodeError as error:
            raise ImagesError(f"The column {name} of {path} is no UTF-8: {error}.") from None
        if any(not isinstance(value, str | int | None) for value in values):
            raise ImagesError(f"The column {name} of {path} must hold text or whole numbers.")
        columns[name.lower()] = [None if value is None else str(value) for value in values]
    return columns


def _each_once(names: Sequence[str], path: Path) -> None:
    """See that no column that is used stands there twice."""
    for name in (*PATH_COLUMNS, *LABEL_COLUMNS):
        if names.count(name) > 1:
            raise ImagesError(
                f"{path} has {names.count(name)} columns named {name!r} in upper or lower case; "
                "keep one of them."
            )


def _label_column(columns: Columns, matcher: ClassMatcher) -> str | None:
    usable = [name for name in LABEL_COLUMNS if name not in ONLY_ID or matcher.ids]
    return _first(columns, usable) or _first(columns, LABEL_COLUMNS)


def _first(columns: Columns, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in columns), None)


# --- Hugging Face datasets -----------------------------------------------------------------------


class _Table(Protocol):
    """What is used of `datasets.Dataset`."""

    features: Mapping[str, Any]

    def __len__(self) -> int: ...
    def __getitem__(self, key: int | str) -> Any: ...
    def cast_column(self, name: str, feature: Any) -> _Table: ...


@functools.lru_cache(maxsize=4)
def _opened(path: str) -> tuple[_Table, str]:
    """The dataset with its image column left undecoded, and that column's name."""
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise ImagesError(
            f"{path} is a Hugging Face dataset, which needs the package datasets: "
            "install auditor[datasets]."
        ) from None
    try:
        table: _Table = datasets.load_from_disk(path)
    except Exception as error:  # whatever the package meets in a damaged folder
        raise ImagesError(f"Cannot open the dataset {path}: {_line(error)}.") from None
    images = [name for name, kind in table.features.items() if isinstance(kind, datasets.Image)]
    if len(images) != 1:
        raise ImagesError(f"The dataset {path} must have one image column, not {len(images)}.")
    return table.cast_column(images[0], datasets.Image(decode=False)), images[0]


@dataclass(frozen=True)
class _TableRows:
    """Reads the photos of a dataset on disk; a value, so that it can go to other processes."""

    path: str

    def __call__(self, i: int) -> bytes:
        table, column = _opened(self.path)
        cell = table[i][column]
        if cell is None:
            raise OSError("the row holds no photo")
        if cell.get("bytes") is not None:
            data: bytes = cell["bytes"]
            return data
        if cell.get("path") is None:
            raise OSError("the row holds no photo")
        return _Files((str(Path(self.path) / cell["path"]),))(0)


def _huggingface(path: Path, matcher: ClassMatcher | None) -> Listing:
    table, _ = _opened(str(path))
    width = len(str(max(0, len(table) - 1)))
    ids = tuple(str(row).zfill(width) for row in range(len(table)))
    labels = None
    if matcher is not None:
        column = _first(dict.fromkeys(table.features, ()), ("label", "labels", *LABEL_COLUMNS))
        if column is None:
            raise ImagesError(f"The dataset {path} needs a column of labels, named label.")
        names = getattr(table.features[column], "names", None)
        texts = [_label_text(value, names) for value in table[column]]
        classes = matcher.match(texts, source=str(path), column=column)
        labels = tuple(classes[text] for text in texts)
    return Listing(ids, labels, _TableRows(str(path)))


def _label_text(value: object, names: Sequence[str] | None) -> str:
    if names is not None and isinstance(value, int):
        return str(names[value]) if 0 <= value < len(names) else ""
    return "" if value is None else str(value)


# --- words ---------------------------------------------------------------------------------------


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()


def _text(name: str) -> str:
    """File names are bytes; what is no UTF-8 in them is written as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _told_apart(names: Iterable[str]) -> list[str]:
    """The names, those that were there before with the number of their row."""
    taken: dict[str, None] = {}
    for row, name in enumerate(names, start=1):
        while name in taken:
            name = f"{name}#{row}"
        taken[name] = None
    return list(taken)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _verb(items: Sequence[str]) -> str:
    return "matches" if len(items) == 1 else "match"


def _few(items: Sequence[str]) -> str:
    shown = ", ".join(repr(item) for item in items[:10])
    return shown if len(items) <= 10 else f"{shown} and {len(items) - 10} more"


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
