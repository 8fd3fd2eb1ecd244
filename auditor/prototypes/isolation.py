"""Isolation: the region of a prototype that carries its class, against regions that should not.

A mask is optimised to keep the class while it shrinks, the rest being blurred away (after Fong and
Vedaldi, "Interpretable Explanations of Black Boxes by Meaningful Perturbation", ICCV 2017). It
gives the order in which pixels matter; the region is the smallest share of them that keeps nine
tenths of what the whole image has over its blur, in log-probability. Its control is the same region
moved half the image across, down, and both: as large and of the same shape. A region that holds the
class no better than its control says that the evidence is everywhere.
"""

from __future__ import annotations

import functools
from dataclasses import astuple, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from auditor.models.hardware import Parts
from auditor.models.loading import Classifier

__all__ = ["Regions", "isolate", "shown"]

CELL = 16  # pixels of the image per entry of the mask
LEAST_CELLS = 8  # across and down
BLUR = 56  # pixels: nothing smaller is left of what is outside
STEPS = 80
LEARNING_RATE = 0.05
SHARPNESS = 4.0
AREA = 2.0  # weight of the mask's area against the share of what can be kept
KEPT = 0.9  # of the log-probability that the whole image has over its blur
SHARES = (0.02, 0.03, 0.05, 0.08, 0.12, 0.18, 0.27, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Regions:
    """The region of each of n images.

    Attributes:
        masks: bool array of shape (n, H, W).
        areas: float array of shape (n,), share of the image.
        probabilities: float array of shape (n,), of the class with all else blurred.
        controls: float array of shape (n,), the same for the moved masks, their mean.
    """

    masks: NDArray[np.bool_]
    areas: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    controls: NDArray[np.float64]


def isolate(
    classifier: Classifier, images: NDArray[np.uint8], class_indices: tuple[int, ...]
) -> Regions:
    """Find the region of each image that carries its class.

    Args:
        classifier: the audited model.
        images: uint8 array of shape (n, H, W, 3), in one batch if memory suffices.
        class_indices: the class of each.
    """
    at_once = Parts(len(images))
    parts = list(at_once(functools.partial(_isolated, classifier), images, class_indices))
    return Regions(*(np.concatenate(each) for each in zip(*map(astuple, parts), strict=True)))


def _isolated(
    classifier: Classifier, images: NDArray[np.uint8], class_indices: tuple[int, ...]
) -> Regions:
    """The same in one batch."""
    device = next(iter(classifier.net.parameters())).device
    pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255
    target = torch.tensor(class_indices, device=device)[:, None]
    away = _blurred(pixels)
    n, _, height, width = pixels.shape

    def log_probability(mask: Tensor) -> Tensor:
        logits = classifier.logits(mask * pixels + (1 - mask) * away).float()
        return logits.log_softmax(1).gather(1, target)[:, 0]

    with torch.no_grad():
        nothing = log_probability(torch.zeros_like(pixels[:, :1]))
        gain = (log_probability(torch.ones_like(pixels[:, :1])) - nothing).clamp_min(1e-3)
    cells = (max(LEAST_CELLS, height // CELL), max(LEAST_CELLS, width // CELL))
    entries = torch.full((n, 1, *cells), 0.4, device=device).requires_grad_()
    optimiser = torch.optim.Adam([entries], lr=LEARNING_RATE)
    for _ in range(STEPS):
        mask = _mask(entries, height, width)
        loss = (AREA * mask.mean((1, 2, 3)) - log_probability(mask) / gain).sum()
        (entries.grad,) = torch.autograd.grad(loss, entries)
        optimiser.step()
    with torch.inference_mode():
        order = _mask(entries, height, width).flatten(1).argsort(1, descending=True).argsort(1)
        order = order.view(n, 1, height, width)
        best = torch.ones_like(pixels[:, :1])
        done = torch.zeros(n, dtype=torch.bool, device=device)
        for share in SHARES:
            region = (order < share * height * width).float()
            fits = (log_probability(region) >= nothing + KEPT * gain) & ~done
            best = torch.where(fits[:, None, None, None], region, best)
            done |= fits
        moved = [
            log_probability(best.roll(by, (2, 3))).exp()
            for by in ((height // 2, 0), (0, width // 2), (height // 2, width // 2))
        ]
        masks = best[:, 0].bool().cpu().numpy()
        return Regions(
            masks,
            masks.mean((1, 2)),
            log_probability(best).exp().cpu().double().numpy(),
            torch.stack(moved).mean(0).cpu().double().numpy(),
        )


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
