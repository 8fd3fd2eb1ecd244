"""Reading a saved audit: of this version, of an older one, or of a later minor one.

A record of an older major version is migrated (`auditor.record.migration`). Of one with a later
minor version, what this program does not know is left out, and a remark says so: a field, or a code
whose words it lacks. A later major version is refused.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from auditor.errors import RunError
from auditor.record.migration import MigrationError, migrated
from auditor.record.schema import SCHEMA_VERSION, Audit, Remark
from auditor.record.settings import without

__all__ = ["read"]

VERSION = re.compile(r"(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})")
MOST_BYTES = 2**30  # of a record that is read
NAMED = 5  # of what was left out, in the remark that says so


def read(path: Path) -> Audit:
    """Read a saved audit.

    Raises:
        RunError: the file is missing, is not JSON, or does not fit the schema.
    """
    data = _parsed(path)
    version = data.get("schema_version") if isinstance(data, dict) else None
    known = VERSION.fullmatch(version) if isinstance(version, str) else None
    own = _numbers(SCHEMA_VERSION)
    if known is None or not 1 <= int(known[1]) <= own[0]:
        raise RunError(
            f"{path} has schema version {version!r:.40}, this program reads 1.0 to {own[0]}.x; "
            "render it with the version that wrote it."
        )
    later = _numbers(known[0]) > own
    try:
        if later:
            return _tolerant(data)
        return Audit.model_validate(data if int(known[1]) == own[0] else migrated(data))
    except ValidationError as error:
        raise RunError(f"{path} is not a valid audit: {_why(error, known[0], later)}.") from None
    except MigrationError as error:
        raise RunError(f"{path} is not a valid audit: {error}.") from None


def _numbers(version: str) -> tuple[int, int]:
    major, minor = version.split(".")
    return int(major), int(minor)


def _why(error: ValidationError, version: str, later: bool) -> str:
    """What does not fit, in a clause."""
    first = error.errors()[0]
    where = ".".join(str(part)[:40] for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    told = what if not where or what.startswith(f"{where}.") else f"{where}: {what}"
    if not later:
        return told
    return (
        f"{told} (its schema version {version} is later than {SCHEMA_VERSION}; a later version of "
        "this program may read it)"
    )


def _tolerant(data: dict[str, Any]) -> Audit:
    """A record of a later minor version, without what this one does not know.

    Raises:
        ValidationError: what is left does not fit.
    """
    try:
        return Audit.model_validate(data)
    except ValidationError as error:
        found = error.errors()
    left_out = [tuple(e["loc"]) for e in found if e["type"] == "extra_forbidden"]
    unknown = [tuple(e["loc"]) for e in found if e["type"] == "literal_error"]
    left_out += [place[:-1] for place in unknown if place[-3:-2] == ("pictures",)]
    codes = [place for place in unknown if place[-1] in ("code", "what")]
    for *place, last in codes:
        _reword(_at(data, place), str(last))
    audit = Audit.model_validate(without(data, left_out))
    names = dict.fromkeys(".".join(p for p in place if isinstance(p, str))[:80]
                          for place in (*left_out, *codes))  # fmt: skip
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    remark = Remark(
        code="record_later",
        text=f"The record has schema version {data['schema_version']}, later than "
        f"{SCHEMA_VERSION}, which this program knows. It left out or could not put into words: "
        f"{', '.join([*names][:NAMED])}{more}.",
    )
    coverage = audit.coverage.model_copy(update={"remarks": (*audit.coverage.remarks, remark)})
    return audit.model_copy(update={"coverage": coverage})


def _at(data: Any, place: Sequence[int | str]) -> dict[str, Any]:
    """The object at a place of plain values."""
    for part in place:
        data = data[part]
    found: dict[str, Any] = data
    return found


def _reword(entry: dict[str, Any], which: str) -> None:
    """Put a text in the place of a code that is not known: its own name and its values."""
    if which == "code":
        entry["params"] = {"text": f"{entry['code']} {json.dumps(entry.get('params', {}))}"}
        entry["code"] = "text"
    else:
        entry["reason"].setdefault("params", {})["what"] = str(entry["what"])
        entry["what"] = "text"


def _parsed(path: Path) -> Any:
    """The file's JSON; a link to a device, or a file that no audit can be, is not read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise RunError(f"Cannot read the audit {path}: it is no regular file.")
        if status.st_size > MOST_BYTES:
            raise RunError(f"Cannot read the audit {path}: it has more than {MOST_BYTES:,} bytes.")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"Cannot read the audit {path}: {error}.") from None
    try:
        return json.loads(text, object_pairs_hook=_told_once)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is not valid JSON ({error}); run the audit again.") from None


def _told_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are different: of two values readers would take one each."""
    told = dict(pairs)
    if len(told) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return told
