"""Words and their pictures: what watermarks, time stamps, captions and labels say.

The fonts are subsets shipped beside their licences in `auditor/data/fonts` and hold exactly the
characters that are drawn here; `tools/subset_fonts.py` makes them from `CHARACTERS`.
"""

from __future__ import annotations

import io
import string
from functools import lru_cache
from importlib import resources
from typing import Literal

from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont

__all__ = [
    "CHARACTERS",
    "Colour",
    "Face",
    "chinese_phrase",
    "chinese_words",
    "date_and_time",
    "latin_sentence",
    "latin_word",
    "price",
    "text_stamp",
    "web_address",
]

Face = Literal["chinese", "latin", "mono"]
Colour = tuple[int, int, int]

# Words of stock-photo and shop watermarks: picture, sample, copyright, photography, material, ...
_CHINESE = (
    "图片 样图 版权所有 摄影 素材 中国 图库 视觉 网站 下载 水印 正版 设计 商城 家居 官方 品质 "
    "保证 厂家 直销 专业 包装 旗舰店 免费 高清 请勿盗用"
)
_LATIN = (
    "SAMPLE PREVIEW STOCK COPYRIGHT PHOTO IMAGES PROOF DRAFT SPECIMEN GALLERY STUDIO ARCHIVE "
    "PICTURE WATERMARK AGENCY PRINTS"
)
_NOUNS = "garden house market river school harbour mountain window kitchen station island"
_SENTENCES = (
    "Where did you leave it?",
    "I have never seen this before.",
    "We should go home now.",
    "Look at that over there!",
    "It was a long time ago.",
    "Nobody told me about it.",
    "This is how it works.",
    "Please wait for us here.",
)

CHARACTERS: dict[Face, str] = {
    "chinese": "".join(sorted(set(_CHINESE) - {" "})),
    "latin": "".join(chr(code) for code in range(32, 127)) + "©",
    "mono": " " + string.digits + string.ascii_uppercase + "/:.-'",
}
_FILES: dict[Face, str] = {
    "chinese": "auditor-sans-sc.ttf",
    "latin": "auditor-sans.ttf",
    "mono": "auditor-mono.ttf",
}


def chinese_words(rng: Generator, count: int) -> str:
    """`count` different words in one line, without spaces."""
    return "".join(rng.permutation(_CHINESE.split())[:count])


def chinese_phrase(rng: Generator) -> str:
    """Four to eight characters as in a caption or a shop's slogan."""
    return chinese_words(rng, 3)[: int(rng.integers(4, 9))]


def latin_word(rng: Generator) -> str:
    """One word of a stock-photo watermark, in capitals."""
    return str(rng.choice(_LATIN.split()))


def latin_sentence(rng: Generator) -> str:
    """A short sentence as in a subtitle."""
    return str(rng.choice(_SENTENCES))


def web_address(rng: Generator) -> str:
    """An address below the names that are reserved for examples."""
    noun, ending = rng.choice(_NOUNS.split()), rng.choice(["com", "net", "org"])
    form = rng.choice(["www.example.{1}/{0}", "{0}.example.{1}", "www.{0}.example.{1}"])
    return str(form).format(noun, ending)


def date_and_time(rng: Generator, *, brief: bool) -> str:
    """A date between 1996 and 2019 as cameras print it, with the time unless `brief`."""
    year, month, day = rng.integers(1996, 2020), rng.integers(1, 13), rng.integers(1, 29)
    hour, minute = rng.integers(0, 24), rng.integers(0, 60)
    date = str(rng.choice(["{1:02}/{2:02}/{0}", "{0}.{1:02}.{2:02}", "{2:02}-{1:02}-{0}"]))
    if brief:
        return f"'{year % 100:02} {month:2} {day:2}"
    return date.format(year, month, day) + f" {hour:02}:{minute:02}"


def price(rng: Generator) -> str:
    """A price below 100 in dollars, or a rebate in per cent."""
    if rng.random() < 0.3:
        return f"-{rng.integers(1, 10) * 10}%"
    return f"${rng.integers(1, 100)}.{rng.choice(['99', '95', '50', '00'])}"


@lru_cache(maxsize=256)
def _font(face: Face, size: int) -> ImageFont.FreeTypeFont:
    data = (resources.files("auditor.data") / "fonts" / _FILES[face]).read_bytes()
    return ImageFont.truetype(io.BytesIO(data), size)


@lru_cache(maxsize=512)
def text_stamp(
    text: str,
    face: Face,
    *,
    height: float,
    colour: Colour = (255, 255, 255),
    outline: Colour | None = None,
    vertical: bool = False,
) -> Image.Image:
    """One line of text as an RGBA picture, cropped to its ink.

    Args:
        text: drawn without line breaks; characters outside `CHARACTERS[face]` show as boxes.
        face: which of the shipped fonts.
        height: of the font in pixels; below 24 the text is drawn larger and reduced, so that
            even three-pixel letters keep their place and their mean ink.
        colour: of the letters, 0 to 255.
        outline: colour of a line around the letters, about a twelfth of the height wide.
        vertical: one character below the other, as in a Chinese signboard.

    The result is cached and shared: copy it before changing it.
    """
    factor = 1 if height >= 24 else 3
    size = max(8, round(height * factor))
    font, stroke = _font(face, size), (max(1, size // 12) if outline else 0)
    if vertical:
        text = "\n".join(text)
    probe = ImageDraw.Draw(Image.new("L", (1, 1)))
    spacing = size // 8
    left, top, right, bottom = probe.multiline_textbbox(
        (0, 0), text, font=font, stroke_width=stroke, spacing=spacing
    )
    width, tall = max(1, int(right - left) + 2), max(1, int(bottom - top) + 2)
    stamp = Image.new("RGBA", (width, tall), (*(outline or colour), 0))
    ImageDraw.Draw(stamp).multiline_text(
        (1 - left, 1 - top),
        text,
        font=font,
        fill=(*colour, 255),
        stroke_width=stroke,
        stroke_fill=(*outline, 255) if outline else None,
        spacing=spacing,
    )
    if factor == 1:
        return stamp
    scale = height / size
    reduced = max(1, round(width * scale)), max(1, round(tall * scale))
    return stamp.resize(reduced, Image.Resampling.BOX)
