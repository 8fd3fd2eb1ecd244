"""Where and how tensors are computed: device, memory layout and allocator.

*Measured* for MobileNetV2 at 224 px on one core of a virtual machine, per image: forward 38 ms as
loaded, 10 ms channels-last, 8 ms with freed memory kept as well; forward and backward 65, 31 and
24 ms. Without the last, half of the time or more goes to the kernel, which maps and clears the same
pages again and again.
"""

from __future__ import annotations

import ctypes
import sys

import torch
from torch import nn

from auditor.errors import ConfigError

__all__ = ["choose_device", "keep_freed_memory", "laid_out"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>


def choose_device(name: str) -> torch.device:
    """The device of a `--device` value; `auto` takes CUDA, then MPS, then the processor.

    Raises:
        ConfigError: the device is unknown or not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ConfigError(
            f"Device {name!r} cannot be used on this machine; choose auto, cpu, cuda or mps."
        ) from None
    return device


def describe(device: torch.device) -> str:
    """The device in words, for the record."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        return f"cpu: {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    return device.type


def laid_out(net: nn.Module) -> nn.Module:
    """The network with its convolutions channels-last, which processors and GPUs run faster."""
    return net.to(memory_format=torch.channels_last)


def keep_freed_memory() -> None:
    """Have glibc keep freed memory instead of handing it back to the kernel at each step."""
    if not sys.platform.startswith("linux"):
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
    except (OSError, AttributeError):
        return  # another C library: slower, and right all the same
