"""Naming: which concepts of the bank a class relies on, by several channels and against a null.

The bridge (docs/method.md): the CLIP probe is only ever shown photos, where it is at home; the
photos that it scores highest for a concept give a direction in the *audited model's* feature space,
and the prototype's own activations are projected on it. Beside it stand

- `head`: the class's weights on the concept's direction,
- `textcav`: the prototype on the direction that a linear map from the probe's space gives the text
  (after TextCAV, arXiv 2408.08652),
- `association`: the class's logit on photos that show the concept, less the logit on the rest; for
  drawn concepts on the same photos with and without it,
- `direct`: the probe on the prototype itself, close to useless, shown and given no weight.

Null: random visual concepts. A random mixture of the bank's texts is scored, thresholded and turned
into a direction as a named concept is, and runs through every channel. It answers "is this concept
nearer to the class than concepts at large are?", which shuffled photo labels do not: any coherent
set of photos projects farther than a random set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.statistics import benjamini_hochberg, empirical_p

__all__ = [
    "WEIGHTS",
    "Directions",
    "Naming",
    "name",
    "named",
    "null_texts",
    "presence",
    "shown",
    "sight",
]

Floats = NDArray[np.floating]

# the text's map is mostly noise with a weak probe, and the probe is not at home on
# prototypes: both are shown and given no weight
WEIGHTS: Mapping[str, float] = {
    "bridge": 1.0,
    "head": 1.0,
    "association": 1.0,
    "textcav": 0.0,
    "direct": 0.0,
}
PLACES = 0.03  # a photo shows a concept that is among this share of the bank that fits it best
TOP_SHARE = 0.04  # at most this share of the pool, its best photos, make a direction
BLOCK = 1000  # concepts whose sets of photos are in memory at once
MIN_CLASSES = 8  # with fewer classes the mean over classes says nothing


@dataclass(frozen=True)
class Directions:
    """Directions of m concepts in the audited model's standardised feature space.

    Attributes:
        vectors: float array of shape (m, d), unit rows; NaN where a concept was not tested.
        textual: float array of shape (m, d), unit rows by the linear map from texts.
        shift: float array of shape (m, C): change of each audited class's centred logit.
        texts: float array of shape (m, e), the probe's unit text rows.
        n_photos: int array of shape (m,), photos behind each direction.
    """

    vectors: Floats
    textual: Floats
    shift: Floats
    texts: Floats
    n_photos: NDArray[np.int64]

    def __post_init__(self) -> None:
        m = len(self.vectors)
        if not len(self.textual) == len(self.shift) == len(self.texts) == len(self.n_photos) == m:
            raise ValueError("all parts of the directions must have one row for each concept")


@dataclass(frozen=True)
class Naming:
    """Scores of C classes and m concepts.

    Attributes:
        channels: name -> float array of shape (C, m), in standard deviations of the null.
        score: float array of shape (C, m), the weighted mean of the channels, in the same unit.
        p, q: float arrays of shape (C, m); NaN where not tested.
    """

    channels: Mapping[str, Floats]
    score: Floats
    p: Floats
    q: Floats
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
        fixed = sum(
            WEIGHTS[key] * self.channels[key][row, column]
            for key in self.channels
            if WEIGHTS[key] and key not in values
        )
        total = np.full(len(vectors), fixed)
        for key, value in values.items():
            centre, deviation = self._scales[key]
            total += WEIGHTS[key] * (value - centre[row, 0]) / deviation[row, 0]
        return np.asarray(total / sum(WEIGHTS.values()) / self._scale[row, 0])


def presence(photos: Floats, texts: Floats) -> Floats:
    """How much more each photo fits each text than photos on average do.

    Args:
        photos: float array of shape (n, e), unit rows.
        texts: float array of shape (m, e).

    Returns:
        Float array of shape (n, m), mean 0 over photos.
    """
    return np.asarray((photos - photos.mean(0)) @ texts.T)


def sight(plain: Floats, drawn: Floats, pool: Floats, photos: Floats) -> Floats:
    """How much photos look, to the probe, like photos with a drawing: Fisher's discriminant.

    What a drawing changes in the probe's rows is known from pairs, which says more than a text.

    Args:
        plain, drawn: float arrays of shape (k, e), rows of photos without and with it.
        pool: float array of shape (m, e), rows by whose covariance directions are weighed.
        photos: float array of shape (n, e), rows to be scored.

    Returns:
        Float array of shape (n,).
    """
    centred = pool - pool.mean(0)
    covariance = centred.T @ centred / len(pool)
    ridge = 0.1 * np.trace(covariance) / len(covariance)
    change = (drawn - plain).mean(0)
    return np.asarray(photos @ np.linalg.solve(covariance + ridge * np.eye(len(change)), change))


def shows(scores: Floats) -> NDArray[np.bool_]:
    """Which photos show which concepts: those among the best few of the bank for the photo.

    Centred scores are compared without rescaling them per concept, so a concept that no photo of
    the pool excites is shown by none.

    Args:
        scores: float array of shape (n, m), from `presence`.
    """
    places = max(3, round(PLACES * scores.shape[1]))
    if scores.shape[1] <= places:
        return np.asarray(scores > 0)
    edge = np.partition(scores, -places, axis=1)[:, -places][:, None]
    return np.asarray((scores >= edge) & (scores > 0))


def n_photos(shown: int, pool: int) -> int:
    """How many of the best photos make a direction: those that show the concept, within bounds."""
    return max(1, min(shown, round(TOP_SHARE * pool), pool - 1))


def null_texts(texts: Floats, n: int, rng: np.random.Generator) -> Floats:
    """Random visual concepts: random mixtures of the bank's texts, of shape (n, e), unit rows."""
    centre = texts.mean(0)
    mixed = rng.normal(size=(n, len(texts))) @ (texts - centre)
    typical = np.linalg.norm(texts - centre, axis=1).mean()
    mixed *= typical / np.linalg.norm(mixed, axis=1, keepdims=True)
    rows = mixed + centre
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def named(
    features: Floats,
    logits: Floats,
    photos: Floats,
    texts: Floats,
    counts: NDArray[np.int64],
    textcav: Floats,
) -> Directions:
    """Directions of concepts that are named by a text.

    Args:
        features: float array of shape (n, d), standardised features of the pool.
        logits: float array of shape (n, C), centred logits of the audited classes.
        photos: float array of shape (n, e), the probe's unit rows of the pool.
        texts: float array of shape (m, e), unit rows.
        counts: int array of shape (m,), how many of the best photos to take; 0 = not tested.
        textcav: float array of shape (e, d), from `text_map`.
    """
    mapped = (texts - texts.mean(0)) @ textcav
    parts = []
    for start in range(0, len(texts), BLOCK):
        block = slice(start, start + BLOCK)
        scores = presence(photos, texts[block])
        chosen = np.zeros(scores.T.shape, np.float32)
        for j, count in enumerate(counts[block]):
            if count:
                chosen[j, np.argpartition(scores[:, j], -count)[-count:]] = 1
        parts.append(_from_sets(features, logits, chosen, texts[block], mapped[block]))
    return Directions(
        *(np.concatenate([getattr(part, field.name) for part in parts])
          for field in dataclasses.fields(Directions))
    )  # fmt: skip


