"""Things drawn as a few shaded shapes: the objects of scenes, and what may stand beside them."""

from __future__ import annotations

import colorsys
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

__all__ = ["COMPANIONS", "FIGURES", "OBJECTS", "paste"]

Array = NDArray[np.float32]
Random = np.random.Generator
Colour = tuple[float, float, float]

# Each line is a kind, a colour, for lines a width, and points; the box is [-1, 1], y downwards. An
# ellipse is its centre and its radii, a blob a smooth closed curve, "hole" cuts what lies below.
OBJECTS: Mapping[str, str] = {
    "car": """
        poly main -1,.32 -1,.02 -.62,-.06 -.34,-.42 .36,-.42 .64,-.06 .98,.04 1,.32
        poly glass -.52,-.06 -.3,-.34 -.02,-.34 -.02,-.06
        poly glass .06,-.06 .06,-.34 .31,-.34 .52,-.06
        line deep .04 .02,-.3 .02,.3
        ellipse dark -.55,.34 .24,.24
        ellipse dark .56,.34 .24,.24
        ellipse grey -.55,.34 .12,.12
        ellipse grey .56,.34 .12,.12
        ellipse light .92,.1 .07,.05""",
    "house": """
        poly deep .36,-.82 .36,-.3 .58,-.2 .58,-.82
        poly main -.72,.85 -.72,-.1 .72,-.1 .72,.85
        poly second -.98,-.05 0,-.9 .98,-.05
        poly wood -.14,.85 -.14,.28 .2,.28 .2,.85
        poly glass -.58,.12 -.26,.12 -.26,.44 -.58,.44
        poly glass .34,.12 .62,.12 .62,.44 .34,.44
        line light .04 -.42,.12 -.42,.44
        line light .04 .48,.12 .48,.44""",
    "fish": """
        poly second .45,0 1,-.5 .84,0 1,.5
        poly second -.25,-.3 .25,-.68 .35,-.2
        blob main -.98,.03 -.6,-.32 -.1,-.42 .35,-.24 .65,0 .35,.24 -.1,.42 -.6,.34
        blob pale -.8,.16 -.1,.2 .3,.16 -.1,.36 -.55,.3
        line deep .05 -.42,-.28 -.35,0 -.42,.28
        poly second -.12,.0 .2,.2 .16,-.1
        ellipse light -.66,-.08 .11,.11
        ellipse dark -.68,-.08 .06,.06""",
    "cup": """
        curve main .15 .4,-.3 .78,-.36 .93,-.05 .78,.28 .4,.32
        ellipse main -.03,.68 .5,.13
        poly main -.62,-.6 .56,-.6 .47,.68 -.53,.68
        poly second -.6,-.28 .54,-.28 .5,.1 -.57,.1
        ellipse pale -.03,-.6 .59,.16
        ellipse wood -.03,-.58 .49,.11""",
    "key": """
        ellipse main -.6,0 .4,.4
        ellipse hole -.68,0 .17,.17
        line main .17 -.25,0 .95,0
        poly main .52,0 .52,.34 .66,.34 .66,0
        poly main .78,0 .78,.42 .95,.42 .95,0
        line pale .05 -.2,-.03 .9,-.03""",
    "star": """
        poly main 0,-1 .25,-.34 .95,-.31 .4,.13 .59,.81 0,.42 -.59,.81 -.4,.13 -.95,-.31 -.25,-.34
        poly pale 0,-1 0,.05 -.25,-.34
        poly pale .95,-.31 0,.05 .25,-.34
        poly pale .59,.81 0,.05 .4,.13
        poly pale -.59,.81 0,.05 0,.42
        poly pale -.95,-.31 0,.05 -.4,.13""",
    "arrow": """
        poly main -1,-.2 .12,-.2 .12,-.62 1,0 .12,.62 .12,.2 -1,.2
        poly pale -1,-.2 .12,-.2 .12,-.62 1,0 .8,0 .22,-.4 .22,-.08 -1,-.08""",
    "boat": """
        line wood .09 0,.3 0,-.98
        poly second .08,-.92 .85,.16 .08,.16
        poly light -.08,-.75 -.66,.16 -.08,.16
        poly main -1,.28 1,.28 .7,.8 -.72,.8
        line pale .08 -.93,.38 .92,.38""",
    "aeroplane": """
        poly second -.22,-.1 .2,-.98 .44,-.98 .24,-.1
        poly second -.22,.1 .2,.98 .44,.98 .24,.1
        poly second .68,-.06 .88,-.44 1.04,-.44 .94,-.04
        poly second .68,.06 .88,.44 1.04,.44 .94,.04
        blob main -1,0 -.82,-.15 0,-.17 .8,-.1 1.02,0 .8,.1 0,.17 -.82,.15
        line deep .05 .55,0 1,0
        ellipse glass -.8,0 .08,.1""",
    "mushroom": """
        blob cream -.2,-.1 .2,-.1 .24,.5 .32,.9 0,.97 -.32,.9 -.24,.5
        blob main -.98,.12 -.82,-.42 -.38,-.8 .0,-.88 .38,-.8 .82,-.42 .98,.12 .5,.2 0,.22 -.5,.2
        ellipse light -.5,-.2 .17,.14
        ellipse light .05,-.5 .18,.15
        ellipse light .52,-.12 .17,.14
        ellipse light -.02,.0 .1,.08""",
    "umbrella": """
        line wood .09 0,0 0,.75
        curve wood .09 0,.72 .06,.9 .18,.96 .29,.88 .3,.75
        poly main -1,.1 -.9,-.35 -.6,-.68 -.2,-.84 .2,-.84 .6,-.68 .9,-.35 1,.1 .83,-.03 .66,-.04
             .5,0 .33,.12 .17,-.02 0,-.05 -.17,-.02 -.33,.12 -.5,0 -.66,-.04 -.83,-.03
        poly second -.33,.12 -.26,-.4 0,-.84 .26,-.4 .33,.12 .17,-.02 0,-.05 -.17,-.02
        line dark .06 0,-.84 0,-1""",
    "bottle": """
        poly main -.16,-.9 .16,-.9 .16,-.5 .37,-.22 .37,.95 -.37,.95 -.37,-.22 -.16,-.5
        poly second -.19,-1 .19,-1 .19,-.8 -.19,-.8
        poly cream -.37,.05 .37,.05 .37,.62 -.37,.62
        line second .08 -.25,.25 .25,.25
        line second .05 -.2,.43 .2,.43
        line pale .07 -.25,-.2 -.25,.0""",
    "bicycle": """
        ring dark .08 -.58,.3 .4,.4
        ring dark .08 .58,.3 .4,.4
        line main .09 -.58,.3 -.22,-.35 .4,-.35 .02,.3 -.58,.3
        line main .09 .02,.3 -.26,-.45
        line main .09 .58,.3 .36,-.55 .56,-.66
        line dark .11 -.42,-.47 -.12,-.47
        ellipse grey .02,.3 .1,.1""",
    "tree": """
        poly wood -.13,.98 -.09,.1 .09,.1 .13,.98
        ellipse green -.42,.0 .42,.38
        ellipse green .42,.0 .42,.38
        ellipse green 0,-.45 .52,.5
        ellipse green 0,.05 .4,.3""",
    "chair": """
        line main .12 -.45,-.95 -.45,.95
        line main .12 .5,.15 .5,.95
        line deep .1 -.15,.2 -.15,.8
        line deep .1 .3,.2 .3,.8
        poly second -.5,.05 .58,.05 .58,.22 -.5,.22
        poly main -.5,-.9 -.33,-.9 -.33,.0 -.5,.0
        line pale .05 -.42,-.85 -.42,-.1""",
    "butterfly": """
        blob main -.06,-.1 -.45,-.75 -.95,-.7 -.85,-.1 -.4,.05
        blob main .06,-.1 .45,-.75 .95,-.7 .85,-.1 .4,.05
        blob second -.06,.05 -.5,.1 -.7,.5 -.4,.75 -.1,.35
        blob second .06,.05 .5,.1 .7,.5 .4,.75 .1,.35
        ellipse pale -.6,-.42 .14,.14
        ellipse pale .6,-.42 .14,.14
        ellipse dark 0,.05 .07,.42
        line dark .04 -.02,-.3 -.22,-.75
        line dark .04 .02,-.3 .22,-.75""",
    "lamp": """
        line dark .1 0,.0 0,.85
        ellipse dark 0,.88 .42,.1
        poly main -.32,-.9 .32,-.9 .68,.05 -.68,.05
        poly pale -.32,-.9 -.12,-.9 -.25,.05 -.68,.05""",
    "clock": """
        ellipse main 0,0 .95,.95
        ellipse cream 0,0 .76,.76
        line dark .08 0,0 0,-.55
        line dark .08 0,0 .38,.2
        line dark .06 0,-.72 0,-.64
        line dark .06 0,.72 0,.64
        line dark .06 -.72,0 -.64,0
        line dark .06 .72,0 .64,0""",
}

