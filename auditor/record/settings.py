"""The settings of an audit, as its record keeps them: plain values.

A setting that a later version adds is no change of the schema: who needs a setting reads the whole
through `resolved`, which leaves out what it does not know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, JsonValue, ValidationError

from auditor.config import AuditConfig

__all__ = ["Settings", "resolved", "without"]


def resolved(spec: Mapping[str, Any]) -> AuditConfig:
    """The configuration that plain settings stand for; a setting that is not known is left out.

    Raises:
        ValueError: a known setting has a value that it cannot have, or a necessary one is missing.
    """
    data: Any = dict(spec)
    for _ in range(2):
        try:
            return AuditConfig.model_validate(data)
        except ValidationError as error:
            unknown = [e["loc"] for e in error.errors() if e["type"] == "extra_forbidden"]
            if not unknown:
                first = error.errors()[0]
                where = ".".join(["spec", *(str(part)[:40] for part in first["loc"])])
                raise ValueError(f"{where}: {first['msg']}") from None
            data = without(data, unknown)
    raise ValueError("spec: its settings cannot be read")  # what is left out is not missed


def without(data: Any, places: list[tuple[int | str, ...]]) -> Any:
    """A copy of plain values without those at some places."""
    if isinstance(data, dict):
        kept = [key for key in data if (key,) not in places]
    elif isinstance(data, list):
        kept = [place for place in range(len(data)) if (place,) not in places]
    else:
        return data
    inner = {key: [p[1:] for p in places if p and p[0] == key and len(p) > 1] for key in kept}
    copied = {key: without(data[key], inner[key]) if inner[key] else data[key] for key in kept}
    return copied if isinstance(data, dict) else list(copied.values())


def _finite(value: JsonValue) -> JsonValue:
    """Refuse what is no number: it has no place in JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a setting is no finite number")
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        _finite(part)
    return value


def _readable(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    resolved(value)
    _finite(value)
    return value


Settings = Annotated[dict[str, JsonValue], AfterValidator(_readable)]
"""Plain settings that `resolved` can read."""
