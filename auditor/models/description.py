"""What a model says about itself: how a photo becomes its input, and its class names.

Libraries, weights files and factories say different parts of it, the user the rest.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auditor.config import BACKGROUND, ModelConfig
from auditor.errors import ModelError
from auditor.images.decoding import AS_STORED, Decoding
from auditor.models.preprocessing import Preprocess
from auditor.record.schema import Remark

__all__ = ["Description", "assumptions", "complete"]

RAW_STD = 16.0
"""A larger std is of pixels of 0 to 255 (theirs is 255, or 40 to 80 of photos; or 1 with a mean);
one of pixels of 0 to 1 is at most 1."""

Values = tuple[float, ...]
Side = Annotated[int, Field(ge=1, le=4096)]


class Description(BaseModel):
    """Preprocessing and class names as far as a model says them; `None` is "does not say".

    The same fields, as JSON under the key "auditor", describe the model in the metadata of a
    `.safetensors` file, in the extra files of TorchScript and torch.export archives, and as a
    mapping in the attribute `auditor` of the module that a factory returns.

    Attributes:
        size: height and width of the input in pixels; one number for both.
        mean: of pixels by channel, in the order of `channels`; one number for a grey input.
        std: as `mean`.
        pixel_range: "0-1" or "0-255", the pixels that `mean` and `std` are of; by default what
            their size says. With "0-255" alone, the network takes raw pixels.
        channels: "rgb" (the default) or "bgr", the order of the network's input.
        resize: shorter side in pixels before the centre crop; by default that of `size`.
        interpolation: filter for resizing, by default "bilinear".
        aspect: "crop" (the default) or "stretch".
        background: under transparent pixels, by default "drop" (see
            `auditor.images.decoding.Decoding`).
        bit_depth: bits that pictures of 16 bits use, by default 16.
        orientation: "exif" (the default) or "stored".
        class_names: the name of each class.
        class_ids: the folder id of each class, such as a WordNet id.
        arch: `torchvision:NAME` or `timm:NAME`, for weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Side | tuple[Side, Side] | None = None
    mean: Values | None = None
    std: Values | None = None
    pixel_range: Literal["0-1", "0-255"] | None = None
    channels: Literal["rgb", "bgr"] | None = None
    resize: Side | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None
    aspect: Literal["crop", "stretch"] | None = None
    background: Annotated[str, Field(pattern=BACKGROUND)] | None = None
    bit_depth: Annotated[int, Field(ge=8, le=16)] | None = None
    orientation: Literal["exif", "stored"] | None = None
    class_names: tuple[str, ...] | None = None
    class_ids: tuple[str, ...] | None = None
    arch: str | None = None

    @staticmethod
    def parse(value: object, *, source: str) -> Description:
        """The description in a mapping, or in JSON text; empty text describes nothing.

        Raises:
            ModelError: it is not what a description can hold.
        """
        if value is None or value in ("", b""):
            return Description()
        try:
            if isinstance(value, str | bytes):
                value = json.loads(value)
            return Description.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "all of it"
            problem = f"{where}: {first['msg']}"
        except (ValueError, RecursionError) as error:
            problem = str(error)
        raise ModelError(f"The description that {source} carries cannot be used: {problem}.")

    @staticmethod
    def of(preprocess: Preprocess) -> Description:
        """All that a preprocess says."""
        return Description(
            size=preprocess.size,
            mean=preprocess.mean,
            std=preprocess.std,
            pixel_range="0-1",
            channels=preprocess.channels,
            resize=preprocess.resize,
            interpolation=preprocess.interpolation,
            aspect=preprocess.aspect,
            background=preprocess.decoding.background,
            bit_depth=preprocess.decoding.bit_depth,
            orientation=preprocess.decoding.orientation,
        )

    def over(self, other: Description) -> Description:
        """This description, completed by another where it says nothing."""
        said = self.model_dump(exclude_none=True)
        return other.model_copy(update={name: getattr(self, name) for name in said})


def complete(description: Description, config: ModelConfig) -> Preprocess:
    """The preprocess that the user states, over what the model says, over what is usual.

    Where the user gives another size and no `resize`, the margin that the centre crop takes away
    stays in proportion. A mean and std of pixels of 0 to 255 become those of pixels in [0, 1].

    Raises:
        ModelError: neither says the size, the mean or the std, or they do not fit together.
    """
    own = _sides(description.size)
    size = config.size or own
    if size is None:
        raise ModelError(
            f"{config.spec} does not say its input size; give it with --size, and where training "
            "did more than make the shorter side that long and crop the centre, --resize, "
            "--aspect and --interpolation."
        )
    mean, std, _ = _normalisation(description, config)
    stated = Description(
        interpolation=config.interpolation,
        aspect=config.aspect,
        channels=config.channels,
        background=config.background,
        bit_depth=config.bit_depth,
        orientation=config.orientation,
    ).over(description)
    try:
        return Preprocess(
            size=size,
            mean=mean,
            std=std,
            resize=_resize(description, config, size),
            interpolation=stated.interpolation or "bilinear",
            aspect=stated.aspect or "crop",
            channels=stated.channels or "rgb",
            decoding=Decoding(
                background=stated.background or AS_STORED.background,
                bit_depth=stated.bit_depth or AS_STORED.bit_depth,
                orientation=stated.orientation or AS_STORED.orientation,
            ),
        )
    except ValueError as error:
        raise ModelError(f"The preprocessing of {config.spec} cannot be used: {error}.") from None


