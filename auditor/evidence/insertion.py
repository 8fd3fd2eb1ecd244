"""Counterfactuals: drawn concepts inserted in photos, each against a matched null edit.

A drawn concept is put on photos and the change in the model's output is compared with the change
that an edit of the same place, area and energy makes, which lacks the concept's meaning. The same
pairs give the concept its direction in feature space: the paired difference is far cleaner than any
text can name.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from auditor.core import seeds
from auditor.core.estimates import Estimate
from auditor.core.statistics import bootstrap_weights, interval
from auditor.core.vectors import log_odds
from auditor.drawing import drawings
from auditor.models.activations import pooled, recorded
from auditor.models.hardware import Parts
from auditor.models.layers import Layers
from auditor.models.loading import Classifier

__all__ = [
    "MATERIAL",
    "MATERIAL_LOG_ODDS",
    "Effect",
    "Insertions",
    "answer",
    "draw",
    "draw_pairs",
    "photo_seed",
    "test",
]

Floats = NDArray[np.float32]

# Less convicts nobody: a point of mean probability, and odds twice those with the control.
MATERIAL = 0.01
MATERIAL_LOG_ODDS = float(np.log(2))
CERTAIN = 1e-9  # a probability nearer to 1 is not told from it


@dataclass(frozen=True)
class Insertions:
    """One drawn concept on n photos.

    Attributes:
        features: float array of shape (n, d), the change of each photo's standardised features.
        log_probabilities: float array of shape (3, n, K): the photo, the concept, the control.
    """

    features: Floats
    log_probabilities: Floats

    @staticmethod
    def of(answers: Sequence[tuple[Floats, Floats]], scale: Floats) -> Insertions:
        """From what `answer` gives for the photos, for those with the concept, and the control.

        Args:
            answers: three pairs, in this order.
            scale: float array of shape (d,) that the features are divided by.
        """
        (plain, _), (drawn, _), _ = answers
        return Insertions((drawn - plain) / scale, np.stack([logs for _, logs in answers]))

    def shift(self, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean change of each class's log-odds by the concept on photos of other classes, (K,).

        Args:
            labels: int array of shape (n,); a class that all photos show gets their mean.
        """
        plain, edited = log_odds(self.log_probabilities[:2], least=CERTAIN)
        others = labels[:, None] != np.arange(plain.shape[1])
        others |= ~others.any(0)
        return np.asarray(((edited - plain) * others).sum(0) / others.sum(0))


@dataclass(frozen=True)
class Effect:
    """Change of p(class) by the concept, by its control, and their difference.

    `excess` is the mean over photos of the concept's change less the control's on the same photo;
    `log_odds` is the median over photos of how much farther than the control the concept moves the
    log-odds of the class, and `log_odds_high` the upper end of its 95 % interval; `p` is the
    p-value of the difference.
    """

    effect: Estimate
    control: Estimate
    log_odds: float
    log_odds_high: float
    p: float
    excess: Estimate

    @property
    def confirmed(self) -> bool:
        """The effect's lower bound exceeds the control's upper bound, and it is material."""
        return (
            self.effect.low > max(self.control.high, 0.0)
            and self.effect.value >= MATERIAL
            and self.log_odds >= MATERIAL_LOG_ODDS
        )

    @property
    def exceeds(self) -> bool:
        """The concept raises the class, materially and on average more than its control does.

        Weaker than `confirmed`: the control may account for most of it.
        """
        return self.effect.low > 0 and self.effect.value >= MATERIAL and self.excess.low > 0

    @property
    def excluded(self) -> bool:
        """The interval excludes that the concept moves the class materially above its control."""
        return self.log_odds_high < MATERIAL_LOG_ODDS


def draw(name: str, photos: Tensor, *, seed: int) -> Tensor:
    """Photos with a concept drawn on them; in threads.

    Args:
        name: a drawing of `auditor.drawing.drawings`.
        photos: float tensor of shape (n, 3, H, W) in [0, 1].
        seed: places and wordings are drawn from it and the photo's place in the row.

    Returns:
        a tensor of the same shape.
    """

    def one(place: int) -> Tensor:
        return drawings.draw(name, photos[place], seed=photo_seed(seed, place))

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return torch.stack(list(pool.map(one, range(len(photos)))))


def draw_pairs(name: str, photos: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
    """The same, and photos with the concept's control."""

    def pair(place: int) -> tuple[Tensor, Tensor]:
        return drawings.draw_pair(name, photos[place], seed=photo_seed(seed, place))

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        drawn, controls = zip(*pool.map(pair, range(len(photos))), strict=True)
    return torch.stack(drawn), torch.stack(controls)


def answer(
    classifier: Classifier, layers: Layers, images: Tensor, *, batch: int
) -> tuple[Floats, Floats]:
    """What a model makes of images.

    Args:
        classifier: the audited model.
        layers: its layers.
        images: float tensor of shape (n, 3, H, W) in [0, 1].
        batch: images per forward pass.

    Returns:
        features, float array of shape (n, d), and log-probabilities, of shape (n, K).
    """
    device = next(iter(classifier.net.parameters())).device
    with torch.inference_mode(), recorded(classifier.net, layers) as values:

        def run(part: Tensor) -> tuple[Floats, Floats]:
            logs = classifier.logits(part.to(device)).float().log_softmax(1)
            features = pooled(values[""], layers.channel_axis[""])
            return features.cpu().numpy(), logs.cpu().numpy()

        features, logs = zip(*Parts(batch)(run, images), strict=True)
    return np.concatenate(features), np.concatenate(logs)


def photo_seed(seed: int, place: int) -> int:
    """The seed of the drawing on the photo at a place of the row."""
    return seed + 7919 * place


@functools.lru_cache(maxsize=8)
def _weights(n: int, replicates: int, seed: int, class_index: int) -> NDArray[np.float64]:
    """Bootstrap weights of n photos, which several concepts of a class are tested with."""
    rng = seeds.stream(seed, "insertion", class_index)
    return bootstrap_weights(n, replicates, rng) / n


def test(
    insertions: Insertions,
    class_index: int,
    eligible: NDArray[np.bool_],
    *,
    replicates: int,
    seed: int,
) -> Effect:
    """Effect of an inserted concept on the probability of a class, over photos of other classes.

    Args:
        insertions: from `insert`.
        class_index: the class.
        eligible: bool array of shape (n,): photos that do not show the class.
        replicates: bootstrap replicates.
        seed: of the bootstrap.

    Returns:
        Effect and control with bootstrap intervals over photos; p is the one-sided Wilcoxon
        signed-rank test that the concept moves log p(class) more than its control does.
    """
    logs = insertions.log_probabilities[:, eligible, class_index].astype(np.float64)
    plain, edited, control = np.exp(logs)
    weights = _weights(len(plain), replicates, seed, class_index)
    effect = interval(float((edited - plain).mean()), weights @ (edited - plain), len(plain))
    null = interval(float((control - plain).mean()), weights @ (control - plain), len(plain))
    excess = interval(float((edited - control).mean()), weights @ (edited - control), len(plain))
    difference = logs[1] - logs[2]
    p = 1.0
    if np.any(difference != 0):
        p = float(stats.wilcoxon(difference, alternative="greater", method="approx").pvalue)
    odds = log_odds(logs, least=CERTAIN)
    beyond = odds[1] - odds[2]
    high = float(stats.quantile_test(beyond, p=0.5).confidence_interval(0.95).high)
    high = high if np.isfinite(high) else np.inf  # so few photos exclude nothing
    return Effect(effect, null, float(np.median(beyond)), high, p, excess)
