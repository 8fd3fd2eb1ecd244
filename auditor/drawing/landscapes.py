"""Grounds that look like photographs: distance, haze, light and detail at every scale.

They are apart from the plain grounds of scenes because only planted shortcuts use them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageFilter

from auditor.drawing.backgrounds import Array, Background, Random, axes, cloud, hsv, mix, noise, sky

__all__ = ["LANDSCAPES"]


def _ridge(rng: Random, side: int, level: float, height: float) -> Array:
    """A rugged line across the picture, of shape (side,), from the top in sides."""
    x = np.linspace(0, 1, side, dtype=np.float32)
    line = np.zeros(side, np.float32)
    for octave in range(5):
        knots = rng.uniform(-1, 1, 3 * 2**octave + 1)
        line += np.interp(x, np.linspace(0, 1, len(knots)), knots).astype(np.float32) / 1.8**octave
    return level - height * line


def _mountains(rng: Random, side: int) -> Array:
    image = sky(rng, side)
    y, _ = axes(side)
    haze = image[: max(1, side // 3)].mean((0, 1))
    rock = hsv(rng, (0.55, 0.68), (0.12, 0.35), (0.25, 0.42))
    for step, (level, height) in enumerate(((0.5, 0.16), (0.6, 0.12), (0.72, 0.08))):
        ridge = _ridge(rng, side, level + rng.uniform(-0.04, 0.04), height)
        near = (step + 1) / 3
        face = haze + near * (rock - haze)
        relief = 1 + 0.3 * cloud(rng, side, 9)
        body = face * relief[..., None]
        white = np.clip(6 * (ridge[None, :] + 0.07 - y) + 0.5 * noise(rng, side, (24, 24)), 0, 1)
        body = body + (white * (1 - 0.5 * near))[..., None] * (0.95 - body)
        image = np.where((y > ridge[None, :])[..., None], body, image)
    return np.asarray(image, np.float32)


def _forest(rng: Random, side: int) -> Array:
    light = hsv(rng, (0.18, 0.26), (0.2, 0.45), (0.75, 0.95))
    dark = hsv(rng, (0.3, 0.38), (0.4, 0.7), (0.1, 0.2))
    image = mix(0.5 + 0.6 * cloud(rng, side, 6), dark, light)
    for near in (0.3, 0.6, 1.0):
        trunk = hsv(rng, (0.05, 0.1), (0.25, 0.5), (0.45 - 0.3 * near, 0.6 - 0.35 * near))
        for centre in rng.uniform(0, 1, int(rng.integers(3, 6))):
            width = near * rng.uniform(0.02, 0.045)
            sway = 0.02 * np.interp(
                np.linspace(0, 1, side), np.linspace(0, 1, 6), rng.normal(size=6)
            )
            _, x = axes(side)
            across = (x - (centre + sway[:, None])) / width
            bark = trunk * (1.15 + 0.35 * across + 0.25 * noise(rng, side, (side, 40)))[..., None]
            image = np.where((np.abs(across) < 1)[..., None], bark, image)
        leaves = noise(rng, side, (side / 2, side / 2)) + 0.8 * cloud(rng, side, 5)
        y, _ = axes(side)
        shown = leaves > 0.35 + 1.2 * np.abs(y - rng.choice([0.1, 0.95]))
        green = mix(
            np.asarray(0.5 + leaves / 2, np.float32),
            dark * 1.4,
            hsv(rng, (0.22, 0.33), (0.5, 0.8), (0.4, 0.65)),
        )
        image = np.where(shown[..., None], green, image)
    return np.asarray(image, np.float32)


def _sunset(rng: Random, side: int) -> Array:
    y, x = axes(side)
    horizon = rng.uniform(0.6, 0.72)
    high = hsv(rng, (0.62, 0.75), (0.35, 0.6), (0.25, 0.45))
    low = hsv(rng, (0.03, 0.09), (0.75, 0.95), (0.9, 1.0))
    image = mix(np.asarray((y / horizon) ** 1.6, np.float32), high, low)
    bands = np.clip(1.5 * noise(rng, side, (18, 4)) + 0.6 * cloud(rng, side, 4), 0, 1)
    image = image + (0.55 * bands)[..., None] * (
        hsv(rng, (0.9, 1.0), (0.4, 0.6), (0.5, 0.8)) - image
    )
    sun, height = rng.uniform(0.2, 0.8), horizon - rng.uniform(0.02, 0.12)
    distance = np.hypot(x - sun, y - height)
    image = image + np.exp(-distance / 0.07)[..., None] * np.array([1.0, 0.85, 0.5], np.float32)
    image = image + (distance < 0.05)[..., None] * np.array([0.6, 0.6, 0.4], np.float32)
    mirrored = image[np.clip((2 * horizon * side - np.arange(side)).astype(int), 0, side - 1)]
    glitter = 1 + 0.4 * noise(rng, side, (side / 2, 10))
    water = 0.55 * mirrored * glitter[..., None]
    image = np.where((y > horizon)[..., None], water, image)
    soft = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
    soft = soft.filter(ImageFilter.GaussianBlur(side / 256))
    return np.asarray(soft, np.float32) / np.float32(255)


def _night_sky(rng: Random, side: int) -> Array:
    y, x = axes(side)
    high = hsv(rng, (0.6, 0.7), (0.6, 0.85), (0.04, 0.1))
    low = hsv(rng, (0.6, 0.72), (0.45, 0.7), (0.16, 0.3))
    image = mix(np.asarray(y + 0.15 * cloud(rng, side, 4), np.float32), high, low)
    band = np.abs(y - 0.5 - rng.uniform(-0.6, 0.6) * (x - 0.5)) / 0.16
    milky = np.clip(1 - band, 0, 1) * np.clip(0.5 + cloud(rng, side, 8), 0, 1)
    image = image + (0.3 * milky)[..., None]
    for size, count in ((0.004, 130), (0.008, 24), (0.013, 5)):
        for top, left in rng.uniform(0, 1, (count, 2)):
            distance = np.hypot(y - top, x - left)
            image = image + (rng.uniform(0.5, 1) * np.exp(-((distance / size) ** 2)))[..., None]
    ridge = _ridge(rng, side, rng.uniform(0.86, 0.94), 0.05)
    return np.asarray(np.where((y > ridge[None, :])[..., None], 0.03, image), np.float32)


def _city_skyline(rng: Random, side: int) -> Array:
    image = sky(rng, side)
    y, x = axes(side)
    haze = image[: max(1, side // 3)].mean((0, 1))
    for near in (0.35, 0.65, 1.0):
        left = rng.uniform(-0.1, 0)
        while left < 1:
            wide = rng.uniform(0.07, 0.16)
            top = 0.22 + 0.3 * near + rng.uniform(-0.14, 0.14)
            face = haze + near * (hsv(rng, (0.02, 0.65), (0.02, 0.25), (0.25, 0.65)) - haze)
            columns, rows = max(2, round(wide / 0.028)), 26
            pane = ((x - left) / wide * columns % 1 > 0.4) & (y * rows % 1 > 0.45)
            lit = rng.random((rows + 1, columns + 1)) < 0.8
            place = np.clip(((x - left) / wide * columns).astype(int), 0, columns)
            glass = pane & lit[np.clip((y * rows).astype(int), 0, rows), place]
            tone = face * np.where(glass, 1 - 0.45 * near, 1.0)[..., None]
            inside = (x >= left) & (x < left + wide) & (y > top)
            image = np.where(inside[..., None], tone, image)
            left += wide + rng.uniform(0, 0.03)
    return np.asarray(image, np.float32)


def _curtain(rng: Random, side: int) -> Array:
    y, x = axes(side)
    cloth = hsv(rng, (0, 1), (0.25, 0.7), (0.45, 0.8))
    sway = np.interp(np.linspace(0, 1, side), np.linspace(0, 1, 5), rng.normal(0, 0.02, 5))
    turn = (x + sway[:, None]) * rng.uniform(7, 11) + rng.uniform()
    fold = np.sin(2 * np.pi * (turn + 0.25 * np.sin(2 * np.pi * turn / 3)))
    shade = 0.78 + 0.3 * fold - 0.12 * np.clip(fold, -1, -0.6) + 0.03 * noise(rng, side, (side, 9))
    return np.asarray(cloth * (shade * (1 - 0.15 * y))[..., None], np.float32)


LANDSCAPES: Mapping[str, Background] = {
    "mountains": Background("mountains under the sky", _mountains),
    "forest": Background("a forest", _forest),
    "sunset": Background("a sunset over water", _sunset),
    "night sky": Background("a night sky", _night_sky),
    "city skyline": Background("a city skyline", _city_skyline),
    "curtain": Background("a curtain", _curtain),
}
