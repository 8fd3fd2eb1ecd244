"""Divergence of prototypes from natural photos along the activation path.

Normalised path similarity after Geirhos et al., "Don't trust your eyes" (arXiv 2306.04719), per
layer l, with rho the mean Spearman correlation of pooled channel vectors over pairs of images,
same-image pairs left out:

    S(l) = (rho(proto_c, nat_c) - rho(nat_c, nat_other)) / D(l)
    C(l) = (rho(proto_c, nat_c) - rho(proto_c, nat_other)) / D(l)
    D(l) = rho(nat_c, nat_c') - rho(nat_c, nat_other)

C is class-specific: matching statistics of generic photos cannot raise it. A class's similarity is
the ratio of the sums of numerators and denominators over layers, so that each layer counts by how
much it tells the class from others; where a layer hardly does, S alone explodes. Divergence is one
minus that. Layers whose statistics the optimisation held to photos are listed and do not count:
resemblance that was asked for is no evidence. Divergence says how far prototypes can be trusted as
evidence; that it predicts harm is not known, so the report sets the two side by side.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from auditor.core import seeds
from auditor.core.estimates import Estimate
from auditor.core.statistics import bootstrap_weights, interval, rank_rows
from auditor.record.schema import Divergence, LayerDivergence, Reason

__all__ = ["compare"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class _Path:
    """Numerators and denominator of one class in one layer: point values and replicates."""

    normalised: Doubles  # (1 + replicates,)
    specific: Doubles
    separation: Doubles

    def __add__(self, other: _Path) -> _Path:
        return _Path(
            self.normalised + other.normalised,
            self.specific + other.specific,
            self.separation + other.separation,
        )


@dataclass(frozen=True)
class _Members:
    """A class's images among all, and how often each replicate draws them.

    Attributes:
        photos, prototypes: positions of those of the class, int arrays.
        photo_draws: int array of shape (replicates, photos of the class), in two bytes each, for
            there are many classes.
        prototype_draws: likewise.
    """

    photos: NDArray[np.int64]
    prototypes: NDArray[np.int64]
    photo_draws: NDArray[np.uint16]
    prototype_draws: NDArray[np.uint16]

    @staticmethod
    def drawn(
        photos: NDArray[np.int64],
        prototypes: NDArray[np.int64],
        replicates: int,
        rng: np.random.Generator,
    ) -> _Members:
        """These images, and replicates of them: first of the photos, then of the prototypes."""
        photo_draws, prototype_draws = (
            bootstrap_weights(len(own), replicates, rng).astype(np.uint16)
            for own in (photos, prototypes)
        )
        return _Members(photos, prototypes, photo_draws, prototype_draws)


def compare(
    prototypes: Mapping[str, Floats],
    prototype_classes: NDArray[np.int64],
    photos: Mapping[str, Floats],
    photo_classes: NDArray[np.int64],
    classes: tuple[int, ...],
    *,
    used: Collection[str] = (),
    min_photos: int,
    replicates: int,
    seed: int,
) -> dict[int, Divergence]:
    """Divergence of each class, with intervals over photos and prototypes, and rank intervals.

    Args:
        prototypes: layer -> float array of shape (n_prototypes, channels).
        prototype_classes: int array of shape (n_prototypes,).
        photos: layer -> float array of shape (n_photos, channels).
        photo_classes: int array of shape (n_photos,).
        classes: the audited classes.
        used: layers that the optimisation held to photos; they are listed and do not count.
        min_photos: with fewer photos a class is not tested.
        replicates: bootstrap replicates.
        seed: of the bootstrap.

    >>> rows = np.array([[1, 2, 3], [1, 2, 3], [3, 2, 1], [3, 2, 1]], np.float32)
    >>> labels, path = np.array([0, 0, 1, 1]), {"conv": rows}
    >>> compared = compare(path, labels, path, labels, (0, 1), min_photos=2, replicates=9, seed=0)
    >>> compared[0].score.value
    0.0
    """
    counted = [name for name in photos if name not in used]
    rng = seeds.stream(seed, "divergence")
    reasons: dict[int, Reason] = {}
    members: dict[int, _Members] = {}
    for c in classes:
        of_class, made_of_class = (
            np.flatnonzero(owners == c) for owners in (photo_classes, prototype_classes)
        )
        reason = _untestable(of_class, made_of_class, len(photo_classes), min_photos)
        if reason is None and not counted:
            reason = Reason(code="all_layers_held")
        if reason is None:
            members[c] = _Members.drawn(of_class, made_of_class, replicates, rng)
        else:
            reasons[c] = reason
    sums = {c: _Path(*(np.zeros(1 + replicates) for _ in range(3))) for c in members}
    layers: dict[int, list[LayerDivergence]] = {c: [] for c in members}
    for name, values in photos.items() if members else ():
        made_values = prototypes[name]
        scale = float(np.abs(values).mean()) or 1.0
        for c, path in _paths(values, made_values, members).items():
            if name in counted:
                sums[c] += path
            own, made = values[members[c].photos], made_values[members[c].prototypes]
            layers[c].append(_layer(path, own, made, name=name, used=name in used, scale=scale))
    scores = {c: 1 - _ratio(path.normalised, path.separation) for c, path in sums.items()}
    ranks = dict(zip(scores, _ranks(np.stack([*scores.values()])), strict=True)) if scores else {}
    result = {c: _not_tested(reason) for c, reason in reasons.items()}
    for c, score in scores.items():
        rank, low, high = (int(value) for value in ranks[c])
        n = len(members[c].photos)
        result[c] = Divergence(
            score=_estimate(score, n),
            class_specific=_estimate(_ratio(sums[c].specific, sums[c].separation), n),
            rank=rank,
            rank_low=low,
            rank_high=high,
            reason=None if np.isfinite(score[0]) else Reason(code="photos_unalike"),
            layers=tuple(layers[c]),
        )
    return {c: result[c] for c in classes}


def _not_tested(reason: Reason) -> Divergence:
    return Divergence(
        score=None, class_specific=None, rank=None, rank_low=None, rank_high=None,
        reason=reason, layers=(),
    )  # fmt: skip


def _untestable(
    own: NDArray[np.int64], made: NDArray[np.int64], photos: int, min_photos: int
) -> Reason | None:
    """Why a class with these photos, of so many in all, and prototypes is not tested."""
    n = len(own)
    if n < min_photos:
        return Reason(code="few_photos", params={"photos": n, "needed": min_photos})
    if photos - n < min_photos:
        return Reason(code="few_other_photos", params={"photos": photos - n})
    return None if len(made) else Reason(code="no_prototype")


def _paths(photos: Floats, prototypes: Floats, members: Mapping[int, _Members]) -> dict[int, _Path]:
    """Numerators and denominator of each class in one layer.

    Args:
        photos: float array of shape (n_photos, channels).
        prototypes: float array of shape (n_prototypes, channels).
        members: of the classes.
    """
    natural, synthetic = rank_rows(photos), rank_rows(prototypes)
    whole = natural.sum(0, dtype=np.float64)
    paths = {}
    for c, of_class in members.items():
        own, proto = natural[of_class.photos], synthetic[of_class.prototypes]
        others = (whole - own.sum(0)) / (len(natural) - len(own))
        paths[c] = _path(own, proto, others, of_class)
    return paths


def _path(own: Floats, proto: Floats, others: Doubles, members: _Members) -> _Path:
    """Numerators and denominator with every replicate; the first entry uses each image once."""
    n, m = len(own), len(proto)
    photo_weights = np.concatenate([np.ones((1, n)), members.photo_draws])
    proto_weights = np.concatenate([np.ones((1, m)), members.prototype_draws])
    own_sum = photo_weights @ own
    proto_mean = proto_weights @ proto / m
    # sum over ordered pairs of different photos; a photo drawn twice is not a pair with itself
    pairs = n**2 - (photo_weights**2).sum(1)
    norms = (own.astype(np.float64) ** 2).sum(1)
    same = ((own_sum**2).sum(1) - (photo_weights**2) @ norms) / np.where(pairs > 0, pairs, np.nan)
    floor = own_sum @ others / n
    near = (proto_mean * own_sum).sum(1) / n
    return _Path(near - floor, near - proto_mean @ others, same - floor)


def _ratio(numerator: Doubles, denominator: Doubles) -> Doubles:
    return np.divide(
        numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 1e-9
    )


def _layer(
    path: _Path, own: Floats, proto: Floats, *, name: str, used: bool, scale: float
) -> LayerDivergence:
    """One layer's figures; Spearman and L1 compare class means, as Tagade and Rumbelow do.

    L1 is the mean absolute difference of channels over the mean absolute activation of all photos.
    """
    distinct = path.separation[0] > 1e-9
    mean, mean_proto = own.mean(0), proto.mean(0)
    varies = np.ptp(mean) > 0 and np.ptp(mean_proto) > 0
    return LayerDivergence(
        name=name,
        used=used,
        normalised=float(path.normalised[0] / path.separation[0]) if distinct else None,
        class_specific=float(path.specific[0] / path.separation[0]) if distinct else None,
        spearman=float(stats.spearmanr(mean_proto, mean).statistic) if varies else None,
        l1=float(np.abs(mean_proto - mean).mean() / scale),
    )


def _estimate(values: Doubles, n: int) -> Estimate | None:
    return interval(float(values[0]), values[1:], n) if np.isfinite(values[0]) else None


def _ranks(scores: Doubles) -> NDArray[np.int64]:
    """Rank (1 = most divergent) of each class, and its 95 % interval over replicates."""
    filled = np.where(np.isfinite(scores), scores, -np.inf)
    places = stats.rankdata(-filled, axis=0, method="min")
    low, high = np.quantile(places[:, 1:], [0.025, 0.975], axis=1, method="nearest")
    return np.stack(
        [places[:, 0], np.minimum(low, places[:, 0]), np.maximum(high, places[:, 0])], axis=1
    ).astype(np.int64)
