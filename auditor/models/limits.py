"""Limits on files of models, which are held before a file is read.

A file may be no file at all (a pipe or a device never ends), or say that it holds far more than it
does: a compressed archive of a few megabytes unpacks to more than any memory. What is refused here
is one sentence; read, it would be a process that hangs or is killed. A damaged archive is refused
too, for PyTorch would read other weights from it.
"""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

from auditor.errors import ModelError

__all__ = ["check_archive", "check_file", "check_folder", "physical_memory"]

UNPACKED_FREELY = 2**28
"""Bytes that any archive may unpack to."""

LARGEST_RATIO = 30
"""Bytes unpacked to a byte of the archive beyond that. Trained weights hardly compress (below 2);
a network pruned to a twentieth of its weights comes to 20; zeros come to 200 and more."""

LARGEST_TEXT = 2**28
"""Bytes of one file of code or of JSON in an archive. The graph of a network of 1,000 layers takes
10 MB."""

TEXTS = (".json", ".py", ".debug_pkl")


def check_file(path: Path) -> None:
    """See that a file is a regular one.

    Raises:
        ModelError: it is missing, a folder, a pipe or a device, or cannot be looked at.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ModelError(f"Cannot read {path}: {why}.") from None
    if not stat.S_ISREG(mode):
        raise ModelError(f"{path} is no regular file; give a file that can be read to its end.")


def check_archive(path: Path) -> None:
    """See that a file can be read whole: regular, within memory, not much larger unpacked, sound.

    A file that is no archive is looked at as it is.

    Raises:
        ModelError: it is not so.
    """
    check_file(path)
    size = path.stat().st_size
    memory = physical_memory()
    if size > memory:
        raise ModelError(
            f"{path} has {size / 2**30:.0f} GiB, more than the memory of this machine "
            f"({memory / 2**30:.0f} GiB); use a larger machine."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception:  # no archive, or a damaged one: its reader tells how
        return
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > max(UNPACKED_FREELY, LARGEST_RATIO * size):
        raise ModelError(
            f"{path} says that its {size / 2**20:.3g} MiB unpack to {unpacked / 2**20:.3g} MiB, "
            "which no weights do; save the model again."
        )
    texts = [entry for entry in entries if entry.filename.casefold().endswith(TEXTS)]
    long = next((entry for entry in texts if entry.file_size > LARGEST_TEXT), None)
    if long is not None:
        raise ModelError(
            f"{path} holds {long.filename[:80]!r} of {long.file_size / 2**20:.0f} MiB, more text "
            f"than a model has ({LARGEST_TEXT / 2**20:.0f} MiB); save the model again."
        )
    damaged = _damaged(path)
    if damaged is not None:
        raise ModelError(
            f"{path} is damaged: {damaged[:80]!r} in it does not agree with its checksum; copy or "
            "download it again."
        )


def _damaged(path: Path) -> str | None:
    """A file in an archive whose checksum is wrong, which PyTorch does not look at."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except Exception:  # of an archive that is damaged otherwise: its reader tells how
        return None


def physical_memory() -> int:
    """Bytes of memory that the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_folder(folder: Path) -> None:
    """See that no file of a folder is a pipe or a device, which would be read without an end.

    Raises:
        ModelError: one is, or the folder cannot be listed.
    """
    try:
        entries = [entry for entry in sorted(folder.iterdir()) if entry.exists()]
    except OSError as error:
        raise ModelError(f"Cannot list {folder}: {error.strerror}.") from None
    for entry in entries:
        if not entry.is_dir():
            check_file(entry)
