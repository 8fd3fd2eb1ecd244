"""The audited classifier: its network, its preprocessing and its class names."""

from __future__ import annotations

import hashlib
import importlib
import json
import pickle
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from auditor.config import ModelConfig
from auditor.errors import ModelError
from auditor.labels import read_class_names
from auditor.preprocessing import Preprocess
from auditor.storage import write_atomically

__all__ = ["Classifier", "Preprocess", "load", "save_weights", "weights_digest"]

METADATA = "auditor"  # key in a safetensors file's metadata, see `save_weights`
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Classifier:
    """A classifier that is ready to be audited.

    Attributes:
        net: the network, in evaluation mode, with frozen parameters; gives logits of shape (n, K).
        preprocess: how a photo becomes the network's input.
        class_names: K names; two classes may share one, so the index is the key.
        class_ids: K names of folders such as WordNet ids, or `None`.
        digest: SHA-256 of the weights.
        name: the spec that the model came from.
    """

    net: nn.Module
    preprocess: Preprocess
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...] | None
    digest: str
    name: str

    def logits(self, images: Tensor) -> Tensor:
        """Logits of shape (n, K) for images of shape (n, 3, height, width) in [0, 1]."""
        logits: Tensor = self.net(self.preprocess.normalise(images))
        return logits


@dataclass(frozen=True)
class _Loaded:
    """A network with what came along: preprocessing and class names where it has them."""

    net: nn.Module
    preprocess: Preprocess | None = None
    class_names: tuple[str, ...] | None = None


def load(config: ModelConfig, *, device: torch.device) -> Classifier:
    """Load a classifier and complete what it does not say from the configuration.

    Nothing is unpickled unless `config.trust_pickle` is set: weights are read as plain tensors.

    Args:
        config: `spec` is `torchvision:NAME`, `timm:NAME`, `hf:ORG/NAME` or `hf:FOLDER`,
            `mlflow:URI`, `file:PATH` or `python:PACKAGE.MODULE:FACTORY`.
        device: where the network goes.

    Raises:
        ModelError: the model cannot be found, loaded or used, or something that cannot be known
            has to be given.
    """
    kind, _, rest = config.spec.partition(":")
    loaders = {
        "torchvision": _torchvision,
        "timm": _timm,
        "hf": _hugging_face,
        "mlflow": _mlflow,
        "file": _file,
        "python": _python,
    }
    if kind not in loaders or not rest:
        raise ModelError(
            f"Model {config.spec[:100]!r} is not understood; write torchvision:NAME, timm:NAME, "
            "hf:NAME, mlflow:URI, file:PATH or python:MODULE:FACTORY."
        )
    loaded = loaders[kind](rest, config)
    net = loaded.net.eval().requires_grad_(False).to(device)
    preprocess = _preprocess(config, loaded.preprocess)
    k = _n_classes(net, preprocess, device)
    names, ids = _names(config, loaded.class_names, k)
    return Classifier(net, preprocess, names, ids, weights_digest(net), config.spec)


