"""A page for each class, and a line for those that have none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from markupsafe import Markup

from auditor.record.schema import (
    Audit,
    AuditedClass,
    Cluster,
    ClusterClass,
    ConceptScore,
    LayerDivergence,
)
from auditor.report import charts, notes
from auditor.report.cards import Card, strongest
from auditor.report.names import Names
from auditor.report.parts import (
    Gallery,
    Limits,
    gallery,
    intrinsic,
    prototype_shots,
    showing,
    whole,
)
from auditor.report.places import Places, ranked
from auditor.report.text import Name, count, estimate, name, number, probability, told
from auditor.report.words import CHANNELS, Badge, nothing_found

__all__ = ["ClassPage", "ClassRow", "PageMaker", "class_pages"]

CLUSTERS = 12  # that are listed of one class


@dataclass(frozen=True)
class ConceptRow:
    """One concept for one class; `bar` is the score's share of the largest shown, in percent.

    `tag` says why it can be no finding, where it can be none.
    """

    rank: str
    concept: Name
    category: Name
    tag: str
    score: str
    bar: int
    q: str
    channels: tuple[str, ...]
    badge: Badge | None
    card: str | None


@dataclass(frozen=True)
class LayerRow:
    """One layer of the path in figures."""

    layer: Name
    used: bool
    normalised: str
    class_specific: str
    spearman: str
    l1: str


@dataclass(frozen=True)
class ClassPage:
    """Everything shown of one class."""

    index: int
    class_name: Name
    badge: Badge | None
    facts: tuple[tuple[str, str], ...]
    prototypes: Gallery
    sparks: tuple[Markup, ...]
    path: Markup | None
    reason: str
    layers: tuple[LayerRow, ...]
    concepts: tuple[ConceptRow, ...]
    concepts_note: str
    cards: tuple[Card, ...]
    nothing: str
    clusters: tuple[str, ...]


@dataclass(frozen=True)
class ClassRow:
    """One line of a table of classes."""

    rank: str
    class_name: Name
    link: str
    divergence: str
    accuracy: str
    concept: str
    q: str
    findings: str


def class_pages(
    audit: Audit, names: Names, cards: Sequence[Card], limits: Limits, places: Places
) -> tuple[tuple[ClassPage, ...], tuple[ClassRow, ...], str]:
    """Pages of the classes with findings and of the most divergent, and a table of the others."""
    best = strongest(audit)
    ordered = ranked(audit)
    first = sorted(ordered, key=lambda c: c.index not in best)[: limits.class_pages]
    chosen = {c.index for c in first}
    maker = PageMaker(audit, names, cards, limits, places)
    pages = tuple(maker.page(c) for c in ordered if c.index in chosen)
    rest = [c for c in ordered if c.index not in chosen]
    rows = tuple(maker.row(c) for c in rest[: limits.class_rows])
    note = (
        f"{count(len(pages), 'class', 'classes')} of {len(ordered):,} in full: those with "
        "findings, then the most divergent. The others are in the table below"
    )
    left = len(rest) - len(rows)
    if left:
        note += f", which leaves out {left:,} more"
    return pages, rows, f"{note}; {places.told or 'all are in report.html'}." if rest else ""


class PageMaker:
    """Makes the pages and lines of an audit's classes, with what belongs to each."""

    def __init__(
        self, audit: Audit, names: Names, cards: Sequence[Card], limits: Limits, places: Places
    ) -> None:
        self._audit, self._names, self._limits, self._places = audit, names, limits, places
        self._inner = intrinsic(audit)
        self._cards: dict[int, list[Card]] = defaultdict(list)
        for card in cards:
            self._cards[card.class_index].append(card)
        self._clusters: dict[int, list[tuple[Cluster, ClusterClass]]] = defaultdict(list)
        for cluster in audit.clusters:
            for share in cluster.classes:
                self._clusters[share.index].append((cluster, share))

    def page(self, c: AuditedClass) -> ClassPage:
        """Everything that a medium shows of a class."""
        names, limits, own = self._names, self._limits, tuple(self._cards.get(c.index, ()))
        d = c.divergence
        shots = [
            shot
            for prototype in c.prototypes
            for shot in prototype_shots(prototype, names[c.index])
        ]
        concepts = _concepts(c, own, self._inner, names, limits)
        found = any(card.badge.style != "not-tested" for card in own)
        return ClassPage(
            index=c.index,
            class_name=names[c.index],
            badge=own[0].badge if own else None,
            facts=_facts(c),
            prototypes=gallery("Prototypes", shots, limits.pictures),
            sparks=tuple(_sparks(c)),
            path=charts.path(d.layers, _path_title(c, names)) if d.layers else None,
            reason=told(names.within(notes.reason(d.reason)))
            or ("" if d.layers else "no layer was compared"),
            layers=tuple(_layer(layer, names) for layer in d.layers if limits.layer_tables),
            concepts=concepts,
            concepts_note=showing(
                len(concepts), c.n_concepts, f"concepts; all are in {whole(self._audit)}"
            ),
            cards=own,
            nothing="" if found else _nothing(self._audit, c.n_hypotheses),
            clusters=tuple(_clusters(self._clusters.get(c.index, ()), names)),
        )

    def row(self, c: AuditedClass) -> ClassRow:
        """One line of a table of classes."""
        scored = (
            s
            for s in c.concepts
            if s.rank is not None and not s.core and s.concept not in self._inner
        )
        top = min(scored, key=lambda s: s.rank or 0, default=None)
        d = c.divergence
        return ClassRow(
            "–" if d.score is None or d.rank is None else str(d.rank),
            self._names[c.index],
            self._places.page(c.index),
            estimate(d.score),
            estimate(c.accuracy),
            "–" if top is None else self._names.concept(top.concept).short,
            "–" if top is None else probability(top.q),
            str(len(self._cards.get(c.index, ()))),
        )


