"""Prototypes: images optimised so that the model puts them in a class.

After Tagade and Rumbelow, "Prototype Generation" (arXiv 2309.17144), with three changes that were
measured to matter (docs/method.md): cross-entropy in place of the raw logit, which overshoots or
stalls; a start from coloured noise with the 1/f spectrum of photographs; and a hinge that keeps the
mean and deviation of every channel in the *early* layers within the range of generic, class-free
photos. What lies deeper is left to the class, so its naturalness is held out by construction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from auditor.activations import Activations, Layers, pooled, recorded
from auditor.models import Classifier

__all__ = ["ChannelStatistics", "Prototypes", "generate", "generic_statistics"]

EARLY = 0.37  # share of the path whose statistics are matched; layers 0-6 of 19 were measured best
TOLERANCE = 0.5  # in standard deviations over generic photos
WEIGHT = 30.0  # of the hinge against the cross-entropy
LEARNING_RATE = 0.1  # Adam, on the logits of the pixels
SMOOTHNESS = 0.05  # of the squared differences between neighbouring pixels
TRACE_POINTS = 17
GENERIC_PHOTOS = 512  # pool photos behind the statistics


@dataclass(frozen=True)
class ChannelStatistics:
    """Range of channel statistics over generic photos, for one layer.

    All arrays are float, of shape (channels,): mean and deviation over photos of each channel's
    mean over positions, and the same of its deviation over positions.
    """

    mean: NDArray[np.float32]
    mean_deviation: NDArray[np.float32]
    spread: NDArray[np.float32]
    spread_deviation: NDArray[np.float32]


@dataclass(frozen=True)
class Prototypes:
    """Prototypes of several classes, in the order they were asked for.

    Attributes:
        images: uint8 array of shape (n, H, W, 3): what is saved and measured.
        class_indices: the class of each.
        seeds: the seed of each.
        probabilities: float array of shape (n,): of the class, for `images`.
        traces: float array of shape (n, points): probability at evenly spaced steps, on the
            transformed image.
        steps: optimisation steps of each.
    """

    images: NDArray[np.uint8]
    class_indices: tuple[int, ...]
    seeds: tuple[int, ...]
    probabilities: NDArray[np.float32]
    traces: NDArray[np.float32]
    steps: int

    def __post_init__(self) -> None:
        n = len(self.class_indices)
        if self.images.ndim != 4 or self.images.shape[3] != 3 or len(self.images) != n:
            raise ValueError(f"images have shape {self.images.shape}, expected ({n}, H, W, 3)")
        if len(self.seeds) != n or len(self.probabilities) != n or len(self.traces) != n:
            raise ValueError("seeds, probabilities and traces must match the images")

    def tensor(self) -> Tensor:
        """The images as float tensor of shape (n, 3, H, W) in [0, 1]."""
        return torch.from_numpy(self.images).permute(0, 3, 1, 2).float() / 255


def generic_statistics(activations: Activations, layers: Layers) -> Mapping[str, ChannelStatistics]:
    """Channel statistics of generic photos in the early layers of the path."""
    early = layers.path[: max(1, round(EARLY * len(layers.path)))]
    return {
        name: ChannelStatistics(
            activations.path[name].mean(0),
            activations.path[name].std(0),
            activations.spread[name].mean(0),
            activations.spread[name].std(0),
        )
        for name in early
    }


def generate(
    classifier: Classifier,
    layers: Layers,
    statistics: Mapping[str, ChannelStatistics],
    items: Sequence[tuple[int, int]],
    *,
    steps: int,
    on_step: Callable[[int], None] | None = None,
) -> Prototypes:
    """Generate one prototype for each (class index, seed) in one batch.

    Parameters stay frozen: only the gradient by the images is computed. Each image has its own
    random numbers, drawn from its class and seed, so that the batch's composition does not decide
    its start or its transforms.

    Args:
        classifier: the audited model.
        layers: its layers.
        statistics: ranges of channel statistics to stay in, per layer; may be empty.
        items: pairs of class index and seed.
        steps: optimisation steps.
        on_step: called with the number of steps done.
    """
    device = next(iter(classifier.net.parameters())).device
    height, width = classifier.preprocess.size
    generators = [np.random.default_rng((seed, index, 0x9E37)) for index, seed in items]
    start = np.stack([_pink_noise(height, width, generator) for generator in generators])
    transforms = torch.from_numpy(
        np.stack([_transforms(steps, generator) for generator in generators], axis=1)
    ).to(device)
    target = torch.tensor([index for index, _ in items], device=device)
    pixels = torch.logit(torch.from_numpy(start).to(device), 1e-4)
    pixels = pixels.contiguous(memory_format=torch.channels_last).requires_grad_()
    optimiser = torch.optim.Adam([pixels], lr=LEARNING_RATE)
    natural: list[tuple[str, int, list[Tensor]]] = [
        (name, layers.channel_axis[name], [torch.from_numpy(part).to(device) for part in parts])
        for name, parts in (
            (name, (s.mean, s.mean_deviation, s.spread, s.spread_deviation))
            for name, s in statistics.items()
        )
    ]
    marks = {round(t * (steps - 1)) for t in np.linspace(0, 1, min(TRACE_POINTS, steps))}
    trace: list[Tensor] = []
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=_has_fast_bfloat16(device))
    with recorded(classifier.net, layers) as values:
        for step in range(steps):
            images = torch.sigmoid(pixels)
            views = _transformed(images, transforms[step])
            with autocast:
                logits = classifier.logits(views).float()
            loss = F.cross_entropy(logits, target, reduction="sum")
            loss = loss + SMOOTHNESS * _roughness(images)
            for name, axis, (mean, mean_deviation, spread, spread_deviation) in natural:
                seen_mean, seen_spread = pooled(values[name], axis)
                loss = loss + WEIGHT / len(natural) * (
                    _hinge(seen_mean, mean, mean_deviation)
                    + _hinge(seen_spread, spread, spread_deviation)
                )
            (gradient,) = torch.autograd.grad(loss, pixels)
            pixels.grad = gradient
            optimiser.param_groups[0]["lr"] = LEARNING_RATE * _schedule(step / steps)
            optimiser.step()
            if step in marks:
                picked = logits.detach().softmax(1).gather(1, target[:, None])
                trace.append(picked[:, 0])
            if on_step is not None:
                on_step(step + 1)
    with torch.inference_mode():
        saved = torch.sigmoid(pixels).mul(255).round().to(torch.uint8)
        probability = classifier.logits(saved.float() / 255).float().softmax(1)
        probability = probability.gather(1, target[:, None])[:, 0]
    return Prototypes(
        images=saved.permute(0, 2, 3, 1).cpu().numpy(),
        class_indices=tuple(index for index, _ in items),
        seeds=tuple(seed for _, seed in items),
        probabilities=probability.cpu().numpy(),
        traces=torch.stack(trace, 1).cpu().numpy(),
        steps=steps,
    )


def _pink_noise(height: int, width: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Coloured noise of shape (3, H, W) in (0, 1) with the 1/f amplitude of photographs.

    Colours are correlated as in photographs: most of the variation is luminance.
    """
    fy = np.fft.fftfreq(height)[:, None]
    fx = np.fft.rfftfreq(width)[None]
    amplitude = 1 / np.maximum(np.hypot(fy, fx), 1 / max(height, width))
    phases = generator.normal(size=(2, 3, *amplitude.shape))
    noise = np.fft.irfft2((phases[0] + 1j * phases[1]) * amplitude, s=(height, width))
    noise /= noise.std(axis=(1, 2), keepdims=True)
    luminance, colour = noise[:1], noise
    mixed = 0.9 * luminance + 0.45 * (colour - colour.mean(0, keepdims=True))
    image = 0.45 + 0.15 * mixed / mixed.std()
    return np.asarray(np.clip(image, 0.02, 0.98), np.float32)


