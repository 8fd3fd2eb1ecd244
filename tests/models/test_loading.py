"""Loading classifiers: every kind of source, on tiny real networks, and what users are told."""

from __future__ import annotations

import argparse
import copy
import functools
import importlib
import io
import json
import os
import re
import subprocess
import sys
import textwrap
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from PIL import Image
from saved import export, hugging_face_folder, images, names_file, script
from torch import Tensor, nn

from auditor.config import ModelConfig
from auditor.errors import ModelError
from auditor.models import loading
from auditor.models.description import Description, complete
from auditor.models.loading import Classifier, Preprocess

CPU = torch.device("cpu")
SHARED = Path(__file__).parents[3] / "shared" / "data"


def load(spec: str, **options: Any) -> Classifier:
    return loading.load(ModelConfig(spec=spec, **options), device=CPU)


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """A network with random weights and batch statistics, so that no layer is dead."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build().eval()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, 0, 0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net


def resnet() -> nn.Module:
    return seeded(lambda: timm.create_model("test_resnet", num_classes=5))


def vit() -> nn.Module:
    return seeded(lambda: timm.create_model("test_vit", num_classes=5))


def squeezenet() -> nn.Module:
    return seeded(lambda: torchvision.models.squeezenet1_1(num_classes=7))


NETWORKS = {"resnet": resnet, "vit": vit, "squeezenet": squeezenet}
PREPROCESS = Preprocess((160, 160), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 176, "bicubic")


def said(folder: Path, n: int) -> dict[str, Any]:
    """All that a bare graph does not say."""
    return {
        "size": 160,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.4),
        "class_names": names_file(folder, n),
    }


# --- preprocessing -------------------------------------------------------------------------------


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(20, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("shape", [(500, 333), (333, 500), (260, 260), (224, 999), (301, 256)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_fit_equals_torchvision(shape: tuple[int, int], interpolation: str) -> None:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize, ToTensor

    expected = Compose([Resize(256, InterpolationMode(interpolation)), CenterCrop(224), ToTensor()])
    preprocess = Preprocess((224, 224), (0.5,) * 3, (0.5,) * 3, 256, interpolation)
    image = picture(*shape)
    assert torch.equal(preprocess.fit(image), expected(image))


def test_fit_without_a_margin_and_of_another_shape() -> None:
    wide = Preprocess((64, 96), (0.5,) * 3, (0.5,) * 3, 64)
    for shape in [(300, 100), (100, 300), (40, 40), (96, 64)]:
        out = wide.fit(picture(*shape))
        assert out.shape == (3, 64, 96)
        assert out.min() > 0.05  # nothing is padded with black
    small = Preprocess((64, 64), (0.5,) * 3, (0.5,) * 3, 64)
    exact = picture(64, 64)
    assert torch.equal(small.fit(exact), torchvision.transforms.functional.to_tensor(exact))


def test_fit_can_stretch() -> None:
    halves = Image.new("RGB", (200, 50), "red")
    halves.paste("blue", (100, 0, 200, 50))
    out = Preprocess((40, 40), (0.5,) * 3, (0.5,) * 3, 40, aspect="stretch").fit(halves)
    assert out.shape == (3, 40, 40)
    assert out[0, :, :18].min() == 1
    assert out[2, :, 22:].min() == 1
    margin = Preprocess((40, 40), (0.5,) * 3, (0.5,) * 3, 50, aspect="stretch").fit(halves)
    assert margin.shape == (3, 40, 40)


def test_normalise_is_differentiable_and_takes_any_size() -> None:
    x = images(2, 31).double().requires_grad_()
    out = PREPROCESS.normalise(x)
    expected = (x - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) / torch.tensor(
        [0.2, 0.3, 0.4]
    ).view(1, 3, 1, 1)
    assert torch.allclose(out, expected, atol=1e-6)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.allclose(gradient[:, 0], torch.full_like(gradient[:, 0], 5.0), atol=1e-6)


def test_one_number_makes_the_input_grey_as_pillow_does() -> None:
    grey = Preprocess((32, 32), (0.5,), (0.25,), 32)
    image = picture(32, 32)
    expected = (torchvision.transforms.functional.to_tensor(image.convert("L")) - 0.5) / 0.25
    out = grey.normalise(grey.fit(image)[None])
    assert out.shape == (1, 1, 32, 32)
    assert (out[0] - expected).abs().max() < 4 * 1.01 / 255


@pytest.mark.parametrize(
    "change",
    [
        {"size": (0, 5)},
        {"mean": (0.5, 0.5)},
        {"mean": (0.5,)},
        {"std": (0.5, 0.0, 0.5)},
        {"mean": (float("nan"),) * 3},
        {"resize": 0},
        {"interpolation": "box"},
        {"aspect": "pad"},
    ],
)
def test_impossible_preprocessing(change: dict[str, Any]) -> None:
    fields = {"size": (8, 8), "mean": (0.5,) * 3, "std": (0.5,) * 3, "resize": 8}
    with pytest.raises(ValueError, match=r"must|none of|neither"):
        Preprocess(**{**fields, **change})


# --- weights files -------------------------------------------------------------------------------


def check_same(classifier: Classifier, net: nn.Module) -> None:
    """The classifier gives the network's logits on its own preprocessing, frozen and in eval."""
    x = images()
    with torch.no_grad():
        expected = net(classifier.preprocess.normalise(x))
        assert torch.allclose(classifier.logits(x), expected, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in classifier.net.parameters())
    assert not any(module.training for module in classifier.net.modules())
    assert len(classifier.class_names) == expected.shape[1]


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


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


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


