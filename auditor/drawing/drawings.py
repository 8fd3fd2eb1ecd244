"""Concepts drawn on photos, each beside a matched control that means nothing.

A drawn concept is the cleanest evidence there is: the same photo with and without it. What the
change alone does, whatever it shows, is measured with the control: an edit of the same place,
area, opacity and energy (root mean square change over all pixels) without the meaning.

- overlay: the same stamps with their pixels rearranged into blobs (`auditor.drawing.layers`);
- frame: the same area, made lighter and darker in smooth random patches;
- global: a smooth random field of light, or of colours, of the same energy; where the concept is
  made of many spots (`local`), in those spots alone.
"""

from __future__ import annotations

import difflib
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image
from scipy.ndimage import maximum_filter
from torch import Tensor

from auditor.drawing import defects, frames, imaging, markings, weather, writing
from auditor.drawing.layers import FloatArray, Layer, Sheet
from auditor.errors import ConceptsError

__all__ = ["DRAWINGS", "Drawing", "draw", "draw_pair", "unknown"]

Edit = Callable[[FloatArray, int], FloatArray]


@dataclass(frozen=True)
class Drawing:
    """A concept that can be drawn, and its control.

    Attributes:
        name: a Python name.
        kind: decides the control.
        draw: takes an image, float32 array of shape (3, H, W) in [0, 1], and a seed, which gives
            place, words and angle; returns an image of the same shape.
        pair: takes the same; returns what `draw` does, and the control at the same place.
        degrades: whether it alters or hides part of the whole photo, not of one place.
    """

    name: str
    kind: Literal["overlay", "frame", "global"]
    draw: Edit
    pair: Callable[[FloatArray, int], tuple[FloatArray, FloatArray]]
    degrades: bool


def draw(name: str, image: Tensor, *, seed: int) -> Tensor:
    """The image with the concept drawn on it.

    Args:
        name: of a drawing in `DRAWINGS`.
        image: float tensor of shape (3, H, W) in [0, 1], at least 8 pixels a side.
        seed: decides place, words, angle, opacity and the like; any whole number.

    Raises:
        ConceptsError: there is no such drawing.
    """
    return _tensor(_find(name).draw(_array(image), seed), image.device)


def draw_pair(name: str, image: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
    """The image that `draw` gives, and the drawing's matched control: same place, no meaning.

    The energy of the two changes agrees as far as the image leaves room: where a frame cannot be
    matched inside its own area (black over white can only be matched by black), the control's area
    grows.
    """
    drawn, control = _find(name).pair(_array(image), seed)
    return _tensor(drawn, image.device), _tensor(control, image.device)


def _find(name: str) -> Drawing:
    try:
        return DRAWINGS[name]
    except KeyError:
        raise ConceptsError(unknown(name)) from None


def unknown(name: str) -> str:
    """A sentence that says that this is no drawing, and which ones come closest."""
    close = ", ".join(difflib.get_close_matches(name[:60], DRAWINGS, n=5, cutoff=0))
    return f"{name[:40]!r} is none of the {len(DRAWINGS)} drawings; the closest are {close}."


def _array(image: Tensor) -> FloatArray:
    if image.ndim != 3 or image.shape[0] != 3 or min(image.shape[1:]) < 8:
        raise ValueError(f"expected an image of shape (3, H, W), not {tuple(image.shape)}")
    pixels: FloatArray = image.detach().to("cpu", torch.float32).clamp(0, 1).numpy()
    return pixels


def _tensor(result: FloatArray, device: torch.device) -> Tensor:
    clipped = np.clip(result, 0, 1, dtype=np.float32)
    return torch.from_numpy(np.ascontiguousarray(clipped)).to(device)


def _generator(name: str, seed: int, use: str) -> Generator:
    return np.random.default_rng([seed & 0xFFFFFFFFFFFFFFFF, zlib.crc32(f"{name}/{use}".encode())])


def _laid(image: FloatArray, layer: Layer) -> FloatArray:
    return image + layer.alpha * (layer.colour - image)


def _energy(change: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(change))))


def _matched(image: FloatArray, change: FloatArray, target: float) -> FloatArray:
    """The image plus a multiple of the change, clipped to [0, 1], whose energy is the target."""
    scale = target / max(_energy(change), 1e-9)
    low, high = 0.0, math.inf
    result = image
    for _ in range(16):
        result = np.clip(image + np.float32(scale) * change, 0, 1)
        reached = _energy(result - image)
        if abs(reached - target) <= 0.02 * target:
            break
        low, high = (scale, high) if reached < target else (low, scale)
        scale = 2 * scale if math.isinf(high) else (low + high) / 2
    return result


def _overlay(make: Callable[[Sheet], None], *, degrades: bool = False) -> Drawing:
    name = make.__name__

    def sheet(image: FloatArray, seed: int, scramble: Generator | None) -> Sheet:
        made = Sheet.over(image, _generator(name, seed, "draw"), scramble)
        make(made)
        return made

    def draw(image: FloatArray, seed: int) -> FloatArray:
        return _laid(image, sheet(image, seed, None).layer())

    def pair(image: FloatArray, seed: int) -> tuple[FloatArray, FloatArray]:
        made = sheet(image, seed, _generator(name, seed, "control"))
        drawn = _laid(image, made.layer())
        change = _laid(image, made.control()) - image
        return drawn, _matched(image, change, _energy(drawn - image))

    return Drawing(name, "overlay", draw, pair, degrades)


