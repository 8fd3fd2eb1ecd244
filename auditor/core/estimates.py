"""Numbers for readers, each with its interval and the number of units behind it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Count", "Estimate", "Finite"]

Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]  # what other readers of JSON keep exactly


class Estimate(BaseModel):
    """A number for readers: its value, a 95 % interval and the number of units behind it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: Finite
    low: Finite
    high: Finite
    n: Count

    @model_validator(mode="after")
    def _ordered(self) -> Estimate:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value} lies outside its interval [{self.low}, {self.high}]")
        return self
