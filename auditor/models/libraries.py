"""Classifiers of torchvision and timm: their architectures, their inputs and their weights."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from auditor.core.class_names import imagenet
from auditor.core.fetching import fetching
from auditor.errors import ModelError, first_line
from auditor.models.description import Description
from auditor.models.fitting import Architecture

__all__ = [
    "pretrained_timm",
    "pretrained_torchvision",
    "timm_architecture",
    "timm_description",
    "torchvision_architecture",
]

TRAINING_HEADS = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
"""Classifiers in the middle of a network that only its training uses."""


def pretrained_torchvision(name: str, version: str, *, spec: str) -> tuple[nn.Module, Description]:
    """A classifier with torchvision's weights; an empty version is the default one.

    Raises:
        ModelError: the name or version is unknown, or the weights cannot be downloaded.
    """
    import torchvision

    torchvision_architecture(name)
    members = torchvision.models.get_model_weights(name)
    known = {member.name: member for member in members}
    if version and version not in known:
        raise ModelError(
            f"torchvision has no weights {version!r} for {name}; it has {', '.join(known)}."
        )
    chosen = known[version] if version else members.DEFAULT
    with _downloading(spec, hub=False):
        # torchvision unpickles what lies in its cache: first see that it holds tensors only
        chosen.get_state_dict(progress=True, check_hash=True, weights_only=True)
        net: nn.Module = torchvision.models.get_model(name, weights=chosen)
    categories = tuple(str(category) for category in chosen.meta["categories"])
    names = imagenet(len(categories))
    described = Description(class_names=categories, class_ids=names.ids if names else None)
    return net, described.over(_torchvision_input(chosen))


def torchvision_architecture(name: str) -> Architecture:
    """A classifier of torchvision, with the input of its own weights.

    Raises:
        ModelError: there is none of this name.
    """
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ModelError(f"torchvision has no classifier {name!r}; {_nearest(name, known)}.")

    def build(n_classes: int | None) -> nn.Module:
        options: dict[str, Any] = {} if n_classes is None else {"num_classes": n_classes}
        parameters = inspect.signature(torchvision.models.get_model_builder(name)).parameters
        if name in ("googlenet", "inception_v3"):
            # as torchvision builds them for its own weights, less the heads used in training only
            options |= {"transform_input": True, "aux_logits": False, "init_weights": False}
        assert "weights" in parameters
        net: nn.Module = torchvision.models.get_model(name, weights=None, **options)
        return net

    members = torchvision.models.get_model_weights(name)
    described = _torchvision_input(members.DEFAULT)
    parts = TRAINING_HEADS.get(name, ())
    return Architecture(f"torchvision:{name}", build, described, parts, of_a_library=True)


def _torchvision_input(member: Any) -> Description:
    transforms = member.transforms()
    return Description(
        size=transforms.crop_size[0],
        resize=transforms.resize_size[0],
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
        aspect="crop",
    )


def pretrained_timm(name: str, *, spec: str) -> tuple[nn.Module, Description]:
    """A model with timm's weights, or those of a repository of the hub (`hf-hub:ORG/NAME`).

    Raises:
        ModelError: the name is unknown, or the weights cannot be downloaded.
    """
    import timm

    if not name.startswith("hf-hub:"):
        timm_architecture(name)
    with _downloading(spec, hub=True):
        net: Any = timm.create_model(name, pretrained=True)
    described = timm_description(net.pretrained_cfg)
    if described.class_names is None and (names := imagenet(net.num_classes)):
        described = Description(class_names=names.names, class_ids=names.ids).over(described)
    return net, described


def timm_architecture(name: str) -> Architecture:
    """A model of timm, with the input of the pretrained weights of this name.

    Raises:
        ModelError: there is none of this name.
    """
    import timm

    if not timm.is_model(name.partition(".")[0]):
        known = timm.list_models()
        raise ModelError(f"timm has no model {name!r}; {_nearest(name, known)}.")

    def build(n_classes: int | None) -> nn.Module:
        options: dict[str, Any] = {} if n_classes is None else {"num_classes": n_classes}
        net: nn.Module = timm.create_model(name, pretrained=False, **options)
        return net

    try:
        config: Any = build(None).pretrained_cfg
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"timm cannot build {name!r}: {first_line(error)}.") from None
    described = timm_description(config)
    # names belong to the pretrained weights, not to whatever weights the user brings
    described = described.model_copy(update={"class_names": None, "class_ids": None})
    return Architecture(f"timm:{name}", build, described, of_a_library=True)


def timm_description(config: Mapping[str, Any]) -> Description:
    """What timm's configuration of pretrained weights says.

    Raises:
        ModelError: the crop is of a kind that keeps no fixed part of the photo.
    """
    height, width = config["input_size"][1:]
    crop = config.get("crop_mode") or "center"
    if crop not in ("center", "squash"):
        raise ModelError(
            f"timm's crop mode {crop!r}, which pads photos to keep all of them, is not supported; "
            "use another model."
        )
    filtering: Any = config.get("interpolation") or "bicubic"
    labels = config.get("label_names")
    named = config.get("label_descriptions") or {}
    return Description(
        size=(height, width),
        # timm rounds down
        resize=int(min(height, width) / (config.get("crop_pct") or 0.875)),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation="bilinear" if filtering == "random" else filtering,
        aspect="stretch" if crop == "squash" else "crop",
        class_names=tuple(str(named.get(label, label)) for label in labels) if labels else None,
        class_ids=tuple(map(str, labels)) if labels and named else None,
    )


@contextmanager
def _downloading(spec: str, *, hub: bool) -> Iterator[None]:
    try:
        with warnings.catch_warnings(), fetching(hub=hub):
            warnings.simplefilter("ignore", FutureWarning)
            yield
    except Exception as error:  # whatever is met on the way, or in a damaged file
        raise ModelError(
            f"The weights of {spec} cannot be had: {first_line(error)}; where there is no network, "
            "give a local file with --weights."
        ) from None


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(near)}?" if near else "check the name"
