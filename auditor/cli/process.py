"""The program as a process: every end is told in one sentence and an exit code.

Exit codes: 0 done; 2 a mistake or a fault outside the program; 130 after Ctrl-C. Other signals end
the process as they always do, after a word: a shell shows 143 for SIGTERM and 129 for SIGHUP.
A bug keeps its traceback. This module imports nothing heavy, for the first seconds of a run are
imports, and they can be stopped or lack memory too.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import io
import os
import select
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

from auditor.errors import AuditorError, lacks_memory

__all__ = ["printable", "told"]

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
AGAIN = "run the same command again to continue"
SHOW_CURSOR = b"\x1b[?25h"  # which a progress bar hides


class Stopped(BaseException):  # no error, as KeyboardInterrupt is none
    """A signal asks the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Run the program in the block, and end the process as it ends."""
    _standard_streams()
    atexit.register(gc.freeze)  # else the end searches all libraries for garbage, for seconds
    if any(option.startswith("error") for option in sys.warnoptions):
        _usual_warnings()  # those of libraries, which would end an audit, are no user's to mend
    try:
        with _signals():
            yield
    except AuditorError as error:
        _end(2, str(error))
    except Stopped as stopped:
        _stop(stopped.number)
    except KeyboardInterrupt:
        _stop(signal.SIGINT)
    except SystemExit as ended:
        if ended.code == 128 + signal.SIGINT:  # what typer makes of KeyboardInterrupt
            _stop(signal.SIGINT)
        _end(ended.code)
    except BaseException as error:  # a library in Rust raises what is no Exception
        if not lacks_memory(error):
            raise
        _end(2, f"The memory of this machine ran out or is limited too much ({_first(error)}); "
                "give it more.")  # fmt: skip
    _end(0)


def printable(text: str) -> str:
    """Text without control characters, which could rewrite the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return printable(lines[0][:160]) if lines else type(error).__name__


def _say(sentence: str) -> None:
    if sys.stderr is not None:
        print(f"auditor: {printable(sentence)}", file=sys.stderr, flush=True)


def _end(code: Any, sentence: str | None = None) -> NoReturn:
    """Exit, once what was printed is out; a reader of a pipe that has gone wanted no more."""
    if sentence is not None:
        _say(sentence)
    with contextlib.suppress(AttributeError):  # without a standard output
        sys.stdout.flush()
    failure = _failure(sys.stdout)
    if failure is not None and failure.errno != errno.EPIPE and not code:
        _say(f"Cannot write to the standard output: {failure.strerror}.")
        code = 2
    sys.exit(code)


def _stop(number: int) -> NoReturn:
    name = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    _say(f"stopped{name}; {AGAIN}.")
    if number != signal.SIGINT:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # so that who started it sees that a signal ended it
    sys.exit(128 + number)  # as the first process of a container no signal ends it


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Make signals end the block, and a second one the process; files stay whole in any case."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, leave)
        raise Stopped(number)

    def leave(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            if os.isatty(2):
                os.write(2, SHOW_CURSOR)
        os._exit(128 + number)

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in SIGNALS:
            number = getattr(signal, name, None)  # some systems lack one
            usual = (signal.SIG_DFL, signal.default_int_handler)
            if number is not None and signal.getsignal(number) in usual:  # else as by nohup
                before[number] = signal.signal(number, stop)
    restore = True
    try:
        yield
    except Stopped:
        restore = False  # a second signal must not interrupt the end
        raise
    finally:
        for number, handler in before.items() if restore else ():
            signal.signal(number, handler)


class _Lossy(io.FileIO):
    """A file that drops what cannot be written, and keeps the reason: output ends no audit."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        while self.failure is None:
            try:
                written = super().write(data)
            except OSError as error:
                self.failure = error
                break
            if written is not None:
                return written
            select.select([], [self], [])  # who shares the terminal made it non-blocking
        return len(data)


def _standard_streams() -> None:
    """Let no closed, full or odd terminal end the program, nor files take the streams' numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout, sys.stderr = _lossy(sys.stdout, 1), _lossy(sys.stderr, 2)


def _lossy(stream: Any, number: int) -> Any:
    """The process's own standard stream, made lossy; any other as it is."""
    own = stream is not None and stream in (sys.__stdout__, sys.__stderr__)
    if not own or not isinstance(stream, io.TextIOWrapper) or stream.fileno() != number:
        return stream
    raw = _Lossy(number, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",  # a terminal that is not UTF-8 shows what it can
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _failure(stream: Any) -> OSError | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw.failure if isinstance(raw, _Lossy) else None


def _usual_warnings() -> None:
    """The filters that Python has without any option."""
    warnings.resetwarnings()
    for category in (
        DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning,
    ):  # fmt: skip
        warnings.simplefilter("ignore", category)
