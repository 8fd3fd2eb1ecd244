"""What a model says about itself: input size, normalisation and class names.

Libraries, weights files and factories say different parts of it, the user the rest.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auditor.config import ModelConfig
from auditor.errors import ModelError
from auditor.preprocessing import Preprocess

__all__ = ["Description", "complete"]

Side = Annotated[int, Field(ge=1, le=4096)]


class Description(BaseModel):
    """Preprocessing and class names as far as a model says them; `None` is "does not say".

    The same fields, as JSON under the key "auditor", describe the model in the metadata of a
    `.safetensors` file, in the extra files of TorchScript and torch.export archives, and as a
    mapping in the attribute `auditor` of the module that a factory returns.

    Attributes:
        size: height and width of the input in pixels; one number for both.
        mean: of pixels in [0, 1] by channel; one number for a grey input.
        std: as `mean`.
        resize: shorter side in pixels before the centre crop; by default that of `size`.
        interpolation: filter for resizing, by default "bilinear".
        aspect: "crop" (the default) or "stretch".
        class_names: the name of each class.
        class_ids: the folder id of each class, such as a WordNet id.
        arch: `torchvision:NAME` or `timm:NAME`, for weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Side | tuple[Side, Side] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: Side | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None
    aspect: Literal["crop", "stretch"] | None = None
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
            resize=preprocess.resize,
            interpolation=preprocess.interpolation,
            aspect=preprocess.aspect,
        )

    def over(self, other: Description) -> Description:
        """This description, completed by another where it says nothing."""
        said = self.model_dump(exclude_none=True)
        return other.model_copy(update={name: getattr(self, name) for name in said})


def complete(description: Description, config: ModelConfig) -> Preprocess:
    """The preprocess that the model says, with the user's size, mean and std over it.

    Where the user gives another size, the margin that the centre crop takes away stays in
    proportion.

    Raises:
        ModelError: neither says the size, the mean or the std, or they do not fit together.
    """
    said = description.size
    own = (said, said) if isinstance(said, int) else said
    size = config.size or own
    if size is None:
        raise ModelError(f"{config.spec} does not say its input size; give it with --size.")
    resize = min(size)
    if description.resize is not None and own is not None:
        resize = round(description.resize * min(size) / min(own))
    mean, std = config.mean or description.mean, config.std or description.std
    if mean is None or std is None:
        raise ModelError(
            f"{config.spec} does not say how its input is normalised; give --mean and --std, "
            "for pixels in [0, 1]."
        )
    try:
        return Preprocess(
            size=size,
            mean=mean,
            std=std,
            resize=resize,
            interpolation=description.interpolation or "bilinear",
            aspect=description.aspect or "crop",
        )
    except ValueError as error:
        raise ModelError(f"The preprocessing of {config.spec} cannot be used: {error}.") from None