def _layer(layer: LayerDivergence, names: Names) -> LayerRow:
    return LayerRow(
        names.layer(layer.name),
        layer.used,
        number(layer.normalised),
        number(layer.class_specific),
        number(layer.spearman),
        number(layer.l1),
    )


def _sparks(c: AuditedClass) -> Iterator[Markup]:
    """A line for each prototype's shot; a region, which follows its prototype, has none."""
    for prototype in c.prototypes:
        trace = prototype.trace
        title = "Probability over the optimisation" + (
            f", from {number(trace[0])} to {number(trace[-1])}" if trace else ""
        )
        yield charts.spark(trace, title) if trace else Markup()
        if prototype.region is not None:
            yield Markup()


def _facts(c: AuditedClass) -> tuple[tuple[str, str], ...]:
    d = c.divergence
    rank = f", rank {d.rank} ({d.rank_low} to {d.rank_high})" if d.rank is not None else ""
    facts = [
        ("Index", str(c.index)),
        ("Identifier", name(c.id, 24).short if c.id else ""),
        ("Photos", f"{c.n_images:,}"),
        ("Accuracy", "not measured" if c.accuracy is None else estimate(c.accuracy)),
        ("Divergence", "not tested" if d.score is None else estimate(d.score) + rank),
        ("Class-specific", "" if d.class_specific is None else estimate(d.class_specific)),
    ]
    return tuple((label, value) for label, value in facts if value)


def _path_title(c: AuditedClass, names: Names) -> str:
    def span(values: list[float]) -> str:
        if not values:
            return "not computed"
        return f"{number(min(values))} to {number(max(values))}, last {number(values[-1])}"

    normalised = [x.normalised for x in c.divergence.layers if x.normalised is not None]
    specific = [x.class_specific for x in c.divergence.layers if x.class_specific is not None]
    return (
        f"Path similarity of {names[c.index]} over {count(len(c.divergence.layers), 'layer')}: "
        f"normalised {span(normalised)}; class-specific {span(specific)}. "
        "0 is as photos of other classes, 1 as photos of the same class."
    )


def _concepts(
    c: AuditedClass, own: Sequence[Card], inner: Set[str], names: Names, limits: Limits
) -> tuple[ConceptRow, ...]:
    """The best concepts, and those with a finding wherever they rank."""
    by_concept = {card.concept.short: card for card in own}
    ordered = sorted(c.concepts, key=lambda s: (s.rank is None, s.rank or 0))
    chosen = [
        score
        for place, score in enumerate(ordered)
        if place < limits.concepts or names.concept(score.concept).short in by_concept
    ]
    top = max((score.score for score in chosen if score.score is not None), default=0.0)
    return tuple(_concept(s, names.concept(s.concept), by_concept, inner, top) for s in chosen)


def _concept(
    score: ConceptScore, shown: Name, by_concept: Mapping[str, Card], inner: Set[str], top: float
) -> ConceptRow:
    card = by_concept.get(shown.short)
    share = 0 if score.score is None or top <= 0 else round(100 * (max(score.score, 0) / top))
    return ConceptRow(
        rank="–" if score.rank is None else str(score.rank),
        concept=shown,
        category=name(score.category, 24),
        tag="core" if score.core else "intrinsic" if score.concept in inner else "",
        score=number(score.score),
        bar=share,
        q=probability(score.q),
        channels=tuple(number(getattr(score.channels, key), 1) for key, *_ in CHANNELS),
        badge=None if card is None else card.badge,
        card=(card.link or None) if card is not None else None,
    )


def _nothing(audit: Audit, tested: int) -> str:
    if tested == 0:
        return "No hypothesis was tested for this class."
    return f"Nothing found. {nothing_found(audit, tested)}"


def _clusters(own: Sequence[tuple[Cluster, ClusterClass]], names: Names) -> Iterator[str]:
    for cluster, share in own[:CLUSTERS]:
        yield _in_cluster(cluster, share, names)
    if len(own) > CLUSTERS:
        yield f"{len(own) - CLUSTERS:,} more are in audit.json"


def _in_cluster(cluster: Cluster, share: ClusterClass, names: Names) -> str:
    title = (
        f"nearest to “{names.concept(cluster.name)}”"
        if cluster.name
        else f"unnamed ({name(cluster.id, 16)})"
    )
    others = "shared with other classes" if cluster.shared else "of this class alone"
    return (
        f"{title}: {count(share.n_images, 'photo')} and {count(share.n_prototypes, 'prototype')} "
        f"of this class; {others}"
    )
