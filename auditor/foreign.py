"""Code that is not ours: models and factories run in a block that they cannot reach beyond.

A model may end the program (`sys.exit` in a forward pass would be a success without an audit), or
change settings of the whole process that everything after it depends on.
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType, TracebackType

import torch

__all__ = ["ForeignCode", "Interrupted", "StrangeEnd", "out_of_memory", "tell_interrupts_apart"]


class StrangeEnd(Exception):  # noqa: N818 - what foreign code did, told by whoever called it
    """Foreign code tried to end the program, or to stop it as Ctrl-C does."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C was pressed, as against a `KeyboardInterrupt` that foreign code raises."""


def tell_interrupts_apart() -> None:
    """Let Ctrl-C raise `Interrupted` from now on, where it raised `KeyboardInterrupt`."""
    with contextlib.suppress(ValueError):  # not the main thread, which gets no signals
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupted)


def _interrupted(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # who presses it again wants the end at once
    raise Interrupted


class ForeignCode:
    """A block in which foreign code runs; what it changes for the whole process is put back.

    These are the working folder, PyTorch's default type and whether gradients are computed.

    Raises:
        StrangeEnd: the code raised `SystemExit`, or `KeyboardInterrupt` without Ctrl-C.
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
        told_apart = kind is KeyboardInterrupt and signal.getsignal(signal.SIGINT) is _interrupted
        if told_apart:
            raise StrangeEnd("it raises KeyboardInterrupt") from error


def out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the processor's allocator, ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None  # it was removed