COMPANIONS: Mapping[str, str] = {
    "red ball": """
        ellipse red 0,0 .95,.95
        ellipse light -.35,-.4 .2,.16""",
    "coin": """
        ellipse gold 0,0 .95,.95
        ring brass .12 0,0 .72,.72
        poly brass -.12,-.4 .12,-.4 .12,.4 -.12,.4""",
    "leaf": """
        blob green -.9,.6 -.6,-.2 .1,-.7 .95,-.8 .75,.05 .15,.6
        line lime .07 -.95,.8 .75,-.6
        line lime .05 -.3,.27 -.2,-.3
        line lime .05 .1,-.05 .55,.15""",
    "flag": """
        line wood .14 -.8,-1 -.8,1
        poly red -.75,-.95 .9,-.95 .9,-.55 -.75,-.55
        poly light -.75,-.55 .9,-.55 .9,-.15 -.75,-.15
        poly blue -.75,-.15 .9,-.15 .9,.25 -.75,.25""",
    "traffic cone": """
        poly orange -.95,.7 .95,.7 .95,.95 -.95,.95
        poly orange -.15,-1 .15,-1 .65,.75 -.65,.75
        poly light -.29,-.5 .29,-.5 .4,-.15 -.4,-.15
        poly light -.47,.15 .47,.15 .56,.45 -.56,.45""",
    "flower": """
        line green .14 0,.1 0,1
        ellipse pink 0,-.75 .28,.32
        ellipse pink .42,-.45 .32,.28
        ellipse pink .28,.0 .3,.3
        ellipse pink -.28,.0 .3,.3
        ellipse pink -.42,-.45 .32,.28
        ellipse gold 0,-.33 .26,.26""",
    "book": """
        poly blue -.9,-.65 .8,-.65 .8,.6 -.9,.6
        poly cream -.8,.6 .9,.6 .9,.78 -.8,.78
        poly blue -.9,.74 .9,.74 .9,.86 -.9,.86
        line gold .1 -.5,-.3 .4,-.3
        line gold .1 -.5,.0 .4,.0""",
    "candle": """
        poly cream -.28,-.35 .28,-.35 .28,.95 -.28,.95
        line dark .08 0,-.35 0,-.5
        blob orange 0,-1 .2,-.65 0,-.42 -.2,-.65
        blob gold 0,-.8 .1,-.6 0,-.5 -.1,-.6""",
}

