"""What an image is optimised for: its class, and what images of the class are held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from auditor.errors import ModelError
from auditor.models.activations import recorded
from auditor.models.layers import Layers
from auditor.models.loading import Classifier
from auditor.prototypes.expectations import Expectation
from auditor.prototypes.recipes import Recipe

__all__ = ["Objective", "Targets", "moments", "sorted_layers"]

TOLERANCE = 0.5  # in standard deviations over photos: nearer than this is near enough
PULL = 1.3  # weight of the logit, over the level photos reach, beside the cross-entropy
NATURAL = 30.0  # weight of the hinge on channel statistics against the cross-entropy
REFERENCE = 10.0  # weight of the distance to sorted activations of the class's photos
SMOOTHNESS = 5.0  # of the mean squared difference between neighbouring pixels, but for `fourier`
PAPER_SMOOTHNESS = 500.0  # of the same beside a raw logit, which is larger and has no end
SORTED_POSITIONS = 1024  # layers with more positions are not sorted: slow, and texture at most
SORTED_LAYERS = 6
PIXELS = "(pixels)"  # stands among the layers for the image itself


@dataclass(frozen=True)
class Targets:
    """What the images of one batch are optimised for.

    Attributes:
        classes: int tensor of shape (n,).
        statistics: per layer, and for the pixels: mean, its deviation, spread, its deviation;
            (n, channels) or (channels,).
        sorted: per layer, float tensor of shape (n, channels, positions).
    """

    classes: Tensor
    statistics: Mapping[str, tuple[Tensor, Tensor, Tensor, Tensor]]
    sorted: Mapping[str, Tensor]


@dataclass(frozen=True)
class Objective:
    """The loss of each image: the class, smoothness, and what its mode holds it to."""

    layers: Layers
    rows: Mapping[int, int]  # class -> row of the statistics
    statistics: Mapping[str, tuple[Tensor, Tensor, Tensor, Tensor]]
    sorted: Mapping[str, Mapping[int, Tensor]]
    raw_logit: bool
    pull: float
    smoothness: float
    diversity: float
    device: torch.device

    @staticmethod
    def build(
        classifier: Classifier,
        layers: Layers,
        recipe: Recipe,
        expectation: Expectation | None,
        references: Mapping[int, Tensor] | None,
    ) -> Objective:
        """The objective of a recipe, on the network's device."""
        mode = recipe.mode
        device = next(iter(classifier.net.parameters())).device
        held = expectation is not None and mode in ("natural", "data-free", "reference")
        statistics = {}
        given = {**expectation.layers, PIXELS: expectation.pixels} if expectation and held else {}
        for name, s in given.items():
            parts = (s.mean, s.mean_deviation, s.spread, s.spread_deviation)
            mean, mean_deviation, spread, spread_deviation = (
                torch.from_numpy(part).to(device) for part in parts
            )
            statistics[name] = (mean, _floor(mean_deviation), spread, _floor(spread_deviation))
        classes = expectation.classes if expectation is not None else ()
        # scale-free: a network that is sure of photos at small logits is pulled as hard
        pull = PULL / expectation.level if expectation and held and expectation.level > 0 else 0.0
        # steps in a spectrum are smooth by themselves: measured, a penalty changes nothing
        smoothness = SMOOTHNESS if recipe.parameterisation != "fourier" else 0.0
        smoothness = PAPER_SMOOTHNESS if mode == "paper" else smoothness
        matched = _sorted(classifier, layers, references or {}) if mode == "reference" else {}
        return Objective(
            layers, {c: row for row, c in enumerate(classes)}, statistics, matched,
            mode == "paper", pull, smoothness, recipe.diversity, device,
        )  # fmt: skip

    def of(self, classes: Sequence[int]) -> Targets:
        """The targets of images of these classes."""
        statistics = {}
        if self.statistics:
            rows = torch.tensor([self.rows[c] for c in classes], device=self.device)
            statistics = {
                name: (mean[rows], mean_deviation, spread[rows], spread_deviation)
                for name, (mean, mean_deviation, spread, spread_deviation) in (
                    self.statistics.items()
                )
            }
        return Targets(
            torch.tensor(classes, device=self.device),
            statistics,
            {
                name: torch.stack([by_class[c] for c in classes])
                for name, by_class in self.sorted.items()
            },
        )

    def loss(
        self, targets: Targets, images: Tensor, logits: Tensor, values: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The sum of the images' losses, and each one's probability of its class.

        Args:
            targets: from `of`.
            images: float tensor of shape (n, 3, H, W) in [0, 1], before their random views.
            logits: float tensor of shape (n, K), of the views.
            values: outputs of the layers for the views, from `activations.recorded`.
        """
        wanted = targets.classes[:, None]
        logs = logits.log_softmax(1).gather(1, wanted)[:, 0]
        if self.raw_logit:
            loss = -logits.gather(1, wanted).sum()
        else:
            centred = logits.gather(1, wanted)[:, 0] - logits.mean(1)
            loss = -(logs + self.pull * centred).sum()
        if self.smoothness:
            loss = loss + self.smoothness * _roughness(images)
        for name, (mean, mean_away, spread, spread_away) in targets.statistics.items():
            if name == PIXELS:
                seen_mean, seen_spread = moments(images, 1)
            else:
                seen_mean, seen_spread = moments(values[name], self.layers.channel_axis[name])
            away = _hinge(seen_mean, mean, mean_away) + _hinge(seen_spread, spread, spread_away)
            loss = loss + NATURAL / len(targets.statistics) * away
        for name, wanted_values in targets.sorted.items():
            seen = _flat(values[name], self.layers.channel_axis[name]).sort(2).values
            away = (seen - wanted_values).abs().mean(2) / (wanted_values.std(2) + 1e-3)
            loss = loss + REFERENCE / len(targets.sorted) * away.clamp_max(10).mean(1).sum()
        if self.diversity:
            loss = loss + self.diversity * self._likeness(targets.classes, values)
        return loss, logs.detach().exp()

    def _likeness(self, classes: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """Cosine between the features of images of one class, over pairs, summed over images."""
        name = self.layers.path[-1]
        rows = F.normalize(moments(values[name], self.layers.channel_axis[name])[0], dim=1)
        same = (classes[:, None] == classes[None]).float()
        same.fill_diagonal_(0)
        mates = same.sum(1, keepdim=True).clamp_min(1)
        return (rows @ rows.T * same / mates).sum()


class _Moments(torch.autograd.Function):
    """Mean and deviation over the positions of (n, channels, H, W), in one pass each way."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> tuple[Tensor, Tensor]:
        wide = value.float()
        mean = wide.mean((2, 3))
        deviation = (wide.square().mean((2, 3)) - mean**2).clamp_min(1e-12).sqrt()
        ctx.save_for_backward(value, mean, deviation)
        return mean, deviation

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        value, mean, deviation = ctx.saved_tensors
        by_mean, by_deviation = gradients
        positions = value.shape[2] * value.shape[3]
        slope = by_deviation / (positions * deviation)
        offset = by_mean / positions - slope * mean
        offset, slope = (part[:, :, None, None].to(value.dtype) for part in (offset, slope))
        return torch.addcmul(offset, value, slope)


def moments(value: Tensor, channel_axis: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation over positions, as `activations.pooled`, with a gradient that is cheap.

    Args:
        value: float tensor of shape (n, ...), a layer's output.
        channel_axis: the axis of its channels.

    Returns:
        Two float32 tensors of shape (n, channels); the deviation is 0 for vectors.
    """
    if value.ndim == 2:
        return value.float(), torch.zeros_like(value, dtype=torch.float32)
    if value.ndim == 3:
        value = value.movedim(channel_axis, 1)[..., None]
    elif channel_axis != 1:
        value = value.movedim(channel_axis, 1)
    mean, deviation = _Moments.apply(value)
    return mean, deviation


def sorted_layers(classifier: Classifier, layers: Layers) -> tuple[str, ...]:
    """Layers whose activations the mode `reference` sorts, deepest first: few positions, evenly.

    Raises:
        ModelError: the model has none.
    """
    device = next(iter(classifier.net.parameters())).device
    height, width = classifier.preprocess.size
    with torch.inference_mode(), recorded(classifier.net, layers) as values:
        classifier.logits(torch.full((1, 3, height, width), 0.5, device=device))
        small = [
            name
            for name in layers.path
            if values[name].ndim > 2
            and 1 < _flat(values[name], layers.channel_axis[name]).shape[2] <= SORTED_POSITIONS
        ]
    if not small:
        raise ModelError(
            f"prototypes.mode = 'reference' finds no layer of {classifier.name} that it can sort; "
            "choose 'natural'."
        )
    return tuple(small[::-1][:: -(-len(small) // SORTED_LAYERS)])


def _sorted(
    classifier: Classifier, layers: Layers, references: Mapping[int, Tensor]
) -> dict[str, dict[int, Tensor]]:
    """Mean over a class's photos of each channel's sorted activations, for some deep layers."""
    names = sorted_layers(classifier, layers)
    device = next(iter(classifier.net.parameters())).device
    found: dict[str, dict[int, Tensor]] = {}
    with torch.inference_mode(), recorded(classifier.net, layers) as values:
        for index, photos in references.items():
            classifier.logits(photos.to(device))
            for name in names:
                flat = _flat(values[name], layers.channel_axis[name])
                found.setdefault(name, {})[index] = flat.sort(2).values.mean(0).clone()
    return found


def _flat(value: Tensor, channel_axis: int) -> Tensor:
    return value.movedim(channel_axis, 1).flatten(2).float()


def _floor(deviation: Tensor) -> Tensor:
    """Deviations that a difference can be divided by, also where a channel never varies."""
    return deviation + 1e-3 * deviation.max() + 1e-6


def _hinge(seen: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """How far channels are from what is expected: mean over channels, sum over images."""
    return F.relu((seen - mean).abs() / deviation - TOLERANCE).mean(1).sum()


def _roughness(images: Tensor) -> Tensor:
    """Mean squared differences between neighbouring pixels of each image, summed over images."""
    down = (images[:, :, 1:] - images[:, :, :-1]).square().mean((1, 2, 3))
    right = (images[:, :, :, 1:] - images[:, :, :, :-1]).square().mean((1, 2, 3))
    return (down + right).sum()
