"""The report as one HTML file that opens anywhere: no script, no network, nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditor.record.schema import Audit
from auditor.report.parts import HTML
from auditor.report.pictures import Missing, Thumbnails
from auditor.report.view import Report, build

__all__ = [
    "Embedded",
    "Source",
    "environment",
    "font_bytes",
    "page",
    "render",
]

# Of embedded pictures, in characters: with fonts, tables and charts the file stays below 10 MB.
PICTURE_BUDGET = 6_000_000
LONGEST_WORD = 30  # in characters: longer ones are addresses, digests and the like
POLICY = "default-src 'none'; img-src data:; font-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Source:
    """Where a medium finds a picture, and its size in pixels."""

    url: str
    width: int
    height: int


class Embedded:
    """Pictures and fonts as parts of an HTML file; pictures up to a budget for each file."""

    def __init__(self, thumbnails: Thumbnails, budget: int = PICTURE_BUDGET) -> None:
        self._thumbnails, self._budget, self._left = thumbnails, budget, budget

    def begin(self, thumbnails: Thumbnails) -> None:
        """Begin another file, with thumbnails of its own that are freed after it."""
        self._thumbnails, self._left = thumbnails, self._budget

    def __call__(self, file: str) -> Source | Missing:
        """A picture as a part of the file, or why it is none."""
        thumbnail = self._thumbnails.get(file)
        if isinstance(thumbnail, Missing):
            return thumbnail
        url = _data_url("image/jpeg", thumbnail.jpeg)
        if len(url) > self._left:
            return Missing("left out to keep this file small; it is in the run folder")
        self._left -= len(url)
        return Source(url, thumbnail.width, thumbnail.height)

    def font(self, file: str) -> str:
        """The address of a font."""
        return _data_url("font/woff2", font_bytes(file))


def render(audit: Audit, thumbnails: Thumbnails, *, budget: int = PICTURE_BUDGET) -> bytes:
    """The HTML report: the same audit and pictures give the same bytes."""
    picture = Embedded(thumbnails, budget)
    return page(build(audit, HTML), "html", picture, picture.font).encode()


def page(
    report: Report,
    medium: Literal["html", "pdf"],
    picture: Callable[[str], Source | Missing],
    font: Callable[[str], str],
) -> str:
    """The document in one medium; pictures and fonts are found by the functions given."""
    found = environment(medium, picture, font)
    found.globals.update(report=report)
    return found.get_template("report.html").render()


def environment(
    medium: Literal["html", "pdf"],
    picture: Callable[[str], Source | Missing],
    font: Callable[[str], str],
) -> Environment:
    """The templates, for one medium."""
    found = Environment(
        loader=PackageLoader("auditor.templates", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals.update(medium=medium, picture=picture, font=font, policy=POLICY)
    found.filters["wrapping"] = _wrapping
    return found


def font_bytes(file: str) -> bytes:
    """A font of the report."""
    return (resources.files("auditor.data") / "fonts-report" / file).read_bytes()


def _wrapping(text: str) -> str:
    """Text that may break anywhere where it has no other place to: a page has an end.

    Elsewhere it must not, for a column could then shrink to a letter's width.
    """
    if max(map(len, text.split()), default=0) <= LONGEST_WORD:
        return text
    return Markup('<span class="run">{}</span>').format(text)


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
