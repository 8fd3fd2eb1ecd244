"""Where the classes and findings of an audit stand that one file has no room for.

A report of few classes is one file. Beside a larger one lies the folder `report`: the list of all
classes, and files with a page for each of them, from the most divergent class on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from auditor.record.schema import Audit, AuditedClass
from auditor.report.parts import HTML
from auditor.report.text import count

__all__ = ["FOLDER", "LIST", "NOWHERE", "PER_FILE", "Places", "addresses", "file_name", "ranked"]

FOLDER = "report"
LIST = "classes.html"
PER_FILE = 25  # classes: a file of 1 MB, and 840 of them for 21,000 classes


@dataclass(frozen=True)
class Places:
    """Relative addresses, as seen from one file; empty where there are none.

    Attributes:
        files: of each class's page, by the class's index.
        whole: of the list of all classes.
        told: where all classes are, in words; empty where all are in `report.html`.
    """

    files: Mapping[int, str]
    whole: str
    told: str

    def page(self, index: int) -> str:
        """The page of a class."""
        return f"{self.files[index]}#class-{index}" if index in self.files else ""

    def finding(self, index: int, anchor: str) -> str:
        """The card of a finding on its class's page."""
        return f"{self.files[index]}#{anchor}" if index in self.files else ""


NOWHERE = Places({}, "", "")


def addresses(audit: Audit, *, within: bool = False, linked: bool = True) -> Places:
    """Where the classes of an audit have their pages.

    Args:
        audit: the record.
        within: whether they are seen from a file in the folder, not from `report.html`.
        linked: whether the medium can link to other files; a PDF cannot, and only tells.
    """
    if len(audit.classes) <= HTML.class_pages and len(audit.findings) <= HTML.cards:
        return NOWHERE
    told = (
        f"{count(len(audit.classes), 'class has its page', 'classes have their pages')} in the "
        f"folder “{FOLDER}” beside report.html"
    )
    if not linked:
        return Places({}, "", told)
    above = "" if within else f"{FOLDER}/"
    files = {c.index: above + file_name(place // PER_FILE) for place, c in enumerate(ranked(audit))}
    return Places(files, above + LIST, told)


def file_name(number: int) -> str:
    """The name of a file with pages of classes, from 0 on."""
    return f"classes-{number + 1:04}.html"


def ranked(audit: Audit) -> list[AuditedClass]:
    """Classes from the most divergent on, then those without a divergence."""

    def place(c: AuditedClass) -> tuple[bool, int, int]:
        there = c.divergence.score is not None and c.divergence.rank is not None
        return (not there, c.divergence.rank or 0 if there else 0, c.index)

    return sorted(audit.classes, key=place)
