"""What a saved audit says of one thing in two places, and whether the two can both be true.

The models of `auditor.record.schema` say what each value may be by itself; here values are held
against each other. A record that contradicts itself accuses or acquits on numbers that nobody
measured, so it is refused. Only what holds of every audit that this program wrote is asked for: a
rule that an honest audit could break would lose it.
"""

from __future__ import annotations

import datetime
from collections.abc import Hashable, Iterable, Iterator
from typing import TYPE_CHECKING

from auditor.record.codes import ON_PHOTOS

if TYPE_CHECKING:
    from auditor.core.estimates import Estimate
    from auditor.record.provenance import NotTested
    from auditor.record.results import AuditedClass, Cluster, Evidence, Finding
    from auditor.record.schema import Audit

__all__ = ["contradictions"]

ROUNDING = 1e-5  # saved numbers are rounded to 6 digits
SHARES = {"prevalence": (0.0, 1.0), "insertion": (-1.0, 1.0)}
"""What the effects of tests lie between: an area under a curve, a change of a probability."""


def contradictions(audit: Audit) -> Iterator[str]:
    """What in an audit cannot be true at once, each in a clause; nothing where all agrees."""
    coverage = audit.coverage
    yield from _twice("class index", (c.index for c in audit.classes))
    yield from _twice("finding", (f.id for f in audit.findings))
    yield from _twice("concept", (c.name for c in audit.concepts))
    yield from _twice("class and concept", ((f.class_index, f.concept) for f in audit.findings))
    if coverage.classes != len(audit.classes):
        yield (
            f"{coverage.classes} classes are said to be audited and {len(audit.classes)} are listed"
        )
    if coverage.classes > coverage.classes_of_model:
        yield f"{coverage.classes} of the model's {coverage.classes_of_model} classes were audited"
    photos = sum(c.n_images for c in audit.classes)
    if photos > coverage.images:
        yield f"the classes have {photos} photos together, of {coverage.images}"
    indices = {c.index for c in audit.classes}
    bank = {c.name for c in audit.concepts}
    for c in audit.classes:
        yield from (f"class {c.index}: {why}" for why in _of_class(c, len(indices), bank))
        if c.index >= coverage.classes_of_model:
            yield f"class {c.index} is none of the model's {coverage.classes_of_model} classes"
    for finding in audit.findings:
        yield from (f"finding {finding.id}: {why}" for why in _of_finding(finding, bank))
        if finding.class_index not in indices:
            yield f"finding {finding.id} is of a class that was not audited"
    for cluster in audit.clusters:
        told = _of_cluster(cluster, coverage.classes_of_model)
        yield from (f"cluster {cluster.id}: {why}" for why in told)
    for gap in coverage.not_tested:
        yield from _of_gap(gap, indices, bank)
    yield from _of_the_whole(audit)


def _of_gap(gap: NotTested, indices: set[int], bank: set[str]) -> Iterator[str]:
    if gap.class_index is not None and gap.class_index not in indices:
        yield f"class {gap.class_index} was not audited and is said to lack {gap.what}"
    if (gap.concept is not None) != (gap.kind == "concept"):
        yield f"what was not tested ({gap.what}) names a concept or is one, not both"
    elif gap.concept is not None and gap.concept not in bank:
        yield f"concept {gap.concept[:40]!r}, which was not tested, is not in the bank"


def _of_the_whole(audit: Audit) -> Iterator[str]:
    status, provenance = audit.verdict.status, audit.provenance
    yield from _twice("table", (table.name for table in audit.tables))
    audited = {c.index for c in audit.classes}
    if any(c.index in audited for c in audit.other_classes):
        yield "a class that was audited is among the others"
    yield from _twice("class index", (c.index for c in audit.other_classes))
    if status != "not_assessed" and not audit.verdict.reasons:
        yield f"the verdict is {status} without a criterion or reason"
    for what, time in (
        ("created", audit.created),
        ("started", provenance.started),
        ("finished", provenance.finished),
    ):
        if not _is_time(time):
            yield f"{what} is no time in ISO 8601: {time[:40]!r}"
    harm = audit.divergence_and_harm
    if harm.rho is not None and not _within(harm.rho, -1, 1):
        yield "the correlation of divergence and harm lies outside of -1 to 1"
    made = audit.prototyping
    for layer in made.told_apart if made else ():
        if not _within(layer.auc, 0, 1):
            yield f"the area under the ROC curve of layer {layer.layer[:40]} is none"
    transfer = made.transfer if made else None
    if transfer is not None:
        if not (_within(transfer.first, 0, 1) and _within(transfer.first_five, 0, 1)):
            yield "a share of the transferred prototypes lies outside of 0 to 1"
        if transfer.first.value > transfer.first_five.value + ROUNDING:
            yield "more prototypes are first than among the first five"
    for planted in audit.planted or ():
        if planted.learned is not None and not _within(planted.learned, -1, 1):
            yield f"the effect of planted {planted.concept[:40]!r} is no change of a probability"
    test = audit.self_test
    if test is not None and test.learned is not None and test.learned > (test.shortcuts or 0):
        yield f"{test.learned} of {test.shortcuts or 0} planted shortcuts were learned"


