"""Small display values that several sections share, and how much of each is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from auditor.record.codes import PictureKind
from auditor.record.schema import Audit, Picture, Prototype
from auditor.report.captions import caption
from auditor.report.names import Names
from auditor.report.text import Name, name, number, told

__all__ = [
    "HTML",
    "KINDS",
    "PDF",
    "Gallery",
    "Limits",
    "Shot",
    "galleries",
    "gallery",
    "intrinsic",
    "prototype_shot",
    "prototype_shots",
    "showing",
    "whole",
]

KINDS: Mapping[PictureKind, tuple[str, str]] = {
    "prototype": ("Prototypes", "Prototype"),
    "with": (
        "Photos of other classes that show it by the probe, which may err",
        "Photo that shows the concept by the probe",
    ),
    "plain": ("Photos without it", "Photo without the concept"),
    "without": ("Photos without it", "Photo without the concept"),
    "edited": ("Photos with the concept put in", "Photo with the concept put in"),
    "surrounded": (
        "Surroundings that show it by the probe (median answer), around another object",
        "Surroundings that show the concept by the probe, around another object",
    ),
    "unsurrounded": (
        "Surroundings that do not (median answer), around the same object",
        "Surroundings without the concept, around the same object",
    ),
    "control": ("The same places, matched control edit", "Photo with the matched control edit"),
    "photo": ("Photos", "Photo"),
}


@dataclass(frozen=True)
class Limits:
    """How many of each thing a medium shows; what is left out is counted and is in audit.json.

    `links` tells whether the medium can link to files beside it.
    """

    class_pages: int
    class_rows: int
    cards: int
    concepts: int
    matrix_rows: int
    matrix_columns: int
    clusters: int
    pictures: int
    listed: int
    layer_tables: bool
    links: bool


HTML = Limits(
    class_pages=60,
    class_rows=2000,
    cards=30,
    concepts=10,
    matrix_rows=24,
    matrix_columns=12,
    clusters=24,
    pictures=5,
    listed=200,
    layer_tables=True,
    links=True,
)
PDF = Limits(
    class_pages=25,
    class_rows=40,
    cards=25,
    concepts=5,
    matrix_rows=16,
    matrix_columns=8,
    clusters=8,
    pictures=4,
    listed=25,
    layer_tables=False,
    links=False,
)


@dataclass(frozen=True)
class Shot:
    """A picture of the run folder: its alternative text carries what the caption does not."""

    file: str
    alt: str
    caption: str

    @property
    def where(self) -> str:
        """The file's name, as text."""
        return name(self.file, 60).short


@dataclass(frozen=True)
class Gallery:
    """Pictures under one heading; `note` tells how many are not shown."""

    title: str
    shots: tuple[Shot, ...]
    note: str


def intrinsic(audit: Audit) -> frozenset[str]:
    """Concepts that are ranked and are no findings of any class."""
    return frozenset(concept.name for concept in audit.concepts if not concept.extrinsic)


def whole(audit: Audit) -> str:
    """The file that holds every score of every class."""
    return next((t.file for t in audit.tables if t.name == "scores"), "audit.json")


def showing(shown: int, total: int, noun: str) -> str:
    """`showing 6 of 40 photos`; nothing where all are shown."""
    return "" if shown >= total else f"showing {shown:,} of {total:,} {noun}"


def gallery(title: str, shots: Sequence[Shot], limit: int) -> Gallery:
    """The first pictures, with how many there are."""
    kept = tuple(shots[:limit])
    return Gallery(title, kept, showing(len(kept), len(shots), "pictures"))


def galleries(
    pictures: Sequence[Picture],
    subject: str,
    names: Names,
    limit: int,
    *,
    concept: Name | None = None,
) -> tuple[Gallery, ...]:
    """Pictures grouped by what they show, in the order in which they are read.

    Args:
        pictures: of a finding or a cluster.
        subject: of both, in their alternative texts.
        names: of the classes.
        limit: pictures of a kind.
        concept: of the finding.
    """
    found = []
    for kind, (title, word) in KINDS.items():
        captions = [(p.file, caption(p, names, concept)) for p in pictures if p.kind == kind]
        shots = [
            Shot(file, f"{word}, {subject}: {told(words)}", name(words, 60).short)
            for file, words in captions
        ]
        if shots:
            found.append(gallery(title, shots, limit))
    return tuple(found)


def prototype_shots(prototype: Prototype, class_name: Name) -> list[Shot]:
    """A prototype and, where it was isolated, the region that carries its class."""
    shots = [prototype_shot(prototype, class_name)]
    region = prototype.region
    if region is not None:
        inside, moved = number(region.probability, 2), number(region.control, 2)
        shots.append(
            Shot(
                region.file,
                f"Region of the prototype of {class_name}, seed {prototype.seed}: "
                f"{100 * region.area:.0f} % of the image; probability {inside} with all else "
                f"blurred, {moved} for the same region moved elsewhere",
                f"region {100 * region.area:.0f} % · p {inside}, moved {moved}",
            )
        )
    return shots


def prototype_shot(prototype: Prototype, class_name: Name) -> Shot:
    """A prototype with its seed and the probability it reached."""
    reached = "" if prototype.reached else ", target not reached"
    figure = number(prototype.probability, 3)
    return Shot(
        prototype.file,
        f"Prototype of {class_name}, seed {prototype.seed}: probability {figure} after "
        f"{prototype.steps} steps{reached}",
        f"seed {prototype.seed} · p {figure}{reached}",
    )
