"""Where and how tensors are computed: device, memory layout and allocator.

*Measured* for MobileNetV2 at 224 px on one core of a virtual machine, per image: forward 38 ms as
loaded, 10 ms channels-last, 8 ms with freed memory kept as well; forward and backward 65, 31 and
24 ms. Without the last, half of the time or more goes to the kernel, which maps and clears the same
pages again and again.
"""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import logging
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from auditor.errors import ConfigError, lacks_memory
from auditor.models.loading import Classifier, hookable

logger = logging.getLogger(__name__)
Made = TypeVar("Made")

__all__ = [
    "Parts",
    "bfloat16_pays",
    "choose_device",
    "copied",
    "describe",
    "folded",
    "for_gradients",
    "images_at_once",
    "in_bfloat16",
    "keep_freed_memory",
    "laid_out",
    "peers",
]

CACHED_PIXELS = 16 * 224 * 224  # a processor is no faster with more images at once (measured)
MEMORY_SHARE = 0.5  # of all there is, for images that are optimised together
LARGEST_BATCH = 256

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # <malloc.h>


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
    usable = re.fullmatch(r"(cpu|cuda|mps)(:\d{1,3})?", name) is not None
    try:
        if usable:
            torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError):
        usable = False
    if not usable:
        raise ConfigError(
            f"Device {name[:80]!r} cannot be used on this machine; choose auto, cpu, cuda or mps."
        )
    return torch.device(name)


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


