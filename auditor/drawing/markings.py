"""More things that lie on a photo: labels, codes, rulers, arrows and marks of the clinic."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from auditor.drawing import lettering
from auditor.drawing.layers import BLACK, WHITE, Sheet, blank, reduced, text_within
from auditor.drawing.lettering import text_stamp

__all__ = [
    "barcode",
    "crosshair",
    "hair_strands",
    "pen_marking",
    "price_tag",
    "qr_code",
    "radiograph_marker",
    "red_arrow",
    "red_circle",
    "ruler",
]


def price_tag(sheet: Sheet) -> None:
    """A coloured price sticker, a star or a rounded label, anywhere but the middle."""
    size = round(max(10.0, sheet.uniform(0.22, 0.3) * sheet.side)) * 4
    colour = sheet.pick((225, 25, 30), (255, 210, 0), (255, 120, 0), (250, 250, 250))
    ink = WHITE if sum(colour) < 400 else (200, 10, 20)
    stamp = blank(size, size, colour)
    draw = ImageDraw.Draw(stamp)
    if sheet.rng.random() < 0.5:
        points = []
        for i in range(28):
            radius = size * (0.5 if i % 2 else 0.42)
            turn = math.pi * i / 14
            points.append((size / 2 + radius * math.cos(turn), size / 2 + radius * math.sin(turn)))
        draw.polygon(points, fill=(*colour, 255))
    else:
        box = (0, size * 0.2, size - 1, size * 0.8)
        draw.rounded_rectangle(
            box, size // 9, fill=(*colour, 255), outline=(*ink, 255), width=size // 30
        )
    text = text_within(lettering.price(sheet.rng), "latin", size * 0.74, size * 0.4, ink)
    stamp.alpha_composite(text, ((size - text.width) // 2, (size - text.height) // 2))
    x = sheet.rng.choice([0.2, 0.8]) * sheet.width
    y = sheet.rng.choice([0.2, 0.5, 0.8]) * sheet.height
    sheet.put(reduced(stamp, 4), x, y, angle=sheet.uniform(-15, 15))


def barcode(sheet: Sheet) -> None:
    """A white label with the black bars of a product code and its digits."""
    share = sheet.uniform(0.42, 0.5)
    # Product codes have 67 or 95 modules; small photos get fewer, so that no bar is lost.
    half = int(np.clip((share * sheet.side - 19) / 2, 4, 28))
    modules = sheet.rng.integers(0, 2, 2 * half)
    bits = np.concatenate([[1, 0, 1], modules[:half], [0, 1, 0, 1, 0], modules[half:], [1, 0, 1]])
    unit = max(4, round(share * sheet.side / (len(bits) + 10) * 4))
    width = (len(bits) + 10) * unit
    height = width // 2
    stamp = blank(width, height, WHITE, 255)
    draw = ImageDraw.Draw(stamp)
    for i, bit in enumerate(bits):
        if bit:
            left = (i + 5) * unit
            draw.rectangle(
                (left, height // 14, left + unit - 1, height * 3 // 4), fill=(*BLACK, 255)
            )
    digits = "".join(str(digit) for digit in sheet.rng.integers(0, 10, 12))
    text = text_within(digits, "mono", width * 0.7, height * 0.17, BLACK)
    stamp.alpha_composite(text, ((width - text.width) // 2, height * 4 // 5))
    sheet.put_in_corner(reduced(stamp, 4), int(sheet.rng.integers(4)), margin=0.05)


def qr_code(sheet: Sheet) -> None:
    """A square two-dimensional code with its three finder patterns on white."""
    code = sheet.rng.integers(0, 2, (21, 21)).astype(np.uint8)
    finder = np.zeros((8, 8), dtype=np.uint8)
    finder[:7, :7] = 1
    finder[1:6, 1:6] = 0
    finder[2:5, 2:5] = 1
    code[:8, :8] = finder
    code[:8, 13:] = finder[:, ::-1]
    code[13:, :8] = finder[::-1]
    grey = np.pad(255 - code * 255, 2, constant_values=255)
    size = round(max(12.0, sheet.uniform(0.26, 0.34) * sheet.side))
    large = Image.fromarray(grey).resize((size * 4, size * 4), Image.Resampling.NEAREST)
    stamp = reduced(large.convert("RGBA"), 4)
    sheet.put_in_corner(stamp, int(sheet.rng.integers(4)), margin=0.05)


def ruler(sheet: Sheet) -> None:
    """A measuring scale with ticks and numbers along an edge."""
    upright = bool(sheet.rng.random() < 0.4)
    length = sheet.height if upright else sheet.width
    scale = 3
    long, broad = length * scale, round(max(7.0, 0.13 * sheet.side)) * scale
    colour = sheet.pick((250, 250, 245), (250, 215, 90), (225, 225, 225))
    stamp = blank(long, broad, colour, 255)
    draw = ImageDraw.Draw(stamp)
    centimetre = max(12.0 * scale, long / sheet.uniform(6, 9))
    start = sheet.uniform(0, centimetre)
    step = centimetre / (10 if centimetre / scale >= 24 else 2)
    major = round(centimetre / step)
    count = int((long - start) / step) + 1
    for i in range(-major, count + major):
        x = start + i * step
        share = 0.5 if i % major == 0 else 0.36 if i % major == major // 2 else 0.24
        thick = scale if centimetre / scale >= 24 else scale // 2 + 1
        draw.rectangle((x, 0, x + thick - 1, broad * share), fill=(*BLACK, 255))
        if i % major == 0:
            text = text_within(str(abs(i // major)), "latin", broad, broad * 0.42, BLACK)
            corner = round(x - text.width / 2), round(broad * 0.55)
            if 0 <= corner[0] < long - text.width:
                stamp.alpha_composite(text, corner)
    stamp = reduced(stamp, scale)
    far = bool(sheet.rng.random() < 0.5)
    if upright:
        stamp = stamp.transpose(Image.Transpose.ROTATE_90)
        x = sheet.width - stamp.width / 2 if far else stamp.width / 2
        sheet.put(stamp, x, sheet.height / 2)
        return
    sheet.put(stamp, sheet.width / 2, stamp.height / 2 if far else sheet.height - stamp.height / 2)


def red_arrow(sheet: Sheet) -> None:
    """A red arrow that points at something inside the photo."""
    size = round(sheet.uniform(0.3, 0.42) * sheet.side) * 4
    thick = max(4, size // 11)
    head = size * 0.36
    stamp = blank(size, head, (225, 20, 25))
    draw = ImageDraw.Draw(stamp)
    middle = stamp.height // 2
    ink = (225, 20, 25, 255)
    draw.rectangle((0, middle - thick // 2, size - head * 0.8, middle + thick // 2), fill=ink)
    draw.polygon(
        [(size - 1, middle), (size - head, middle - head / 2), (size - head, middle + head / 2)],
        fill=ink,
    )
    x, y = (sheet.uniform(0.3, 0.7) * n for n in (sheet.width, sheet.height))
    sheet.put(reduced(stamp, 4), x, y, angle=sheet.uniform(0, 360))


def red_circle(sheet: Sheet) -> None:
    """A hand-drawn-like red ring around something inside the photo."""
    wide = round(sheet.uniform(0.34, 0.5) * sheet.side) * 4
    tall = round(wide * sheet.uniform(0.75, 1.1))
    stamp = blank(wide, tall, (225, 20, 25))
    line = max(5, sheet.side * 4 // 60)
    ImageDraw.Draw(stamp).ellipse(
        (0, 0, wide - 1, tall - 1), outline=(225, 20, 25, 255), width=line
    )
    x, y = (sheet.uniform(0.32, 0.68) * n for n in (sheet.width, sheet.height))
    sheet.put(reduced(stamp, 4), x, y, angle=sheet.uniform(-20, 20))


def crosshair(sheet: Sheet) -> None:
    """Thin crossed lines with a ring in the middle of the photo, as in a sight."""
    size = round(sheet.side * sheet.uniform(0.6, 0.95)) * 3
    colour = sheet.pick(BLACK, (220, 20, 20), (30, 230, 60), WHITE)
    stamp = blank(size, size, colour)
    draw = ImageDraw.Draw(stamp)
    line, middle, radius = max(3, size // 90), size / 2, size * 0.22
    ink = (*colour, 255)
    draw.line((0, middle, size, middle), fill=ink, width=line)
    draw.line((middle, 0, middle, size), fill=ink, width=line)
    ring = (middle - radius, middle - radius, middle + radius, middle + radius)
    draw.ellipse(ring, outline=ink, width=line)
    for i in (-2, -1, 1, 2):
        offset = middle + i * radius / 3
        draw.line((offset, middle - line * 2, offset, middle + line * 2), fill=ink, width=line)
        draw.line((middle - line * 2, offset, middle + line * 2, offset), fill=ink, width=line)
    x, y = (sheet.uniform(0.45, 0.55) * n for n in (sheet.width, sheet.height))
    sheet.put(reduced(stamp, 3), x, y)


def hair_strands(sheet: Sheet) -> None:
    """Dark curved hairs across the photo, as in close-ups of skin.

    All are on one stamp: rearranged in a narrow box of its own, a hair stays a dark line.
    """
    finer = 3
    stamp = blank(finer * sheet.width, finer * sheet.height, (37, 18, 12))
    draw = ImageDraw.Draw(stamp)
    along = np.linspace(-0.5, 0.5, 24)
    for _ in range(int(sheet.rng.integers(7, 14))):
        long = sheet.side * sheet.uniform(0.4, 0.9) * finer
        bend = long * sheet.uniform(-0.25, 0.25)
        shade = int(sheet.rng.integers(15, 60))
        line = max(3, round(sheet.side / 90 * sheet.uniform(0.8, 1.4)) * 2)
        x, y = (sheet.uniform(0.1, 0.9) * finer * n for n in (sheet.width, sheet.height))
        turn = math.radians(sheet.uniform(0, 360))
        across = bend * (np.cos(along * np.pi) - 0.5)
        places = np.exp(1j * turn) * (long * along + 1j * across)
        points = [(x + float(place.real), y + float(place.imag)) for place in places]
        ink = (shade, shade // 2, shade // 3, 230)
        draw.line(points, fill=ink, width=line, joint="curve")
    sheet.put(reduced(stamp, finer), sheet.width / 2, sheet.height / 2)


def pen_marking(sheet: Sheet) -> None:
    """Violet pen strokes around the middle, as surgeons draw on skin."""
    colour = sheet.pick((95, 30, 140), (60, 40, 150), (120, 40, 130))
    turn = sheet.uniform(0, 360)
    radius = sheet.side * sheet.uniform(0.3, 0.38) * 3
    count = int(sheet.rng.integers(5, 9))
    stamp = blank(2.3 * radius, 2.3 * radius, colour)
    draw = ImageDraw.Draw(stamp)
    for i in range(count):
        half = sheet.side * sheet.uniform(0.065, 0.09) * 3
        thick = max(3, round(sheet.side * sheet.uniform(0.025, 0.04) * 3))
        angle = math.radians(turn + 360 * i / count)
        x, y = (stamp.width / 2 + radius * f(angle) for f in (math.cos, math.sin))
        dx, dy = -half * math.sin(angle), half * math.cos(angle)
        draw.line((x - dx, y - dy, x + dx, y + dy), fill=(*colour, 255), width=thick)
        for end in ((x - dx, y - dy), (x + dx, y + dy)):
            draw.circle(end, thick / 2, fill=(*colour, 255))
    sheet.put(reduced(stamp, 3), sheet.width / 2, sheet.height / 2, opacity=0.8)


def radiograph_marker(sheet: Sheet) -> None:
    """The white letter that marks left or right on an X-ray, with the maker's initials."""
    size = max(7.0, sheet.uniform(0.13, 0.17) * sheet.side)
    letter = text_stamp(str(sheet.rng.choice(["L", "R"])), "latin", height=size)
    initials = "".join(sheet.rng.choice(list("ABCDEFGHJKMNP"), 2))
    small = text_stamp(initials, "latin", height=max(4.0, size * 0.4))
    stamp = blank(max(letter.width, small.width), letter.height + small.height * 1.3, WHITE)
    stamp.alpha_composite(letter, ((stamp.width - letter.width) // 2, 0))
    stamp.alpha_composite(small, ((stamp.width - small.width) // 2, stamp.height - small.height))
    sheet.put_in_corner(stamp, int(sheet.rng.integers(2, 4)), margin=0.06)
