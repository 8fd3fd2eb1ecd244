"""Findings of the record, derived from pairs of class and concept whose tests allow a grade."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from auditor.findings.grading import Association, Graded, Pair
from auditor.record.codes import Grade, TestName, Unit, strength
from auditor.record.schema import Caveat, Evidence, Finding, Picture
from auditor.record.thresholds import PREVALENT

__all__ = ["Pictures", "derive", "finding_id"]

Pictures = Mapping[tuple[int, int], tuple[Picture, ...]]

DIGITS = 6  # of numbers beside a code, as of all that is saved


def derive(
    pairs: Sequence[Pair], *, q_level: float, pictures: Pictures = MappingProxyType({})
) -> tuple[Finding, ...]:
    """Grade pairs and order them: strongest grade first, then the lower q, then the score.

    Args:
        pairs: with their tests.
        q_level: of the grades.
        pictures: by row and column of a pair.
    """
    graded = [(pair, pair.graded(q_level)) for pair in pairs]
    findings = [
        (_finding(pair, grade, pictures.get((pair.row, pair.column), ())), pair)
        for pair, grade in graded
        if grade
    ]
    findings.sort(
        key=lambda both: (-strength(both[0].grade), both[1].q, -both[1].naming.value, both[0].id)
    )
    return tuple(finding for finding, _ in findings)


def finding_id(class_index: int, class_name: str, concept: str) -> str:
    """A name for a class, by index and name, and a concept: the same in every audit."""
    text = f"{class_index}\0{class_name}\0{concept.casefold()}"
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:12]


def _finding(pair: Pair, graded: Graded, pictures: tuple[Picture, ...]) -> Finding:
    return Finding(
        id=finding_id(pair.class_index, pair.class_name, pair.concept),
        class_index=pair.class_index,
        concept=pair.concept,
        category=pair.category,
        grade=graded.grade,
        basis=graded.basis,
        evidence=tuple(_evidence(pair)),
        caveats=(*pair.caveats, *_caveats(pair, graded.grade)),
        pictures=pictures,
        alike=pair.alike,
        explains=pair.explains,
    )


def _evidence(pair: Pair) -> Iterator[Evidence]:
    """Every test that the pair was put to."""
    yield Evidence(
        test="naming",
        effect=pair.naming,
        control=pair.null,
        p=pair.p,
        q=pair.q,
        n=pair.naming.n,
        unit="null_sd",
    )
    tests: tuple[tuple[TestName, Association | None, Unit], ...] = (
        ("association", pair.association, "log_odds"),
        ("surroundings", pair.surroundings, "log_odds"),
        ("prevalence", pair.prevalence, "auc"),
    )
    for test, told, unit in tests:
        if told is not None:
            yield Evidence(
                test=test,
                effect=told.estimate,
                control=None,
                p=told.p,
                q=told.q,
                n=told.estimate.n,
                unit=unit,
            )
    if pair.effect is not None:
        yield Evidence(
            test="insertion",
            effect=pair.effect.effect,
            control=pair.effect.control,
            p=pair.effect.p,
            q=pair.effect_q,
            n=pair.effect.effect.n,
            unit="probability",
        )


def _caveats(pair: Pair, grade: Grade) -> Iterator[Caveat]:
    """What the tests leave open."""
    if pair.association is None:
        yield Caveat(code="not_associated")
    if pair.explains:
        yield Caveat(code="explains", params={"concepts": pair.explains})
    if pair.prevalence is None:
        if pair.effect is not None:
            yield Caveat(code="prevalence_unknown", params={"hides": pair.degrades})
        return
    shown = pair.prevalence.estimate
    if shown.value < PREVALENT:
        yield Caveat(code="prevalence_low", params={"hides": pair.degrades})
    elif pair.effect is not None and shown.low < PREVALENT:
        yield Caveat(
            code="prevalence_unsure",
            params={
                "low": round(shown.low, DIGITS),
                "photos": shown.n,
                "asked": PREVALENT,
                "convicts": grade != "suspected",
            },
        )
