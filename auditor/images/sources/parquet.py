"""Columns of Parquet files, read within bounds that their footers tell beforehand."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from auditor.core.phrases import counted, one_line
from auditor.errors import ImagesError
from auditor.images.listings import see_few_rows

__all__ = ["open_parquet", "read_columns", "read_schema"]

MAX_COLUMN = 2**30
"""Bytes that one column may hold before its values are spread over the rows, 1 GiB."""


def open_parquet(path: Path, dictionaries: Sequence[str] = ()) -> Any:
    """A `pyarrow.parquet.ParquetFile` of a regular file.

    Args:
        path: the file.
        dictionaries: columns whose equal values are kept once, as the file may hold them: a small
            file can stand for more text than any memory holds.

    Raises:
        ImagesError: it cannot be read as Parquet.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("it is not a regular file")
        return parquet.ParquetFile(path, read_dictionary=list(dictionaries))
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise ImagesError(f"Cannot read the manifest {path}: {one_line(error)}.") from None


def read_schema(path: Path) -> Any:
    """The `pyarrow.Schema` of a file.

    Raises:
        ImagesError: as `open_parquet`.
    """
    return open_parquet(path).schema_arrow


def read_columns(paths: Sequence[Path], names: Sequence[str]) -> dict[str, list[Any]]:
    """Whole columns of files with the same columns, one after the other.

    Raises:
        ImagesError: a file cannot be read, lacks a column, or is longer than can be audited.
    """
    import pyarrow

    columns: dict[str, list[Any]] = {name: [] for name in names}
    total = 0
    for path in paths:
        schema = read_schema(path)
        texts = [name for name in names if _is_text(schema, name, path)]
        file = open_parquet(path, texts)
        total += file.metadata.num_rows
        see_few_rows(total, paths[0] if len(paths) == 1 else paths[0].parent)
        for name in names:
            _see_small(file.metadata, name, path)
            try:
                for group in range(file.num_row_groups):
                    read = file.read_row_group(group, columns=[name]).column(name)
                    for chunk in read.chunks:
                        columns[name] += _values(chunk)
            except UnicodeDecodeError as error:
                raise ImagesError(f"The column {name} of {path} is no UTF-8: {error}.") from None
            except (OSError, ValueError, pyarrow.ArrowException) as error:
                raise ImagesError(f"Cannot read the manifest {path}: {one_line(error)}.") from None
    return columns


def _is_text(schema: Any, name: str, path: Path) -> bool:
    from pyarrow import types

    if schema.names.count(name) != 1:
        what = counted(schema.names.count(name), "column")
        raise ImagesError(f"{path} has {what} named {name!r}; it needs one.")
    kind = schema.field(name).type
    return any(
        test(kind)
        for test in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    )


def _values(chunk: Any) -> list[Any]:
    """Python's values of an array, equal ones of a dictionary being one object."""
    import pyarrow

    if not isinstance(chunk, pyarrow.DictionaryArray):
        values: list[Any] = chunk.to_pylist()
        return values
    known = chunk.dictionary.to_pylist()
    return [None if place is None else known[place] for place in chunk.indices.to_pylist()]


def _see_small(metadata: Any, name: str, path: Path) -> None:
    """See that a column does not hold more than fits into memory, by the file's footer."""
    size = 0
    for group in range(metadata.num_row_groups):
        of_group = metadata.row_group(group)
        for place in range(of_group.num_columns):
            chunk = of_group.column(place)
            if chunk.path_in_schema.split(".")[0] == name:
                size += chunk.total_uncompressed_size
    if size > MAX_COLUMN:
        raise ImagesError(
            f"The column {name} of {path} holds {size / 2**30:.1f} GiB, more than the "
            f"{MAX_COLUMN // 2**30} GiB of paths or labels that are read."
        )
