"""What an audit covered: what was looked at, what was not tested, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from auditor.findings import screening
from auditor.pipeline.results import Results
from auditor.record.schema import Coverage, Finding, NotTested, Quarantined

__all__ = ["of"]


def of(results: Results, is_core: NDArray[np.bool_], findings: Sequence[Finding]) -> Coverage:
    """What an audit looked at and what it did not, each with the reason.

    Args:
        results: of the stages.
        is_core: bool array of shape (C, m), from `suspects.core`.
        findings: of the audit.
    """
    config = results.config
    quarantined = dict(results.images.quarantined) | results.vocabulary.quarantined
    if results.pool is not results.images:
        quarantined |= {f"pool: {name}": why for name, why in results.pool.quarantined}
    not_tested = [
        NotTested(what=concept.name, kind="concept", reason=reason)
        for concept, reason in zip(results.bank.concepts, results.vocabulary.reasons, strict=True)
        if reason is not None
    ]
    for row in range(len(results.classes)):
        not_tested += _untested(results, row, is_core[row], findings)
    shared = len(set(results.images.identities) & set(results.pool.identities))
    if shared:
        not_tested.append(
            NotTested(
                what="an independent pool",
                kind="stage",
                reason=f"{shared} audited photos are also in the pool: a concept that always comes "
                "with a class cannot be told from it, and associations were tested on photos that "
                "helped to choose the concepts (give --pool other photos)",
            )
        )
    for what, reason in (
        (
            "whether each class's photos show a concept more than others (prevalence)",
            None
            if config.representative
            else "the photos are said to be unlike those that the "
            "model learned from (--no-representative)",
        ),
        ("whether prototypes can be told from photos", results.apart.reason),
        (
            "transfer of prototypes to a second model",
            None if results.judged else "no second model was given (--second-model)",
        ),
    ):
        if reason is not None:
            not_tested.append(NotTested(what=what, kind="stage", reason=reason))
    hypotheses = int(np.isfinite(results.named.p).sum())
    return Coverage(
        classes=len(results.classes),
        classes_of_model=len(results.classifier.class_names),
        images=len(results.images),
        pool=len(results.pool),
        hypotheses=hypotheses,
        quarantined=tuple(Quarantined(id=name, reason=why) for name, why in quarantined.items()),
        not_tested=tuple(not_tested),
        remarks=results.remarks,
        smallest_effect=None
        if not hypotheses
        else (
            f"by the score alone, {results.named.threshold:.1f} standard deviations of random "
            f"concepts (q < {config.statistics.q_level:g} among {hypotheses:,} pairs); below that "
            "only what was tested on photos, of which no smallest effect was estimated"
            if np.isfinite(results.named.threshold)
            else f"none by the score alone: {results.named.null.size} random scores cannot give "
            f"q < {config.statistics.q_level:g} among {hypotheses:,} pairs; only photos could"
        ),
    )


def _untested(
    results: Results, row: int, is_core: NDArray[np.bool_], findings: Sequence[Finding]
) -> Iterator[NotTested]:
    """What was not tested of one class, though it was of others."""
    index, statistics = results.classes[row], results.config.statistics
    name, least = results.classifier.class_names[index], statistics.min_photos

    def gap(what: str, reason: str) -> NotTested:
        return NotTested(what=f"{what} {name}", kind="class", reason=reason)

    reason = results.diverged[index].reason
    if reason is not None:
        yield gap("divergence of", reason)
    own = int((results.labels == index).sum())
    if results.config.representative and min(own, len(results.labels) - own) < least:
        yield gap(
            "prevalence of concepts in photos of",
            f"{own} photos of the class and {len(results.labels) - own} of others, {least} of each "
            "are needed",
        )
    drawn = any(concept.drawing is not None for concept in results.bank.concepts)
    others = int((results.canvas_labels != index).sum())
    if drawn and others < least:
        yield gap(
            "drawn concepts by experiment on",
            f"{others} of the photos that are drawn on show another class, {least} are needed",
        )
    extrinsic = np.array([concept.extrinsic for concept in results.bank.concepts]) & ~is_core
    short = int((results.vocabulary.short(row) & extrinsic).sum())
    if short:
        yield gap(
            f"{short} concepts of",
            f"fewer than {least} pool photos of other classes show them: they cannot be told from "
            "the class (give --pool other photos)",
        )
    told = {
        concept
        for finding in findings
        if finding.class_index == index
        for concept in (finding.concept, *finding.alike, *finding.explains)
    }
    named = results.named
    level = statistics.q_level
    stands_out = extrinsic & (named.q[row] < level) & (named.p_model[row] < level)
    left = [c.name for c, out in zip(results.bank.concepts, stands_out, strict=True)
            if out and c.name not in told]  # fmt: skip
    if left:
        yield gap(
            f"{len(left)} concepts that stand out of the null for",
            f"only the first {screening.PER_CLASS} groups of a class are put to the test: "
            f"{', '.join(left[:8])}{' and others' if len(left) > 8 else ''}",
        )
