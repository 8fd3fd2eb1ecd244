"""The section on the data: photos, what could not be used, and the probe with its concepts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from auditor.record.schema import Audit
from auditor.report import charts, notes
from auditor.report.names import Names
from auditor.report.parts import Limits, showing
from auditor.report.text import Name, count, name, number, told, told_apart

__all__ = ["Data", "data", "remarks"]

FILE = 70  # characters of a file's name
REMARK = 1200  # characters of a remark: its end may say what to do


@dataclass(frozen=True)
class ConceptLine:
    """One concept of the bank: where its direction came from and how the probe sees it."""

    concept: Name
    category: Name
    extrinsic: str
    source: str
    photos: str
    auc: str
    forest: Markup | None
    reason: str


@dataclass(frozen=True)
class Data:
    """Photos, gaps, and the probe."""

    facts: tuple[tuple[str, str], ...]
    gaps: str
    quarantined: tuple[tuple[Name, str], ...]
    quarantined_note: str
    remarks: tuple[str, ...]
    remarks_note: str
    probe: tuple[tuple[str, str], ...]
    quality: str
    ruler: Markup
    concepts: tuple[ConceptLine, ...]
    concepts_note: str


def data(audit: Audit, names: Names, limits: Limits) -> Data:
    """What the section shows."""
    coverage, probe, config = audit.coverage, audit.provenance.probe, audit.settings()
    counts = sorted(c.n_images for c in audit.classes)
    least = config.statistics.min_photos
    thin = [c for c in audit.classes if c.n_images < least]
    listed = ", ".join(f"{names[c.index]} ({c.n_images})" for c in thin[:12])
    more = f" and {len(thin) - 12:,} more" if len(thin) > 12 else ""
    quality = [q.auc for q in probe.quality]
    axis = charts.Scale(0.4, 1.0, (0.5, 0.75, 1.0))
    lines = _concept_lines(audit, names, axis)
    files = told_apart(
        {i: (q.id, i + 1) for i, q in enumerate(coverage.quarantined[: limits.listed])}, FILE
    )
    told_of = list(remarks(audit, names, serious=False))
    return Data(
        facts=(
            ("Photos", f"{coverage.images:,}, from {told(config.images)}"),
            ("Pool", f"{coverage.pool:,}, from {told(config.pool or config.images)}"),
            ("Photos per class", "none" if not counts else
             f"{counts[0]:,} to {counts[-1]:,}, median {counts[len(counts) // 2]:,}"),
            ("Could not be used", count(len(coverage.quarantined), "file")),
        ),
        gaps=f"Fewer than {count(least, 'photo')}, so not tested: {listed}{more}." if thin
        else f"Every audited class has {count(least, 'photo')} or more.",
        quarantined=tuple(
            (files[i], told(q.reason)) for i, q in enumerate(coverage.quarantined[: limits.listed])
        ),
        remarks=tuple(told_of[: limits.listed]),
        remarks_note=showing(limits.listed, len(told_of), "remarks; all are in audit.json"),
        quarantined_note=showing(limits.listed, len(coverage.quarantined), "files"),
        probe=(("Probe", told(probe.name)), ("Digest", told(probe.digest)),
               ("Note", told(probe.note) or "none")),
        quality=f"Known for {count(len(quality), 'concept')}: AUC {number(min(quality))} to "
        f"{number(max(quality))}, median {number(sorted(quality)[len(quality) // 2])}. "
        "0.5 is chance, 1 tells photos with and without the concept apart without fail."
        if quality else "Not known for any concept: read named concepts with care.",
        ruler=charts.ruler(axis, "Scale of AUC, from 0.4 to 1", width=120),
        concepts=lines[: limits.listed],
        concepts_note=showing(
            min(limits.listed, len(lines)), len(lines), "concepts; all are in audit.json"
        ),
    )  # fmt: skip


def _concept_lines(audit: Audit, names: Names, axis: charts.Scale) -> tuple[ConceptLine, ...]:
    """Concepts of findings, then the others as the bank orders them, with the probe's quality."""
    sources = {"named": "named by the probe", "drawn": "drawn", "shown": "example photos"}
    quality = {q.concept: q for q in audit.provenance.probe.quality}
    lines = []
    found = {finding.concept for finding in audit.findings}
    for concept in sorted(audit.concepts, key=lambda concept: concept.name not in found):
        known = quality.get(concept.name)
        title = "" if known is None else f"{names.concept(concept.name)}: AUC {number(known.auc)}"
        lines.append(
            ConceptLine(
                concept=names.concept(concept.name),
                category=name(concept.category, 24),
                extrinsic="extrinsic" if concept.extrinsic else "intrinsic",
                source=sources[concept.source],
                photos=f"{concept.n_photos:,}",
                auc="not known" if known is None
                else f"{number(known.auc)} ({known.n_with:,} with, {known.n_without:,} without)",
                forest=None if known is None else charts.dot(known.auc, axis, title),
                reason=told(names.within(notes.reason(concept.reason))),
            )
        )  # fmt: skip
    return tuple(lines)


def remarks(audit: Audit, names: Names, *, serious: bool) -> Iterator[str]:
    """What the inputs turned out to be; what puts the whole audit in doubt, or the rest."""
    for remark in audit.coverage.remarks:
        if remark.serious == serious:
            yield told(names.within(remark.text), REMARK)