def test_what_is_not_said_is_asked_for(tmp_path: Path) -> None:
    spec = ModelConfig(spec="file:x.pt2")
    bare = Description()
    with pytest.raises(ModelError, match=r"file:x\.pt2 does not say its input size; .*--size"):
        complete(bare, spec)
    with pytest.raises(ModelError, match="--mean and --std"):
        complete(Description(size=8, mean=(0.5,) * 3), spec)
    with pytest.raises(ModelError, match=r"mean \(0\.5,\) and std .* must both hold"):
        complete(Description(size=8, mean=(0.5,), std=(1.0,) * 3), spec)
    path = tmp_path / "w.pt"
    torch.save(resnet().state_dict(), path)
    with pytest.raises(ModelError, match="--class-names"):
        load(f"file:{path}", arch="timm:test_resnet")
    with pytest.raises(ModelError, match="holds weights only; name their architecture with --arch"):
        load(f"file:{path}")
    with pytest.raises(ModelError, match="has 5 classes and there are 4 class names"):
        load(f"file:{path}", arch="timm:test_resnet", class_names=names_file(tmp_path, 4))


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("resnet50", {}, "'resnet50' starts with none of torchvision:, timm:"),
        ("onnx:x", {}, "starts with none of"),
        ("file:", {}, "starts with none of"),
        ("file:missing.pt", {}, "no model file missing.pt"),
        ("torchvision:resnet500", {}, "no classifier 'resnet500'; did you mean resnet50"),
        ("torchvision:resnet50/V9", {}, "no weights 'V9' for resnet50; it has IMAGENET1K_V1, IMA"),
        ("timm:resnet_fifty", {}, "timm has no model 'resnet_fifty'"),
        ("timm:test_resnet", {"weights": "missing.pt"}, "no weights file missing.pt"),
        ("hf:no/such/folder", {}, "cannot be loaded as an image classifier with safetensors"),
        ("hf:" + "x" * 300, {}, "cannot be loaded as an image classifier with safetensors"),
        ("file:" + "x" * 300, {}, "There is no model file xxx"),
        ("timm:test_resnet", {"weights": "x" * 300}, "no weights file xxx"),
    ],
)
def test_specs_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, spec: str, options: dict[str, str], message: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=message) as error:
        load(spec, **options)
    assert str(error.value).count(". ") == 0  # one sentence
    assert str(error.value).endswith(".")


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


