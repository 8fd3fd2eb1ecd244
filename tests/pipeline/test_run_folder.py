"""Whose a run folder is, who holds it, and how a new audit takes the place of an old one."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from audits import audit, run_folder

from auditor.cli import commands
from auditor.core.storage import UNFINISHED
from auditor.errors import RunError
from auditor.pipeline.run_folder import (
    LOCK,
    RECORD,
    amend,
    claim,
    claim_work,
    locked,
    publish,
    staging,
)

MARK = "auditor: run folder, format 1\n"


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but its lock, with its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LOCK
    }


def put(folder: Path, *names: str, text: str = "mine") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


# --- whose it is --------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [True, False])
def test_an_empty_folder_or_a_new_one_is_marked(made: bool, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    if made:
        folder.mkdir(parents=True)
    claim(folder)
    assert tree(folder) == {".auditor": MARK.encode()}
    put(folder, "notes.txt", "pictures/mine.png")
    claim(folder)  # it stays ours, whatever is put into it


@pytest.mark.parametrize("name", [".DS_Store", ".gitkeep", ".auditor-tmp-0123", "lost+found/x"])
def test_what_systems_leave_in_an_empty_folder_is_nothing(name: str, tmp_path: Path) -> None:
    if "/" in name:
        (tmp_path / name).parent.mkdir()
    else:
        put(tmp_path, name)
    claim(tmp_path)
    assert (tmp_path / ".auditor").read_text() == MARK


FOREIGN = {
    "a document": ["thesis.docx"],
    "photos in folders of classes": ["0/a.png", "1/b.png"],
    "photos where prototypes go": ["prototypes/0/0.png", "prototypes/1/0.png"],
    "photos where pictures go": ["pictures/0123.jpg"],
    "a report of the user's": ["report.html"],
    "reports and a record of others": ["audit.json", "report.html", "report.pdf"],
    "a folder named work": ["work/notes.txt"],
    "numbers in work": ["work/photos/0123.safetensors"],
    "a lock that is not empty": [".lock"],
    "a hidden file": [".env"],
    "a file with the marker's name": [".auditor"],
    "the folder of a home": ["Desktop/x", ".bashrc"],
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_folder_of_the_user_is_refused_and_not_touched(what: str, tmp_path: Path) -> None:
    put(tmp_path, *FOREIGN[what])
    before, names = tree(tmp_path), set(tmp_path.rglob("*"))
    with pytest.raises(RunError) as refused, locked(tmp_path):
        pytest.fail("the folder was entered")
    told = str(refused.value)
    assert told.startswith(f"{tmp_path} is no run folder of this program: it holds '")
    assert told.endswith("; choose an empty folder or a new one for --out.")
    assert (tree(tmp_path), set(tmp_path.rglob("*"))) == (before, names)


@pytest.mark.parametrize("what", ["fifo", "folder", "link", "dangling link", "empty folder"])
def test_what_only_bears_a_name_of_ours_is_the_user_s(what: str, tmp_path: Path) -> None:
    folder, lock = tmp_path / "run", tmp_path / "run" / ".lock"
    folder.mkdir()
    (tmp_path / "precious").touch()
    match what:
        case "fifo":
            os.mkfifo(lock)
        case "folder":
            lock.mkdir()
        case "link":
            lock.symlink_to(tmp_path / "precious")
        case "dangling link":
            (folder / ".auditor").symlink_to("nowhere")
        case "empty folder":
            (folder / "pictures").mkdir()
    with pytest.raises(RunError, match="is no run folder of this program"):
        claim(folder)
    assert len(list(folder.iterdir())) == 1


def test_a_folder_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    part = "work/photos/" + "0" * 32 + ".safetensors"
    finished = run_folder(tmp_path / "finished", audit())
    for path in (finished / "pictures").rglob("*.png"):
        path.unlink()  # of the tests' own naming
    for folder in ("pictures", "clusters"):
        for path in sorted((finished / folder).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        (finished / folder).rmdir()
    put(finished, ".lock", text="")
    put(finished, "report.html", part, "pictures/" + "0" * 24 + ".jpg")
    put(tmp_path / "killed", ".lock", text="")
    put(tmp_path / "killed", part, "work/photos/.auditor-tmp-x")
    put(tmp_path / "begun", ".lock", text="")
    for name in ("finished", "killed", "begun"):
        with locked(tmp_path / name):
            assert (tmp_path / name / ".auditor").read_text() == MARK
    assert (finished / "audit.json").exists()
    finished.joinpath(".auditor").unlink()
    put(finished, "thesis.docx")
    with pytest.raises(RunError, match=r"it holds 'thesis\.docx'"):
        claim(finished)


def test_folders_of_another_kind_are_not_mixed(tmp_path: Path) -> None:
    claim(tmp_path / "demo", "example")
    with pytest.raises(RunError, match="is no run folder of this program"):
        claim(tmp_path / "demo")
    claim(tmp_path / "run")
    with pytest.raises(RunError, match="is no self-test of this program"):
        claim(tmp_path / "run", "self-test")


def test_a_kill_while_it_is_marked_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".auditor").touch()
    claim(tmp_path)
    put(tmp_path, "audit.json")
    claim(tmp_path)  # it stays ours


# --- the lock ---------------------------------------------------------------------------------


@contextlib.contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder until it is killed."""
    script = (
        "import sys; from pathlib import Path; from auditor.pipeline.run_folder import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_folder_serves_one_process_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    told = f"Another audit is writing to {out}; wait for it or choose another --out."
    with held(out) as process:
        with pytest.raises(RunError) as refused, locked(out):
            pytest.fail("the folder was entered")
        assert str(refused.value) == told
        line = ["auditor", "audit", "--model", "timm:x", "--images", "x", "--out", str(out)]
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit) as stopped:
            commands.main()
        assert stopped.value.code == 2
        assert capsys.readouterr() == ("", f"auditor: {told}\n")
        process.kill()
        process.wait(60)
        with locked(out):
            assert out.is_dir()
        with locked(out):
            pass


