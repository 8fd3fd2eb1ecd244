"""Pages that are made from the program itself, so that they cannot fall behind it.

Before Sphinx reads the pages, the API reference is written to `docs/reference/api/`, a page for
each chapter of the package. A page of the documentation that holds one of these lines gets its
content in that place:

    <!-- generated: record -->      every object of `docs/audit.schema.json`
    <!-- generated: settings -->    every setting of `auditor.config`
    <!-- generated: drawings -->    every drawing, by its kind
"""

from __future__ import annotations

from pathlib import Path

import api_reference
import record_reference
from sphinx.application import Sphinx

__all__ = ["setup"]

DOCS = Path(__file__).parents[1]
PACKAGE = DOCS.parent / "auditor"
SCHEMA = DOCS / "audit.schema.json"


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the generators."""
    app.connect("builder-inited", _write_api)
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _write_api(app: Sphinx) -> None:
    folder = DOCS / "reference" / "api"
    folder.mkdir(exist_ok=True)
    pages = api_reference.pages(PACKAGE)
    for name, text in pages.items():
        page = folder / f"{name}.md"
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")
    for old in folder.glob("*.md"):
        if old.stem not in pages:
            old.unlink()


def _fill(app: Sphinx, name: str, source: list[str]) -> None:
    makers = {
        "record": lambda: record_reference.page(SCHEMA),
        "settings": lambda: api_reference.settings(PACKAGE),
        "drawings": lambda: api_reference.drawings(PACKAGE),
    }
    for what, make in makers.items():
        mark = f"<!-- generated: {what} -->"
        if mark in source[0] and not name.startswith("reference/api/"):
            source[0] = source[0].replace(mark, make())
            for file in (SCHEMA, *PACKAGE.glob("config.py"), *PACKAGE.glob("drawing/drawings.py")):
                app.env.note_dependency(str(file))
            for file in Path(__file__).parent.glob("*.py"):
                app.env.note_dependency(str(file))
