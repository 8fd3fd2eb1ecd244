"""What comes between the camera and its subject: weather, stray light, mesh, drops of water."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from auditor.drawing.layers import WHITE, FloatArray, Sheet, blank, reduced

__all__ = [
    "falling_snow",
    "fog",
    "hard_shadows",
    "lens_flare",
    "rain",
    "spider_web",
    "water_drops",
    "wire_fence",
]

FINER = 4  # stamps are drawn so many times too large and reduced


def fog(image: FloatArray, rng: Generator) -> FloatArray:
    """Pale haze, denser towards the top, where a photo shows what is far away."""
    height, width = image.shape[1:]
    drift = gaussian_filter(rng.standard_normal((height, width)), min(height, width) / 8)
    drift = drift / max(float(drift.std()), 1e-6)
    far = np.linspace(1, 0, height)[:, None]
    density = rng.uniform(0.5, 0.62) + 0.25 * far + 0.05 * drift
    density = np.clip(density, 0.3, 0.92).astype(np.float32)
    result: FloatArray = image + density * (np.float32(rng.uniform(0.78, 0.9)) - image)
    return result


def falling_snow(image: FloatArray, rng: Generator) -> FloatArray:
    """White flakes in the air, near ones large and out of focus, far ones small."""
    height, width = image.shape[1:]
    side = min(height, width)
    cover = np.zeros((height, width), np.float32)
    for radius, count, opacity in ((0.008, 90, 1.0), (0.014, 40, 0.95), (0.026, 12, 0.75)):
        flakes = _discs(height, width, radius * side, count, rng)
        soft = gaussian_filter(flakes, max(0.3, 0.3 * radius * side))
        cover = np.maximum(cover, np.float32(opacity) * soft)
    return image + cover * (np.float32(0.97) - image)


def _discs(height: int, width: int, radius: float, count: int, rng: Generator) -> FloatArray:
    """Cover of shape (H, W) of discs at random places, of about this radius in pixels."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    cover = np.zeros((height, width), np.float32)
    for _ in range(count):
        top, left = rng.uniform(0, height), rng.uniform(0, width)
        reach = max(0.6, radius * float(rng.uniform(0.7, 1.3)))
        near = np.s_[
            max(0, int(top - reach - 2)) : int(top + reach + 3),
            max(0, int(left - reach - 2)) : int(left + reach + 3),
        ]
        distance = np.hypot(y[near] - top, x[near] - left)
        cover[near] = np.maximum(cover[near], np.clip(reach - distance + 0.5, 0, 1))
    return cover


def hard_shadows(image: FloatArray, rng: Generator) -> FloatArray:
    """The sharp dark bars that a low sun throws through slats, branches or a window."""
    height, width = image.shape[1:]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / min(height, width)
    angle = math.radians(float(rng.uniform(20, 70)) * (1 if rng.random() < 0.5 else -1))
    across = x * math.cos(angle) + y * math.sin(angle)
    period = rng.uniform(0.26, 0.38)
    phase = (across / period + rng.uniform()) % 1
    edge = 1.5 / (period * min(height, width))
    shaded = np.clip((0.27 - np.abs(phase - 0.5)) / edge + 0.5, 0, 1).astype(np.float32)
    lit: FloatArray = image * (1 - np.float32(rng.uniform(0.6, 0.75)) * shaded)
    return lit * np.float32(1.08)


def water_drops(image: FloatArray, rng: Generator) -> FloatArray:
    """Drops on the lens: each shows the photo upside down, with a dark rim and a highlight."""
    height, width = image.shape[1:]
    side = min(height, width)
    result = image.copy()
    for _ in range(int(rng.integers(13, 19))):
        radius = max(2.2, float(rng.uniform(0.04, 0.085)) * side)
        top, left = rng.uniform(0, height), rng.uniform(0, width)
        reach = radius + 2
        rows = np.arange(max(0, int(top - reach)), min(height, int(top + reach) + 1))
        columns = np.arange(max(0, int(left - reach)), min(width, int(left + reach) + 1))
        v, u = (rows[:, None] - top) / radius, (columns[None] - left) / radius
        distance = np.hypot(v, u)
        inside = np.clip((1 - distance) * radius + 0.5, 0, 1)
        turned = (
            np.clip(top - 3.5 * v * radius, 0, height - 1).astype(np.int64),
            np.clip(left - 3.5 * u * radius, 0, width - 1).astype(np.int64),
        )
        seen = image[:, *turned] * (1.12 - 0.6 * np.clip(distance, 0, 1) ** 4)
        glint = np.clip(1.4 - np.hypot(v + 0.4, u + 0.35) / 0.28, 0, 1)
        drop = seen + glint * (1 - seen)
        near = np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        result[near] += (inside * (drop - result[near])).astype(np.float32)
    return result


