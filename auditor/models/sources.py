"""Where classifiers come from: libraries, hubs, registries, files and the user's own code.

Each source gives a network and what is known of it; nothing is completed or checked here.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from auditor.config import ModelConfig
from auditor.core.storage import digest_file
from auditor.errors import ModelError, first_line
from auditor.models import archives, huggingface, libraries
from auditor.models.description import Description, complete
from auditor.models.exported import tap_exported
from auditor.models.fitting import Architecture, fit
from auditor.models.foreign import ForeignCode, named
from auditor.models.limits import check_file, check_folder
from auditor.models.torchscript import tap_scripted
from auditor.models.weights import (
    Weights,
    choice,
    load_pickle,
    read_weights,
    tensor_sets,
    weights_digest,
)
from auditor.record.schema import Remark

__all__ = ["SOURCES", "GivenModel", "Source", "from_python_object"]

FACTORY_INPUT = Description(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
"""A factory's module takes images in [0, 1] unless it or the user says otherwise."""


@dataclass(frozen=True)
class Source:
    """A network with its weights, what is known of it, and the digest of its weights.

    `remarks` say which weights were taken, and what was done to them.
    """

    net: nn.Module
    description: Description
    digest: str
    remarks: tuple[Remark, ...] = ()


def _source(net: nn.Module, description: Description, remarks: tuple[Remark, ...] = ()) -> Source:
    return Source(net, description, weights_digest(net.state_dict()), remarks)


# --- libraries -----------------------------------------------------------------------------------


def from_torchvision(rest: str, config: ModelConfig, device: torch.device) -> Source:
    """`torchvision:NAME` or `torchvision:NAME/WEIGHTS`, or NAME with the user's weights.

    With the user's weights the input is that of torchvision's own weights for the architecture,
    unless the file or the user says otherwise; class names are then asked for.
    """
    name, _, version = rest.partition("/")
    if config.weights is not None:
        return _with_weights(libraries.torchvision_architecture(name), config)
    return _source(*libraries.pretrained_torchvision(name, version, spec=config.spec))


def from_timm(rest: str, config: ModelConfig, device: torch.device) -> Source:
    """`timm:NAME`, with pretrained weights or the user's; preprocessing is that of the name."""
    if config.weights is not None:
        return _with_weights(libraries.timm_architecture(rest), config)
    return _source(*libraries.pretrained_timm(rest, spec=config.spec))


def from_hugging_face(rest: str, config: ModelConfig, device: torch.device) -> Source:
    """`hf:ORG/NAME` from the hub or `hf:FOLDER`: an image classifier of transformers."""
    net, description, remarks = huggingface.load(rest, config)
    return Source(net, description, weights_digest(net.model.state_dict()), remarks)


def from_mlflow(rest: str, config: ModelConfig, device: torch.device) -> Source:
    """`mlflow:models:/NAME@ALIAS`: the PyTorch flavour of a registered or logged model.

    The key "auditor" of the model's metadata may describe it. A model that was saved as an
    exported program loads like any `.pt2` file; one that was pickled only where it is trusted.
    """
    try:
        mlflow = importlib.import_module("mlflow")
        flavour = importlib.import_module("mlflow.pytorch")
    except ImportError:
        raise ModelError(
            f"{config.spec} needs the package mlflow: install auditor[mlflow]."
        ) from None
    try:
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=rest))
        check_folder(folder)
        found = mlflow.models.Model.load(str(folder))
    except ModelError:
        raise
    except Exception as error:  # clients of many stores, each with errors of its own
        raise ModelError(f"mlflow cannot load {rest}: {first_line(error)}.") from error
    metadata = found.metadata if isinstance(found.metadata, Mapping) else {}
    described = Description.parse(metadata.get("auditor"), source=rest)
    flavours = found.flavors if isinstance(found.flavors, Mapping) else {}
    own = flavours.get("pytorch")
    data = own.get("model_data") if isinstance(own, Mapping) else None
    if not isinstance(data, str):
        raise ModelError(
            f"{rest} was not saved by mlflow.pytorch, or its MLmodel does not say where; other "
            "flavours cannot be used."
        )
    program = folder / data / "model.pt2"
    if os.path.lexists(program):
        source = _exported(program, config, device)
        return dataclasses.replace(source, description=described.over(source.description))
    if not config.trust_code:
        raise ModelError(
            f"{config.spec} is stored as a pickled object, which can run code when it is loaded; "
            "give --trust-code if you trust where it comes from."
        )
    try:
        with ForeignCode():
            net = flavour.load_model(str(folder), map_location=device)
    except Exception as error:  # unpickling runs code that is not ours
        raise ModelError(f"mlflow cannot load {rest}: {first_line(error)}.") from error
    return _source(_module(net, config.spec), described)


