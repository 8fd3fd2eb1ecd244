"""Evidence pictures of the run folder: re-encoded from pixels, named by content."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from auditor.core.storage import digest_bytes, write_atomically

__all__ = [
    "encoded_png",
    "save_photo",
    "save_prototype",
    "save_region",
]

SIDE = 256  # pixels of the longer side


def save_prototype(out: Path, class_index: int, n: int, pixels: NDArray[np.uint8]) -> str:
    """Write a prototype as PNG without any metadata; returns its place in the run folder."""
    return _saved(out, f"prototypes/{class_index}/{n}.png", pixels)


def save_region(out: Path, class_index: int, n: int, pixels: NDArray[np.uint8]) -> str:
    """Write a prototype with all but its region faded; returns its place in the run folder."""
    return _saved(out, f"prototypes/{class_index}/{n}-region.png", pixels)


def _saved(out: Path, file: str, pixels: NDArray[np.uint8]) -> str:
    write_atomically(out / file, encoded_png(Image.fromarray(pixels)))
    return file


def save_photo(out: Path, image: Image.Image | Tensor) -> str:
    """Write a small JPEG of a photo, or of float pixels of shape (3, H, W), without metadata.

    Returns:
        Its place in the run folder.
    """
    if isinstance(image, Tensor):
        pixels = image.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0)
        image = Image.fromarray(pixels.numpy())
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    data = _encoded(small, "JPEG")
    file = f"pictures/{digest_bytes(data)[:24]}.jpg"
    if not (out / file).exists():
        write_atomically(out / file, data)
    return file


def encoded_png(image: Image.Image) -> bytes:
    """An image as PNG, without metadata."""
    return _encoded(image, "PNG")


def _encoded(image: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, quality=88)
    return buffer.getvalue()
