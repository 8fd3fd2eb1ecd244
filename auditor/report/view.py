"""The report as display values: every text, threshold and sum that a template shows.

Templates only lay out. Nothing here looks at the clock or the disk, so that the same audit gives
the same report.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from auditor.record.schema import Audit
from auditor.record.thresholds import PREVALENT, STRICTER
from auditor.report import gaps, notes
from auditor.report.cards import Card, CardRow, Planted, card_rows, cards, planted
from auditor.report.classes import ClassPage, ClassRow, class_pages
from auditor.report.data import Data, data, remarks
from auditor.report.inputs import input_facts
from auditor.report.names import Names
from auditor.report.parts import Limits, showing
from auditor.report.places import Places, addresses
from auditor.report.ranking import Ranking, ranking
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
    told,
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
REASONS = 3  # verdict's reasons on the first page


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
    places: Places
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
    beside = addresses(audit, linked=limits.links)
    found = cards(audit, names, limits, beside)
    others = card_rows(audit, names, limits, beside)
    pages, rows, pages_note = class_pages(audit, names, found, limits, beside)
    tested = sum(c.n_hypotheses for c in audit.classes)
    finished = instant(audit.provenance.finished)
    matrix, clusters, clusters_note = shared(audit, names, limits)
    return Report(
        title=name(audit.title, 90),
        places=beside,
        model=name(audit.settings().model.spec, 60),
        tool=f"{name(audit.tool.name)} {name(audit.tool.version)}",
        absence=absence(tested),
        created=moment(audit.created),
        finished=moment(audit.provenance.finished),
        dated="" if finished is None else f"{finished:%Y-%m-%dT%H:%M:%SZ}",
        sections=_sections(audit),
        summary=_summary(audit, found, tested, names),
        scope=_scope(audit, names, limits),
        criteria=_criteria(audit, names, limits),
        data=data(audit, names, limits),
        ranking=ranking(audit, names, {page.index for page in pages}, limits, beside),
        cards=found[: limits.cards],
        cards_note=showing(
            min(len(found), limits.cards),
            len(found),
            "findings in full; the others are in the table below",
        ),
        card_rows=others,
        card_rows_note=showing(
            len(others),
            len(found[limits.cards :]),
            f"findings; {beside.told or 'all are in report.html'}",
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
    lines = list(gaps.in_short(audit, names))
    if coverage.quarantined:
        lines.append(f"{count(len(coverage.quarantined), 'photo')} could not be used.")
    if audit.self_test is None:
        lines.append("Detection power: no self-test was run with this configuration.")
    reasons = [_shortened(reason, 140) for reason in _reasons(audit, names)[:REASONS]]
    if len(audit.verdict.reasons) > REASONS:
        reasons.append(f"{len(audit.verdict.reasons) - REASONS} more under Criteria.")
    return Summary(
        verdict=VERDICTS[audit.verdict.status],
        reasons=tuple(reasons) or (VERDICTS[audit.verdict.status].meaning,),
        remarks=tuple(remarks(audit, names, serious=True)),
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


def _shortened(text: str, limit: int) -> str:
    return name(text, limit).short


def _reasons(audit: Audit, names: Names) -> list[str]:
    """What the verdict rests on."""
    return [names.within(notes.verdict_reason(reason)) for reason in audit.verdict.reasons]


def _scope(audit: Audit, names: Names, limits: Limits) -> Scope:
    config, coverage = audit.settings(), audit.coverage
    model, scope = config.model, config.scope
    facts = [
        ("Model", told(model.spec)),
        ("Architecture", told(model.arch or "")),
        ("Weights", told(model.weights or "")),
        *input_facts(audit),
        ("Layers compared", told(", ".join(model.layers or ()))),
    ]
    listed = [names[c.index].short for c in audit.classes[: limits.listed]]
    note = showing(len(listed), len(audit.classes), "classes; all are in audit.json")
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
    config = audit.settings()
    levels, prototypes = config.statistics, config.prototypes
    verdict = VERDICTS[audit.verdict.status]
    given, expected = _reasons(audit, names), list(config.expected.items())
    reasons = [told(reason) for reason in given[: limits.listed]]
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
             "For each class, or fewer where those of all classes would exceed 10 million scores: "
             "the null behind the p-value of naming."),
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


def _closing(audit: Audit, tested: int, names: Names, limits: Limits) -> Closing:
    test, missing = audit.self_test, list(gaps.all_told(audit))
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
            (gap.kind, gaps.subject(gap, names), told(gaps.reason(gap, names)))
            for gap in missing[: limits.listed]
        ),
        not_tested_note=showing(
            min(limits.listed, len(missing)), len(missing), "entries; all are in audit.json"
        ),
        nothing=nothing_found(audit, tested - len(found), "other" if found else ""),
        limits=LIMITS,
    )  # fmt: skip