def _of_class(c: AuditedClass, classes: int, bank: set[str]) -> Iterator[str]:
    """Contradictions within one class."""
    if c.accuracy is not None:
        if not _within(c.accuracy, 0, 1):
            yield "its accuracy lies outside of 0 to 1"
        if not c.n_images:
            yield "it has an accuracy and no photos"
    d = c.divergence
    if (d.rank is None) != (d.rank_low is None) or (d.rank is None) != (d.rank_high is None):
        yield "a rank by divergence goes with both ends of its interval"
    elif d.rank is not None and d.rank_low is not None and d.rank_high is not None:
        if not d.rank_low <= d.rank <= d.rank_high <= classes:
            yield (
                f"rank {d.rank} by divergence does not lie in {d.rank_low} to {d.rank_high} "
                f"of {classes} classes"
            )
    elif d.score is not None:
        yield "it has a divergence and no rank"
    if not max(len(c.concepts), c.n_hypotheses) <= c.n_concepts:
        yield (
            f"{c.n_concepts} concepts are said to be scored, {len(c.concepts)} are listed and "
            f"{c.n_hypotheses} were tested"
        )
    yield from _twice("concept", (score.concept for score in c.concepts))
    yield from _twice("rank", (score.rank for score in c.concepts if score.rank is not None))
    for score in c.concepts:
        if score.concept not in bank:
            yield f"concept {score.concept[:40]!r} is not in the bank"
        if (score.score is None) != (score.rank is None):
            yield f"concept {score.concept[:40]!r} has a score or a rank alone"
        if score.rank is not None and score.rank > c.n_concepts:
            yield f"concept {score.concept[:40]!r} has rank {score.rank} of {c.n_concepts}"
        if _below(score.q, score.p):
            yield f"concept {score.concept[:40]!r} has q below p"


def _of_finding(finding: Finding, bank: set[str]) -> Iterator[str]:
    """Contradictions within one finding."""
    yield from _twice("test", (evidence.test for evidence in finding.evidence))
    if finding.concept not in bank:
        yield f"concept {finding.concept[:40]!r} is not in the bank"
    if finding.grade != "not_tested" and not finding.evidence:
        yield f"it is {finding.grade} without evidence"
    elif finding.grade in ("corroborated", "confirmed"):
        surely = finding.grade == "confirmed"
        on_photos = [e for e in finding.evidence if e.test in ON_PHOTOS]
        if not any(_raises(e, surely=surely) for e in on_photos):
            yield f"it is {finding.grade} and no test on photos speaks for it"
        elif finding.lead is not None and finding.lead not in on_photos:
            yield f"it is {finding.grade} and rests on {finding.basis}, no test on photos"
        elif finding.lead is not None and not _raises(finding.lead, surely=surely):
            yield f"it is {finding.grade} and rests on {finding.basis}, which does not speak for it"
    if (finding.basis is None) != (finding.grade == "not_tested"):
        yield f"it is {finding.grade} and rests on {finding.basis or 'no test'}"
    elif finding.basis is not None and finding.lead is None:
        yield f"it rests on {finding.basis}, which is not among its evidence"
    for evidence in finding.evidence:
        if _below(evidence.q, evidence.p):
            yield f"{evidence.test[:40]} has q below p"
        low, high = SHARES.get(evidence.test, (-float("inf"), float("inf")))
        for estimate in (evidence.effect, evidence.control):
            if estimate is not None and not _within(estimate, low, high):
                yield f"{evidence.test[:40]} lies outside of {low:g} to {high:g}"


def _of_cluster(cluster: Cluster, classes: int) -> Iterator[str]:
    """Contradictions within one cluster; its photos may be of classes that were not audited."""
    yield from _twice("class", (share.index for share in cluster.classes))
    for share in cluster.classes:
        if share.index >= classes:
            yield f"class {share.index} is none of the model's {classes} classes"
    for what, parts, whole in (
        ("photos", sum(share.n_images for share in cluster.classes), cluster.n_images),
        ("prototypes", sum(share.n_prototypes for share in cluster.classes), cluster.n_prototypes),
    ):
        if parts > whole:
            yield f"its classes have {parts} {what} of {whole}"
    if cluster.shared and len(cluster.classes) < 2:
        yield "it is said to be shared, by one class"


def _raises(evidence: Evidence, *, surely: bool) -> bool:
    return evidence.effect.low > 0 if surely else evidence.effect.value > 0


def _twice(what: str, values: Iterable[Hashable]) -> Iterator[str]:
    seen: set[Hashable] = set()
    for value in values:
        if value in seen:
            yield f"a {what} stands twice"
            return
        seen.add(value)


def _within(estimate: Estimate, low: float, high: float) -> bool:
    return low - ROUNDING <= estimate.low and estimate.high <= high + ROUNDING


def _below(q: float | None, p: float | None) -> bool:
    return q is not None and p is not None and q < p * (1 - ROUNDING) - ROUNDING


def _is_time(text: str) -> bool:
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
