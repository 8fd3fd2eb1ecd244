"""Naming: which concepts of the bank a class relies on, by several channels and against a null.

The bridge (docs/method.md): the CLIP probe is only ever shown photos, where it is at home; the
photos that it scores highest for a concept give a direction in the *audited model's* feature space,
and the prototype's own activations are projected on it. Beside it stand

- `head`: the class's weights on the concept's direction,
- `textcav`: the prototype on the direction that a linear map from the probe's space gives the text
  (after TextCAV, arXiv 2408.08652),
- `association`: the class's logit on photos that show the concept, less the logit on the rest; for
  drawn concepts the class's log-odds on the same photos with and without it,
- `prevalence`: how much more photos of the class show the concept, to the probe's eye, than photos
  of other classes do: what a class does not come with, it can hardly have learned to rely on,
- `direct`: the probe on the prototype itself, close to useless, shown and given no weight.

A class's photos show the class itself, and much that only its object explains ("road" on cars). So
pool photos that may show a class take no part in what is said of it (`kept`).

Null: random visual concepts. A random mixture of the bank's and the built-in texts is scored and
turned into a direction as a named concept is, and runs through every channel. It answers "is this
concept nearer to the class than concepts at large are?", which shuffled photo labels do not: any
coherent set of photos projects farther than a random set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from auditor.core.statistics import benjamini_hochberg, empirical_p
from auditor.core.vectors import unit_rows

__all__ = [
    "WEIGHTS",
    "Directions",
    "Naming",
    "kept",
    "mixtures",
    "n_photos",
    "name",
    "named",
    "scale_of",
    "text_map",
    "textual",
]

Floats = NDArray[np.floating]

# the text's map is mostly noise with a weak probe, and the probe is not at home on
# prototypes: both are shown and given no weight
WEIGHTS: Mapping[str, float] = {
    "bridge": 1.0,
    "head": 1.0,
    "association": 1.0,
    "prevalence": 1.0,
    "textcav": 0.0,
    "direct": 0.0,
}
TOP_SHARE = 0.04  # at most this share of the pool, its best photos, make a direction
LEAST_KEPT = 1 / 3  # of the pool; where a class would take more of it away, nothing is left out
BLOCK = 1000  # concepts whose scores are in memory at once
MIN_CLASSES = 8  # with fewer classes the mean over classes says nothing


@dataclass(frozen=True)
class Directions:
    """Directions of m concepts in the audited model's standardised feature space.

    Attributes:
        vectors: float array of shape (m, d), unit rows; NaN where a concept was not tested.
        textual: float array of shape (m, d), unit rows by the linear map from texts.
        shift: float array of shape (m, C): change of each audited class's centred logit.
        texts: float array of shape (m, e), the probe's unit text rows.
    """

    vectors: Floats
    textual: Floats
    shift: Floats
    texts: Floats

    def __post_init__(self) -> None:
        m = len(self.vectors)
        if not len(self.textual) == len(self.shift) == len(self.texts) == m:
            raise ValueError("all parts of the directions must have one row for each concept")


@dataclass(frozen=True)
class Naming:
    """Scores of C classes and m concepts.

    Attributes:
        channels: name -> float array of shape (C, m), in standard deviations of the null.
        score: float array of shape (C, m), the weighted mean of the channels, in the same unit.
        p, q: float arrays of shape (C, m); NaN where not tested.
        p_model: likewise p, without the channel that looks at the class's photos alone.
    """

    channels: Mapping[str, Floats]
    score: Floats
    p: Floats
    q: Floats
    p_model: Floats
    null: Floats  # (C, R), scores of the random concepts
    threshold: float  # the least score that could have had q below the level; inf if none could
    _prototypes: Floats  # (C, d), centred where channels are
    _weights: Floats
    _scales: Mapping[str, tuple[Floats, Floats]]  # centre and deviation of the null, each (C, 1)
    _scale: Floats  # (C, 1), of the combined score

    def rescored(
        self,
        row: int,
        column: int,
        vectors: Floats,
        prototypes: Floats,
        rng: np.random.Generator,
    ) -> Floats:
        """Replicates of a combined score for replicates of a concept's direction.

        The null, the other classes and the channels that need other photos stay as they are.

        Args:
            row, column: of the class and the concept.
            vectors: float array of shape (replicates, d), unit rows.
            prototypes: float array of shape (seeds, d), standardised; they are resampled.
            rng: source of the resampling.
        """
        n = len(prototypes)
        draws = rng.multinomial(n, np.full(n, 1 / n), size=len(vectors)) / n
        drawn = draws @ (prototypes - prototypes.mean(0)) + self._prototypes[row]
        values = {
            "bridge": (drawn * vectors).sum(1),
            "head": vectors @ self._weights[row],
        }
        replicated: dict[str, Floats] = {}
        for key, channel in self.channels.items():
            centre, deviation = self._scales[key]
            replicated[key] = (
                (values[key] - centre[row, 0]) / deviation[row, 0]
                if key in values
                else np.full(len(vectors), channel[row, column])
            )
        return np.asarray(_combined(replicated) / self._scale[row, 0])


def kept(own: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pool photos that speak for a class: those that may not show it, if enough are left.

    Args:
        own: bool array of shape (n,), photos that may show the class.
    """
    return ~own if (~own).mean() >= LEAST_KEPT else np.ones_like(own)


