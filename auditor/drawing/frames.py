"""Things around a photo: borders, picture frames, bars, rounded corners, vignettes."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from PIL import Image

from auditor.drawing.layers import FloatArray, Layer

__all__ = [
    "black_border",
    "circular_mask",
    "coloured_frame",
    "instant_photo",
    "letterbox",
    "rounded_corners",
    "vignette",
    "white_border",
    "wooden_frame",
]


def _distance(height: int, width: int) -> FloatArray:
    """Pixels from each pixel's centre to the nearest edge of the photo."""
    y = np.minimum(np.arange(height), np.arange(height)[::-1])[:, None] + 0.5
    x = np.minimum(np.arange(width), np.arange(width)[::-1])[None] + 0.5
    distance: FloatArray = np.minimum(y, x).astype(np.float32)
    return distance


def _band(height: int, width: int, thickness: float) -> FloatArray:
    band: FloatArray = np.clip(thickness - _distance(height, width) + 0.5, 0, 1)
    return band.astype(np.float32)


def _plain(alpha: FloatArray, colour: tuple[float, float, float]) -> Layer:
    tones = np.asarray(colour, dtype=np.float32)[:, None, None]
    return Layer(np.broadcast_to(tones, (3, *alpha.shape)).copy(), alpha)


def _thickness(shape: tuple[int, int], rng: Generator, low: float, high: float) -> float:
    return max(1.0, min(shape) * float(rng.uniform(low, high)))


def black_border(shape: tuple[int, int], rng: Generator) -> Layer:
    """A plain black border."""
    return _plain(_band(*shape, _thickness(shape, rng, 0.05, 0.09)), (0.0, 0.0, 0.0))


def white_border(shape: tuple[int, int], rng: Generator) -> Layer:
    """A plain white border."""
    return _plain(_band(*shape, _thickness(shape, rng, 0.05, 0.09)), (1.0, 1.0, 1.0))


def coloured_frame(shape: tuple[int, int], rng: Generator) -> Layer:
    """A border of one strong colour."""
    colours = [(0.85, 0.1, 0.1), (0.1, 0.25, 0.8), (0.1, 0.6, 0.2), (0.95, 0.75, 0.1)]
    colour = colours[int(rng.integers(len(colours)))]
    return _plain(_band(*shape, _thickness(shape, rng, 0.05, 0.09)), colour)


def wooden_frame(shape: tuple[int, int], rng: Generator) -> Layer:
    """A picture frame of brown wood: grain along each side, mitred corners, a lit bevel."""
    height, width = shape
    thickness = _thickness(shape, rng, 0.09, 0.13)
    alpha = _band(height, width, thickness)
    distance = _distance(height, width)
    y, x = np.mgrid[0.5:height, 0.5:width].astype(np.float32)
    lying = np.minimum(y, height - y) <= np.minimum(x, width - x)
    grain = np.where(lying, _grain(height, width, rng), _grain(width, height, rng).T)
    across = distance / thickness
    relief = 0.75 + 0.45 * np.sin(np.clip(across, 0, 1) * np.pi)
    relief[across > 0.85] *= 0.55
    lit = np.where(lying, y < height / 2, x < width / 2)
    tone = relief * np.where(lit, np.float32(1.12), np.float32(0.85)) * (1 + 0.13 * grain)
    seam = np.abs(np.minimum(y, height - y) - np.minimum(x, width - x)) < max(0.6, thickness / 20)
    tone[seam] *= 0.7
    wood = np.array([[0.55, 0.33, 0.16], [0.42, 0.24, 0.12], [0.68, 0.46, 0.25]], np.float32)
    base = wood[int(rng.integers(len(wood)))][:, None, None]
    return Layer(np.clip(base * tone, 0, 1).astype(np.float32), alpha)


def _grain(height: int, width: int, rng: Generator) -> FloatArray:
    """Fine streaks that run along the width, deviation about 1, shape (height, width)."""
    few = rng.standard_normal((height, 14), dtype=np.float32)
    streaks = np.asarray(Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC))
    grain: FloatArray = (streaks + np.roll(streaks, 1, axis=0)) / np.float32(1.2)
    return grain


def letterbox(shape: tuple[int, int], rng: Generator) -> Layer:
    """Black bars above and below, as around a film."""
    height, width = shape
    bar = max(1.0, height * float(rng.uniform(0.1, 0.15)))
    y = np.minimum(np.arange(height), np.arange(height)[::-1])[:, None] + 0.5
    alpha = np.broadcast_to(np.clip(bar - y + 0.5, 0, 1), (height, width))
    return _plain(alpha.astype(np.float32), (0.0, 0.0, 0.0))


def instant_photo(shape: tuple[int, int], rng: Generator) -> Layer:
    """The white border of an instant photo, broad at the bottom."""
    height, width = shape
    thin = _thickness(shape, rng, 0.04, 0.06)
    broad = height * float(rng.uniform(0.16, 0.21))
    bottom = np.clip(broad - (height - np.arange(height) - 0.5) + 0.5, 0, 1)[:, None]
    alpha = np.maximum(_band(height, width, thin), bottom)
    return _plain(alpha.astype(np.float32), (0.96, 0.95, 0.92))


def rounded_corners(shape: tuple[int, int], rng: Generator) -> Layer:
    """Corners cut round, white or black outside."""
    height, width = shape
    radius = min(shape) * float(rng.uniform(0.2, 0.3))
    y = np.maximum(radius - np.minimum(np.arange(height), np.arange(height)[::-1]) - 0.5, 0)
    x = np.maximum(radius - np.minimum(np.arange(width), np.arange(width)[::-1]) - 0.5, 0)
    beyond = np.hypot(y[:, None], x[None]) - radius
    alpha = np.clip(beyond + 0.5, 0, 1).astype(np.float32)
    tone = float(rng.random() < 0.6)
    return _plain(alpha, (tone, tone, tone))


def _radius(shape: tuple[int, int]) -> FloatArray:
    """Distance from the centre, 1 at the middle of each edge."""
    height, width = shape
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    return np.hypot(y, x)


def vignette(shape: tuple[int, int], rng: Generator) -> Layer:
    """Darkness that grows softly towards the corners."""
    start, strength = rng.uniform(0.35, 0.5), rng.uniform(0.85, 1.0)
    ramp = np.clip((_radius(shape) - start) / (1.35 - start), 0, 1)
    return _plain((strength * ramp**1.3).astype(np.float32), (0.0, 0.0, 0.0))


def circular_mask(shape: tuple[int, int], rng: Generator) -> Layer:
    """Black outside a round field of view, as through a dermatoscope, endoscope or telescope."""
    height, width = shape
    reach = min(shape) / 2 * float(rng.uniform(0.94, 1.04))
    y = np.arange(height)[:, None] - (height - 1) / 2
    x = np.arange(width)[None] - (width - 1) / 2
    softness = max(1.0, min(shape) / 60)
    alpha = np.clip((np.hypot(y, x) - reach) / softness + 0.5, 0, 1)
    return _plain(alpha.astype(np.float32), (0.02, 0.02, 0.02))
