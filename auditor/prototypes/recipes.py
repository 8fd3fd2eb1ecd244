"""Recipes: the modes of prototype generation and their settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from auditor.prototypes.parameterisations import Name

__all__ = ["MODES", "Mode", "Recipe"]

Mode = Literal["natural", "data-free", "reference", "paper", "patch"]
MODES: tuple[Mode, ...] = ("natural", "data-free", "reference", "paper", "patch")


@dataclass(frozen=True)
class Recipe:
    """How prototypes are made.

    Attributes:
        mode: see the module.
        parameterisation: of the image.
        steps: at most.
        early: whether an image that is sure of its class cools down before its last steps.
        diversity: weight of a penalty on likeness between the seeds of a class; 0 leaves it out.
        patch: side of the patch over that of the image, for mode `patch`.
        compile: compile the network (`torch.compile`), which pays on a GPU and for many classes.
    """

    mode: Mode = "natural"
    parameterisation: Name = "fourier"
    steps: int = 256
    early: bool = False
    diversity: float = 0.0
    patch: float = 0.3
    compile: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.patch <= 1 or self.diversity < 0:
            raise ValueError(f"{self} is out of range")
