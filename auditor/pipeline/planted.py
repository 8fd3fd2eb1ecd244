"""What a lab planted in a classifier, and how far an audit found it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from auditor.concepts.banks import ConceptBank
from auditor.core.storage import read_text
from auditor.errors import ConfigError
from auditor.record.schema import AuditedClass, Finding, Planted

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
    bank: ConceptBank,
    classes: Sequence[AuditedClass],
    findings: Sequence[Finding],
) -> tuple[Planted, ...] | None:
    """What a lab planted, beside the rank and grade that the audit gave it.

    `found_rank` counts extrinsic concepts that are not core to the class.
    """
    if listed is None:
        return None
    grades = {(f.class_index, f.concept.casefold()): f.grade for f in findings}
    extrinsic = {c.name for c in bank.concepts if c.extrinsic}
    ranked = {
        audited.index: [
            c.concept.casefold()
            for c in audited.concepts
            if c.rank is not None and not c.core and c.concept in extrinsic
        ]
        for audited in classes
    }
    done = []
    for planted in listed:
        wanted = planted.concept.casefold()
        order = ranked.get(planted.class_index, [])
        rank = order.index(wanted) + 1 if wanted in order else None
        grade = grades.get((planted.class_index, wanted))
        done.append(planted.model_copy(update={"found_rank": rank, "found_grade": grade}))
    return tuple(done)
