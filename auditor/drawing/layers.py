"""Sheets that overlays are drawn on, and how a drawing becomes its own meaningless control.

An overlay is made of stamps, small RGBA pictures that are put somewhere on the photo. Its
matched control is the same layer made of the same stamps at the same places, only that the
pixels of each stamp are rearranged into blobs (see `scrambled`): same box, same colours, same
mean ink, nothing to read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from auditor.drawing.lettering import Colour, Face, text_stamp

__all__ = [
    "BLACK",
    "WHITE",
    "FloatArray",
    "Layer",
    "Sheet",
    "blank",
    "reduced",
    "scrambled",
    "text_within",
]

FloatArray = NDArray[np.float32]
WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)


@dataclass(frozen=True)
class Layer:
    """What lies on the photo: colour of shape (3, H, W) and alpha of shape (H, W), 0 to 1."""

    colour: FloatArray
    alpha: FloatArray

    def __post_init__(self) -> None:
        if self.colour.shape != (3, *self.alpha.shape):
            raise ValueError(f"colour {self.colour.shape} does not fit alpha {self.alpha.shape}")


@dataclass(frozen=True)
class Sheet:
    """An empty layer of a photo's size, and what decides the drawing on it.

    `rng` chooses words, places and angles. Where `scramble` is given, every stamp is also put on
    a second canvas, with its pixels rearranged; `scramble` is a generator of its own, so that the
    choices stay the same.
    """

    canvas: Image.Image
    scrambled: Image.Image
    luminance: float
    rng: Generator
    scramble: Generator | None

    @staticmethod
    def over(image: FloatArray, rng: Generator, scramble: Generator | None) -> Sheet:
        """An empty sheet for a photo of shape (3, H, W)."""
        _, height, width = image.shape
        canvas = Image.new("RGBA", (width, height), (127, 127, 127, 0))
        return Sheet(canvas, canvas.copy(), float(image.mean()), rng, scramble)

    @property
    def width(self) -> int:
        """In pixels."""
        return self.canvas.width

    @property
    def height(self) -> int:
        """In pixels."""
        return self.canvas.height

    @property
    def side(self) -> int:
        """The shorter side in pixels, which sizes are relative to."""
        return min(self.canvas.size)

    def uniform(self, low: float, high: float) -> float:
        """A random number between the two."""
        return float(self.rng.uniform(low, high))

    def pick(self, *choices: Colour) -> Colour:
        """One of the colours."""
        return choices[int(self.rng.integers(len(choices)))]

    def put(
        self,
        stamp: Image.Image,
        x: float,
        y: float,
        *,
        angle: float = 0,
        opacity: float = 1,
        shared: bool = False,
    ) -> None:
        """Lay a stamp over what is there, its centre at (x, y) in pixels, rotated in degrees.

        A stamp without a meaning of its own may be `shared`: the control has it as it is.
        """
        stamps = [(self.canvas, stamp)]
        if self.scramble is not None:
            other = stamp if shared else scrambled(_trimmed(stamp), self.scramble)
            stamps.append((self.scrambled, other))
        for canvas, each in stamps:
            turned = _faded(_rotated(each, angle), opacity)
            left, top = round(x - turned.width / 2), round(y - turned.height / 2)
            hidden = max(0, -left), max(0, -top)
            if hidden[0] < turned.width and hidden[1] < turned.height:
                canvas.alpha_composite(turned, (max(0, left), max(0, top)), hidden)

    def put_in_corner(
        self, stamp: Image.Image, corner: int, *, margin: float = 0.03, opacity: float = 1
    ) -> None:
        """Lay a stamp into a corner: 0 bottom right, 1 bottom left, 2 top right, 3 top left."""
        gap = margin * self.side
        x, y = stamp.width / 2 + gap, stamp.height / 2 + gap
        x = x if corner % 2 else self.width - x
        y = y if corner >= 2 else self.height - y
        self.put(stamp, x, y, opacity=opacity)

    def fitted(
        self,
        text: str,
        face: Face,
        *,
        height: float,
        colour: Colour = WHITE,
        outline: Colour | None = None,
        room: float = 0.94,
    ) -> Image.Image:
        """A line of text of the given height, or less where it would exceed `room` of the width."""
        stamp = text_stamp(text, face, height=height, colour=colour, outline=outline)
        limit = room * self.width
        if stamp.width <= limit:
            return stamp
        lower = height * limit / stamp.width
        return text_stamp(text, face, height=lower, colour=colour, outline=outline)

    def layer(self) -> Layer:
        """What was put on the sheet."""
        return _layer(self.canvas)

    def control(self) -> Layer:
        """The same with the pixels of each stamp rearranged; nothing without `scramble`."""
        return _layer(self.scrambled)


def _rotated(stamp: Image.Image, angle: float) -> Image.Image:
    return stamp.rotate(angle, Image.Resampling.BICUBIC, expand=True) if angle else stamp


def _faded(stamp: Image.Image, opacity: float) -> Image.Image:
    if opacity < 1:
        stamp = stamp.copy()
        stamp.putalpha(stamp.getchannel("A").point(lambda value: value * opacity))
    return stamp


def _layer(canvas: Image.Image) -> Layer:
    pixels = np.asarray(canvas, dtype=np.float32).transpose(2, 0, 1) / 255
    return Layer(np.ascontiguousarray(pixels[:3]), np.ascontiguousarray(pixels[3]))


def _trimmed(stamp: Image.Image) -> Image.Image:
    """Without empty margins, as far as the centre stays where it is."""
    left, top, right, bottom = stamp.getbbox() or (0, 0, *stamp.size)
    x, y = min(left, stamp.width - right), min(top, stamp.height - bottom)
    return stamp.crop((x, y, stamp.width - x, stamp.height - y))


def scrambled(stamp: Image.Image, rng: Generator) -> Image.Image:
    """The stamp's own pixels, rearranged into blobs about as wide as its strokes.

    Pixels are sorted by ink and dealt out in the order of smooth noise, as in the amplitude
    adjustment of surrogate data (Theiler et al., Physica D 58, 1992), but with isotropic noise
    instead of the stamp's own spectrum, which would draw a bar code's bars again. Box, colours
    and mean ink stay exactly the same.
    """
    pixels = np.asarray(stamp)
    height, width = pixels.shape[:2]
    flat = pixels.reshape(-1, 4).astype(np.int64)
    ink = flat[:, 3] * 1000 + flat[:, :3] @ np.array([2, 5, 1])
    tone = (ink - ink.min()).reshape(height, width) / max(1, int(np.ptp(ink)))
    edges = float(np.abs(np.diff(tone, axis=0)).sum() + np.abs(np.diff(tone, axis=1)).sum())
    minority = float(min(tone.sum(), tone.size - tone.sum()))
    stroke = np.clip(2 * minority / max(edges, 1e-6), 1.0, max(1.0, min(height, width) / 4))
    noise = gaussian_filter(
        rng.standard_normal((height, width), dtype=np.float32), 0.5 * stroke, mode="wrap"
    )
    colours = np.ascontiguousarray(pixels).reshape(-1, 4).view(np.uint32)[:, 0]
    result = np.empty_like(colours)
    bits = noise.ravel().view(np.int32)  # floats of one sign are ordered as their bits are
    by_noise = np.where(bits < 0, np.int32(-1) - (bits & np.int32(2**31 - 1)), bits)
    result[_order(by_noise)] = colours[_order(ink)]
    return Image.fromarray(result.view(np.uint8).reshape(pixels.shape), "RGBA")


def _order(values: NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.int64]:
    """The stable order of numbers of at most 32 bits; `np.argsort` takes four times as long."""
    places = np.arange(len(values), dtype=np.int64)
    return np.sort(values.astype(np.int64) << 32 | places) & (2**32 - 1)


def blank(width: float, height: float, colour: Colour = BLACK, alpha: int = 0) -> Image.Image:
    """A plain stamp; its colour shows at the soft edges of what is drawn on it."""
    return Image.new("RGBA", (max(1, round(width)), max(1, round(height))), (*colour, alpha))


def reduced(stamp: Image.Image, factor: int) -> Image.Image:
    """A stamp that was drawn `factor` times too large, at its size, with soft edges."""
    size = max(1, stamp.width // factor), max(1, stamp.height // factor)
    return stamp.resize(size, Image.Resampling.BOX)


def text_within(text: str, face: Face, width: float, tallest: float, ink: Colour) -> Image.Image:
    """A line of text as wide as asked, but not taller than `tallest`, in pixels."""
    trial = text_stamp(text, face, height=32, colour=ink)
    return text_stamp(text, face, height=min(tallest, 32 * width / trial.width), colour=ink)
