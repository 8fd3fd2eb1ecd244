"""Coded notes: a code with its numbers, which the report turns into a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from auditor.record.codes import (
    CAVEATS,
    MATERIALS,
    REASONS,
    VERDICT_REASONS,
    CaveatCode,
    MaterialCode,
    Meaning,
    ParamKind,
    ReasonCode,
    VerdictCode,
)
from auditor.record.values import Param, Record

__all__ = ["Caveat", "Material", "Note", "Reason", "VerdictReason"]

KINDS: Mapping[ParamKind, tuple[type, ...]] = {
    "count": (int,),
    "number": (int, float),
    "flag": (bool,),
    "text": (str,),
    "texts": (tuple,),
}


class Note(Record):
    """A code, and the plain values that its sentence needs (see `auditor.record.codes`).

    Values that the code does not need are kept: a later version may add some.
    """

    meanings: ClassVar[Mapping[Any, Meaning]] = {}

    code: str
    params: dict[str, Param] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> Note:
        meaning = self.meanings.get(self.code)
        for name, kind in (meaning.params if meaning else {}).items():
            value = self.params.get(name)
            if not isinstance(value, KINDS[kind]) or isinstance(value, bool) != (kind == "flag"):
                raise ValueError(f"code {self.code} needs {name}, a {kind}")
            if kind == "text" and not str(value).strip():
                raise ValueError(f"code {self.code} needs {name}, which is empty")
        return self

    def number(self, name: str) -> float:
        """A value that is a number."""
        value = self.params[name]
        assert isinstance(value, int | float)
        return value

    def count(self, name: str) -> int:
        """A value that is a whole number."""
        return int(self.number(name))

    def text(self, name: str) -> str:
        """A value that is a text; an empty one where there is none."""
        return str(self.params.get(name, ""))

    def texts(self, name: str) -> tuple[str, ...]:
        """A value that is a list of texts."""
        value = self.params[name]
        assert isinstance(value, tuple)
        return value


class Caveat(Note):
    """What a reader must know of a finding's evidence."""

    meanings = CAVEATS
    code: CaveatCode


class Reason(Note):
    """Why something is missing."""

    meanings = REASONS
    code: ReasonCode


class Material(Note):
    """What prototypes were made from, beside the model."""

    meanings = MATERIALS
    code: MaterialCode


class VerdictReason(Note):
    """What a verdict rests on."""

    meanings = VERDICT_REASONS
    code: VerdictCode
