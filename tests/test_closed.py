"""Nothing runs or is fetched unasked: every kind of source is loaded under a guard."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pickle
import socket
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from closed import Opened, closed
from saved import export, hugging_face_folder, images, names_file, script
from torch import Tensor, nn

from auditor.concepts import probes
from auditor.config import ModelConfig
from auditor.errors import ModelError
from auditor.models import loading

CPU = torch.device("cpu")


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def net() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=5).eval()


def options(folder: Path) -> dict[str, Any]:
    names = folder / "names"
    names.mkdir(exist_ok=True)
    return {"size": 160, "mean": (0.5,) * 3, "std": (0.5,) * 3, "class_names": names_file(names, 5)}


def load(spec: str, **given: Any) -> loading.Classifier:
    return loading.load(ModelConfig(spec=spec, **given), device=CPU)


# --- the guard itself ----------------------------------------------------------------------------


def importing(folder: Path) -> None:
    (folder / "planted_module.py").write_text("x = 1\n")
    sys.path.insert(0, str(folder))
    try:
        importlib.import_module("planted_module")
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("planted_module", None)


def connecting(folder: Path) -> None:
    with socket.socket() as client:
        client.connect(("127.0.0.1", 9))


ACTS: dict[str, Callable[[Path], object]] = {
    "import of a file": importing,
    "code of a file": lambda folder: exec(compile("1", str(folder / "x.py"), "exec")),
    "connection": connecting,
    "look-up of a name": lambda folder: socket.getaddrinfo("localhost", 80),
    "process": lambda folder: subprocess.run(["true"], check=True),
    "shell": lambda folder: os.system("true"),
    "spawned process": lambda folder: os.posix_spawn("/bin/true", ["true"], {}),
    "fork": lambda folder: os.fork() or os._exit(0),
    "unpickling": lambda folder: pickle.loads(pickle.dumps(Evil())),
    "write": lambda folder: (Path.home() / "auditor-planted").write_text("x"),
    "write by number": lambda folder: os.open(Path.home() / "auditor-planted", os.O_CREAT),
    "new folder": lambda folder: (Path.home() / "auditor-planted").mkdir(),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("quiet", [False, True])
def test_the_guard_catches(tmp_path: Path, act: str, quiet: bool) -> None:
    (tmp_path / "x.py").touch()
    with pytest.raises(Opened), closed():  # noqa: PT012
        if quiet:  # code that hides its failure
            with contextlib.suppress(BaseException):
                ACTS[act](tmp_path)
        else:
            ACTS[act](tmp_path)
    assert not (Path.home() / "auditor-planted").exists()


def test_the_guard_lets_ordinary_work_through_and_can_be_switched_off(tmp_path: Path) -> None:
    with closed():
        (tmp_path / "a").write_text("x")
        importlib.reload(importlib.import_module("colorsys"))
        torch.ones(3).sum()
    importing(tmp_path)
    assert os.system("true") == 0


# --- files of weights and graphs -----------------------------------------------------------------


def weights_file(folder: Path, form: str) -> Path:
    state = net().state_dict()
    path = folder / f"w.{form}"
    if form == "safetensors":
        safetensors.torch.save_file(state, path)
    elif form == "npz":
        np.savez(path, **{name: value.numpy() for name, value in state.items()})
    else:
        torch.save({"state_dict": state}, path)
    (folder / "w.py").write_text("raise SystemExit('ran')")
    return path


@pytest.mark.parametrize("form", ["safetensors", "npz", "pt", "pth.tar", "ckpt"])
def test_weights(tmp_path: Path, form: str) -> None:
    path, given = weights_file(tmp_path, form), options(tmp_path)
    with closed():
        load(f"file:{path}", arch="timm:test_resnet", **given)
        load("timm:test_resnet", weights=str(path), **given)


def test_weights_of_torchvision(tmp_path: Path) -> None:
    full = torchvision.models.squeezenet1_1(num_classes=5)
    torch.save(full.state_dict(), tmp_path / "w.pt")
    with closed():
        load("torchvision:squeezenet1_1", weights=str(tmp_path / "w.pt"), **options(tmp_path))


@pytest.mark.parametrize("form", ["export", "trace"])
def test_graphs(tmp_path: Path, form: str) -> None:
    path = tmp_path / ("m.pt2" if form == "export" else "m.pt")
    if form == "export":
        export(net(), path)
    else:
        script(net(), path, "trace")
    given = options(tmp_path)
    with closed():
        assert load(f"file:{path}", **given).logits(images()).shape == (3, 5)


@pytest.mark.parametrize("given", [{}, {"arch": "timm:test_resnet"}])
@pytest.mark.parametrize("legacy", [False, True])
def test_pickles(tmp_path: Path, given: dict[str, str], legacy: bool) -> None:
    path = tmp_path / "m.pt"
    torch.save({"state_dict": net().state_dict(), "more": Evil()}, path,
               _use_new_zipfile_serialization=not legacy)  # fmt: skip
    with closed(), pytest.raises(ModelError, match="--trust-code"):
        load(f"file:{path}", **given, **options(tmp_path))
    with pytest.raises(Opened), closed():  # so that the guard would have seen it
        load(f"file:{path}", **given, trust_code=True, **options(tmp_path))


# --- transformers --------------------------------------------------------------------------------

TRAP = "raise SystemExit('ran')\n"


def trapped(folder: Path, **config: Any) -> Path:
    """A local model with code beside it that its configuration names."""
    hugging_face_folder(folder, "vit")
    changed(folder / "config.json", auto_map={"AutoConfig": "trap.C", "AutoModel": "trap.M",
            "AutoModelForImageClassification": "trap.M"}, **config)  # fmt: skip
    changed(folder / "preprocessor_config.json", auto_map={"AutoImageProcessor": "trap.P"})
    (folder / "trap.py").write_text(TRAP)
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(TRAP)
    torch.save(Evil(), folder / "pytorch_model.bin")
    return folder


def changed(path: Path, **more: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client as it is where nothing keeps it off the network."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.mark.usefixtures("online")
def test_a_local_folder_with_code_beside_it(tmp_path: Path) -> None:
    with_code = trapped(tmp_path / "m", trust_remote_code=True)
    with closed():
        assert len(load(f"hf:{with_code}").class_names) == 3


WRAPPER = {"model_type": "timm_wrapper", "architectures": ["TimmWrapperForImageClassification"]}
ASKING: dict[str, tuple[dict[str, Any], str]] = {
    "a hub's architecture": (
        WRAPPER | {"architecture": "hf-hub:evil/x"},
        "'hf-hub:evil/x' as architecture",
    ),
    "a folder's": (WRAPPER | {"architecture": "local-dir:x"}, "'local-dir:x' as architecture"),
    "a path": (WRAPPER | {"architecture": "evil/x"}, "'evil/x' as architecture"),
    "other weights": (
        WRAPPER | {"architecture": "test_resnet", "model_args": {"checkpoint_path": "x.pth"}},
        "'checkpoint_path' among the model_args",
    ),
    "a kernel": ({"attn_implementation": "evil/kernel"}, "'evil/kernel' as attn"),
    "a kernel, privately": ({"_attn_implementation": "evil/kernel"}, "'evil/kernel' as _attn"),
    "kernels by part": ({"attn_implementation": {"": "evil/kernel"}}, "as attn_implementation"),
    "a kernel inside": (
        {"vision_config": {"attn_implementation": "evil/kernel"}},
        "as attn_implementation",
    ),
    "an unknown type": ({"model_type": "evilnet"}, "cannot be loaded"),
}


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("what", ASKING)
def test_a_local_folder_that_asks_for_more(tmp_path: Path, what: str) -> None:
    config, told = ASKING[what]
    folder = trapped(tmp_path / "m", **config)
    with closed(), pytest.raises(ModelError, match=told):
        load(f"hf:{folder}")


@pytest.mark.usefixtures("online")
def test_a_local_folder_that_is_an_adapter_of_another_model(tmp_path: Path) -> None:
    hugging_face_folder(tmp_path, "vit")
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "evil/base"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter))
    with closed(), pytest.raises(ModelError, match="holds an adapter"):
        load(f"hf:{tmp_path}")


@pytest.mark.usefixtures("online")
def test_a_local_folder_of_a_timm_wrapper(tmp_path: Path) -> None:
    import transformers

    torch.manual_seed(0)
    labels = {0: "a", 1: "b", 2: "c"}
    options: dict[str, Any] = {
        "architecture": "test_resnet", "num_labels": 3, "id2label": labels,
        "label2id": {v: k for k, v in labels.items()},
        "pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.5] * 3,
                           "crop_pct": 1.0, "interpolation": "bilinear"},
    }  # fmt: skip
    config = transformers.TimmWrapperConfig(**options)
    wrapped = transformers.TimmWrapperForImageClassification(config).eval()
    wrapped.save_pretrained(tmp_path)
    with closed():
        given = {"size": 64, "mean": (0.5,) * 3, "std": (0.5,) * 3}
        classifier = load(f"hf:{tmp_path}", **given)
    x = images(2, 64)
    expected = wrapped(classifier.preprocess.normalise(x)).logits
    torch.testing.assert_close(classifier.logits(x), expected)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_folder_in_half_precision_is_audited_in_single(tmp_path: Path, kind: torch.dtype) -> None:
    half: Any = hugging_face_folder(tmp_path, "vit").to(kind)
    half.save_pretrained(tmp_path)
    classifier = load(f"hf:{tmp_path}")
    assert {p.dtype for p in classifier.net.parameters()} == {torch.float32}
    x = images(2, 64)
    expected = half.float()(classifier.preprocess.normalise(x)).logits
    torch.testing.assert_close(classifier.logits(x), expected)
    (remark,) = [r for r in classifier.remarks if r.code == "weights-in-another-precision"]
    assert str(kind).removeprefix("torch.") in remark.text


@pytest.mark.parametrize("n", [1, 7])
def test_another_count_of_classes_than_that_of_the_weights(tmp_path: Path, n: int) -> None:
    hugging_face_folder(tmp_path, "vit")
    changed(tmp_path / "config.json", id2label={str(i): f"c{i}" for i in range(n)})
    told = rf"holds 'classifier.bias' of the shape \(3,\), .*id2label, asks for \({n},\)"
    with pytest.raises(ModelError, match=told):
        load(f"hf:{tmp_path}")


ABSURD: dict[str, tuple[dict[str, Any], str]] = {
    "layers without end": ({"num_hidden_layers": 10**9}, "num_hidden_layers = 1e\\+09"),
    "depths without end": ({"depths": [1500, 1500]}, "depths = 3000"),
    "wide": ({"hidden_size": 10**9}, r"asks for [\d.e+]+ weights.*GiB; this machine has"),
    "wide inside": ({"intermediate_size": 10**12}, r"asks for [\d.e+]+ weights"),
    "large photos": ({"image_size": 10**7}, r"asks for [\d.e+]+ weights"),
    "a text": ({"image_size": "x"}, "cannot be loaded"),
    "nested": ({"more": {"encoder": {"num_layers": 10**7}}}, "num_layers = 1e\\+07"),
}


@pytest.mark.parametrize("what", ABSURD)
def test_configurations_of_absurd_size(tmp_path: Path, what: str) -> None:
    config, told = ABSURD[what]
    hugging_face_folder(tmp_path, "vit")
    changed(tmp_path / "config.json", **config)
    with pytest.raises(ModelError, match=told) as error:
        load(f"hf:{tmp_path}")
    assert "\n" not in str(error.value)


# --- mlflow and the probe ------------------------------------------------------------------------


def mlflow_like(monkeypatch: pytest.MonkeyPatch, said: dict[str, Any]) -> None:
    """What of mlflow reads a model's folder, where mlflow itself may not be installed."""
    found = types.SimpleNamespace(flavors=said.get("flavors"), metadata=said.get("metadata"))
    whole: Any = types.ModuleType("mlflow")
    whole.artifacts = types.SimpleNamespace(download_artifacts=lambda artifact_uri: artifact_uri)
    whole.models = types.SimpleNamespace(Model=types.SimpleNamespace(load=lambda path: found))
    monkeypatch.setitem(sys.modules, "mlflow", whole)
    monkeypatch.setitem(sys.modules, "mlflow.pytorch", types.ModuleType("mlflow.pytorch"))


