"""Findings of the record, derived from pairs of class and concept whose tests allow a grade."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from auditor.findings.grading import Pair, strength
from auditor.record.schema import PREVALENT, Evidence, Finding, Grade, Picture

__all__ = ["Pictures", "derive", "finding_id"]

Pictures = Mapping[tuple[int, int], tuple[Picture, ...]]


def derive(
    pairs: Sequence[Pair], *, q_level: float, pictures: Pictures = MappingProxyType({})
) -> tuple[Finding, ...]:
    """Grade pairs and order them: strongest grade first, then the lower q, then the score.

    Args:
        pairs: with their tests.
        q_level: of the grades.
        pictures: by row and column of a pair.
    """
    graded = [(pair, pair.grade(q_level)) for pair in pairs]
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


def _finding(pair: Pair, grade: Grade, pictures: tuple[Picture, ...]) -> Finding:
    evidence = [
        Evidence(
            test="naming",
            effect=pair.naming,
            control=pair.null,
            p=pair.p,
            q=pair.q,
            n=pair.naming.n,
            unit="standard deviations of the null",
        )
    ]
    caveats = list(pair.caveats)
    for test, told, unit in (
        ("association", pair.association, "log-odds of the class"),
        ("surroundings", pair.surroundings, "log-odds of the class"),
        ("prevalence", pair.prevalence, "area under the ROC curve"),
    ):
        if told is not None:
            evidence.append(
                Evidence(
                    test=test,
                    effect=told.estimate,
                    control=None,
                    p=told.p,
                    q=told.q,
                    n=told.estimate.n,
                    unit=unit,
                )
            )
    if pair.association is None:
        caveats.append("Not tested on photos of other classes: too few of them show the concept.")
    if pair.effect is not None:
        evidence.append(
            Evidence(
                test="insertion",
                effect=pair.effect.effect,
                control=pair.effect.control,
                p=pair.effect.p,
                q=pair.effect_q,
                n=pair.effect.effect.n,
                unit="probability of the class",
            )
        )
    if pair.explains:
        caveats.append(
            "Photos of the class show no more of these than it lets expect: "
            f"{', '.join(pair.explains)}."
        )
    hides = "drawing it may raise the class only because it hides what speaks for the true one"
    if pair.prevalence is None:
        if pair.effect is not None:
            why = f": {hides}" if pair.degrades else ""
            caveats.append(f"Whether photos of the class show it is not known{why}.")
    elif pair.prevalence.estimate.value < PREVALENT:
        why = hides if pair.degrades else "the model may take it for the class's own object"
        caveats.append(f"Photos of the class hardly show it more often than others: {why}.")
    elif pair.effect is not None and pair.prevalence.estimate.low < PREVALENT:
        caveats.append(
            "That photos of the class show it more often than others is not sure "
            f"({pair.prevalence.estimate.low:.2f} at least on {pair.prevalence.estimate.n} "
            f"photos, {PREVALENT} is asked for; more photos would tell): drawing it "
            + ("convicts nobody by itself." if grade == "suspected" else "confirms nothing.")
        )
    return Finding(
        id=finding_id(pair.class_index, pair.class_name, pair.concept),
        class_index=pair.class_index,
        concept=pair.concept,
        category=pair.category,
        grade=grade,
        evidence=tuple(evidence),
        caveats=tuple(caveats),
        pictures=pictures,
        alike=pair.alike,
        explains=pair.explains,
    )
