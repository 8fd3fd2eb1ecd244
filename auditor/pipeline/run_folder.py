"""The run folder: whose it is, who writes to it, and how a new audit takes the place of an old one.

A folder is the program's own if it was empty when it was first used, which a marker says from then
on. Any other folder is the user's: it is refused, and nothing in it is touched.

A new audit is put together in a folder of its own and takes its place by renames alone, which no
full disk can stop halfway: the record goes first and comes last, so that no record ever stands
beside pictures or reports of another audit. What a kill leaves of the change is finished by the
next run. An old audit with another result is kept below `previous`, pictures and reports with it.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from auditor.core.storage import UNFINISHED, digest_file, read_bytes, write_atomically
from auditor.errors import RunError
from auditor.record import tables

__all__ = [
    "LOCK",
    "PREVIOUS",
    "RECORD",
    "amend",
    "claim",
    "claim_work",
    "locked",
    "publish",
    "staging",
]

Kind = Literal["run folder", "work folder", "example", "self-test"]

MARKER = ".auditor"
LOCK = ".auditor.lock"
MARK = "auditor: {}, format 1\n"
RECORD = "audit.json"
REPORTS = ("report.html", "report.pdf")
PAGES = "report"  # a folder, with these files
PAGE = re.compile(r"classes(-\d+)?\.html")
PUBLISHED = (RECORD, *REPORTS, PAGES, *tables.FILES.values(), "prototypes", "pictures")
LEFT = 3600.0  # seconds after which nobody writes to an unfinished part any more
PREVIOUS = "previous"
NEXT = ".next"  # an audit that is being put together
CHANGE = ".change"  # a complete one, while it takes its place
NEW = "new"  # in both
WRITTEN = ("", "work/**/", "prototypes/*/", "pictures/", "images/*/", "pool/")

# What an empty folder holds on some systems, and no name that is written here.
EMPTY = frozenset({".DS_Store", ".gitignore", ".gitkeep", "Thumbs.db", "desktop.ini", "lost+found"})
# What earlier versions, which left no marker, wrote: their folders, and every file.
FOLDERS: dict[Kind, str] = {
    "run folder": "prototypes|pictures|report|work|previous",
    "work folder": "[a-z]+",
    "example": "images|pool|audit(-.*)?",
    "self-test": "models|audits",
}
FILES: dict[Kind, str] = {
    "run folder": r"audit\.json|report\.(html|pdf)|\.lock|prototypes/\d+/\d+(-region)?\.png"
    r"|report/classes(-\d+)?\.html"
    r"|pictures/[0-9a-f]{24}\.jpg|work/[a-z]+/[0-9a-f]{32}\.safetensors|work/selftest/.*"
    r"|work/\.auditor"
    r"|previous/.*",
    "work folder": r"[a-z]+/[0-9a-f]{32}\.safetensors|selftest/.*",
    "example": r"plan\.sha256|planted\.json|model\.safetensors|photos\.done"
    r"|(images|pool)-\d+\.csv|images/\d+/\d+\.png|pool/\d+\.png|audit(-[^/]*)?/.*",
    "self-test": r"[0-9a-f]{32}\.json|(models|audits)/[0-9a-f]{32}/.*",
}


def claim(folder: Path, kind: Kind = "run folder") -> None:
    """Make a folder the program's own, if it is not, and mark it.

    Raises:
        RunError: it holds something that was not made here, or cannot be made or written.
    """
    with _told(folder, kind):
        folder.mkdir(parents=True, exist_ok=True)
        marked = _mark(folder)
        if marked is not None and MARK.format(kind).startswith(marked):
            return
        foreign = MARKER if marked is not None else _foreign(folder, kind)
        if foreign is not None:
            raise RunError(
                f"{folder} is no {kind} of this program: it holds {foreign[:80]!r}, which was not "
                f"made as a part of one; choose an empty folder or a new one for {_flag(kind)}."
            )
        with contextlib.suppress(FileExistsError), (folder / MARKER).open("x") as file:
            file.write(MARK.format(kind))


def claim_work(folder: Path) -> None:
    """Make a folder of finished parts the program's own, and clear what killed runs left in it.

    Raises:
        RunError: as `claim`.
    """
    claim(folder, "work folder")
    with _told(folder, "work folder"):
        for left in folder.glob(f"*/{UNFINISHED}*"):
            with contextlib.suppress(FileNotFoundError):  # another audit that is done with it
                if left.stat().st_mtime < time.time() - LEFT:
                    left.unlink()


@contextlib.contextmanager
def locked(folder: Path, kind: Kind = "run folder") -> Iterator[None]:
    """Claim a folder and hold it for one process, and put in order what a killed one left.

    Raises:
        RunError: another run is writing to the folder, or as `claim`.
    """
    claim(folder, kind)
    with contextlib.ExitStack() as held:
        with _told(folder, kind):
            try:
                held.enter_context(FileLock(folder / LOCK, timeout=0))
            except Timeout:
                raise RunError(
                    f"Another audit is writing to {folder}; wait for it or choose another --out."
                ) from None
            _tidy(folder)
        yield


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """An empty folder inside a run folder, where a new audit is put together for `publish`."""
    _check_there(folder)
    with _told(folder):
        _remove(folder / NEXT)
        (folder / NEXT / NEW).mkdir(parents=True)
    try:
        yield folder / NEXT / NEW
    finally:
        _remove(folder / NEXT)


def publish(folder: Path, *, keep: bool) -> Path | None:
    """Put the audit that was put together in its place.

    Args:
        folder: a run folder that this process holds.
        keep: whether the audit that is there is kept below `previous`; where the results of both
            are the same, the new one may be written over it.

    Returns:
        where the audit that was there is kept.

    Raises:
        RunError: the folder was changed by others, or a file cannot be moved.
    """
    _check_there(folder)
    with _told(folder):
        for path in (folder / NEXT / NEW).iterdir():
            with contextlib.suppress(FileNotFoundError):  # as private as what it replaces
                mode = stat.S_IMODE((folder / path.name).stat().st_mode)
                path.chmod(mode | (0o700 if path.is_dir() else 0o600))
        if keep:
            (folder / NEXT / PREVIOUS / _name(folder / RECORD)).mkdir(parents=True)
            (folder / PREVIOUS).mkdir(exist_ok=True)
        os.rename(folder / NEXT, folder / CHANGE)  # from here on it is finished, whatever comes
        return _finish(folder)


def amend(folder: Path, before: bytes, after: bytes) -> bool:
    """Write a changed record over the one that it was made from, whose reports go with it.

    Returns:
        `False`, and nothing is written, where the folder holds another record by now.

    Raises:
        RunError: as `locked`, or the record cannot be read or written.
    """
    with locked(folder):
        with _told(folder):
            if (folder / RECORD).read_bytes() != before:
                return False
            _remove_reports(folder)
        write_atomically(folder / RECORD, after)
    return True


def _check_there(folder: Path) -> None:
    """What was put in the place of the run folder while the audit ran may be the user's."""
    with _told(folder):
        if _mark(folder) is None:
            raise RunError(
                f"{folder} was removed or replaced while the audit ran; run the audit again."
            )


