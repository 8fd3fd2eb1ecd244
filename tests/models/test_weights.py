"""Files of weights: what is read from them, and that none runs code unasked."""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from saved import PREPROCESS, Evil, check_same, load, names_file, resnet, said, squeezenet
from torch import Tensor

from auditor.errors import ModelError
from auditor.models import loading
from auditor.models.loading import Preprocess


@pytest.mark.parametrize("kind", ["safetensors", "npz", "pt", "nested", "prefixed"])
def test_weights_with_an_architecture(tmp_path: Path, kind: str) -> None:
    net = resnet()
    state = net.state_dict()
    path = tmp_path / f"w.{kind if kind in ('safetensors', 'npz', 'pt') else 'pth'}"
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    elif kind == "npz":
        np.savez(path, **{name: value.numpy() for name, value in state.items()})
    elif kind == "nested":
        torch.save({"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}, path)
    elif kind == "prefixed":
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    else:
        torch.save(state, path)
    classifier = load(f"file:{path}", arch="timm:test_resnet", class_names=names_file(tmp_path, 5))
    check_same(classifier, net)
    assert classifier.digest == loading.weights_digest(state)
    again = load("timm:test_resnet", weights=str(path), class_names=names_file(tmp_path, 5))
    assert again.digest == classifier.digest
    assert again.preprocess.size == (160, 160)


def test_number_of_classes_is_that_of_the_weights(tmp_path: Path) -> None:
    net = squeezenet()
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(net.state_dict(), path)
    classifier = load(
        "torchvision:squeezenet1_1", weights=str(path), class_names=names_file(tmp_path, 7)
    )
    check_same(classifier, net)
    assert classifier.preprocess == Preprocess(
        (224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 256, "bilinear"
    )


def test_inception_style_options(tmp_path: Path) -> None:
    net = torchvision.models.googlenet(
        weights=None, num_classes=4, aux_logits=False, init_weights=False, transform_input=True
    ).eval()
    path = tmp_path / "w.pt"
    torch.save(net.state_dict(), path)
    classifier = load(
        "torchvision:googlenet", weights=str(path), class_names=names_file(tmp_path, 4)
    )
    check_same(classifier, net)


def test_saved_classifiers_need_nothing_else(tmp_path: Path) -> None:
    net = resnet()
    path = tmp_path / "model.safetensors"
    ids = ("a", "b", "c", "d", "e")
    names = ("crane", "crane", "Ümlaut", "x y", "z")
    loading.save(path, net, PREPROCESS, names, class_ids=ids, arch="timm:test_resnet")
    classifier = load(f"file:{path}")
    check_same(classifier, net)
    assert classifier.preprocess == PREPROCESS
    assert classifier.class_names == names
    assert classifier.class_ids == ids
    assert classifier.name == f"file:{path}"


def test_the_users_word_is_put_over_the_models(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    loading.save(path, resnet(), PREPROCESS, ("a",) * 5, arch="timm:test_resnet")
    classifier = load(
        f"file:{path}",
        size=320,
        mean=(0.1, 0.2, 0.3),
        std=(1.0, 1.0, 1.0),
        class_names=names_file(tmp_path, 5),
    )
    assert classifier.preprocess == Preprocess(
        (320, 320), (0.1, 0.2, 0.3), (1.0,) * 3, 352, "bicubic"
    )
    assert classifier.class_names[0] == "class 0"
    assert classifier.class_ids is None


def altered(change: Callable[[dict[str, Tensor]], object]) -> dict[str, Tensor]:
    state = dict(resnet().state_dict())
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layer2.0.conv1.weight"), "'layer2.0.conv1.weight' is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "'extra' has no place in the network"),
        (
            lambda s: s.update({"fc.weight": torch.zeros(5, 7)}),
            r"'fc.weight' has the shape \(5, 7\), not \(1000, \d+\)",
        ),
    ],
)
def test_weights_that_do_not_fit(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    path = tmp_path / "w.pt"
    torch.save(altered(change), path)
    with pytest.raises(ModelError, match=rf"do not fit timm:test_resnet: .*{message}"):
        load(f"file:{path}", arch="timm:test_resnet", class_names=names_file(tmp_path, 5))


def test_weights_without_training_counters_fit(tmp_path: Path) -> None:
    state = {k: v for k, v in resnet().state_dict().items() if "num_batches" not in k}
    path = tmp_path / "w.pt"
    torch.save(state, path)
    check_same(
        load(f"file:{path}", arch="timm:test_resnet", class_names=names_file(tmp_path, 5)), resnet()
    )


def test_digest_depends_on_names_shapes_types_and_bytes() -> None:
    base = {"a": torch.arange(6.0), "b": torch.ones(2, 3)}
    digest = loading.weights_digest
    assert digest(base) == digest(dict(reversed(base.items())))
    assert digest(base) == digest({**base, "b": torch.ones(3, 2).T})
    others = [
        {**base, "c": torch.zeros(0)},
        {"a": base["a"], "x": base["b"]},
        {**base, "a": base["a"].view(2, 3)},
        {**base, "a": base["a"].double()},
        {**base, "a": base["a"] + 1e-6},
        {**base, "a": base["a"].view(torch.int32)},
    ]
    assert len({digest(other) for other in [base, *others]}) == 7
    assert digest({"a": torch.ones(2, dtype=torch.bfloat16), "n": torch.tensor(3)})


@pytest.mark.parametrize("options", [{}, {"arch": "timm:test_resnet"}])
def test_nothing_is_unpickled_unasked(tmp_path: Path, options: dict[str, str]) -> None:
    path = tmp_path / "model.pt"
    torch.save({"state_dict": resnet().state_dict(), "args": Evil(tmp_path / "owned")}, path)
    with pytest.raises(ModelError, match="--trust-code"):
        load(f"file:{path}", **options, **said(tmp_path, 5))
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("form", ["file", "weights"])
def test_checkpoints_with_objects_load_when_trusted(tmp_path: Path, form: str) -> None:
    path = tmp_path / "model.pt"
    args = argparse.Namespace(lr=0.1)
    torch.save({"state_dict": resnet().state_dict(), "args": args}, path)
    spec, options = f"file:{path}", {"arch": "timm:test_resnet"}
    if form == "weights":
        spec, options = "timm:test_resnet", {"weights": str(path)}
    with pytest.raises(ModelError, match=r"holds a pickled object, .*--trust-code"):
        load(spec, **options, **said(tmp_path, 5))
    check_same(load(spec, trust_code=True, **options, **said(tmp_path, 5)), resnet())


@pytest.mark.parametrize("options", [{}, {"arch": "timm:test_resnet"}, {"trust_code": True}])
def test_other_files_are_no_pytorch_files(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "model.pt"
    path.write_text("<!DOCTYPE html><title>404 Not Found</title>")
    with pytest.raises(ModelError, match=r"model\.pt is no PyTorch file"):
        load(f"file:{path}", **options)


def test_pickled_modules_load_when_trusted(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(resnet(), path)
    with pytest.raises(ModelError, match=r"holds a pickled object, .*--trust-code"):
        load(f"file:{path}", **said(tmp_path, 5))
    check_same(load(f"file:{path}", trust_code=True, **said(tmp_path, 5)), resnet())


def test_an_architecture_named_by_a_file_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    loading.save(path, resnet(), PREPROCESS, ("a",) * 5, arch="python:antigravity:fly")
    with pytest.raises(ModelError, match="'python:antigravity:fly' is none of"):
        load(f"file:{path}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting"),
        ('{"colour": 1}', "colour"),
        ('{"size": 100000}', "size"),
        ('{"mean": ["a"]}', "mean"),
        ("[1]", "all of it"),
        ("[" * 200_000, "recursion"),
    ],
)
def test_descriptions_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(resnet().state_dict(), path, metadata={"auditor": text})
    with pytest.raises(
        ModelError, match=f"description that .* carries cannot be used: .*{message}"
    ):
        load(f"file:{path}", arch="timm:test_resnet")


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz", "w.pt", "w.pt2"])
def test_damaged_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x80\x02 this is no model file" * 10)
    with pytest.raises(ModelError):
        load(f"file:{path}", arch="timm:test_resnet")


def damaged_npz(kind: str) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.zeros((50, 50)))
    if kind == "deflated":
        data = bytearray(buffer.getvalue())
        data[80:90] = b"\xff" * 10
        return bytes(data)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }\n"
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
    return buffer.getvalue()


def damaged_pickles() -> list[bytes]:
    """Streams at which the reader of weights fails in many ways."""
    return [
        b"\x80\x02" + rest for rest in (b".", b"0.", b"(u.", b"J\x00.", b"\x85.", b"}b.", b"\x8a")
    ]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("w.npz", damaged_npz("deflated")),
        ("w.npz", damaged_npz("huge")),
        *(("w.pt", data) for data in damaged_pickles()),
    ],
    ids=lambda given: given if isinstance(given, str) else str(len(given)),  # bytes hold the time
)
def test_damaged_weights_are_one_sentence(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"Cannot (read|load)|holds") as told:
        load(f"file:{path}", arch="timm:test_resnet")
    assert "\n" not in str(told.value)
