"""How a process ends: what it says, its exit code, and what no odd terminal may end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from auditor.errors import lacks_memory

AGAIN = "run the same command again to continue.\n"


def script(body: str) -> list[str]:
    """A program that runs `body` as the command line runs its commands."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return [sys.executable, "-c", "import os, signal, sys\nfrom auditor.cli.process import told\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # nohup ignores it
            f"with told():\n{lines}"]  # fmt: skip


def ended(body: str, shell: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """How the program ends; `shell` redirects its streams."""
    line = script(body)
    if shell:
        line = ["bash", "-c", f'"$0" "$@" {shell}', *line]
    return subprocess.run(
        line, capture_output=True, text=True, timeout=60, env={**os.environ, **env}
    )


def test_the_end_of_the_work_is_exit_code_0() -> None:
    done = ended("print('done')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("from auditor.errors import RunError; raise RunError('The \\x1b[2J folder.')",
         "The  [2J folder."),
        ("raise MemoryError",
         "The memory of this machine ran out or is limited too much (MemoryError); give it more."),
        ("raise RuntimeError('DefaultCPUAllocator: cannot allocate memory\\nmore')",
         "The memory of this machine ran out or is limited too much (DefaultCPUAllocator: cannot "
         "allocate memory); give it more."),
        ("class PanicException(BaseException): pass\n"
         "raise PanicException('PyObject pointer is null')",
         "The memory of this machine ran out or is limited too much (PyObject pointer is null); "
         "give it more."),
        ("raise ImportError('libx.so: failed to map segment from shared object')",
         "The memory of this machine ran out or is limited too much (libx.so: failed to map "
         "segment from shared object); give it more."),
    ],
)  # fmt: skip
def test_what_a_user_can_mend_is_one_sentence(body: str, told: str) -> None:
    done = ended(body)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"auditor: {told}\n")


def test_a_bug_keeps_its_traceback() -> None:
    done = ended("raise ZeroDivisionError('here')")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ZeroDivisionError: here\n")


@pytest.mark.parametrize("error", ["MemoryError", "KeyboardInterrupt"])
def test_the_imports_of_the_program_may_fail_too(error: str) -> None:
    body = (
        "import sys\nclass Finder:\n    @staticmethod\n    def find_spec(name, *_):\n"
        f"        if name == 'auditor.cli.commands': raise {error}\n"
        "sys.meta_path.insert(0, Finder)\nfrom auditor.__main__ import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, timeout=60)
    assert done.returncode == {"MemoryError": 2, "KeyboardInterrupt": 130}[error]
    assert done.stderr.startswith("auditor: ")
    assert done.stderr.count("\n") == 1


# --- signals ------------------------------------------------------------------------------------


def stopped(*numbers: int, body: str = "", prefix: str = "") -> tuple[int, str]:
    """The exit status and the words of a program that gets signals while it works."""
    line = script(f"import time\n{body}\nprint('ready', flush=True)\ntime.sleep(50)")
    if prefix:
        line = ["bash", "-c", f'{prefix}; exec "$0" "$@"', *line]
    with subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # tests that run under nohup ignore it, and so would the program
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.2)
        _, err = process.communicate(timeout=60)
        return process.returncode, err


@pytest.mark.parametrize(
    ("number", "status", "by"),
    [
        (signal.SIGINT, 130, ""),
        (signal.SIGTERM, -signal.SIGTERM, " by SIGTERM"),  # which a shell shows as 143
        (signal.SIGHUP, -signal.SIGHUP, " by SIGHUP"),
    ],
)
def test_a_signal_ends_it_with_a_word(number: int, status: int, by: str) -> None:
    assert stopped(number) == (status, f"auditor: stopped{by}; {AGAIN}")


def test_a_second_signal_does_not_interrupt_the_end() -> None:
    again = "import atexit\natexit.register(os.kill, os.getpid(), 2)\n"
    done = ended(f"{again}os.kill(os.getpid(), 2)\nimport time\ntime.sleep(50)")
    assert (done.returncode, done.stderr) == (130, f"auditor: stopped; {AGAIN}")


def test_a_shell_sees_143_after_sigterm() -> None:
    done = ended("os.kill(os.getpid(), 15)", "; exit $?")
    assert done.returncode == 143
    assert "auditor: stopped by SIGTERM" in done.stderr


def test_a_signal_that_is_ignored_stays_so() -> None:
    status, err = stopped(signal.SIGHUP, signal.SIGTERM, prefix="trap '' HUP")
    assert (status, err) == (-signal.SIGTERM, f"auditor: stopped by SIGTERM; {AGAIN}")


def test_a_second_signal_ends_what_does_not_end() -> None:
    body = "import contextlib\nclass Slow:\n    def __enter__(self): pass\n" \
           "    def __exit__(self, *_): time.sleep(50)\nstack = contextlib.ExitStack()\n" \
           "stack.enter_context(Slow())\ndef work(seconds):\n    with stack: sleep(seconds)\n" \
           "sleep, time.sleep = time.sleep, time.sleep\n"  # fmt: skip
    line = script(f"import time\n{body}print('ready', flush=True)\nwork(50)")
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert time.monotonic() - start < 20


# --- standard streams ---------------------------------------------------------------------------


def test_a_full_standard_output_is_told() -> None:
    for body in ("print('x')", "print('x' * 100_000)", "print('x', flush=True); print('y')"):
        done = ended(body, "> /dev/full")
        assert done.returncode == 2, body
        assert done.stderr == (
            "auditor: Cannot write to the standard output: No space left on device.\n"
        )


def test_the_work_goes_on_without_standard_streams(tmp_path: Path) -> None:
    made = tmp_path / "made"
    body = (
        f"print('x', flush=True); print('x', file=sys.stderr, flush=True)\n"
        f"file = open({str(made)!r}, 'w')\n"
        "file.write(str(file.fileno())); file.close()"
    )
    for shell in (">&-", "2>&-", "2> /dev/full", "| true", ">&- 2>&- <&-", "2>&1 | true"):
        made.unlink(missing_ok=True)
        done = ended(body, shell)
        assert "Traceback" not in done.stdout + done.stderr, shell
        assert "Exception ignored" not in done.stdout + done.stderr, shell
        assert done.returncode == 0, shell
        assert int(made.read_text()) > 2, "no file of the run has a standard stream's number"


def test_a_terminal_that_is_not_utf_8_shows_what_it_can() -> None:
    for encoding in ("ascii", "latin-1"):
        body = "print('out\\u2603'); print('err\\u2603', file=sys.stderr); print('\\udcff')"
        done = ended(body, PYTHONIOENCODING=encoding)
        assert done.returncode == 0
        assert done.stdout == "out\\u2603\n\\udcff\n"
        assert done.stderr == "err\\u2603\n"


def test_warnings_of_libraries_end_no_run() -> None:
    done = ended("import warnings; warnings.warn('odd'); print('on')", PYTHONWARNINGS="error")
    assert (done.returncode, done.stdout) == (0, "on\n")
    assert "UserWarning: odd" in done.stderr


# --- memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("can't start new thread"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_errors_of_memory_are_told_from_others(error: Exception, memory: bool) -> None:
    assert lacks_memory(error) is memory