def _finish(folder: Path) -> Path | None:
    """Finish a change, from wherever it was stopped; where the old audit is kept."""
    change = folder / CHANGE
    if not change.is_dir():
        return None
    kept = None
    for old in (change / PREVIOUS).glob("*"):  # one, or none where it is done or not wanted
        for name in PUBLISHED:
            if os.path.lexists(folder / name) and (name != PAGES or _pages(folder)):
                os.rename(folder / name, old / name)
        kept = _unused(folder / PREVIOUS / old.name)
        os.rename(old, kept)
    _remove_reports(folder)
    for path in sorted((change / NEW).glob("*"), key=lambda path: path.name == RECORD):
        _move(path, folder / path.name)
    _remove(change)
    return kept


def _move(source: Path, target: Path) -> None:
    """Move a file or a folder, into a folder of the name where there is one."""
    if source.is_dir() and target.is_dir():
        for path in source.iterdir():
            _move(path, target / path.name)
    else:
        os.replace(source, target)


def _unused(path: Path) -> Path:
    """The path, or the first of its numbered siblings that is not there."""
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _remove_reports(folder: Path) -> None:
    for name in REPORTS:
        (folder / name).unlink(missing_ok=True)
    for page in _pages(folder):
        page.unlink()
        with contextlib.suppress(OSError):  # until it is empty, and where the user's is in it
            page.parent.rmdir()


