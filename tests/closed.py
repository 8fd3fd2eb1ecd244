"""A guard that sees code, processes, connections and writes that nobody asked for.

An audit hook of the interpreter (PEP 578) cannot be removed or passed by, also not by code that
catches every exception; so it is installed once and switched on for a block.
"""

from __future__ import annotations

import contextlib
import os
import re
import site
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

__all__ = ["Opened", "closed"]

PROJECT = Path(__file__).parents[1]
CODE = tuple(
    os.path.realpath(str(folder)) + os.sep
    for folder in (
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        Path(sys.base_prefix) / "lib",
        *(entry for entry in sys.path if "site-packages" in entry),
        PROJECT,
    )
)
"""Where installed code lies; whatever else runs is foreign."""

PROCESSES = {
    *("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn"),
    *("os.spawn", "pty.spawn"),
}
CONNECTIONS = {
    *("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"),
    *("socket.bind", "socket.sendmsg"),
}
CHANGES = {
    *("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"),
    *("os.chmod", "shutil.rmtree", "shutil.move", "shutil.copyfile"),
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
COMPILED = re.compile(r".*__pycache__/[^/]*\.pyc(\.\d+)?|.*/__pycache__|/dev/(null|tty)")
"""What importing installed code writes."""


class Opened(BaseException):
    """Something happened that the guard does not let through; not an `Exception`, to end it all."""


class _Guard:
    """The state that the hook looks at."""

    def __init__(self) -> None:
        self.on = False
        self.installed = False
        self.folders: tuple[str, ...] = ()
        self.seen: list[str] = []

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        self.on = False  # what looking at it does is not looked at
        try:
            problem = self.problem(event, arguments)
        finally:
            self.on = True
        if problem is not None:
            self.seen.append(problem)
            raise Opened(problem)

    def problem(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        if event in PROCESSES or event in CONNECTIONS:
            return f"{event} {arguments!r}"[:300]
        if event == "pickle.find_class":
            return f"unpickles {arguments!r}"
        if event == "exec" and isinstance(arguments[0], CodeType):
            return self._foreign("runs", arguments[0].co_filename)
        if event in ("import", "ctypes.dlopen"):
            return self._foreign("loads", arguments[1] if event == "import" else arguments[0])
        if event == "open":
            path, mode, flags = arguments
            writes = set(mode or "") & set("wax+") or (isinstance(flags, int) and flags & WRITING)
            return self._outside(event, path) if writes else None
        return self._outside(event, arguments[0]) if event in CHANGES else None

    def _foreign(self, verb: str, file: object) -> str | None:
        """Code of a file that is not installed; generated code and bare library names pass."""
        if not isinstance(file, str) or not (os.path.isabs(file) or os.path.exists(file)):
            return None
        return None if os.path.realpath(file).startswith(CODE) else f"{verb} {file}"

    def _outside(self, event: str, path: object) -> str | None:
        if isinstance(path, int) or path is None:
            return None
        name = os.path.realpath(os.fsdecode(path))  # type: ignore[arg-type]
        inside = name.startswith(self.folders) or COMPILED.fullmatch(name)
        return None if inside else f"{event} {name}"


_guard = _Guard()


@contextlib.contextmanager
def closed(*folders: Path) -> Iterator[None]:
    """Let no foreign code, process or connection through, and writes only into some folders.

    Raises:
        Opened: something was tried, also where the code that tried it went on.
    """
    if not _guard.installed:
        sys.addaudithook(_guard.hook)
        _guard.installed = True
    _guard.folders = tuple(os.path.realpath(f) for f in (*map(str, folders), tempfile.gettempdir()))
    _guard.seen = []
    _guard.on = True
    try:
        yield
    finally:
        _guard.on = False
    if _guard.seen:
        raise Opened(_guard.seen[0])