def shown(
    features: Floats,
    logits: Floats,
    example_features: Floats,
    example_logits: Floats,
    text: Floats,
    textcav: Floats,
) -> Directions:
    """Direction of one concept that the user shows by example photos, against the pool."""
    both = np.concatenate([example_features, features])
    both_logits = np.concatenate([example_logits, logits])
    chosen = np.zeros((1, len(both)), np.float32)
    chosen[0, : len(example_features)] = 1
    return _from_sets(both, both_logits, chosen, text[None], text[None] @ textcav)


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
    directions: Directions,
    null: Directions,
    prototypes: Floats,
    weights: Floats,
    prototype_photos: Floats,
    *,
    q_level: float,
) -> Naming:
    """Score every class and concept and test all pairs at once.

    Each channel is centred over the audited classes (from eight classes on) and divided by its
    standard deviation over the null concepts; the combined score is the mean of the weighted
    channels that a concept has, rescaled to the null. p counts null scores of all classes.

    Args:
        directions: of the m concepts.
        null: of random concepts, made in the same way.
        prototypes: float array of shape (C, d), mean standardised features of the prototypes.
        weights: float array of shape (C, d), weights on standardised features.
        prototype_photos: float array of shape (C, e), the probe's mean row of the prototypes.
        q_level: for the threshold: the score that a pair needs for q below this level, given how
            many other pairs have it.
    """
    own = _channels(directions, prototypes, weights, prototype_photos)
    base = _channels(null, prototypes, weights, prototype_photos)
    channels: dict[str, Floats] = {}
    nulls: dict[str, Floats] = {}
    scales: dict[str, tuple[Floats, Floats]] = {}
    centred = len(prototypes) >= MIN_CLASSES
    for key, values in own.items():
        null_values = base[key]
        if centred:
            values, null_values = values - values.mean(0), null_values - null_values.mean(0)
        centre = null_values.mean(1, keepdims=True)
        deviation = null_values.std(1, keepdims=True)
        deviation[deviation == 0] = 1.0
        channels[key] = (values - centre) / deviation
        nulls[key] = (null_values - centre) / deviation
        scales[key] = centre, deviation
    score = _combined(channels)
    null_score = _combined(nulls)
    scale = null_score.std(1, keepdims=True)
    scale[scale == 0] = np.inf  # a null without spread is evidence of nothing: scores 0, p 1
    score, null_score = score / scale, null_score / scale
    null_all = null_score.ravel()
    p = np.where(np.isfinite(score), empirical_p(np.nan_to_num(score), null_all), np.nan)
    q = benjamini_hochberg(p)
    allowed = q_level * (max(1, int((q < q_level).sum())) / max(1, int(np.isfinite(p).sum())))
    resolved = allowed * (null_all.size + 1) >= 1  # else even the least p is not low enough
    threshold = float(np.quantile(null_all, max(0.0, 1 - allowed))) if resolved else np.inf
    return Naming(
        channels, score, p, q, null_score, threshold,
        prototypes - prototypes.mean(0) if centred else prototypes,
        weights - weights.mean(0) if centred else weights,
        scales, scale,
    )  # fmt: skip


