"""Reports of the synthetic audit: written once, and read as a browser or reader does."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pikepdf
import pytest
import tinyhtml5  # type: ignore[import-untyped]
from audits import audit, run_folder
from filelock import FileLock

from auditor import report
from auditor.record.schema import Audit
from auditor.report import html, pictures

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for the processes of all tests: the first to come writes the audit and its report."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(shared / "run.lock"):
        if not (shared / "run").exists():
            (shared / "being written").mkdir()
            made = run_folder(shared / "being written", audit(hostile=True, self_test=True))
            report.write(made)
            made.rename(shared / "run")
    return shared / "run"


@pytest.fixture(scope="session")
def written(folder: Path) -> list[Path]:
    return [folder / "report.html", folder / "report.pdf"]


@pytest.fixture(scope="session")
def page(written: list[Path]) -> Element:
    return parse(written[0].read_bytes())


@pytest.fixture(scope="session")
def document(written: list[Path]) -> Any:
    with pikepdf.open(written[1]) as opened:
        yield opened


def parse(data: bytes) -> Element:
    parsed: Element = tinyhtml5.parse(data.decode(), namespace_html_elements=False)
    return parsed


def rendered(saved: Audit, tmp_path: Path) -> Element:
    return parse(html.render(saved, pictures.Thumbnails(tmp_path)))


def words_of(element: Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def headings(root: Element) -> list[tuple[int, str]]:
    return [
        (int(e.tag[1]), words_of(e)) for e in root.iter() if re.fullmatch(r"h[1-6]", str(e.tag))
    ]
