"""Decoding photos: untrusted bytes become an upright RGB image, or a reason why not."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import threading
import warnings
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

__all__ = ["AS_STORED", "Decoding", "UnreadablePhoto", "decode"]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "HEIF")
"""Pillow's readers that may see a photo; those that this Pillow lacks are left out."""

MAX_PIXELS = 100_000_000
"""Largest width times height: 300 MB as RGB."""

MAX_RATIO = 100
"""Of the longer to the shorter side: a strip would grow with its shorter side on resizing."""

EXIF_ORIENTATION = 0x0112

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What Pillow's readers raise on damaged files: seen with altered and cut files, and in their code.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    AssertionError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class Decoding:
    """What the bytes of a photo leave open.

    Attributes:
        background: under transparent pixels: "drop" shows the colours that are stored there, as
            torchvision, timm and transformers do; else "white", "black" or "#rrggbb".
        bit_depth: bits that pictures of 16 bits use; 16 takes the whole range.
        orientation: "exif" turns photos upright, "stored" leaves them as they lie in the file.
    """

    background: str = "drop"
    bit_depth: int = 16
    orientation: Literal["exif", "stored"] = "exif"


AS_STORED = Decoding()
"""What torchvision, timm and transformers do, but for the orientation."""


class UnreadablePhoto(ValueError):  # noqa: N818 - a state of the photo, not a fault of the program
    """The bytes are no photo that can be used; the message is a short reason."""


def decode(data: bytes) -> Image.Image:
    """The photo as an RGB image, upright by its EXIF orientation.

    The first frame of an animation is taken, transparency is laid on white, 16-bit grey is scaled
    to 8 bits, CMYK becomes RGB without colour management, and embedded profiles are not applied.

    Args:
        data: a whole JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIF file (the last two where Pillow
            can read them).

    Raises:
        UnreadablePhoto: the file is empty, damaged, cut off, too large, a strip, or of another
            format.
    """
    if not data:
        raise UnreadablePhoto("the file is empty")
    with _SILENCE:
        image = _open(data)
        turn = UPRIGHT.get(_orientation(image))
        image = _rgb(image)
    return image if turn is None else image.transpose(turn)


def _open(data: bytes) -> Image.Image:
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
        if image.width * image.height > MAX_PIXELS:
            raise UnreadablePhoto(f"more than {MAX_PIXELS // 10**6} million pixels")
        if max(image.size) > MAX_RATIO * min(image.size):
            raise UnreadablePhoto(f"one side is more than {MAX_RATIO} times as long as the other")
        image.load()
    except UnreadablePhoto:
        raise
    except UnidentifiedImageError:
        raise UnreadablePhoto("not an image of a known format") from None
    except Image.DecompressionBombError:
        raise UnreadablePhoto(f"more than {MAX_PIXELS // 10**6} million pixels") from None
    except MemoryError:
        raise UnreadablePhoto("too large for the memory") from None
    except DAMAGE as error:
        raise UnreadablePhoto(f"damaged or cut off ({_reason(error)})") from None
    return image


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(EXIF_ORIENTATION)
    except DAMAGE:
        return 1  # broken metadata does not make the pixels unusable
    return value if isinstance(value, int) else 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise UnreadablePhoto("32-bit pixels, whose range is unknown")
    try:
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            ground = Image.new("RGBA", layer.size, "white")
            return Image.alpha_composite(ground, layer).convert("RGB")
        return image.convert("RGB")
    except DAMAGE as error:
        raise UnreadablePhoto(f"cannot be turned into RGB ({_reason(error)})") from None


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 80 else text[:79] + "…"


class _Silence:
    """Keeps Pillow's warnings about odd metadata and large files out of a block.

    `warnings.catch_warnings` is not safe in threads: one that leaves late restores what another
    had set. Here one filter is added by the first thread and taken away by the last.
    """

    FILTER = ("ignore", None, Warning, re.compile(r"PIL\b"), 0)

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            if self.FILTER not in warnings.filters:
                warnings.filterwarnings("ignore", module=self.FILTER[3].pattern)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0 and isinstance(warnings.filters, list):
                with contextlib.suppress(ValueError):
                    warnings.filters.remove(self.FILTER)


_SILENCE = _Silence()
