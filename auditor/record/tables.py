"""The files beside a record: the whole matrix of scores, and the photos behind each test.

Both are Parquet files whose SHA-256 stands in the record. The report needs neither.

`scores.parquet` has a row for each class and concept, best first in each class: the fields of
`ConceptScore` with those of its `Channels`, and the class's index. `tests.parquet` has a row for
each photo behind a test of a finding: the finding's id, the test, the photo's id and the `source`
that lists it (`images` or `pool`), its `role`, and the model's probability of the class on the
photo as it is (`before`) and after the edit that the role names (`after`), where there is one. The
roles: `with` and `without` the concept (by the probe), `own` (of the class; prevalence compares
them with all others), `drawn` and `control` (the two edits), `middle` (whose object surroundings
were put around).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from auditor.core.storage import digest_bytes, write_atomically
from auditor.errors import RunError
from auditor.record.results import Channels, ConceptScore
from auditor.record.schema import Audit, Table

__all__ = ["FILES", "SCORES", "TESTS", "read", "scores", "write"]

Name = Literal["scores", "tests"]
Column = Sequence[Any] | NDArray[Any]

CHANNELS = tuple(Channels.model_fields)
OWN = ("concept", "category", "core", "score", "rank", "p", "q", "p_model")
SCORES: Mapping[str, str] = {
    "class_index": "int64",
    "concept": "string",
    "category": "string",
    "core": "bool",
    "score": "double",
    "rank": "int64",
    "p": "double",
    "q": "double",
    "p_model": "double",
    **dict.fromkeys(CHANNELS, "double"),
}
"""Columns of the scores, with their types."""
TESTS: Mapping[str, str] = {
    "finding": "string",
    "test": "string",
    "photo": "string",
    "source": "string",
    "role": "string",
    "before": "double",
    "after": "double",
}
"""Columns of the photos behind tests, with their types."""
COLUMNS: Mapping[Name, Mapping[str, str]] = {"scores": SCORES, "tests": TESTS}
FILES: Mapping[Name, str] = {"scores": "scores.parquet", "tests": "tests.parquet"}
"""The files' names in the run folder."""


def write(folder: Path, name: Name, columns: Mapping[str, Column]) -> Table:
    """Write a table into a folder.

    Args:
        folder: where it goes.
        name: which table.
        columns: values by column; numbers that are not finite are missing.

    Returns:
        What the record says of it.
    """
    import pyarrow
    from pyarrow import parquet

    types = COLUMNS[name]
    arrays = {
        column: pyarrow.array(_values(columns[column], kind), type=pyarrow.type_for_alias(kind))
        for column, kind in types.items()
    }
    table = pyarrow.table(arrays)
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    data = buffer.getvalue()
    write_atomically(folder / FILES[name], data)
    return Table(name=name, file=FILES[name], sha256=digest_bytes(data), rows=table.num_rows)


def read(folder: Path, audit: Audit, name: Name) -> Mapping[str, list[Any]]:
    """The columns of a table that stands beside a record.

    Raises:
        RunError: the record has no such table, or the file is not the one that it was written with.
    """
    import pyarrow
    from pyarrow import parquet

    table = next((each for each in audit.tables if each.name == name), None)
    if table is None:
        raise RunError(f"The audit in {folder} has no table of {name}; run it again.")
    path = folder / FILES[name]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"Cannot read {path}: {error.strerror}.") from None
    if digest_bytes(data) != table.sha256:
        raise RunError(
            f"{path} is not the table that its audit.json was written with: its SHA-256 differs; "
            "run the audit again."
        )
    try:
        found = parquet.read_table(io.BytesIO(data), columns=list(COLUMNS[name]))
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise RunError(f"{path} cannot be read: {error!s:.80}.") from None
    return {column: found[column].to_pylist() for column in COLUMNS[name]}


def scores(folder: Path, audit: Audit) -> Mapping[int, tuple[ConceptScore, ...]]:
    """Every concept of every class, best first, by the class's index.

    An older record has them all itself.

    Raises:
        RunError: as `read`.
    """
    if all(len(c.concepts) == c.n_concepts for c in audit.classes):
        return {c.index: c.concepts for c in audit.classes}
    columns = read(folder, audit, "scores")
    found: dict[int, list[ConceptScore]] = {c.index: [] for c in audit.classes}
    for i, index in enumerate(columns["class_index"]):
        channels = Channels(**{name: columns[name][i] for name in CHANNELS})
        own = {name: columns[name][i] for name in OWN}
        found.setdefault(index, []).append(ConceptScore(**own, channels=channels))
    return {index: tuple(rows) for index, rows in found.items()}


def _values(column: Column, kind: str) -> list[Any]:
    """Plain values: a number that is none is missing, and half a character is escaped."""
    if kind == "string":
        return [str(v).encode(errors="backslashreplace").decode() for v in column]
    values = np.asarray(column)
    if kind == "double":
        return [v if np.isfinite(v) else None for v in values.astype(np.float64).tolist()]
    if kind == "int64":
        return [int(v) if np.isfinite(v) else None for v in values.astype(np.float64).tolist()]
    return [bool(v) for v in values]
