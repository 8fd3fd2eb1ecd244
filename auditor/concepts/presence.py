"""What photos show, to the eye of the CLIP probe: concepts, drawings, and the classes themselves.

The probe's rows of photos and of texts are unit vectors of one space. Everything is relative to the
photos at hand: a text fits a photo when it fits it better than it fits photos on average.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from auditor.concepts.probes import ProbeModel

__all__ = ["likely_classes", "own_photos", "presence", "prevalence", "shows", "whitening"]

Floats = NDArray[np.floating]

MOST_LIKELY = 10  # classes that a photo without a label may show
ROWS = 1024  # photos at once, to save memory
PLACES = 0.03  # a photo shows a concept that is among this share of the bank that fits it best


def presence(photos: Floats, texts: Floats) -> Floats:
    """How much more each photo fits each text than photos on average do.

    Args:
        photos: float array of shape (n, e), unit rows.
        texts: float array of shape (m, e).

    Returns:
        Float array of shape (n, m), mean 0 over photos.
    """
    return np.asarray((photos - photos.mean(0)) @ texts.T)


def shows(scores: Floats) -> NDArray[np.bool_]:
    """Which photos show which concepts: those among the best few of the bank for the photo.

    Centred scores are compared without rescaling them per concept, so a concept that no photo of
    the pool excites is shown by none.

    Args:
        scores: float array of shape (n, m), from `presence`.

    >>> shows(np.array([[0.4, 0.3, 0.2, 0.1], [0.1, -0.2, -0.3, -0.4]])).astype(int).tolist()
    [[1, 1, 1, 0], [1, 0, 0, 0]]
    """
    places = max(3, round(PLACES * scores.shape[1]))
    if scores.shape[1] <= places:
        return np.asarray(scores > 0)
    edge = np.partition(scores, -places, axis=1)[:, -places][:, None]
    return np.asarray((scores >= edge) & (scores > 0))


def prevalence(
    photos: Floats,
    labels: NDArray[np.int64],
    classes: tuple[int, ...],
    looks: Floats,
    *,
    min_photos: int,
) -> Floats:
    """How much more photos of each class show each concept than photos of other classes do.

    Args:
        photos: float array of shape (n, e), unit rows.
        labels: int array of shape (n,).
        classes: the audited classes.
        looks: float array of shape (m, e), rows by which concepts are seen.
        min_photos: with fewer of the class, or of others, a class's row is NaN: not known.

    Returns:
        Float array of shape (C, m), differences of mean presence.
    """
    rows, n = np.full((len(classes), photos.shape[1]), np.nan), len(labels)
    whole = photos.sum(0, dtype=np.float64)
    for row, index in enumerate(classes):
        own = np.flatnonzero(labels == index)
        if min_photos <= len(own) <= n - min_photos:
            shown = photos[own].sum(0, dtype=np.float64)
            rows[row] = shown / len(own) - (whole - shown) / (n - len(own))
    return np.asarray(rows @ looks.T)


def whitening(pool: Floats, labels: Sequence[int] | None = None) -> Floats:
    """What makes the probe's rows vary alike in all directions, as far as the pool allows it.

    What a drawing changes in the probe's rows is known from pairs, which says more of it than a
    text. The mean change, whitened twice, is Fisher's discriminant: photos told by it are told by
    what the drawing changes and photos at large do not vary in. Where classes are known, they do
    not vary within a class: between classes they may vary by the very shortcut that is looked for.
    Directions in which the pool hardly varies are held back by a tenth of the mean variance.

    Args:
        pool: float array of shape (n, e), the probe's rows.
        labels: of n photos, their classes, where they are known.

    Returns:
        Symmetric float array of shape (e, e), the inverse root of their covariance.
    """
    strata = np.zeros(len(pool), np.int64) if labels is None else np.array(labels)
    centred = np.empty_like(pool)
    for stratum in np.unique(strata):
        inside = strata == stratum
        centred[inside] = pool[inside] - pool[inside].mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(pool))
    values = np.maximum(values, 0) + 0.1 * values.mean()
    return np.asarray(vectors / np.sqrt(values) @ vectors.T)


def likely_classes(photos: Floats, names: Floats, most: int | None = None) -> NDArray[np.bool_]:
    """Which classes each photo may show, to the probe's eye: the best tenth of the class names.

    Args:
        photos: float array of shape (n, e), the probe's unit rows of photos.
        names: float array of shape (C, e), its unit rows of the class names.
        most: classes that a photo may show; by default as many as a tenth is.

    Returns:
        Bool array of shape (n, C), at least one class in each row.
    """
    places = max(1, round(0.1 * len(names)))
    places = places if most is None else min(places, most)
    centred, mean = (names - names.mean(0)).T, photos.mean(0)
    found = np.empty((len(photos), len(names)), bool)
    for start in range(0, len(photos), ROWS):
        scores = (photos[start : start + ROWS] - mean) @ centred
        edge = np.partition(scores, -places, axis=1)[:, -places][:, None]
        found[start : start + ROWS] = scores >= edge
    return found


def own_photos(
    probe: ProbeModel,
    rows: Floats,
    labels: Sequence[int] | None,
    classes: tuple[int, ...],
    names: tuple[str, ...],
    *,
    most: int | None = MOST_LIKELY,
) -> NDArray[np.bool_]:
    """Which audited classes each photo may show: by its label or, without one, by the probe.

    All classes of the model compete for a photo, not the audited ones alone: of 50 audited ImageNet
    classes a tenth of the names would take a tenth of any photos away, snow for "dogsled" among
    them. *Measured* on 50 such classes: published spurious features among the first five 0.70 with
    that, 0.74 as it is and where nothing is left out.

    Args:
        probe: reads the names.
        rows: float array of shape (n, e), its unit rows of the photos.
        labels: of the photos, where they are known.
        classes: the audited classes.
        names: of all classes.
        most: classes that a photo without a label may show; `None` for as many as a tenth is.

    Returns:
        Bool array of shape (n, C).
    """
    if labels is not None:
        return np.asarray(np.array(labels)[:, None] == np.array(classes))
    texts = probe.encode_texts([f"a photo of a {name}" for name in names])
    return likely_classes(rows, texts.cpu().numpy(), most)[:, list(classes)]
