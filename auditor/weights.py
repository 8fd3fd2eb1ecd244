"""Weights: reading them without running code in the file, fitting, hashing and saving them."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from auditor.description import Description
from auditor.errors import ModelError
from auditor.foreign import ForeignCode
from auditor.preprocessing import Preprocess
from auditor.storage import write_atomically

__all__ = ["Weights", "fitted", "load_pickle", "read_weights", "save", "weights_digest"]

METADATA_KEY = "auditor"

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
"""Keys under which training scripts put the weights beside optimisers and counters."""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""What DataParallel, torch.compile and training wrappers put before each name."""


@dataclass(frozen=True)
class Weights:
    """Named tensors of a file, and what the file says about the model."""

    tensors: Mapping[str, Tensor]
    description: Description


def read_weights(path: Path, *, trust_code: bool) -> Weights:
    """Read a `.safetensors`, `.npz`, or PyTorch file of tensors.

    Args:
        path: the file.
        trust_code: whether code in a PyTorch file may run; else nothing in it is executed.

    Raises:
        ModelError: the file is missing or damaged, or holds more than tensors and is not trusted.
    """
    if not os.path.isfile(path):
        raise ModelError(f"There is no weights file {path}; check the path.")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return _read_safetensors(path)
    if suffix == ".npz":
        return Weights(_read_npz(path), Description())
    return Weights(tensors_in(load_pickle(path, trust_code=trust_code), path), Description())


def load_pickle(path: Path, *, trust_code: bool) -> object:
    """What `torch.save` wrote; nothing but tensors in plain containers where it is not trusted.

    Raises:
        ModelError: the file is damaged or of another kind, or is not trusted and holds more.
    """
    try:
        with path.open("rb") as file:
            start = file.read(2)
        if start != b"PK" and start[:1] != b"\x80":  # neither an archive nor a pickle
            raise ModelError(f"{path} is no PyTorch file; check how it was saved or downloaded.")
        with ForeignCode():
            return torch.load(path, map_location="cpu", weights_only=not trust_code)
    except ModelError:
        raise
    except Exception as error:  # whatever a damaged file leads to, or code of the file itself
        if isinstance(error, pickle.UnpicklingError) and not trust_code:
            raise ModelError(
                f"{path} holds a pickled object, which can run code when it is loaded; save its "
                "state dict alone, or the model with torch.export.save, or give --trust-code if "
                "you trust where it comes from."
            ) from None
        raise ModelError(f"Cannot load {path}: {first_line(error)}.") from error


def tensors_in(data: object, path: Path) -> dict[str, Tensor]:
    """The state dict in what a PyTorch file held: the whole of it, or under a usual key.

    Raises:
        ModelError: there is none.
    """
    if isinstance(data, Mapping):
        for inner in (data, *(data.get(key) for key in WRAPPERS)):
            if isinstance(inner, Mapping):
                tensors = {str(k): v for k, v in inner.items() if isinstance(v, Tensor)}
                if tensors:
                    return tensors
    raise ModelError(f"{path} holds no state dict (a mapping of names to tensors).")


def fitted(
    build: Callable[[int | None], nn.Module], weights: Weights, *, arch: str, path: Path
) -> nn.Module:
    """A network with the weights in it.

    Where only the last layer's number of classes differs, the network is built with the weights'.

    Args:
        build: makes the network, for a number of classes or, given `None`, its own.
        weights: what is put into it.
        arch: the architecture's name, for messages.
        path: the file's path, for messages.

    Raises:
        ModelError: a tensor is missing, unexpected or of another shape; the first is named.
    """
    net = build(None)
    own = net.state_dict()
    tensors = _without_prefix(weights.tensors, own)
    n_classes = _other_n_classes(own, tensors)
    if n_classes is not None:
        net = build(n_classes)
        own = net.state_dict()
    problem = _mismatch(own, tensors)
    if problem is not None:
        raise ModelError(f"The weights {path} do not fit {arch}: {problem}.")
    net.load_state_dict(tensors, strict=False)
    return net


def weights_digest(tensors: Mapping[str, object]) -> str:
    """SHA-256 of named tensors: names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        if not isinstance(value, Tensor):
            continue
        value = value.detach().cpu().contiguous()
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()


def save(
    path: Path,
    net: nn.Module,
    preprocess: Preprocess,
    class_names: tuple[str, ...],
    *,
    class_ids: tuple[str, ...] | None = None,
    arch: str | None = None,
) -> None:
    """Write weights with their preprocessing and class names, as one `.safetensors` file.

    It is read by `--model file:PATH.safetensors`, with `--arch` where `arch` is not given here.

    Args:
        path: the file to write, whole or not at all.
        net: the network.
        preprocess: how photos become its input.
        class_names: the name of each class.
        class_ids: the folder id of each class.
        arch: `torchvision:NAME` or `timm:NAME`.
    """
    import safetensors.torch

    described = Description(class_names=class_names, class_ids=class_ids, arch=arch)
    text = described.over(Description.of(preprocess)).model_dump_json(exclude_none=True)
    tensors = {name: value.detach().cpu().clone() for name, value in net.state_dict().items()}
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    write_atomically(path, safetensors.torch.save(tensors, metadata={METADATA_KEY: text}))


def first_line(error: BaseException) -> str:
    """The first sentence of an error's message, or its kind, without the full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.split(r"\.\s", lines[0].strip())[0].rstrip(".")[:300]


def _read_safetensors(path: Path) -> Weights:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            text = (file.metadata() or {}).get(METADATA_KEY, "")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"Cannot read the weights {path}: {first_line(error)}.") from None
    return Weights(tensors, Description.parse(text, source=str(path)))


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except Exception as error:  # whatever NumPy meets in a damaged file
        raise ModelError(f"Cannot read the weights {path}: {first_line(error)}.") from None


def _without_prefix(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = dict(tensors)
    for prefix in PREFIXES:
        mine = any(name.startswith(prefix) for name in own)
        if names and not mine and all(name.startswith(prefix) for name in names):
            names = {name.removeprefix(prefix): value for name, value in names.items()}
    return names


def _other_n_classes(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> int | None:
    """The number of classes of the given weights, where it is all that differs."""
    differing = [
        (own[name].shape, given[name].shape)
        for name in own
        if name in given and own[name].shape != given[name].shape
    ]
    sizes = {(a[0], b[0]) for a, b in differing if len(a) == len(b) > 0 and a[1:] == b[1:]}
    same_tails = all(len(a) == len(b) > 0 and a[1:] == b[1:] for a, b in differing)
    return sizes.pop()[1] if same_tails and len(sizes) == 1 else None


def _mismatch(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str | None:
    for name, value in own.items():
        # counts training steps, which evaluation never reads; converted weights leave it out
        if name not in given and not name.endswith("num_batches_tracked"):
            return f"{name!r} is missing in the file"
        if name in given and given[name].shape != value.shape:
            shapes = f"{tuple(given[name].shape)}, not {tuple(value.shape)}"
            return f"{name!r} has the shape {shapes}"
    extra = next((name for name in given if name not in own), None)
    return None if extra is None else f"the file's {extra!r} has no place in the network"