def _from_sets(
    features: Floats, logits: Floats, chosen: Floats, texts: Floats, mapped: Floats
) -> Directions:
    n = chosen.shape[1]
    inside = chosen.sum(1)
    tested = (inside > 0) & (inside < n)
    rest = np.where(tested, n - inside, 1)[:, None]
    share = np.where(tested, inside, 1)[:, None]

    def difference(values: Floats) -> Floats:
        taken = chosen @ values
        result = taken / share - (values.sum(0) - taken) / rest
        result[~tested] = np.nan
        return np.asarray(result)

    return Directions(
        _unit(difference(features)),
        _unit(mapped),
        difference(logits),
        texts,
        np.where(tested, inside, 0).astype(np.int64),
    )


def _channels(
    directions: Directions, prototypes: Floats, weights: Floats, prototype_photos: Floats
) -> dict[str, Floats]:
    return {
        "bridge": prototypes @ directions.vectors.T,
        "textcav": prototypes @ directions.textual.T,
        "head": weights @ directions.vectors.T,
        "association": directions.shift.T,
        "direct": prototype_photos @ directions.texts.T,
    }


def _combined(channels: Mapping[str, Floats]) -> Floats:
    """Weighted mean of the channels that have a weight; NaN where a concept was not tested."""
    total = sum(WEIGHTS[key] * values for key, values in channels.items() if WEIGHTS[key])
    return np.asarray(total / sum(WEIGHTS.values()))


def _unit(rows: Floats) -> Floats:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, norm, out=np.full_like(rows, np.nan), where=norm > 0))
