"""Decoding photos: untrusted bytes become an upright RGB image, or a reason why not."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from auditor.images.damage import has_lost_part, scans

__all__ = ["AS_STORED", "Decoding", "Note", "Photo", "UnreadablePhoto", "decode", "room"]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "HEIF")
"""Pillow's readers that may see a photo; those that this Pillow lacks are left out."""

MAX_PIXELS = 100_000_000
"""Largest width times height: 400 MB, as Pillow keeps RGB."""

PIXELS_AT_ONCE = 150_000_000
"""Of the photos that are decoded side by side; one is about 12 bytes a pixel until it is fitted."""

MAX_SCANS = 100
"""Passes over a JPEG's picture. Progressive files have about 10; libtiff sets the same limit."""

SCAN_MARKER = b"\xff\xda"

MAX_SCANNED = 2_000_000_000
"""Scans times pixels: about 4 s of decoding."""

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

Note = Literal[
    "transparent", "turned", "odd-orientation", "sixteen-bit", "clipped", "cmyk", "animation",
    "profile",
]  # fmt: skip


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

    def __post_init__(self) -> None:
        if not re.fullmatch(r"drop|white|black|#[0-9a-fA-F]{6}", self.background):
            raise ValueError(
                f"background {self.background!r} is none of drop, white, black and #rrggbb"
            )
        if not 8 <= self.bit_depth <= 16:
            raise ValueError(f"bit depth {self.bit_depth} is not from 8 to 16")
        if self.orientation not in ("exif", "stored"):
            raise ValueError(f"orientation {self.orientation!r} is neither 'exif' nor 'stored'")


AS_STORED = Decoding()
"""What torchvision, timm and transformers do, but for the orientation."""


@dataclass(frozen=True)
class Photo:
    """A decoded photo.

    Attributes:
        image: RGB, without metadata.
        notes: what its file held that a decoder has to settle.
        peak: largest value of a picture of 16 bits, `None` for others.
    """

    image: Image.Image
    notes: frozenset[Note] = frozenset()
    peak: int | None = None


class UnreadablePhoto(ValueError):  # noqa: N818 - a state of the photo, not a fault of the program
    """The bytes are no photo that can be used; the message is a short reason."""


def decode(data: bytes, decoding: Decoding = AS_STORED) -> Photo:
    """The photo as an RGB image, by default upright by its EXIF orientation.

    The first frame of an animation is taken, 16-bit grey is scaled to 8 bits by the bit depth,
    CMYK becomes RGB without colour management, and embedded profiles are not applied.

    Args:
        data: a whole JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIF file (the last two where Pillow
            can read them).
        decoding: how what the file leaves open is settled.

    Raises:
        UnreadablePhoto: the file is empty, damaged, cut off, too large, a strip, or of another
            format.
    """
    if not data:
        raise UnreadablePhoto("the file is empty")
    with _STRICT:
        image, deep = _open(data)
        if deep and decoding.bit_depth < 16:
            raise UnreadablePhoto(
                "16 bits a colour, of which only the upper 8 are read, so the bit depth cannot be "
                f"{decoding.bit_depth}; save it with 8 bits"
            )
        notes, orientation = _notes(image)
        peak, pixels = _rgb(image, decoding)
    if deep:
        peak = 256 * _largest(pixels) + 255
    if peak is not None:
        notes.add("sixteen-bit")
        if peak >= 2**decoding.bit_depth:
            notes.add("clipped")
    turn = UPRIGHT.get(orientation) if decoding.orientation == "exif" else None
    upright = pixels if turn is None else pixels.transpose(turn)
    upright.info = {}  # a saved copy would carry a transparent colour or a profile on
    return Photo(upright, frozenset(notes), peak)


@contextlib.contextmanager
def room(data: bytes) -> Iterator[None]:
    """A block in which a photo is decoded and fitted, entered when there is memory for it.

    Photos in such blocks hold at most 150 million pixels together, in all threads. One thread must
    not enter it twice.
    """
    with _STRICT:
        try:
            image = Image.open(io.BytesIO(data), formats=_formats())
            pixels = min(image.width * image.height, MAX_PIXELS)
        except (*DAMAGE, Image.DecompressionBombError, MemoryError):
            pixels = 0  # decoding says what is wrong with it
    with _MEMORY:
        _MEMORY.wait_for(lambda: sum(_INSIDE) + pixels <= PIXELS_AT_ONCE)
        _INSIDE.append(pixels)
    try:
        yield
    finally:
        with _MEMORY:
            _INSIDE.remove(pixels)
            _MEMORY.notify_all()