# --- files ---------------------------------------------------------------------------------------


def from_file(rest: str, config: ModelConfig, device: torch.device) -> Source:
    """`file:PATH`: torch.export, TorchScript, weights with `--arch`, or a trusted pickle."""
    path, chosen = choice(rest)
    if not os.path.lexists(path):
        raise ModelError(f"There is no model file {rest}; check the path.")
    check_file(path)
    suffix = path.suffix.lower()
    if suffix == ".pt2":
        return _exported(path, config, device)
    if archives.is_torchscript(path):
        script, description = archives.load_scripted(path, device, trust_code=config.trust_code)
        preprocess = complete(description, config)
        noise = torch.rand((2, 3, *preprocess.size), generator=torch.Generator().manual_seed(0))
        digest = _digest(script.state_dict(), path)
        net = tap_scripted(script, preprocess.normalise(noise.to(device)))
        return Source(net, description, digest)
    if suffix in (".safetensors", ".npz") or config.arch is not None:
        found = read_weights(path, trust_code=config.trust_code, chosen=chosen)
        arch = config.arch or found.description.arch
        if arch is None:
            raise ModelError(
                f"{rest} holds weights only; name their architecture with --arch "
                "(torchvision:NAME, timm:NAME or python:PACKAGE.MODULE:FACTORY)."
            )
        return _fit(_architecture(arch, trusted=config.arch is not None), found, path, config)
    return _from_pickle(path, config)


def _exported(path: Path, config: ModelConfig, device: torch.device) -> Source:
    program, description = archives.load_exported(path, trust_code=config.trust_code)
    digest = _digest({**program.state_dict, **program.constants}, path)
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    return Source(tap_exported(program), description, digest)


def _digest(tensors: Mapping[str, object], path: Path) -> str:
    """Digest of the tensors; of the whole file where they are constants of its code."""
    return weights_digest(tensors) if tensors else digest_file(path)


def _from_pickle(path: Path, config: ModelConfig) -> Source:
    data = load_pickle(path, trust_code=config.trust_code)
    if isinstance(data, nn.Module):
        return _source(data, Description.parse(getattr(data, "auditor", None), source=str(path)))
    tensor_sets(data, path)
    raise ModelError(
        f"{path} holds weights only; name their architecture with --arch "
        "(torchvision:NAME, timm:NAME or python:PACKAGE.MODULE:FACTORY)."
    )


def _architecture(arch: str, *, trusted: bool) -> Architecture:
    scheme, _, rest = arch.partition(":")
    if scheme == "torchvision":
        return libraries.torchvision_architecture(rest)
    if scheme == "timm":
        return libraries.timm_architecture(rest)
    if scheme == "python" and trusted:
        net = _call_factory(rest)
        described = Description.parse(getattr(net, "auditor", None), source=arch)
        # a factory takes no number of classes: where the weights differ, that is an error
        return Architecture(arch, lambda _: net, described.over(FACTORY_INPUT))
    raise ModelError(
        f"The architecture {arch!r} is none of torchvision:NAME, timm:NAME and "
        "python:PACKAGE.MODULE:FACTORY; name it with --arch."
    )


def _with_weights(architecture: Architecture, config: ModelConfig) -> Source:
    path, chosen = choice(config.weights or "")
    found = read_weights(path, trust_code=config.trust_code, chosen=chosen)
    return _fit(architecture, found, path, config)


def _fit(architecture: Architecture, found: Weights, path: Path, config: ModelConfig) -> Source:
    fitted = fit(architecture, found, path)
    described = found.description.over(architecture.description)
    remarks = fitted.remarks
    if architecture.of_a_library and config.mean is None and found.description.mean is None:
        remarks += (_input_of_the_library(path.name, f"{architecture.name}'s"),)
    return _source(fitted.net, described, remarks)


