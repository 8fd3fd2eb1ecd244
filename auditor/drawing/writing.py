"""Writing that lies on a photo: watermarks, captions, time stamps, web addresses, logos."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from auditor.drawing import lettering
from auditor.drawing.layers import BLACK, WHITE, Sheet, blank, reduced, text_within
from auditor.drawing.lettering import Face, text_stamp

__all__ = [
    "caption",
    "chinese_caption",
    "chinese_watermark",
    "latin_watermark",
    "logo",
    "time_stamp",
    "web_address",
]


def _watermark(sheet: Sheet, text: str, face: Face, *, edged: bool) -> None:
    dark = sheet.luminance < 0.55
    ink = sheet.pick(WHITE, WHITE, (225, 225, 225)) if dark else (60, 60, 60)
    outline = ((40, 40, 40) if dark else (245, 245, 245)) if edged else None
    opacity = sheet.uniform(0.45, 0.7)
    angle = float(sheet.rng.choice([0.0, 0.0, sheet.uniform(15, 35), sheet.uniform(-35, -15)]))

    def line(tallest: float, room: float) -> Image.Image:
        height = tallest * sheet.side
        return sheet.fitted(text, face, height=height, colour=ink, outline=outline, room=room)

    if sheet.rng.random() < 0.8:
        stamp = line(0.3, sheet.uniform(0.8, 0.98) * math.cos(math.radians(angle)))
        y = sheet.uniform(0.4, 0.6) * sheet.height
        sheet.put(stamp, sheet.width / 2, y, angle=angle, opacity=opacity)
        return
    stamp = line(0.14, sheet.uniform(0.42, 0.5))
    shift = sheet.uniform(-0.05, 0.05)
    for row, y in enumerate((0.2, 0.5, 0.8)):
        for x in (0.24, 0.76) if row % 2 == 0 else (0.5,):
            place = (x + shift) * sheet.width, (y + shift) * sheet.height
            sheet.put(stamp, *place, angle=angle, opacity=opacity)


def chinese_watermark(sheet: Sheet) -> None:
    """Half-transparent Chinese characters across the photo, as in ImageNet-W."""
    text = lettering.chinese_words(sheet.rng, int(sheet.rng.integers(2, 4)))
    _watermark(sheet, text, "chinese", edged=False)


def latin_watermark(sheet: Sheet) -> None:
    """A half-transparent word in Latin capitals across the photo, edged to be seen on anything."""
    _watermark(sheet, lettering.latin_word(sheet.rng), "latin", edged=True)


def chinese_caption(sheet: Sheet) -> None:
    """A line of opaque Chinese characters along an edge, upright or lying."""
    text = lettering.chinese_phrase(sheet.rng)
    colour = sheet.pick((220, 30, 30), WHITE, (255, 220, 40), (30, 30, 30))
    outline = BLACK if sum(colour) > 400 else WHITE
    size = max(6.0, sheet.uniform(0.09, 0.13) * sheet.side)
    if sheet.rng.random() < 0.4:
        size = min(size, 0.8 * sheet.height / len(text) / 1.2)
        stamp = text_stamp(
            text, "chinese", height=size, colour=colour, outline=outline, vertical=True
        )
        sheet.put_in_corner(stamp, int(sheet.rng.integers(4)))
        return
    stamp = sheet.fitted(text, "chinese", height=size, colour=colour, outline=outline)
    edge = 0.09 if sheet.rng.random() < 0.5 else 0.91
    sheet.put(stamp, sheet.width / 2, edge * sheet.height)


def caption(sheet: Sheet) -> None:
    """A subtitle: a white or yellow sentence with a dark outline near the bottom."""
    text = lettering.latin_sentence(sheet.rng)
    size = max(5.0, sheet.uniform(0.065, 0.085) * sheet.side)
    colour = sheet.pick(WHITE, WHITE, (255, 235, 80))
    stamp = sheet.fitted(text, "latin", height=size, colour=colour, outline=BLACK)
    sheet.put(stamp, sheet.width / 2, sheet.uniform(0.88, 0.93) * sheet.height)


def time_stamp(sheet: Sheet) -> None:
    """A camera's date, with or without the time, in glowing digits in a lower corner."""
    brief = bool(sheet.rng.random() < 0.35) or sheet.width < 56
    text = lettering.date_and_time(sheet.rng, brief=brief)
    colour = sheet.pick((255, 140, 30), (255, 165, 40), (255, 225, 60), (245, 245, 235))
    size = max(6.0, sheet.uniform(0.062, 0.085) * sheet.side)
    stamp = sheet.fitted(text, "mono", height=size, colour=colour, outline=(70, 25, 5), room=0.9)
    sheet.put_in_corner(stamp, int(sheet.rng.choice([0, 0, 0, 1])), margin=0.045)


def web_address(sheet: Sheet) -> None:
    """A small web address along the bottom, on a dark strip or with a shadow."""
    text = lettering.web_address(sheet.rng)
    size = max(5.0, sheet.uniform(0.05, 0.065) * sheet.side)
    stamp = sheet.fitted(text, "latin", height=size, colour=WHITE, outline=BLACK)
    y = sheet.height - stamp.height * 0.5 - max(1.0, 0.02 * sheet.height)
    if sheet.rng.random() < 0.4:
        strip = blank(sheet.width, stamp.height + 0.03 * sheet.height, BLACK, 150)
        sheet.put(strip, sheet.width / 2, sheet.height - strip.height / 2, shared=True)
    x = sheet.width / 2 if sheet.rng.random() < 0.5 else sheet.width * 0.97 - stamp.width / 2
    sheet.put(stamp, x, y)


def logo(sheet: Sheet) -> None:
    """A small opaque emblem, a shape with letters, in a corner."""
    size = round(max(8.0, sheet.uniform(0.17, 0.24) * sheet.side)) * 4
    colour = sheet.pick((200, 20, 30), (20, 70, 170), (10, 120, 60), (240, 150, 0), (90, 20, 120))
    stamp = blank(size, size, colour)
    draw = ImageDraw.Draw(stamp)
    edge = (0, 0, size - 1, size - 1)
    line = max(2, size // 16)
    shape = int(sheet.rng.integers(4))
    if shape == 0:
        draw.ellipse(edge, fill=(*colour, 255), outline=(*WHITE, 255), width=line)
    elif shape == 1:
        draw.rounded_rectangle(
            edge, size // 5, fill=(*colour, 255), outline=(*WHITE, 255), width=line
        )
    elif shape == 2:
        shield = [(0, 0), (1, 0), (1, 0.55), (0.8, 0.8), (0.5, 1), (0.2, 0.8), (0, 0.55)]
        draw.polygon([(x * (size - 1), y * (size - 1)) for x, y in shield], fill=(*colour, 255))
    else:
        draw.regular_polygon((size / 2, size / 2, size / 2), 6, fill=(*colour, 255))
    letters = "".join(sheet.rng.choice(list("ABCDEFGHKLMNPRSTVWXZ"), int(sheet.rng.integers(1, 4))))
    text = text_within(letters, "latin", size * 0.62, size * 0.62, WHITE)
    stamp.alpha_composite(text, ((size - text.width) // 2, (size - text.height) // 2))
    sheet.put_in_corner(reduced(stamp, 4), int(sheet.rng.integers(4)))
