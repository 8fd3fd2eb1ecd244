"""Code that is not ours: models and factories run in a block that they cannot reach beyond.

A model may end the program (`sys.exit` in a forward pass would be a success without an audit), or
change settings of the whole process that everything after it depends on.
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import TracebackType

import torch

from auditor.errors import first_line

__all__ = ["ForeignCode", "StrangeEnd", "named"]


class StrangeEnd(Exception):  # noqa: N818 - what foreign code did, told by whoever called it
    """Foreign code tried to end the program, or to stop it as Ctrl-C does."""


class ForeignCode:
    """A block in which foreign code runs; what it changes for the whole process is put back.

    These are the working folder, PyTorch's default type and whether gradients are computed.

    Raises:
        StrangeEnd: the code raised `SystemExit`, or `KeyboardInterrupt` where Ctrl-C raises
            something else, as it does on the command line (`auditor.cli.process`).
    """

    def __enter__(self) -> ForeignCode:
        self._folder = _folder()
        self._dtype = torch.get_default_dtype()
        self._gradients = torch.is_grad_enabled()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if torch.get_default_dtype() != self._dtype:
            torch.set_default_dtype(self._dtype)
        if torch.is_grad_enabled() != self._gradients:
            torch.set_grad_enabled(self._gradients)
        if self._folder is not None and _folder() != self._folder:
            with contextlib.suppress(OSError):  # it was removed meanwhile
                os.chdir(self._folder)
        if isinstance(error, SystemExit):
            raise StrangeEnd(f"it ends the program with exit code {error.code!r:.80}") from error
        handler = signal.getsignal(signal.SIGINT)
        if kind is KeyboardInterrupt and handler is not signal.default_int_handler:
            raise StrangeEnd("it raises KeyboardInterrupt") from error


def named(error: BaseException) -> str:
    """What foreign code raised, for a message: its kind and the first line of its text."""
    kind, told = type(error).__name__, first_line(error)
    return told if isinstance(error, StrangeEnd) or told == kind else f"{kind}: {told}"


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None  # it was removed
