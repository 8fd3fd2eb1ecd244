"""Charts as plain SVG: few elements, one title with the numbers, no script and no style sheet.

Colours are presentation attributes, so that a chart reads alone and in the PDF; each element also
has a class, by which the HTML's style sheet recolours it in the dark. Colours are Okabe and Ito's;
no meaning hangs on colour alone: markers and dashes differ too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from auditor.core.estimates import Estimate
from auditor.record.codes import Grade, strength
from auditor.record.schema import LayerDivergence
from auditor.report.text import name, number

__all__ = [
    "Point",
    "Scale",
    "comparison",
    "dot",
    "forest",
    "path",
    "ruler",
    "scale",
    "scatter",
    "spark",
]

INK, MUTED, GRID = "#1d2228", "#5a616b", "#dcdad5"
BLUE, VERMILION, ORANGE, SKY, BAND = "#0072B2", "#B84F00", "#E69F00", "#56B4E9", "#edf3f7"
STYLES = {
    "k-grid": f'stroke="{GRID}" stroke-width="1"',
    "k-zero": f'stroke="{MUTED}" stroke-width="1" stroke-dasharray="2 2"',
    "k-band": f'fill="{BAND}"',
    "k-label": f'fill="{MUTED}" font-size="10.5"',
    "k-name": f'fill="{INK}" font-size="11"',
    "k-blue-text": f'fill="{BLUE}" font-size="11" font-weight="600"',
    "k-red-text": f'fill="{VERMILION}" font-size="11" font-weight="600"',
    "k-blue": f'stroke="{BLUE}" stroke-width="1.8" fill="none"',
    "k-red": f'stroke="{VERMILION}" stroke-width="1.8" fill="none" stroke-dasharray="5 3"',
    "k-blue-dot": f'fill="{BLUE}"',
    "k-red-dot": f'fill="{VERMILION}"',
    "k-hollow": f'stroke="{MUTED}" stroke-width="1.6" fill="#ffffff"',
    "k-muted": f'stroke="{MUTED}" stroke-width="1.6" fill="none"',
    "k-faint-dot": f'fill="{MUTED}" fill-opacity="0.45"',
    "k-confirmed": f'fill="{VERMILION}" stroke="{INK}" stroke-width="1"',
    "k-corroborated": f'fill="{ORANGE}" stroke="{INK}" stroke-width="1"',
    "k-ring": f'fill="#ffffff" stroke="{INK}" stroke-width="1"',
    "k-suspected": f'fill="#ffffff" stroke="{BLUE}" stroke-width="1.8"',
    "k-not-tested": f'fill="#ffffff" stroke="{MUTED}" stroke-width="1" stroke-dasharray="2 1"',
}
FONT = "Report Sans, Report Symbols, system-ui, sans-serif"
FARTHEST = 1e100  # drawn no further: sums and differences of larger numbers overflow
WORST_SIMILARITY = 3.0  # drawn no further: it explodes where a layer hardly separates classes


@dataclass(frozen=True)
class Scale:
    """A linear axis: the values at its ends, and round values between them."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float, start: float, end: float) -> float:
        """Where a value lies between two coordinates; values beyond the ends lie on them."""
        share = (value - self.low) / (self.high - self.low)
        return start + min(max(share, 0.0), 1.0) * (end - start)


@dataclass(frozen=True)
class Point:
    """One class in the scatter: its grade is that of its strongest finding."""

    x: float
    y: float
    grade: Grade | None
    label: str | None


def scale(values: Sequence[float], *, include: Sequence[float] = (), ticks: int = 4) -> Scale:
    """An axis that holds all values, with up to about `ticks` round ticks."""
    drawn = [min(max(value, -FARTHEST), FARTHEST) for value in (*values, *include)]
    low, high = min(drawn), max(drawn)
    size = max(1.0, abs(low), abs(high))
    if high - low < 1e-9 * size:
        low, high = low - 0.5 * size, high + 0.5 * size
    pad = 0.04 * (high - low)
    low, high = low - pad, high + pad
    rough = (high - low) / ticks
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    first = math.ceil(low / step)
    count = math.floor(high / step) - first + 1
    return Scale(low, high, tuple((first + i) * step for i in range(count)))


