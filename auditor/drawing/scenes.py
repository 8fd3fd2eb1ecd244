"""Small drawn pictures that say what they show: an object on a ground, things beside it, overlays.

They are the photos of models whose shortcuts are known, because a photo whose every ingredient
was chosen is the only kind that tells the truth about itself. An ingredient is drawn from random
numbers of its own, so a scene with and without it differs in nothing else.
"""

from __future__ import annotations

import colorsys
import math
import zlib
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from auditor.drawing import defects, weather
from auditor.drawing.backgrounds import BACKGROUNDS
from auditor.drawing.drawings import DRAWINGS, draw
from auditor.drawing.landscapes import LANDSCAPES
from auditor.drawing.shapes import COMPANIONS, FIGURES, OBJECTS, paste

__all__ = [
    "BACKGROUNDS",
    "BY_THE_WAY",
    "COMPANIONS",
    "FIGURES",
    "LANDSCAPES",
    "OBJECTS",
    "Scene",
    "describe",
    "render",
    "sample",
]

Array = NDArray[np.float32]
Random = np.random.Generator
Colour = tuple[float, float, float]

BY_THE_WAY = tuple(name for name in DRAWINGS if name not in {*weather.__all__, *defects.__all__})
"""The overlays that any scene may carry; weather and wear occur only where they are planted."""
_GROUNDS = {**BACKGROUNDS, **LANDSCAPES}
_BESIDE = {**COMPANIONS, **FIGURES}


@dataclass(frozen=True)
class Scene:
    """What a picture shows. `seed` decides everything else: places, sizes, colours, light."""

    object: str
    background: str
    companions: tuple[str, ...] = ()
    drawings: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for kind, names, known in (
            ("object", (self.object,), OBJECTS),
            ("background", (self.background,), _GROUNDS),
            ("companion", self.companions, _BESIDE),
            ("drawing", self.drawings, DRAWINGS),
        ):
            unknown = [name for name in names if name not in known]
            if unknown:
                raise ValueError(f"{unknown[0]!r} is no {kind}; known: {', '.join(sorted(known))}")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} is negative")


def sample(
    rng: Random,
    *,
    objects: Collection[str] | None = None,
    backgrounds: Collection[str] | None = None,
    companion_rate: float = 0.08,
    drawings: Collection[str] | None = None,
    drawing_rate: float = 0.02,
) -> Scene:
    """A scene in which every ingredient occurs independently of every other.

    Args:
        rng: the source of all choices, the scene's own seed included.
        objects: the names to choose from, all equally likely; by default every object.
        backgrounds: likewise.
        companion_rate: probability of each companion.
        drawings: the overlays that may occur; by default those of `BY_THE_WAY`.
        drawing_rate: probability of each of them.
    """

    def some(names: Collection[str], rate: float) -> tuple[str, ...]:
        return tuple(name for name in names if rng.random() < rate)

    return Scene(
        object=str(rng.choice(list(OBJECTS if objects is None else objects))),
        background=str(rng.choice(list(BACKGROUNDS if backgrounds is None else backgrounds))),
        companions=some(COMPANIONS, companion_rate),
        drawings=some(BY_THE_WAY if drawings is None else drawings, drawing_rate),
        seed=int(rng.integers(2**31)),
    )


def describe(scene: Scene) -> tuple[str, ...]:
    """The scene's contents in everyday English: the object, its ground, companions, overlays.

    >>> describe(Scene("car", "brick wall", ("red ball",)))
    ('a car', 'a brick wall', 'a red ball')
    """
    return (
        _with_article(scene.object),
        _GROUNDS[scene.background].words,
        *(_with_article(name) for name in scene.companions),
        *(_with_article(name.replace("_", " ")) for name in scene.drawings),
    )


