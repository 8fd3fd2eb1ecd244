"""The report as display values: every text, threshold and sum that a template shows.

Templates only lay out. Nothing here looks at the clock or the disk, so that the same audit gives
the same report.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from auditor.record.schema import PREVALENT, STRICTER, Audit, NotTested
from auditor.report import charts
from auditor.report.cards import Card, CardRow, Planted, card_rows, cards, planted
from auditor.report.classes import ClassPage, ClassRow, Ranking, class_pages, ranking
from auditor.report.inputs import input_facts
from auditor.report.names import Names
from auditor.report.parts import Limits, hypotheses, intrinsic, showing
from auditor.report.reproduction import Reproduction, config_digest, digests, reproduction
from auditor.report.shortcuts import ClusterCard, Matrix, shared
from auditor.report.text import (
    PASSAGE,
    Name,
    count,
    estimate,
    instant,
    moment,
    name,
    number,
    told,
    told_apart,
)
from auditor.report.words import (
    CHANNELS,
    GRADES,
    LIMITS,
    VERDICTS,
    Badge,
    absence,
    detection_power,
    nothing_found,
)

__all__ = ["Report", "build"]

TOP = 3  # findings on the first page, with pictures
OTHERS = 5  # and in a line each
NUMBERS = (
    "Names that look alike, or were cut to the same, have a number beside them: of a class its "
    "index in the model, of a concept its place in the bank."
)
REASONS = 3  # verdict's reasons, and gaps, on the first page
FILE = 70  # characters of a file's name
REMARK = 1200  # characters of a remark: its end may say what to do


@dataclass(frozen=True)
class Section:
    """An entry of the table of contents."""

    anchor: str
    number: int
    title: str


@dataclass(frozen=True)
class Summary:
    """The first page."""

    verdict: Badge
    reasons: tuple[str, ...]
    remarks: tuple[str, ...]
    figures: tuple[tuple[str, str], ...]
    grades: tuple[tuple[Badge, int], ...]
    top: tuple[Card, ...]
    top_note: str
    others: tuple[Card, ...]
    others_note: str
    nothing: str
    gaps: tuple[str, ...]
    digests: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Scope:
    """Model, use and audited classes."""

    model: tuple[tuple[str, str], ...]
    intended_use: str
    exclusions: str
    classes: str
    names: str
    numbers: str


@dataclass(frozen=True)
class Criteria:
    """Verdict with reasons, and the levels that grades rest on."""

    verdict: Badge
    reasons: tuple[str, ...]
    levels: tuple[tuple[str, str, str], ...]
    grades: tuple[Badge, ...]
    expected: tuple[tuple[Name, str], ...]
    expected_note: str
    times: tuple[tuple[str, str], ...]


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


@dataclass(frozen=True)
class Closing:
    """Detection power, what was not assessed, and limits."""

    power: str
    rates: tuple[tuple[Name, str], ...]
    not_tested: tuple[tuple[str, Name, str], ...]
    not_tested_note: str
    nothing: str
    limits: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Report:
    """The whole report."""

    title: Name
    model: Name
    tool: str
    absence: str
    created: str
    finished: str
    dated: str
    sections: tuple[Section, ...]
    summary: Summary
    scope: Scope
    criteria: Criteria
    data: Data
    ranking: Ranking
    cards: tuple[Card, ...]
    cards_note: str
    card_rows: tuple[CardRow, ...]
    card_rows_note: str
    planted: Planted | None
    pages: tuple[ClassPage, ...]
    page_rows: tuple[ClassRow, ...]
    pages_note: str
    channels: tuple[str, ...]
    channel_meanings: tuple[tuple[str, str], ...]
    matrix: Matrix | None
    clusters: tuple[ClusterCard, ...]
    clusters_note: str
    closing: Closing
    reproduction: Reproduction

    def section(self, anchor: str) -> Section:
        """The section with an anchor."""
        return next(section for section in self.sections if section.anchor == anchor)


def build(audit: Audit, limits: Limits) -> Report:
    """Everything that the report shows of an audit, in one medium."""
    names = Names(audit)
    found = cards(audit, names, limits)
    others = card_rows(audit, names, limits)
    pages, rows, pages_note = class_pages(audit, names, found, limits)
    inner = intrinsic(audit)
    tested = sum(hypotheses(c, inner) for c in audit.classes)
    finished = instant(audit.provenance.finished)
    matrix, clusters, clusters_note = shared(audit, names, limits)
    return Report(
        title=name(audit.title, 90),
        model=name(audit.spec.model.spec, 60),
        tool=f"{name(audit.tool.name)} {name(audit.tool.version)}",
        absence=absence(tested),
        created=moment(audit.created),
        finished=moment(audit.provenance.finished),
        dated="" if finished is None else f"{finished:%Y-%m-%dT%H:%M:%SZ}",
        sections=_sections(audit),
        summary=_summary(audit, found, tested, names),
        scope=_scope(audit, names, limits),
        criteria=_criteria(audit, names, limits),
        data=_data(audit, names, limits),
        ranking=ranking(audit, names, pages, limits),
        cards=found[: limits.cards],
        cards_note=showing(
            min(len(found), limits.cards),
            len(found),
            "findings in full; the others are in the table below",
        ),
        card_rows=others,
        card_rows_note=showing(
            len(others), len(found[limits.cards :]), "findings; all are in audit.json"
        ),
        planted=planted(audit, names),
        pages=pages,
        page_rows=rows,
        pages_note=pages_note,
        channels=tuple(title for _, title, _ in CHANNELS),
        channel_meanings=tuple((title, meaning) for _, title, meaning in CHANNELS),
        matrix=matrix,
        clusters=clusters,
        clusters_note=clusters_note,
        closing=_closing(audit, tested, names, limits),
        reproduction=reproduction(audit),
    )


def _sections(audit: Audit) -> tuple[Section, ...]:
    titles = [
        ("summary", "Summary"),
        ("scope", "Scope"),
        ("criteria", "Criteria"),
        ("data", "Data and probe"),
        ("ranking", "Ranking by divergence"),
        ("findings", "Findings"),
        ("planted", "What was planted, what was found"),
        ("classes", "Classes"),
        ("shared", "Shared shortcuts"),
        ("power", "Detection power"),
        ("limits", "Not assessed, limits and residual risk"),
        ("reproduction", "Reproduction and sign-off"),
    ]
    kept = [entry for entry in titles if entry[0] != "planted" or audit.planted is not None]
    return tuple(Section(anchor, i, title) for i, (anchor, title) in enumerate(kept, start=1))


def _summary(audit: Audit, found: tuple[Card, ...], tested: int, names: Names) -> Summary:
    coverage = audit.coverage
    by_grade = Counter(finding.grade for finding in audit.findings)
    top = tuple(card for card in found if card.badge.style != "not-tested")[:TOP]
    total = len(found) - by_grade["not_tested"]
    lines = list(_gaps(audit, names))
    if coverage.quarantined:
        lines.append(f"{count(len(coverage.quarantined), 'photo')} could not be used.")
    if audit.self_test is None:
        lines.append("Detection power: no self-test was run with this configuration.")
    reasons = [_shortened(names.within(reason), 140) for reason in audit.verdict.reasons[:REASONS]]
    if len(audit.verdict.reasons) > REASONS:
        reasons.append(f"{len(audit.verdict.reasons) - REASONS} more under Criteria.")
    return Summary(
        verdict=VERDICTS[audit.verdict.status],
        reasons=tuple(reasons) or (VERDICTS[audit.verdict.status].meaning,),
        remarks=tuple(_remarks(audit, names, serious=True)),
        figures=(
            ("Classes", f"{coverage.classes:,} of {coverage.classes_of_model:,}"),
            ("Photos of the classes", f"{coverage.images:,}"),
            ("Photos in the pool", f"{coverage.pool:,}"),
            ("Hypotheses tested", f"{tested:,}"),
        ),
        grades=tuple((badge, by_grade[grade]) for grade, badge in GRADES.items()
                     if grade != "not_tested" or by_grade[grade]),
        top=top,
        top_note=showing(len(top), total, "findings"),
        others=found[len(top) : total][:OTHERS],
        others_note=showing(min(total - len(top), OTHERS), total - len(top), "findings"),
        nothing="" if top else nothing_found(audit, tested),
        gaps=tuple(lines) or ("Every audited class and concept was tested.",),
        digests=tuple((label, _shortened(text, 25)) for label, text in digests(audit)),
    )  # fmt: skip


def _gaps(audit: Audit, names: Names) -> Iterator[str]:
    """What was not tested, told together where the reasons differ in numbers alone."""
    alike: dict[tuple[str, str], list[NotTested]] = {}
    for gap in audit.coverage.not_tested:
        alike.setdefault((gap.kind, re.sub(r"[\d,.]+", "0", gap.reason)), []).append(gap)
    whole = {"concept": len(audit.concepts), "class": len(audit.classes)}
    most = sorted(alike.values(), key=len, reverse=True)
    for gaps in most[:REASONS]:
        first = gaps[0]
        what, reason = names.within(first.what), names.within(first.reason)
        told = f"{_shortened(what, 60)}: {_shortened(reason, 110)}"
        if len(gaps) == 1:
            yield told[:1].upper() + told[1:]
        else:
            nouns = "classes" if first.kind == "class" else f"{first.kind}s"
            of = f"of {whole[first.kind]:,} " if first.kind in whole else ""
            yield f"{len(gaps):,} {of}{nouns}, such as {told}"
    if len(most) > REASONS:
        yield f"{count(len(most) - REASONS, 'more reason')} in section “Not assessed”."


def _shortened(text: str, limit: int) -> str:
    return name(text, limit).short


def _remarks(audit: Audit, names: Names, *, serious: bool) -> Iterator[str]:
    """What the inputs turned out to be; what puts the whole audit in doubt, or the rest."""
    for remark in audit.coverage.remarks:
        if remark.serious == serious:
            yield told(names.within(remark.text), REMARK)


def _scope(audit: Audit, names: Names, limits: Limits) -> Scope:
    model, scope, coverage = audit.spec.model, audit.spec.scope, audit.coverage
    facts = [
        ("Model", told(model.spec)),
        ("Architecture", told(model.arch or "")),
        ("Weights", told(model.weights or "")),
        *input_facts(audit),
        ("Layers compared", told(", ".join(model.layers or ()))),
    ]
    listed = [names[c.index].short for c in audit.classes[: limits.listed]]
    note = showing(len(listed), len(audit.classes), "classes")
    return Scope(
        model=tuple((label, value) for label, value in facts if value),
        intended_use=told(scope.intended_use or "", PASSAGE),
        exclusions=told(scope.exclusions or "", PASSAGE),
        classes=f"{coverage.classes:,} of the model's "
        f"{count(coverage.classes_of_model, 'class', 'classes')} were audited.",
        names=", ".join(listed) + (f" ({note})" if note else ""),
        numbers=NUMBERS if names.numbered else "",
    )


def _criteria(audit: Audit, names: Names, limits: Limits) -> Criteria:
    levels, prototypes = audit.spec.statistics, audit.spec.prototypes
    verdict = VERDICTS[audit.verdict.status]
    given, expected = audit.verdict.reasons, list(audit.spec.expected.items())
    reasons = [told(names.within(reason)) for reason in given[: limits.listed]]
    if len(given) > limits.listed:
        reasons.append(f"{len(given) - limits.listed:,} more in audit.json.")
    return Criteria(
        verdict=verdict,
        reasons=tuple(reasons) or (verdict.meaning,),
        levels=(
            ("q level", f"{levels.q_level:g}", "Of each test by itself, after Benjamini and "
             "Hochberg over all that it was made on. The share of false findings over all tests "
             "together is not controlled: see Detection power."),
            ("Prevalence", f"{PREVALENT:g}", "How often a photo of the class must show more of "
             "the concept than one of another class, to corroborate or confirm; where a drawing "
             "alone speaks, the whole interval, or, to corroborate, naming must have p below "
             f"{levels.q_level * STRICTER:g}, and below the q level without prevalence."),
            ("Photos per class, at least", str(levels.min_photos),
             "A class with fewer is not tested, never scored 0."),
            ("Prototypes per class", str(prototypes.per_class),
             f"{prototypes.steps} steps each{' at most' if prototypes.early else ''}; one reached "
             f"its target where the class's probability is {prototypes.probability:g} or more."),
            ("Random concepts", str(levels.permutations),
             "For each class: the null behind the p-value of naming."),
            ("Bootstrap replicates", str(levels.bootstrap), "Behind each 95 % interval."),
        ),
        grades=tuple(GRADES.values()),
        expected=tuple(
            (name(class_name), told(", ".join(concepts)))
            for class_name, concepts in expected[: limits.listed]
        ),
        expected_note=showing(limits.listed, len(expected), "classes; all are in audit.json"),
        times=(
            ("Run started", moment(audit.provenance.started)),
            ("Run finished", moment(audit.provenance.finished)),
            ("Configuration, SHA-256", config_digest(audit.spec)),
        ),
    )  # fmt: skip


def _data(audit: Audit, names: Names, limits: Limits) -> Data:
    coverage, probe = audit.coverage, audit.provenance.probe
    counts = sorted(c.n_images for c in audit.classes)
    least = audit.spec.statistics.min_photos
    thin = [c for c in audit.classes if c.n_images < least]
    listed = ", ".join(f"{names[c.index]} ({c.n_images})" for c in thin[:12])
    more = f" and {len(thin) - 12:,} more" if len(thin) > 12 else ""
    quality = [q.auc for q in probe.quality]
    axis = charts.Scale(0.4, 1.0, (0.5, 0.75, 1.0))
    lines = _concept_lines(audit, names, axis)
    files = told_apart(
        {i: (q.id, i + 1) for i, q in enumerate(coverage.quarantined[: limits.listed])}, FILE
    )
    remarks = list(_remarks(audit, names, serious=False))
    return Data(
        facts=(
            ("Photos", f"{coverage.images:,}, from {told(audit.spec.images)}"),
            ("Pool", f"{coverage.pool:,}, from {told(audit.spec.pool or audit.spec.images)}"),
            ("Photos per class", "none" if not counts else
             f"{counts[0]:,} to {counts[-1]:,}, median {counts[len(counts) // 2]:,}"),
            ("Could not be used", count(len(coverage.quarantined), "file")),
        ),
        gaps=f"Fewer than {count(least, 'photo')}, so not tested: {listed}{more}." if thin
        else f"Every audited class has {count(least, 'photo')} or more.",
        quarantined=tuple(
            (files[i], told(q.reason)) for i, q in enumerate(coverage.quarantined[: limits.listed])
        ),
        remarks=tuple(remarks[: limits.listed]),
        remarks_note=showing(limits.listed, len(remarks), "remarks; all are in audit.json"),
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
                reason=told(names.within(concept.reason or "")),
            )
        )  # fmt: skip
    return tuple(lines)


def _closing(audit: Audit, tested: int, names: Names, limits: Limits) -> Closing:
    coverage, test = audit.coverage, audit.self_test
    listed = {(gap.kind, gap.what) for gap in coverage.not_tested}
    gaps = [(gap.kind, gap.what, gap.reason) for gap in coverage.not_tested]
    gaps += [
        ("concept", concept.name, concept.reason)
        for concept in audit.concepts
        if concept.reason and ("concept", concept.name) not in listed
    ]
    found = [finding for finding in audit.findings if finding.grade != "not_tested"]
    power = (
        "No self-test was run with this configuration: how often it finds a planted shortcut, and "
        "how often it raises a false alarm, is not known for this audit."
        if test is None
        else detection_power(test)
    )
    return Closing(
        power=power,
        rates=tuple((name(r.name, 80), estimate(r.rate)) for r in (test.rates if test else ())),
        not_tested=tuple(
            (kind, names.concept(what) if kind == "concept" else name(names.within(what), 80),
             told(names.within(reason)))
            for kind, what, reason in gaps[: limits.listed]
        ),
        not_tested_note=showing(
            min(limits.listed, len(gaps)), len(gaps), "entries; all are in audit.json"
        ),
        nothing=nothing_found(audit, tested - len(found), "other" if found else ""),
        limits=LIMITS,
    )  # fmt: skip