# People, apart from the companions because only planted shortcuts use them, and drawn larger.
FIGURES: Mapping[str, str] = {
    "person": """
        poly denim -.3,.2 .3,.2 .3,.98 .05,.98 0,.42 -.05,.98 -.3,.98
        poly dark -.36,.92 -.03,.92 -.03,1 -.36,1
        poly dark .03,.92 .36,.92 .36,1 .03,1
        line skin .13 -.34,-.36 -.52,.02 -.45,.3
        line skin .13 .34,-.36 .52,.02 .45,.3
        poly main -.36,-.46 .36,-.46 .32,.28 -.32,.28
        line main .2 -.34,-.38 -.46,-.1
        line main .2 .34,-.38 .46,-.1
        poly skin -.08,-.6 .08,-.6 .1,-.44 -.1,-.44
        ellipse hair 0,-.79 .24,.23
        ellipse skin 0,-.73 .2,.23
        ellipse dark -.08,-.75 .03,.03
        ellipse dark .08,-.75 .03,.03
        line deep .03 -.07,-.62 .07,-.62""",
}

_PALETTE: Mapping[str, Colour] = {
    "dark": (0.12, 0.12, 0.14),
    "grey": (0.65, 0.66, 0.68),
    "light": (0.96, 0.96, 0.94),
    "glass": (0.72, 0.86, 0.93),
    "cream": (0.95, 0.9, 0.78),
    "wood": (0.42, 0.27, 0.15),
    "green": (0.2, 0.5, 0.17),
    "lime": (0.62, 0.8, 0.38),
    "red": (0.86, 0.12, 0.12),
    "blue": (0.15, 0.28, 0.7),
    "gold": (0.93, 0.76, 0.22),
    "brass": (0.68, 0.48, 0.1),
    "orange": (0.97, 0.45, 0.08),
    "pink": (0.93, 0.45, 0.68),
    "skin": (0.85, 0.64, 0.5),
    "hair": (0.25, 0.16, 0.1),
    "denim": (0.2, 0.27, 0.42),
}


