"""Learning the directions of concepts: from the pool, from drawings and from examples."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.concepts import presence
from auditor.concepts.banks import Concept, ConceptBank
from auditor.concepts.probes import ProbeModel
from auditor.concepts.texts import at_large
from auditor.config import StatisticsConfig
from auditor.core import seeds
from auditor.core.vectors import unit_rows
from auditor.evidence import scoring
from auditor.evidence.directions import Source, Vocabulary
from auditor.evidence.insertion import Insertions
from auditor.evidence.members import DrawnPairs, ExamplePhotos, PoolPhotos
from auditor.record.notes import Reason

__all__ = ["Drawings", "Evidence", "SeenExamples", "SeenPool", "learn"]

Floats = NDArray[np.floating]

MOST_RANDOM = 10**7  # scores of random concepts of all classes together, to save memory
LEAST_RANDOM = 999  # random concepts for each class, however many classes there are
LEAST_DRAWN = 30  # with fewer drawn concepts their mixtures are little but themselves again
MARGIN = 0.25  # of what a drawing changes: the class's own object may do as much


@dataclass(frozen=True)
class SeenPool:
    """The pool as the model and the probe see it.

    Attributes:
        features: float array of shape (n, d), the model's.
        logits: float array of shape (n, K).
        rows: float array of shape (n, e), the probe's unit rows.
        own: bool array of shape (n, C), photos that may show each audited class, from
            `auditor.concepts.presence.own_photos`.
        labels: of the n photos, where they are known.
    """

    features: Floats
    logits: Floats
    rows: Floats
    own: NDArray[np.bool_]
    labels: Sequence[int] | None

    @functools.cached_property
    def mean(self) -> Floats:
        """Mean of each feature, of shape (d,)."""
        return np.asarray(self.features.mean(0))

    @functools.cached_property
    def scale(self) -> Floats:
        """By how much each feature varies, of shape (d,), never 0."""
        return np.asarray(np.maximum(self.features.std(0), 1e-6))

    def standardised(self, features: Floats) -> Floats:
        """Features in units of how they vary over the pool."""
        return np.asarray((features - self.mean) / self.scale)


@dataclass(frozen=True)
class Drawings:
    """Drawn concepts on photos.

    Attributes:
        insertions: by drawing, what it does to the model's answers.
        labels: int array of shape (k,), classes of the photos that were drawn on.
        changes: by drawing, what it changes in the probe's row, float arrays of shape (e,).
    """

    insertions: Mapping[str, Insertions]
    labels: NDArray[np.int64]
    changes: Mapping[str, Floats]


@dataclass(frozen=True)
class SeenExamples:
    """The user's photos of one concept as the model sees them.

    Attributes:
        features, logits, own: as in `SeenPool`.
    """

    features: Floats
    logits: Floats
    own: NDArray[np.bool_]


@dataclass(frozen=True)
class Evidence:
    """What directions are learned from.

    Attributes:
        pool: photos for concepts that are named.
        drawings: for concepts that are drawn.
        examples: by the concept's name, for concepts that are shown by photos.
    """

    pool: SeenPool
    drawings: Drawings
    examples: Mapping[str, SeenExamples]


def learn(
    bank: ConceptBank,
    probe: ProbeModel,
    evidence: Evidence,
    classes: Sequence[int],
    statistics: StatisticsConfig,
    *,
    seed: int,
) -> Vocabulary:
    """Give every concept of the bank its direction.

    Args:
        bank: the concepts.
        probe: reads their texts.
        evidence: what they are learned from.
        classes: indices of the audited classes.
        statistics: levels and sizes.
        seed: of the null.
    """
    seen, chosen = evidence.pool, list(classes)
    everything = at_large(probe, bank)
    texts = everything[: len(bank.concepts)]
    shown = presence.shows(presence.presence(seen.rows, everything))[:, : len(texts)]
    pool = PoolPhotos(
        features=seen.standardised(seen.features),
        logits=_columns(seen.logits, chosen),
        level=seen.logits.mean(1),
        rows=seen.rows,
        shown=shown,
        own=seen.own,
        labelled=seen.labels is not None,
    )
    found = _found(bank, evidence, shown, chosen, statistics.min_photos)
    size = min(statistics.permutations, max(LEAST_RANDOM, MOST_RANDOM // len(chosen)))
    rng = seeds.stream(seed, "null")
    textcav = scoring.text_map(seen.rows, pool.features)
    typical = found.counts[found.counts > 0]
    if not len(typical):
        typical = np.array([min(statistics.min_photos, len(seen.rows) - 1)])
    null_counts = rng.choice(typical, size)
    null_texts = scoring.mixtures(everything, size, rng)
    looks = _looks(bank, evidence, texts, size, rng)
    return Vocabulary(
        concepts=bank.concepts,
        sources=tuple(map(_source, bank.concepts)),
        texts=texts,
        looks=looks.rows,
        margin=looks.margin,
        n_photos=found.n_photos,
        reasons=found.reasons,
        mean=seen.mean,
        scale=seen.scale,
        q_level=statistics.q_level,
        _pool=pool,
        _least=statistics.min_photos,
        _counts=found.counts,
        _textual=scoring.textual(texts, textcav),
        _given=found.given,
        _null=(null_texts, null_counts, scoring.textual(null_texts, textcav)),
        _null_drawn=looks.null,
        _at_large=everything,
    )


@dataclass(frozen=True)
class _Found:
    """The photos that were found for each concept of a bank.

    Attributes:
        counts: int array of shape (m,), photos of the pool that make a direction; 0 for none.
        n_photos: int array of shape (m,), photos of any kind.
        reasons: why a concept has no direction, or `None`.
        given: by column, the photos of drawn and of shown concepts.
    """

    counts: NDArray[np.int64]
    n_photos: NDArray[np.int64]
    reasons: tuple[Reason | None, ...]
    given: Mapping[int, DrawnPairs | ExamplePhotos]


def _found(
    bank: ConceptBank, evidence: Evidence, shown: NDArray[np.bool_], classes: list[int], least: int
) -> _Found:
    """The photos of each concept, of which `shown` says what photos of the pool show."""
    pool, seen = len(shown), shown.sum(0)
    counts, n_photos = np.zeros(len(seen), np.int64), np.zeros(len(seen), np.int64)
    reasons: list[Reason | None] = [None] * len(seen)
    given: dict[int, DrawnPairs | ExamplePhotos] = {}
    for j, concept in enumerate(bank.concepts):
        if concept.drawing is not None:
            insertion = evidence.drawings.insertions[concept.drawing]
            shift = insertion.shift(evidence.drawings.labels)
            # what fades a photo raises every class's log-odds: of which the mean is taken off
            given[j] = DrawnPairs(insertion.features, (shift - shift.mean())[classes])
            n_photos[j] = len(insertion.features)
        elif concept.photos is not None:
            examples = evidence.examples[concept.name]
            n_photos[j] = len(examples.features)
            if n_photos[j] < least:
                reasons[j] = Reason(
                    code="few_examples", params={"photos": int(n_photos[j]), "needed": least}
                )
                n_photos[j] = 0
                continue
            features = evidence.pool.standardised(examples.features)
            logits = (examples.logits - examples.logits.mean(1, keepdims=True))[:, classes]
            given[j] = ExamplePhotos(features, logits, examples.own)
        elif seen[j] < least:
            reasons[j] = Reason(
                code="few_pool_photos",
                params={"photos": int(seen[j]), "pool": pool, "needed": least},
            )
        else:
            counts[j] = n_photos[j] = scoring.n_photos(int(seen[j]), pool)
    return _Found(counts, n_photos, tuple(reasons), given)


@dataclass(frozen=True)
class _Looks:
    """By what photos that show a concept are told.

    Attributes:
        rows, margin: as in `Vocabulary`.
        null: rows of drawn concepts at random, if there are enough of these.
    """

    rows: Floats
    margin: Floats
    null: Floats | None


def _looks(
    bank: ConceptBank, evidence: Evidence, texts: Floats, size: int, rng: np.random.Generator
) -> _Looks:
    drawn = {j: c.drawing for j, c in enumerate(bank.concepts) if c.drawing is not None}
    rows, margin, null = texts.copy(), np.zeros(len(texts)), None
    if drawn:
        pool = evidence.pool
        whitening = presence.whitening(pool.rows, pool.labels)
        changed = np.stack([evidence.drawings.changes[name] for name in drawn.values()])
        whitened = unit_rows(changed @ whitening, directionless=0)
        rows[list(drawn)] = whitened @ whitening
        if pool.labels is not None:
            margin[list(drawn)] = MARGIN * (changed * rows[list(drawn)]).sum(1)
        if len(drawn) >= LEAST_DRAWN:
            null = scoring.mixtures(whitened, size, rng) @ whitening
    return _Looks(rows, margin, null)


def _source(concept: Concept) -> Source:
    if concept.drawing is not None:
        return "drawn"
    return "shown" if concept.photos is not None else "named"


def _columns(logits: Floats, classes: list[int]) -> Floats:
    """The logits of some classes; without a copy, which may be large, where these are all."""
    return logits if classes == list(range(logits.shape[1])) else logits[:, classes]