def _canvas(sheet: Sheet) -> Image.Image:
    return blank(FINER * sheet.width, FINER * sheet.height, WHITE)


def _lay(sheet: Sheet, stamp: Image.Image) -> None:
    sheet.put(reduced(stamp, FINER), sheet.width / 2, sheet.height / 2)


def rain(sheet: Sheet) -> None:
    """Bright slanting streaks of rain."""
    stamp = _canvas(sheet)
    draw = ImageDraw.Draw(stamp)
    side = FINER * sheet.side
    lean = math.radians(sheet.uniform(-22, 22))
    for _ in range(150):
        x, y = sheet.uniform(0, stamp.width), sheet.uniform(-0.1, 1) * stamp.height
        length = sheet.uniform(0.08, 0.17) * side
        end = x + length * math.sin(lean), y + length * math.cos(lean)
        alpha = round(sheet.uniform(120, 220))
        draw.line((x, y, *end), fill=(235, 240, 250, alpha), width=max(3, side // 110))
    _lay(sheet, stamp)


def lens_flare(sheet: Sheet) -> None:
    """A glaring sun with rays, and coloured ghosts on the line through the photo's centre."""
    width, height, side = sheet.width, sheet.height, sheet.side
    sun = sheet.uniform(0.1, 0.35) * width, sheet.uniform(0.08, 0.3) * height
    if sheet.rng.random() < 0.5:
        sun = width - sun[0], sun[1]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    v, u = y - sun[1], x - sun[0]
    distance = np.hypot(v, u) / side
    rays = 1 + 0.6 * np.cos(6 * np.arctan2(v, u) + sheet.uniform(0, 6)) ** 8
    pixels = np.empty((height, width, 4), np.uint8)
    pixels[..., :3] = (255, 250, 225)
    pixels[..., 3] = 255 * np.clip(0.055 * rays / (distance + 0.03) - 0.1, 0, 1)
    sheet.put(Image.fromarray(pixels, "RGBA"), width / 2, height / 2)
    colours = ((120, 255, 160), (255, 140, 90), (130, 170, 255), (255, 230, 120))
    for colour, place in zip(colours, (0.7, 1.1, 1.55, 1.95), strict=True):
        radius = round(FINER * max(2.0, sheet.uniform(0.05, 0.11) * side))
        ghost = blank(2 * radius, 2 * radius, colour)
        ImageDraw.Draw(ghost).regular_polygon((radius, radius, radius), 6, fill=(*colour, 110))
        sheet.put(
            reduced(ghost, FINER),
            sun[0] + place * (width / 2 - sun[0]),
            sun[1] + place * (height / 2 - sun[1]),
        )


def wire_fence(sheet: Sheet) -> None:
    """The diamonds of a chain-link fence in front of everything."""
    stamp = _canvas(sheet)
    draw = ImageDraw.Draw(stamp)
    side = FINER * sheet.side
    step = sheet.uniform(0.14, 0.2) * side
    slope = sheet.uniform(0.9, 1.3)
    tone = round(sheet.uniform(95, 135))
    line = max(3, round(sheet.uniform(0.016, 0.024) * side))
    start = sheet.uniform(0, step) - slope * stamp.height
    while start < stamp.width + slope * stamp.height:
        for lean, ink in ((slope, tone), (-slope, tone + 35)):
            end = start + lean * stamp.height
            draw.line((start, 0, end, stamp.height), fill=(ink, ink, ink + 5, 235), width=line)
        start += step
    _lay(sheet, stamp)


def spider_web(sheet: Sheet) -> None:
    """Pale threads: spokes from a hub and a spiral that sags between them."""
    stamp = _canvas(sheet)
    draw = ImageDraw.Draw(stamp)
    side = FINER * sheet.side
    x, y = sheet.uniform(0.25, 0.75) * stamp.width, sheet.uniform(0.25, 0.75) * stamp.height
    reach, line = sheet.uniform(0.5, 0.7) * side, max(2, side // 120)
    ink = (240, 242, 245, 215)
    spokes = int(sheet.rng.integers(11, 15))
    turns = [2 * math.pi * (k + sheet.uniform(-0.2, 0.2)) / spokes for k in range(spokes)]

    def at(turn: float, radius: float) -> tuple[float, float]:
        return x + radius * math.cos(turn), y + radius * math.sin(turn)

    for turn in turns:
        draw.line((x, y, *at(turn, reach)), fill=ink, width=line)
    for radius in np.arange(0.07 * side, 0.92 * reach, 0.065 * side):
        for turn, following in zip(turns, [*turns[1:], turns[0] + 2 * math.pi], strict=True):
            ends = at(turn, radius), at(following, radius)
            middle = at((turn + following) / 2, 0.9 * radius)
            draw.line((*ends[0], *middle, *ends[1]), fill=ink, width=line)
    _lay(sheet, stamp)