def _pages(folder: Path) -> list[Path]:
    """Pages of classes; a folder or file of the user's has their folder's name at most."""
    place = folder / PAGES
    return [p for p in place.iterdir() if PAGE.fullmatch(p.name)] if _is_folder(place) else []


def _tidy(folder: Path) -> None:
    """Finish a change that was begun, and remove what is only half written."""
    _finish(folder)
    _remove(folder / NEXT)
    shared = (folder / "work" / MARKER).exists()  # another audit may be writing there
    for place in WRITTEN:
        if shared and place.startswith("work"):
            continue
        for left in folder.glob(f"{place}{UNFINISHED}*"):
            if left.is_file() and not left.is_symlink():
                left.unlink(missing_ok=True)
            elif not place:  # a report that was being put together
                _remove(left)


def _remove(folder: Path) -> None:
    if _is_folder(folder):
        shutil.rmtree(folder, ignore_errors=True)


def _mark(folder: Path) -> str | None:
    """What the marker says; a kill may have left it empty. `None` without one."""
    try:
        return read_bytes(folder / MARKER, limit=100).decode(errors="replace")
    except FileNotFoundError:
        return None


def _foreign(folder: Path, kind: Kind) -> str | None:
    """A name in an unmarked folder that no earlier version wrote there, if there is one."""
    found = sorted(entry.name for entry in folder.iterdir())
    names = [n for n in found if n not in {*EMPTY, LOCK} and not n.startswith(UNFINISHED)]
    for name in names:  # before whole trees are looked through
        known = FOLDERS[kind] if _is_folder(folder / name) else FILES[kind]
        if not re.fullmatch(known, name) or (folder / name).is_symlink():
            return name
    for name in names:
        for path in (folder / name).rglob("*"):
            place = path.relative_to(folder).as_posix()
            ours = re.fullmatch(FILES[kind], place) or path.name.startswith(UNFINISHED)
            if not ours and not _is_folder(path):
                return place
    return None if not names or _signed(folder, kind, names) else names[0]


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _signed(folder: Path, kind: Kind, names: list[str]) -> bool:
    """Whether a folder that holds the right names alone bears a sign that this program made it."""
    if kind == "example":
        return "plan.sha256" in names
    if kind == "self-test":
        return True
    if kind == "work folder":
        return any(folder.glob("*/*.safetensors"))
    if RECORD in names:
        try:
            return bool(json.loads((folder / RECORD).read_bytes())["tool"]["name"] == "auditor")
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return False
    lock = folder / ".lock"
    empty = lock.is_file() and not lock.stat().st_size
    return empty and (names == [lock.name] or any(folder.glob("work/*/*.safetensors")))


def _name(record: Path) -> str:
    """The name of an audit that is kept: when its record was written, and a part of its digest."""
    written = datetime.datetime.fromtimestamp(record.stat().st_mtime, datetime.UTC)
    return f"{written:%Y%m%dT%H%M%SZ}-{digest_file(record)[:8]}"


@contextlib.contextmanager
def _told(folder: Path, kind: Kind = "run folder") -> Iterator[None]:
    """Errors of the system as one sentence."""
    try:
        yield
    except (OSError, ValueError) as error:  # the latter for what is no path
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise RunError(
            f"Cannot use {folder} as {kind}: {why}; choose another {_flag(kind)}."
        ) from None


def _flag(kind: Kind) -> str:
    return "--work" if kind == "work folder" else "--out"