def weights_digest(net: nn.Module) -> str:
    """SHA-256 of a network's state: names, shapes, types and bytes, sorted by name."""
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        if not isinstance(value, Tensor):
            continue
        plain = value.detach().cpu().contiguous()
        digest.update(f"{name}{tuple(plain.shape)}{plain.dtype}".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_weights(
    path: Path, net: nn.Module, preprocess: Preprocess, class_names: tuple[str, ...]
) -> None:
    """Write weights as safetensors with preprocessing and class names beside them."""
    said = {
        "size": list(preprocess.size),
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "resize": preprocess.resize,
        "class_names": list(class_names),
    }
    tensors = {name: value.contiguous() for name, value in net.state_dict().items()}
    write_atomically(path, save(tensors, metadata={METADATA: json.dumps(said)}))


# --- kinds of specification ----------------------------------------------------------------------


def _torchvision(name: str, config: ModelConfig) -> _Loaded:
    """A torchvision model by name, with its published weights or a local file.

    With a local file, the preprocessing is that of torchvision's default weights.
    """
    from torchvision import models as zoo

    try:
        enum = zoo.get_model_weights(name)
    except ValueError:
        raise ModelError(f"torchvision has no model {name[:80]!r}.") from None
    weights = enum.DEFAULT  # type: ignore[attr-defined]
    transform = weights.transforms()
    crop, resize = transform.crop_size[0], transform.resize_size[0]
    preprocess = Preprocess((crop, crop), tuple(transform.mean), tuple(transform.std), resize)
    names = tuple(weights.meta["categories"])
    if config.weights is None:
        try:
            return _Loaded(zoo.get_model(name, weights=weights), preprocess, names)
        except OSError as error:
            raise ModelError(
                f"The weights of torchvision:{name} cannot be fetched ({error}); give a local file "
                "with --weights."
            ) from None
    state = _state(Path(config.weights), trust=config.trust_pickle)
    k = _head_size(state)
    net = zoo.get_model(name, weights=None, **({} if k is None else {"num_classes": k}))
    _fill(net, state, config.weights)
    return _Loaded(net, preprocess, names if k in (None, len(names)) else None)


def _timm(name: str, config: ModelConfig) -> _Loaded:
    import timm

    if not timm.is_model(name.split(".")[0]):
        raise ModelError(f"timm has no model {name[:80]!r}.")
    if config.weights is None:
        try:
            net = timm.create_model(name, pretrained=True)
        except (OSError, RuntimeError) as error:
            raise ModelError(
                f"The weights of timm:{name} cannot be fetched ({_line(error)}); give a local "
                "file with --weights."
            ) from None
    else:
        state = _state(Path(config.weights), trust=config.trust_pickle)
        k = _head_size(state)
        net = timm.create_model(name, **({} if k is None else {"num_classes": k}))
        _fill(net, state, config.weights)
    data = timm.data.resolve_model_data_config(net)
    _, height, width = data["input_size"]
    preprocess = Preprocess(
        (height, width),
        tuple(data["mean"]),
        tuple(data["std"]),
        round(min(height, width) / data["crop_pct"]),
        interpolation=data["interpolation"] if data["interpolation"] != "random" else "bicubic",
    )
    return _Loaded(net, preprocess)


class _LogitsOnly(nn.Module):
    """A Hugging Face classifier that returns its logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of shape (n, K)."""
        logits: Tensor = self.model(pixel_values=pixels).logits
        return logits


def _hugging_face(name: str, config: ModelConfig) -> _Loaded:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    local = Path(name).is_dir()
    options: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False}
    try:
        model = AutoModelForImageClassification.from_pretrained(
            name, use_safetensors=True, **options
        )
        processor = AutoImageProcessor.from_pretrained(name, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"hf:{name} cannot be loaded: {_line(error)}.") from None
    size = dict(processor.size)
    side = size.get("shortest_edge", size.get("height", 224))
    crop = getattr(processor, "crop_size", None) if getattr(processor, "do_center_crop", 0) else None
    height = int(crop["height"]) if crop else int(size.get("height", side))
    preprocess = Preprocess(
        (height, height), tuple(processor.image_mean), tuple(processor.image_std), int(side)
    )
    labels = model.config.id2label
    return _Loaded(_LogitsOnly(model), preprocess, tuple(labels[k] for k in sorted(labels)))


def _mlflow(uri: str, config: ModelConfig) -> _Loaded:
    _need_trust(config, f"mlflow:{uri}")
    try:
        import mlflow
    except ImportError:
        raise ModelError("mlflow: needs the extra auditor[mlflow]; install it.") from None
    try:
        return _Loaded(mlflow.pytorch.load_model(uri, map_location="cpu"))
    except (mlflow.MlflowException, OSError) as error:
        raise ModelError(f"mlflow:{uri} cannot be loaded: {_line(error)}.") from None


def _python(rest: str, config: ModelConfig) -> _Loaded:
    """The user's own factory; its module takes images in [0, 1] unless mean and std say more."""
    net = _made_by(rest)
    if config.weights is not None:
        _fill(net, _state(Path(config.weights), trust=config.trust_pickle), config.weights)
    size = (config.size, config.size) if config.size else None
    ready = Preprocess(size, (0.0,) * 3, (1.0,) * 3, size[0]) if size else None
    return _Loaded(net, ready)