def test_the_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path):
        pass


def test_only_what_a_run_left_half_written_is_cleared(tmp_path: Path) -> None:
    claim(tmp_path)
    ours = [tmp_path / place / ".auditor-tmp-x" for place in (".", "work/photos", "prototypes/1")]
    theirs = [tmp_path / ".tmp-notes.txt", tmp_path / "sub" / ".auditor-tmp-y", tmp_path / ".lock"]
    for path in (*ours, *theirs):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kept")
    (tmp_path / ".auditor-tmp-folder").mkdir()
    (tmp_path / ".auditor-tmp-link").symlink_to(theirs[0])
    with locked(tmp_path):
        assert not any(path.exists() for path in ours)
    assert [path.read_text() for path in theirs] == ["kept"] * 3
    assert (tmp_path / ".auditor-tmp-link").exists()


def test_a_run_folder_that_no_disk_can_hold_is_told(tmp_path: Path) -> None:
    for name in ("a\0b", "x" * 300):
        with pytest.raises(RunError, match=r"^Cannot use .*folder: "), locked(tmp_path / name):
            pass


def test_a_run_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with (
            pytest.raises(RunError, match=r"^Cannot use .* as run folder: .*\.$"),
            locked(folder),
        ):
            pass


# --- an audit in the place of another ------------------------------------------------------------


OLD = {"audit.json": "old", "report.html": "old", "report.pdf": "old", "report/classes.html": "old",
       "report/classes-0001.html": "old", "prototypes/0/0.png": "old", "prototypes/1/0.png": "old",
       "pictures/a.jpg": "old"}  # fmt: skip
NEW = {"audit.json": "new", "prototypes/0/0.png": "new", "prototypes/0/1.png": "new",
       "pictures/b.jpg": "new"}  # fmt: skip


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run folder with an audit, and files of the user's beside it."""
    folder = tmp_path / "out"
    claim(folder)
    for name, text in OLD.items():
        put(folder, name, text=text)
    put(folder, "notes.txt", "prototypes/mine.txt")
    return folder


