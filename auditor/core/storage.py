"""Files that survive a crash: whole or absent, and found again by content.

Every file is written to a temporary name beside its place, synced, and renamed. `Work` keeps the
results of finished stages under the digest of everything that they were computed from, so that a
killed run continues where it stopped and a changed input is never served a stale result.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import secrets
import stat
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

import auditor
from auditor.errors import RunError

__all__ = [
    "UNFINISHED",
    "Arrays",
    "Work",
    "digest_bytes",
    "digest_file",
    "digest_package",
    "digest_value",
    "parse_toml",
    "read_bytes",
    "read_text",
    "write_atomically",
]

Arrays = dict[str, NDArray[Any]]

SMALL = 2**24  # bytes of an array that is not worth a file
MOST_DOTS = 100  # in a key of a TOML file: the time that its reader takes grows with their square
UNFINISHED = ".auditor-tmp-"  # begins the name of a file that is being written


def digest_bytes(data: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_value(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value made of plain types.

    >>> digest_value({"a": 1, "b": 2}) == digest_value({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return digest_bytes(text.encode(errors="backslashreplace"))


@functools.cache
def digest_package() -> str:
    """SHA-256 of this program's own Python files, with their places in the package."""
    home = Path(auditor.__file__).parent
    files = sorted(home.rglob("*.py"))
    return digest_value([[path.relative_to(home).as_posix(), digest_file(path)] for path in files])


def read_bytes(path: Path, *, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises:
        OSError: it cannot be read, is larger, or is a folder, FIFO or device, which may never end;
            `strerror` says which.
    """
    try:
        # a FIFO without a writer opens at once, and is then refused
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except ValueError as error:  # no path at all, such as one with a zero byte
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        data = file.read(limit + 1) if status.st_size <= limit else b""
        if max(len(data), status.st_size) > limit:
            raise OSError(errno.EFBIG, f"Larger than {limit:,} bytes", str(path))
        return data


def read_text(path: Path, *, limit: int) -> str:
    """The text of a regular UTF-8 file of at most `limit` bytes, less a byte order mark.

    Raises:
        OSError: as `read_bytes`.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_bytes(path, limit=limit).decode("utf-8-sig")


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ValueError: it is not TOML, or nests tables too deeply in one key.
        RecursionError: it nests arrays too deeply.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if line.split("=", 1)[0].count(".") > MOST_DOTS:
            raise ValueError(f"the key in line {number} has more than {MOST_DOTS} dots")
    return tomllib.loads(text)


def write_atomically(path: Path, data: bytes, *, like: Path | None = None) -> None:
    """Write a file whole: on any failure the old file stays as it was.

    Who may read the old file may read the new one; where there was none, who may read `like`.

    Raises:
        RunError: the disk is full, or the place cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = _mode(path) or (_mode(like) if like is not None else None)
        name = path.with_name(UNFINISHED + secrets.token_hex(8))
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode or 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if mode is not None:  # which the umask took a part of
                    os.fchmod(descriptor, mode)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except (OSError, ValueError) as error:  # the latter for what is no path
        raise _unwritten(path, error) from None


def _mode(path: Path) -> int | None:
    """The permissions of a regular file, a link's own target left aside."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return stat.S_IMODE(status.st_mode) & 0o777 if stat.S_ISREG(status.st_mode) else None


def _unwritten(path: Path, error: OSError | ValueError) -> RunError:
    why = getattr(error, "strerror", None) or error
    return RunError(f"Cannot write {path}: {why}; free some space or choose another folder.")


class Work:
    """Results of finished tasks below one folder, by all that they depend on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, stage: str, key: Any) -> Path:
        """The file of a stage's result; `key` is anything that JSON can hold."""
        return self.folder / stage / f"{digest_value(key)[:32]}.safetensors"

    def arrays(
        self,
        stage: str,
        key: Any,
        compute: Callable[[], Mapping[str, Any]],
        *,
        fits: Callable[[Arrays], bool] = lambda arrays: True,
    ) -> Arrays:
        """The stage's arrays: read if they were finished before, else computed and kept.

        A file that is damaged, was not written here, was written for another stage or key, or
        holds what cannot be the result, is computed again.

        Args:
            stage, key: what the arrays are, and all that they depend on.
            compute: makes them.
            fits: whether arrays can be the result, by names, shapes and ranges; a `KeyError` says
                no, too.
        """
        from safetensors.numpy import save

        path = self.path(stage, key)
        origin = f"{stage}/{path.stem}"
        kept = _kept(path, origin)
        with contextlib.suppress(KeyError):
            if kept is not None and fits(kept):
                return kept
        arrays = {name: np.ascontiguousarray(value) for name, value in compute().items()}
        write_atomically(path, save(arrays, {"sha256": _digest(arrays, origin)}))
        return arrays

    def scratch(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Zeros; if there are many, in a file without a name, so that memory need not hold them.

        The file goes with the array.

        Raises:
            RunError: the disk is full, or the folder cannot be written.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size < SMALL:
            return np.zeros(shape, dtype)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder, prefix=UNFINISHED) as file:
                if hasattr(os, "posix_fallocate"):  # else a full disk kills the process later
                    os.posix_fallocate(file.fileno(), 0, size)
                return np.asarray(np.memmap(file, dtype, "w+", shape=shape))
        except OSError as error:
            raise _unwritten(self.folder, error) from None


def _kept(path: Path, origin: str) -> Arrays | None:
    """The arrays of a file of this origin whose digest is right, else `None`."""
    from safetensors import SafetensorError, safe_open

    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            digest = (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError, TypeError, AttributeError):  # or numpy has no such type
        return None
    return arrays if digest == _digest(arrays, origin) else None


def _digest(arrays: Arrays, origin: str) -> str:
    """SHA-256 of arrays with their names, types and shapes, and of what they were computed for."""
    content = hashlib.sha256(f"{origin}\0".encode())
    for name, values in sorted(arrays.items()):
        content.update(f"{name}\0{values.dtype.str}\0{values.shape}\0".encode())
        content.update(values.data)
    return content.hexdigest()
