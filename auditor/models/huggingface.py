"""Image classifiers of transformers: from the hub or a local folder, safetensors only."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from auditor.config import ModelConfig
from auditor.core.fetching import fetching, offline
from auditor.errors import ModelError, first_line
from auditor.models.description import Description, complete
from auditor.models.libraries import timm_description
from auditor.models.limits import check_folder, physical_memory
from auditor.record.schema import Remark

__all__ = ["PlainLogits", "load"]

FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of resampling filters, as image processors store them."""

CONVNEXT_STRETCHES = 384
"""From this size on ConvNeXt's image processor stretches the whole photo instead of cropping."""

REPEATS = re.compile(
    r"\w*(?:layers?|depths?|blocks?|stages|repeats)|depth_(?:coefficient|multiplier)"
)
MOST_LAYERS = 2000
"""Keys of a configuration that say how many parts are built, and the most that are: building
takes a millisecond each, and configurations can ask for any number."""

FOREIGN = {"attn_implementation", "_attn_implementation", "architecture"}
"""Keys by which a configuration can name code or a model of a hub."""

FETCHED = {"checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
"""Arguments of `timm.create_model` that read weights from elsewhere."""
ASKED = (
    "--size, --mean and --std, and --resize, --aspect, --interpolation and --channels where they "
    "are not the usual ones"
)

TOLERANCE = 0.05
"""Largest mean difference, in standard deviations of the input, that two resizers may have."""


PICTURES = ((420, 300), (300, 420), (40, 60))
"""Width and height of the pictures that image processors are tried on."""


class PlainLogits(nn.Module):
    """Takes the logits out of the object or mapping that a model returns."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """The logits of a batch of network inputs."""
        output = self.model(images)
        logits: Tensor = output["logits"] if isinstance(output, dict) else output.logits
        return logits


def load(name: str, config: ModelConfig) -> tuple[PlainLogits, Description, tuple[Remark, ...]]:
    """Load a model in float32, and what its configuration and image processor say.

    The code of the repository is never run, and a local folder is loaded without the network. The
    image processor is tried on a picture, and where this program's preprocessing does not give the
    same input, the user is asked for it.

    Args:
        name: `ORG/NAME` on the hub or a local folder.
        config: the model's configuration.

    Raises:
        ModelError: it cannot be loaded, asks for code or absurd sizes, or lacks weights.
    """
    import transformers

    local = os.path.isdir(name)
    if local:
        _check_folder(Path(name), config.spec)
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local}
    try:
        with offline() if local else fetching(hub=True), _quiet():
            said, _ = transformers.PretrainedConfig.get_config_dict(name, **options)
            _check_config(said, config.spec)
            _check_size(transformers.AutoConfig.from_pretrained(name, **options), config.spec)
            model, info = transformers.AutoModelForImageClassification.from_pretrained(
                name,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                dtype=torch.float32,
                **options,
            )
            _check_loaded(info, config.spec)
            described = _class_names(model.config).over(_input(name, config, options))
    except ModelError:
        raise
    except Exception as error:  # whatever its parsers meet in a damaged file
        raise ModelError(
            f"{config.spec} cannot be loaded as an image classifier with safetensors, from its "
            f"config.json and model.safetensors: {first_line(error)}."
        ) from error
    return PlainLogits(model), described, tuple(_remarks(said, config.spec))


def _remarks(said: Mapping[str, Any], spec: str) -> Iterator[Remark]:
    stored = said.get("dtype") or said.get("torch_dtype")
    if stored in ("float16", "bfloat16"):
        yield Remark(
            code="weights-in-another-precision",
            text=f"{spec} holds weights in {stored}. They were audited in float32.",
        )


def _check_folder(folder: Path, spec: str) -> None:
    """See that the files of a local folder can be read, and that it is a whole model."""
    check_folder(folder)
    if os.path.lexists(folder / "adapter_config.json"):
        raise ModelError(
            f"{spec} holds an adapter (adapter_config.json) for another model, which is not "
            "fetched; merge the two and save that."
        )


def _check_config(said: Mapping[str, Any], spec: str) -> None:
    """See that a configuration names nothing that would be fetched or run, and ends soon."""
    arguments = said.get("model_args") or {}
    fetched = sorted(set(arguments) & FETCHED) if isinstance(arguments, dict) else []
    if fetched:
        raise ModelError(
            f"{spec} gives {fetched[0]!r} among the model_args of its config.json, which would "
            "load other weights; remove it."
        )
    for key, value in _entries(said):
        if key in FOREIGN and value and re.search(r"[/\\:]", str(value)):
            raise ModelError(
                f"{spec} names {str(value)[:80]!r} as {key} in its config.json, which is of "
                "another repository and not fetched; load that model by its own name."
            )
        size = value if isinstance(value, int | float) else _length(value)
        if REPEATS.fullmatch(key) and size > MOST_LAYERS:
            raise ModelError(
                f"{spec} asks for {key} = {size:.4g} in its config.json, more than "
                f"{MOST_LAYERS:,}; check that file."
            )


def _entries(said: object) -> Iterator[tuple[str, object]]:
    """Every key of a configuration with its value, at any depth."""
    if isinstance(said, dict):
        for name, value in said.items():
            yield str(name), value
            yield from _entries(value)
    elif isinstance(said, list):
        for value in said:
            yield from _entries(value)


def _length(value: object) -> float:
    """The sum of a list of numbers, such as depths, or the length of another list."""
    if not isinstance(value, list):
        return 0
    numbers = [each for each in value if isinstance(each, int | float)]
    return max(sum(numbers), len(value))


def _check_loaded(info: Mapping[str, Any], spec: str) -> None:
    """See that every weight of the network came from the file, by what transformers tells."""
    absent = sorted(map(str, info["missing_keys"]))
    if absent:
        raise ModelError(
            f"{spec} has no weights for {absent[0]!r}, so it is no trained classifier."
        )
    other = sorted((str(name), *sizes) for name, *sizes in info["mismatched_keys"])
    if other:
        name, held, asked = other[0]
        raise ModelError(
            f"{spec} holds {name!r} of the shape {tuple(held)}, but its config.json, such as its "
            f"id2label, asks for {tuple(asked)}; give it the classes that it was trained on."
        )


def _check_size(described: Any, spec: str) -> None:
    """See that the network fits into memory, by building it without its numbers."""
    import transformers

    with torch.device("meta"):
        net = transformers.AutoModelForImageClassification.from_config(
            described, trust_remote_code=False
        )
    numbers = sum(value.numel() for value in (*net.parameters(), *net.buffers()))
    memory = physical_memory()
    if 4 * numbers > memory:
        raise ModelError(
            f"{spec} asks for {numbers:.3g} weights in its config.json, which take "
            f"{4 * numbers / 2**30:.3g} GiB; this machine has {memory / 2**30:.0f} GiB."
        )


def _class_names(config: Any) -> Description:
    names = getattr(config, "id2label", None) or {}
    listed = tuple(str(names.get(i, "")) for i in range(len(names)))
    invented = all(name == f"LABEL_{i}" for i, name in enumerate(listed))
    return Description(class_names=None if invented or not all(listed) else listed)


def _input(name: str, config: ModelConfig, options: dict[str, Any]) -> Description:
    """What the image processor says; nothing, where it cannot be followed and the user says it all.

    Raises:
        ModelError: it cannot be followed, and the user does not say all that it would.
    """
    import transformers

    stated = config.size is not None and config.mean is not None and config.std is not None
    try:
        with _quiet():
            processor = transformers.AutoImageProcessor.from_pretrained(name, **options)
        described = _described(processor)
        agrees = described is not None and _agrees(processor, described, config)
    except Exception as error:  # whatever it makes of odd settings
        if stated:
            return Description()
        raise ModelError(
            f"{config.spec} has no image processor that can be used, by its "
            f"preprocessor_config.json ({first_line(error)}); give {ASKED}."
        ) from error
    if described is not None and agrees:
        return described
    if stated:
        return Description()
    raise ModelError(
        f"The image processor of {config.spec} ({type(processor).__name__}) does more than "
        f"resize, crop and normalise; give {ASKED}."
    )


def _described(processor: Any) -> Description | None:
    data_config = getattr(processor, "data_config", None)
    if isinstance(data_config, dict):  # the processor of timm's models
        return timm_description(data_config)

    def setting(name: str) -> Any:
        return getattr(processor, name, None)

    sides = _sides(processor)
    if sides is None:
        return None
    size, resize, aspect = sides
    scale = 255 * setting("rescale_factor") if setting("do_rescale") else 255.0
    plain = not setting("do_normalize")
    mean = (0.0,) * 3 if plain else tuple(value / scale for value in setting("image_mean"))
    std = (1 / scale,) * 3 if plain else tuple(value / scale for value in setting("image_std"))
    filtering = FILTERS.get(int(setting("resample") if setting("resample") is not None else 2))
    return Description.parse(
        {
            "size": size,
            "resize": resize,
            "aspect": aspect,
            "mean": mean,
            "std": std,
            "interpolation": filtering,
            "channels": "bgr" if setting("do_flip_channel_order") else "rgb",
        },
        source="the image processor",
    )


def _sides(processor: Any) -> tuple[tuple[int, int], int, str] | None:
    """Input size, shorter side before the crop, and whether the photo is stretched."""

    def read(name: str) -> dict[str, int]:
        value = getattr(processor, name, None) or {}
        keys = ("height", "width", "shortest_edge")
        found = {key: getattr(value, key, None) for key in keys}
        if isinstance(value, dict):
            found = {key: value.get(key) for key in keys}
        return {key: int(number) for key, number in found.items() if number}

    size, crop = read("size"), read("crop_size")
    cropped = getattr(processor, "do_center_crop", False) and {"height", "width"} <= set(crop)
    if not getattr(processor, "do_resize", False):
        return None
    if "shortest_edge" in size:
        edge = size["shortest_edge"]
        if cropped:
            return (crop["height"], crop["width"]), edge, "crop"
        share = getattr(processor, "crop_pct", None)
        if share is None:
            return None
        if edge >= CONVNEXT_STRETCHES:
            return (edge, edge), edge, "stretch"
        return (edge, edge), int(edge / share), "crop"
    if not {"height", "width"} <= set(size):
        return None
    if cropped:
        return (crop["height"], crop["width"]), min(size["height"], size["width"]), "stretch"
    return (size["height"], size["width"]), min(size["height"], size["width"]), "stretch"


def _agrees(processor: Any, described: Description, config: ModelConfig) -> bool:
    """Whether the processor and this program make the same input of smooth colour pictures.

    One is wide, one tall, and one smaller than most inputs, which some processors pad.
    """
    unstated = ModelConfig(spec=config.spec)
    preprocess = complete(described, unstated)
    for width, height in PICTURES:
        x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
        waves = [np.sin(9 * x + 4 * y), np.cos(7 * y - 3 * x), np.sin(5 * x * y + 1)]
        picture = Image.fromarray(np.uint8(127.5 + 120 * np.stack(waves, -1)))
        ours = preprocess.normalise(preprocess.fit(picture)[None])
        with _quiet():
            theirs = processor(picture, return_tensors="pt")["pixel_values"]
        if not isinstance(theirs, torch.Tensor) or theirs.shape != ours.shape:
            return False
        if not (theirs.float() - ours).abs().mean() < TOLERANCE * ours.std():
            return False
    return True


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' own progress bars and advice off the terminal, for this block."""
    from transformers.utils import logging as reports

    level = reports.get_verbosity()
    bars = reports.is_progress_bar_enabled()
    reports.set_verbosity(logging.CRITICAL)
    reports.disable_progress_bar()
    try:
        yield
    finally:
        reports.set_verbosity(level)
        if bars:
            reports.enable_progress_bar()
