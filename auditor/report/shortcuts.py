"""What several classes share: findings by concept and class, and clusters."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.record.schema import Audit, Cluster
from auditor.report.names import Names
from auditor.report.parts import Gallery, Limits, galleries, showing
from auditor.report.text import Name, count, name, number
from auditor.report.words import GRADES, Badge

__all__ = ["ClusterCard", "Matrix", "shared"]


@dataclass(frozen=True)
class Matrix:
    """Concepts in rows, classes in columns; a cell is a finding's grade or nothing."""

    columns: tuple[Name, ...]
    rows: tuple[tuple[Name, tuple[Badge | None, ...], str], ...]
    note: str


@dataclass(frozen=True)
class ClusterCard:
    """A cluster with what it is made of."""

    identifier: str
    title: Name
    named: bool
    contents: str
    classes: str
    galleries: tuple[Gallery, ...]


def shared(
    audit: Audit, names: Names, limits: Limits
) -> tuple[Matrix | None, tuple[ClusterCard, ...], str]:
    """Findings as a concept by class matrix, and the clusters that several classes fall in."""
    common = [cluster for cluster in audit.clusters if cluster.shared]
    shown = tuple(_cluster(cluster, names, limits) for cluster in common[: limits.clusters])
    return (
        _matrix(audit, names, limits),
        shown,
        showing(len(shown), len(common), "clusters; all are in audit.json"),
    )


def _matrix(audit: Audit, names: Names, limits: Limits) -> Matrix | None:
    cells = {(f.concept, f.class_index): GRADES[f.grade] for f in reversed(audit.findings)}
    per_concept: dict[str, int] = {}
    per_class: dict[int, int] = {}
    for concept, index in cells:
        per_concept[concept] = per_concept.get(concept, 0) + 1
        per_class[index] = per_class.get(index, 0) + 1
    concepts = sorted(per_concept, key=lambda c: (-per_concept[c], c))[: limits.matrix_rows]
    classes = sorted(per_class, key=lambda i: (-per_class[i], i))[: limits.matrix_columns]
    if not concepts:
        return None
    rows = tuple(
        (
            names.concept(concept),
            tuple(cells.get((concept, index)) for index in classes),
            count(per_concept[concept], "class", "classes"),
        )
        for concept in concepts
    )
    notes = (
        showing(len(concepts), len(per_concept), "concepts"),
        showing(len(classes), len(per_class), "classes with findings"),
    )
    note = "; ".join(n for n in notes if n)
    note += "; all are in audit.json" if note else ""
    return Matrix(tuple(names[i] for i in classes), rows, note)


def _cluster(cluster: Cluster, names: Names, limits: Limits) -> ClusterCard:
    shares = sorted(cluster.classes, key=lambda s: (-s.n_images, s.index))
    listed = ", ".join(f"{names[s.index]} ({s.n_images})" for s in shares[:8])
    more = f" and {len(shares) - 8} more" if len(shares) > 8 else ""
    title = names.concept(cluster.name) if cluster.name else Name("Unnamed", "Unnamed")
    fit = "" if cluster.score is None else f", fit of the name {number(cluster.score)}"
    return ClusterCard(
        identifier=name(cluster.id, 24).short,
        title=title,
        named=cluster.name is not None,
        contents=f"{count(cluster.n_images, 'photo')}, "
        f"{count(cluster.n_prototypes, 'prototype')}{fit}",
        classes=listed + more,
        galleries=galleries(cluster.pictures, f"cluster {title}", names, limits.pictures),
    )
