"""What happened to the whole photo: its colour, light, sharpness, noise and compression."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.random import Generator
from PIL import Image
from scipy.ndimage import convolve1d, gaussian_filter, rotate

from auditor.drawing.layers import FloatArray

__all__ = [
    "blue_cast",
    "gaussian_blur",
    "green_cast",
    "greyscale",
    "halftone_print",
    "high_contrast",
    "jpeg_blocks",
    "low_contrast",
    "motion_blur",
    "noise",
    "overexposure",
    "oversaturation",
    "pixelation",
    "red_cast",
    "scan_lines",
    "sepia_tone",
    "underexposure",
    "yellow_cast",
]

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


def _between(rng: Generator, low: float, high: float) -> np.float32:
    return np.float32(rng.uniform(low, high))


def _grey(image: FloatArray) -> FloatArray:
    return np.tensordot(LUMA, image, axes=1).astype(np.float32)


def _as_photo(image: FloatArray) -> Image.Image:
    return Image.fromarray((image.transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8), "RGB")


def _as_array(photo: Image.Image) -> FloatArray:
    return np.asarray(photo, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)


def greyscale(image: FloatArray, rng: Generator) -> FloatArray:
    """Without colour."""
    return np.repeat(_grey(image)[None], 3, axis=0)


def sepia_tone(image: FloatArray, rng: Generator) -> FloatArray:
    """Brown tones of an old print."""
    tint = np.array([1.08, 0.88, 0.65], dtype=np.float32)[:, None, None]
    return np.float32(0.04) + _grey(image)[None] * tint * _between(rng, 0.92, 1.0)


def _cast(image: FloatArray, rng: Generator, colour: tuple[float, float, float]) -> FloatArray:
    strength = _between(rng, 0.3, 0.45)
    tone = np.asarray(colour, dtype=np.float32)[:, None, None]
    return image + strength * (tone * (np.float32(0.35) + np.float32(0.65) * _grey(image)) - image)


def red_cast(image: FloatArray, rng: Generator) -> FloatArray:
    """A red tint."""
    return _cast(image, rng, (1.0, 0.05, 0.05))


def green_cast(image: FloatArray, rng: Generator) -> FloatArray:
    """A green tint."""
    return _cast(image, rng, (0.05, 0.95, 0.1))


def blue_cast(image: FloatArray, rng: Generator) -> FloatArray:
    """A blue tint."""
    return _cast(image, rng, (0.05, 0.2, 1.0))


def yellow_cast(image: FloatArray, rng: Generator) -> FloatArray:
    """A yellow tint."""
    return _cast(image, rng, (1.0, 0.9, 0.0))


def overexposure(image: FloatArray, rng: Generator) -> FloatArray:
    """Too much light: bright parts burnt out."""
    return image * _between(rng, 1.7, 2.1) + 0.08


def underexposure(image: FloatArray, rng: Generator) -> FloatArray:
    """Too little light."""
    return image ** np.float32(1.15) * _between(rng, 0.3, 0.4)


def low_contrast(image: FloatArray, rng: Generator) -> FloatArray:
    """Flat and greyish."""
    return 0.5 + (image - float(image.mean())) * _between(rng, 0.22, 0.32)


def high_contrast(image: FloatArray, rng: Generator) -> FloatArray:
    """Harsh: dark parts black, light parts white."""
    middle = float(np.median(image))
    return middle + (image - middle) * _between(rng, 2.4, 3.0)


def oversaturation(image: FloatArray, rng: Generator) -> FloatArray:
    """Gaudy colours."""
    grey = _grey(image)[None]
    return grey + (image - grey) * _between(rng, 2.6, 3.4)


def gaussian_blur(image: FloatArray, rng: Generator) -> FloatArray:
    """Out of focus."""
    sigma = max(0.8, min(image.shape[1:]) * _between(rng, 0.014, 0.022))
    blurred: FloatArray = gaussian_filter(image, (0, sigma, sigma), truncate=3, mode="nearest")
    return blurred


def motion_blur(image: FloatArray, rng: Generator) -> FloatArray:
    """Smeared along one direction by a moving camera or subject."""
    length = max(3, round(min(image.shape[1:]) * _between(rng, 0.07, 0.1)))
    line = np.zeros((length | 1, length | 1), dtype=np.float32)
    line[length // 2] = 1
    line = np.clip(rotate(line, _between(rng, 0, 180), reshape=False, order=1), 0, None)
    return _smear(image, line / line.sum())


def _smear(image: FloatArray, kernel: FloatArray) -> FloatArray:
    reach = kernel.shape[0] // 2
    padded = np.pad(image, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    result = np.zeros_like(image)
    height, width = image.shape[1:]
    for (dy, dx), weight in np.ndenumerate(kernel):
        if weight > 1e-3:
            result += weight * padded[:, dy : dy + height, dx : dx + width]
    return result


def noise(image: FloatArray, rng: Generator) -> FloatArray:
    """Sensor noise: stronger in each channel's bright parts, as photons are counted."""
    strength = _between(rng, 0.11, 0.16)
    grain = rng.standard_normal(image.shape, dtype=np.float32)
    spread: FloatArray = np.sqrt(np.float32(0.35) + np.float32(0.65) * image)
    return image + strength * spread * grain


def jpeg_blocks(image: FloatArray, rng: Generator) -> FloatArray:
    """Compressed so far that the blocks of 8 x 8 pixels show."""
    buffer = io.BytesIO()
    _as_photo(image).save(buffer, "JPEG", quality=int(rng.integers(5, 9)), subsampling=2)
    with Image.open(buffer) as photo:
        return _as_array(photo.convert("RGB"))


def pixelation(image: FloatArray, rng: Generator) -> FloatArray:
    """Large square pixels."""
    photo = _as_photo(image)
    count = int(rng.integers(22, 31))
    side = min(photo.size)
    cell = max(2, round(side / count))
    few = max(1, round(photo.width / cell)), max(1, round(photo.height / cell))
    small = photo.resize(few, Image.Resampling.BOX)
    return _as_array(small.resize(photo.size, Image.Resampling.NEAREST))


def halftone_print(image: FloatArray, rng: Generator) -> FloatArray:
    """Dots of ink on paper, larger where the photo is darker, one screen for each colour."""
    height, width = image.shape[1:]
    period = max(3.0, min(height, width) / _between(rng, 34, 46))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    soft = gaussian_filter(image, (0, period / 4, period / 4))
    result = np.empty_like(image)
    for channel, angle in enumerate((15.0, 75.0, 45.0)):
        turn = math.radians(angle + _between(rng, -4, 4))
        run, rise = (2 * math.pi / period * f(turn) for f in (math.cos, math.sin))
        u, v = x * run + y * rise, y * run - x * rise
        screen = 0.5 + 0.25 * (np.cos(u) + np.cos(v))
        result[channel] = np.clip((soft[channel] - screen) * 4 + 0.5, 0.08, 0.96)
    return result


def scan_lines(image: FloatArray, rng: Generator) -> FloatArray:
    """The dark horizontal lines of a television picture."""
    height = image.shape[1]
    period = max(2.0, height / _between(rng, 55, 75))
    y = np.arange(height, dtype=np.float32) + _between(rng, 0, period)
    wave = (y / period) % 1 < 0.5
    lines = np.where(wave, 0.42, 1.1).astype(np.float32)
    softened: FloatArray = convolve1d(
        image, np.full(3, 1 / 3, dtype=np.float32), axis=2, mode="nearest"
    )
    return softened * lines[None, :, None]