def stage(out: Path, *, keep: bool) -> Path | None:
    with locked(out), staging(out) as place:
        for name, text in NEW.items():
            put(place, name, text=text)
        return publish(out, keep=keep)


def texts(folder: Path) -> dict[str, str]:
    return {name: data.decode() for name, data in tree(folder).items()}


def test_another_audit_keeps_the_one_that_was_there(out: Path) -> None:
    kept = stage(out, keep=True)
    assert kept is not None
    assert kept.parent == out / "previous"
    assert texts(kept) == OLD | {"prototypes/mine.txt": "mine"}
    mine = {".auditor": MARK, "notes.txt": "mine"}
    found = {name: text for name, text in texts(out).items() if not name.startswith("previous/")}
    assert found == NEW | mine
    again = stage(out, keep=True)
    assert again is not None
    assert texts(again) == NEW
    assert len(list((out / "previous").iterdir())) == 2
    assert not (out / ".next").exists()
    assert not (out / ".change").exists()


def test_two_audits_that_would_have_the_same_name_are_both_kept(out: Path) -> None:
    first = stage(out, keep=True)
    for name, text in OLD.items():
        put(out, name, text=text)
    assert first is not None
    written = (first / "audit.json").stat().st_mtime
    os.utime(out / "audit.json", (written, written))
    second = stage(out, keep=True)
    assert second is not None
    assert second.name == first.name + "-2"


def test_the_same_audit_is_written_over_and_its_reports_go(out: Path) -> None:
    assert stage(out, keep=False) is None
    left = {name: text for name, text in OLD.items() if not name.startswith("report")}
    mine = {".auditor": MARK, "notes.txt": "mine", "prototypes/mine.txt": "mine"}
    assert texts(out) == left | NEW | mine


