"""The command line: exit codes, one sentence per mistake, and names that nobody can trust."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest
import tinyhtml5  # type: ignore[import-untyped]
from audits import audit
from miniature import BANK, Called, Project, at_home, called
from typer.testing import CliRunner

from auditor import report
from auditor.cli import commands, terminal
from auditor.config import AuditConfig
from auditor.errors import RunError
from auditor.pipeline import runner
from auditor.pipeline.run_folder import locked
from auditor.record.schema import Audit, Remark
from auditor.report import notes, pdf
from auditor.report.pictures import Missing, Thumbnails

BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
ELSEWHERE = "\u202egnp.exe"
NAMES = (
    "<script>alert(1)</script>",
    '"it\'s" & <img src=x onerror=alert(2)>',
    ELSEWHERE,
    "x" * 300,
    "../../etc/passwd",
    "a/b\\c",
    "\u200b",
    "{{ 7*7 }} [red]{% raw %}",
)
FOLDERS = ("0", NAMES[1], NAMES[2], "3", "4", "5", "6", NAMES[7])  # by index, or by name

FACTORY = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 8),
    )
"""
SETTINGS = """
[prototypes]
per_class = 1
steps = 2

[statistics]
q_level = 1e-6
permutations = 99
bootstrap = 99
"""


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


LINE = (
    "audit", "audit.toml", "--model", "python:mine:net", "--size", "32",
    "--class-names", "names.json", "--images", "photos", "--concepts", "bank.toml",
    "--out", "run", "--no-pdf", "--anyway",
)  # fmt: skip


def hostile(project: Project) -> Project:
    """A model, its class names, photos and a bank that nobody can trust."""
    bank = BANK.replace("sky", "<b>sky</b> ../../{{ 7*7 }}", 1)
    project.write("audit.toml", SETTINGS)
    return project.filled(factory=FACTORY, names=NAMES, bank=bank, labels=FOLDERS, n=6)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    with at_home(tmp_path) as project:
        hostile(project)
        yield monkeypatch


def refusal(done: Called) -> str:
    """The one sentence that the user is told."""
    assert done.code == 2
    assert "Traceback" not in done.err
    *stages, told = done.err.splitlines()
    assert set(stages) <= set(terminal.STAGES.values())
    assert told.startswith("auditor: ")
    assert told.endswith(".")
    assert done.out == ""
    return told.removeprefix("auditor: ")


# --- help and commands ------------------------------------------------------------------------


def shown(*line: str) -> str:
    done = CliRunner().invoke(
        commands.app, [*line, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}
    )
    assert done.exit_code == 0
    return done.stdout


def test_help_lists_the_commands() -> None:
    text = shown()
    for command in ("audit", "demo", "report", "schema"):
        assert re.search(rf"(?m)^\W*{command}\s+[A-Z]", text), command
        assert "Usage" in shown(command)


def test_help_lists_the_options_of_an_audit() -> None:
    text = shown("audit")
    for option in (
        "model", "images", "pool", "probe", "concepts", "classes", "out", "device", "seed", "size",
        "mean", "std", "class-names", "arch", "trust-code",
    ):  # fmt: skip
        assert re.search(rf"--{option}\s", text), option


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["nothing"],
        ["audit", "--nothing"],
        ["audit", "--seed", "many"],
        ["audit", "--seed"],
        ["report"],
        ["report", "a", "b"],
    ],
)
def test_a_line_that_is_no_command_has_code_2(
    line: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = called(*line)
    assert done.code == 2
    assert re.search("Usage|Error", done.out + done.err)
    assert "Traceback" not in done.err


def test_the_program_runs_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "auditor", "report", str(tmp_path)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"auditor: Cannot read the audit {tmp_path}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ([], (True, True, "no")),
        (["--no-trust-code", "--no-isolate", "--pdf"], (False, False, "auto")),
        (["--trust-code", "--isolate", "--no-pdf"], (True, True, "no")),
        (["--no-trust-pickle"], (False, True, "no")),  # the older name
    ],
)
def test_an_option_goes_over_the_file_both_ways(
    option: list[str], wanted: tuple[bool, bool, str], user: pytest.MonkeyPatch
) -> None:
    asked: list[AuditConfig] = []
    user.setattr(commands, "run", asked.append)
    Path("switched.toml").write_text(
        'model = {spec = "python:mine:net", trust_code = true}\nimages = "photos"\n'
        'pdf = "no"\nprototypes = {isolate = true}\n'
    )
    called("audit", "switched.toml", *option)
    (config,) = asked
    assert (config.model.trust_code, config.prototypes.isolate, config.pdf) == wanted