def test_mlflow_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "m"
    (folder / "data").mkdir(parents=True)
    (folder / "code").mkdir()
    (folder / "code" / "trap.py").write_text(TRAP)
    torch.save(Evil(), folder / "data" / "model.pth")
    flavour = {"model_data": "data", "pickle_module_info": "trap", "code": "code"}
    loader = {"loader_module": "trap", "code": "code"}
    mlflow_like(monkeypatch, {"flavors": {"pytorch": flavour, "python_function": loader}})
    with closed(), pytest.raises(ModelError, match="--trust-code"):
        load(f"mlflow:{folder}", **options(tmp_path))
    export(net(), folder / "data" / "model.pt2")
    with closed():
        assert load(f"mlflow:{folder}", **options(tmp_path)).logits(images()).shape == (3, 5)


@pytest.mark.parametrize(
    "said",
    [
        {"flavors": {"pytorch": {}}},
        {"flavors": ["pytorch"]},
        {"flavors": {"pytorch": {"model_data": 7}}},
        {"flavors": {"pytorch": None}, "metadata": 7},
        {},
    ],
)
def test_odd_mlflow_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, Any]
) -> None:
    mlflow_like(monkeypatch, said)
    with pytest.raises(ModelError, match=r"was not saved by mlflow\.pytorch"):
        load(f"mlflow:{tmp_path}")