def n_photos(shown: int, pool: int) -> int:
    """How many of the best photos make a direction: those that show the concept, within bounds.

    >>> n_photos(shown=30, pool=400), n_photos(shown=3, pool=400)
    (16, 3)
    """
    return max(1, min(shown, round(TOP_SHARE * pool), pool - 1))


def mixtures(rows: Floats, n: int, rng: np.random.Generator) -> Floats:
    """Random visual concepts: mixtures of concepts' unit rows, unit rows of shape (n, e)."""
    centre = rows.mean(0)
    mixed = rng.normal(size=(n, len(rows))) @ (rows - centre)
    typical = np.linalg.norm(rows - centre, axis=1).mean()
    mixed *= typical / np.linalg.norm(mixed, axis=1, keepdims=True)
    return unit_rows(mixed + centre)


def named(
    features: Floats,
    logits: Floats,
    photos: Floats,
    texts: Floats,
    counts: NDArray[np.int64],
    textual: Floats,
    kept: NDArray[np.bool_] | None = None,
) -> Directions:
    """Directions of concepts that are named by a text.

    Args:
        features: float array of shape (n, d), standardised features of the pool.
        logits: float array of shape (n, C), centred logits of the audited classes.
        photos: float array of shape (n, e), the probe's unit rows of the pool.
        texts: float array of shape (m, e), unit rows.
        counts: int array of shape (m,), how many of the best photos to take; 0 = not tested.
        textual: float array of shape (m, d), from `textual`.
        kept: bool array of shape (n,), the photos that take part; by default all.
    """
    if kept is not None and not kept.all():
        features, logits, photos = features[kept], logits[kept], photos[kept]
    n = len(photos)
    counts = np.minimum(counts, n - 1)
    both = np.concatenate([features, logits], axis=1)
    chosen: list[NDArray[np.int64]] = []
    for start in range(0, len(texts), BLOCK):
        scores = texts[start : start + BLOCK] @ photos.T
        for row, count in zip(scores, counts[start : start + BLOCK], strict=True):
            chosen.append(np.argpartition(row, -count)[-count:] if count else np.zeros(0, np.int64))
    edges = np.cumsum([0, *counts])
    sets = sparse.csr_array(
        (np.ones(edges[-1], both.dtype), np.concatenate(chosen), edges), shape=(len(texts), n)
    )
    taken = sets @ both
    inside = np.maximum(counts, 1)[:, None]
    difference = taken / inside - (both.sum(0) - taken) / (n - counts)[:, None]
    difference[counts == 0] = np.nan
    width = features.shape[1]
    return Directions(unit_rows(difference[:, :width]), textual, difference[:, width:], texts)


def textual(texts: Floats, textcav: Floats) -> Floats:
    """Directions that a map gives texts, unit rows of shape (m, d); `textcav` from `text_map`."""
    return unit_rows((texts - texts.mean(0)) @ textcav)


def text_map(photos: Floats, features: Floats) -> Floats:
    """Ridge regression from the probe's space to standardised features, of shape (e, d).

    The penalty is a tenth of the mean eigenvalue of the covariance: the map is to be smooth in
    directions in which the pool hardly varies.
    """
    centred = photos - photos.mean(0)
    gram = centred.T @ centred
    penalty = 0.1 * np.trace(gram) / len(gram)
    return np.asarray(np.linalg.solve(gram + penalty * np.eye(len(gram)), centred.T @ features))