def assumptions(description: Description, config: ModelConfig) -> tuple[Remark, ...]:
    """What `complete` took that nobody had stated in these words."""
    found: list[Remark] = []
    preprocess = complete(description, config)
    mean, std, rescaled = _normalisation(description, config)
    if rescaled and (config.pixel_range or description.pixel_range) is None:
        given = f"mean {_listed(config.mean or description.mean)} and std "
        given += _listed(config.std or description.std)
        found.append(
            Remark(
                code="normalisation-of-0-to-255",
                text=f"The {given} are of pixels of 0 to 255 and were divided by 255: mean "
                f"{_listed(mean)} and std {_listed(std)} of pixels of 0 to 1; give --pixel-range "
                "if that is wrong.",
            )
        )
    unsaid = [
        name
        for name in ("resize", "aspect", "interpolation")
        if getattr(config, name) is None and getattr(description, name) is None
    ]
    height, width = preprocess.size
    if "aspect" in unsaid:
        found.append(
            Remark(
                code="resizing-not-stated",
                text=f"Nobody states how photos become {height} x {width} pixels ("
                f"{', '.join(unsaid)}); they are resized to {preprocess.resize} pixels on the "
                f"shorter side ({preprocess.interpolation}) and the centre is cropped; give "
                f"{', '.join('--' + name for name in unsaid)} if training did otherwise.",
            )
        )
    if preprocess.resize < min(preprocess.size):
        found.append(
            Remark(
                code="padded-crop",
                text=f"Photos are resized to {preprocess.resize} pixels and padded with black to "
                f"{height} x {width}, as torchvision's centre crop does.",
            )
        )
    return tuple(found)


def _sides(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    return (size, size) if isinstance(size, int) else size


def _resize(description: Description, config: ModelConfig, size: tuple[int, int]) -> int:
    own = _sides(description.size)
    if config.resize is not None:
        return config.resize
    if description.resize is None:
        return min(size)
    return round(description.resize * min(size) / min(own or size))


def _normalisation(description: Description, config: ModelConfig) -> tuple[Values, Values, bool]:
    """Mean and std for pixels in [0, 1], and whether they were divided by 255 to become that.

    Raises:
        ModelError: they are not said, or belong to no range of pixels, or to two.
    """
    mean, std = config.mean or description.mean, config.std or description.std
    pixel_range = config.pixel_range or description.pixel_range
    if mean is None and std is None and pixel_range == "0-255":
        mean, std = (0.0,) * 3, (1.0,) * 3
    if mean is None or std is None:
        raise ModelError(
            f"{config.spec} does not say how its input is normalised; give --mean and --std, "
            "for pixels of 0 to 1 or of 0 to 255, or --pixel-range 0-255 alone if it takes raw "
            "pixels."
        )
    given = f"mean {_listed(mean)} and std {_listed(std)}"
    if not mean or not std or not all(map(math.isfinite, (*mean, *std))):
        raise ModelError(
            f"The preprocessing of {config.spec} cannot be used: {given} must hold finite numbers."
        )
    raw = set(mean) == {0.0} and set(std) == {1.0}  # of either range: the pixels as they are
    of_255 = max(mean) > 1 or max(std) > RAW_STD
    of_1 = not raw and (0 < max(mean) <= 1 or min(std) < 1)
    if max(mean) > 255 or max(std) > 255 or (of_255 and of_1):
        raise ModelError(
            f"The preprocessing of {config.spec} cannot be used: {given} fit neither pixels of 0 "
            "to 1 nor pixels of 0 to 255."
        )
    if (pixel_range == "0-1" and of_255) or (pixel_range == "0-255" and of_1):
        other = "0-255" if of_255 else "0-1"
        raise ModelError(
            f"The preprocessing of {config.spec} cannot be used: pixel range {pixel_range} is "
            f"stated with {given}, which are of pixels of {other.replace('-', ' to ')}; give "
            f"--pixel-range {other}, or other --mean and --std."
        )
    if not of_255 and pixel_range != "0-255":
        return mean, std, False
    return tuple(value / 255 for value in mean), tuple(value / 255 for value in std), True


def _listed(values: Values | None) -> str:
    return ",".join(f"{value:.4g}" for value in values or ())