def _file(name: str, config: ModelConfig) -> _Loaded:
    path = Path(name)
    if not path.is_file():
        raise ModelError(f"There is no model file {name}; check the path.")
    if path.suffix == ".pt2":
        return _Loaded(_exported(path))
    if config.arch is None:
        if path.suffix in {".pt", ".pth"} and _is_torchscript(path):
            try:
                return _Loaded(_scripted(path))
            except RuntimeError as error:
                raise ModelError(f"{name} is no TorchScript model: {_line(error)}.") from None
        if path.suffix in {".pt", ".pth"} and config.trust_pickle:
            net = torch.load(path, map_location="cpu", weights_only=False)
            if isinstance(net, nn.Module):
                return _Loaded(net)
        raise ModelError(
            f"{name} holds weights without a network, or a pickled network; give --arch such as "
            "torchvision:resnet18, or --trust-pickle if you trust the file's author with this "
            "machine."
        )
    state = _state(path, trust=config.trust_pickle)
    preprocess, names = _said(path)
    net = _architecture(config.arch, _head_size(state), config)
    _fill(net.net, state, name)
    return _Loaded(net.net, preprocess or net.preprocess, names)


def _architecture(arch: str, k: int | None, config: ModelConfig) -> _Loaded:
    kind, _, rest = arch.partition(":")
    sized = {} if k is None else {"num_classes": k}
    if kind == "torchvision":
        from torchvision import models as zoo

        try:
            transform = zoo.get_model_weights(rest).DEFAULT.transforms()  # type: ignore[attr-defined]
            net = zoo.get_model(rest, weights=None, **sized)
        except (ValueError, KeyError):
            raise ModelError(f"torchvision has no model {rest[:80]!r}.") from None
        crop = transform.crop_size[0]
        return _Loaded(
            net,
            Preprocess(
                (crop, crop), tuple(transform.mean), tuple(transform.std), transform.resize_size[0]
            ),
        )
    if kind == "timm":
        import timm

        if not timm.is_model(rest.split(".")[0]):
            raise ModelError(f"timm has no model {rest[:80]!r}.")
        net = timm.create_model(rest, **sized)
        data = timm.data.resolve_model_data_config(net)
        side = data["input_size"][1]
        return _Loaded(
            net,
            Preprocess(
                (side, side), tuple(data["mean"]), tuple(data["std"]),
                round(side / data["crop_pct"]),
            ),  # fmt: skip
        )
    if kind == "python":
        return _Loaded(_made_by(rest))
    raise ModelError(
        f"Architecture {arch[:80]!r} is not understood; write torchvision:NAME, timm:NAME or "
        "python:MODULE:FACTORY."
    )


# --- weights and networks ------------------------------------------------------------------------


def _made_by(rest: str) -> nn.Module:
    module_name, _, factory_name = rest.partition(":")
    if not factory_name:
        raise ModelError(f"python:{rest} names no factory; write python:PACKAGE.MODULE:FACTORY.")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"python:{rest} cannot be found: {_line(error)}.") from None
    net = factory()
    if not isinstance(net, nn.Module):
        raise ModelError(f"python:{rest} returned {type(net).__name__}, not a torch.nn.Module.")
    return net


def _state(path: Path, *, trust: bool) -> dict[str, Tensor]:
    """Weights of a file as plain tensors."""
    if not path.is_file():
        raise ModelError(f"There is no weights file {path}; check the path.")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        data = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, ValueError, EOFError, RuntimeError, OSError) as error:
        raise ModelError(f"The weights in {path} cannot be read: {_line(error)}.") from None
    except pickle.UnpicklingError:
        if not trust:
            raise ModelError(
                f"{path} holds more than tensors, and unpickling it runs whatever code is in it; "
                "save the weights as safetensors, or give --trust-pickle if you trust its author."
            ) from None
        data = torch.load(path, map_location="cpu", weights_only=False)
    if isinstance(data, nn.Module):
        data = data.state_dict()
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(data, Mapping) and isinstance(data.get(key), Mapping):
            data = data[key]
    if not isinstance(data, Mapping) or not all(isinstance(v, Tensor) for v in data.values()):
        raise ModelError(f"{path} holds no state dict of tensors.")
    return {str(name).removeprefix("module."): value for name, value in data.items()}


