"""What an audit covered: what was looked at, what was not tested, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from auditor.findings.screening import PER_CLASS, possible
from auditor.images.image_set import ImageSet
from auditor.pipeline.inputs import Inputs
from auditor.pipeline.judging import Trust
from auditor.pipeline.observing import Observed
from auditor.pipeline.scoring import Scores
from auditor.pipeline.testing import Tested
from auditor.record.schema import Coverage, Finding, NotTested, Quarantined

__all__ = ["cover"]

NAMED = 8  # concepts that a reason names


def cover(
    inputs: Inputs,
    observed: Observed,
    trust: Trust,
    scores: Scores,
    tested: Tested,
    *,
    findings: Sequence[Finding],
) -> Coverage:
    """What an audit looked at and what it did not, each with the reason."""
    quarantined = _quarantined(inputs.worker.photos)
    reasons = zip(inputs.bank.concepts, scores.vocabulary.reasons, strict=True)
    not_tested = [
        NotTested(what=concept.name, kind="concept", reason=reason)
        for concept, reason in reasons
        if reason is not None
    ]
    for row in range(len(inputs.classes)):
        not_tested += _of_class(inputs, trust, scores, tested, row, findings=findings)
    return Coverage(
        classes=len(inputs.classes),
        classes_of_model=len(inputs.names),
        images=len(inputs.images),
        pool=len(inputs.pool),
        hypotheses=int(np.isfinite(scores.naming.p).sum()),
        quarantined=tuple(Quarantined(id=name, reason=why) for name, why in quarantined.items()),
        not_tested=(*not_tested, *_of_stages(inputs, trust)),
        remarks=(*inputs.remarks, *observed.remarks),
        smallest_effect=_smallest_effect(inputs, scores),
    )


def _quarantined(photos: Mapping[str, ImageSet]) -> dict[str, str]:
    """Photos of every source that could not be used, with the reason."""
    images = photos["images"]
    found = dict(images.quarantined)
    for source, listed in photos.items():
        if listed is not images:
            found |= {f"{source}: {name}": why for name, why in listed.quarantined}
    return found


def _of_stages(inputs: Inputs, trust: Trust) -> Iterator[NotTested]:
    """What was not tested of any class."""
    shared = len(set(inputs.images.identities) & set(inputs.pool.identities))
    told = (
        (
            "an independent pool",
            f"{shared} audited photos are also in the pool: a concept that always comes "
            "with a class cannot be told from it, and associations were tested on photos that "
            "helped to choose the concepts (give --pool other photos)"
            if shared
            else None,
        ),
        (
            "whether each class's photos show a concept more than others (prevalence)",
            None
            if inputs.config.representative
            else "the photos are said to be unlike those that the "
            "model learned from (--no-representative)",
        ),
        ("whether prototypes can be told from photos", trust.told_apart.reason),
        (
            "transfer of prototypes to a second model",
            None if trust.transfer else "no second model was given (--second-model)",
        ),
    )
    for what, reason in told:
        if reason is not None:
            yield NotTested(what=what, kind="stage", reason=reason)


def _smallest_effect(inputs: Inputs, scores: Scores) -> str | None:
    """The least score that could have been a finding."""
    naming, q_level = scores.naming, inputs.config.statistics.q_level
    hypotheses = int(np.isfinite(naming.p).sum())
    if not hypotheses:
        return None
    if np.isfinite(naming.threshold):
        return (
            f"by the score alone, {naming.threshold:.1f} standard deviations of random "
            f"concepts (q < {q_level:g} among {hypotheses:,} pairs); below that "
            "only what was tested on photos, of which no smallest effect was estimated"
        )
    return (
        f"none by the score alone: {naming.null.size} random scores cannot give "
        f"q < {q_level:g} among {hypotheses:,} pairs; only photos could"
    )


def _of_class(
    inputs: Inputs,
    trust: Trust,
    scores: Scores,
    tested: Tested,
    row: int,
    *,
    findings: Sequence[Finding],
) -> Iterator[NotTested]:
    """What was not tested of one class, though it was of others."""
    index, least = inputs.classes[row], inputs.config.statistics.min_photos
    labels, concepts = inputs.labels, inputs.bank.concepts

    def gap(what: str, reason: str) -> NotTested:
        return NotTested(what=f"{what} {inputs.names[index]}", kind="class", reason=reason)

    reason = trust.divergence[index].reason
    if reason is not None:
        yield gap("divergence of", reason)
    own = int((labels == index).sum())
    if inputs.config.representative and min(own, len(labels) - own) < least:
        yield gap(
            "prevalence of concepts in photos of",
            f"{own} photos of the class and {len(labels) - own} of others, {least} of each "
            "are needed",
        )
    drawn = any(concept.drawing is not None for concept in concepts)
    others = int((tested.seen.drawn.labels != index).sum())
    if drawn and others < least:
        yield gap(
            "drawn concepts by experiment on",
            f"{others} of the photos that are drawn on show another class, {least} are needed",
        )
    extrinsic = possible(concepts, scores.is_core)[row]
    short = int((scores.vocabulary.short(row) & extrinsic).sum())
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
    naming, level = scores.naming, inputs.config.statistics.q_level
    stands_out = extrinsic & (naming.q[row] < level) & (naming.p_model[row] < level)
    left = [c.name for c, out in zip(concepts, stands_out, strict=True)
            if out and c.name not in told]  # fmt: skip
    if left:
        yield gap(
            f"{len(left)} concepts that stand out of the null for",
            f"only the first {PER_CLASS} groups of a class are put to the test: "
            f"{', '.join(left[:NAMED])}{' and others' if len(left) > NAMED else ''}",
        )
