"""The files beside a record: what is written is read, and another file is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audits import audit

from auditor.core.storage import digest_file
from auditor.errors import RunError
from auditor.record import tables
from auditor.record.schema import Audit, ConceptScore


def columns(saved: Audit) -> dict[str, list[Any]]:
    """The scores of all classes of a record, by column."""
    rows = [(c.index, score) for c in saved.classes for score in c.concepts]

    def value(score: ConceptScore, name: str) -> Any:
        own = getattr(score, name, None) if name in tables.OWN else getattr(score.channels, name)
        return float("nan") if own is None else own

    found: dict[str, list[Any]] = {"class_index": [index for index, _ in rows]}
    for name in tables.SCORES:
        if name != "class_index":
            found[name] = [value(score, name) for _, score in rows]
    return found


def cut(saved: Audit, folder: Path) -> Audit:
    """The record with few concepts of each class, and the table of all in a folder."""
    table = tables.write(folder, "scores", columns(saved))
    few = tuple(c.model_copy(update={"concepts": c.concepts[:2]}) for c in saved.classes)
    return saved.model_copy(update={"classes": few, "tables": (table,)})


def test_scores_are_read_as_they_were(tmp_path: Path) -> None:
    whole = audit()
    saved = Audit.model_validate(cut(whole, tmp_path).model_dump())
    (table,) = saved.tables
    assert (table.file, table.rows) == ("scores.parquet", 60)
    assert table.sha256 == digest_file(tmp_path / table.file)
    assert dict(tables.scores(tmp_path, saved)) == {c.index: c.concepts for c in whole.classes}


def test_the_same_table_is_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = (tables.write(tmp_path / name, "scores", columns(audit())) for name in "ab")
    assert first == second


def test_another_file_is_told(tmp_path: Path) -> None:
    saved = cut(audit(), tmp_path)
    path = tmp_path / "scores.parquet"
    data = path.read_bytes()
    path.write_bytes(data + b" ")
    with pytest.raises(RunError, match=r"scores\.parquet is not the table .* its SHA-256 differs"):
        tables.scores(tmp_path, saved)
    path.unlink()
    with pytest.raises(RunError, match=r"Cannot read .*scores\.parquet"):
        tables.scores(tmp_path, saved)
    with pytest.raises(RunError, match="has no table of tests"):
        tables.read(tmp_path, saved, "tests")


def test_names_that_no_file_can_hold_are_escaped_and_missing_numbers_are_missing(
    tmp_path: Path,
) -> None:
    row: dict[str, Any] = {
        "finding": ["f"], "test": ["insertion"], "photo": ["\udce9.png"], "source": ["pool"],
        "role": ["drawn"], "before": np.array([0.25]), "after": np.array([np.nan]),
    }  # fmt: skip
    table = tables.write(tmp_path, "tests", row)
    read = tables.read(tmp_path, audit().model_copy(update={"tables": (table,)}), "tests")
    assert read["photo"] == ["\\udce9.png"]
    assert (read["before"], read["after"]) == ([0.25], [None])
