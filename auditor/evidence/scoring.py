"""Scores of concepts: how strongly each class relies on each concept, by several channels.

Each concept has a direction in the *audited model's* feature space (docs/method.md, section 3). For
a concept that is named by a text, it comes from photos: the mean of the pool photos that the CLIP
probe scores highest for the text, less the mean of the rest. The probe is shown only photos for
this, and never prototypes, because photos are what it was trained on.

A channel is one line of evidence about a class and a concept:

- `bridge`: the class's prototypes, projected on the concept's direction.
- `head`: the class's weights in the model's last layer, projected on the direction.
- `association`: the mean logit of the class on photos that show the concept, less that on the rest.
  For a drawn concept: the change of the class's log-odds when it is drawn on photos.
- `prevalence`: how much more the photos of the class show the concept than photos of other classes
  do, in the probe's view. A model can hardly learn to rely on what its class's photos do not show.
- `textcav`: the prototypes, projected on a direction that a linear map makes from the text alone
  (after TextCAV, arXiv 2408.08652). Shown, but without weight.
- `direct`: how well the probe finds the concept in the prototypes themselves. Shown, but without
  weight.

A class's photos also show the class itself, and with it much that only its object explains ("road"
on photos of cars). So pool photos that may show a class are left out of what is said of that class
(`kept`).

The null distribution comes from random visual concepts. A random mixture of the texts of the bank
and the built-in texts gets a direction and goes through every channel, exactly as a named concept
does. So a score answers: "is this concept nearer to the class than concepts in general are?"
Shuffled labels of photos would not answer this, because any set of photos that are alike projects
farther than a random set does.

In shapes, C is the number of audited classes, m of concepts, R of random concepts, n of photos, d
of features and e of numbers in a vector of the probe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from auditor.core.statistics import benjamini_hochberg, empirical_p
from auditor.core.vectors import unit_rows

__all__ = [
    "MIN_CLASSES",
    "WEIGHTS",
    "Directions",
    "Naming",
    "kept",
    "less_mean_class",
    "mixtures",
    "n_photos",
    "name",
    "named",
    "scale_of",
    "text_map",
    "textual",
]

Floats = NDArray[np.floating]

# Two channels have no weight. With a weak probe the map behind `textcav` is mostly noise. `direct`
# asks the probe about prototypes, which are unlike the photos that it was trained on.
WEIGHTS: Mapping[str, float] = {
    "bridge": 1.0,
    "head": 1.0,
    "association": 1.0,
    "prevalence": 1.0,
    "textcav": 0.0,
    "direct": 0.0,
}
TOP_SHARE = 0.04  # a direction is made from at most this share of the pool's photos
LEAST_KEPT = 1 / 3  # share of the pool that must be left; else no photos of the class are left out
BLOCK = 1000  # concepts that are scored on the photos at once, to save memory
MIN_CLASSES = 8  # with fewer classes, the mean over classes is not a useful centre


@dataclass(frozen=True)
class Directions:
    """Directions of m concepts in the audited model's standardised feature space.

    Attributes:
        vectors: float array of shape (m, d), unit vectors from photos; NaN where a concept was not
            tested.
        textual: float array of shape (m, d), unit vectors by the linear map from texts.
        shift: float array of shape (m, C), the channel `association` before it is standardised:
            by how much the concept changes the centred logit of each audited class, or for a
            drawn concept its log-odds.
        texts: float array of shape (m, e), the probe's unit vectors of the texts.
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
        channels: channel name -> float array of shape (C, m), in standard deviations of the null.
        score: float array of shape (C, m), the weighted mean of the channels, in standard
            deviations of its own null.
        p: float array of shape (C, m), p-values in (0, 1]; NaN where a concept was not tested.
        q: likewise, corrected over all pairs (Benjamini and Hochberg, 1995).
        p_model: likewise p, without the channel `prevalence`, which looks at photos of the class
            and not at the model.
        null: float array of shape (C, R), scores of the random concepts.
        threshold: the lowest score that would have a q below the level; infinite if none could.
    """

    channels: Mapping[str, Floats]
    score: Floats
    p: Floats
    q: Floats
    p_model: Floats
    null: Floats
    threshold: float
    # for `rescored`:
    _prototypes: Floats  # (C, d), as the channel `bridge` used them
    _weights: Floats  # (C, d), as the channel `head` used them
    _channel_scales: Mapping[str, tuple[Floats, Floats]]  # mean and deviation of nulls, each (C, 1)
    _score_scale: Floats  # (C, 1), what the weighted mean of the channels was divided by

    def rescored(
        self,
        row: int,
        column: int,
        vectors: Floats,
        prototypes: Floats,
        rng: np.random.Generator,
    ) -> Floats:
        """Bootstrap replicates of one score, float array of shape (replicates,).

        Only the channels `bridge` and `head` are computed again. The other channels, the null and
        the other classes stay as they are.

        Args:
            row, column: of the class and the concept in `score`.
            vectors: float array of shape (replicates, d), unit vectors: the resampled directions.
            prototypes: float array of shape (seeds, d), standardised features of the class's
                prototypes; they are resampled here.
            rng: random numbers for that.
        """
        n = len(prototypes)
        # each row of draws holds the weights of a resampled mean, with sum 1
        draws = rng.multinomial(n, np.full(n, 1 / n), size=len(vectors)) / n
        drawn = draws @ (prototypes - prototypes.mean(0)) + self._prototypes[row]
        values = {
            "bridge": (drawn * vectors).sum(1),
            "head": vectors @ self._weights[row],
        }
        replicated: dict[str, Floats] = {}
        for key, channel in self.channels.items():
            centre, deviation = self._channel_scales[key]
            replicated[key] = (
                (values[key] - centre[row, 0]) / deviation[row, 0]
                if key in values
                else np.full(len(vectors), channel[row, column])
            )
        return np.asarray(_combined(replicated) / self._score_scale[row, 0])


def kept(own: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pool photos that take part in what is said of a class, bool array of shape (n,).

    These are all photos that `own` does not mark. If they are less than `LEAST_KEPT` of the pool,
    all photos take part.

    Args:
        own: bool array of shape (n,), the photos that may show the class.
    """
    return ~own if (~own).mean() >= LEAST_KEPT else np.ones_like(own)