def test_a_file_of_classes_may_begin_with_a_byte_order_mark(user: pytest.MonkeyPatch) -> None:
    asked: list[AuditConfig] = []
    user.setattr(commands, "run", asked.append)
    Path("classes.txt").write_text("\ufeff7\n1\n", encoding="utf-8")
    called(*LINE, "--classes", "classes.txt")
    assert asked[0].classes == ("7", "1")


# --- mistakes ---------------------------------------------------------------------------------


def test_without_a_model_it_is_asked_for(user: pytest.MonkeyPatch) -> None:
    told = "model is missing: give --model or set it in the file."
    assert refusal(called("audit")) == told
    assert refusal(called("audit", "--images", "photos")) == told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (("--model", "nowhere:x"), "The model 'nowhere:x' starts with none of"),
        (("--model", "file:missing.pt2"), "missing.pt2"),
        (("--model", "python:nowhere:net"), "nowhere"),
        (("--classes", "poodle"), "no class 'poodle'; give classes an index from 0 to 7"),
        (("--classes", "8"), "The model has no class '8'"),
        (("--classes", "0," * 200 + "poodle"), "The model has no class 'poodle'"),
        (("--classes", ""), "classes = () cannot be used: "),
        (("--classes", "latin.txt"), "Cannot read the classes in latin.txt"),
        (("--probe", "clap"), "--probe 'clap' is unknown: give offline or open_clip:"),
        (("--probe", "open_clip:ViT-X/none"), "neither a folder nor a model that OpenCLIP knows"),
        (("--images", "nowhere"), "There is no folder or manifest nowhere; check the path."),
        (("--pool", "nowhere"), "There is no folder or manifest nowhere; check the path."),
        (("--concepts", "nowhere.toml"), "Cannot read the concepts 'nowhere.toml'"),
        (("--class-names", "few.txt"), "has 8 classes and there are 2 class names"),
        (("--device", "abacus"), "Device 'abacus' cannot be used on this machine"),
        (("--device", "hpu"), "Device 'hpu' cannot be used on this machine"),
        (("--device", "meta"), "Device 'meta' cannot be used on this machine"),
        (("--device", "cuda:999"), "Device 'cuda:999' cannot be used on this machine"),
        (("--mean", "0.5,half"), "--mean '0.5,half' is no list of numbers"),
        (("--mean", "nan,0,0"), "model.mean.0 = nan cannot be used"),
        (("--seed", "-1"), "seed = -1 cannot be used"),
        (
            ("--out", "bank.toml"),
            "Cannot use bank.toml as run folder: File exists; choose another --out.",
        ),
        (("--model", "\x1b[2J\x07\u202e:x"), "starts with none of"),
    ],
)
def test_a_mistake_is_one_sentence_and_code_2(
    changes: tuple[str, str], told: str, user: pytest.MonkeyPatch
) -> None:
    Path("latin.txt").write_bytes(b"caf\xe9")
    Path("few.txt").write_text("one\ntwo\n")
    sentence = refusal(called(*LINE, *changes))
    assert told in sentence
    assert sentence.isprintable(), "nothing rewrites the terminal"
    assert not Path("run/audit.json").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("audit.toml", b"seed = "), ("audit.toml", b"\xff\xfe"), ("audit.toml", b"[" * 5000),
        ("audit.yaml", b"seed: ["), ("audit.yaml", b"seed: 2001-99-99"), ("audit.yaml", b"- a"),
        ("audit.toml", b"sead = 1"), ("audit.toml", b"model = 3"), ("audit.txt", b""),
    ],
)  # fmt: skip
def test_a_corrupt_configuration_is_one_sentence(
    name: str, content: bytes, user: pytest.MonkeyPatch
) -> None:
    Path(name).write_bytes(content)
    refusal(called("audit", name, *LINE[2:]))
    assert not Path("run").exists()


def test_a_configuration_that_is_not_there_is_one_sentence(user: pytest.MonkeyPatch) -> None:
    told = refusal(called("audit", "nowhere.toml", *LINE[2:]))
    assert told.startswith("Cannot read the configuration nowhere.toml: ")


