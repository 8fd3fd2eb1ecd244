"""The files beside a report of many classes: the list of all, and a page for each.

Each is an HTML file by itself, as the report is, and links to the others and to the report only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from auditor.record.schema import Audit
from auditor.report.cards import cards
from auditor.report.classes import ClassPage, ClassRow, PageMaker
from auditor.report.html import Embedded, environment
from auditor.report.names import Names
from auditor.report.parts import HTML
from auditor.report.pictures import Thumbnails
from auditor.report.places import LIST, PER_FILE, addresses, file_name, ranked
from auditor.report.text import Name, count, instant, moment, name
from auditor.report.words import CHANNELS

__all__ = ["render"]


@dataclass(frozen=True)
class PageFile:
    """One file: pages of some classes, or the list of all."""

    title: Name
    audit: Name
    tool: str
    finished: str
    dated: str
    heading: str
    links: tuple[tuple[str, str], ...]
    pages: tuple[ClassPage, ...]
    rows: tuple[ClassRow, ...]
    channels: tuple[str, ...]
    channel_meanings: tuple[tuple[str, str], ...]


def render(audit: Audit, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files, one after the other: they are too many to hold at once.

    Args:
        audit: the record.
        folder: with its pictures.
    """
    ordered, names = ranked(audit), Names(audit)
    limits = replace(HTML, cards=len(audit.findings), concepts=max(
        (len(c.concepts) for c in ordered), default=0))  # fmt: skip
    beside = addresses(audit, within=True)
    maker = PageMaker(audit, names, cards(audit, names, limits, beside), limits, beside)
    whole = _file(audit, f"All {count(len(ordered), 'audited class', 'audited classes')}")
    up = ("../report.html", "The report")
    picture = Embedded(Thumbnails(folder))
    template = environment("html", picture, picture.font).get_template("pages.html")
    rows = tuple(maker.row(c) for c in ordered)
    yield LIST, template.render(report=replace(whole, links=(up,), rows=rows)).encode()
    for start in range(0, len(ordered), PER_FILE):
        part, number = ordered[start : start + PER_FILE], start // PER_FILE
        links = [up, (LIST, "All classes")]
        if start:
            links.append((file_name(number - 1), "More divergent classes"))
        if start + PER_FILE < len(ordered):
            links.append((file_name(number + 1), "Less divergent classes"))
        heading = (
            f"Classes {start + 1:,} to {start + len(part):,} of {len(ordered):,} by divergence"
        )
        shown = replace(
            _file(audit, heading), links=tuple(links), pages=tuple(maker.page(c) for c in part)
        )
        picture.begin(Thumbnails(folder))
        yield file_name(number), template.render(report=shown).encode()


def _file(audit: Audit, heading: str) -> PageFile:
    """A file without content."""
    finished = instant(audit.provenance.finished)
    title = name(audit.title, 90)
    return PageFile(
        title=Name(f"{heading} · {title.short}", f"{heading} · {title.full}"),
        audit=title,
        tool=f"{name(audit.tool.name)} {name(audit.tool.version)}",
        finished=moment(audit.provenance.finished),
        dated="" if finished is None else f"{finished:%Y-%m-%dT%H:%M:%SZ}",
        heading=heading,
        links=(),
        pages=(),
        rows=(),
        channels=tuple(title for _, title, _ in CHANNELS),
        channel_meanings=tuple((title, meaning) for _, title, meaning in CHANNELS),
    )