@dataclass(frozen=True)
class _Shape:
    kind: Literal["fill", "line"]
    colour: str
    width: float
    points: NDArray[np.float64]


@functools.cache
def _shapes(text: str) -> tuple[_Shape, ...]:
    lines: list[list[str]] = []
    for line in text.strip().splitlines():
        words = line.split()
        if words[0][0].isalpha():
            lines.append(words)
        else:
            lines[-1].extend(words)
    return tuple(_shape(words) for words in lines)


def _shape(words: list[str]) -> _Shape:
    kind, colour, *rest = words
    stroke = kind in {"line", "curve", "ring"}
    width = float(rest.pop(0)) if stroke else 0.0
    points = np.array([[float(value) for value in word.split(",")] for word in rest])
    if kind in {"ellipse", "ring"}:
        angle = np.linspace(0, 2 * np.pi, 33)[:, None]
        circle = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        points = points[0] + circle * points[1]
    elif kind in {"blob", "curve"}:
        points = _smooth(points, closed=kind == "blob")
    return _Shape("line" if stroke else "fill", colour, width, points)


def _smooth(points: NDArray[np.float64], *, closed: bool) -> NDArray[np.float64]:
    """Catmull-Rom spline through the points, six segments between each two."""
    if closed:
        ring = np.concatenate([points[-1:], points, points[:2]])
    else:
        ring = np.concatenate([points[:1], points, points[-1:]])
    a, b, c, d = ring[:-3, None], ring[1:-2, None], ring[2:-1, None], ring[3:, None]
    t = np.linspace(0, 1, 6, endpoint=False)[None, :, None]
    curve = b + (c - a) * t / 2 + (a - 2.5 * b + 2 * c - d / 2) * t**2
    curve = curve + (1.5 * (b - c) + (d - a) / 2) * t**3
    flat: NDArray[np.float64] = curve.reshape(-1, 2)
    return flat if closed else np.concatenate([flat, points[-1:]])


