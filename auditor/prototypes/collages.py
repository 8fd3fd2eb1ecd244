"""Pictures that stand in for photos where there are none: collages of sample photos and scenes.

Crops at all scales, in random colours, of the seven photos that scikit-learn and scikit-image
carry, and drawn scenes, cut along the edges of a cloud. *Measured* on the real MobileNetV2, 32
classes, mean over 19 layers, as stand-ins for the photos of `auditor.prototypes.expectations`: what
they lead to expect of a class has normalised similarity 0.71 and class-specific similarity 0.55 to
its photos (0.50 and 0.38 with scikit-learn's two photos alone).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from auditor.core import seeds
from auditor.drawing import scenes

__all__ = ["collages"]

Floats = NDArray[np.float32]

SCENE_RATE = 0.4  # of the upper layers that are scenes
SCENES = 64  # that are drawn, and used again: drawing is what takes time
CLOUD = 1.8  # the cloud's amplitude falls with frequency to this power


def collages(n: int, height: int, width: int, *, seed: int = 0) -> Tensor:
    """Collages as float tensor of shape (n, 3, height, width) in [0, 1].

    Args:
        n: how many.
        height, width: of each.
        seed: decides all of them.
    """
    rng = seeds.stream(seed, "collages")
    photos = [Image.fromarray(pixels) for pixels in _sample_photos()]
    side = max(16, height, width)
    drawn = [
        _fitted(scenes.render(scenes.sample(rng), size=side), height, width)
        for _ in range(min(n, SCENES))
    ]
    made = np.empty((n, 3, height, width), np.float32)
    for k in range(n):
        lower = _crop(photos, height, width, rng)
        if rng.random() < SCENE_RATE:
            upper = drawn[int(rng.integers(len(drawn)))]
        else:
            upper = _crop(photos, height, width, rng)
        cloud = _cloud(height, width, rng)
        mask = cloud > np.quantile(cloud, rng.uniform(0.4, 0.7))
        made[k] = np.where(mask, lower, upper)
    return torch.from_numpy(made)


def _sample_photos() -> list[NDArray[np.uint8]]:
    from skimage import data
    from sklearn.datasets import load_sample_images

    names = ("astronaut", "chelsea", "coffee", "rocket", "stereo_motorcycle")
    own = [getattr(data, name)() for name in names]
    return [*load_sample_images().images, *own[:-1], own[-1][0]]  # the left one of a pair


def _crop(photos: list[Image.Image], height: int, width: int, rng: np.random.Generator) -> Floats:
    """A square of a photo, from an eighth to all of its shorter side, in changed colours."""
    photo = photos[int(rng.integers(len(photos)))]
    side = int(min(photo.size) * rng.uniform(0.12, 1.0))
    left, top = (int(rng.integers(0, edge - side + 1)) for edge in photo.size)
    square = photo.crop((left, top, left + side, top + side))
    pixels = np.asarray(square.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 255
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    if rng.random() < 0.5:
        pixels = pixels[..., rng.permutation(3)]
    light = rng.normal(0, 0.1) + rng.normal(0, 0.08, 3)
    pixels = (pixels - 0.5) * rng.uniform(0.6, 1.2) + 0.5 + light
    return np.clip(pixels, 0, 1).transpose(2, 0, 1).astype(np.float32)


def _cloud(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Smooth noise of shape (height, width)."""
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(fy, fx), 1 / max(height, width))
    spectrum = np.fft.rfft2(rng.normal(size=(height, width))) / frequency**CLOUD
    return np.asarray(np.fft.irfft2(spectrum, s=(height, width)), np.float64)


def _fitted(scene: Tensor, height: int, width: int) -> Floats:
    """The middle of a square scene, as large as the longer side."""
    top, left = (scene.shape[1] - height) // 2, (scene.shape[2] - width) // 2
    return np.asarray(scene[:, top : top + height, left : left + width].numpy(), np.float32)