def test_an_audit_is_as_private_as_the_one_before(out: Path) -> None:
    (out / "audit.json").chmod(0o600)
    (out / "prototypes").chmod(0o700)
    stage(out, keep=True)
    assert stat.S_IMODE((out / "audit.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((out / "prototypes").stat().st_mode) == 0o700


def killed_after(count: int, act: Callable[[], object]) -> int:
    """The exit status of an act in a process that is killed when it has renamed so many files."""

    def deadly(rename: Callable[..., None]) -> Callable[..., None]:
        def done(*given: object) -> None:
            nonlocal count
            count -= 1
            if count < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            rename(*given)

        return done

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons: of forks with threads
        child = os.fork()
    if not child:
        for name in ("rename", "replace", "unlink"):
            setattr(os, name, deadly(getattr(os, name)))
        try:
            act()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("keep", [True, False])
def test_a_kill_at_any_rename_leaves_no_mix_and_is_made_good(keep: bool, tmp_path: Path) -> None:
    """The process is killed before its first rename, its second, and so on."""
    ends = []
    for count in range(40):
        out = tmp_path / str(count)
        claim(out)
        for name, text in OLD.items():
            put(out, name, text=text)
        status = killed_after(count, functools.partial(stage, out, keep=keep))
        assert status in (0, -signal.SIGKILL)
        found = texts(out)
        record = found.get("audit.json")
        if keep and record is not None:  # where results differ, nothing of the other is beside it
            shown = {
                n: t for n, t in found.items() if n.split("/")[0] in {x.split("/")[0] for x in OLD}
            }
            assert shown == (OLD if record == "old" else NEW), count
        if record == "new":
            assert not {"report.html", "report.pdf"} & found.keys()
        with locked(out):
            pass
        found = texts(out)
        if found["audit.json"] == "new":
            kept = {n.split("/", 2)[2]: t for n, t in found.items() if n.startswith("previous/")}
            assert kept == (OLD if keep else {})
        else:
            assert {name: found[name] for name in OLD} == OLD
        assert not (out / ".next").exists()
        assert not (out / ".change").exists()
        ends.append((status, found["audit.json"]))
        if status == 0:
            break
    assert ends[0] == (-signal.SIGKILL, "old")
    assert ends[-1] == (0, "new")
    assert len(ends) > 5
    assert all(record == "new" for _, record in ends[2:]), "a change that was begun is finished"


def test_an_audit_that_is_not_finished_leaves_the_old_one_whole(out: Path) -> None:
    before = texts(out)
    with locked(out), contextlib.suppress(RunError), staging(out) as place:
        put(place, "prototypes/0/0.png", text="new")
        raise RunError("Cannot write: No space left on device")
    assert texts(out) == before


def test_a_folder_that_was_replaced_during_the_run_is_not_written_to(out: Path) -> None:
    with locked(out), staging(out) as place:
        put(place, "audit.json", text="new")
        out.rename(out.parent / "elsewhere")
        put(out, "thesis.docx")
        with pytest.raises(RunError, match="was removed or replaced while the audit ran"):
            publish(out, keep=True)
    assert texts(out) == {"thesis.docx": "mine"}


def test_a_record_is_amended_only_in_its_own_place(out: Path) -> None:
    assert amend(out, b"old", b"amended")
    found = texts(out)
    assert found["audit.json"] == "amended"
    assert not {"report.html", "report.pdf"} & found.keys(), "they showed another record"
    assert not amend(out, b"old", b"amended again")
    assert texts(out) == found


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("name", ["report", "report/notes.txt"])
def test_a_folder_of_the_user_with_the_name_of_the_pages_stays(
    name: str, keep: bool, tmp_path: Path
) -> None:
    claim(tmp_path)
    put(tmp_path, "audit.json", name)
    stage(tmp_path, keep=keep)
    assert (tmp_path / name).read_text() == "mine"


def test_a_report_that_was_being_put_together_goes(out: Path) -> None:
    put(out, ".auditor-tmp-0/report/classes.html", "report/.auditor-tmp-0")
    with locked(out):
        pass
    assert not (out / ".auditor-tmp-0").exists()


def test_what_is_no_path_is_told(tmp_path: Path) -> None:
    for name in ("a\0b", "x" * 300, "\ud800"):
        with pytest.raises(RunError, match=r"^Cannot use .*; choose another --out\.$"):
            claim(tmp_path / name)


def test_only_times_and_places_make_no_other_audit() -> None:
    then = "2030-01-01T00:00:00Z"
    saved = audit()
    later = saved.provenance.model_copy(update={"finished": then, "seconds": {"load": 1.0}})
    moved = saved.spec | {"out": "elsewhere", "pdf": "no"}
    same = saved.model_copy(
        update={"created": then, "self_test": None, "provenance": later, "spec": moved}
    )
    assert saved.same_result(same)
    assert saved.same_result(type(saved).model_validate(json.loads(same.to_json())))
    seeded = saved.spec | {"seed": saved.settings().seed + 1}
    assert not saved.same_result(saved.model_copy(update={"spec": seeded}))
    assert not saved.same_result(saved.model_copy(update={"findings": ()}))


def test_parts_that_audits_share_are_cleared_only_of_what_nobody_writes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    claim(run)
    work = run / "work"
    claim_work(work)
    old, new = (work / "photos" / f"{UNFINISHED}{name}" for name in ("old", "new"))
    old.parent.mkdir()
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    with locked(run):
        assert old.exists()
        assert new.exists(), "another audit may be writing it"
    claim_work(work)
    assert not old.exists()
    assert new.exists()


def test_an_old_run_folder_whose_parts_are_shared_stays_the_program_s_own(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "work" / "probed").mkdir(parents=True)
    (run / "work" / "probed" / f"{'0' * 32}.safetensors").write_bytes(b"")
    (run / RECORD).write_text('{"tool": {"name": "auditor"}}')
    claim_work(run / "work")
    claim(run)