def _input_of_the_library(what: str, whose: str) -> Remark:
    """Nothing says what the model takes, so that what its library's own weights take is assumed."""
    return Remark(
        code="input-of-the-library",
        text=f"{what} does not say how photos become its input; that of {whose} own pretrained "
        "weights is taken where no option says otherwise (--size, --resize, --aspect, "
        "--interpolation, --mean, --std).",
    )


# --- the user's code -----------------------------------------------------------------------------


def from_python(rest: str, config: ModelConfig, device: torch.device) -> Source:
    """`python:PACKAGE.MODULE:FACTORY`: what the user's function without arguments returns."""
    net = _call_factory(rest)
    described = Description.parse(getattr(net, "auditor", None), source=config.spec)
    if config.weights is not None:
        architecture = Architecture(config.spec, lambda _: net, described.over(FACTORY_INPUT))
        return _with_weights(architecture, config)
    return _source(net, described.over(FACTORY_INPUT))


@dataclass(frozen=True)
class GivenModel:
    """A network that is at hand in Python.

    Attributes:
        net: gives logits of shape (n, K) for images of shape (n, 3, H, W).
        class_names: of the K classes, where neither it nor a file says them.
        class_ids: folder ids of the classes, such as WordNet ids, where there are any.
    """

    net: nn.Module
    class_names: tuple[str, ...] | None = None
    class_ids: tuple[str, ...] | None = None


def from_python_object(given: GivenModel, config: ModelConfig) -> Source:
    """A copy of the network; what it takes is said by it (`net.auditor`), by timm or by the user.

    Raises:
        ModelError: it cannot be copied, or is no network.
    """
    net = _module(given.net, config.spec)
    own = Description.parse(getattr(net, "auditor", None), source=config.spec)
    classes = Description(class_names=given.class_names, class_ids=given.class_ids)
    library = Description()
    remarks: tuple[Remark, ...] = ()
    timm_config = getattr(net, "pretrained_cfg", None)
    if isinstance(timm_config, Mapping) and config.mean is None and own.mean is None:
        library = libraries.timm_description(timm_config)
        library = library.model_copy(update={"class_names": None, "class_ids": None})
        remarks = (_input_of_the_library(config.spec, "its architecture's"),)
    try:
        made = copy.deepcopy(net)
    except Exception as error:  # code that is not ours
        raise ModelError(
            f"{config.spec} cannot be copied ({named(error)}), and an audit changes no "
            "network of yours; give a function that makes it as python:PACKAGE.MODULE:FACTORY."
        ) from error
    return _source(made, classes.over(own.over(library)), remarks)


def _call_factory(rest: str) -> nn.Module:
    module_name, _, name = rest.partition(":")
    if not module_name or not name:
        raise ModelError(f"python:{rest} is not of the form python:PACKAGE.MODULE:FACTORY.")
    folder = os.getcwd()
    with _first_on_path(folder):
        try:
            with ForeignCode():
                module = importlib.import_module(module_name)
        except Exception as error:  # code that is not ours
            raise ModelError(
                f"Cannot import {module_name} from {folder} or PYTHONPATH: {named(error)}."
            ) from error
        factory = getattr(module, name, None)
        if not callable(factory):
            raise ModelError(f"{module_name} has no function {name}; check --model.")
        try:
            with ForeignCode():
                net = factory()
        except Exception as error:  # code that is not ours
            raise ModelError(
                f"The factory python:{rest}, called without arguments, fails: {named(error)}."
            ) from error
    return _module(net, f"python:{rest}")


@contextlib.contextmanager
def _first_on_path(folder: str) -> Iterator[None]:
    """Modules of a folder come before all others in the block, and after all others from then on.

    They stay to be found, for the network may import when it runs; but a file of the user's that
    has the name of a library must not stand in for it.
    """
    if folder in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # code that is not ours may have taken it away
            sys.path.remove(folder)
        sys.path.append(folder)


def _module(value: object, spec: str) -> nn.Module:
    if not isinstance(value, nn.Module):
        raise ModelError(f"{spec} gives a {type(value).__name__}, not a torch.nn.Module.")
    if any(tensor.is_meta for tensor in (*value.parameters(), *value.buffers())):
        raise ModelError(f"{spec} gives weights without data (on the device meta); load them.")
    return value


SOURCES: Mapping[str, Callable[[str, ModelConfig, torch.device], Source]] = {
    "torchvision": from_torchvision,
    "timm": from_timm,
    "hf": from_hugging_face,
    "mlflow": from_mlflow,
    "file": from_file,
    "python": from_python,
}
