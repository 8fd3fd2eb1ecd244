"""Models of torchvision, timm, Hugging Face and MLflow, without a network."""

from __future__ import annotations

import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from PIL import Image
from saved import Evil, check_same, hugging_face_folder, images, load, names_file, resnet, seeded

from auditor.config import ModelConfig
from auditor.errors import ModelError
from auditor.models import loading
from auditor.models.description import complete
from auditor.models.loading import Preprocess


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
    pixels = np.random.default_rng(0).integers(20, 256, (5, 6, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels).resize((150, 100), Image.Resampling.BICUBIC)
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
