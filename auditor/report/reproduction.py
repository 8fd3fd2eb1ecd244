"""The command that repeats an audit, and everything that decides its result."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from auditor.config import PLACES, AuditConfig
from auditor.core.storage import digest_value
from auditor.record.schema import Audit
from auditor.report.text import clean, name, number, told

__all__ = ["Reproduction", "command", "config_digest", "digests", "reproduction", "settings"]

Settings = Mapping[str, Any]  # of a record, by name

FLAGS = {
    "model.spec": "--model",
    "model.arch": "--arch",
    "model.class_names": "--class-names",
    "images": "--images",
    "pool": "--pool",
    "probe": "--probe",
    "concepts": "--concepts",
    "out": "--out",
    "device": "--device",
    "seed": "--seed",
}
ALWAYS = {"model.spec", "images", "probe", "out", "seed"}
FILE = "audit.toml"
LISTED = 100  # packages, and stages
VALUE = 12_000  # characters of one setting that are shown
WHOLE = 16_000  # of all settings
NAMED = 60  # of a setting's name, which may be a class's


@dataclass(frozen=True)
class Reproduction:
    """What is needed to repeat the audit and to check that it is the same one."""

    command: str
    settings: str
    digests: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    run: tuple[tuple[str, str], ...]
    seconds: tuple[tuple[str, str], ...]


def reproduction(audit: Audit) -> Reproduction:
    """Command, settings, digests, versions and times of an audit."""
    from_audit = audit.provenance
    packages = sorted(from_audit.packages.items())
    return Reproduction(
        command=told(command(audit.spec), VALUE),
        settings=_shown(settings(audit.spec)),
        digests=digests(audit),
        versions=(
            (name(audit.tool.name).short, name(audit.tool.version).short),
            *(
                (name(package).short, name(version).short)
                for package, version in packages[:LISTED]
                if package != audit.tool.name
            ),
        ),
        run=(
            ("Seeds", ", ".join(map(str, from_audit.seeds)) or "none"),
            ("Device", told(from_audit.device)),
            ("Started", told(from_audit.started)),
            ("Finished", told(from_audit.finished)),
            ("Record", f"audit.json, schema version {name(audit.schema_version)}"),
        ),
        seconds=tuple(
            (name(stage).short, number(value, 1))
            for stage, value in list(from_audit.seconds.items())[:LISTED]
        ),
    )


def digests(audit: Audit) -> tuple[tuple[str, str], ...]:
    """SHA-256 of everything that the result was computed from."""
    made_from = audit.provenance
    return (
        ("Model weights", told(made_from.weights_sha256)),
        ("Photos", told(made_from.images_digest)),
        ("Pool", told(made_from.pool_digest)),
        ("Concept bank", told(made_from.concepts_digest)),
        ("Probe", told(made_from.probe.digest)),
        ("Configuration", config_digest(audit.spec)),
        *((("Program", told(audit.tool.source)),) if audit.tool.source else ()),
    )


def config_digest(spec: Settings) -> str:
    """SHA-256 of the configuration's canonical JSON, without the output folder and the engine."""
    return digest_value({name: value for name, value in spec.items() if name not in PLACES})


def command(spec: Settings) -> str:
    """The command line; settings that have no flag are in a file, which it then names."""
    words = ["auditor", "audit"] + ([FILE] if settings(spec) else [])
    flat = _flat(spec)
    defaults = _defaults()
    for key, flag in FLAGS.items():
        if _as_flag(flat, key) and (key in ALWAYS or flat.get(key) != defaults.get(key)):
            words += [flag, str(flat[key])]
    return shlex.join(words)


def settings(spec: Settings) -> str:
    """TOML of every setting that differs from its default and is not on the command line."""
    flat = _flat(spec)
    defaults = _defaults()
    tables: dict[str, list[str]] = {}
    for key, value in flat.items():
        elsewhere = key in PLACES - {"out"}  # the same comes of it on any engine
        if elsewhere or value is None or value == defaults.get(key) or _as_flag(flat, key):
            continue
        table, _, last = key.rpartition(".")
        tables.setdefault(table, []).append(f"{_key(last)} = {_toml(value)}")
    parts = ["\n".join(tables.pop("", []))]
    parts += [f"[{table}]\n" + "\n".join(lines) for table, lines in tables.items()]
    return "\n\n".join(part for part in parts if part)


def _shown(text: str) -> str:
    """Settings without those that nobody would type; each that is left out is named."""
    shown: list[str] = []
    lines = text.splitlines()
    for place, line in enumerate(lines):
        if sum(map(len, shown)) + min(len(line), VALUE) > WHOLE:
            shown.append(f"# {len(lines) - place:,} more lines: see spec in audit.json")
            break
        key = line.partition(" = ")[0][:NAMED]
        long = f"# {key}: {len(line):,} characters, see spec in audit.json"
        shown.append(line if len(line) <= VALUE else long)
    return "\n".join(shown)


def _as_flag(flat: Mapping[str, Any], key: str) -> bool:
    """Whether a value can stand on the command line as it is shown."""
    text = flat.get(key)
    return key in FLAGS and text is not None and clean(str(text)) == str(text)


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted name; `expected` is one value, for its keys are class names."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict) and key != "expected":
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _defaults() -> dict[str, Any]:
    return _flat(
        AuditConfig.model_validate({"model": {"spec": ""}, "images": ""}).model_dump(mode="json")
    )


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    return repr(value)


def _key(text: str) -> str:
    bare = text.isascii() and text.replace("_", "").replace("-", "").isalnum()
    return text if bare else _string(text)


def _string(text: str) -> str:
    """A TOML basic string; what would not be shown as it is, is escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c == " " or clean(c) == c else f"\\U{ord(c):08x}" for c in quoted)