@pytest.mark.usefixtures("online")
def test_a_local_probe(tmp_path: Path) -> None:
    tiny = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16,
                       "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2,
                     "layers": 1},
    }  # fmt: skip
    state: dict[str, Tensor] = open_clip.CLIP(**tiny).state_dict()
    safetensors.torch.save_file(
        {k: v.contiguous() for k, v in state.items()}, tmp_path / "open_clip_model.safetensors"
    )
    config = {"model_cfg": tiny, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "trap.py").write_text(TRAP)
    changed(tmp_path / "open_clip_config.json", auto_map={"AutoTokenizer": ["trap.T", None]})
    with closed():
        probes.load(f"open_clip:{tmp_path}", device=CPU)
        probes.load("offline", device=CPU)


# --- files that are none -------------------------------------------------------------------------


def hf_pipe(folder: Path) -> str:
    hugging_face_folder(folder, "vit")
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    return f"hf:{folder}"


def piped(name: str) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        os.mkfifo(folder / name)
        return f"file:{folder / name}"

    return make


def linked(target: str, name: str) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        (folder / name).symlink_to(target)
        return f"file:{folder / name}"

    return make


ENDLESS: dict[str, tuple[Callable[[Path], str], str]] = {
    **{f"a pipe as {n}": (piped(n), "no regular file") for n in ("m.pt", "m.pt2", "m.safetensors")},
    "a device": (linked("/dev/zero", "m.npz"), "no regular file"),
    "a link to itself": (linked("m.pt", "m.pt"), "Too many levels of symbolic links"),
    "a folder": (lambda folder: f"file:{folder}", "no regular file"),
    "nothing": (lambda folder: f"file:{folder / 'x.pt'}", "There is no model file"),
    "a pipe in a folder": (hf_pipe, r"model\.safetensors is no regular file"),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_files_that_never_end(tmp_path: Path, what: str) -> None:
    make, told = ENDLESS[what]
    with pytest.raises(ModelError, match=told):
        load(make(tmp_path), arch="timm:test_resnet")