def _said(path: Path) -> tuple[Preprocess | None, tuple[str, ...] | None]:
    """Preprocessing and class names from a safetensors file's metadata, where it has them."""
    if path.suffix != ".safetensors":
        return None, None
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(METADATA)
    if text is None:
        return None, None
    try:
        said = json.loads(text)
        preprocess = Preprocess(
            tuple(said["size"]), tuple(said["mean"]), tuple(said["std"]), int(said["resize"])
        )
        return preprocess, tuple(str(name) for name in said["class_names"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"The metadata of {path} cannot be used: {_line(error)}.") from None


def _head_size(state: Mapping[str, Tensor]) -> int | None:
    """Number of classes by the last matrix or convolution of a state dict."""
    matrices = [value for name, value in state.items() if value.ndim in (2, 4)
                and name.endswith("weight")]  # fmt: skip
    return int(matrices[-1].shape[0]) if matrices else None


def _fill(net: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    own = net.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    missing = sorted(set(own) - set(state) - counters)
    unexpected = sorted(set(state) - set(own))
    misshapen = sorted(
        name for name in set(own) & set(state) if own[name].shape != state[name].shape
    )
    if missing or unexpected or misshapen:
        name = (missing or unexpected or misshapen)[0]
        what = "is missing" if missing else "is unknown to it" if unexpected else (
            f"has shape {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        )  # fmt: skip
        raise ModelError(f"The weights {origin} do not fit the architecture: {name} {what}.")
    net.load_state_dict(dict(state), strict=False)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _scripted(path: Path) -> nn.Module:
    from auditor.graphs import scripted

    return scripted(path)


def _exported(path: Path) -> nn.Module:
    from auditor.graphs import exported

    return exported(path)


# --- what completes a model ----------------------------------------------------------------------


def _preprocess(config: ModelConfig, said: Preprocess | None) -> Preprocess:
    if said is None:
        if config.size is None:
            raise ModelError("The model does not say the size of its input; give --size.")
        if config.mean is None and not config.spec.startswith("python:"):
            raise ModelError(
                "The model does not say how its input is normalised; give --mean and --std, such "
                "as 0.485,0.456,0.406 and 0.229,0.224,0.225."
            )
        side = config.size
        said = Preprocess((side, side), (0.0,) * 3, (1.0,) * 3, side)
    try:
        if config.size is not None and (config.size, config.size) != said.size:
            scale = config.size / min(said.size)
            said = replace(
                said, size=(config.size, config.size), resize=round(said.resize * scale)
            )
        if config.mean is not None or config.std is not None:
            said = replace(said, mean=config.mean or said.mean, std=config.std or said.std)
    except ValueError as error:
        raise ModelError(f"--size, --mean or --std cannot be used: {error}.") from None
    return said


def _n_classes(net: nn.Module, preprocess: Preprocess, device: torch.device) -> int:
    images = torch.full((2, 3, *preprocess.size), 0.5, device=device)
    try:
        with torch.inference_mode():
            logits = net(preprocess.normalise(images))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise ModelError(
            f"The model fails on images of {preprocess.size[0]} x {preprocess.size[1]} pixels: "
            f"{_line(error)}."
        ) from None
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(f"The model must return logits of shape (n, classes), it gave {shape}.")
    if logits.shape[1] < 2:
        raise ModelError("The model has one output; give it one for each class.")
    if not torch.isfinite(logits).all():
        raise ModelError("The model gives logits that are not finite on a grey image.")
    return int(logits.shape[1])


def _names(
    config: ModelConfig, said: tuple[str, ...] | None, k: int
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    ids: tuple[str, ...] | None = None
    names = said
    if config.class_names is not None:
        names, ids = read_class_names(Path(config.class_names))
    if names is None:
        raise ModelError(
            f"The model does not say what its {k} classes are called; give --class-names FILE."
        )
    if len(names) != k:
        raise ModelError(f"There are {len(names)} class names for a model with {k} classes.")
    return names, ids


def _need_trust(config: ModelConfig, what: str) -> None:
    if not config.trust_pickle:
        raise ModelError(
            f"{what} has to be unpickled, which runs whatever code is in it; give --trust-pickle "
            "if you trust its author with this machine."
        )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
