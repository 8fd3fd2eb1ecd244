"""The bank as one audit sees it: each concept's direction, where it came from, and whether it can
be tested at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from auditor.concepts import presence
from auditor.concepts.banks import Concept
from auditor.core.statistics import bootstrap_weights
from auditor.core.vectors import unit_rows
from auditor.evidence import scoring
from auditor.evidence.members import DrawnPairs, ExamplePhotos, PoolPhotos
from auditor.evidence.projection import project
from auditor.evidence.scoring import Directions, Naming
from auditor.record.notes import Reason

__all__ = ["ClassVectors", "Source", "Vocabulary"]

Floats = NDArray[np.floating]
Source = Literal["named", "drawn", "shown"]


@dataclass(frozen=True)
class Vocabulary:
    """Directions of the bank's m concepts in the audited model, with their null.

    Attributes:
        concepts: the bank, in order.
        sources: where each direction comes from.
        texts: float array of shape (m, e), the probe's unit rows of the prompts.
        looks: float array of shape (m, e), rows by which photos that show a concept are told: its
            text; for a drawn one the discriminant of what the drawing changes.
        margin: float array of shape (m,), by how much a photo must exceed another, in units of its
            look, to show more of a concept. In a labelled pool the discriminant of a drawing goes
            by how photos vary within classes, and what tells one class's object from others may
            lie along it: there it is a quarter of what the drawing changes, else 0.
        n_photos: int array of shape (m,), photos behind each direction.
        reasons: why a concept was not tested, or `None`.
        mean, scale: float arrays of shape (d,), by which features are standardised.
    """

    concepts: tuple[Concept, ...]
    sources: tuple[Source, ...]
    texts: Floats
    looks: Floats
    margin: Floats
    n_photos: NDArray[np.int64]
    reasons: tuple[Reason | None, ...]
    mean: Floats
    scale: Floats
    q_level: float
    _pool: PoolPhotos
    _least: int  # photos that must show a concept
    _counts: NDArray[np.int64]
    _textual: Floats
    _given: Mapping[int, DrawnPairs | ExamplePhotos]
    _null: tuple[Floats, NDArray[np.int64], Floats]  # texts, counts and their map, at random
    _null_drawn: Floats | None  # looks at random for drawn concepts, if there are enough of those
    _at_large: Floats  # texts of the bank, then of concepts beside it

    @property
    def tested(self) -> NDArray[np.bool_]:
        """Which concepts have a direction."""
        return np.array([reason is None for reason in self.reasons], bool)

    def shown(self, rows: Floats) -> NDArray[np.bool_]:
        """Which photos show which concepts, of shape (n, m), for the probe's rows of n photos."""
        shown = presence.shows(presence.presence(rows, self._at_large))
        return shown[:, : len(self.concepts)]

    def short(self, row: int) -> NDArray[np.bool_]:
        """Concepts, of shape (m,), that too few photos show beside those of a class's row.

        In a labelled pool they cannot be told from the class, and are not tested for it.
        """
        return np.asarray((self._counts > 0) & (self._counts_for(row) == 0))

    def directions(self, row: int | None = None) -> Directions:
        """Directions of all concepts for a class's row, or from all photos; NaN if not tested.

        Without labels the best of the photos that may not show the class are taken, however few
        show the concept: what the probe sees only on photos that it takes for the class mostly
        belongs to the class ("road" to cars).
        """
        made = self._pool.directions(row, self.texts, self._counts_for(row), self._textual)
        for j, given in self._given.items():
            members, made.shift[j] = given.relative(self._pool, row, self._least)
            made.vectors[j] = unit_rows(members.mean(0), directionless=0)
        return made

    def _counts_for(self, row: int | None) -> NDArray[np.int64]:
        """How many of the photos that speak for a class make each direction; 0 if too few do.

        As many as from all photos, as in the null; in a labelled pool only if half are left.
        """
        if row is None or not self._pool.labelled:
            return self._counts
        seen = self._pool.shown[self._pool.kept(row)].sum(0)
        counts = np.where(2 * seen >= self._counts, self._counts, seen)
        return np.where(seen >= self._least, counts, 0)

    def name(
        self,
        prototypes: Floats,
        weights: Floats,
        prototype_rows: Floats,
        prevalence: Callable[[Floats], Floats] | None,
    ) -> Naming:
        """Score all classes and concepts (see `auditor.evidence.scoring.name`).

        Args:
            prototypes: float array of shape (C, d), mean features of each class's prototypes.
            weights: float array of shape (C, d), from `activations.head_weights`.
            prototype_rows: float array of shape (C, e), the probe's mean rows of the prototypes.
            prevalence: of looks of shape (m, e), from `auditor.concepts.presence`, of shape (C, m);
                `None` where the photos say nothing of what the model learned from.
        """
        by = ClassVectors(*map(
            scoring.less_mean_class,
            ((prototypes - self.mean) / self.scale, weights * self.scale, prototype_rows),
        ))  # fmt: skip
        prevalent, null_prevalent = self._prevalent(len(prototypes), prevalence)
        null_texts, null_counts, null_textual = self._null
        own = by.channels(self._pool, self.texts, self._counts_for, self._textual)
        for j, given in self._given.items():
            for row in range(len(prototypes)):
                members, shift = given.relative(self._pool, row, self._least)
                direction = unit_rows(members.mean(0), directionless=0)
                own["bridge"][row, j] = direction @ by.prototypes[row]
                own["head"][row, j] = direction @ by.weights[row]
                own["association"][row, j] = scoring.less_mean_class(shift)[row]
        random = by.channels(self._pool, null_texts, lambda row: null_counts, null_textual)
        return scoring.name(
            {**own, "prevalence": prevalent},
            {**random, "prevalence": null_prevalent},
            by.prototypes,
            by.weights,
            q_level=self.q_level,
        )

    def _prevalent(
        self, n_classes: int, prevalence: Callable[[Floats], Floats] | None
    ) -> tuple[Floats, Floats]:
        """Prevalence of the concepts and of the null, in units of the null.

        Drawn concepts go by their looks against the null of such; by their texts as the others do
        where there are too few of them for one.

        Shapes (C, m) and (C, R); NaN where it is not known.
        """
        size = len(self._null[0])
        if prevalence is None:
            return np.full((n_classes, len(self.texts)), np.nan), np.full((n_classes, size), np.nan)
        null = prevalence(self._null[0])
        centre, deviation = scoring.scale_of(null)
        prevalent = (prevalence(self.texts) - centre) / deviation
        if self._null_drawn is not None:
            drawn = np.array([source == "drawn" for source in self.sources])
            own_centre, own_deviation = scoring.scale_of(prevalence(self._null_drawn))
            prevalent[:, drawn] = (prevalence(self.looks[drawn]) - own_centre) / own_deviation
        return prevalent, (null - centre) / deviation

    def resampled(self, row: int, j: int, replicates: int, rng: np.random.Generator) -> Floats:
        """Bootstrap replicates of a class's direction over its photos, of shape (replicates, d)."""
        members = self._members(row, j)
        weights = bootstrap_weights(len(members), replicates, rng) / len(members)
        return unit_rows(weights @ members, directionless=0)

    def likeness(self) -> Floats:
        """Cosine between the directions of each two concepts, of shape (m, m)."""
        vectors = self.directions().vectors
        return np.asarray(vectors @ vectors.T)

    def _members(self, row: int, j: int) -> Floats:
        """Rows behind a direction, relative to the mean of the photos that are not."""
        if j in self._given:
            return self._given[j].relative(self._pool, row, self._least)[0]
        kept = self._pool.kept(row)
        count = min(int(self._counts_for(row)[j]), int(kept.sum()) - 1)
        features = self._pool.features[kept]
        scores = self._pool.rows[kept] @ self.texts[j]
        best = np.argpartition(scores, -count)[-count:]
        rest = (features.sum(0) - features[best].sum(0)) / (len(features) - count)
        return np.asarray(features[best] - rest)


@dataclass(frozen=True)
class ClassVectors:
    """What concepts are scored on, less the mean over classes (see `scoring.less_mean_class`).

    Attributes:
        prototypes: float array of shape (C, d), standardised features of the prototypes.
        weights: float array of shape (C, d), the head's weights on standardised features.
        prototype_rows: float array of shape (C, e), the probe's rows of the prototypes.
    """

    prototypes: Floats
    weights: Floats
    prototype_rows: Floats

    def channels(
        self,
        pool: PoolPhotos,
        texts: Floats,
        counts_for: Callable[[int | None], NDArray[np.int64]],
        textual: Floats,
    ) -> dict[str, Floats]:
        """All channels but `prevalence` of m concepts that are named: float arrays (C, m)."""
        if len(self.prototypes) >= scoring.MIN_CLASSES:  # as `less_mean_class`
            pool = replace(pool, level=pool.logits.mean(1))
        found = project(pool, texts, counts_for, self.prototypes, self.weights)
        return {
            "bridge": found.prototypes,
            "textcav": self.prototypes @ textual.T,
            "head": found.weights,
            "association": found.shift,
            "direct": self.prototype_rows @ texts.T,
        }
