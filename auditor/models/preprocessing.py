"""How a photo becomes the input of the audited network."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from auditor.images.decoding import AS_STORED, Decoding

__all__ = ["Preprocess"]

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

LEAST_STD, LARGEST_STD = 1e-6, 16.0
"""Standard deviations of pixels in [0, 1] between which an input keeps what the photo shows.

Networks in use have 0.2 to 1, 1/255 for raw pixels, and 1/65535 for those of 16 bits.
"""

LARGEST_MEAN = 4.0
"""Means of pixels in [0, 1] lie there; some input scalings move them to -1."""

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue, those of Pillow's grey images."""


@dataclass(frozen=True)
class Preprocess:
    """Resizing, cropping and normalisation that the audited network was trained with.

    Attributes:
        size: height and width of the network's input in pixels.
        mean: per channel of the network's input, in the order of `channels`, for pixels in [0, 1];
            one number makes the network's input grey.
        std: per channel, as `mean`.
        resize: shorter side in pixels before the centre crop.
        interpolation: Pillow's filter for resizing; it averages when it shrinks.
        aspect: "crop" keeps the photo's proportions and crops its centre; "stretch" gives the
            photo the proportions of `size` first.
        channels: order of the channels of the network's input; a grey input has none.
        decoding: how the bytes of a photo became its pixels.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int
    interpolation: Interpolation = "bilinear"
    aspect: Literal["crop", "stretch"] = "crop"
    channels: Literal["rgb", "bgr"] = "rgb"
    decoding: Decoding = AS_STORED

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(*self.size, self.resize) < 1:
            raise ValueError(f"size {self.size} and resize {self.resize} must be at least 1 pixel")
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean):
            raise ValueError(
                f"mean {self.mean} and std {self.std} must both hold one number (grey) or three"
            )
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)):
            raise ValueError(f"mean {self.mean} and std {self.std} must be finite")
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std} must be positive")
        if min(self.std) < LEAST_STD or max(self.std) > LARGEST_STD:
            raise ValueError(
                f"std {self.std} leaves nothing of pixels in [0, 1]: it must be from "
                f"{LEAST_STD:g} to {LARGEST_STD:g}"
            )
        if max(map(abs, self.mean)) > LARGEST_MEAN:
            raise ValueError(f"mean {self.mean} is far from all pixels in [0, 1]")
        if self.interpolation not in RESAMPLING:
            raise ValueError(f"interpolation {self.interpolation!r} is none of {[*RESAMPLING]}")
        if self.aspect not in ("crop", "stretch"):
            raise ValueError(f"aspect {self.aspect!r} is neither 'crop' nor 'stretch'")
        if self.channels not in ("rgb", "bgr"):
            raise ValueError(f"channels {self.channels!r} are neither 'rgb' nor 'bgr'")

    def fit(self, image: Image.Image) -> Tensor:
        """The photo at the network's input size, in [0, 1].

        Equals `torchvision.transforms` Resize and CenterCrop on the Pillow image, also where
        `resize` is less than the crop, which is then padded with black; except that where `resize`
        covers one side of the crop and a photo's proportions leave the other short, the photo is
        enlarged to cover it.

        Returns:
            float32 tensor of shape (3, height, width), RGB.

        >>> network = Preprocess(size=(224, 224), mean=(0.5,), std=(0.25,), resize=256)
        >>> network.fit(Image.new("RGB", (640, 480))).shape
        torch.Size([3, 224, 224])
        """
        height, width = self.size
        target = self._resized(image.height, image.width)
        if image.mode != "RGB":
            image = image.convert("RGB")
        if (image.height, image.width) != target:
            image = image.resize(target[::-1], RESAMPLING[self.interpolation])
        top, left = _margin(target[0] - height), _margin(target[1] - width)
        image = image.crop((left, top, left + width, top + height))
        pixels = np.asarray(image, dtype=np.float32) / 255
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def normalise(self, images: Tensor) -> Tensor:
        """The network's input for images in [0, 1]; differentiable, for any height and width.

        Args:
            images: float tensor of shape (n, 3, height, width), RGB.

        Returns:
            tensor of shape (n, 3, height, width), or (n, 1, height, width) where `mean` holds one
            number, with the images' device and dtype, in the order of `channels`.

        >>> network = Preprocess(size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3, resize=8)
        >>> network.normalise(torch.ones(1, 3, 8, 8)).max()
        tensor(2.)
        """
        if len(self.mean) == 1:
            images = (images * _constant(LUMA, images.device, images.dtype)).sum(1, keepdim=True)
        elif self.channels == "bgr":
            images = images.flip(1)
        mean = _constant(self.mean, images.device, images.dtype)
        std = _constant(self.std, images.device, images.dtype)
        return (images - mean) / std

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.aspect == "stretch":
            scale = self.resize / min(self.size)
            return round(self.size[0] * scale), round(self.size[1] * scale)
        short = min(height, width)
        # torchvision truncates the longer side
        target = (int(self.resize * height / short), int(self.resize * width / short))
        covers = target[0] >= self.size[0] and target[1] >= self.size[1]
        if covers or self.resize < min(self.size):
            return target
        scale = max(self.size[0] / height, self.size[1] / width)
        return max(self.size[0], int(scale * height)), max(self.size[1], int(scale * width))


def _margin(surplus: int) -> int:
    """Pixels that torchvision's centre crop leaves out before it, or adds where negative."""
    return round(surplus / 2) if surplus >= 0 else -(-surplus // 2)


@functools.cache
def _constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Values per channel on a device, sent there once: sending waits for the device."""
    with torch.inference_mode(False):  # gradients may need it later
        return torch.tensor(values, device=device, dtype=dtype).view(1, -1, 1, 1)
