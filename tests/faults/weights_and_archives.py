"""Files of weights and saved graphs that are damaged, lie or hold code."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import save_file
from table import NETS, Called, Fault, Place, rows

ARCH = ("--arch", "python:nets:make")
GOOD = {"size": 32, "class_names": ["a", "b", "c"], "mean": [0.5] * 3, "std": [0.25] * 3}


def _state() -> dict[str, torch.Tensor]:
    scope: dict[str, Any] = {}
    exec(NETS, scope)  # the corpus's own text
    return scope["make"]().state_dict()


def _header(tensors: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _tensor(shape: list[int], end: int, *, kind: str = "F32", start: int = 0) -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


def _file(place: Place, file: tuple[str, bytes]) -> Called:
    return place.audit("--model", f"file:{place.write(*file)}", *ARCH)


def _described(place: Place, text: str) -> Called:
    tensors = {name: value.clone() for name, value in _state().items()}
    save_file(tensors, place.folder / "n.safetensors", metadata={"auditor": text})
    arch = () if '"arch"' in text else ARCH
    return place.audit("--anyway", "--model", "file:n.safetensors", *arch)


def _saved(place: Place, change: Callable[[dict[str, torch.Tensor]], object]) -> Called:
    torch.save(change(_state()), place.folder / "n.pt")
    return place.audit("--model", "file:n.pt", *ARCH)


def _each(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., object]:
    return lambda state: {name: change(value) for name, value in state.items()}


def _floats(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., object]:
    return _each(lambda value: change(value) if value.is_floating_point() else value)


def _wide(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., object]:
    return _each(lambda value: change(value) if value.ndim > 1 else value)


class Runs:
    """Unpickled, it leaves a file behind."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("open('CANARY', 'w').close()",)


def _code(place: Place, write: Callable[[Place], str]) -> Called:
    done = place.audit("--model", f"file:{write(place)}", *ARCH)
    assert not (place.folder / "CANARY").exists(), "code in the file ran"
    return done


def _pickled(name: str, value: object) -> Callable[[Place], str]:
    return lambda place: str(place.write(name, pickle.dumps(value)))


def _torch(name: str, value: object) -> Callable[[Place], str]:
    def write(place: Place) -> str:
        torch.save(value, place.folder / name)
        return name

    return write


def _npz(place: Place) -> str:
    import numpy as np

    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([Runs()]), allow_pickle=True)
    with zipfile.ZipFile(place.folder / "n.npz", "w") as archive:
        archive.writestr("head.weight.npy", buffer.getvalue())
    return "n.npz"


def _with(**changes: object) -> str:
    return json.dumps({**GOOD, **changes})


