"""The ranking of the classes by divergence, beside the harm that they come to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from markupsafe import Markup

from auditor.record.codes import Grade
from auditor.record.schema import Audit, AuditedClass, Finding
from auditor.report import charts, notes
from auditor.report.cards import strongest
from auditor.report.making import Making, making
from auditor.report.names import Names
from auditor.report.parts import Limits, showing
from auditor.report.places import Places, ranked
from auditor.report.text import Name, count, estimate, number, told
from auditor.report.words import GRADES, Badge

__all__ = ["Ranking", "ranking"]

LABELS = 12  # classes named in the scatter
POINTS = 2000  # at about which the scatter is as dense as can be told apart


@dataclass(frozen=True)
class RankingRow:
    """One class in the ranking; `forest` is missing where the divergence is."""

    rank: str
    rank_interval: str
    class_name: Name
    class_index: int
    score: str
    forest: Markup | None
    class_specific: str
    accuracy: str
    photos: str
    badge: Badge | None
    reason: str
    link: str


@dataclass(frozen=True)
class Ranking:
    """The ranking table, and divergence against harm."""

    rows: tuple[RankingRow, ...]
    note: str
    ruler: Markup | None
    scatter: Markup | None
    correlation: str
    making: Making | None


def ranking(audit: Audit, names: Names, paged: Set[int], limits: Limits, places: Places) -> Ranking:
    """Classes from the most divergent on; those without a divergence follow with the reason."""
    best = strongest(audit)
    ordered = ranked(audit)
    scores = [c.divergence.score for c in ordered if c.divergence.score is not None]
    axis = charts.scale([v for s in scores for v in (s.low, s.high)], ticks=4) if scores else None
    rows = tuple(
        _ranking_row(
            c,
            names,
            best.get(c.index),
            axis,
            f"#class-{c.index}" if c.index in paged else places.page(c.index),
        )
        for c in ordered[: limits.class_rows]
    )
    points = [
        charts.Point(
            c.divergence.score.value, 1 - c.accuracy.value, _grade(best.get(c.index)), None
        )
        for c in ordered
        if c.divergence.score is not None and c.accuracy is not None
    ]
    correlation = _correlation(audit)
    drawn = _thinned(_labelled(points, ordered, names, best))
    thinned = showing(len(drawn), len(points), "classes")
    return Ranking(
        rows,
        showing(
            len(rows),
            len(ordered),
            f"classes; {places.told or 'all are in report.html'}",
        ),
        None if axis is None else charts.ruler(axis, f"Scale of divergence, {_ends(axis)}"),
        charts.scatter(
            drawn,
            f"Divergence against 1 − accuracy for {count(len(points), 'class', 'classes')}. "
            f"{correlation}",
            x_label="divergence →",
            y_label="1 − accuracy ↑",
        )
        if len(points) > 1
        else None,
        f"{correlation} The chart is {thinned}." if thinned else correlation,
        making(audit),
    )


def _ranking_row(
    c: AuditedClass,
    names: Names,
    finding: Finding | None,
    axis: charts.Scale | None,
    link: str,
) -> RankingRow:
    d = c.divergence
    title = f"{names[c.index]}: divergence {estimate(d.score)}"
    there = d.score is not None
    return RankingRow(
        rank=str(d.rank) if there and d.rank is not None else "–",
        rank_interval=f"{d.rank_low}–{d.rank_high}" if there and d.rank_low is not None else "",
        class_name=names[c.index],
        class_index=c.index,
        score=estimate(d.score),
        forest=None if axis is None or d.score is None else charts.forest(d.score, axis, title),
        class_specific=number(None if d.class_specific is None else d.class_specific.value),
        accuracy=estimate(c.accuracy),
        photos=f"{c.n_images:,}",
        badge=None if finding is None else GRADES[finding.grade],
        reason=""
        if there
        else told(names.within(notes.reason(d.reason) or "not tested: no reason was recorded")),
        link=link,
    )


def _labelled(
    points: Sequence[charts.Point],
    ordered: Sequence[AuditedClass],
    names: Names,
    best: Mapping[int, Finding],
) -> list[charts.Point]:
    """The points with names at the classes with findings, then at the most divergent."""
    with_points = [c for c in ordered if c.divergence.score is not None and c.accuracy is not None]
    chosen = {c.index for c in sorted(with_points, key=lambda c: c.index not in best)[:LABELS]}
    return [
        charts.Point(p.x, p.y, p.grade, names.label(c.index)) if c.index in chosen else p
        for p, c in zip(points, with_points, strict=True)
    ]


def _thinned(points: Sequence[charts.Point]) -> list[charts.Point]:
    """Points with a name or a finding, and of so many others every second, third and so on."""
    step = math.ceil(len(points) / POINTS)
    return [
        point
        for place, point in enumerate(points)
        if point.grade is not None or point.label is not None or place % step == 0
    ]


def _grade(finding: Finding | None) -> Grade | None:
    return None if finding is None else finding.grade


def _ends(axis: charts.Scale) -> str:
    return f"from {number(axis.low)} to {number(axis.high)}"


def _correlation(audit: Audit) -> str:
    value = audit.divergence_and_harm
    if value.rho is None:
        reason = told(notes.reason(value.reason) or "no reason was recorded")
        return f"Their rank correlation was not computed: {reason.rstrip('.')}."
    reading = (
        "the interval spans zero, so the order of the classes says nothing about harm here"
        if value.rho.low <= 0 <= value.rho.high
        else "an association over these classes, not a prediction for others"
    )
    return (
        f"Rank correlation (Spearman) {estimate(value.rho)} over "
        f"{count(value.rho.n, 'class', 'classes')}: {reading}."
    )
