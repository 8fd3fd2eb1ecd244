"""The base of all saved values, and the numbers and texts that they hold."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Correlated", "Param", "Positive", "Probability", "Rank", "Record", "Seed", "Text"]

MOST = 2**53  # up to which other readers of JSON keep whole numbers exactly

Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Correlated = Annotated[float, Field(ge=-1.00001, le=1.00001, allow_inf_nan=False)]  # rounding
Rank = Annotated[int, Field(ge=1, le=MOST)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]
Text = Annotated[str, Field(min_length=1)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Param = (
    bool
    | Annotated[int, Field(ge=-MOST, le=MOST)]
    | Annotated[float, Field(allow_inf_nan=False)]
    | str
    | tuple[str, ...]
)
"""A plain value beside a code."""


class Record(BaseModel):
    """Base of all saved values: frozen, and no unknown field is accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid")
