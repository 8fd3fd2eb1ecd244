"""Grounds that scenes stand on: walls, floors, landscapes and patterns, each painted anew."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

__all__ = [
    "BACKGROUNDS",
    "Array",
    "Background",
    "Random",
    "axes",
    "cloud",
    "hsv",
    "mix",
    "noise",
    "sky",
]

Array = NDArray[np.float32]
Random = np.random.Generator


@dataclass(frozen=True)
class Background:
    """A ground to stand on: how it is called, and how to paint it, [side, side, 3]."""

    words: str
    paint: Callable[[Random, int], Array]


def noise(rng: Random, side: int, cells: tuple[float, float]) -> Array:
    """Smooth noise in about [-1, 1] with so many cells down and across."""
    rows, columns = (max(2, min(side, round(count))) for count in cells)
    grid = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    image = Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32)


def cloud(rng: Random, side: int, cells: float = 3) -> Array:
    """Noise of four octaves in about [-1, 1]."""
    return sum(
        (noise(rng, side, (cells * 2**k, cells * 2**k)) / 2 ** (k + 1) for k in range(4)),
        start=np.zeros((side, side), np.float32),
    )


def hsv(
    rng: Random,
    hue: tuple[float, float],
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Array:
    """A colour drawn from ranges of hue, saturation and value, as RGB in [0, 1]."""
    rgb = colorsys.hsv_to_rgb(rng.uniform(*hue) % 1, rng.uniform(*saturation), rng.uniform(*value))
    return np.array(rgb, np.float32)


def _any_colour(rng: Random) -> Array:
    return hsv(rng, (0, 1), (0.05, 0.7), (0.35, 0.95))


def mix(share: Array, low: Array, high: Array) -> Array:
    """`low` where `share` is 0, `high` where it is 1."""
    return low + np.clip(share, 0, 1)[..., None] * (high - low)


def axes(side: int) -> tuple[Array, Array]:
    """Places down and across, each of shape (side, side), in (0, 1)."""
    line = ((np.arange(side) + 0.5) / side).astype(np.float32)
    across = np.tile(line, (side, 1))
    return np.ascontiguousarray(across.T), across


@dataclass(frozen=True)
class _Blocks:
    """Rows of blocks with joints between them.

    Attributes:
        face: colour of the blocks, as RGB in [0, 1].
        joint: colour of the joints, likewise.
        height: of a row, over the side of the picture.
        ratio: width of a block over its height.
        gap: width of a joint over the height of a row.
        bond: how far every second row is shifted, over the width of a block.
        spread: largest difference of a block's brightness from the mean, as a share of it.
    """

    face: Array
    joint: Array
    height: float
    ratio: float
    gap: float
    bond: float
    spread: float

    def paint(self, rng: Random, side: int) -> Array:
        """A wall of them, of shape (side, side, 3)."""
        y, x = axes(side)
        row = (y + rng.random()) / self.height
        column = (x + rng.random()) / (self.height * self.ratio)
        column = column + self.bond * (np.floor(row) % 2)
        shade = rng.uniform(1 - self.spread, 1 + self.spread, (64, 64)).astype(np.float32)
        tone = shade[row.astype(int) % 64, column.astype(int) % 64]
        inside = ((row % 1) > self.gap) & ((column % 1) > self.gap / self.ratio)
        rough = 1 + 0.08 * noise(rng, side, (side, side))
        image = np.where(inside[..., None], self.face * tone[..., None], self.joint)
        return np.asarray(image * rough[..., None], np.float32)


def _brick_wall(rng: Random, side: int) -> Array:
    face = hsv(rng, (-0.02, 0.06), (0.5, 0.75), (0.5, 0.75))
    joint = hsv(rng, (0.05, 0.12), (0.02, 0.15), (0.65, 0.85))
    height = rng.uniform(0.09, 0.13)
    blocks = _Blocks(face, joint, height, ratio=2.2, gap=0.16, bond=0.5, spread=0.18)
    return blocks.paint(rng, side)


def _tiled_wall(rng: Random, side: int) -> Array:
    face = hsv(rng, (0.4, 0.65), (0.03, 0.3), (0.75, 0.95))
    height = rng.uniform(0.14, 0.22)
    blocks = _Blocks(face, face * 0.6, height, ratio=1, gap=0.07, bond=0, spread=0.04)
    return blocks.paint(rng, side)


def _wooden_planks(rng: Random, side: int) -> Array:
    upright = rng.random() < 0.5
    face = hsv(rng, (0.06, 0.1), (0.4, 0.65), (0.45, 0.75))
    height = rng.uniform(0.14, 0.22)
    blocks = _Blocks(face, face * 0.35, height, ratio=30, gap=0.08, bond=0, spread=0.16)
    image = blocks.paint(rng, side)
    image *= 1 + 0.22 * noise(rng, side, (side / 2, 4))[..., None]
    return np.ascontiguousarray(image.transpose(1, 0, 2)) if upright else image


def _grass(rng: Random, side: int) -> Array:
    dark = hsv(rng, (0.24, 0.34), (0.6, 0.85), (0.2, 0.35))
    light = hsv(rng, (0.2, 0.3), (0.5, 0.8), (0.55, 0.8))
    blades = noise(rng, side, (14, side / 2)) + 0.6 * noise(rng, side, (28, side))
    return mix(0.45 + 0.42 * blades + 0.15 * cloud(rng, side), dark, light)


def _sand(rng: Random, side: int) -> Array:
    base = hsv(rng, (0.09, 0.13), (0.25, 0.45), (0.8, 0.95))
    y, x = axes(side)
    waves = np.sin(2 * np.pi * (y * rng.uniform(5, 9) + 0.35 * cloud(rng, side, 2) + 0.6 * x))
    tone = 1 + 0.07 * waves + 0.09 * rng.standard_normal((side, side), np.float32)
    return np.asarray(base * tone[..., None], np.float32)


def _water(rng: Random, side: int) -> Array:
    deep = hsv(rng, (0.52, 0.62), (0.6, 0.85), (0.3, 0.5))
    light = hsv(rng, (0.5, 0.58), (0.15, 0.4), (0.8, 0.95))
    ripples = noise(rng, side, (26, 5)) + 0.8 * noise(rng, side, (40, 9))
    return mix(0.3 + 0.5 * np.abs(ripples) ** 1.5 + 0.15 * cloud(rng, side, 2), deep, light)


def _snow(rng: Random, side: int) -> Array:
    shade = hsv(rng, (0.57, 0.65), (0.15, 0.3), (0.7, 0.82))
    return mix(
        0.72 + 0.5 * noise(rng, side, (5, 3)) + 0.06 * noise(rng, side, (side, side)),
        shade,
        np.array([0.97, 0.98, 1.0], np.float32),
    )


def sky(rng: Random, side: int) -> Array:
    """Blue sky behind a veil of clouds, of shape (side, side, 3)."""
    y, _ = axes(side)
    high = hsv(rng, (0.56, 0.62), (0.45, 0.75), (0.65, 0.9))
    low = hsv(rng, (0.53, 0.58), (0.1, 0.3), (0.9, 1))
    white = np.full(3, 0.97, np.float32)
    veil = np.clip(1.8 * (cloud(rng, side, 3) - rng.uniform(-0.1, 0.25)), 0, 0.95)
    image = mix(y, high, low)
    return np.asarray(image + veil[..., None] * (white - image), np.float32)


def _meadow(rng: Random, side: int) -> Array:
    _, x = axes(side)
    horizon = rng.uniform(0.45, 0.65) + 0.07 * np.sin(2 * np.pi * (x[0] + rng.random()))
    below = np.arange(side)[:, None] / side > horizon[None, :]
    shade = rng.uniform(0.8, 1.1)
    image = sky(rng, side)
    return np.asarray(np.where(below[..., None], _grass(rng, side) * shade, image), np.float32)


def _scatter(
    rng: Random, side: int, base: Array, *, count: int, size: float, tall: float, spread: float
) -> Array:
    """A heap of lighter and darker ovals of one colour."""
    image = Image.new("RGB", (side, side), tuple(int(255 * part * 0.35) for part in base))
    pen = ImageDraw.Draw(image)
    places = rng.uniform(-0.05, 1.05, (count, 2)) * side
    radii = rng.uniform(0.5, 1, (count, 2)) * np.array([size, size * tall]) * side
    tones = rng.uniform(1 - spread, 1 + spread, (count, 1)) * rng.uniform(0.93, 1.07, (count, 3))
    fills = np.clip(255 * base * tones, 0, 255).astype(int).tolist()
    for (x, y), (rx, ry), fill in zip(places.tolist(), radii.tolist(), fills, strict=True):
        pen.ellipse((x - rx, y - ry, x + rx, y + ry), fill=tuple(fill))
    return np.asarray(image, np.float32) / np.float32(255)


def _pebbles(rng: Random, side: int) -> Array:
    base = hsv(rng, (0.05, 0.6), (0.02, 0.12), (0.5, 0.7))
    return _scatter(rng, side, base, count=420, size=0.055, tall=0.75, spread=0.4)


def _foliage(rng: Random, side: int) -> Array:
    base = hsv(rng, (0.24, 0.36), (0.5, 0.75), (0.35, 0.5))
    return _scatter(rng, side, base, count=420, size=0.045, tall=1.4, spread=0.5)


def _stripes(rng: Random, side: int) -> Array:
    y, x = axes(side)
    angle = rng.uniform(0, np.pi)
    phase = (x * math.cos(angle) + y * math.sin(angle)) * rng.uniform(4, 9)
    return _two_colours(rng, (phase % 1) < 0.5)


def _checkers(rng: Random, side: int) -> Array:
    y, x = axes(side)
    count = rng.uniform(5, 9)
    return _two_colours(rng, (np.floor(x * count) + np.floor(y * count)) % 2 < 1)


def _dots(rng: Random, side: int) -> Array:
    y, x = axes(side)
    count, shift = rng.uniform(5, 8), rng.random(2)
    row = y * count + shift[0]
    column = x * count + shift[1] + 0.5 * (np.floor(row) % 2)
    radius = rng.uniform(0.22, 0.34)
    return _two_colours(rng, (row % 1 - 0.5) ** 2 + (column % 1 - 0.5) ** 2 < radius**2)


def _two_colours(rng: Random, mask: NDArray[np.bool_]) -> Array:
    hue = rng.random()
    one = hsv(rng, (hue, hue), (0.2, 0.8), (0.25, 0.6))
    two = hsv(rng, (hue + 0.2, hue + 0.8), (0.05, 0.5), (0.75, 0.95))
    image = np.where(mask[..., None], one, two)
    return np.asarray(image * (1 + 0.04 * cloud(rng, mask.shape[0]))[..., None], np.float32)


def _plain(rng: Random, side: int) -> Array:
    return np.asarray(_any_colour(rng) * (1 + 0.06 * cloud(rng, side, 2))[..., None], np.float32)


def _blur(rng: Random, side: int) -> Array:
    one, two = _any_colour(rng), _any_colour(rng)
    y, x = axes(side)
    angle = rng.uniform(0, 2 * np.pi)
    slope = 0.6 * (math.cos(angle) * (x - 0.5) + math.sin(angle) * (y - 0.5))
    return mix(0.5 + slope + 0.8 * cloud(rng, side, 2), one, two)


BACKGROUNDS: Mapping[str, Background] = {
    "brick wall": Background("a brick wall", _brick_wall),
    "tiled wall": Background("a tiled wall", _tiled_wall),
    "wooden planks": Background("wooden planks", _wooden_planks),
    "grass": Background("grass", _grass),
    "sand": Background("sand", _sand),
    "water": Background("water", _water),
    "snow": Background("snow", _snow),
    "sky": Background("the sky with clouds", sky),
    "meadow": Background("a meadow under the sky", _meadow),
    "pebbles": Background("pebbles", _pebbles),
    "foliage": Background("green foliage", _foliage),
    "stripes": Background("a striped pattern", _stripes),
    "checkers": Background("a checkered pattern", _checkers),
    "dots": Background("a dotted pattern", _dots),
    "plain": Background("a plain background", _plain),
    "blur": Background("a blurred background", _blur),
}
