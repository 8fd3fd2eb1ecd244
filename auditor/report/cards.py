"""Findings as cards, and what was planted beside what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from markupsafe import Markup

from auditor.record.codes import FOUND, PictureKind, TestName, strength
from auditor.record.schema import Audit, AuditedClass, Evidence, Finding
from auditor.report import charts, notes
from auditor.report.claims import claim
from auditor.report.names import Names
from auditor.report.parts import KINDS, Gallery, Limits, Shot, galleries, prototype_shot
from auditor.report.places import Places
from auditor.report.text import Name, estimate, name, number, probability, told
from auditor.report.words import GRADES, TESTS, Badge

__all__ = ["Card", "CardRow", "Planted", "card_rows", "cards", "planted", "strongest"]

MOST = 12  # caveats, and tests, of one finding
PICTURED: Mapping[TestName, PictureKind] = {
    "insertion": "edited",
    "surroundings": "surrounded",
    "association": "with",
}
COVERS: Mapping[PictureKind, str] = {
    "edited": "with the concept",
    "surrounded": "among what shows it",
    "with": "shows it by the probe",
}


@dataclass(frozen=True)
class EvidenceRow:
    """One test: what it measured, against what, and its figures."""

    title: str
    meaning: str
    control_meaning: str
    effect: str
    control: str
    unit: str
    p: str
    q: str
    n: str
    chart: Markup


@dataclass(frozen=True)
class Card:
    """One finding. `link` leads to its card, if it has one; `cover` stands for it in the summary.

    `alike` are what the audit cannot tell from its concept, where no drawing of that concept did.
    """

    anchor: str
    identifier: str
    class_name: Name
    class_index: int
    concept: Name
    alike: tuple[Name, ...]
    category: Name
    badge: Badge
    link: str
    claim: str
    rows: tuple[EvidenceRow, ...]
    galleries: tuple[Gallery, ...]
    cover: tuple[Shot, ...]
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class CardRow:
    """One line of the table that stands for the findings without a card."""

    class_name: Name
    concept: Name
    link: str
    badge: Badge
    effect: str
    q: str


@dataclass(frozen=True)
class PlantedRow:
    """One planted shortcut beside what the audit says of it."""

    class_name: Name
    concept: Name
    strength: str
    learned: str
    rank: str
    badge: Badge | None
    hit: bool


@dataclass(frozen=True)
class Planted:
    """All planted shortcuts, how many were found, and what was found beside them."""

    rows: tuple[PlantedRow, ...]
    sentence: str
    others: tuple[str, ...]


def cards(audit: Audit, names: Names, limits: Limits, places: Places) -> tuple[Card, ...]:
    """Cards in the audit's own order, the strongest grade first."""
    classes = {c.index: c for c in audit.classes}
    return tuple(
        _card(classes[finding.class_index], finding, place, names, limits, places)
        for place, finding in enumerate(audit.findings)
    )


def card_rows(audit: Audit, names: Names, limits: Limits, places: Places) -> tuple[CardRow, ...]:
    """A line for each finding that has no card."""
    rows = []
    others = list(enumerate(audit.findings))[limits.cards :]
    for place, finding in others[: limits.listed]:
        evidence = finding.lead
        rows.append(
            CardRow(
                names[finding.class_index],
                names.concept(finding.concept),
                places.finding(finding.class_index, _anchor(place)),
                GRADES[finding.grade],
                "–" if evidence is None else f"{_title(evidence)} {estimate(evidence.effect)}",
                probability(None if evidence is None else evidence.q),
            )
        )
    return tuple(rows)


def strongest(audit: Audit) -> dict[int, Finding]:
    """The strongest finding of each class that has one."""
    best: dict[int, Finding] = {}
    for finding in audit.findings:
        known = best.get(finding.class_index)
        if known is None or strength(finding.grade) > strength(known.grade):
            best[finding.class_index] = finding
    return best