WEIGHTS_AND_ARCHIVES: tuple[Fault, ...] = (
    *rows(
        "safetensors",
        lambda place, data: _file(place, ("lie.safetensors", data)),
        {
            "header longer than the file": (
                _header({"a": _tensor([1], 4)}, bytes(4), length=10**6),
                "Cannot read the weights",
            ),
            "header of 2**63 bytes": (_header({}, length=2**63), "Cannot read the weights"),
            "offsets beyond the file": (
                _header({"head.weight": _tensor([3, 16], 192)}, b"12"),
                "Cannot read the weights",
            ),
            "offsets that overlap": (
                _header({"a": _tensor([1], 4), "b": _tensor([1], 4)}, bytes(4)),
                "Cannot read the weights",
            ),
            "offsets that run backwards": (
                _header({"a": _tensor([1], 0, start=4)}, bytes(4)),
                "Cannot read the weights",
            ),
            "a shape that overflows": (
                _header({"a": _tensor([2**33, 2**33], 4)}, bytes(4)),
                "Cannot read the weights",
            ),
            "a shape below 0": (
                _header({"a": _tensor([-1], 4)}, bytes(4)),
                "Cannot read the weights",
            ),
            "an unknown type": (
                _header({"a": _tensor([1], 4, kind="X9")}, bytes(4)),
                "Cannot read the weights",
            ),
            "a header that is no JSON": (struct.pack("<Q", 4) + b"{{{{", "Cannot read the weights"),
            "a header 100,000 deep": (
                struct.pack("<Q", 200_000) + b"[" * 100_000 + b"]" * 100_000,
                "Cannot read the weights",
            ),
            "empty": (b"", "Cannot read the weights"),
            "seven bytes": (b"1234567", "Cannot read the weights"),
            "metadata with numbers": (
                _header({"__metadata__": {"auditor": 7}}),
                "Cannot read the weights",
            ),
            "no tensors": (_header({}), "holds no tensors"),
        },
    ),
    *rows(
        "description",
        _described,
        {
            "no JSON": (
                "{",
                "The description that n.safetensors carries cannot be used: Expecting property name",
            ),
            "a list": (
                "[1]",
                "The description that n.safetensors carries cannot be used: all of it: Input should be a",
            ),
            "100,000 deep": (
                "[" * 100_000,
                "The description that n.safetensors carries cannot be used: maximum recursion depth",
            ),
            "a number of 5,000 digits": (
                "1" * 5000,
                "The description that n.safetensors carries cannot be used",
            ),
            "NaN": (
                "NaN",
                "The description that n.safetensors carries cannot be used: all of it: Input should be a",
            ),
            "an unknown key": (
                _with(x=1),
                "The description that n.safetensors carries cannot be used: x: Extra inputs are not",
            ),
            "size 0": (
                _with(size=0),
                "The description that n.safetensors carries cannot be used: size.constrained-int: Input",
            ),
            "size 10**9": (
                _with(size=10**9),
                "The description that n.safetensors carries cannot be used: size.constrained-int: Input",
            ),
            "std 0": (
                _with(std=[0, 0, 0]),
                "The preprocessing of file:n.safetensors cannot be used: std (0.0, 0.0, 0.0) must be",
            ),
            "std NaN": (_with(std=[float("nan")] * 3), "must hold finite numbers"),
            "mean of seven channels": (
                _with(mean=[0] * 7),
                "The preprocessing of file:n.safetensors cannot be used: mean (0.0, 0.0, 0.0, 0.0, 0.0",
            ),
            "mean that overflows": (
                '{"size":32,"mean":[1e400,0,0],"std":[1,1,1]}',
                "must hold finite numbers",
            ),
            "two names for three classes": (
                _with(class_names=["a", "b"]),
                "file:n.safetensors has 3 classes and there are 2 class names; give a file with one for",
            ),
            "half a surrogate pair": (
                _with(class_names=["a", "\ud800", "c"]),
                "The class names of file:n.safetensors hold '\\ud800', which no file can hold; give others",
            ),
            "an id twice": (
                _with(class_ids=["x", "x", "y"]),
                "Two classes of file:n.safetensors have the same id; give others with --class-names",
            ),
            "an architecture that is a path": (
                _with(arch="torchvision:../../x"),
                "torchvision has no classifier '../../x'; check the name",
            ),
            "another architecture": (
                _with(arch="torchvision:squeezenet1_0"),
                "The weights n.safetensors do not fit torchvision:squeezenet1_0: it holds none of the",
            ),
            "a factory as architecture": (
                _with(arch="python:nets:make"),
                "The architecture 'python:nets:make' is none of torchvision:NAME, timm:NAME and",
            ),
            "an unknown interpolation": (
                _with(interpolation="magic"),
                "The description that n.safetensors carries cannot be used: interpolation",
            ),
            "an unknown order of channels": (
                _with(channels="gbr"),
                "The description that n.safetensors carries cannot be used: channels",
            ),
        },
    ),
    *rows(
        "weights",
        _saved,
        {
            "one is missing": (
                lambda s: {k: v for k, v in s.items() if k != "head.bias"},
                "The weights n.pt do not fit python:nets:make: 'head.bias' is missing in the file",
            ),
            "one too many": (
                lambda s: {**s, "x": torch.zeros(1)},
                "The weights n.pt do not fit python:nets:make: the file's 'x' has no place in the network",
            ),
            "another shape": (
                lambda s: {**s, "conv.weight": torch.zeros(8, 3, 5, 5)},
                "The weights n.pt do not fit python:nets:make: 'conv.weight' has the shape (8, 3, 5, 5)",
            ),
            "empty": (lambda s: {}, "n.pt holds no state dict (a mapping of names to tensors)"),
            "a list": (lambda s: [1], "n.pt holds no state dict (a mapping of names to tensors)"),
            "a number": (lambda s: 7, "n.pt holds no state dict (a mapping of names to tensors)"),
            "a name of 10,000 letters": (
                lambda s: {**s, "x" * 10_000: torch.zeros(1)},
                "The weights n.pt do not fit python:nets:make: the file's",
            ),
            "a name with escapes": (
                lambda s: {**s, "\x1b[2J\n": torch.zeros(1)},
                "The weights n.pt do not fit python:nets:make: the file's '\\x1b[2J\\n' has no place in the",
            ),
            "two classes for three names": (
                lambda s: {
                    **s,
                    "head.weight": torch.zeros(2, 16),
                    "head.bias": torch.zeros(2),
                },
                "The weights n.pt do not fit python:nets:make: 'head.weight' has the shape (2, 16), not",
            ),
            "no elements": (
                _each(lambda v: v[:0] if v.ndim else v),
                "The weights n.pt do not fit python:nets:make: 'conv.weight' has the shape (0, 3, 3, 3)",
            ),
            "names that are numbers": (
                lambda s: dict(enumerate(s.values())),
                "The weights n.pt do not fit python:nets:make: it holds none of the names of the network",
            ),
            "sparse": (
                _wide(lambda v: v.to_sparse()),
                "Cannot load n.pt, which may be damaged or incomplete",
            ),
            "without data": (
                _each(lambda v: v.to("meta")),
                "The weights n.pt do not fit python:nets:make: 'conv.weight' is a tensor without data (on",
            ),
            "complex": (
                _floats(lambda v: v.to(torch.complex64)),
                "The weights n.pt do not fit python:nets:make: 'conv.weight' holds complex64 numbers; save",
            ),
            "all NaN": (
                _floats(lambda v: torch.full_like(v, float("nan"))),
                "file:n.pt gives logits that are not finite on a black image",
            ),
        },
    ),
    *rows(
        "archive",
        _file,
        {
            "empty .pt": (
                ("x.pt", b""),
                "is no PyTorch file; check how it was saved or downloaded",
            ),
            "zeros .pt": (
                ("x.pt", bytes(1000)),
                "is no PyTorch file; check how it was saved or downloaded",
            ),
            "text .pt": (
                ("x.pt", b"hello, world"),
                "is no PyTorch file; check how it was saved or downloaded",
            ),
            "half an archive": (
                ("x.pt", b"PK\x03\x04" + bytes(40)),
                "which may be damaged or incomplete",
            ),
            "empty .pt2": (("x.pt2", b""), "Cannot load the program"),
            "zeros .pt2": (("x.pt2", bytes(1000)), "Cannot load the program"),
            "empty .npz": (("x.npz", b""), "Cannot read the weights"),
            "text .npz": (("x.npz", b"hello, world"), "Cannot read the weights"),
        },
    ),
    *rows(
        "code",
        _code,
        {
            "in a state dict": (
                _torch("n.pt", {"a": torch.zeros(1), "b": Runs()}),
                "n.pt holds a pickled object, which can run code when it is loaded; save its state dict",
            ),
            "in a bare pickle": (_pickled("n.pt", Runs()), "which may be damaged or incomplete"),
            "in a pickle named .bin": (
                _pickled("n.bin", Runs()),
                "which may be damaged or incomplete",
            ),
            "in a pickle named .pth": (
                _pickled("n.pth", {"state_dict": Runs()}),
                "which may be damaged or incomplete",
            ),
            "in a pickle named .safetensors": (
                _pickled("n.safetensors", Runs()),
                "Cannot read the weights",
            ),
            "in a pickle named .npz": (_pickled("n.npz", Runs()), "Cannot read the weights"),
            "in an array of objects": (_npz, "Cannot read the weights n.npz"),
        },
    ),
)
