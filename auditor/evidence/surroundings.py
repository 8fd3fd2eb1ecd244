"""Surroundings transplanted: what stands around photos of a concept, put around other objects.

A class and what usually surrounds it cannot be told apart on whole photos. Here the middle of a
labelled photo keeps its object, and everything around it comes from a pool photo; the change of a
class's log-odds is then due to the surroundings alone. Surroundings of pool photos that show a
concept are compared with surroundings of those that don't, on the same middles. So a concept that
no code can draw is put to an experiment too, as far as it lies around the middle; what else these
surroundings have in common is not told apart from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.core.statistics import stratified_differences
from auditor.core.vectors import log_odds
from auditor.images.image_set import ImageSet
from auditor.models.hardware import Parts
from auditor.models.loading import Classifier

__all__ = [
    "DONORS",
    "RECIPIENTS",
    "Surroundings",
    "choose_recipients",
    "composed",
    "p_values",
    "transplant",
]

Floats = NDArray[np.floating]

DONORS = 1024  # pool photos whose surroundings are tried
RECIPIENTS = 8  # photos whose middles they are put around
RADIUS = 0.36  # of the middle that is kept, in sides: a centred object's
CERTAIN = 1e-12  # a probability nearer to 1 is not told from it
EDGE = 0.05  # over which the middle fades into the surroundings


@dataclass(frozen=True)
class Surroundings:
    """What the surroundings of n pool photos do to the audited classes.

    Attributes:
        log_odds: float array of shape (n, C): of each class, mean over the middles of other
            classes. Photos are comparable, for all stand around the same middles.
    """

    log_odds: Floats


def choose_recipients(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of photos whose middles are used: as many classes as possible, at random."""
    order = rng.permutation(len(labels))
    _, first = np.unique(labels[order], return_index=True)
    one_each = order[rng.permutation(first)]
    rest = order[~np.isin(order, one_each)]
    return np.sort(np.concatenate([one_each, rest])[:RECIPIENTS])


def transplant(
    classifier: Classifier,
    middles: Tensor,
    labels: NDArray[np.int64],
    donors: ImageSet,
    classes: Sequence[int],
    *,
    batch: int,
) -> Surroundings:
    """Put the surroundings of every donor around every middle and run them through the model.

    Args:
        classifier: the audited model.
        middles: float tensor of shape (r, 3, H, W) in [0, 1].
        labels: int array of shape (r,), their classes; a class is measured on middles of others.
        donors: photos whose surroundings are used.
        classes: the audited classes.
        batch: images per forward pass.
    """
    device = next(iter(classifier.net.parameters())).device
    middles = middles.to(device)
    others = labels[:, None] != np.array(classes)[None, :]
    per_class = np.maximum(others.sum(0), 1)
    rows = []
    at_once = Parts(batch)
    with torch.inference_mode():
        for part in donors.batches(classifier.preprocess.fit, size=max(1, batch // len(middles))):
            mixed = composed(middles, part.to(device)).flatten(0, 1)
            logits = torch.cat(list(at_once(classifier.logits, mixed)))
            logs = logits.cpu().double().log_softmax(1)[:, list(classes)]
            odds = log_odds(logs.numpy(), least=CERTAIN).reshape(len(part), len(middles), -1)
            rows.append((odds * others).sum(1) / per_class)
    return Surroundings(np.concatenate(rows))


def composed(middles: Tensor, donors: Tensor) -> Tensor:
    """Each donor's surroundings around each middle.

    Args:
        middles: float tensor of shape (r, 3, H, W) in [0, 1].
        donors: float tensor of shape (n, 3, H, W) in [0, 1].

    Returns:
        Float tensor of shape (n, r, 3, H, W) in [0, 1].
    """
    keep = _mask(*middles.shape[-2:]).to(middles.device)
    return donors[:, None] * (1 - keep) + middles[None] * keep


def p_values(
    around: Surroundings,
    shown: NDArray[np.bool_],
    own: NDArray[np.bool_],
    labels: NDArray[np.int64] | None,
    *,
    min_photos: int,
) -> Floats:
    """One-sided p-values of all pairs of class and concept, of shape (C, m).

    Of all pairs, so that they can be corrected for together and no choice comes before it.

    Args:
        around: from `transplant`, of n photos.
        shown: bool array of shape (n, m), donors that show each concept.
        own: bool array of shape (n, C), donors of the class itself, as far as is known: they are
            left out, for their object may reach beyond the middle.
        labels: int array of shape (n,), the donors' classes where they are known: the comparison
            is then made within classes.
        min_photos: concepts that fewer donors show are not tested and get NaN.
    """
    p = np.full((own.shape[1], shown.shape[1]), np.nan)
    strata = np.zeros(len(shown), np.int64) if labels is None else labels
    for row, excluded in enumerate(own.T):
        inside = ~excluded
        found = stratified_differences(around.log_odds[inside, row], shown[inside], strata[inside])
        p[row] = np.where(found.n >= min_photos, found.p, np.nan)
    return p


def _mask(height: int, width: int) -> Tensor:
    """1 in the middle, 0 around it, of shape (H, W), with a soft edge."""
    y = (torch.arange(height) + 0.5) / height - 0.5
    x = (torch.arange(width) + 0.5) / width - 0.5
    distance = torch.hypot(y[:, None], x[None, :])
    return ((RADIUS - distance) / EDGE + 0.5).clamp(0, 1)
