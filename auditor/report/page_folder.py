"""The folder of class pages beside a report: whose it is, and how it takes another's place.

Report and pages are written to a folder of their own first. Then the old report goes, the pages
change places, and the new report comes last: whatever stops this, no report ever stands beside
pages of another audit.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from auditor.core.storage import UNFINISHED, write_atomically
from auditor.errors import RunError
from auditor.report.places import FOLDER

__all__ = ["check_ours", "publish", "remove"]

NAMES = re.compile(r"classes(-\d+)?\.html")
HEAD = 4096  # bytes in which a page bears its sign


def check_ours(folder: Path, sign: bytes) -> None:
    """A folder of the user's own, or with a file of theirs, is not replaced.

    Raises:
        RunError: there is one.
    """
    place = folder / FOLDER
    if not os.path.lexists(place) or place.is_symlink():  # of a link only the link is replaced
        return
    with _told(place):
        if place.is_dir():
            foreign = [path for path in sorted(place.iterdir()) if not _is_page(path, sign)]
        else:
            foreign = [place]
    if foreign:
        raise RunError(
            f"{foreign[0]} is no page of a report of this program and would be replaced; move it, "
            "or copy audit.json and its pictures to a folder of their own."
        )


def publish(
    folder: Path,
    page: bytes,
    pages: Iterable[tuple[str, bytes]],
    check: Callable[[], None],
) -> None:
    """Write a report with its pages.

    Args:
        folder: with `audit.json`.
        page: the report.
        pages: name and content of each file with pages.
        check: called when all is written and nothing replaced, and raises if that must not be.

    Raises:
        RunError: a file cannot be written; then the old report and its pages are still there.
    """
    source, report, place = folder / "audit.json", folder / "report.html", folder / FOLDER
    new = folder / (UNFINISHED + secrets.token_hex(8))
    try:
        with _told(folder):
            (new / FOLDER).mkdir(parents=True)
            mode = stat.S_IMODE(source.stat().st_mode) & 0o777
            for made in (new, new / FOLDER):  # who may read a file may list its folder
                made.chmod(mode | (mode & 0o444) >> 2)
        like = report if report.is_file() and not report.is_symlink() else source
        write_atomically(new / report.name, page, like=like)
        for name, data in pages:
            write_atomically(new / FOLDER / name, data, like=source)
        check()
        with _told(folder):
            report.unlink(missing_ok=True)
            if os.path.lexists(place):
                os.rename(place, new / "old")
            os.rename(new / FOLDER, place)
            os.replace(new / report.name, report)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def remove(folder: Path, sign: bytes) -> None:
    """Remove the pages of an earlier report; what is the user's stays.

    Raises:
        RunError: a page cannot be removed.
    """
    place = folder / FOLDER
    if place.is_symlink() or not place.is_dir():
        return
    with _told(place):
        pages = [path for path in place.iterdir() if _is_page(path, sign)]
        for path in pages:
            path.unlink()
        if pages and not any(place.iterdir()):
            place.rmdir()


def _is_page(path: Path, sign: bytes) -> bool:
    if path.is_symlink() or not path.is_file() or not NAMES.fullmatch(path.name):
        return False
    with path.open("rb") as file:
        return sign in file.read(HEAD)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of the system as one sentence."""
    try:
        yield
    except OSError as error:
        raise RunError(f"Cannot write the report to {path}: {error.strerror}.") from None
