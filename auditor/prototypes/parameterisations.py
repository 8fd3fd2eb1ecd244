"""How an image is parameterised while it is optimised: by pixels, spectrum, or phases alone.

A step of equal size in every parameter changes an image most where the parameterisation is most
generous: `pixel` treats all frequencies alike, `fourier` favours low ones as photographs do (Olah
et al., "Feature visualization", Distill 2017), `phase` keeps the amplitude of every frequency as it
was (MACO, Fel et al., NeurIPS 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["NAMES", "Name", "Parameterisation", "parameterisation", "pink_noise"]

Name = Literal["fourier", "pixel", "phase"]
NAMES: tuple[Name, ...] = ("fourier", "pixel", "phase")

# Rows: red, green, blue; columns: luminance, red against blue, green against both. The principal
# axes of the colours of photographs, to two digits, with the first of length 1.
COLOURS = ((0.57, 0.19, 0.04), (0.58, 0.0, -0.11), (0.58, -0.19, 0.06))
DECAY = 0.5  # amplitude of a step falls with frequency to this power


@dataclass(frozen=True)
class Parameterisation:
    """Maps between images of shape (n, 3, H, W) in (0, 1) and parameters of shape (n, ...)."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


def parameterisation(name: Name, height: int, width: int, device: torch.device) -> Parameterisation:
    """The parameterisation of a name for images of one size.

    `decode(encode(images))` gives the images back, but for phases, which keep the amplitudes of
    the images that were encoded last.

    >>> fourier = parameterisation("fourier", 8, 8, torch.device("cpu"))
    >>> images = torch.full((1, 3, 8, 8), 0.3)
    >>> torch.allclose(fourier.decode(fourier.encode(images)), images, atol=1e-5)
    True
    """
    if name == "pixel":
        return Parameterisation(_logit, torch.sigmoid)
    mix = torch.tensor(COLOURS, device=device)
    unmix = torch.linalg.inv(mix)
    scale = torch.from_numpy(_frequencies(height, width) ** -DECAY).float().to(device)

    def coloured(planes: Tensor, matrix: Tensor) -> Tensor:
        mixed: Tensor = (matrix @ planes.flatten(2)).view_as(planes)
        return mixed

    def spectrum(images: Tensor) -> Tensor:
        spectra: Tensor = torch.fft.rfft2(coloured(_logit(images), unmix), norm="ortho")
        return spectra

    def image(spectra: Tensor) -> Tensor:
        planes: Tensor = torch.fft.irfft2(spectra, s=(height, width), norm="ortho")
        return torch.sigmoid(coloured(planes, mix))

    if name == "fourier":
        return Parameterisation(
            lambda images: torch.view_as_real(spectrum(images) / scale).contiguous(),
            lambda parameters: image(torch.view_as_complex(parameters) * scale),
        )

    # amplitudes travel with the phases, as a second plane that a step never changes
    def with_amplitude(images: Tensor) -> Tensor:
        spectra = spectrum(images)
        return torch.stack([spectra.angle(), spectra.abs()], -1)

    return Parameterisation(
        with_amplitude,
        lambda parameters: image(torch.polar(parameters[..., 1].detach(), parameters[..., 0])),
    )


def pink_noise(height: int, width: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Coloured noise of shape (3, H, W) in (0, 1) with the 1/f amplitude of photographs.

    Colours are correlated as in photographs: most of the variation is luminance.

    >>> pink_noise(4, 6, np.random.default_rng(0)).shape
    (3, 4, 6)
    """
    amplitude = 1 / _frequencies(height, width)
    phases = generator.normal(size=(2, 3, *amplitude.shape))
    noise = np.fft.irfft2((phases[0] + 1j * phases[1]) * amplitude, s=(height, width))
    noise /= noise.std(axis=(1, 2), keepdims=True)
    luminance, colour = noise[:1], noise
    mixed = 0.9 * luminance + 0.45 * (colour - colour.mean(0, keepdims=True))
    image = 0.45 + 0.15 * mixed / mixed.std()
    return np.asarray(np.clip(image, 0.02, 0.98), np.float32)


def _frequencies(height: int, width: int) -> NDArray[np.float64]:
    """Cycles per pixel of each entry of a half spectrum, at least one in the longer side."""
    fy = np.fft.fftfreq(height)[:, None]
    fx = np.fft.rfftfreq(width)[None]
    return np.asarray(np.maximum(np.hypot(fy, fx), 1 / max(height, width)), np.float64)


def _logit(images: Tensor) -> Tensor:
    return torch.logit(images, 1e-4).contiguous()