def planted(audit: Audit, names: Names) -> Planted | None:
    """Planted beside found; a hit is a planted pair that the audit reports as a finding."""
    if audit.planted is None:
        return None
    rows = tuple(
        PlantedRow(
            names[entry.class_index],
            names.concept(entry.concept),
            number(entry.strength),
            estimate(entry.learned),
            "not ranked" if entry.found_rank is None else str(entry.found_rank),
            None if entry.found_grade is None else GRADES[entry.found_grade],
            entry.found_grade in FOUND,
        )
        for entry in audit.planted
    )
    hits = sum(row.hit for row in rows)
    pairs = {(entry.class_index, entry.concept) for entry in audit.planted}
    others = tuple(
        f"{names[f.class_index]} – {names.concept(f.concept)} ({GRADES[f.grade].word})"
        for f in audit.findings
        if f.grade in FOUND and (f.class_index, f.concept) not in pairs
    )
    sentence = (
        f"{hits} of {len(rows)} planted shortcuts were found. {len(others)} "
        f"{'finding names' if len(others) == 1 else 'findings name'} a pair that was not planted."
    )
    return Planted(rows, sentence, others)


def _anchor(place: int) -> str:
    return f"finding-{place + 1}"


def _card(
    c: AuditedClass, finding: Finding, place: int, names: Names, limits: Limits, places: Places
) -> Card:
    class_name, concept = names[finding.class_index], names.concept(finding.concept)
    groups = list(
        galleries(
            finding.pictures,
            f"{concept} and {class_name}",
            names,
            limits.pictures,
            concept=concept,
        )
    )
    if not any(picture.kind == "prototype" for picture in finding.pictures):
        own = [prototype_shot(prototype, class_name) for prototype in c.prototypes[:3]]
        if own:
            groups.insert(0, Gallery("Prototypes", tuple(own), ""))
    evidence = finding.lead
    drawn = evidence is not None and evidence.test == "insertion"
    return Card(
        anchor=_anchor(place),
        identifier=name(finding.id, 24).short,
        class_name=class_name,
        class_index=finding.class_index,
        concept=concept,
        alike=() if drawn else tuple(names.concept(other) for other in finding.alike),
        category=name(finding.category),
        badge=GRADES[finding.grade],
        link=f"#{_anchor(place)}"
        if place < limits.cards
        else places.finding(finding.class_index, _anchor(place)),
        claim=claim(finding, class_name, concept),
        rows=tuple(_row(evidence) for evidence in finding.evidence[:MOST]),
        galleries=tuple(groups),
        cover=_cover(groups, evidence),
        caveats=tuple(_caveats(finding, names)),
    )


def _caveats(finding: Finding, names: Names) -> Iterator[str]:
    kinds = {picture.kind for picture in finding.pictures}
    tests = {e.test: e.effect.value for e in finding.evidence}
    for test, kind in PICTURED.items():
        if tests.get(test, 0) > 0 and kind not in kinds:
            title = TESTS[test].title
            yield f"{title}: no photo is shown, for none is an example of what was measured on all."
        if test in tests and test == "insertion":
            break  # a drawn concept is shown by its drawing alone
    for caveat in finding.caveats[:MOST]:
        yield told(names.within(notes.caveat(caveat)))
    if len(finding.caveats) > MOST:
        yield f"{len(finding.caveats) - MOST:,} more are in audit.json."


def _cover(groups: list[Gallery], evidence: Evidence | None) -> tuple[Shot, ...]:
    """A prototype and a photo that shows the concept, or two prototypes where there is none.

    The photo is of the test that the claim rests on, where that has one.
    """
    first = PICTURED.get(evidence.test) if evidence is not None else None
    shots = {group.title: group.shots for group in groups}
    cover = [replace(shot, caption="prototype") for shot in shots.get("Prototypes", ())]
    for kind in sorted(COVERS, key=lambda kind: kind != first):
        title, _ = KINDS[kind]
        if title in shots:
            cover.insert(1, replace(shots[title][0], caption=COVERS[kind]))
            break
    return tuple(cover[:2])


def _title(evidence: Evidence) -> str:
    return TESTS[evidence.test].title


def _row(evidence: Evidence) -> EvidenceRow:
    words, unit = TESTS[evidence.test], notes.unit(evidence.unit)
    control = "no control" if evidence.control is None else f"control {estimate(evidence.control)}"
    return EvidenceRow(
        title=_title(evidence),
        meaning=words.effect,
        control_meaning="" if evidence.control is None else words.control,
        effect=estimate(evidence.effect),
        control=control,
        unit=unit,
        p=probability(evidence.p),
        q=probability(evidence.q),
        n=f"{evidence.n:,} {words.units}",
        chart=charts.comparison(
            evidence.effect,
            evidence.control,
            f"{_title(evidence)}: effect {estimate(evidence.effect)}, {control}, in {unit}",
        ),
    )
