"""What a notebook shows of an audit: its findings in a static table."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from auditor.record.schema import Audit, Finding
from auditor.report.captions import caption
from auditor.report.claims import claim
from auditor.report.names import Names
from auditor.report.pictures import Thumbnail, Thumbnails
from auditor.report.text import count, name
from auditor.report.words import GRADES, nothing_found

__all__ = ["render"]

SIDE = 128  # pixels of a picture's longer side


@dataclass(frozen=True)
class _Row:
    """One finding."""

    glyph: str
    grade: str
    claim: str
    picture: str | None
    caption: str


def render(audit: Audit, folder: Path, *, most: int) -> str:
    """A piece of HTML without script or link: the first findings, with their first pictures.

    Args:
        audit: the record.
        folder: with its pictures.
        most: findings that are shown.
    """
    names, thumbnails = Names(audit), Thumbnails(folder, side=SIDE)
    rows = [_row(finding, names, thumbnails) for finding in audit.findings[:most]]
    left, gaps = len(audit.findings) - len(rows), len(audit.coverage.not_tested)
    environment = Environment(
        loader=PackageLoader("auditor.templates", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("notebook.html").render(
        title=name(audit.title).full,
        lead=count(len(audit.findings), "finding")
        if audit.findings
        else nothing_found(audit, audit.coverage.hypotheses),
        rows=rows,
        more=f"{count(left, 'more finding')} not shown." if left else "",
        rest=f"{count(gaps, 'thing')} not assessed; the report says which and why.",
    )


def _row(finding: Finding, names: Names, thumbnails: Thumbnails) -> _Row:
    badge = GRADES[finding.grade]
    concept = names.concept(finding.concept)
    picture = finding.pictures[0] if finding.pictures else None
    made = None if picture is None else thumbnails.get(picture.file)
    return _Row(
        glyph=badge.glyph,
        grade=badge.word,
        claim=claim(finding, names[finding.class_index], concept),
        picture=f"data:image/jpeg;base64,{base64.b64encode(made.jpeg).decode()}"
        if isinstance(made, Thumbnail)
        else None,
        caption="" if picture is None else caption(picture, names, concept),
    )
