"""The report of a finished audit: HTML and PDF, from `audit.json` and the run folder's pictures.

Beside the HTML of an audit with many classes or findings lies a folder with a page for each class.
Nothing here needs the audited model, PyTorch or a network: a saved audit renders anywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from pathlib import Path

from auditor.core.storage import write_atomically
from auditor.errors import RunError
from auditor.record.schema import Audit
from auditor.report import html, page_folder, pages
from auditor.report.pictures import Thumbnails
from auditor.report.places import FOLDER, LIST, NOWHERE, addresses

__all__ = ["write"]

PRINTED = 224  # pixels of a picture's longer side on paper, where it is about 27 mm long
SIGNS = {
    "report.html": b'<meta name="generator" content="auditor ',
    "report.pdf": b"/application#2fjson",  # the kind of the record that every PDF has attached
}
"""What is in every report of this program."""


def write(folder: Path, *, pdf: bool = True) -> list[Path]:
    """Render `audit.json` of a run folder to `report.html` and `report.pdf` beside it.

    Where one file has no room for all classes and findings, `report/` has a page for each class.

    Returns:
        The files written, the HTML first; of those in `report/` the list of all classes alone.

    Raises:
        RunError: the audit cannot be read, a file cannot be written or is no report of this
            program, or the PDF cannot be made; then the HTML is there all the same, and no PDF of
            an older audit.
    """
    source = folder / "audit.json"
    audit = Audit.read(source)
    for name, sign in SIGNS.items():
        _check_ours(folder / name, sign)
    many = addresses(audit) is not NOWHERE
    if many:
        page_folder.check_ours(folder, SIGNS["report.html"])
    record = source.read_bytes()
    written = _write_html(folder, audit, record, many=many)
    if pdf:
        data = _pdf(audit, record, Thumbnails(folder, side=PRINTED))
        _check_same(source, record)
        written.append(folder / "report.pdf")
        write_atomically(written[-1], data, like=source)
    return written


def _write_html(folder: Path, audit: Audit, record: bytes, *, many: bool) -> list[Path]:
    """Write the HTML, and remove what is there of another audit's report."""
    source, report = folder / "audit.json", folder / "report.html"

    def check() -> None:
        _check_same(source, record)
        _remove_other(folder / "report.pdf", record)

    page = html.render(audit, Thumbnails(folder))
    if many:
        page_folder.publish(folder, page, pages.render(audit, folder), check)
        return [report, folder / FOLDER / LIST]
    check()
    page_folder.remove(folder, SIGNS["report.html"])
    write_atomically(report, page, like=source)
    return [report]


def _check_ours(path: Path, sign: bytes) -> None:
    """A file of the user's own that has a report's name is neither replaced nor removed."""
    with contextlib.suppress(OSError):  # where it cannot be read, it is told where it is written
        # of a link only the link is replaced
        if path.is_file() and not path.is_symlink() and sign not in path.read_bytes():
            raise RunError(
                f"{path} is no report of this program and would be replaced; move it, or copy "
                "audit.json and its pictures to a folder of their own."
            )


def _check_same(source: Path, record: bytes) -> None:
    """Pictures may be another audit's, if the record was replaced since it was read."""
    if not source.is_file() or source.read_bytes() != record:
        raise RunError(
            f"{source} was replaced while its report was made; run `auditor report` again."
        )


def _remove_other(path: Path, record: bytes) -> None:
    """Remove a PDF that is of another record than this, which every PDF has attached."""
    checksum = hashlib.md5(record, usedforsecurity=False).hexdigest()  # as PDF names a file's
    try:
        if path.exists() and checksum.encode() not in path.read_bytes():
            path.unlink()
    except OSError as error:
        raise RunError(
            f"{path} is of another audit and cannot be removed: {error.strerror}."
        ) from None


def _pdf(audit: Audit, record: bytes, thumbnails: Thumbnails) -> bytes:
    """The PDF's bytes; WeasyPrint is imported here, for it needs native libraries."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints advice where one is missing
            from auditor.report.pdf import render
    except OSError:
        raise RunError(
            "The PDF report needs Pango and HarfBuzz: install libpango-1.0-0, libpangoft2-1.0-0 "
            "and libharfbuzz-subset0 (or set pdf to no); the HTML report was written."
        ) from None
    return render(audit, record, thumbnails)