class _Drawing:
    """SVG elements in order; text is escaped on its way in."""

    def __init__(self, width: float, height: float, title: str, style: str = "") -> None:
        self.parts = [
            f'<svg class="chart {style}" role="img" viewBox="0 0 {_n(width)} {_n(height)}" '
            f'width="{_n(width)}" height="{_n(height)}"><title>{escape(title)}</title>'
        ]

    def line(self, style: str, x1: float, y1: float, x2: float, y2: float) -> None:
        self._add("line", style, f'x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"')

    def rect(self, style: str, x: float, y: float, width: float, height: float) -> None:
        size = f'width="{_n(width)}" height="{_n(height)}"'
        self._add("rect", style, f'x="{_n(x)}" y="{_n(y)}" {size}')

    def circle(self, style: str, x: float, y: float, r: float) -> None:
        self._add("circle", style, f'cx="{_n(x)}" cy="{_n(y)}" r="{_n(r)}"')

    def half(self, style: str, x: float, y: float, r: float) -> None:
        """A ring whose left half is filled."""
        self.circle("k-ring", x, y, r)
        arc = f"M{_n(x)},{_n(y - r)} A{_n(r)},{_n(r)} 0 0 0 {_n(x)},{_n(y + r)} Z"
        self._add("path", style, f'd="{arc}"')

    def square(self, style: str, x: float, y: float, r: float) -> None:
        self.rect(style, x - r, y - r, 2 * r, 2 * r)

    def trace(self, style: str, points: Sequence[tuple[float, float]]) -> None:
        where = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self._add("polyline", style, f'points="{where}"')

    def triangle(self, style: str, x: float, y: float, r: float) -> None:
        """Points up where r > 0, down where r < 0."""
        corners = f"{_n(x)},{_n(y - r)} {_n(x - r)},{_n(y + r)} {_n(x + r)},{_n(y + r)}"
        self._add("polygon", style, f'points="{corners}"')

    def text(self, style: str, x: float, y: float, text: str, anchor: str = "start") -> None:
        self.parts.append(
            f'<text class="{style}" {STYLES[style]} x="{_n(x)}" y="{_n(y)}" '
            f'font-family="{FONT}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def markup(self) -> Markup:
        return Markup("".join(self.parts) + "</svg>")

    def _add(self, tag: str, style: str, attributes: str) -> None:
        self.parts.append(f'<{tag} class="{style}" {STYLES[style]} {attributes}/>')


def forest(value: Estimate, axis: Scale, title: str, *, width: float = 190) -> Markup:
    """One row of a forest plot: a point with its interval over the axis's grid."""
    height = 20.0
    drawing = _Drawing(width, height, title, "row")
    _grid(drawing, axis, 4, width - 4, 0, height)
    _interval(drawing, value, axis, (4, width - 4), height / 2, "k-blue", "k-blue-dot")
    return drawing.markup()


def dot(value: float, axis: Scale, title: str, *, width: float = 120) -> Markup:
    """One row of a dot plot: a point over the axis's grid."""
    drawing = _Drawing(width, 20, title, "row")
    _grid(drawing, axis, 4, width - 4, 0, 20)
    drawing.circle("k-blue-dot", axis.at(value, 4, width - 4), 10, 3.6)
    return drawing.markup()


def ruler(axis: Scale, title: str, *, width: float = 190) -> Markup:
    """The axis above the rows of a forest plot."""
    drawing = _Drawing(width, 20, title, "row")
    for tick in axis.ticks:
        x = axis.at(tick, 4, width - 4)
        drawing.line("k-grid", x, 15, x, 20)
        drawing.text("k-label", min(max(x, 10), width - 10), 11, _tick(tick), "middle")
    return drawing.markup()


def comparison(effect: Estimate, control: Estimate | None, title: str) -> Markup:
    """An effect above its control, each with its interval, against zero."""
    width, height = 230.0, 46.0
    both = [effect] if control is None else [effect, control]
    axis = scale([v for e in both for v in (e.low, e.value, e.high)], include=(0.0,), ticks=3)
    drawing = _Drawing(width, height, title, "comparison")
    _grid(drawing, axis, 6, width - 6, 2, 33)
    zero = axis.at(0.0, 6, width - 6)
    drawing.line("k-zero", zero, 0, zero, 33)
    _interval(drawing, effect, axis, (6, width - 6), 11 if control else 17, "k-blue", "k-blue-dot")
    if control is not None:
        _interval(drawing, control, axis, (6, width - 6), 25, "k-muted", "k-hollow")
    for tick in axis.ticks:
        x = min(max(axis.at(tick, 6, width - 6), 10), width - 12)
        drawing.text("k-label", x, 44, _tick(tick), "middle")
    return drawing.markup()


def path(layers: Sequence[LayerDivergence], title: str) -> Markup:
    """Similarity by layer, early to deep, against the bands of other and same classes."""
    width, height, left, right, top, bottom = 480.0, 226.0, 34.0, 96.0, 20.0, 34.0
    lines = (
        ("normalised", "k-blue", "k-blue-dot", "k-blue-text", [x.normalised for x in layers]),
        ("class-specific", "k-red", "k-red-dot", "k-red-text", [x.class_specific for x in layers]),
    )
    limit = WORST_SIMILARITY
    shown = [min(max(v, -limit), limit) for *_, values in lines for v in values if v is not None]
    axis = scale(shown or [0.0], include=(-0.1, 1.1), ticks=5)
    drawing = _Drawing(width, height, title, "path")
    end, floor = width - right, height - bottom

    def y(value: float) -> float:
        return axis.at(value, floor, top)

    ends: list[tuple[float, str, str]] = []
    for level, words in ((0.0, "other classes"), (1.0, "same class")):
        drawing.rect("k-band", left, y(level + 0.06), end - left, y(level - 0.06) - y(level + 0.06))
        ends.append((y(level), words, "k-label"))
    for tick in axis.ticks:
        drawing.line("k-grid", left, y(tick), end, y(tick))
        drawing.text("k-label", left - 6, y(tick) + 3.5, _tick(tick), "end")
    step = (end - left - 16) / max(len(layers) - 1, 1)
    xs = [left + 8 + step * i for i in range(len(layers))]
    held = [x for x, layer in zip(xs, layers, strict=True) if layer.used]
    if held and len(held) < len(layers):
        edge = max(held) + step / 2
        drawing.line("k-grid", edge, top, edge, floor)
        drawing.text("k-label", edge - 4, top - 9, "held to photos", "end")
        drawing.text("k-label", edge + 4, top - 9, "counted")
    for words, stroke, dot, text, values in lines:
        for run in _runs(values):
            if len(run) > 1:
                drawing.trace(stroke, [(xs[i], y(value)) for i, value in run])
            for i, value in run:
                if abs(value) > limit:
                    drawing.triangle(dot, xs[i], y(value), math.copysign(4, value))
                    drawing.text("k-label", xs[i] + 7, y(value) + 3.5, number(value, 0))
                elif dot == "k-blue-dot":
                    drawing.circle(dot, xs[i], y(value), 2.8)
                else:
                    drawing.square(dot, xs[i], y(value), 2.5)
        last = [value for value in values if value is not None]
        if last:
            ends.append((y(last[-1]), words, text))
    previous = -math.inf
    for place, words, text in sorted(ends):
        previous = max(place + 3.5, previous + 12.5)
        drawing.text(text, end + 6, previous, words)
    drawing.line("k-grid", left, floor, end, floor)
    if layers:
        drawing.text("k-label", left, height - 18, name(layers[0].name, 22).short)
        drawing.text("k-label", end, height - 18, name(layers[-1].name, 22).short, "end")
    drawing.text("k-label", (left + end) / 2, height - 4, "layer, early to deep →", "middle")
    return drawing.markup()


def scatter(points: Sequence[Point], title: str, *, x_label: str, y_label: str) -> Markup:
    """One point a class; marker by the grade of the class's strongest finding."""
    width, height, left, right, top, bottom = 640.0, 340.0, 52.0, 16.0, 24.0, 44.0
    horizontal = scale([p.x for p in points], ticks=6)
    vertical = scale([p.y for p in points], include=(0.0,), ticks=5)
    drawing = _Drawing(width, height, title, "scatter")
    end, floor = width - right, height - bottom
    for tick in vertical.ticks:
        y = vertical.at(tick, floor, top)
        drawing.line("k-grid", left, y, end, y)
        drawing.text("k-label", left - 7, y + 3.5, _tick(tick), "end")
    for tick in horizontal.ticks:
        x = horizontal.at(tick, left, end)
        drawing.line("k-grid", x, floor, x, floor + 4)
        drawing.text("k-label", x, floor + 16, _tick(tick), "middle")
    drawing.text("k-label", left - 44, 12, y_label)
    drawing.text("k-label", end, height - 6, x_label, "end")
    taken: list[tuple[float, float, float, float]] = []
    for point in sorted(points, key=lambda p: strength(p.grade)):
        x, y = horizontal.at(point.x, left, end), vertical.at(point.y, floor, top)
        if point.grade is None:
            drawing.circle("k-faint-dot", x, y, 3)
        elif point.grade == "corroborated":
            drawing.half("k-corroborated", x, y, 4.6)
        else:
            drawing.circle(f"k-{point.grade.replace('_', '-')}", x, y, 4.6)
        taken.append((x - 5, y - 5, x + 5, y + 5))
    for point in points:
        if point.label is not None:
            _label(drawing, point.label, horizontal.at(point.x, left, end),
                   vertical.at(point.y, floor, top), (left, end), taken)  # fmt: skip
    return drawing.markup()


def spark(values: Sequence[float], title: str) -> Markup:
    """Probability over the steps of an optimisation, 0 at the foot and 1 at the head."""
    width, height = 64.0, 16.0
    drawing = _Drawing(width, height, title, "spark")
    drawing.line("k-grid", 1, height - 1.5, width - 1, height - 1.5)
    step = (width - 6) / max(len(values) - 1, 1)
    points = [(2 + step * i, height - 2 - (height - 5) * v) for i, v in enumerate(values)]
    if len(points) > 1:
        drawing.trace("k-blue", points)
    if points:
        drawing.circle("k-blue-dot", *points[-1], 2)
    return drawing.markup()


def _label(
    drawing: _Drawing,
    text: str,
    x: float,
    y: float,
    limits: tuple[float, float],
    taken: list[tuple[float, float, float, float]],
) -> None:
    """Write a label beside its point where it covers nothing; leave it out where it would."""
    wide = 6.2 * len(text)
    for anchor, start, base in (
        ("start", x + 8, y + 4),
        ("end", x - 8 - wide, y + 4),
        ("start", x - wide / 2, y - 9),
        ("start", x - wide / 2, y + 18),
    ):
        box = (start, base - 10, start + wide, base + 3)
        if start < limits[0] or start + wide > limits[1]:
            continue
        if any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in taken):
            continue
        drawing.text("k-name", start + (wide if anchor == "end" else 0), base, text, anchor)
        taken.append(box)
        return


def _grid(
    drawing: _Drawing, axis: Scale, start: float, end: float, top: float, bottom: float
) -> None:
    for tick in axis.ticks:
        x = axis.at(tick, start, end)
        drawing.line("k-grid", x, top, x, bottom)


def _interval(
    drawing: _Drawing,
    value: Estimate,
    axis: Scale,
    span: tuple[float, float],
    y: float,
    stroke: str,
    dot: str,
) -> None:
    low, middle, high = (axis.at(v, *span) for v in (value.low, value.value, value.high))
    drawing.line(stroke, low, y, high, y)
    for x in (low, high):
        drawing.line(stroke, x, y - 3, x, y + 3)
    drawing.circle(dot, middle, y, 3.6)


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Stretches of neighbouring values that are there: a missing layer is a gap, never a zero."""
    runs: list[list[tuple[int, float]]] = [[]]
    for i, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((i, value))
    return [run for run in runs if run]


def _tick(value: float) -> str:
    return f"{value:.6g}".replace("-", "−") if abs(value) > 1e-9 else "0"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
