"""Weights: reading them without running code in the file, hashing and saving them."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from auditor.core.storage import write_atomically
from auditor.errors import ModelError, first_line
from auditor.models.description import Description
from auditor.models.foreign import ForeignCode
from auditor.models.limits import check_archive, check_file
from auditor.models.preprocessing import Preprocess

__all__ = [
    "METADATA_KEY",
    "Weights",
    "choice",
    "load_pickle",
    "read_weights",
    "save",
    "tensor_sets",
    "weights_digest",
]

METADATA_KEY = "auditor"

DEEPEST, LONGEST = 5, 1000
"""Levels of mappings and lists in which weights are looked for, and the longest such list."""


@dataclass(frozen=True)
class Weights:
    """Sets of named tensors of a file, and what the file says about the model.

    Attributes:
        sets: tensors by name, by the dotted keys that lead to them; empty at the top of the file.
        description: of the model.
        chosen: where the user says that the weights are; empty for anywhere.
    """

    sets: Mapping[str, Mapping[str, Tensor]]
    description: Description
    chosen: str = ""


def choice(text: str) -> tuple[Path, str]:
    """A path and the place within the file: `FILE#KEY`, where no file has that whole name.

    >>> choice("weights.pt#model_ema")
    (PosixPath('weights.pt'), 'model_ema')
    """
    path, cut, place = text.rpartition("#")
    return (Path(path), place) if cut and not os.path.lexists(text) else (Path(text), "")


def read_weights(path: Path, *, trust_code: bool, chosen: str = "") -> Weights:
    """Read a `.safetensors`, `.npz`, or PyTorch file of tensors.

    Args:
        path: the file.
        trust_code: whether code in a PyTorch file may run; else nothing in it is executed.
        chosen: where in the file the weights are.

    Raises:
        ModelError: the file is missing or damaged, or holds more than tensors and is not trusted.
    """
    if not os.path.lexists(path):
        raise ModelError(f"There is no weights file {path}; check the path.")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        check_file(path)
        tensors, description = _read_safetensors(path)
        return Weights({"": tensors}, description, chosen)
    if suffix == ".npz":
        check_archive(path)
        return Weights({"": _read_npz(path)}, Description(), chosen)
    data = load_pickle(path, trust_code=trust_code)
    return Weights(tensor_sets(data, path), Description(), chosen)


def load_pickle(path: Path, *, trust_code: bool) -> object:
    """What `torch.save` wrote; nothing but tensors in plain containers where it is not trusted.

    Raises:
        ModelError: the file is damaged or of another kind, or is not trusted and holds more.
    """
    check_archive(path)
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
                "state dict alone, or the model with torch.export.save, or give --trust-code "
                "(before: --trust-pickle) if you trust where it comes from."
            ) from None
        raise ModelError(
            f"Cannot load {path}, which may be damaged or incomplete: {first_line(error)}."
        ) from error


def tensor_sets(data: object, path: Path) -> dict[str, dict[str, Tensor]]:
    """The mappings of names to tensors in what a PyTorch file held, by the keys that lead to them.

    Modules, which only a trusted file holds, count as their state dicts.

    Raises:
        ModelError: there is none.
    """
    sets: dict[str, dict[str, Tensor]] = {}
    seen: set[int] = set()

    def search(value: object, keys: tuple[str, ...]) -> None:
        if id(value) in seen or len(keys) > DEEPEST:
            return
        seen.add(id(value))
        if isinstance(value, nn.Module):
            value = value.state_dict()
        elif isinstance(value, list | tuple) and len(value) <= LONGEST:
            value = dict(enumerate(value))
        if not isinstance(value, Mapping):
            return
        named = {str(k): v for k, v in value.items() if isinstance(k, str | int)}
        tensors = {name: part for name, part in named.items() if isinstance(part, Tensor)}
        if tensors:
            sets[".".join(keys)] = tensors
        for name, part in named.items():
            search(part, (*keys, name))

    search(data, ())
    if not sets:
        raise ModelError(f"{path} holds no state dict (a mapping of names to tensors).")
    return sets


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


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Description]:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            text = (file.metadata() or {}).get(METADATA_KEY, "")
    except Exception as error:  # of the library, or of PyTorch where it has no such numbers
        raise ModelError(f"Cannot read the weights {path}: {first_line(error)}.") from None
    if not tensors:
        raise ModelError(f"{path} holds no tensors.")
    return tensors, Description.parse(text, source=str(path))


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                _check_array(archive, entry)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except Exception as error:  # whatever NumPy meets in a damaged file
        raise ModelError(f"Cannot read the weights {path}: {first_line(error)}.") from None


def _check_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """See that an array of an archive is as large as its header says, before memory is taken."""
    from numpy.lib import format as npy

    if not entry.filename.endswith(".npy"):
        return
    with archive.open(entry) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        held = entry.file_size - file.tell()
    if math.prod(shape) * dtype.itemsize > held and not dtype.hasobject:
        raise ValueError(f"{entry.filename!r} says that it has the shape {shape}, but is smaller")