def n_photos(shown: int, pool: int) -> int:
    """How many of a pool's photos make a direction, given how many of them show the concept.

    All of those, but at least one, at most `TOP_SHARE` of the pool, and never the whole pool.

    >>> n_photos(shown=30, pool=400), n_photos(shown=3, pool=400)
    (16, 3)
    """
    return max(1, min(shown, round(TOP_SHARE * pool), pool - 1))


def mixtures(rows: Floats, n: int, rng: np.random.Generator) -> Floats:
    """Random visual concepts: n random mixtures of texts, as unit vectors of shape (n, e).

    A mixture lies in a random direction from the mean text, as far from it as texts are on average.
    `rows` has the probe's unit vectors of the texts, of shape (texts, e).
    """
    centre = rows.mean(0)
    mixed = rng.normal(size=(n, len(rows))) @ (rows - centre)
    typical = np.linalg.norm(rows - centre, axis=1).mean()
    mixed *= typical / np.linalg.norm(mixed, axis=1, keepdims=True)
    return unit_rows(mixed + centre)


def named(
    features: Floats,
    logits: Floats,
    level: Floats,
    photos: Floats,
    texts: Floats,
    counts: NDArray[np.int64],
    textual: Floats,
    kept: NDArray[np.bool_] | None = None,
) -> Directions:
    """Directions of concepts that are named by a text.

    Args:
        features: float array of shape (n, d), standardised features of the pool.
        logits: float array of shape (n, C), of the audited classes.
        level: float array of shape (n,), what is taken off each photo's logits.
        photos: float array of shape (n, e), the probe's unit vectors of the pool.
        texts: float array of shape (m, e), the probe's unit vectors of the texts.
        counts: int array of shape (m,), how many of the photos with the highest score make each
            direction; 0 for a concept that is not tested.
        textual: float array of shape (m, d), from `textual`.
        kept: bool array of shape (n,), the photos that take part; by default all.
    """
    if kept is not None and not kept.all():
        features, logits, level, photos = features[kept], logits[kept], level[kept], photos[kept]
    n = len(photos)
    counts = np.minimum(counts, n - 1)
    chosen: list[NDArray[np.int64]] = []  # by concept, positions of the photos it scores highest
    for start in range(0, len(texts), BLOCK):
        scores = texts[start : start + BLOCK] @ photos.T
        for row, count in zip(scores, counts[start : start + BLOCK], strict=True):
            chosen.append(np.argpartition(row, -count)[-count:] if count else np.zeros(0, np.int64))
    edges = np.cumsum([0, *counts])
    # 1 where a concept's direction takes a photo, of shape (m, n)
    membership = sparse.csr_array(
        (np.ones(edges[-1], features.dtype), np.concatenate(chosen), edges), shape=(len(texts), n)
    )

    def difference(values: Floats) -> Floats:
        """The mean of the photos that are taken, less the mean of the rest."""
        taken = membership @ values
        found = taken / np.maximum(counts, 1)[:, None]
        found -= (values.sum(0) - taken) / (n - counts)[:, None]
        found[counts == 0] = np.nan
        return np.asarray(found)

    shift = difference(logits) - difference(level[:, None])
    return Directions(unit_rows(difference(features)), textual, shift, texts)


def textual(texts: Floats, textcav: Floats) -> Floats:
    """Directions of texts (m, e) by the map of `text_map` (e, d): unit vectors, shape (m, d)."""
    return unit_rows((texts - texts.mean(0)) @ textcav)


