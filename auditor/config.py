"""The audit's configuration: a TOML or YAML file, with command-line flags over it.

A setting's description is also the help of its option on the command line (`auditor.cli.options`).
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from auditor.core.storage import parse_toml, read_text
from auditor.errors import ConfigError

__all__ = [
    "BACKGROUND",
    "PLACES",
    "AuditConfig",
    "ModelConfig",
    "PrototypeConfig",
    "ScopeConfig",
    "SelfTestConfig",
    "StatisticsConfig",
]

Unit = Annotated[float, Field(gt=0, lt=1)]
Side = Annotated[int, Field(ge=8, le=4096)]
Sides = Annotated[
    tuple[Side, Side],
    BeforeValidator(lambda side: side if isinstance(side, list | tuple) else (side, side)),
]
MOST_BYTES = 2**20  # of a file of settings
LONGEST = {"title": 200, "intended_use": 20_000, "exclusions": 20_000}  # of `ScopeConfig`
PLACES = frozenset({"out", "work", "engine", "ray_address", "ray_workers", "ray_cpus", "ray_gpus"})
"""Settings that say where an audit runs and is written, and nothing of its result."""

BACKGROUND = r"^(drop|white|black|#[0-9a-fA-F]{6})$"


class Section(BaseModel):
    """Base of all configuration: frozen; a misspelt name, NaN or infinity is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelConfig(Section):
    """The audited classifier. `spec` is the command line's `--model`.

    What is `None` is taken from the model's own description (`auditor.models.description`), else
    from the usual value where there is one; what cannot be known is asked for.

    Attributes:
        size: height and width of the network's input; one number for both.
        mean: per channel in the order of `channels`, of pixels of 0 to 1 or of 0 to 255; one number
            makes the input grey.
        std: as `mean`.
        background: what stands under transparent pixels: "drop" shows the colours that are stored
            there, as torchvision, timm and transformers do.
        output: what the network gives; "auto" recognises probabilities and log-probabilities.
        trust_code: whether code that comes with the model may run (pickles, TorchScript operators
            that reach files, tokenizers and modelling code of a folder).
    """

    spec: str = Field(description="Where the model comes from, as --model.")
    arch: str | None = Field(
        default=None, description="Architecture of a weights file, such as torchvision:resnet50."
    )
    weights: str | None = Field(
        default=None, description="Local weights of a named model; FILE#KEY where it holds several."
    )
    size: Sides | None = Field(
        default=None, description="Model's input in pixels: one side, or HEIGHTxWIDTH."
    )
    resize: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None, description="Shorter side in pixels before the centre crop."
    )
    aspect: Literal["crop", "stretch"] | None = Field(
        default=None, description="crop, or stretch: photos squeezed to the input's shape."
    )
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = Field(
        default=None, description="nearest, bilinear, bicubic or lanczos."
    )
    mean: tuple[float, ...] | None = Field(
        default=None, description="Per channel, such as 0.485,0.456,0.406."
    )
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        default=None, description="Per channel, such as 0.229,0.224,0.225."
    )
    pixel_range: Literal["0-1", "0-255"] | None = Field(
        default=None, description="Of the pixels that are normalised: 0-1 or 0-255."
    )
    channels: Literal["rgb", "bgr"] | None = Field(
        default=None, description="Order of the input: rgb or bgr."
    )
    background: Annotated[str, Field(pattern=BACKGROUND)] | None = Field(
        default=None, description="Under transparency: drop (as stored), white, black, #rrggbb."
    )
    bit_depth: Annotated[int, Field(ge=8, le=16)] | None = Field(
        default=None, description="Bits that pictures of 16 bits use, such as 12."
    )
    orientation: Literal["exif", "stored"] | None = Field(
        default=None, description="exif turns photos upright, stored leaves them."
    )
    output: Literal["auto", "logits", "probabilities", "log-probabilities", "sigmoid"] = Field(
        default="auto", description="auto, logits, probabilities, log-probabilities or sigmoid."
    )
    class_names: str | None = Field(
        default=None, description="One name a line, or CSV or JSON with index, id and name."
    )
    layers: tuple[str, ...] | None = Field(
        default=None, description="Layers of the activation path, separated by commas."
    )
    trust_code: bool = Field(
        default=False, description="Run code that comes with the model, such as pickles."
    )

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, data: Any) -> Any:
        """`trust_pickle` is the older name of `trust_code`; saved audits have it."""
        if isinstance(data, dict) and "trust_pickle" in data and "trust_code" not in data:
            data = {**data, "trust_code": data["trust_pickle"]}
            del data["trust_pickle"]
        return data