def folded(classifier: Classifier, read: Sequence[str] = ()) -> Classifier:
    """A copy whose batch normalisations are folded into the convolutions before them.

    *Measured* forward and backward per image: on one busy core MobileNetV2 32.6 ms, folded 26.6,
    and ResNet-18 in bfloat16 25.4 and 23.2; on two quiet ones hardly any gain
    (docs/notes/performance.md). Pairs are found by one forward pass: a batch normalisation whose
    input is what a convolution just gave. If the copy's logits differ from the network's by more
    than rounding, because something else uses that output too, the network itself is returned; so
    it is where the classifier's `shortcuts` are off.

    Args:
        classifier: as it is; it stays so.
        read: modules whose outputs must stay what they are.
    """
    if not classifier.shortcuts:
        return classifier
    height, width = classifier.preprocess.size
    device = next(iter(classifier.net.parameters())).device
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, 3, height, width), generator=generator).to(device)
    given: dict[int, str] = {}
    pairs: dict[str, str] = {}  # batch normalisation -> convolution
    kept: list[Tensor] = []  # or an address could be used again

    def watch(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            if type(module) is nn.Conv2d and isinstance(output, Tensor):
                given[id(output)] = name
                kept.append(output)
            elif (
                type(module) is nn.BatchNorm2d
                and getattr(module, "running_var", None)
                is not None  # else there is nothing to fold
                and id(inputs[0]) in given
            ):
                pairs[name] = given[id(inputs[0])]

        return hook

    handles = [m.register_forward_hook(watch(k, m)) for k, m in hookable(classifier.net)]
    try:
        with torch.inference_mode():
            wanted = classifier.logits(image)
    finally:
        for handle in handles:
            handle.remove()
    if not pairs:
        return classifier
    net = copied(classifier.net)
    if net is None:
        return classifier
    modules = dict(net.named_modules())
    for name, before in pairs.items():
        if any(f"{before}.".startswith(f"{k}.") and not name.startswith(f"{k}.") for k in read):
            continue
        for place, module in (
            (before, fuse_conv_bn_eval(modules[before], modules[name])),
            (name, nn.Identity()),
        ):
            parent, _, last = place.rpartition(".")
            setattr(net.get_submodule(parent), last, module)
    changed = dataclasses.replace(classifier, net=laid_out(net.eval().requires_grad_(False)))
    with torch.inference_mode():
        same = torch.allclose(changed.logits(image), wanted, rtol=1e-3, atol=1e-3)
    return changed if same else classifier


class Parts:
    """Runs images in parts, which are halved for as long as the device lacks memory.

    What sufficed in one call is where the next begins.

    >>> list(Parts(2)(sum, [1, 2, 3, 4, 5]))
    [3, 7, 5]
    """

    def __init__(self, size: int) -> None:
        """Begin with parts of `size` images."""
        self.size = max(1, size)

    def __call__(self, run: Callable[..., Made], images: Any, *beside: Any) -> Iterator[Made]:
        """What `run` gives for each part, in order.

        Args:
            run: is called with a slice of `images`, and with the same slice of each sequence of
                `beside`, which say more of the images.
            images: n images, in any form that has a length and can be sliced.

        Raises:
            RuntimeError, MemoryError: as `run` raises it, where one image alone needs too much.
        """
        start = 0
        while start < len(images):
            stop = min(start + self.size, len(images))
            try:
                made = run(images[start:stop], *(each[start:stop] for each in beside))
            except (RuntimeError, MemoryError) as error:
                if stop - start == 1 or not lacks_memory(error):
                    raise
                self.size = (stop - start) // 2
                logger.warning("The memory does not suffice; %d images at once now.", self.size)
                continue
            yield made
            start = stop


def keep_freed_memory() -> None:
    """Have glibc keep freed memory instead of handing it back to the kernel at each step."""
    if not sys.platform.startswith("linux"):
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        libc.mallopt(M_ARENA_MAX, 1)  # what threads have of their own does not heed the others
    except (OSError, AttributeError):
        return  # another C library: slower, and right all the same


def peers(device: torch.device) -> list[torch.device]:
    """All GPUs where the device is one without a number, else the device alone."""
    if str(device) == "cuda" and torch.cuda.device_count() > 1:
        return [torch.device("cuda", k) for k in range(torch.cuda.device_count())]
    return [device]


def bfloat16_pays(net: nn.Module, device: torch.device) -> bool:
    """Whether matrix work in bfloat16 is faster than in float32.

    A GPU that has it: always. A processor that has it: only for dense convolutions and linear
    layers; depthwise ones are bound by memory. *Measured* on two cores with AVX-512 BF16, per image
    and step: ResNet-18 19.2 ms in float32 and 10.6 in bfloat16, MobileNetV2 10.4 and 11.1.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not torch.cpu._is_avx512_bf16_supported():
        return False
    return not any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in net.modules())


def in_bfloat16(net: nn.Module) -> nn.Module:
    """A copy for use under autocast, which would cast the frozen weights anew at every step."""
    changed = copied(net)
    if changed is None:
        return net
    for module in changed.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(torch.bfloat16)
    return changed


def for_gradients(classifier: Classifier) -> tuple[Classifier, torch.autocast]:
    """The classifier as prototypes run it, and the block to run it in: in bfloat16 where it pays.

    A classifier whose `shortcuts` are off runs as it is.
    """
    device = next(iter(classifier.net.parameters())).device
    fast = classifier.shortcuts and bfloat16_pays(classifier.net, device)
    if fast:
        classifier = dataclasses.replace(classifier, net=in_bfloat16(classifier.net))
    return classifier, torch.autocast(device.type, torch.bfloat16, enabled=fast)


def images_at_once(classifier: Classifier) -> int:
    """How many images are optimised together: what fits in memory, and what caches serve best.

    The need of one image is the sum of all modules' outputs, kept for the gradient, taken three
    times for the gradients themselves and for what lies between modules.
    """
    height, width = classifier.preprocess.size
    device = next(iter(classifier.net.parameters())).device
    need = 0

    def count(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal need
        if isinstance(output, Tensor):
            need += output.numel() * output.element_size()

    handles = [
        m.register_forward_hook(count) for _, m in hookable(classifier.net) if not any(m.children())
    ]
    try:
        with torch.inference_mode():
            classifier.logits(torch.full((1, 3, height, width), 0.5, device=device))
    finally:
        for handle in handles:
            handle.remove()
    fitting = int(MEMORY_SHARE * _memory(device) / max(1, 3 * need))
    useful = LARGEST_BATCH if device.type != "cpu" else max(1, CACHED_PIXELS // (height * width))
    return max(1, min(fitting, useful, LARGEST_BATCH))


def copied(net: nn.Module) -> nn.Module | None:
    """A copy of a network, or `None` if it cannot be copied, such as a compiled graph."""
    try:
        return copy.deepcopy(net)
    except (RuntimeError, TypeError, pickle.PickleError):
        return None


def _memory(device: torch.device) -> int:
    """Bytes of the device, or of the machine; not what is free now, or runs would differ."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 4 << 30  # a system that does not say
