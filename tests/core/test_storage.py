"""Files that survive a crash, results that are found again by content, and the folder's lock."""

from __future__ import annotations

import errno
import io
import os
import pickle
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save

from auditor.core import storage
from auditor.core.storage import (
    Work,
    digest_bytes,
    digest_file,
    digest_value,
    read_bytes,
    read_text,
    write_atomically,
)
from auditor.errors import RunError

FULL = OSError(errno.ENOSPC, "No space left on device")


def fail(*_: object, **__: object) -> None:
    raise FULL


def writes_half(descriptor: int, mode: str) -> Any:
    """An open file whose disk is full after half of what is written."""

    class Half(io.FileIO):
        def write(self, data: Any) -> int:
            super().write(data[: len(data) // 2])
            raise FULL

    return Half(descriptor, mode)


# --- whole or not at all ----------------------------------------------------------------------


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_atomically(path, b"\x00whole\xff")
    assert path.read_bytes() == b"\x00whole\xff"
    write_atomically(path, b"")
    assert path.read_bytes() == b""
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    write_atomically(tmp_path / "ours", b"")
    (tmp_path / "theirs").touch()
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "theirs").stat().st_mode
    )


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o000, 0o666)])
def test_who_may_read_a_new_file_the_system_decides(umask: int, mode: int, tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; "
        "from auditor.core.storage import write_atomically; "
        f"os.umask({umask}); write_atomically(Path(sys.argv[1]), b'new')"
    )
    path = tmp_path / "file"
    subprocess.run([sys.executable, "-c", script, str(path)], timeout=60, check=True)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_what_only_the_user_could_read_stays_so(tmp_path: Path) -> None:
    record, report = tmp_path / "record", tmp_path / "report"
    write_atomically(record, b"old")
    record.chmod(0o600)
    write_atomically(record, b"new")
    write_atomically(report, b"as private as the record", like=record)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (record, report)} == {0o600}
    report.chmod(0o640)
    write_atomically(report, b"again", like=record)
    assert stat.S_IMODE(report.stat().st_mode) == 0o640


def test_a_link_is_replaced_and_what_it_names_stays_whole(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "mine").chmod(0o600)
    (tmp_path / "file").symlink_to("mine")
    os.link(tmp_path / "mine", tmp_path / "hard")
    write_atomically(tmp_path / "file", b"new")
    write_atomically(tmp_path / "hard", b"new")
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert not (tmp_path / "file").is_symlink()
    assert [(tmp_path / name).read_bytes() for name in ("file", "hard")] == [b"new"] * 2


@pytest.mark.parametrize(
    ("name", "broken"),
    [("fdopen", writes_half), ("open", fail), ("fsync", fail), ("replace", fail)],
)
@pytest.mark.parametrize("before", [b"the old file", None])
def test_a_full_disk_leaves_the_old_file_whole(
    name: str, broken: Callable[..., Any], before: bytes | None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    with monkeypatch.context() as patched:
        patched.setattr(os, name, broken)
        with pytest.raises(RunError) as refused:
            write_atomically(path, b"the new file, which is longer")
    assert str(refused.value) == (
        f"Cannot write {path}: No space left on device; free some space or choose another folder."
    )
    assert (path.read_bytes() if path.exists() else None) == before
    assert set(tmp_path.iterdir()) <= {path}, "no temporary file is left behind"


def test_a_stopped_write_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "file"
    path.write_bytes(b"the old file")
    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"the new file")
    assert path.read_bytes() == b"the old file"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("last", ["fsync", "fchmod", "replace"])
def test_a_kill_leaves_the_old_file_whole(last: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"the old file")
    script = (
        "import os, sys; from pathlib import Path; "
        "from auditor.core.storage import write_atomically; "
        f"os.{last} = lambda *_: os.kill(os.getpid(), 9); "
        "write_atomically(Path(sys.argv[1]), b'new' * 100_000)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(path)], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"the old file"


def test_a_place_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"^Cannot write .*choose another folder\.$"):
        write_atomically(tmp_path / "file" / "inside", b"")


# --- reading what may be anything ---------------------------------------------------------------