def name(
    directions: Callable[[int], tuple[Directions, Directions]],
    prototypes: Floats,
    weights: Floats,
    prototype_photos: Floats,
    prevalent: tuple[Floats, Floats],
    *,
    q_level: float,
) -> Naming:
    """Score every class and concept and test all pairs at once.

    Each channel is centred over the audited classes (from eight classes on) and divided by its
    standard deviation over the null concepts; the combined score is the mean of the weighted
    channels that a concept has, rescaled to the null. p counts null scores of all classes.

    Args:
        directions: by a class's row, those of the m concepts and those of R random concepts, made
            in the same way.
        prototypes: float array of shape (C, d), mean standardised features of the prototypes.
        weights: float array of shape (C, d), weights on standardised features.
        prototype_photos: float array of shape (C, e), the probe's mean row of the prototypes.
        prevalent: how much more photos of each class show the m concepts and the R random ones,
            float arrays of shape (C, m) and (C, R).
        q_level: for the threshold: the score that a pair needs for q below this level, given how
            many other pairs have it.
    """
    centred = len(prototypes) >= MIN_CLASSES

    def beside_others(rows: Floats) -> Floats:
        return rows - rows.mean(0) if centred else rows

    prototypes, weights = beside_others(prototypes), beside_others(weights)
    prototype_photos = beside_others(prototype_photos)

    def channels_of(row: int, made: Directions, seen: Floats) -> dict[str, Floats]:
        return {
            "bridge": made.vectors @ prototypes[row],
            "textcav": made.textual @ prototypes[row],
            "head": made.vectors @ weights[row],
            "association": beside_others(made.shift.T)[row],
            "prevalence": seen,
            "direct": made.texts @ prototype_photos[row],
        }

    own_rows, null_rows = [], []
    for row in range(len(prototypes)):
        own, null = directions(row)
        own_rows.append(channels_of(row, own, prevalent[0][row]))
        null_rows.append(channels_of(row, null, prevalent[1][row]))
    channels: dict[str, Floats] = {}
    nulls: dict[str, Floats] = {}
    scales: dict[str, tuple[Floats, Floats]] = {}
    for key in WEIGHTS:
        values = np.stack([channel[key] for channel in own_rows])
        null_values = np.stack([channel[key] for channel in null_rows])
        centre, deviation = scale_of(null_values)
        channels[key] = (values - centre) / deviation
        nulls[key] = (null_values - centre) / deviation
        scales[key] = centre, deviation
    score, null_score, scale, p = _against_null(channels, nulls)
    model = {key: values for key, values in channels.items() if key != "prevalence"}
    *_, p_model = _against_null(model, nulls)
    null_all = null_score.ravel()
    q = benjamini_hochberg(p)
    allowed = q_level * (max(1, int((q < q_level).sum())) / max(1, int(np.isfinite(p).sum())))
    resolved = allowed * (null_all.size + 1) >= 1  # else even the least p is not low enough
    threshold = float(np.quantile(null_all, max(0.0, 1 - allowed))) if resolved else np.inf
    return Naming(
        channels, score, p, q, p_model, null_score, threshold, prototypes, weights, scales, scale
    )


def scale_of(null: Floats) -> tuple[Floats, Floats]:
    """Centre and deviation of each class's null, of shape (C, R), by which scores are told."""
    deviation = null.std(1, keepdims=True)
    return null.mean(1, keepdims=True), np.where(_flat(null, deviation), 1.0, deviation)


def _flat(null: Floats, deviation: Floats) -> NDArray[np.bool_]:
    """Which rows of a null vary by rounding alone, given their deviations of shape (C, 1)."""
    return np.asarray(deviation <= 1e-9 * np.abs(null).max(1, keepdims=True))


def _against_null(
    channels: Mapping[str, Floats], nulls: Mapping[str, Floats]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Combined score of these channels, that of the null, their common scale, and p."""
    score = _combined(channels)
    null_score = _combined({key: nulls[key] for key in channels})
    scale = null_score.std(1, keepdims=True)
    scale[_flat(null_score, scale)] = (
        np.inf
    )  # a null without spread is evidence of nothing: scores 0, p 1
    score, null_score = score / scale, null_score / scale
    p = empirical_p(np.nan_to_num(score), null_score.ravel())
    return score, null_score, scale, np.where(np.isfinite(score), p, np.nan)


def _combined(channels: Mapping[str, Floats]) -> Floats:
    """Weighted mean of the channels that a class has; NaN where a concept was not tested."""
    total = np.zeros_like(channels["bridge"])
    weight = np.zeros_like(total)
    for key, values in channels.items():
        total += WEIGHTS[key] * np.nan_to_num(values)
        weight += WEIGHTS[key] * np.isfinite(values)
    return np.where(np.isfinite(channels["bridge"]), total / np.maximum(weight, 1e-12), np.nan)
