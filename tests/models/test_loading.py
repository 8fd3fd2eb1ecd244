"""Loading models: what is asked for, the user's own factories, and real weights."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import timm
import torch
from saved import check_same, images, load, names_file, resnet, said, seeded

from auditor.config import ModelConfig
from auditor.errors import ModelError
from auditor.models.description import Description, complete
from auditor.models.loading import Preprocess

SHARED = Path(__file__).parents[3] / "shared" / "data"


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