_MEMORY = threading.Condition()
_INSIDE: list[int] = []


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _open(data: bytes) -> tuple[Image.Image, bool]:
    """The loaded picture, and whether it stores 16 bits of each colour."""
    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
        if image.width * image.height > MAX_PIXELS:
            raise UnreadablePhoto(f"more than {MAX_PIXELS // 10**6} million pixels")
        if max(image.size) > MAX_RATIO * min(image.size):
            raise UnreadablePhoto(f"one side is more than {MAX_RATIO} times as long as the other")
        pixels = image.width * image.height
        if image.format in ("JPEG", "MPO"):
            _check_scans(data, pixels)
        deep = _has_sixteen_bit_colours(image)
        image.load()
        metadata = [image.info.get(key) for key in ("exif", "xmp", "icc_profile")]
        blobs = [part for part in metadata if isinstance(part, bytes)]
        if has_lost_part(data, image.format or "", pixels=pixels, metadata=blobs):
            raise UnreadablePhoto("damaged (a part of its data was lost and reads as zeros)")
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
    return image, deep


def _check_scans(data: bytes, pixels: int) -> None:
    def too_many(passes: int) -> bool:
        return passes > MAX_SCANS or (passes > 1 and passes * pixels > MAX_SCANNED)

    # previews and what follows the picture may hold the marker too, so it is only a bound
    if too_many(data.count(SCAN_MARKER)) and too_many(passes := len(scans(data))):
        raise UnreadablePhoto(f"{passes} or more scans, which would take long to decode")


def _notes(image: Image.Image) -> tuple[set[Note], int]:
    """What the file holds beside plain sRGB pixels, and its EXIF orientation (1 is upright)."""
    notes: set[Note] = set()
    orientation = 1
    # broken metadata does not make the pixels unusable
    with contextlib.suppress(*DAMAGE):
        stored = image.getexif().get(EXIF_ORIENTATION, 1)
        if stored not in range(1, 9):
            notes.add("odd-orientation")
        elif stored != 1:
            orientation = int(stored)
            notes.add("turned")
    with contextlib.suppress(*DAMAGE):
        if image.format != "MPO" and getattr(image, "is_animated", False):
            notes.add("animation")  # an MPO's further pictures are the camera's previews
    with contextlib.suppress(*DAMAGE):
        if _transparent(image):
            notes.add("transparent")
    profile = image.info.get("icc_profile")
    if image.mode == "CMYK":
        notes.add("cmyk")
    elif isinstance(profile, bytes) and profile and not _is_srgb(profile):
        notes.add("profile")
    return notes, orientation


def _transparent(image: Image.Image) -> bool:
    """Whether a pixel is not opaque."""
    if not image.has_transparency_data or image.mode.startswith("I"):
        return False
    layer = image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
    return any(layer.getchannel("A").histogram()[:255])


def _is_srgb(profile: bytes) -> bool:
    """By the name that a profile gives itself, as ASCII or UTF-16."""
    return b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile


def _rgb(image: Image.Image, decoding: Decoding) -> tuple[int | None, Image.Image]:
    """The largest value of a picture of 16 bits, and the picture as RGB."""
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint32)
        top = 2**decoding.bit_depth - 1
        scaled = (np.minimum(grey, top) * 255 + top // 2) // top
        return int(grey.max()), Image.fromarray(scaled.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise UnreadablePhoto("32-bit pixels, whose range is unknown")
    try:
        if image.has_transparency_data and decoding.background != "drop":
            layer = image.convert("RGBA")
            ground = Image.new("RGBA", layer.size, decoding.background)
            return None, Image.alpha_composite(ground, layer).convert("RGB")
        return None, image if image.mode == "RGB" else image.convert("RGB")
    except DAMAGE as error:
        raise UnreadablePhoto(f"cannot be turned into RGB ({_reason(error)})") from None


def _has_sixteen_bit_colours(image: Image.Image) -> bool:
    """Whether colours of 16 bits are stored, of which Pillow keeps the upper 8; before loading."""
    tiles = getattr(image, "tile", [])
    return not image.mode.startswith("I") and any(";16" in str(tile.args) for tile in tiles)


def _largest(image: Image.Image) -> int:
    return max(int(high) for _, high in image.getextrema())  # type: ignore[misc]


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 80 else text[:79] + "…"


class _Strict:
    """Keeps Pillow strict about cut files and silent about odd metadata, in a block.

    WeasyPrint lets Pillow accept cut files as soon as it is imported. Both settings are of the
    process, and `warnings.catch_warnings` is not safe in threads: one that leaves late restores
    what another had set. Here the first thread changes them and the last puts them back.
    """

    FILTER = ("ignore", None, Warning, re.compile(r"PIL\b"), 0)

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.lenient = False

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.lenient = ImageFile.LOAD_TRUNCATED_IMAGES
            ImageFile.LOAD_TRUNCATED_IMAGES = False
            if self.FILTER not in warnings.filters:
                warnings.filterwarnings("ignore", module=self.FILTER[3].pattern)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside > 0:
                return
            ImageFile.LOAD_TRUNCATED_IMAGES = self.lenient
            if isinstance(warnings.filters, list):
                with contextlib.suppress(ValueError):
                    warnings.filters.remove(self.FILTER)


_STRICT = _Strict()