def render(scene: Scene, *, size: int = 64) -> Tensor:
    """The scene as a float32 RGB tensor of shape (3, size, size) in [0, 1].

    Drawn at twice the size and reduced; overlays are drawn last, at the final size. The same
    scene has the same layout at every size.
    """
    if size < 16:
        raise ValueError(f"size {size} is too small for a scene; use 16 or more")
    canvas = _GROUNDS[scene.background].paint(_stream(scene, "background"), 2 * size)
    _clutter(canvas, _stream(scene, "clutter"))
    rng = _stream(scene, "object")
    scale = rng.uniform(0.24, 0.36)
    place = (rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.56))
    paste(canvas, OBJECTS[scene.object], rng, place=place, scale=scale, tilt=0.45)
    for name in scene.companions:
        rng = _stream(scene, name)
        side = 0.15 if rng.random() < 0.5 else 0.85
        place = (side + rng.uniform(-0.02, 0.02), rng.uniform(0.7, 0.87))
        scale = rng.uniform(0.1, 0.14)
        if name in FIGURES:  # a standing figure needs the height to be one
            place, scale = (place[0], rng.uniform(0.58, 0.68)), 2 * scale
        paste(canvas, _BESIDE[name], rng, place=place, scale=scale, tilt=0.2)
    _occlude(canvas, _stream(scene, "occlusion"))
    _light(canvas, _stream(scene, "light"))
    rows = canvas[0::2] + canvas[1::2]
    image = (rows[:, 0::2] + rows[:, 1::2]) / 4
    image += _stream(scene, "noise").normal(0, 0.015, image.shape)
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).clamp_(0, 1)
    for name in scene.drawings:
        tensor = draw(name, tensor, seed=int(_stream(scene, name).integers(2**31)))
    return tensor


def _stream(scene: Scene, part: str) -> Random:
    return np.random.default_rng([scene.seed, zlib.crc32(part.encode())])


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _clutter(canvas: Array, rng: Random) -> None:
    """Up to four small things of no kind, in muted colours."""
    side = canvas.shape[0]
    for _ in range(rng.integers(5)):
        corners = int(rng.integers(3, 8))
        angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
        spread = rng.uniform(0.4, 1, corners) * rng.uniform(0.03, 0.08) * side
        centre = rng.uniform(0, side, 2)
        points = centre + np.stack([np.cos(angle), np.sin(angle)], 1) * spread[:, None]
        colour = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.25, 0.85))
        _fill(canvas, points, colour)


def _occlude(canvas: Array, rng: Random) -> None:
    """In a quarter of scenes a bar, thin or thick, runs across the picture before the object."""
    if rng.random() > 0.25:
        return
    side = canvas.shape[0]
    angle, width = rng.uniform(0, np.pi), rng.uniform(0.02, 0.08) * side
    along = np.array([math.cos(angle), math.sin(angle)]) * 2 * side
    across = np.array([-math.sin(angle), math.cos(angle)]) * width / 2
    centre = rng.uniform(0.25, 0.75, 2) * side
    points = np.stack([centre + along + across, centre - along + across])
    points = np.concatenate([points, points[::-1] - 2 * across])
    colour = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.4), rng.uniform(0.2, 0.7))
    _fill(canvas, points, colour)


def _fill(canvas: Array, points: NDArray[np.float64], colour: Colour) -> None:
    side = canvas.shape[0]
    left, top = (max(math.floor(low) - 1, 0) for low in points.min(axis=0))
    right, bottom = (min(math.ceil(high) + 2, side) for high in points.max(axis=0))
    if left >= right or top >= bottom:
        return
    mask = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(mask).polygon((points - (left, top)).ravel().tolist(), fill=1)
    canvas[top:bottom, left:right][np.asarray(mask, bool)] = colour


def _light(canvas: Array, rng: Random) -> None:
    """Brightness, contrast, tint and a slope of light over the whole picture."""
    ramp = np.linspace(-1, 1, canvas.shape[0], dtype=np.float32)
    slope, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.2)
    lit = 1 + depth * (math.cos(slope) * ramp[None, :] + math.sin(slope) * ramp[:, None])
    contrast = rng.uniform(0.75, 1.1)
    canvas *= contrast
    canvas += 0.5 - 0.5 * contrast + rng.uniform(-0.08, 0.08)
    canvas *= lit[..., None]
    canvas *= rng.uniform(0.95, 1.05, 3).astype(np.float32)
    np.clip(canvas, 0, 1, out=canvas)
