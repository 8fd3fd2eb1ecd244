"""What an OpenCLIP model of the user's own files takes, and what in them runs code or is fetched.

A checkpoint does not say how its images are prepared and which activation it was trained with; a
wrong one gives worse scores and no error. So one of these has to say it: `open_clip_config.json`
in the checkpoint's folder, the published tag that the user names, or all published weights of the
architecture, where they agree.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.errors import ProbeError

__all__ = ["Recipe", "read_config", "reason_to_refuse", "recipe_of_file"]

CONFIG = "open_clip_config.json"
PREPROCESS = ("mean", "std", "interpolation", "resize_mode")
SHAPE = ("image_size", "layers", "width", "patch_size", "timm_model_name", "context_length")
TOKENIZER_SETTINGS = {
    "additional_special_tokens", "clean", "language", "reduction_mask", "strip_sep_token",
    "tokenizer_mode",
}  # fmt: skip
"""Settings of OpenCLIP's own tokenizers; it hands all others on to transformers."""


@dataclass(frozen=True)
class Recipe:
    """How images are prepared for a checkpoint, its activation, and where that is from."""

    preprocess: Mapping[str, Any]
    quick_gelu: bool
    origin: str


def recipe_of_file(spec: str, model: str, file: Path, tag: str | None) -> Recipe:
    """The recipe of a checkpoint in a file.

    Args:
        spec: the user's words, for messages.
        model: the name of the architecture.
        file: the checkpoint.
        tag: the published weights that the user says it holds.

    Raises:
        ProbeError: nobody says it, or the configuration beside the file is of another model.
    """
    from open_clip import list_pretrained_tags_by_model

    if tag is not None:
        return Recipe(*_published(model, tag), f"those of the published weights {tag!r}")
    beside = file.parent / CONFIG
    if os.path.lexists(beside):
        config = read_config(file.parent)
        _check_shape(spec, model, config["model_cfg"], beside)
        preprocess = config.get("preprocess_cfg")
        if isinstance(preprocess, Mapping) and set(PREPROCESS[:2]) <= set(preprocess):
            quick = bool(config["model_cfg"].get("quick_gelu", False))
            return Recipe(preprocess, quick, f"those of {CONFIG} beside it")
    tags = list_pretrained_tags_by_model(model)
    found = [_published(model, each) for each in tags]
    if found and all(each == found[0] for each in found):
        return Recipe(*found[0], f"those of all published weights of {model}")
    if not found:
        why = f"there are no published weights of {model}"
    elif all(each[0] == found[0][0] for each in found):
        why = f"published weights of {model} differ in activation"
    else:
        why = f"published weights of {model} differ in preprocessing"
    ways = f"a folder with the file and its {CONFIG}"
    if tags:
        ways = f"open_clip:{model}/TAG={file} with its tag (such as {tags[0]}), or {ways}"
    raise ProbeError(
        f"--probe {spec!r}: the file does not say its preprocessing and activation, and {why}; "
        f"give {ways}."
    )


def _published(model: str, tag: str) -> tuple[dict[str, Any], bool]:
    """Preprocessing and activation of published weights."""
    from open_clip.factory import get_model_config
    from open_clip.pretrained import get_pretrained_cfg

    published = get_pretrained_cfg(model, tag)
    quick = published.get("quick_gelu") or get_model_config(model).get("quick_gelu")
    return {key: published[key] for key in PREPROCESS if key in published}, bool(quick)


def _check_shape(spec: str, model: str, config: Mapping[str, Any], file: Path) -> None:
    from open_clip.factory import get_model_config

    own = get_model_config(model)
    for part in ("vision_cfg", "text_cfg"):
        mine, theirs = own[part], config.get(part)
        for key in SHAPE:
            if isinstance(theirs, Mapping) and mine.get(key) != theirs.get(key, mine.get(key)):
                raise ProbeError(
                    f"--probe {spec!r}: {file} is of another architecture ({part}.{key} is "
                    f"{theirs[key]!r}, not {mine.get(key)!r}); give the folder as "
                    f"open_clip:{file.parent}, or move the checkpoint."
                )


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of an OpenCLIP folder, with its architecture under "model_cfg".

    Raises:
        ProbeError: it is missing, or is no such configuration.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise ProbeError(f"The probe's folder {folder} has no {CONFIG}; check the path.")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ProbeError(f"{file} cannot be read: {error}.") from None
    model = config.get("model_cfg") if isinstance(config, dict) else None
    towers = ("vision_cfg", "text_cfg")
    if not isinstance(model, dict) or not all(isinstance(model.get(t), dict) for t in towers):
        raise ProbeError(
            f"{file} cannot be used: it needs model_cfg with vision_cfg and text_cfg in it."
        )
    checked: dict[str, Any] = config
    return checked


def reason_to_refuse(model: Mapping[str, Any], folder: Path | None) -> str | None:
    """What in an architecture's configuration runs code or asks a network, or `None`.

    Args:
        model: the architecture ("model_cfg").
        folder: where it lies; `None` for a hub's, whose own files may be fetched.
    """
    text, vision = model["text_cfg"], model["vision_cfg"]
    settings = text.get("tokenizer_kwargs") or {}
    unknown = sorted({*map(str, settings)} - TOKENIZER_SETTINGS)
    if unknown:
        return f"its tokenizer_kwargs set {unknown[0]}, which can run code"
    if folder is None:
        return None
    tower = text.get("hf_model_name")
    if tower and not os.path.isdir(str(tower)):
        return f"its text tower hf_model_name = {tower!r} is no local folder and would be fetched"
    trunk = vision.get("timm_model_name")
    if trunk and ":" in str(trunk):
        return f"its image tower timm_model_name = {trunk!r} would be fetched"
    folders = [folder, *([Path(str(tower))] if tower else [])]
    for file in _transformers_files(folders):
        if "auto_map" in _loaded(file):
            return f"{file} names code of its own (auto_map)"
    return None


def _transformers_files(folders: Iterable[Path]) -> list[Path]:
    names = ("config.json", "tokenizer_config.json")
    return [folder / name for folder in folders for name in names if (folder / name).is_file()]


def _loaded(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}  # transformers refuses it too
    return content if isinstance(content, dict) else {}
