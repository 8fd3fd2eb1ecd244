"""The reference of `audit.json`, made from its JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["page"]


def page(schema: Path) -> str:
    """Markdown with a section for each object: its meaning, and a table of its fields."""
    whole = json.loads(schema.read_text(encoding="utf-8"))
    objects = {"Audit": whole, **whole["$defs"]}
    parts = [_section(name, one) for name, one in objects.items()]
    return "\n\n".join(parts)


def _section(name: str, schema: dict[str, Any]) -> str:
    lines = [f"## {name}", "", schema.get("description", "").strip(), ""]
    lines += ["| field | type | always there |", "|---|---|---|"]
    required = set(schema.get("required", ()))
    for field, value in schema.get("properties", {}).items():
        lines.append(
            f"| `{field}` | {_type(value)} | {'yes' if field in required else _default(value)} |"
        )
    return "\n".join(lines)


def _default(value: dict[str, Any]) -> str:
    return f"no: `{json.dumps(value['default'])}`" if "default" in value else "no"


def _type(value: dict[str, Any]) -> str:
    """A type in words, such as "list of `Finding`" or "number from 0 to 1, or null"."""
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[1]
        return f"[`{name}`](#{name.lower()})"
    if "anyOf" in value:
        return ", or ".join(_type(each) for each in value["anyOf"])
    if "enum" in value:
        return "one of " + ", ".join(f"`{each}`" for each in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    return _plain(value)


def _plain(value: dict[str, Any]) -> str:
    """A type that is made of no others but its elements."""
    kind = value.get("type", "anything")
    if kind == "array" and "prefixItems" in value:
        return f"list of {len(value['prefixItems'])}: {_type(value['prefixItems'][0])}"
    if kind == "array":
        return f"list of {_type(value.get('items', {}))}"
    if kind == "object" and isinstance(value.get("additionalProperties"), dict):
        return f"mapping from names to {_type(value['additionalProperties'])}"
    words = {"string": "text", "boolean": "true or false", "integer": "whole number"}
    return words.get(kind, kind) + _bounds(value)


def _bounds(value: dict[str, Any]) -> str:
    low, high = value.get("minimum"), value.get("maximum")
    if low is None and "exclusiveMinimum" in value:
        return f" above {value['exclusiveMinimum']:g}"
    if low is not None and high is not None and high < 2**31:
        return f" from {low:g} to {high:g}"
    return f", {low:g} or more" if low is not None else ""