def _paint(rng: Random) -> dict[str, Colour]:
    """The colours of one thing: two of its own, shades of the first, and the palette jittered."""
    hue, value = rng.random(), rng.uniform(0.4, 0.95)
    saturation = rng.uniform(0.15, 0.95)
    other = (hue + rng.uniform(0.2, 0.8)) % 1
    jitter = rng.uniform(0.88, 1.06)
    colours = {
        name: (min(r * jitter, 1), min(g * jitter, 1), min(b * jitter, 1))
        for name, (r, g, b) in _PALETTE.items()
    }
    colours["main"] = colorsys.hsv_to_rgb(hue, saturation, value)
    colours["deep"] = colorsys.hsv_to_rgb(hue, saturation, value * 0.6)
    colours["pale"] = colorsys.hsv_to_rgb(hue, saturation * 0.6, min(value * 1.3, 1))
    colours["second"] = colorsys.hsv_to_rgb(other, rng.uniform(0.2, 0.9), rng.uniform(0.45, 0.95))
    return colours


def paste(
    canvas: Array,
    drawing: str,
    rng: Random,
    *,
    place: tuple[float, float],
    scale: float,
    tilt: float,
) -> None:
    """Paint a thing on the canvas, in place, with its shadow and the light on it.

    Args:
        canvas: square image of shape (side, side, 3), changed by the call.
        drawing: the thing's shapes, one of the texts above.
        rng: decides its colours, turn, stretch, whether it is mirrored, and the light.
        place: centre across and down, in sides of the canvas.
        scale: half the drawing's box, in sides of the canvas.
        tilt: twice the standard deviation of its turn, in radians.
    """
    side = canvas.shape[0]
    fine = 2 if side <= 256 else 1
    half = math.ceil(scale * side * 1.5) + 2
    angle, stretch = rng.normal(0, tilt / 2), rng.uniform(0.85, 1.18)
    flip = -1 if rng.random() < 0.5 else 1
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos * flip * stretch, sin * flip * stretch], [-sin, cos]])
    colours = _paint(rng)
    layer = Image.new("RGBA", (2 * half * fine, 2 * half * fine))
    pen = ImageDraw.Draw(layer)
    unit = scale * side * fine
    for shape in _shapes(drawing):
        points = (shape.points @ turn * unit + half * fine).ravel().tolist()
        if shape.colour == "hole":
            fill: tuple[int, ...] = (0, 0, 0, 0)
        else:
            red, green, blue = colours[shape.colour]
            fill = (int(255 * red), int(255 * green), int(255 * blue), 255)
        if shape.kind == "fill":
            pen.polygon(points, fill=fill)
        else:
            pen.line(points, fill=fill, width=max(round(shape.width * unit), 1), joint="curve")
    # Most of the layer is empty: only the box that the thing and its shadow fill is painted.
    soft = side / 64
    margin = math.ceil(6 * soft)
    filled = layer.getbbox() or (0, 0, 0, 0)
    box = (
        max(filled[0] // fine - margin, 0),
        max(filled[1] // fine - margin, 0),
        min(-(-filled[2] // fine) + margin, 2 * half),
        min(-(-filled[3] // fine) + margin, 2 * half),
    )
    layer = layer.crop((box[0] * fine, box[1] * fine, box[2] * fine, box[3] * fine))
    if fine > 1:
        layer = layer.reduce(fine)
    shade = layer.getchannel("A").filter(ImageFilter.GaussianBlur(soft))
    rgba = np.asarray(layer, np.float32) / 255
    shadow = np.roll(np.asarray(shade, np.float32) / 255, round(soft), axis=(0, 1))
    slope = rng.uniform(0, 2 * np.pi)
    ramp = 0.3 * np.linspace(-1, 1, 2 * half, dtype=np.float32)
    across, down = math.cos(slope) * ramp[box[0] : box[2]], math.sin(slope) * ramp[box[1] : box[3]]
    lit = 1 + across[None, :, None] + down[:, None, None]
    left, top = round(place[0] * side) - half + box[0], round(place[1] * side) - half + box[1]
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + lit.shape[1], side), min(top + lit.shape[0], side)
    part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    under = canvas[y0:y1, x0:x1]
    alpha = rgba[part][..., 3:]
    under *= 1 - 0.5 * shadow[part][..., None]
    under += alpha * (rgba[part][..., :3] * lit[part] - under)
