"""What an image of a class is expected to do inside the model, from photos that do not show it.

Channel statistics of generic photos are regressed on the model's own logit of a class, and read off
at the level that photos reach for the class they show: the *pattern* of Haufe et al. (NeuroImage
2014), for every layer. *Measured* on the real MobileNetV2 with 2,024 photos, none of them of the 16
classes looked at: the pattern resembles photos of its class as much as they resemble each other, in
every one of 19 layers (class-specific similarity 1.0 to 1.5; with 200 photos 0.6 to 1.4), where the
plain mean of the photos has 0 by definition (docs/prototypes.md). Stand-ins for photos are in
`auditor.prototypes.collages`.

Where a prototype is held to what is expected, its resemblance to photos is no evidence: those
layers are named, and divergence is read off the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from auditor.models.activations import Activations, pooled, recorded
from auditor.models.hardware import Parts
from auditor.models.layers import Layers
from auditor.models.loading import Classifier

__all__ = ["EARLY", "ChannelStatistics", "Expectation", "expected", "with_batch_norm"]

Floats = NDArray[np.float32]

EARLY = 0.37  # share of the path that is held to what is expected; the rest is held out


@dataclass(frozen=True)
class ChannelStatistics:
    """Expected channel statistics of C classes in one layer, with their range over photos.

    Attributes:
        mean: float array of shape (C, channels), of each channel's mean over positions.
        mean_deviation: float array of shape (channels,), its deviation over photos.
        spread: float array of shape (C, channels), of each channel's deviation over positions.
        spread_deviation: float array of shape (channels,), its deviation over photos.
    """

    mean: Floats
    mean_deviation: Floats
    spread: Floats
    spread_deviation: Floats

    def __post_init__(self) -> None:
        if self.mean.ndim != 2 or self.mean.shape != self.spread.shape:
            raise ValueError("mean and spread must both have the shape (classes, channels)")


@dataclass(frozen=True)
class Expectation:
    """What images of some classes are expected to do in some layers.

    Attributes:
        classes: the C classes, in the order of the statistics' rows.
        layers: by layer name.
        pixels: of the image itself, red, green and blue.
        level: the logit, less the mean logit, that photos reach for the class that they show.
        n_photos: photos behind it, or collages.
    """

    classes: tuple[int, ...]
    layers: Mapping[str, ChannelStatistics]
    pixels: ChannelStatistics
    level: float
    n_photos: int

    def of(self, classes: Collection[int]) -> Expectation:
        """The part that is of some of the classes."""
        rows = [row for row, c in enumerate(self.classes) if c in classes]

        def part(whole: ChannelStatistics) -> ChannelStatistics:
            return dataclasses.replace(whole, mean=whole.mean[rows], spread=whole.spread[rows])

        return dataclasses.replace(
            self,
            classes=tuple(self.classes[row] for row in rows),
            layers={name: part(whole) for name, whole in self.layers.items()},
            pixels=part(self.pixels),
        )


def expected(
    photos: Activations,
    layers: Layers,
    classes: Sequence[int],
    *,
    labels: NDArray[np.int64] | None = None,
    share: float = EARLY,
) -> Expectation:
    """Expectation for classes from any photos; a class's own, where known, are left out of its fit.

    Least squares of each channel statistic on the centred logit of the class, read off at the mean
    of the photos' highest centred logits, shrunk towards the photos' mean by as much as chance
    explains (the positive-part estimator of James and Stein, 1961), and kept within the photos'
    range. That range, their deviation and the level are of all photos, a class's own among them.

    Args:
        photos: activations with path, of n photos.
        layers: the model's layers; the first `share` of the path is used.
        classes: the classes.
        labels: int array of shape (n,), true classes where they are known, else -1.
        share: of the path, in (0, 1].
    """
    names = layers.path[: max(1, round(share * len(layers.path)))]
    logits = photos.logits.astype(np.float64)
    logits -= logits.mean(1, keepdims=True)
    level = float(logits.max(1).mean())
    own = logits[:, list(classes)]
    use = np.ones(own.shape) if labels is None else (labels[:, None] != np.array(classes)) * 1.0
    count = np.maximum(use.sum(0), 1)
    away = (own - (use * own).sum(0) / count) * use  # (n, C)
    variance = np.maximum((away**2).sum(0) / count, 1e-12)
    reach = level - (use * own).sum(0) / count

    def read_off(values: Floats) -> tuple[Floats, Floats]:
        deviation = np.maximum(values.std(0, dtype=np.float64), 1e-8)
        centre = use.T @ values / count[:, None]
        shift = (away.T @ values) / (count * variance)[:, None] * reach[:, None]
        chance = values.shape[1] * reach**2 / (variance * count)  # expected square of pure noise
        seen = ((shift / deviation) ** 2).sum(1)
        kept = np.maximum(0.0, 1 - chance / np.maximum(seen, 1e-12))
        read = np.clip(centre + kept[:, None] * shift, values.min(0), values.max(0))
        return read.astype(np.float32), deviation.astype(np.float32)

    return Expectation(
        tuple(classes),
        {
            name: ChannelStatistics(*read_off(photos.path[name]), *read_off(photos.spread[name]))
            for name in names
        },
        ChannelStatistics(*read_off(photos.pixels[:, :3]), *read_off(photos.pixels[:, 3:])),
        level,
        len(logits),
    )


def with_batch_norm(
    classifier: Classifier, layers: Layers, expectation: Expectation, photos: Tensor
) -> Expectation:
    """The expectation with its centre moved to what batch normalisation recorded in training.

    The output of a batch normalisation has, over training photos and positions, its bias as mean
    and its weight as deviation. Where such a module is the last one of a layer's output, the
    difference between the given photos' mean and the bias is taken off the expectation: stand-ins
    then serve for how channels go with the class, and the model says where they lie.
    A layer whose output is something else, such as a sum with its input, or whose batch
    normalisation was folded away (mean 0 and variance 1 in every channel), stays as it is.

    Args:
        classifier: the model.
        layers: its layers.
        expectation: from `expected`.
        photos: the images behind the expectation, of shape (n, 3, H, W).
    """
    modules = dict(classifier.net.named_modules())
    ends: dict[str, nn.BatchNorm2d] = {}
    for name in expectation.layers:
        norms = [m for m in modules[name].modules() if isinstance(m, nn.BatchNorm2d)]
        if norms and recorded_in_training(norms[-1]):
            ends[name] = norms[-1]
    given: dict[str, Tensor] = {}  # means, taken at once: what follows may work in place
    device = next(classifier.net.parameters()).device
    handles = [
        module.register_forward_hook(
            lambda _m, _i, out, name=name: given.__setitem__(name, out.float().mean((2, 3)))
        )
        for name, module in ends.items()
    ]
    means: dict[str, list[Tensor]] = {name: [] for name in ends}
    try:
        with torch.inference_mode(), recorded(classifier.net, layers) as values:

            def run(part: Tensor) -> None:
                classifier.logits(part.to(device))
                for name in list(ends):
                    whole = pooled(values[name], layers.channel_axis[name])
                    own = given[name]
                    if whole.shape == own.shape and torch.allclose(whole, own, 1e-3, 1e-4):
                        means[name].append(own.cpu())
                    else:
                        del ends[name]  # something follows the normalisation

            list(Parts(16)(run, photos))
    finally:
        for handle in handles:
            handle.remove()
    if not ends:
        return expectation
    moved = dict(expectation.layers)
    for name, module in ends.items():
        away = torch.cat(means[name]).mean(0) - module.bias.detach().cpu().float()
        moved[name] = dataclasses.replace(moved[name], mean=moved[name].mean - away.numpy())
    return dataclasses.replace(expectation, layers=moved)


def recorded_in_training(norm: nn.BatchNorm2d) -> bool:
    """Whether a batch normalisation still holds what it saw: folded ones hold 0 and 1 only."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None or norm.weight is None:
        return False
    return not (bool((mean == 0).all()) and bool((variance == 1).all()))
