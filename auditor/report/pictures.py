"""Thumbnails of the run folder's pictures, encoded anew from pixels.

A thumbnail carries nothing of the file but its pixels: no EXIF, no profile, no trailing data. Only
regular files inside the run folder are read, and a picture that cannot be shown is a stated
placeholder, never a broken image.
"""

from __future__ import annotations

import io
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps

__all__ = ["Missing", "Thumbnail", "Thumbnails"]

SIDE = 160  # pixels of the longer side: shown at 112 to 144, more would cost what it adds
QUALITY = 75
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 64 * 10**6
FORMATS = ("PNG", "JPEG", "WEBP")
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True)
class Thumbnail:
    """A JPEG file's bytes with its size in pixels."""

    jpeg: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Missing:
    """Why a picture is not shown."""

    reason: str


class Thumbnails:
    """Thumbnails of one run folder, each made once."""

    def __init__(self, folder: Path, *, side: int = SIDE) -> None:
        self._folder = folder.resolve()
        self._side = side
        self._made: dict[str, Thumbnail | Missing] = {}

    def get(self, file: str) -> Thumbnail | Missing:
        """The thumbnail of a file, named relative to the run folder with forward slashes."""
        if file not in self._made:
            self._made[file] = self._make(file)
        return self._made[file]

    def _make(self, file: str) -> Thumbnail | Missing:
        path = self._inside(file)
        if path is None:
            return Missing("the file lies outside the run folder")
        try:
            status = path.stat()
        except (OSError, ValueError):
            return Missing("the file is missing")
        if not stat.S_ISREG(status.st_mode):
            return Missing("not a regular file")
        if status.st_size > MAX_BYTES:
            return Missing("the file is too large")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                return _thumbnail(path.read_bytes(), self._side)
        except UNREADABLE:
            return Missing("the file cannot be read as a picture")

    def _inside(self, file: str) -> Path | None:
        relative = PurePosixPath(file)
        if not file or "\0" in file or "\\" in file or relative.is_absolute():
            return None
        if ".." in relative.parts:
            return None
        try:
            path = (self._folder / relative).resolve()
        except (OSError, RuntimeError, ValueError):  # the last for half a character
            return None
        return path if path.is_relative_to(self._folder) else None


def _thumbnail(data: bytes, side: int) -> Thumbnail | Missing:
    with Image.open(io.BytesIO(data), formats=FORMATS) as file:
        if file.width * file.height > MAX_PIXELS:
            return Missing("the picture has too many pixels")
        image = ImageOps.exif_transpose(file)
        if image.has_transparency_data:
            ground = Image.new("RGBA", image.size, "white")
            ground.alpha_composite(image.convert("RGBA"))
            image = ground
        image = image.convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    pixels = Image.frombytes("RGB", image.size, image.tobytes())  # leaves all metadata behind
    out = io.BytesIO()
    pixels.save(out, "JPEG", quality=QUALITY, optimize=True)
    return Thumbnail(out.getvalue(), *pixels.size)