def text_map(photos: Floats, features: Floats) -> Floats:
    """A linear map (e, d) from the probe's space to standardised features, by ridge regression.

    It is fitted on the pool: `photos` (n, e) are the probe's unit vectors, `features` has shape
    (n, d). The penalty, a tenth of the mean eigenvalue of the photos' scatter matrix, keeps the map
    small in directions in which the pool hardly varies.
    """
    centred = photos - photos.mean(0)
    gram = centred.T @ centred
    penalty = 0.1 * np.trace(gram) / len(gram)
    return np.asarray(np.linalg.solve(gram + penalty * np.eye(len(gram)), centred.T @ features))


def less_mean_class(rows: Floats) -> Floats:
    """What is said of each class less the mean over classes, where there are `MIN_CLASSES`.

    `rows` has one row for each class.
    """
    return rows - rows.mean(0) if len(rows) >= MIN_CLASSES else rows


def name(
    own: Mapping[str, Floats],
    random: Mapping[str, Floats],
    prototypes: Floats,
    weights: Floats,
    *,
    q_level: float,
) -> Naming:
    """Score every class and concept and test all pairs at once.

    From each channel the mean of the random concepts is taken off, and what is left is divided by
    their standard deviation. The score is the weighted mean of the channels that a concept has,
    divided by the standard deviation of the same mean over the random concepts. p compares a score
    with the random concepts' scores of all classes together.

    Args:
        own: for each channel of `WEIGHTS`, a float array of shape (C, m): the m concepts.
        random: likewise, of shape (C, R): the R random concepts, which were made in the same way.
        prototypes, weights: float arrays of shape (C, d), which the channels `bridge` and `head`
            were made with.
        q_level: the level of q, from which the threshold follows, given how many pairs are below
            the level.
    """
    channels: dict[str, Floats] = {}
    nulls: dict[str, Floats] = {}
    scales: dict[str, tuple[Floats, Floats]] = {}
    for key in WEIGHTS:
        centre, deviation = scales[key] = scale_of(random[key])
        channels[key] = (own[key] - centre) / deviation
        nulls[key] = (random[key] - centre) / deviation
    score, null_score, scale, p = _against_null(channels, nulls)
    model = {key: values for key, values in channels.items() if key != "prevalence"}
    *_, p_model = _against_null(model, nulls)
    null_all = null_score.ravel()
    q = benjamini_hochberg(p)
    # the largest p that the correction accepts: level * number of pairs below it / number tested
    allowed = q_level * (max(1, int((q < q_level).sum())) / max(1, int(np.isfinite(p).sum())))
    resolved = allowed * (null_all.size + 1) >= 1  # else even the smallest possible p is too large
    threshold = float(np.quantile(null_all, max(0.0, 1 - allowed))) if resolved else np.inf
    return Naming(
        channels, score, p, q, p_model, null_score, threshold, prototypes, weights, scales, scale
    )


def scale_of(null: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation, each of shape (C, 1), of each class's null of shape (C, R).

    A null that does not vary gets the deviation 1.
    """
    deviation = null.std(1, keepdims=True)
    return null.mean(1, keepdims=True), np.where(_constant(null, deviation), 1.0, deviation)


def _constant(null: Floats, deviation: Floats) -> NDArray[np.bool_]:
    """Which rows of a null (C, R) vary by rounding errors alone, given their deviations (C, 1)."""
    return np.asarray(deviation <= 1e-9 * np.abs(null).max(1, keepdims=True))


def _against_null(
    channels: Mapping[str, Floats], nulls: Mapping[str, Floats]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Combine channels and compare the scores with those of the random concepts.

    Returns:
        The scores (C, m), the scores of the random concepts (C, R), what both were divided by
        (C, 1), and the p-values (C, m), NaN where a concept was not tested.
    """
    score = _combined(channels)
    null_score = _combined({key: nulls[key] for key in channels})
    scale = null_score.std(1, keepdims=True)
    # with a null that does not vary nothing can be said: an infinite scale makes scores 0 and p 1
    scale[_constant(null_score, scale)] = np.inf
    score, null_score = score / scale, null_score / scale
    p = empirical_p(np.nan_to_num(score), null_score.ravel())
    return score, null_score, scale, np.where(np.isfinite(score), p, np.nan)


def _combined(channels: Mapping[str, Floats]) -> Floats:
    """Weighted mean of the channels that are not NaN; NaN where a concept was not tested."""
    total = np.zeros_like(channels["bridge"])
    weight = np.zeros_like(total)
    for key, values in channels.items():
        total += WEIGHTS[key] * np.nan_to_num(values)
        weight += WEIGHTS[key] * np.isfinite(values)
    # the bridge is NaN just where there is no direction; 1e-12 avoids a division by 0 there
    return np.where(np.isfinite(channels["bridge"]), total / np.maximum(weight, 1e-12), np.nan)
