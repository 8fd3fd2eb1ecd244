"""Isolation: the region of a prototype that carries its class, against regions that should not.

A mask is optimised to keep the class while it shrinks, the rest being blurred away (after Fong and
Vedaldi, "Interpretable Explanations of Black Boxes by Meaningful Perturbation", ICCV 2017). Its
control is the same mask mirrored across, down and both ways: regions of equal area and shape. A
region that holds the class no better than its mirror images says that the evidence is everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from auditor.models import Classifier

__all__ = ["Regions", "isolate"]

CELL = 16  # pixels of the image per entry of the mask
LEAST_CELLS = 8  # across and down
BLUR = 56  # pixels: nothing smaller is left of what is outside
STEPS = 120
LEARNING_RATE = 0.1
AREA = 2.0  # weight of the mask's area, in nats for the whole image
SHARPNESS = 2.0  # of the soft mask that gradients pass
KEPT = 0.5  # a pixel belongs to the region where its mask is above this


@dataclass(frozen=True)
class Regions:
    """The region of each of n images.

    Attributes:
        masks: bool array of shape (n, H, W).
        areas: float array of shape (n,), share of the image.
        probabilities: float array of shape (n,), of the class with all else blurred.
        controls: float array of shape (n,), the same for the mirrored masks, their mean.
    """

    masks: NDArray[np.bool_]
    areas: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    controls: NDArray[np.float64]


def isolate(
    classifier: Classifier, images: Tensor, class_indices: tuple[int, ...], *, batch: int
) -> Regions:
    """Find the region of each image that carries its class.

    Args:
        classifier: the audited model.
        images: float tensor of shape (n, 3, H, W) in [0, 1].
        class_indices: the class of each.
        batch: images at once.
    """
    device = next(iter(classifier.net.parameters())).device
    masks, inside, mirrored = [], [], []
    for start in range(0, len(images), batch):
        part = images[start : start + batch].to(device)
        target = torch.tensor(class_indices[start : start + batch], device=device)[:, None]
        away = _blurred(part)

        def log_probability(
            mask: Tensor, part: Tensor = part, away: Tensor = away, target: Tensor = target
        ) -> Tensor:
            logits = classifier.logits(mask * part + (1 - mask) * away).float()
            return logits.log_softmax(1).gather(1, target)[:, 0]

        height, width = part.shape[2:]
        cells = (max(LEAST_CELLS, height // CELL), max(LEAST_CELLS, width // CELL))
        entries = torch.full((len(part), 1, *cells), 0.8, device=device).requires_grad_()
        optimiser = torch.optim.Adam([entries], lr=LEARNING_RATE)
        for _ in range(STEPS):
            mask = _mask(entries, height, width)
            # forward the region itself, backward the soft mask: halves everywhere would pass for it
            hard = (mask > KEPT).float() + mask - mask.detach()
            loss = AREA * mask.mean((1, 2, 3)).sum() - log_probability(hard).sum()
            (entries.grad,) = torch.autograd.grad(loss, entries)
            optimiser.step()
        with torch.inference_mode():
            hard = (_mask(entries, height, width) > KEPT).float()
            inside.append(log_probability(hard).exp().cpu().double().numpy())
            flips = [log_probability(hard.flip(axes)).exp() for axes in ((2,), (3,), (2, 3))]
            mirrored.append(torch.stack(flips).mean(0).cpu().double().numpy())
            masks.append(hard[:, 0].bool().cpu().numpy())
    joined = np.concatenate(masks)
    return Regions(joined, joined.mean((1, 2)), np.concatenate(inside), np.concatenate(mirrored))


def shown(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """An image (H, W, 3) with all but its region faded to pale grey."""
    pale = 230 - (230 - image.mean(2, keepdims=True)) * 0.25
    return np.where(mask[..., None], image, pale.repeat(3, axis=2)).round().astype(np.uint8)


def _mask(entries: Tensor, height: int, width: int) -> Tensor:
    grown = F.interpolate(entries, size=(height, width), mode="bilinear", align_corners=False)
    return torch.sigmoid(SHARPNESS * grown)


def _blurred(images: Tensor) -> Tensor:
    """Images without anything smaller than a quarter of their side, or `BLUR` pixels."""
    height, width = images.shape[2:]
    sides = (max(2, min(4, height // BLUR)), max(2, min(4, width // BLUR)))
    small = F.interpolate(images, size=sides, mode="bilinear", antialias=True)
    return F.interpolate(small, size=(height, width), mode="bicubic").clamp(0, 1)