def _frame(make: Callable[[tuple[int, int], Generator], Layer]) -> Drawing:
    name = make.__name__

    def layer(image: FloatArray, seed: int) -> Layer:
        _, height, width = image.shape
        return make((height, width), _generator(name, seed, "draw"))

    def draw(image: FloatArray, seed: int) -> FloatArray:
        return _laid(image, layer(image, seed))

    def pair(image: FloatArray, seed: int) -> tuple[FloatArray, FloatArray]:
        frame = layer(image, seed)
        drawn = _laid(image, frame)
        target = _energy(drawn - image)
        alpha, (height, width) = frame.alpha, frame.alpha.shape
        patches = _field(height, width, _generator(name, seed, "control"), cells=14)
        result = image
        for _ in range(8):
            result = _matched(image, alpha[None] * patches, target)
            if _energy(result - image) >= 0.93 * target:
                break
            alpha = maximum_filter(alpha, 1 + 2 * max(1, min(height, width) // 40))
        return drawn, result

    return Drawing(name, "frame", draw, pair, degrades=True)


def _global(
    make: Callable[[FloatArray, Generator], FloatArray],
    *,
    colours: bool = False,
    local: bool = False,
) -> Drawing:
    name = make.__name__

    def draw(image: FloatArray, seed: int) -> FloatArray:
        edited: FloatArray = np.clip(make(image, _generator(name, seed, "draw")), 0, 1)
        return edited

    def pair(image: FloatArray, seed: int) -> tuple[FloatArray, FloatArray]:
        drawn = draw(image, seed)
        change = drawn - image
        _, height, width = image.shape
        rng = _generator(name, seed, "control")
        field = _field(height, width, rng, channels=3 if colours else 1)
        if local:
            field = field * np.abs(change).max(0)
        return drawn, _matched(image, field, _energy(change))

    return Drawing(name, "global", draw, pair, degrades=True)


def _field(
    height: int, width: int, rng: Generator, *, channels: int = 1, cells: int = 6
) -> FloatArray:
    """Smooth random numbers of mean 0 and deviation 1, shape (channels, H, W)."""
    coarse = rng.standard_normal((channels, cells, cells), dtype=np.float32)
    size, method = (width, height), Image.Resampling.BICUBIC
    field: FloatArray = np.stack(
        [np.asarray(Image.fromarray(each).resize(size, method)) for each in coarse]
    )
    field = field - field.mean(axis=(1, 2), keepdims=True)
    return field / np.float32(max(float(field.std()), 1e-6))


_ALL = (
    _overlay(writing.chinese_watermark),
    _overlay(writing.latin_watermark),
    _overlay(writing.chinese_caption),
    _overlay(writing.caption),
    _overlay(writing.time_stamp),
    _overlay(writing.web_address),
    _overlay(writing.logo),
    _overlay(markings.price_tag),
    _overlay(markings.barcode),
    _overlay(markings.qr_code),
    _overlay(markings.ruler),
    _overlay(markings.red_arrow),
    _overlay(markings.red_circle),
    _overlay(markings.crosshair),
    _overlay(markings.hair_strands),
    _overlay(markings.pen_marking),
    _overlay(markings.radiograph_marker),
    _frame(frames.black_border),
    _frame(frames.white_border),
    _frame(frames.coloured_frame),
    _frame(frames.wooden_frame),
    _frame(frames.letterbox),
    _frame(frames.instant_photo),
    _frame(frames.rounded_corners),
    _frame(frames.vignette),
    _frame(frames.circular_mask),
    _global(imaging.greyscale, colours=True),
    _global(imaging.sepia_tone, colours=True),
    _global(imaging.red_cast, colours=True),
    _global(imaging.green_cast, colours=True),
    _global(imaging.blue_cast, colours=True),
    _global(imaging.yellow_cast, colours=True),
    _global(imaging.oversaturation, colours=True),
    _global(imaging.overexposure),
    _global(imaging.underexposure),
    _global(imaging.low_contrast),
    _global(imaging.high_contrast),
    _global(imaging.gaussian_blur),
    _global(imaging.motion_blur),
    _global(imaging.noise),
    _global(imaging.jpeg_blocks),
    _global(imaging.pixelation),
    _global(imaging.halftone_print),
    _global(imaging.scan_lines),
    _global(weather.fog),
    _global(weather.falling_snow, local=True),
    _global(weather.hard_shadows),
    _global(weather.water_drops, local=True),
    _overlay(weather.rain, degrades=True),
    _overlay(weather.lens_flare),
    _overlay(weather.wire_fence, degrades=True),
    _overlay(weather.spider_web, degrades=True),
    _overlay(defects.film_scratches),
    _overlay(defects.fold_creases),
    _overlay(defects.adhesive_tape),
    _overlay(defects.star_sticker),
    _global(defects.light_leak, colours=True, local=True),
    _global(defects.dust_on_the_lens, local=True),
)
DRAWINGS: Mapping[str, Drawing] = MappingProxyType({each.name: each for each in _ALL})
