"""What a lab planted in a classifier, and how far an audit found it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from auditor.core.storage import read_text
from auditor.errors import ConfigError
from auditor.record.schema import Finding, Planted

__all__ = ["found", "read"]

MOST_BYTES = 4 * 2**20  # of a list of planted shortcuts


def read(path: str | None) -> list[Planted] | None:
    """The shortcuts that a lab planted, from its JSON file, before any audit of them.

    Raises:
        ConfigError: the file cannot be read, or is no list of planted shortcuts.
    """
    if path is None:
        return None
    try:
        rows = json.loads(read_text(Path(path), limit=MOST_BYTES))
        return [Planted(**row, found_rank=None, found_grade=None) for row in rows]
    except (OSError, ValueError, TypeError, RecursionError, ValidationError) as error:
        why = " ".join(str(getattr(error, "strerror", None) or error).split())[:160]
        raise ConfigError(f"planted = {path} cannot be used: {why}.") from None


def found(
    listed: Sequence[Planted] | None,
    ranked: Mapping[int, Sequence[str]],
    findings: Sequence[Finding],
) -> tuple[Planted, ...] | None:
    """What a lab planted, beside the rank and grade that the audit gave it.

    Args:
        listed: what was planted.
        ranked: by the class's index, its extrinsic concepts that are not core to it, best first, of
            all that were scored: among these is the rank.
        findings: of the audit.
    """
    if listed is None:
        return None
    grades = {(f.class_index, f.concept.casefold()): f.grade for f in findings}
    done = []
    for planted in listed:
        wanted = planted.concept.casefold()
        order = [name.casefold() for name in ranked.get(planted.class_index, ())]
        rank = order.index(wanted) + 1 if wanted in order else None
        grade = grades.get((planted.class_index, wanted))
        done.append(planted.model_copy(update={"found_rank": rank, "found_grade": grade}))
    return tuple(done)