def test_a_text_is_read_without_its_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfone\r\n")
    assert read_text(path, limit=8) == "one\r\n"
    assert read_bytes(path, limit=8) == b"\xef\xbb\xbfone\r\n"
    (tmp_path / "link").symlink_to(path)
    assert read_text(tmp_path / "link", limit=100) == "one\r\n"
    path.write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError):
        read_text(path, limit=8)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("folder", "Is a directory|Not a regular file"),
        ("fifo", "Not a regular file"),
        ("/dev/zero", "Not a regular file"),
        ("link to a device", "Not a regular file"),
        ("large", "Larger than 1,000 bytes"),
        ("300 MiB of a sparse file", "Larger than 1,000 bytes"),
        ("missing", "No such file"),
        ("zero\0byte", "null"),
        ("half of a pair \ud800", "surrogates"),
        ("link to itself", "Too many levels"),
    ],
)
def test_what_never_ends_or_is_too_large_is_no_text(what: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / what
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "link to a device":
        path.symlink_to("/dev/zero")
    elif what == "link to itself":
        path.symlink_to(path)
    elif what == "large":
        path.write_bytes(bytes(1001))
    elif "sparse" in what:
        with path.open("wb") as file:
            file.truncate(300 * 2**20)
    with pytest.raises(OSError, match=told):
        read_text(path, limit=1000)


# --- digests ----------------------------------------------------------------------------------


def test_digests_are_sha_256(tmp_path: Path) -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest_bytes(b"") == empty
    (tmp_path / "file").write_bytes(b"abc" * 100_000)
    assert digest_file(tmp_path / "file") == digest_bytes(b"abc" * 100_000)


def test_the_digest_of_a_value_depends_on_all_but_order() -> None:
    assert digest_value({"a": 1, "b": [2]}) == digest_value({"b": [2], "a": 1})
    different = [{"a": 1}, {"a": "1"}, {"a": 1.5}, {"a": None}, {"a": [1]}, ["a", 1], "\udce9",
                 "\\udce9", "\u00e9"]  # fmt: skip
    assert len({digest_value(value) for value in different}) == len(different)
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_value([float("nan")])


# --- finished stages --------------------------------------------------------------------------

ARRAYS: dict[str, NDArray[Any]] = {
    "rows": np.arange(12, dtype=np.float32).reshape(3, 4),
    "images": np.full((2, 3, 3, 3), 7, np.uint8),
    "flags": np.array([True, False]),
    "none": np.zeros((0, 5), np.float64),
    "one": np.array([3], np.int64),
}


class Stage:
    """Counts how often it is computed."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        self.arrays = arrays
        self.times = 0

    def __call__(self) -> dict[str, Any]:
        self.times += 1
        return self.arrays


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values, strict=True)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path / "work")


@pytest.mark.parametrize("most", [0, 1000])
def test_large_scratch_lives_on_disk_without_a_name(
    work: Work, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(storage, "SMALL", most)
    array = work.scratch((3, 4, 2), np.uint8)
    assert isinstance(array.base, np.memmap) == (most == 0)
    assert not array.any()
    array[1] = 7
    assert array.sum() == 7 * 8
    assert list(work.folder.glob("*")) == []


def test_a_disk_without_room_for_scratch_is_told(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SMALL", 0)
    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(RunError, match="No space left on device; free some space"):
        work.scratch((3,), np.float32)
    assert list(work.folder.iterdir()) == []


def test_a_finished_stage_is_not_repeated(work: Work) -> None:
    stage = Stage(ARRAYS)
    assert_same(work.arrays("photos", ["digest", 1], stage), ARRAYS)
    assert_same(work.arrays("photos", ["digest", 1], stage), ARRAYS)
    assert_same(Work(work.folder).arrays("photos", ["digest", 1], stage), ARRAYS)
    assert stage.times == 1


def test_another_input_or_stage_is_computed(work: Work) -> None:
    stage = Stage(ARRAYS)
    for name, key in [
        ("photos", ["digest", 1]), ("photos", ["digest", 2]), ("photos", ["other", 1]),
        ("photos", ["digest", "1"]), ("probed", ["digest", 1]),
    ]:  # fmt: skip
        work.arrays(name, key, stage)
    assert stage.times == 5


def test_views_and_transposed_arrays_are_kept_as_they_look(work: Work) -> None:
    wide = np.arange(24, dtype=np.float32).reshape(4, 6)
    stage = Stage({"turned": wide.T, "part": wide[::2, 1:3]})
    work.arrays("photos", 0, stage)
    found = work.arrays("photos", 0, stage)
    assert_same(found, {"turned": wide.T.copy(), "part": wide[::2, 1:3].copy()})
    assert stage.times == 1


class Payload:
    """What unpickles to a new folder."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.made),)


def damages(good: bytes, made: Path) -> Iterator[bytes]:
    yield b""
    yield good[:4]
    yield good[: len(good) // 2]
    yield good[:-1]
    yield good + b"\x00"
    yield b"\xff" * len(good)
    yield good[:-1] + bytes([good[-1] ^ 1])  # one bit of the last array
    yield good.replace(b"rows", b"rowz", 1)
    yield save(ARRAYS)  # the right arrays, and no word on who wrote them
    yield save(ARRAYS, {"sha256": storage._digest(ARRAYS, "")})  # as an older version kept them
    yield save({"rows": np.zeros((3, 4), np.float32)}, {"sha256": "0" * 64})
    for kind in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2):
        yield safetensors.torch.save({"rows": torch.zeros(3, dtype=kind)})
    yield pickle.dumps(Payload(made))


def test_a_damaged_file_is_computed_again_and_mended(work: Work, tmp_path: Path) -> None:
    stage = Stage(ARRAYS)
    work.arrays("photos", 0, stage)
    path = work.path("photos", 0)
    good = path.read_bytes()
    for times, content in enumerate(damages(good, tmp_path / "made"), start=2):
        assert content != good
        path.write_bytes(content)
        assert_same(work.arrays("photos", 0, stage), ARRAYS)
        assert stage.times == times, content[:80]
        assert path.read_bytes() == good
    assert not (tmp_path / "made").exists(), "nothing is unpickled"


def test_a_whole_file_of_another_stage_or_key_is_computed_again(work: Work) -> None:
    other, stage = Stage({"rows": np.ones((3, 4), np.float32)}), Stage(ARRAYS)
    path = work.path("photos", 0)
    path.parent.mkdir(parents=True)
    for times, (name, key) in enumerate([("photos", 1), ("probed", 0)], start=1):
        work.arrays(name, key, other)
        path.write_bytes(work.path(name, key).read_bytes())
        assert_same(work.arrays("photos", 0, stage), ARRAYS)
        assert stage.times == times


def test_what_cannot_be_the_result_is_computed_again_though_its_digest_is_right(
    work: Work,
) -> None:
    right = {"rows": np.ones((3, 4), np.float32)}

    def fits(arrays: dict[str, Any]) -> bool:
        rows = arrays["rows"]
        return rows.shape == (3, 4) and bool(np.isfinite(rows).all())

    wrong = [
        {"rows": np.ones((2, 4), np.float32)},
        {"rows": np.full((3, 4), np.nan, np.float32)},
        {"lines": np.ones((3, 4), np.float32)},
    ]
    for arrays in wrong:
        work.path("photos", 0).unlink(missing_ok=True)
        work.arrays("photos", 0, Stage(arrays))
        stage = Stage(right)
        assert_same(work.arrays("photos", 0, stage, fits=fits), right)
        assert_same(work.arrays("photos", 0, stage, fits=fits), right)
        assert stage.times == 1


@pytest.mark.parametrize("what", ["fifo", "folder", "device"])
def test_what_is_no_file_is_computed_again_or_told(what: str, work: Work) -> None:
    path = work.path("photos", 0)
    path.parent.mkdir(parents=True)
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    stage = Stage(ARRAYS)
    if what == "folder":
        with pytest.raises(RunError, match="Is a directory"):
            work.arrays("photos", 0, stage)
    else:
        assert_same(work.arrays("photos", 0, stage), ARRAYS)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_changed_byte_is_trusted(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    work = Work(tmp_path_factory.getbasetemp() / "bytes")
    stage = Stage(ARRAYS)
    work.arrays("photos", 0, stage)
    path = work.path("photos", 0)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert_same(work.arrays("photos", 0, stage), ARRAYS)


def test_a_stage_that_fails_leaves_nothing(work: Work) -> None:
    def broken() -> dict[str, Any]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work.arrays("photos", 0, broken)
    assert not work.path("photos", 0).exists()


def test_objects_are_not_kept(work: Work) -> None:
    with pytest.raises(SafetensorError):
        work.arrays("photos", 0, Stage({"objects": np.array([{}], dtype=object)}))
    assert not work.path("photos", 0).exists()


def test_the_program_s_digest_is_of_its_files() -> None:
    found = storage.digest_package()
    assert re.fullmatch("[0-9a-f]{64}", found)
    home = Path(storage.__file__).parents[1]
    files = sorted(home.rglob("*.py"))
    assert home / "report" / "words.py" in files
    listed = [[p.relative_to(home).as_posix(), storage.digest_file(p)] for p in files]
    assert found == storage.digest_value(listed)
