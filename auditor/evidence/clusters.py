"""Clusters of photos and prototypes in the model's feature space, and what the probe calls them.

The photos of each class are divided first, into as many groups as their silhouette supports, if it
exceeds that of photos of a single mode with the same covariance, divided likewise (after Liu et
al., 2008, with the silhouette in place of their cluster index; a single mode with a long tail to
one side can still be divided). Groups of different classes that lie closer together than photos
within them do are then joined. So a cluster is a mode of one class, or something that several
classes share. Prototypes fall in the cluster whose centre is nearest.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score

from auditor.core.statistics import benjamini_hochberg

__all__ = ["Group", "group", "name_groups"]

COMPONENTS = 50
MAX_GROUPS = 5  # per class
MIN_SILHOUETTE = 0.15  # a weaker division is not worth a reader's time
REFERENCES = 19  # drawn from a single mode; a division that beats all has p <= 0.05
MIN_SIZE = 5
MIN_AUC = 0.75  # a name must fit: three of four pairs of a member and a non-member are ordered

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Group:
    """One cluster: indices of its photos, nearest to its centre first, and of its prototypes."""

    photos: tuple[int, ...]
    prototypes: tuple[int, ...]


def group(
    features: Floats,
    classes: NDArray[np.int64],
    prototype_features: Floats,
    *,
    seed: int,
) -> tuple[Group, ...]:
    """Group photos by class, join what classes share, and place prototypes.

    Args:
        features: float array of shape (n, d), the model's features of labelled photos.
        classes: int array of shape (n,), their classes.
        prototype_features: float array of shape (m, d).
        seed: of k-means.

    Returns:
        Clusters of at least five photos, largest first.
    """
    if len(features) < MIN_SIZE:
        return ()
    deviation = features.std(0)
    used = deviation > 0
    if not used.any():
        return ()
    mean = features.mean(0)

    def scaled(values: Floats) -> Floats:
        return np.asarray((values[:, used] - mean[used]) / deviation[used])

    pca = PCA(min(COMPONENTS, len(features) - 1, int(used.sum())), random_state=seed)
    points = pca.fit_transform(scaled(features))
    parts: list[NDArray[np.int64]] = []
    for c in np.unique(classes):
        members = np.flatnonzero(classes == c)
        parts += [members[labels] for labels in _divided(points[members], seed)]
    joined = _joined(points, parts)
    groups = [members for members in joined if len(members) >= MIN_SIZE]
    groups.sort(key=lambda members: (-len(members), int(members[0])))
    if not groups:
        return ()
    centres = np.stack([points[members].mean(0) for members in groups])
    nearest = np.zeros(0, int)
    if len(prototype_features):
        placed = pca.transform(scaled(prototype_features))
        nearest = np.linalg.norm(placed[:, None] - centres[None], axis=2).argmin(1)
    result = []
    for k, members in enumerate(groups):
        order = np.argsort(np.linalg.norm(points[members] - centres[k], axis=1), kind="stable")
        result.append(
            Group(
                tuple(int(i) for i in members[order]),
                tuple(int(i) for i in np.flatnonzero(nearest == k)),
            )
        )
    return tuple(result)


def name_groups(
    groups: Sequence[Group], scores: Floats, tested: NDArray[np.bool_], *, q_level: float
) -> tuple[tuple[int, float] | None, ...]:
    """The concept that sets each cluster apart from all other photos, or `None` for "unnamed".

    Args:
        groups: clusters.
        scores: float array of shape (n_photos, n_concepts), the probe's scores.
        tested: bool array of shape (n_concepts,), concepts that may be named.
        q_level: the Benjamini-Hochberg level over all clusters and concepts (Mann-Whitney test).

    Returns:
        For each cluster the concept's column and its AUC, where q is below the level and the AUC
        at least 0.75.
    """
    n = len(scores)
    if not groups:
        return ()
    ranks = stats.rankdata(scores, axis=0)
    auc = np.full((len(groups), scores.shape[1]), np.nan)
    p = np.full_like(auc, np.nan)
    for row, members in enumerate(groups):
        inside = len(members.photos)
        outside = n - inside
        if outside < MIN_SIZE:
            continue
        u = ranks[list(members.photos)].sum(0) - inside * (inside + 1) / 2
        auc[row] = u / (inside * outside)
        deviation = np.sqrt(inside * outside * (n + 1) / 12)
        p[row] = stats.norm.sf((u - inside * outside / 2) / deviation)
    p[:, ~tested] = np.nan
    q = benjamini_hochberg(p)
    names: list[tuple[int, float] | None] = []
    for row in range(len(groups)):
        fits = np.where((q[row] < q_level) & (auc[row] >= MIN_AUC), auc[row], -np.inf)
        best = int(fits.argmax())
        names.append((best, float(auc[row, best])) if np.isfinite(fits[best]) else None)
    return tuple(names)


def _divided(points: Floats, seed: int) -> list[NDArray[np.int64]]:
    """Indices of the groups that one class falls into; a single group where none is supported."""
    whole = [np.arange(len(points))]
    score, labels = _best_division(points, seed)
    if score <= MIN_SILHOUETTE:
        return whole
    k = int(labels.max()) + 1
    rng = np.random.default_rng(seed)
    _, deviations, axes = np.linalg.svd(points - points.mean(0), full_matrices=False)
    spread = deviations[:, None] * axes / np.sqrt(len(points) - 1)
    for _ in range(REFERENCES):
        single = rng.normal(size=(len(points), len(spread))) @ spread
        if _best_division(single, seed)[0] >= score:
            return whole
    return [np.flatnonzero(labels == each) for each in range(k)]


def _best_division(points: Floats, seed: int) -> tuple[float, NDArray[np.int64]]:
    """Silhouette and labels of the best division; 0 where there are too few points for any."""
    tried = [
        _division(points, k, seed) for k in range(2, min(MAX_GROUPS, len(points) // MIN_SIZE) + 1)
    ]
    return max(tried, key=lambda each: each[0], default=(0.0, np.zeros(len(points), np.int64)))


def _division(points: Floats, k: int, seed: int) -> tuple[float, NDArray[np.int64]]:
    """Silhouette and labels of a division in k groups; -1 where one of them is too small."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # copies of photos: too few to divide
        labels = KMeans(k, n_init=4, random_state=seed).fit_predict(points)
    if np.bincount(labels, minlength=k).min() < MIN_SIZE:
        return -1.0, labels
    return float(silhouette_score(points, labels)), labels


def _joined(points: Floats, parts: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """Join groups whose centres are closer than the typical photo is to its own centre."""
    if len(parts) < 2:
        return parts
    centres = np.stack([points[members].mean(0) for members in parts])
    radii = [
        np.median(np.linalg.norm(points[members] - centre, axis=1))
        for members, centre in zip(parts, centres, strict=True)
        if len(members) > 1
    ]
    threshold = float(np.median(radii)) if radii else 0.0
    labels = AgglomerativeClustering(
        n_clusters=None, distance_threshold=max(threshold, 1e-12), linkage="complete"
    ).fit_predict(centres)
    return [
        np.sort(np.concatenate([parts[i] for i in np.flatnonzero(labels == k)]))
        for k in range(labels.max() + 1)
    ]
