"""The pages of classes beside a report: links, bytes, and how they take another's place."""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from audits import SCRIPT, audit, run_folder
from pages import SVG, headings, parse, words_of

from auditor import report
from auditor.errors import RunError
from auditor.record.schema import Audit
from auditor.report import html, pages, places
from auditor.report.parts import HTML, PDF
from auditor.report.view import build
from benchmarks import large_record


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six classes are many here, and so are two findings; a file has room for four classes."""
    for module in (places, pages, html):
        monkeypatch.setattr(module, "HTML", replace(HTML, class_pages=5, cards=1))
    for module in (places, pages):
        monkeypatch.setattr(module, "PER_FILE", 4)


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a report's HTML, by its path below the run folder."""
    found = [folder / "report.html", *sorted((folder / "report").glob("*"))]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A run folder with a report of six classes and three findings."""
    folder = tmp_path / "large"
    audit().write(folder / "audit.json")
    report.write(folder, pdf=False)
    return folder


def test_every_class_and_finding_has_its_page_and_links_arrive(large: Path) -> None:
    saved = Audit.read(large / "audit.json")
    trees = {name: parse(data) for name, data in files(large).items()}
    assert list(trees) == [
        "report.html", *(f"report/classes-000{i}.html" for i in (1, 2)), "report/classes.html"
    ]  # fmt: skip
    ids = {name: Counter(e.get("id") for e in root.iter() if e.get("id"))
           for name, root in trees.items()}  # fmt: skip
    linked: dict[str, set[str]] = {}
    for name, root in trees.items():
        assert set(ids[name].values()) == {1}
        for a in root.iter("a"):
            file, _, anchor = a.get("href", "").partition("#")
            target = os.path.normpath(Path(name).parent / file) if file else name
            assert target in trees, "links lead to the report's own files alone"
            assert not anchor or anchor in ids[target]
            linked.setdefault(name, set()).add(f"{target}#{anchor}")
    every = {f"class-{c.index}" for c in saved.classes}
    every |= {f"finding-{i + 1}" for i in range(3)}
    beside = [name for name in trees if "-" in name]
    shown = Counter(i for name in beside for i in ids[name] if i in every)
    assert shown == Counter(every), "each stands on one page"
    listed = {link.partition("#")[2] for link in linked["report/classes.html"]}
    assert {f"class-{c.index}" for c in saved.classes} <= listed
    assert all("report.html#" in linked[name] for name in trees if name != "report.html")
    assert "report/classes.html#" in linked["report.html"]
    found = {link for link in linked["report.html"] if link.startswith("report/")}
    assert {"finding-2", "finding-3"} <= {link.partition("#")[2] for link in found}
    for name, root in trees.items():
        levels = [level for level, _ in headings(root)]
        assert levels.count(1) == 1, name
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_pages_stand_alone_and_show_what_the_report_leaves_out(large: Path) -> None:
    saved = Audit.read(large / "audit.json")
    c = saved.classes[5]  # which has no rank
    root = parse((large / "report" / "classes-0002.html").read_bytes())
    policy = [m.get("content") for m in root.iter("meta") if m.get("http-equiv")]
    assert policy == [
        "default-src 'none'; img-src data:; font-src data:; style-src 'unsafe-inline'"
    ]
    tags = {str(e.tag).removeprefix(SVG) for e in root.iter()}
    assert not tags & {"script", "iframe", "object", "embed", "form", "input", "link", "base"}
    article = next(e for e in root.iter("article") if e.get("id") == f"class-{c.index}")
    assert all(score.concept in words_of(article) for score in c.concepts)
    nav = words_of(next(iter(root.iter("nav"))))
    assert nav.startswith("Classes 5 to 6 of 6 by divergence The report All classes More diver")


def test_the_pdf_tells_where_the_rest_is() -> None:
    shown = build(large_record.record(70, findings=1), PDF)
    assert "70 classes have their pages in the folder “report” beside report.html" in (
        shown.pages_note
    )
    assert "which leaves out 5 more" in shown.pages_note
    assert {row.link for row in shown.page_rows} == {""}, "a PDF links only to itself"


def test_hostile_names_are_escaped_and_bytes_are_the_same(tmp_path: Path) -> None:
    run_folder(tmp_path, audit(hostile=True))
    report.write(tmp_path, pdf=False)
    first = files(tmp_path)
    assert len(first) == 4
    for name, data in first.items():
        root = parse(data)
        assert not list(root.iter("script")), name
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200f]", data.decode()), name
        for image in root.iter("img"):
            assert image.get("src", "").startswith("data:image/jpeg;base64,")
    assert any(SCRIPT in words_of(parse(data)) for data in first.values())
    assert sum(b"<img" in data for data in first.values()) == 3
    report.write(tmp_path, pdf=False)
    assert files(tmp_path) == first


def test_pages_of_an_earlier_report_go(large: Path) -> None:
    (large / "report" / "classes-0002.html").rename(large / "report" / "classes-0003.html")
    report.write(large, pdf=False)
    assert list(files(large)) == [
        "report.html", "report/classes-0001.html", "report/classes-0002.html",
        "report/classes.html",
    ]  # fmt: skip
    saved = audit(findings=False)
    few = saved.model_copy(
        update={
            "classes": saved.classes[:5],
            "coverage": saved.coverage.model_copy(update={"classes": 5, "not_tested": ()}),
        }
    )
    few.write(large / "audit.json")
    assert report.write(large, pdf=False) == [large / "report.html"]
    assert sorted(path.name for path in large.iterdir()) == ["audit.json", "report.html"]


@pytest.mark.parametrize("name", ["report/notes.txt", "report/classes-0001.html", "report"])
def test_a_folder_of_the_user_is_refused_and_not_touched(name: str, tmp_path: Path) -> None:
    audit().write(tmp_path / "audit.json")
    own = tmp_path / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("<html>mine")
    with pytest.raises(RunError, match=rf"{name} is no page of a report of this program.*move it"):
        report.write(tmp_path, pdf=False)
    assert own.read_text() == "<html>mine"
    assert not (tmp_path / "report.html").exists()


def test_a_small_report_leaves_a_folder_of_the_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "HTML", HTML)
    audit().write(tmp_path / "audit.json")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "classes.html").write_text("mine")
    report.write(tmp_path, pdf=False)
    assert (tmp_path / "report" / "classes.html").read_text() == "mine"


def test_of_a_link_only_the_link_is_replaced(tmp_path: Path) -> None:
    run, mine = tmp_path / "run", tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    audit().write(run / "audit.json")
    (run / "report").symlink_to(mine)
    report.write(run, pdf=False)
    assert len(files(run)) == 4
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]


class Killed(BaseException):
    """Stands for the end of the process."""


def until(left: Iterator[int], act: Callable[..., None], *given: Any, **more: Any) -> None:
    """Act as long as something is left."""
    if next(left, None) is None:
        raise Killed
    act(*given, **more)


def test_a_stop_at_any_change_leaves_no_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No change of a file's name is made after the first, after the second, and so on."""
    sign = report.SIGNS["report.html"].decode()

    def drawn(saved: Audit, *_: object) -> bytes:
        return f"{sign}{saved.title}".encode()

    def paged(saved: Audit, _: Path) -> list[tuple[str, bytes]]:
        return [(name, drawn(saved)) for name in ("classes.html", "classes-0001.html")]

    monkeypatch.setattr(html, "render", drawn)
    monkeypatch.setattr(pages, "render", paged)
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, title in ((old, "old"), (new, "new")):
        audit().model_copy(update={"title": title}).write(folder / "audit.json")
        report.write(folder, pdf=False)
    for count in range(40):
        out = tmp_path / str(count)
        for name, data in files(old).items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(data)
        (out / "audit.json").write_bytes((new / "audit.json").read_bytes())
        left = iter(range(count))
        with monkeypatch.context() as patched:
            for name in ("rename", "replace", "unlink", "rmdir"):
                patched.setattr(os, name, functools.partial(until, left, getattr(os, name)))
            try:
                report.write(out, pdf=False)
            except Killed:
                pass
            else:
                assert files(out) == files(new)
                break
        if (out / "report.html").exists():
            assert files(out) in (files(old), files(new)), count
        report.write(out, pdf=False)
        assert files(out) == files(new)
    assert 8 < count < 39


def test_pages_are_as_private_as_the_record(tmp_path: Path) -> None:
    audit().write(tmp_path / "audit.json")
    (tmp_path / "audit.json").chmod(0o600)
    report.write(tmp_path, pdf=False)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "report").iterdir()}
    assert modes == {0o600}
    assert (tmp_path / "report").stat().st_mode & 0o777 == 0o700
