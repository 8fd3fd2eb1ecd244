"""What a photo picks up after it was taken: scratches, folds, stray light on film, dust, tape."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from auditor.drawing.layers import WHITE, FloatArray, Sheet, blank, reduced

__all__ = [
    "adhesive_tape",
    "dust_on_the_lens",
    "film_scratches",
    "fold_creases",
    "light_leak",
    "star_sticker",
]

TAPE = (214, 194, 130)
FINER = 4  # stamps are drawn so many times too large and reduced


def film_scratches(sheet: Sheet) -> None:
    """Pale upright scratches, as a projector leaves them along the film."""
    stamp = blank(FINER * sheet.width, FINER * sheet.height, WHITE)
    draw = ImageDraw.Draw(stamp)
    heights = np.linspace(0, 1, 13)
    for _ in range(int(sheet.rng.integers(6, 11))):
        x, top = sheet.uniform(0.02, 0.98), sheet.uniform(-0.3, 0.4)
        bottom = top + sheet.uniform(0.5, 1.3)
        sway = np.cumsum(sheet.rng.normal(0, 0.0025, len(heights)))
        points = [
            (float(x + dx) * stamp.width, float(top + (bottom - top) * y) * stamp.height)
            for dx, y in zip(sway, heights, strict=True)
        ]
        ink = (245, 245, 235, round(sheet.uniform(150, 230)))
        draw.line(points, fill=ink, width=max(3, FINER * sheet.side // 130))
    _lay(sheet, stamp)


def fold_creases(sheet: Sheet) -> None:
    """The cracked white folds of a print that was kept in a pocket, one down and one across."""
    stamp = blank(FINER * sheet.width, FINER * sheet.height, WHITE)
    draw = ImageDraw.Draw(stamp)
    side = FINER * sheet.side
    along = np.linspace(-0.02, 1.02, 240)
    for upright in (True, False):
        place, lean = sheet.uniform(0.36, 0.64), sheet.uniform(-0.06, 0.06)
        line = place + lean * (along - 0.5)
        for shift, tone, alpha in ((0.012, 60, 110), (0.0, 248, 235)):
            knots = sheet.rng.uniform(0.5, 1.8, 40)
            width = 0.012 * side * np.interp(along, np.linspace(0, 1, len(knots)), knots)
            for a, b, thick in zip(along, line + shift, width, strict=True):
                x, y = (b, a) if upright else (a, b)
                centre = float(x) * stamp.width, float(y) * stamp.height
                draw.circle(centre, max(2.0, float(thick)), fill=(tone, tone, tone, alpha))
    _lay(sheet, stamp)


def adhesive_tape(sheet: Sheet) -> None:
    """Two or three strips of yellowed, half-transparent tape across corners.

    All are on one stamp: rearranged in its own box, a strip of one colour stays a strip.
    """
    stamp = blank(FINER * sheet.width, FINER * sheet.height, TAPE)
    long, wide = (round(FINER * part * sheet.side) for part in (0.46, 0.15))
    for corner in sheet.rng.permutation(4)[: int(sheet.rng.integers(2, 4))]:
        strip = blank(long, wide, TAPE)
        draw = ImageDraw.Draw(strip)
        teeth = np.linspace(0, wide, 9)
        jag = 0.05 * wide
        ends = [(jag * (k % 2), float(y)) for k, y in enumerate(teeth)]
        ends += [(long - 1 - jag * (k % 2), float(y)) for k, y in enumerate(teeth[::-1])]
        draw.polygon(ends, fill=(*TAPE, 175))
        for y in (0.2, 0.55, 0.8):
            draw.line((0, y * wide, long, y * wide), fill=(240, 228, 185, 190), width=wide // 12)
        right, low = bool(corner % 2), bool(corner // 2)
        turn = (45 if right == low else -45) + sheet.uniform(-10, 10)
        strip = strip.rotate(turn, Image.Resampling.BICUBIC, expand=True)
        x, y = (0.88 if far else 0.12 for far in (right, low))
        place = round(x * stamp.width - strip.width / 2), round(y * stamp.height - strip.height / 2)
        stamp.paste(strip, place, strip.getchannel("A"))
    _lay(sheet, stamp)


def star_sticker(sheet: Sheet) -> None:
    """A shiny five-pointed star with a pale rim, stuck somewhere off the middle."""
    radius = FINER * sheet.side * sheet.uniform(0.1, 0.15)
    colour = sheet.pick((235, 190, 40), (225, 60, 60), (70, 120, 230), (60, 180, 90))
    stamp = blank(2.3 * radius, 2.3 * radius, colour)
    draw = ImageDraw.Draw(stamp)
    middle, turn = 1.15 * radius, sheet.uniform(0, 2 * math.pi)

    def star(reach: float) -> list[tuple[float, float]]:
        angles = [turn + math.pi * k / 5 for k in range(10)]
        radii = [reach * (1 if k % 2 == 0 else 0.45) for k in range(10)]
        return [
            (middle + r * math.sin(a), middle - r * math.cos(a))
            for a, r in zip(angles, radii, strict=True)
        ]

    light = tuple((channel + 2 * 255) // 3 for channel in colour)
    draw.polygon(star(1.1 * radius), fill=(250, 250, 245, 255))
    draw.polygon(star(0.92 * radius), fill=(*colour, 255))
    draw.polygon(star(0.4 * radius), fill=(*light, 255))
    x, y = (float(sheet.rng.choice([0.18, 0.82])) + sheet.uniform(-0.04, 0.04) for _ in range(2))
    sheet.put(reduced(stamp, FINER), x * sheet.width, y * sheet.height)


def light_leak(image: FloatArray, rng: Generator) -> FloatArray:
    """A glow of orange and red that seeps in from one side, as on film in a leaky camera."""
    height, width = image.shape[1:]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    across = (x / width, 1 - x / width, y / height, 1 - y / height)[int(rng.integers(4))]
    drift = gaussian_filter(rng.standard_normal((height, width)), min(height, width) / 5)
    drift = drift / max(float(drift.std()), 1e-6)
    glow = np.clip(1 - (across + 0.07 * drift) / rng.uniform(0.5, 0.65), 0, 1)
    colour = np.stack([glow**0.5, 0.85 * glow**1.2, 0.5 * glow**2.5]).astype(np.float32)
    result: FloatArray = 1 - (1 - image) * (1 - np.float32(0.95) * colour)
    return result


def dust_on_the_lens(image: FloatArray, rng: Generator) -> FloatArray:
    """Soft dark spots and a few curled fibres, out of focus, on lens or sensor."""
    height, width = image.shape[1:]
    side = min(height, width)
    finer = Image.new("L", (FINER * width, FINER * height))
    draw = ImageDraw.Draw(finer)
    for _ in range(int(rng.integers(10, 17))):
        place = rng.uniform(0, 1) * finer.width, rng.uniform(0, 1) * finer.height
        draw.circle(place, FINER * side * rng.uniform(0.015, 0.035), fill=255)
    for _ in range(int(rng.integers(2, 4))):
        start = rng.uniform(0, 1, 2) * finer.size
        turns = rng.uniform(0, 6) + np.cumsum(rng.normal(0, 0.5, 10))
        steps = 0.025 * FINER * side * np.stack([np.cos(turns), np.sin(turns)], 1)
        points = [(float(a), float(b)) for a, b in start + np.cumsum(steps, 0)]
        draw.line(points, fill=255, width=max(4, FINER * side // 70), joint="curve")
    cover = np.asarray(finer.resize((width, height), Image.Resampling.BOX), np.float32) / 255
    cover = gaussian_filter(cover, 0.012 * side)
    result: FloatArray = image * (1 - np.float32(0.72) * cover)
    return result


def _lay(sheet: Sheet, stamp: Image.Image) -> None:
    sheet.put(reduced(stamp, FINER), sheet.width / 2, sheet.height / 2)
