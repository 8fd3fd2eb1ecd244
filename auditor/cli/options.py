"""The options of `auditor audit`, made from the settings of `auditor.config`.

An option takes its help from the setting's description and its kind from the setting's type. What
the settings are checked for stands in `auditor.config` alone.
"""

from __future__ import annotations

import functools
import inspect
import os
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from auditor.config import AuditConfig
from auditor.core.storage import read_text
from auditor.errors import ConfigError

__all__ = ["overrides", "with_settings"]

MOST_BYTES = 4 * 2**20  # of a list of classes


@dataclass(frozen=True)
class Option:
    """An option that sets one setting, or several alike.

    Attributes:
        name: of the function's argument; `label_column` is `--label-column`.
        settings: dotted names.
        kind: what the option takes; a `bool` has a `--no-` form too.
        help: as `--help` shows it.
        read: makes the setting of what was given.
        hidden: whether `--help` leaves it out.
    """

    name: str
    settings: tuple[str, ...]
    kind: type
    help: str | None
    read: Callable[[Any], Any] = lambda given: given
    hidden: bool = False

    def parameter(self) -> inspect.Parameter:
        """The argument that typer makes the option of."""
        option = typer.Option(help=self.help, hidden=self.hidden)
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[self.kind | None, option],
        )


def _option(described: str, *settings: str, kind: type | None = None, **more: Any) -> Option:
    """The option of a setting, by dotted name.

    Args:
        described: the setting that gives name and help.
        settings: what is set, where that is another setting or several.
        kind: what the option takes, where the setting's type does not say it.
        more: what else the option has.
    """
    section: Any = AuditConfig
    *parents, name = described.split(".")
    for parent in parents:
        section = section.model_fields[parent].annotation
    field = section.model_fields[name]
    return Option(
        name, settings or (described,), kind or _kind(field.annotation), field.description, **more
    )


def _kind(annotation: Any) -> type:
    """`bool` or `int` for settings that are such, else `str`: a text that is checked later."""
    kinds = {annotation, *typing.get_args(annotation)}
    kinds |= {origin for kind in kinds if (origin := getattr(kind, "__origin__", None))}
    return next((kind for kind in (bool, int) if kind in kinds), str)


def _numbers(flag: str) -> Callable[[str], tuple[float, ...]]:
    def read(text: str) -> tuple[float, ...]:
        try:
            return tuple(float(part) for part in text.split(","))
        except ValueError:
            raise ConfigError(
                f"{flag} {text!r} is no list of numbers such as 0.5,0.5,0.5."
            ) from None

    return read


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _sides(text: str) -> int | tuple[int, int]:
    """A side of a square, or height and width, as in `224` and `256x128`."""
    sides = [part for part in text.lower().split("x") if part.isascii() and part.isdigit()]
    if len(sides) != text.lower().count("x") + 1 or len(sides) > 2 or max(map(len, sides)) > 6:
        raise ConfigError(
            f"--size {text[:80]!r} is neither a side nor HEIGHTxWIDTH, such as 256x128."
        )
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def _classes(text: str) -> tuple[str, ...]:
    path = Path(text)
    if os.path.exists(path) and not path.is_dir():  # a list of names may be too long for a path
        try:
            lines = read_text(path, limit=MOST_BYTES).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"Cannot read the classes in {path}: {error}.") from None
        return tuple(line.strip() for line in lines if line.strip())
    return _names(text)


TRUSTED = ("model.trust_code", "trust_code")
OPTIONS = (
    _option("model", "model.spec", kind=str),
    *map(_option, ("images", "pool", "probe", "concepts", "representative")),
    _option("classes", read=_classes),
    *map(_option, ("out", "work", "device", "engine", "ray_address", "seed")),
    *map(_option, ("model.arch", "model.weights")),
    _option("model.size", read=_sides),
    *map(_option, ("model.resize", "model.aspect", "model.interpolation")),
    _option("model.mean", read=_numbers("--mean")),
    _option("model.std", read=_numbers("--std")),
    *map(_option, ("model.pixel_range", "model.channels", "model.background", "model.bit_depth")),
    *map(_option, ("model.orientation", "model.output", "labels", "label_column", "anyway")),
    _option("model.class_names"),
    _option("model.layers", read=_names),
    *map(_option, ("prototypes.per_class", "prototypes.steps", "prototypes.mode")),
    _option("prototypes.isolate"),
    _option("second_model", "second_model.spec", kind=str),
    _option("trust_code", *TRUSTED),
    Option("trust_pickle", TRUSTED, bool, "The older name of --trust-code.", hidden=True),
    _option("self_test", "self_test.planted", "self_test.clean", kind=int),
    _option("pdf", kind=bool, read=lambda wanted: "auto" if wanted else "no"),
)
"""In the order of `--help`. Of two options for one setting the first that is given decides."""


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose `**given` are the options, as typer reads them from its signature."""

    @functools.wraps(command)
    def called(**given: Any) -> None:
        command(**given)

    signature = inspect.signature(command, eval_str=True)
    *own, _ = signature.parameters.values()
    parameters = [*own, *(option.parameter() for option in OPTIONS)]
    called.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return called


def overrides(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name, of the options that were given.

    Raises:
        ConfigError: a text is no list of numbers, no size or no file that can be read.
    """
    settings: dict[str, Any] = {}
    for option in OPTIONS:
        value = given[option.name]
        if value is not None:
            for name in option.settings:
                settings.setdefault(name, option.read(value))
    return settings