# --- class names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("n.txt", "a b\nc\n\n", None),
        ("n.csv", "index,id,name\n1,n2,c\n0,n1,a b\n", ("n1", "n2")),
        ("n.csv", "\ufeffName\na b\nc\n", None),
        ("n.json", '["a b", "c"]', None),
        ("n.json", '[{"index": 1, "name": "c"}, {"index": 0, "name": "a b"}]', None),
        ("n.json", '[{"wnid": "n1", "name": "a b"}, {"wnid": "n2", "name": "c"}]', ("n1", "n2")),
        ("n.json", '{"1": ["n2", "c"], "0": ["n1", "a b"]}', ("n1", "n2")),
        ("n.json", '{"0": "a b", "1": "c"}', None),
    ],
)
def test_class_names_files(
    tmp_path: Path, name: str, text: str, ids: tuple[str, ...] | None
) -> None:
    from auditor.core.class_names import read_class_names

    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    found = read_class_names(path)
    assert found.names == ("a b", "c")
    assert found.ids == ids


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("n.txt", "", "holds no rows"),
        ("n.txt", "a\n\nc\n", "Row 2 of .* has no name"),
        ("n.csv", "index,name\n0,a\n0,b\n", "index 0 twice"),
        ("n.csv", "index,name\n0,a\n2,b\n", "index 2 but not the one before it"),
        ("n.csv", "index,name\nx,a\n", "the index 'x', not a whole number"),
        ("n.csv", "index,id,name\n0,n1,a\n1,n1,b\n", "each class an id of its own"),
        ("n.csv", "index,id,name\n0,n1,a\n1,,b\n", "each class an id of its own"),
        ("n.json", "{", "Cannot read the class names"),
        ("n.json", "[1, 2]", "Row 1 of .* is neither a name nor"),
        ("n.json", "3", "holds no rows"),
        ("n.json", "[" * 200_000, "Cannot read the class names"),
        ("n.csv", f"index,name\n{'1' * 5000},a\n", "the index '1{80}', not a whole number"),
    ],
)
def test_class_names_that_cannot_be_used(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    from auditor.core.class_names import read_class_names

    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        read_class_names(path)
    with pytest.raises(ModelError, match="Cannot read the class names"):
        read_class_names(tmp_path / "missing.txt")


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ('["\\ud800b", "c", "d", "e", "f"]', "names"),
        (
            '{"0": ["\\udfff", "a"], "1": ["b", "b"], "2": ["c", "c"], "3": ["d", "d"], '
            '"4": ["e", "e"]}',
            "ids",
        ),
    ],
)
def test_half_characters_are_no_class_names(tmp_path: Path, rows: str, what: str) -> None:
    (tmp_path / "n.json").write_text(rows)
    torch.save(resnet().state_dict(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match=rf"The class {what} of .* hold '\\ud"):
        load(
            f"file:{tmp_path / 'w.pt'}",
            arch="timm:test_resnet",
            class_names=str(tmp_path / "n.json"),
        )


def test_imagenet_names_and_ids() -> None:
    from auditor.core.class_names import imagenet

    found = imagenet(1000)
    assert found is not None
    assert found.ids is not None
    assert (found.names[0], found.ids[0]) == ("tench", "n01440764")
    assert (found.names[134], found.ids[134]) == ("crane bird", "n02012849")
    assert (found.names[517], found.ids[517]) == ("crane", "n03126707")
    assert len(set(found.ids)) == 1000
    assert imagenet(10) is None


# --- pretrained weights, without a network -------------------------------------------------------


def test_pretrained_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torchvision.models.SqueezeNet1_1_Weights.DEFAULT
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    net = seeded(lambda: torchvision.models.squeezenet1_1())
    torch.save(net.state_dict(), cache / weights.url.rpartition("/")[2])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(torch.hub.load_state_dict_from_url, "__kwdefaults__", None, raising=False)
        original = torch.hub.load_state_dict_from_url
        # the stand-in in the cache has another hash than the file on the server
        patch.setattr(
            torchvision.models._api,
            "load_state_dict_from_url",
            lambda *args, **options: original(*args, **{**options, "check_hash": False}),
        )
        classifier = load("torchvision:squeezenet1_1/IMAGENET1K_V1")
    check_same(classifier, net)
    assert classifier.class_names[1] == "goldfish"
    assert classifier.class_ids is not None
    assert classifier.class_ids[1] == "n01443537"


def test_pretrained_weights_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torchvision.models.SqueezeNet1_1_Weights.DEFAULT
    cached = tmp_path / "hub" / "checkpoints" / weights.url.rpartition("/")[2]
    cached.parent.mkdir(parents=True)
    torch.save({"a": Evil(tmp_path / "owned")}, cached)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="The weights of torchvision:squeezenet1_1 cannot be had"):
        load("torchvision:squeezenet1_1")
    assert not (tmp_path / "owned").exists()


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from urllib.error import URLError

    def fail(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    with pytest.raises(ModelError, match=r"cannot be had: .*no route.* local file with --weights"):
        load("torchvision:squeezenet1_1")


def test_timm_description() -> None:
    from auditor.models.libraries import timm_description

    base = {"input_size": (3, 224, 200), "mean": (0.5,) * 3, "std": (0.2,) * 3}
    found = timm_description(
        {
            **base,
            "interpolation": "bicubic",
            "crop_pct": 0.95,
            "label_names": ["n1", "n2"],
            "label_descriptions": {"n1": "one", "n2": "two"},
        }
    )
    assert complete(found, ModelConfig(spec="x")) == Preprocess(
        (224, 200), (0.5,) * 3, (0.2,) * 3, 210, "bicubic"
    )
    assert (found.class_names, found.class_ids) == (("one", "two"), ("n1", "n2"))
    squash = timm_description({**base, "crop_pct": 1.0, "crop_mode": "squash"})
    assert (squash.aspect, squash.resize) == ("stretch", 200)
    with pytest.raises(ModelError, match="crop mode 'border'"):
        timm_description({**base, "crop_mode": "border"})


# --- Hugging Face --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_hugging_face_folder(tmp_path: Path, kind: str) -> None:
    import transformers

    net = hugging_face_folder(tmp_path, kind)
    classifier = load(f"hf:{tmp_path}")
    assert classifier.class_names == ("label a", "label b", "label c")
    assert classifier.preprocess.size == (64, 64)
    assert classifier.preprocess.aspect == ("crop" if kind == "resnet" else "stretch")
    x = images(2, 64)
    with torch.no_grad():
        expected = net(classifier.preprocess.normalise(x)).logits
        assert torch.allclose(classifier.logits(x), expected, atol=1e-5)
    assert classifier.digest == loading.weights_digest(net.state_dict())
    # smooth pictures, on which resizers agree
    photo = picture(6, 5).resize((150, 100), Image.Resampling.BICUBIC)
    theirs = transformers.AutoImageProcessor.from_pretrained(tmp_path)(photo, return_tensors="pt")
    ours = classifier.preprocess.normalise(classifier.preprocess.fit(photo)[None])
    assert (theirs["pixel_values"] - ours).abs().max() < 0.1


def test_hugging_face_rescaling_is_understood(tmp_path: Path) -> None:
    hugging_face_folder(tmp_path, "vit", do_normalize=False, rescale_factor=1 / 127.5)
    preprocess = load(f"hf:{tmp_path}").preprocess
    assert preprocess.mean == (0.0,) * 3
    assert preprocess.std == pytest.approx((0.5,) * 3)


def test_hugging_face_processors_that_do_more_are_asked_about(tmp_path: Path) -> None:
    hugging_face_folder(tmp_path, "vit", do_resize=False)
    with pytest.raises(ModelError, match=r"ViTImageProcessor.* give --size, --mean and --std"):
        load(f"hf:{tmp_path}")
    assert load(f"hf:{tmp_path}", size=64, mean=(0.5,) * 3, std=(0.5,) * 3).preprocess.resize == 64


def test_hugging_face_models_without_a_trained_head(tmp_path: Path) -> None:
    hugging_face_folder(tmp_path, "vit")
    weights = tmp_path / "model.safetensors"
    state = safetensors.torch.load_file(weights)
    safetensors.torch.save_file(
        {k: v for k, v in state.items() if "classifier" not in k},
        weights,
        metadata={"format": "pt"},
    )
    with pytest.raises(ModelError, match=r"no weights for 'classifier\.\w+', so it is no trained"):
        load(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("config.json", {"hidden_size": "abc"}),
        ("config.json", {"patch_size": 0}),
        ("preprocessor_config.json", {"image_mean": None}),
        ("preprocessor_config.json", {"resample": "bilinear"}),
        ("preprocessor_config.json", {"resample": 99}),
        ("preprocessor_config.json", {"rescale_factor": 0}),
        ("preprocessor_config.json", None),
        ("model.safetensors", None),
    ],
)
def test_hugging_face_files_that_cannot_be_used(
    tmp_path: Path, name: str, changes: dict[str, Any] | None
) -> None:
    hugging_face_folder(tmp_path, "vit")
    path = tmp_path / name
    if name == "model.safetensors":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    else:
        given = [] if changes is None else {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps(given))
    with pytest.raises(ModelError, match=re.escape(name)):
        load(f"hf:{tmp_path}")


