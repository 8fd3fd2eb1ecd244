"""Random views of an image, and places of a patch, each drawn from the image's own numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

__all__ = ["View", "patched", "transformed"]


@dataclass(frozen=True)
class View:
    """Random numbers of n views.

    Attributes:
        matrices: float array of shape (n, 2, 3), affine, from places in the view to places in the
            image, both from -1 to 1.
        places: float array of shape (n, 4): centre of a patch across and down, from -1 to 1 of what
            is free; its scale; its angle in radians.
        picks: float array of shape (n,) in [0, 1): which photo a patch is put on.
    """

    matrices: NDArray[np.float32]
    places: NDArray[np.float32]
    picks: NDArray[np.float64]

    @staticmethod
    def random(
        n: int, generator: np.random.Generator, *, aspect: float = 1.0, patch: bool = False
    ) -> View:
        """Crop (64 to 100 % of the area), turn, shift and flip; patches are put anywhere.

        `aspect` is the image's width over its height: places run from -1 to 1 in both.
        """
        scale = np.sqrt(generator.uniform(0.64, 1.0, n))
        angle = np.deg2rad(generator.normal(0, 5, n))
        shift = generator.uniform(-1, 1, (n, 2)) * (1 - scale + 0.03)[:, None]
        flip = generator.choice([-1.0, 1.0], n)
        matrices = np.empty((n, 2, 3), np.float32)
        matrices[:, 0, 0] = scale * np.cos(angle) * flip
        matrices[:, 0, 1] = -scale * np.sin(angle) / aspect
        matrices[:, 1, 0] = scale * np.sin(angle) * flip * aspect
        matrices[:, 1, 1] = scale * np.cos(angle)
        matrices[:, :, 2] = shift
        if patch:  # the patch moves; its pixels are seen as they are
            matrices[:] = np.eye(3, dtype=np.float32)[:2]
        places = np.concatenate(
            [
                generator.uniform(-1, 1, (n, 2)),
                generator.uniform(0.85, 1.15, (n, 1)),
                generator.normal(0, 0.1, (n, 1)),
            ],
            axis=1,
        ).astype(np.float32)
        return View(matrices, places, generator.random(n))

    @staticmethod
    def centred(n: int) -> View:
        """Patches in the middle, as they are."""
        places = np.tile(np.array([0, 0, 1, 0], np.float32), (n, 1))
        return View(np.tile(np.eye(3, dtype=np.float32)[:2], (n, 1, 1)), places, np.zeros(n))

    @staticmethod
    def stacked(views: Sequence[View], steps: NDArray[np.int64]) -> View:
        """One view of each image: of image k the one of its step `steps[k]`."""
        pairs = list(zip(views, steps, strict=True))
        return View(
            np.stack([view.matrices[step] for view, step in pairs]),
            np.stack([view.places[step] for view, step in pairs]),
            np.array([view.picks[step] for view, step in pairs]),
        )


def transformed(images: Tensor, matrices: Tensor) -> Tensor:
    """One view of each image, all in one `grid_sample`; what lies outside is mirrored."""
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def patched(patches: Tensor, photos: Tensor, view: View, side: tuple[int, int]) -> Tensor:
    """Photos (n, 3, H, W), each with its patch (n, 3, h, w) where its view says."""
    height, width = photos.shape[2:]
    across, down = width / side[1], height / side[0]
    places = torch.from_numpy(view.places).to(photos.device)
    scale, angle = places[:, 2], places[:, 3]
    x, y = places[:, 0] * (1 - 1 / across), places[:, 1] * (1 - 1 / down)
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    tall, wide = sine * height / width, sine * width / height
    rows = [
        torch.stack([across * cosine, across * tall, -across * (cosine * x + tall * y)], 1),
        torch.stack([-down * wide, down * cosine, -down * (cosine * y - wide * x)], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(photos.shape), align_corners=False)
    with_edge = torch.cat([patches, torch.ones_like(patches[:, :1])], 1)
    put = F.grid_sample(with_edge, grid, align_corners=False)
    return photos * (1 - put[:, 3:]) + put[:, :3]