def _transforms(steps: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Random affine matrices of shape (steps, 2, 3): crop, rotate, shift and flip."""
    scale = np.sqrt(generator.uniform(0.64, 1.0, steps))
    angle = np.deg2rad(generator.normal(0, 5, steps))
    room = 1 - scale
    shift = generator.uniform(-1, 1, (steps, 2)) * (room + 0.03)[:, None]
    flip = generator.choice([-1.0, 1.0], steps)
    matrix = np.empty((steps, 2, 3), np.float32)
    matrix[:, 0, 0] = scale * np.cos(angle) * flip
    matrix[:, 0, 1] = -scale * np.sin(angle)
    matrix[:, 1, 0] = scale * np.sin(angle) * flip
    matrix[:, 1, 1] = scale * np.cos(angle)
    matrix[:, :, 2] = shift
    return matrix


def _transformed(images: Tensor, matrices: Tensor) -> Tensor:
    """One random view of each image, all in one `grid_sample`."""
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _roughness(images: Tensor) -> Tensor:
    """Squared differences between neighbouring pixels, averaged per image, summed over images."""
    down = (images[:, :, 1:] - images[:, :, :-1]).square().mean((1, 2, 3))
    right = (images[:, :, :, 1:] - images[:, :, :, :-1]).square().mean((1, 2, 3))
    return 100 * (down + right).sum()


def _hinge(seen: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """How far channels leave the photos' range: mean over channels, sum over images."""
    away = (seen - mean).abs() / (deviation + 1e-3 * deviation.max() + 1e-6)
    return F.relu(away - TOLERANCE).mean(1).sum()


def _schedule(progress: float) -> float:
    """Learning rate over its maximum: full, then a cosine to a tenth in the last half."""
    if progress < 0.5:
        return 1.0
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (2 * progress - 1)))


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_amx_tile_supported())
    return False