def test_hugging_face_invented_names_are_asked_for(tmp_path: Path) -> None:
    hugging_face_folder(tmp_path, "resnet")
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"] = {str(i): f"LABEL_{i}" for i in range(3)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="--class-names"):
        load(f"hf:{tmp_path}")
    assert len(load(f"hf:{tmp_path}", class_names=names_file(tmp_path, 3)).class_names) == 3


def test_hugging_face_needs_safetensors_and_runs_no_code(tmp_path: Path) -> None:
    net = hugging_face_folder(tmp_path, "resnet")
    (tmp_path / "model.safetensors").unlink()
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="with safetensors"):
        load(f"hf:{tmp_path}")
    config = json.loads((tmp_path / "config.json").read_text())
    config.update(model_type="mine", auto_map={"AutoConfig": "code.C", "AutoModelFor": "code.M"})
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "code.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(f"hf:{tmp_path}")


# --- MLflow --------------------------------------------------------------------------------------


def test_mlflow_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ModelError, match=r"install auditor\[mlflow\]"):
        load("mlflow:models:/birds@champion")


@pytest.mark.parametrize("form", ["pickle", "pt2"])
def test_mlflow_model(tmp_path: Path, form: str) -> None:
    mlflow = pytest.importorskip("mlflow")
    described = {"size": 160, "mean": [0.5] * 3, "std": [0.5] * 3, "class_names": list("abcde")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pytorch.save_model(
            resnet(),
            tmp_path / "m",
            metadata={"auditor": described},
            serialization_format=form,
            input_example=images(2).numpy(),
            pip_requirements=["torch"],
        )
    if form == "pickle":
        with pytest.raises(ModelError, match="--trust-code"):
            load(f"mlflow:{tmp_path / 'm'}")
    check_same(load(f"mlflow:{tmp_path / 'm'}", trust_code=form == "pickle"), resnet())
    with pytest.raises(ModelError, match="mlflow cannot load"):
        load(f"mlflow:{tmp_path / 'missing'}")


# --- the user's code -----------------------------------------------------------------------------

FACTORIES = """
    import timm, torch
    from torch import nn

    def plain():
        torch.manual_seed(0)
        return timm.create_model("test_resnet", num_classes=5)

    def described():
        net = plain()
        net.auditor = {"size": [160, 128], "mean": [0.5], "std": [0.5],
                       "class_names": list("abcde")}
        net.conv1[0] = nn.Conv2d(1, net.conv1[0].out_channels, 3, 2, 1, bias=False)
        return net

    class Odd(nn.Module):
        def __init__(self, what):
            super().__init__()
            self.what, self.fc = what, nn.Linear(3, 5)

        def forward(self, x):
            y = self.fc(x.mean((2, 3)))
            if self.what == "flat": return y[0]
            if self.what == "nan": return y / 0
            if self.what == "tuple": return (y, y)
            if self.what == "dict": return {"logits": y}
            if self.what == "detached": return y.detach()
            if self.what == "broken": raise RuntimeError("no such kernel\\nand more")
            if self.what == "single": return y[:, :1]
            return y

    class Still(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", torch.ones(3, 5))

        def forward(self, x):
            return x.mean((2, 3)) @ self.weight

    def number(): return 3
    def needing(size): return plain()
    def failing(): return {}["weights"]
    for _what in ("flat", "nan", "tuple", "dict", "detached", "broken", "single"):
        globals()[_what] = lambda what=_what: Odd(what)
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "user_models.py").write_text(textwrap.dedent(FACTORIES))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "user_models", raising=False)
    return "python:user_models:"


def test_factory_takes_plain_images(factories: str, tmp_path: Path) -> None:
    classifier = load(f"{factories}plain", size=160, class_names=names_file(tmp_path, 5))
    assert classifier.preprocess == Preprocess((160, 160), (0.0,) * 3, (1.0,) * 3, 160)
    torch.manual_seed(0)
    check_same(classifier, timm.create_model("test_resnet", num_classes=5).eval())
    with pytest.raises(ModelError, match="--size"):
        load(f"{factories}plain")


def test_a_user_s_file_stands_in_for_no_library(
    factories: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    (libraries / "plotting.py").write_text("WHOSE = 'the library'")
    (tmp_path / "plotting.py").write_text("WHOSE = 'the user'")
    (tmp_path / "late.py").write_text("WHOSE = 'the user'")
    monkeypatch.syspath_prepend(str(libraries))
    for name in ("plotting", "late"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    load(f"{factories}described")
    assert importlib.import_module("plotting").WHOSE == "the library"
    assert importlib.import_module("late").WHOSE == "the user", "the network may import later"


def test_factory_may_describe_its_module(factories: str) -> None:
    classifier = load(f"{factories}described")
    assert classifier.preprocess == Preprocess((160, 128), (0.5,), (0.5,), 128)
    assert classifier.logits(images(2)).shape == (2, 5)


def test_factory_as_architecture(factories: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(resnet().state_dict(), path)
    options = said(tmp_path, 5)
    check_same(load(f"file:{path}", arch=f"{factories}plain", **options), resnet())
    check_same(load(f"{factories}plain", weights=str(path), **options), resnet())
    torch.save(seeded(lambda: timm.create_model("test_resnet", num_classes=4)).state_dict(), path)
    with pytest.raises(ModelError, match=r"'fc\.weight' has the shape \(4, "):
        load(f"file:{path}", arch=f"{factories}plain", **options)


def test_output_objects_are_unwrapped(factories: str, tmp_path: Path) -> None:
    classifier = load(f"{factories}dict", size=8, class_names=names_file(tmp_path, 5))
    assert classifier.logits(images(4, 8)).shape == (4, 5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("flat", r"output of shape \(5,\) for two images"),
        ("single", r"output of shape \(2, 1\)"),
        ("nan", "not finite"),
        ("tuple", "gives a tuple, not a tensor of logits"),
        ("detached", "no gradient to its input"),
        ("broken", r"fails on a batch of two images of 8 x 8 .*: no such kernel\.$"),
        ("number", r"gives a int, not a torch\.nn\.Module"),
        ("Still", "has no parameters"),
        ("needing", r"user_models:needing, called without arguments, fails: TypeError: needing"),
        ("failing", r"user_models:failing, .* fails: KeyError: 'weights'"),
        ("missing", "user_models has no function missing"),
    ],
)
def test_factories_that_cannot_be_used(
    factories: str, tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load(f"{factories}{name}", size=8, class_names=names_file(tmp_path, 5))


def test_modules_that_cannot_be_imported(factories: str) -> None:
    with pytest.raises(ModelError, match=r"Cannot import nowhere\.at_all from .* or PYTHONPATH"):
        load("python:nowhere.at_all:make")
    with pytest.raises(ModelError, match=r"Cannot import \.user_models from"):
        load("python:.user_models:plain")
    Path("broken_models.py").write_text("1 / 0")
    with pytest.raises(ModelError, match=r"Cannot import broken_models .*ZeroDivisionError"):
        load("python:broken_models:plain")
    with pytest.raises(ModelError, match="not of the form python:PACKAGE"):
        load("python:user_models")


# --- saved graphs --------------------------------------------------------------------------------


GRAPHS = ["export", "trace", "script", "frozen-trace"]


GraphFile = Callable[[str, str], tuple[Path, nn.Module]]


@pytest.fixture(scope="module")
def graph_file(tmp_path_factory: pytest.TempPathFactory) -> GraphFile:
    """The file of a network saved in a way, made once, and the network itself."""

    @functools.cache
    def make(network: str, kind: str) -> tuple[Path, nn.Module]:
        folder = tmp_path_factory.mktemp("graph")
        net = NETWORKS[network]()
        if kind == "export":
            return export(net, folder / "m.pt2"), net
        return script(copy.deepcopy(net), folder / "m.pt", kind), net

    return make


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", GRAPHS)
def test_graphs_equal_the_eager_model_and_can_be_hooked(
    graph_file: GraphFile, tmp_path: Path, network: str, kind: str
) -> None:
    path, net = graph_file(network, kind)
    n = 7 if network == "squeezenet" else 5
    classifier = load(f"file:{path}", **said(tmp_path, n))
    x = images().requires_grad_()
    expected = net(classifier.preprocess.normalise(x))
    (gradient,) = torch.autograd.grad(expected[:, 1].sum(), x)

    seen: dict[str, Tensor] = {}
    modules = dict(classifier.net.named_modules())
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
        for name, module in modules.items()
        if name
    ]
    logits = classifier.logits(x)
    (found,) = torch.autograd.grad(logits[:, 1].sum(), x, retain_graph=True)
    assert torch.allclose(logits, expected, atol=1e-5)
    assert torch.allclose(found, gradient, atol=1e-5 * float(gradient.abs().max()) + 1e-7)

    deep = [value for value in seen.values() if value.ndim > 2]
    assert len(deep) >= 6
    for name, value in seen.items():
        assert value.shape[0] == 3, name
        (inner,) = torch.autograd.grad(logits.sum(), value, retain_graph=True, allow_unused=True)
        assert inner is not None, f"{name} is cut off from the logits"
    for hook in hooks:
        hook.remove()
    assert next(classifier.net.parameters()) is not None
    assert not any(parameter.requires_grad for parameter in classifier.net.parameters())


@pytest.mark.parametrize("network", NETWORKS)
def test_exported_layers_have_the_names_and_values_of_the_eager_model(
    graph_file: GraphFile, tmp_path: Path, network: str
) -> None:
    path, net = graph_file(network, "export")
    n = 7 if network == "squeezenet" else 5
    classifier = load(f"file:{path}", **said(tmp_path, n))

    def recorded(model: nn.Module) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        hooks = [
            module.register_forward_hook(
                lambda _m, _i, out, name=name: values.update({name: out.clone()})
            )
            for name, module in model.named_modules()
            if name
        ]
        with torch.no_grad():
            model(classifier.preprocess.normalise(images()))
        for hook in hooks:
            hook.remove()
        return values

    eager, tapped = recorded(net), recorded(classifier.net)
    shared = set(eager) & set(tapped)
    blocks = {"resnet": "layer2.0", "vit": "blocks.3", "squeezenet": "features.6"}
    assert {blocks[network]} <= shared
    assert len(shared) > 10
    differing = [
        name for name in shared if not torch.allclose(eager[name], tapped[name], atol=1e-5)
    ]
    assert not differing
    assert set(tapped) - set(eager) <= {"head_input"}


@pytest.mark.parametrize("kind", GRAPHS)
def test_linear_heads_are_linear_layers_and_others_have_a_tap(
    graph_file: GraphFile, tmp_path: Path, kind: str
) -> None:
    path, net = graph_file("resnet", kind)
    classifier = load(f"file:{path}", **said(tmp_path, 5))
    linear = [m for m in classifier.net.modules() if isinstance(m, nn.Linear)]
    assert len(linear) == 1
    assert torch.equal(linear[0].weight, net.fc.weight)
    given: list[Tensor] = []
    linear[0].register_forward_pre_hook(lambda _m, inputs: given.append(inputs[0]))
    classifier.logits(images(2))
    assert given[0].shape == (2, net.fc.in_features)

    path, _ = graph_file("squeezenet", kind)
    convolutional = load(f"file:{path}", **said(tmp_path, 7))
    features: list[Tensor] = []
    tap = dict(convolutional.net.named_modules())["head_input"]
    tap.register_forward_hook(lambda _m, _i, out: features.append(out))
    convolutional.logits(images(2))
    assert features[0].shape[:2] == (2, 512)


def test_scripted_layers_are_named_after_their_weights(
    graph_file: GraphFile, tmp_path: Path
) -> None:
    path, _ = graph_file("resnet", "script")
    classifier = load(f"file:{path}", **said(tmp_path, 5))
    names = {name for name, m in classifier.net.named_modules() if isinstance(m, nn.Identity)}
    assert any(name.startswith("layer2.0.") for name in names)
    assert not any(name.startswith("input") for name in names)


def test_other_sizes_and_batches_pass_through_graphs(graph_file: GraphFile, tmp_path: Path) -> None:
    for kind in ("trace", "script"):
        path, net = graph_file("resnet", kind)
        classifier = load(f"file:{path}", **said(tmp_path, 5))
        for n, side in [(1, 160), (5, 96)]:
            x = images(n, side)
            expected = net(classifier.preprocess.normalise(x))
            assert torch.allclose(classifier.logits(x), expected, atol=1e-5)


def test_graphs_carry_their_description(tmp_path: Path) -> None:
    described = {
        "size": 160,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "class_names": list("abcde"),
        "class_ids": list("vwxyz"),
    }
    extra = {"auditor": json.dumps(described)}
    exported = export(resnet(), tmp_path / "m.pt2", extra_files=extra)
    scripted = script(resnet(), tmp_path / "m.pt", "trace", _extra_files=extra)
    for path in (exported, scripted):
        classifier = load(f"file:{path}")
        assert classifier.class_names == tuple("abcde")
        assert classifier.class_ids == tuple("vwxyz")
        assert classifier.preprocess.mean == (0.5,) * 3


def test_digest_of_graphs(graph_file: GraphFile, tmp_path: Path) -> None:
    digests = {}
    for kind in GRAPHS:
        path, net = graph_file("resnet", kind)
        digests[kind] = load(f"file:{path}", **said(tmp_path, 5)).digest
    expected = loading.weights_digest(net.state_dict())
    assert digests["export"] == digests["trace"] == digests["script"] == expected
    assert digests["frozen-trace"] != expected


def test_script_that_cannot_be_opened_is_used_whole(
    graph_file: GraphFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path, net = graph_file("resnet", "trace")
    monkeypatch.delattr(torch._C, "_create_function_from_graph")
    classifier = load(f"file:{path}", **said(tmp_path, 5))
    check_same(classifier, net)
    assert "cannot be opened" in caplog.text
    assert [n for n, m in classifier.net.named_modules() if isinstance(m, nn.Identity)] == [
        "logits"
    ]


def test_programs_for_one_batch_size_or_for_training_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    torch.export.save(torch.export.export(vit(), (images(1),)), path)
    with pytest.raises(ModelError, match="fails on a batch of two images"):
        load(f"file:{path}", **said(tmp_path, 5))
    torch.export.save(torch.export.export(resnet().train(), (images(2),)), path)
    with pytest.raises(ModelError, match="exported in training mode; call eval"):
        load(f"file:{path}", **said(tmp_path, 5))


# --- programs that would run code ----------------------------------------------------------------


def rewritten(
    path: Path, folder: Path, change: Callable[[str, bytes], bytes | None], *more: str
) -> Path:
    """A copy of an archive in which each file is passed through `change`."""
    out = folder / f"changed{path.suffix}"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w") as target:
        root = source.namelist()[0].split("/")[0]
        for name in source.namelist():
            data = change(name.split("/", 1)[1], source.read(name))
            if data is not None:
                target.writestr(name, data)
        for name in more:
            target.writestr(f"{root}/{name}", b"x")
    return out


def in_program(change: Callable[[dict[str, Any]], object]) -> Callable[[str, bytes], bytes]:
    def apply(name: str, data: bytes) -> bytes:
        if name != "models/model.json":
            return data
        program = json.loads(data)
        change(program)
        return json.dumps(program).encode()

    return apply


def pickled(folder: Path, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save((Evil(folder / "owned"),), buffer)
    return buffer.getvalue()


@pytest.fixture
def program_file(graph_file: GraphFile) -> Path:
    return graph_file("resnet", "export")[0]


def nodes(program: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = program["graph_module"]["graph"]["nodes"]
    return found


SIZE = {"as_expr": {"expr_str": "__import__('os').mkdir('owned')", "hint": {"as_int": 2}}}

HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "operation": lambda p: nodes(p)[3].update(target="torch.load"),
    "operation '_": lambda p: nodes(p)[3].update(target="_operator.methodcaller"),
    "operation 'torch.ops.aten.from": lambda p: nodes(p)[3].update(
        target="torch.ops.aten.from_file.default"
    ),
    "operation 'torch.ops.aten.save": lambda p: nodes(p)[3].update(
        target="torch.ops.aten.save.default"
    ),
    "expression": lambda p: p["graph_module"]["graph"]["tensor_values"]["x"].update(sizes=[SIZE]),
    "odd name": lambda p: nodes(p)[3].update(name="a: __import__('os').mkdir('owned')"),
    "structure": lambda p: p["graph_module"]["module_call_graph"][0]["signature"].update(
        in_spec='[1, {"type": "evil.Type", "context": "null", "children_spec": []}]'
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_programs_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program_file: Path, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = rewritten(program_file, tmp_path, in_program(HOSTILE[what]))
    with pytest.raises(ModelError, match=rf"could run code, or .* \({what}.*--trust-code"):
        load(f"file:{path}", **said(tmp_path, 5))
    assert not (tmp_path / "owned").exists()


def test_pickles_in_programs_are_refused(tmp_path: Path, program_file: Path) -> None:
    def inputs(name: str, data: bytes) -> bytes:
        return pickled(tmp_path) if name.startswith("data/sample_inputs") else data

    def weight(name: str, data: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            return data.replace(b'"use_pickle": false', b'"use_pickle": true', 1)
        return pickled(tmp_path) if name.endswith("weight_0") else data

    changed = [rewritten(program_file, tmp_path, inputs)]
    for path in changed:
        with pytest.raises(ModelError, match="pickled objects"):
            load(f"file:{path}", **said(tmp_path, 5))
    with pytest.raises(ModelError, match="pickled objects"):
        load(f"file:{rewritten(program_file, tmp_path, weight)}", **said(tmp_path, 5))
    for extra in ("data/aotinductor/model/x.so", "data/constants/custom_obj_0"):
        path = rewritten(program_file, tmp_path, lambda name, data: data, extra)
        with pytest.raises(ModelError, match=r"it holds 'data/.*--trust-code"):
            load(f"file:{path}", **said(tmp_path, 5))
    assert not (tmp_path / "owned").exists()


def test_a_rewritten_program_still_loads(tmp_path: Path, program_file: Path) -> None:
    # so that the refusals above are for what was changed
    path = rewritten(program_file, tmp_path, lambda name, data: data)
    check_same(load(f"file:{path}", **said(tmp_path, 5)), resnet())


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("s77", True),
        ("2*s0 + 1", True),
        ("FloorDiv(s0 - 1, 2) + Max(1, u3)", True),
        ("(s0, s1)", False),
        ("s0.__class__", False),
        ("__import__('os')", False),
        ("open(1)", False),
        ("lambda: 1", False),
        ("'s0'", False),
        ("Max(*s0)", False),
        ("s0[0]", False),
        ("s0 if s1 else 2", False),
        ("x", False),
        ("(", False),
        ("2**64 * s0", True),
        ("s0**2 + s0**(-1) + 1.5*s0**0.5", True),
        ("PowByNatural(s0, 2) << 3", True),
        ("Min(int_oo, Mod(Symbol('s7', positive=True, integer=True), 8)) >= 1", True),
        ("10**10**10", False),
        ("PowByNatural(10, PowByNatural(10, 10))", False),
        ("PowByNatural(2, 10**10)", False),
        ("FloatPow(s0, 1e10)", False),
        ("s0**s1", False),
        ("1 << 10**10", False),
        ("LShift(1, s0)", False),
        ("((9**64)**64)**64", False),
        ("((9**-64)**-64)**-64", False),
        ("*".join(["s0"] * 100), False),
        ("+".join(["s0"] * 10_000), False),
        ("(" * 1_000 + "1" + ")" * 1_000, False),
        ("-" * 1_900 + "1", False),
    ],
)
def test_expressions_of_sizes(text: str, plain: bool) -> None:
    from auditor.models.archives import _is_arithmetic

    assert _is_arithmetic(text) is plain


# --- scripts that would reach files --------------------------------------------------------------


class Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


def hostile_script(folder: Path, *lines: str) -> Path:
    """A TorchScript file that does more than its module did."""
    plain = b"return torch.mul(x, 2)"
    more = "".join(f"{line}\n    " for line in lines).encode()

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith(".py"):
            return data
        assert plain in data
        return data.replace(plain, more + plain)

    return rewritten(script(Double(), folder / "m.pt", "script"), folder, change)


SAVES = [
    ('torch.save(x, "owned")',),
    ('ops.aten.save(x, "owned")',),
    ('x = torch.add(x, torch.from_file("owned", True, 1))',),
    ("save = torch.save", 'save(x, "owned")'),
    ("t = torch", 't.save(x, "owned")'),
    ("t = ops.aten", 't.save(x, "owned")'),
    ("t = torch.autograd", 't.save(x, "owned")'),
    ('torch . save(x, "owned")',),
    ("torch.\\", 'save(x, "owned")'),
    ('getattr(torch, "sa" "ve")(x, "owned")',),
    ('getattr(torch, "\\163ave")(x, "owned")',),
]


@pytest.mark.parametrize("lines", SAVES)
def test_scripts_that_reach_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = hostile_script(tmp_path, *lines)
    with pytest.raises(ModelError, match=r"could reach files when it is run .*--trust-code"):
        load(f"file:{path}", **said(tmp_path, 5))
    assert not (tmp_path / "owned").exists()
    with pytest.raises(ModelError, match="output of shape"):
        load(f"file:{path}", trust_code=True, **said(tmp_path, 5))
    assert (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("y = ops.image.read_file(x)", "ops.image.read_file"),
        ("y = ops.prim.rpc_sync(x)", "ops.prim.rpc_sync"),
        ("y = ops", "ops"),
        ("y = __torch__.torch", "__torch__.torch"),
        ("y = __torch__.torch.classes.c10d.ReduceOp()", "__torch__.torch.classes.c10d.ReduceOp"),
    ],
)
def test_scripts_may_only_name_harmless_operators(tmp_path: Path, line: str, named: str) -> None:
    with pytest.raises(ModelError, match=rf"\(it uses '{named}'\)"):
        load(f"file:{hostile_script(tmp_path, line)}", **said(tmp_path, 5))


@pytest.mark.parametrize(
    ("more", "told"),
    [("model.json", "'model.json'"), ("CODE/__torch__.PY", "two files of one name")],
)
def test_scripts_hold_no_second_code(tmp_path: Path, more: str, told: str) -> None:
    plain = script(Double(), tmp_path / "m.pt", "script")
    path = rewritten(plain, tmp_path, lambda name, data: data, "code/__torch__.py", more)
    with pytest.raises(ModelError, match=told):
        load(f"file:{path}", **said(tmp_path, 5))


@pytest.mark.parametrize(
    ("package", "problem"), [("c10d", "it uses 'torch.classes'"), ("quantized", None)]
)
def test_scripts_hold_no_objects_of_other_packages(package: str, problem: str | None) -> None:
    from auditor.models.archives import _not_plain_script

    pickled = f"c__torch__.torch.classes.{package}\nMade\n".encode()
    assert _not_plain_script(["data.pkl"], lambda name: pickled) == problem


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (lambda: torchvision.models.resnet18(), "script"),
        (lambda: torchvision.models.resnet18(), "trace"),
        (lambda: torchvision.models.mobilenet_v3_small(), "script"),
        (lambda: torchvision.models.quantization.resnet18(quantize=True), "script"),
    ],
)
def test_ordinary_scripts_are_not_refused(
    tmp_path: Path, build: Callable[[], nn.Module], kind: str
) -> None:
    from auditor.models.archives import load_scripted

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantisation is deprecated
        path = script(build().eval(), tmp_path / "m.pt", kind)
        net, _ = load_scripted(path, CPU, trust_code=False)
        assert net(images(2)).shape == (2, 1000)


# --- real weights --------------------------------------------------------------------------------


def test_importing_does_nothing_else() -> None:
    code = (
        "import sys, warnings; warnings.simplefilter('error'); path = list(sys.path); "
        "import auditor.models.loading; assert sys.path == path; "
        "assert not {'transformers', 'timm', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "least"),
    [("mobilenet_v2", 0.75), ("squeezenet1_0", 0.45), ("efficientnet_lite0", 0.7)],
)
def test_real_weights_classify_real_photos(
    monkeypatch: pytest.MonkeyPatch, name: str, least: float
) -> None:
    from auditor.images import image_set

    if not (SHARED / "weights").is_dir():
        pytest.skip("the evaluation photos and weights are not beside the checkout")
    monkeypatch.chdir(Path(__file__).parents[2])
    classifier = load(f"python:benchmarks.mobilenet_v2:{name}")
    photos = image_set.load(
        str(SHARED / "imagenet-ccby"),
        class_names=classifier.class_names,
        class_ids=classifier.class_ids,
        labelled=True,
    )
    photos = photos.subset(range(0, len(photos), 10))
    assert photos.labels is not None
    with torch.inference_mode():
        found = torch.cat(
            [
                classifier.logits(batch).argmax(1)
                for batch in photos.batches(classifier.preprocess.fit, size=25)
            ]
        )
    assert (found == torch.tensor(photos.labels)).float().mean() > least
