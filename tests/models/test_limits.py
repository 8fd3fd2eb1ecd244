"""Files that say that they hold far more than they do, or that are too much to read."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib import format as npy
from saved import export, script
from torch import nn

from auditor.errors import ModelError
from auditor.models import archives, limits
from auditor.models.archives import load_exported, load_scripted
from auditor.models.weights import load_pickle, read_weights

CPU = torch.device("cpu")
MIB = 2**20


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.mean((2, 3)))


def array(shape: tuple[int, ...], data: bytes) -> bytes:
    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + data


def changed(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of an archive, compressed, with members changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return target


def npz(folder: Path, filling: bytes) -> Path:
    path = folder / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fc.weight.npy", array((len(filling) // 4,), filling))
    return path


def pt(folder: Path, filling: bytes) -> Path:
    torch.save(Tiny().state_dict(), folder / "good.pt")
    return changed(folder / "good.pt", folder / "bomb.pt",
                   lambda name, data: filling if name.endswith("data/0") else data)  # fmt: skip


def pt2(folder: Path, filling: bytes) -> Path:
    export(Tiny(), folder / "good.pt2")

    def fill(name: str, data: bytes) -> bytes:
        return data + filling if name.endswith("model.json") else data

    return changed(folder / "good.pt2", folder / "bomb.pt2", fill)


def torchscript(folder: Path, filling: bytes) -> Path:
    script(Tiny(), folder / "good.pt", "trace")
    return changed(folder / "good.pt", folder / "bomb.pt",
                   lambda n, data: data + filling if n.endswith(".py") else data)  # fmt: skip


FORMS: dict[str, tuple[Callable[[Path, bytes], Path], Callable[[Path], object]]] = {
    "npz": (npz, lambda path: read_weights(path, trust_code=False)),
    "pt": (pt, lambda path: read_weights(path, trust_code=False)),
    "trusted pt": (pt, lambda path: load_pickle(path, trust_code=True)),
    "pt2": (pt2, lambda path: load_exported(path, trust_code=False)),
    "TorchScript": (torchscript, lambda path: load_scripted(path, CPU, trust_code=False)),
}


@pytest.mark.parametrize("form", FORMS)
def test_bombs_are_refused_before_they_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(limits, "UNPACKED_FREELY", MIB)
    make, read = FORMS[form]
    path = make(tmp_path, b" " * 32 * MIB)
    with pytest.raises(
        ModelError, match=r"bomb\.\w+ says that its .* MiB unpack to [36][\d.]+ MiB, which"
    ):
        read(path)


@pytest.mark.parametrize("form", ["npz", "pt"])
def test_compressed_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(limits, "UNPACKED_FREELY", 0)
    rng = np.random.default_rng(0)
    pruned = rng.normal(size=MIB).astype(np.float32) * (rng.random(MIB) < 0.05)
    path = tmp_path / f"w.{form}"
    if form == "npz":
        np.savez_compressed(path, w=pruned)
    else:
        torch.save({"w": torch.from_numpy(pruned)}, tmp_path / "stored.pt")
        changed(tmp_path / "stored.pt", path, lambda name, data: data)
    assert path.stat().st_size < pruned.nbytes / 6
    read = read_weights(path, trust_code=False).sets[""]["w"]
    assert np.array_equal(read.numpy(), pruned)


def test_members_that_share_their_bytes_are_counted_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UNPACKED_FREELY", MIB)
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", array((MIB // 4,), bytes(MIB)))
        first = archive.infolist()[0]
        for k in range(100):  # entries of the directory that all point to the first
            entry = zipfile.ZipInfo(f"b{k}.npy")
            for name in ("header_offset", "CRC", "compress_size", "file_size", "compress_type"):
                setattr(entry, name, getattr(first, name))
            archive.filelist.append(entry)
    with pytest.raises(ModelError, match="which no weights do"):
        read_weights(path, trust_code=False)


@pytest.mark.parametrize("form", ["pt2", "TorchScript"])
def test_long_texts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr(limits, "LARGEST_TEXT", MIB)
    make, read = FORMS[form]
    with pytest.raises(ModelError, match=r"of 2 MiB, more text than a model has"):
        read(make(tmp_path, b" " * 2 * MIB))


@pytest.mark.parametrize("form", FORMS)
def test_files_larger_than_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    make, read = FORMS[form]
    path = make(tmp_path, bytes(8))
    with path.open("r+b") as file:
        file.truncate(2**42)  # takes no room on the disk
    monkeypatch.setattr(limits, "physical_memory", lambda: 2**34)
    with pytest.raises(ModelError, match=r"4096 GiB, more than the memory of this machine"):
        read(path)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "npz"])
def test_damaged_archives_are_refused(tmp_path: Path, form: str) -> None:
    make, read = FORMS[form]
    make(tmp_path, b"")
    path = tmp_path / ("good.pt2" if form == "pt2" else "good.pt")
    read(path)
    with zipfile.ZipFile(path) as archive:
        stored = [entry for entry in archive.infolist() if not entry.compress_type]
        largest = max(stored, key=lambda entry: entry.file_size)
        content = archive.read(largest)
    data = path.read_bytes()
    at = data.index(content) + len(content) // 2
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(
        ModelError, match=r"is damaged: '.*' in it does not agree with its checksum"
    ):
        read(path)


@pytest.mark.parametrize("shape", [(2**60,), (2**34,), (MIB, MIB), (3, 2)])
def test_arrays_that_claim_more_than_they_hold(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", array(shape, b"1234"))
    with pytest.raises(ModelError, match=r"Cannot read the weights .*says that it has the shape"):
        read_weights(path, trust_code=False)


def program(folder: Path, change: Callable[[dict[str, object]], object] | str) -> Path:
    export(Tiny(), folder / "good.pt2")

    def edit(name: str, data: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return data
        if isinstance(change, str):
            return change.encode()
        tree = json.loads(data)
        change(tree)
        return json.dumps(tree).encode()

    return changed(folder / "good.pt2", folder / "m.pt2", edit)


def test_graphs_nested_or_long_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"recursion|nested"):
        load_exported(program(tmp_path, "[" * 100_000 + "]" * 100_000), trust_code=False)
    monkeypatch.setattr(archives, "LARGEST_GRAPH", 1)
    with pytest.raises(ModelError, match=r"\d operations"):
        load_exported(program(tmp_path, lambda tree: None), trust_code=False)


def test_sizes_that_never_end(tmp_path: Path) -> None:
    def put(tree: object) -> None:
        parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else []
        for part in parts:
            put(part)
        if isinstance(tree, dict) and "expr_str" in tree:
            tree["expr_str"] = "10**10**10"

    with pytest.raises(ModelError, match=r"expression '10\*\*10\*\*10'"):
        load_exported(program(tmp_path, put), trust_code=False)