class PrototypeConfig(Section):
    """How prototypes are generated (see `auditor.prototypes.generation`)."""

    mode: Literal["auto", "natural", "data-free", "reference", "paper", "patch"] = Field(
        default="auto",
        description="Of prototypes: auto, natural, data-free, reference, paper or patch.",
    )
    parameterisation: Literal["auto", "fourier", "pixel", "phase"] = Field(
        default="auto", description="What of an image is optimised."
    )
    per_class: int = Field(default=3, ge=1, le=64, description="Prototypes of each class.")
    steps: Annotated[int, Field(ge=1, le=20000)] | None = Field(
        default=None,
        description="Optimisation steps of each; by default 256, or 128 for over 300 prototypes.",
    )
    probability: Unit = Field(
        default=0.9, description="A prototype has reached its class from this probability on."
    )
    batch: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None, description="Images that are optimised at once; by default what serves best."
    )
    early: bool = Field(
        default=False, description="Stop early at an image that is sure of its class."
    )
    diversity: float = Field(
        default=0.0, ge=0, description="Penalty on likeness between the prototypes of a class."
    )
    patch: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="Side of the patch over that of the image (mode patch).",
    )
    compile: bool = Field(
        default=False, description="Compile the network, which pays on a GPU and for many classes."
    )
    isolate: bool = Field(
        default=False, description="Find the region of each prototype that carries its class."
    )


class StatisticsConfig(Section):
    """Levels and sizes of the statistics."""

    q_level: Unit = Field(default=0.05, description="False discovery rate of each kind of test.")
    min_photos: int = Field(
        default=5, ge=2, description="Photos of a class below which it is not tested."
    )
    permutations: int = Field(
        default=9999, ge=99, le=10**6, description="Random concepts that scores are compared with."
    )
    bootstrap: int = Field(
        default=999, ge=99, le=10**6, description="Bootstrap replicates behind an interval."
    )


class SelfTestConfig(Section):
    """How many lab models the audit's settings are tried on (see `auditor.lab.selftest`)."""

    planted: int = Field(default=0, ge=0, le=1000, description="Lab models with planted shortcuts.")
    clean: int = Field(default=0, ge=0, le=1000, description="Lab models without shortcuts.")
    folder: str | None = Field(
        default=None,
        description="Keeps results for other audits; by default the run folder.",
    )


class ScopeConfig(Section):
    """The user's own words, shown in the report as such."""

    title: str | None = Field(default=None, description="Of the report.")
    intended_use: str | None = Field(default=None, description="What the model is to be used for.")
    exclusions: str | None = Field(default=None, description="What it is not to be used for.")


