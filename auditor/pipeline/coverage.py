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
from auditor.record.codes import GapCode
from auditor.record.schema import (
    Coverage,
    Finding,
    NotTested,
    Quarantined,
    Reason,
    SmallestEffect,
)

__all__ = ["cover"]

NAMED = 8  # concepts that a reason names
DIGITS = 6  # of saved numbers


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
        NotTested(what="concept", kind="concept", concept=concept.name, reason=reason)
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
    told: tuple[tuple[GapCode, Reason | None], ...] = (
        (
            "independent_pool",
            Reason(code="shared_photos", params={"photos": shared}) if shared else None,
        ),
        (
            "prevalence",
            None if inputs.config.representative else Reason(code="not_representative"),
        ),
        ("told_apart", trust.told_apart.reason),
        ("transfer", None if trust.transfer else Reason(code="no_second_model")),
    )
    for what, reason in told:
        if reason is not None:
            yield NotTested(what=what, kind="stage", reason=reason)


def _smallest_effect(inputs: Inputs, scores: Scores) -> SmallestEffect | None:
    """The least score that could have been a finding."""
    naming = scores.naming
    hypotheses = int(np.isfinite(naming.p).sum())
    if not hypotheses:
        return None
    least = float(naming.threshold)
    return SmallestEffect(
        score=round(least, DIGITS) if np.isfinite(least) else None,
        random_scores=naming.null.size,
        hypotheses=hypotheses,
        q_level=inputs.config.statistics.q_level,
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

    def gap(what: GapCode, reason: Reason) -> NotTested:
        return NotTested(what=what, kind="class", class_index=index, reason=reason)

    reason = trust.divergence[index].reason
    if reason is not None:
        yield gap("divergence", reason)
    own = int((labels == index).sum())
    if inputs.config.representative and min(own, len(labels) - own) < least:
        counts = {"own": own, "others": len(labels) - own, "needed": least}
        yield gap("prevalence", Reason(code="few_photos_of_each", params={**counts}))
    drawn = any(concept.drawing is not None for concept in concepts)
    others = int((tested.seen.drawn.labels != index).sum())
    if drawn and others < least:
        few = Reason(code="few_photos_to_draw_on", params={"photos": others, "needed": least})
        yield gap("insertion", few)
    extrinsic = possible(concepts, scores.is_core)[row]
    short = int((scores.vocabulary.short(row) & extrinsic).sum())
    if short:
        few = Reason(code="few_pool_photos_of_others", params={"concepts": short, "needed": least})
        yield gap("concepts_of_class", few)
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
            "concepts_standing_out",
            Reason(
                code="beyond_first_groups",
                params={"groups": PER_CLASS, "concepts": len(left), "named": tuple(left[:NAMED])},
            ),
        )