def test_a_run_folder_in_use_is_one_sentence(user: pytest.MonkeyPatch) -> None:
    with locked(Path("run")):
        told = refusal(called(*LINE))
    assert told == "Another audit is writing to run; wait for it or choose another --out."


def test_a_bug_keeps_its_traceback(user: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    user.setattr(runner, "run", broken)
    with pytest.raises(ZeroDivisionError):
        called(*LINE)


@pytest.mark.parametrize("code", [0, None, 3, "bye"])
def test_code_that_exits_does_not_decide_the_exit_code(
    code: object, user: pytest.MonkeyPatch
) -> None:
    def leaves(*_: object, **__: object) -> None:
        raise SystemExit(code)

    user.setattr(runner, "run", leaves)
    told = refusal(called(*LINE))
    assert told.startswith("Something that the program ran, such as the model's own code, called")
    assert repr(code) in told


def test_an_empty_run_folder_is_asked_for(user: pytest.MonkeyPatch) -> None:
    for out in ("", " "):
        told = refusal(called(*LINE, "--out", out))
        assert told == "out is empty; name the run folder with --out."


def test_the_user_s_own_folder_is_no_run_folder(user: pytest.MonkeyPatch) -> None:
    before = files(Path())
    told = refusal(called(*LINE, "--out", "."))
    assert told.startswith(". is no run folder of this program: it holds '")
    assert {name for name in files(Path()) if "__pycache__" not in name} == before


def test_a_stage_without_memory_is_named(user: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")

    user.setattr("auditor.models.loading.load", full)
    told = refusal(called(*LINE))
    assert told.startswith("The memory ended in the stage 'load'; set a smaller batch")


def test_an_audit_in_shards(user: pytest.MonkeyPatch) -> None:
    """The program as a whole: three calls that share a folder, and the merge."""
    for number in (1, 2):
        done = called(*LINE, "--shard", f"{number}/2")
        assert done.code == 0, done.err
        assert done.out.endswith(f"/shards/{number}-of-2.json\n")
        if number == 1:
            assert refusal(called("merge", "run")).startswith("1 of 2 shards are missing: 2/2;")
    done = called("merge", "run")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "run/report.html"
    assert refusal(called(*LINE, "--shard", "3/2")).startswith("--shard '3/2' is no share")


@pytest.mark.parametrize("seed", ["-1", "2147483648"])
def test_a_seed_that_cannot_be_used_is_refused_by_the_demo(
    seed: str, user: pytest.MonkeyPatch
) -> None:
    done = called("demo", "--seed", seed, "--out", "made")
    assert done.code == 2
    assert "Traceback" not in done.err
    assert not Path("made").exists()


def test_an_interrupted_run_says_how_to_go_on(user: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    user.setattr(runner, "run", interrupted)
    done = called(*LINE)
    assert done.code == 130
    assert "stopped; run the same command again to continue." in done.err


# --- saved audits -----------------------------------------------------------------------------


def test_a_report_is_rendered_from_the_record_alone(tmp_path: Path) -> None:
    audit().write(tmp_path / "audit.json")
    done = CliRunner().invoke(commands.app, ["report", str(tmp_path), "--no-pdf"])
    assert done.exit_code == 0
    assert done.stdout == f"{tmp_path / 'report.html'}\n"
    assert "MobileNetV2 before release 4" in (tmp_path / "report.html").read_text("utf-8")
    assert files(tmp_path) == {"audit.json", "report.html"}


PRINTED: dict[bytes, bytes] = {}  # by the record


@pytest.fixture
def printed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same audit is printed once for all tests, as it gives the same file every time."""

    def printed(saved: Audit, record: bytes, thumbnails: Thumbnails) -> bytes:
        if record not in PRINTED:
            PRINTED[record] = render(saved, record, thumbnails)
        return PRINTED[record]

    render = pdf.render
    monkeypatch.setattr(pdf, "render", printed)


@pytest.mark.usefixtures("printed_once")
@pytest.mark.parametrize("name", ["report.html", "report.pdf"])
@pytest.mark.parametrize("pdf", [True, False])
def test_a_report_that_is_the_user_s_own_is_neither_replaced_nor_removed(
    tmp_path: Path, name: str, pdf: bool
) -> None:
    audit().write(tmp_path / "audit.json")
    own = tmp_path / name
    own.write_bytes(b"%PDF-1.7 of a user" if name.endswith("pdf") else b"<html>of a user</html>")
    before = own.read_bytes()
    with pytest.raises(RunError, match=rf"{name} is no report of this program.*move it"):
        report.write(tmp_path, pdf=pdf)
    assert own.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["audit.json", name])
    own.unlink()
    for _ in range(2 if pdf == name.endswith("pdf") else 0):  # its own are written anew
        assert len(report.write(tmp_path, pdf=pdf)) == 1 + pdf


@pytest.mark.usefixtures("printed_once")
def test_a_pdf_of_another_audit_does_not_stay(tmp_path: Path) -> None:
    saved, pdf = tmp_path / "audit.json", tmp_path / "report.pdf"
    audit().write(saved)
    report.write(tmp_path)
    written = pdf.read_bytes()
    os.utime(pdf, (0, 0))  # a copy may change the times of files
    report.write(tmp_path, pdf=False)
    assert pdf.read_bytes() == written
    audit().model_copy(update={"created": "2030-01-01T00:00:00+00:00"}).write(saved)
    os.utime(pdf, (2**32, 2**32))  # the clock was ahead when it was made
    report.write(tmp_path, pdf=False)
    assert not pdf.exists()


def test_a_report_is_not_made_of_two_audits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another audit takes the place of the one that is being rendered."""
    saved = tmp_path / "audit.json"
    audit().write(saved)
    render = report.html.render

    def slow(*given: Any) -> bytes:
        page = render(*given)
        audit().model_copy(update={"title": "Another"}).write(saved)
        return page

    monkeypatch.setattr(report.html, "render", slow)
    told = refusal(called("report", str(tmp_path), "--no-pdf"))
    assert told == f"{saved} was replaced while its report was made; run `auditor report` again."
    assert not (tmp_path / "report.html").exists()


def test_a_report_is_as_private_as_its_record(tmp_path: Path) -> None:
    audit().write(tmp_path / "audit.json")
    (tmp_path / "audit.json").chmod(0o600)
    report.write(tmp_path, pdf=False)
    assert (tmp_path / "report.html").stat().st_mode & 0o777 == 0o600


def test_a_picture_whose_name_no_disk_can_hold_is_not_shown(tmp_path: Path) -> None:
    for name in ("\ud800.png", "x" * 300):
        assert isinstance(Thumbnails(tmp_path).get(name), Missing)


@pytest.mark.parametrize(("option", "pdf"), [(["--no-pdf"], False), (["--pdf"], True), ([], True)])
def test_the_pdf_is_written_unless_it_is_not_wanted(
    option: list[str], pdf: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def write(folder: Path, *, pdf: bool) -> list[Path]:
        asked.append((folder, pdf))
        return [folder / "first", folder / "second"]

    monkeypatch.setattr(report, "write", write)
    done = CliRunner().invoke(commands.app, ["report", "somewhere", *option])
    assert done.stdout == "somewhere/first\nsomewhere/second\n"
    assert asked == [(Path("somewhere"), pdf)]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "Cannot read the audit"),
        (b"{", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"schema_version": "9.0"}', "has schema version '9.0'"),
        (b'{"schema_version": "1.0"}', "is not a valid audit"),
    ],
)
def test_a_record_that_cannot_be_used_is_one_sentence(
    content: bytes | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "audit.json").write_bytes(content)
    assert told in refusal(called("report", str(tmp_path)))
    assert not (tmp_path / "report.html").exists()


def test_the_summary_prints_names_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    saved = audit(hostile=True)
    marked = saved.findings[0].model_copy(update={"concept": "[red]rouge[/red]\x1b[2J"})
    terminal.summary(saved.model_copy(update={"findings": (marked, *saved.findings[1:])}))
    out, err = capsys.readouterr()
    assert out == ""
    assert not {unicodedata.category(c) for c in err if c != "\n"} & {"Cc", "Cf", "Cs"}
    assert "[red]" in err
    assert "rouge[/red]" in "".join(err.split())
    assert "confirmed" in err
    assert "2 findings on photos, 1 suspected only, among 48 pairs" in (" ".join(err.split()))
    assert "rank 1" in err


def test_what_was_planted_in_a_class_that_is_not_audited_is_summed_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    saved = audit()
    assert saved.planted
    elsewhere = saved.planted[0].model_copy(update={"class_index": 999})
    terminal.summary(saved.model_copy(update={"planted": (elsewhere,)}))
    assert "planted: class 999 / " in " ".join(capsys.readouterr().err.split())


# --- names from outside, through a whole audit ------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A finished audit of a model whose classes have hostile names."""

    home: Path
    before: set[str]
    done: Called

    @property
    def saved(self) -> Audit:
        return Audit.read(self.home / "run" / "audit.json")

    @property
    def html(self) -> str:
        return (self.home / "run" / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("hostile")
    home = root / "a" / "b"  # so that ../../ stays where it can be seen
    home.mkdir(parents=True)
    with at_home(home) as project:
        hostile(project)
        before = files(root)
        return Run(home, before, called(*LINE))


def test_an_audit_of_hostile_names_is_whole(run: Run) -> None:
    assert run.done.code == 0, run.done.err
    assert run.done.out.splitlines() == ["run/audit.json", "run/report.html"]
    assert [c.name for c in run.saved.classes] == list(NAMES)
    assert [c.n_images for c in run.saved.classes] == [6] * len(NAMES)


def test_no_file_is_named_by_a_class_or_a_concept(run: Run) -> None:
    allowed = re.compile(
        r"audit\.json|report\.html|\.auditor(\.lock)?|prototypes/[0-7]/0\.png|pictures/[0-9a-f]{24}\.jpg"
        r"|work/[a-z]+/[0-9a-f]{32}\.safetensors|(scores|tests)\.parquet"
    )
    made = files(run.home.parents[1]) - run.before
    made = {file for file in made if "__pycache__" not in file}
    assert all(file.startswith("a/b/run/") for file in made)
    inside = [file.removeprefix("a/b/run/") for file in made]
    assert [file for file in inside if not allowed.fullmatch(file)] == []
    assert sum(file.startswith("prototypes/") for file in inside) == len(NAMES)
    recorded = {p.file for c in run.saved.classes for p in c.prototypes}
    recorded |= {p.file for c in run.saved.clusters for p in c.pictures}
    assert recorded <= set(inside)


def test_hostile_names_are_shown_as_text(run: Run) -> None:
    root: Element = tinyhtml5.parse(run.html, namespace_html_elements=False)
    assert not [e for e in root.iter() if str(e.tag).endswith("script")]
    for element in root.iter():
        assert not [name for name in element.attrib if name.startswith("on")]
        assert element.get("src", "data:").startswith("data:")
    for style in list(root.iter("style")):
        style.text = ""
    text = " ".join(" ".join(root.itertext()).split())
    for name in (*NAMES[:2], "gnp.exe", *NAMES[4:6], "(no name)", NAMES[7]):
        assert name in text, name
    assert not [piece for piece in text.split() if len(piece) > 100], "long names are cut"
    titles = [e.get("title") for e in root.iter("bdi")]
    assert "x" * 300 in titles
    assert "49 [red]" not in text, "nothing is evaluated"
    assert not set(BIDI) & set(run.html)


def test_the_terminal_is_not_rewritten(run: Run) -> None:
    for text in (run.done.out, run.done.err):
        assert not {unicodedata.category(c) for c in text if c != "\n"} & {"Cc", "Cf", "Cs"}


def test_nothing_found_says_what_would_have_been_found(run: Run) -> None:
    assert run.saved.findings == ()
    coverage = run.saved.coverage
    assert coverage.hypotheses > 0
    assert coverage.smallest_effect is not None
    assert re.fullmatch(
        r"none by the score alone: \d+ random scores cannot give q < 1e-06 among "
        rf"{coverage.hypotheses} pairs; only photos could",
        notes.smallest(coverage.smallest_effect),
    )
    assert f"None among the {coverage.hypotheses} hypotheses tested" in run.html
    assert "0 findings on photos, 0 suspected" in " ".join(run.done.err.split())


def test_the_summary_prints_serious_remarks_and_counts_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    saved = audit()
    remarks = (
        Remark(code="a", text="Labels may be read wrongly.\x1b[2J " + "why " * 60, serious=True),
        Remark(code="b", text="14 photos are copies."),
        Remark(code="c", text="3 files were skipped."),
    )
    coverage = saved.coverage.model_copy(update={"remarks": remarks})
    terminal.summary(saved.model_copy(update={"coverage": coverage}))
    told = " ".join(capsys.readouterr().err.split())
    assert "Read this first: Labels may be read wrongly. [2J why" in told
    assert told.count("why") == 60
    assert "copies" not in told
    assert "2 remarks on the inputs stand under Data in the report." in told