class AuditConfig(Section):
    """Everything that decides an audit's result, and where it is written.

    `labels` says what numbers that label photos are: outputs of the model, folder ids, names, or
    places in the order of the folders' names as text ("folder-order"); "auto" asks where readings
    differ. `trust_code` is for the probe what `ModelConfig.trust_code` is for the model.
    """

    model: ModelConfig = Field(
        description="torchvision:, timm:, hf:, mlflow:, file: or python: specification."
    )
    images: str = Field(
        description="Labelled photos: class folders, a manifest, a data set, or .tar files."
    )
    labels: Literal["auto", "index", "id", "name", "folder-order"] = Field(
        default="auto",
        description="Meaning of numbers that label photos: auto, index, id, name, folder-order.",
    )
    label_column: str | None = Field(default=None, description="The manifest's column of labels.")
    pool: str | None = Field(
        default=None, description="Any photos, unlabelled, that concepts are learned from."
    )
    probe: str = Field(
        default="offline", description="offline, or open_clip:MODEL/TAG, MODEL/TAG=FILE, FOLDER."
    )
    second_model: ModelConfig | None = Field(
        default=None,
        description="A model of the same classes that judges the prototypes, as --model.",
    )
    concepts: str | None = Field(default=None, description="One concept a line, or a TOML bank.")
    classes: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="Indices, folder ids or names, separated by commas; or a file of them.",
    )
    representative: bool = Field(
        default=True,
        description="Whether the labelled photos are like those the model learned from.",
    )
    anyway: bool = Field(
        default=False,
        description="Go on where accuracy says that labels or preprocessing are wrong.",
    )
    trust_code: bool = Field(
        default=False,
        description="Run code that comes with the model or the probe, such as pickles.",
    )
    expected: dict[str, tuple[str, ...]] = Field(
        default={},
        description="By class, concepts that it may rely on: no findings.",
    )
    out: str = Field(default="audit", description="The run folder.")
    work: str | None = Field(
        default=None,
        description="Folder of finished parts, which audits may share; by default work in out.",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or mps.")
    engine: Literal["process", "ray"] = Field(
        default="process",
        description="process, or ray: tasks are computed by workers of a Ray cluster.",
    )
    ray_address: str | None = Field(
        default=None, description="HOST:PORT or auto; by default RAY_ADDRESS, else a local Ray."
    )
    ray_workers: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="Most workers; by default as many as fit when the run begins."
    )
    ray_cpus: float = Field(default=1.0, gt=0, le=1024, description="Processors of each worker.")
    ray_gpus: Annotated[float, Field(ge=0, le=64)] | None = Field(
        default=None, description="GPUs of each worker; by default 1 where the cluster has any."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Decides every random number.")
    batch: int = Field(
        default=32, ge=1, le=4096, description="Photos that run through the model at once."
    )
    prototypes: PrototypeConfig = Field(
        default=PrototypeConfig(), description="How prototypes are made."
    )
    statistics: StatisticsConfig = Field(
        default=StatisticsConfig(), description="Levels and sizes of the statistics."
    )
    scope: ScopeConfig = Field(
        default=ScopeConfig(), description="The user's own words for the report."
    )
    self_test: SelfTestConfig = Field(
        default=SelfTestConfig(),
        description="Try the settings on so many planted, and as many clean, lab models.",
    )
    planted: str | None = Field(
        default=None, description="A file of the shortcuts that are known to be in the model."
    )
    pdf: Literal["auto", "no"] = Field(default="auto", description="Write the PDF too.")

    @staticmethod
    def load(path: Path | None, overrides: Mapping[str, Any]) -> AuditConfig:
        """Read a configuration and put the flags over it.

        Args:
            path: a `.toml`, `.yaml` or `.yml` file, or `None` for flags alone.
            overrides: values by dotted name (`"model.spec"`); `None` leaves the file's value.

        Raises:
            ConfigError: the file cannot be read, a name is unknown or a value is out of range.
        """
        data: dict[str, Any] = {} if path is None else _read(path)
        for name, value in overrides.items():
            if value is not None:
                _put(data, name, value)
        try:
            config = AuditConfig.model_validate(data)
        except ValidationError as error:
            # a misspelt name first, for it is why another is missing
            first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
            where = ".".join(str(part) for part in first["loc"]).replace(".size.0", ".size")
            if first["type"] == "extra_forbidden":
                raise ConfigError(f"There is no setting {where}; check its spelling.") from None
            if first["type"] == "missing":
                flag = "--" + where.replace("model.spec", "model").replace("_", "-")
                raise ConfigError(
                    f"{where} is missing: give {flag} or set it in the file."
                ) from None
            raise ConfigError(
                f"{where} = {_shown(first['input'])} cannot be used: {first['msg']}."
            ) from None
        for name, most in LONGEST.items():
            length = len(getattr(config.scope, name) or "")
            if length > most:
                raise ConfigError(
                    f"scope.{name} has {length:,} characters, at most {most:,} can be used: "
                    "shorten it."
                )
        return config


def _read(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path, limit=MOST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"Cannot read the configuration {path}: {why}.") from None
    if path.suffix not in {".toml", ".yaml", ".yml"}:
        raise ConfigError(f"{path} is neither .toml nor .yaml; rename it or convert it.")
    try:
        data = parse_toml(text) if path.suffix == ".toml" else yaml.load(text, _Settings)
    except Exception as error:  # PyYAML lets through what its readers of numbers and dates meet
        raise ConfigError(f"{path} cannot be parsed: {' '.join(str(error).split())}.") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds no table of settings.")
    if isinstance(data.get("model"), str):
        data["model"] = {"spec": data["model"]}
    return data


class _Settings(yaml.SafeLoader):
    """YAML without aliases, which let a small file stand for millions of values, and without
    repeated keys, of which the last would silently win."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "aliases (*) are not read; write the value out", mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{_shown(key.value)} is set twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _put(data: dict[str, Any], name: str, value: Any) -> None:
    *parents, last = name.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise ConfigError(f"{parent} = {_shown(data)} is no table of settings.")
    data[last] = value


def _shown(value: Any) -> str:
    return reprlib.repr(value)[:80]  # a value of anchors within anchors may stand for millions
