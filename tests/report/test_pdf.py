"""The PDF: its tags, links and attachments, and what it refuses."""

from __future__ import annotations

import importlib.abc
import re
import sys
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from audits import SCRIPT, audit, run_folder

from auditor import report
from auditor.errors import RunError
from auditor.record.schema import Audit
from auditor.report import pictures


def structure(document: Any) -> list[Any]:
    """Every element of the structure tree."""
    found, left = [], [document.Root.StructTreeRoot.K]
    while left:
        node = left.pop()
        if isinstance(node, pikepdf.Array):
            left.extend(node)
        elif isinstance(node, pikepdf.Dictionary):
            if "/S" in node:
                found.append(node)
            if "/K" in node:
                left.append(node.K)
    return found


def test_pdf_carries_the_audit(document: Any, folder: Path) -> None:
    assert list(document.attachments) == ["audit.json"]
    attached = document.attachments["audit.json"]
    assert attached.get_file().read_bytes() == (folder / "audit.json").read_bytes()
    assert str(attached.get_file().obj.Params.CreationDate) == "D:20261123101430Z"
    assert str(document.Root.AF[0].AFRelationship) == "/Source"
    assert len(document.Root.AF) == 1


def test_pdf_says_what_it_is(document: Any) -> None:
    assert str(document.Root.Lang) == "en"
    assert str(document.docinfo["/Title"]).startswith(SCRIPT + "extremely")
    assert str(document.docinfo["/CreationDate"]) == "D:20261123101430Z"
    assert document.Root.MarkInfo.Marked
    with document.open_metadata() as metadata:
        assert metadata.pdfa_status == "3U"
    assert not document.check_pdf_syntax()


def test_pdf_summary_is_one_page(document: Any) -> None:
    with document.open_outline() as outline:
        titles = [item.title for item in outline.root]
        scope = outline.root[1].destination
    assert titles[:3] == ["1 Summary", "2 Scope", "3 Criteria"]
    assert scope[0].objgen == document.pages[1].obj.objgen, "scope begins on the second page"
    with document.open_outline() as outline:
        children = {str(child.title) for item in outline.root for child in item.children}
    assert "cockatoo" in children


def test_pdf_is_tagged_for_readers(document: Any) -> None:
    elements = structure(document)
    figures = [e for e in elements if e.S == "/Figure"]
    heads = [e for e in elements if e.S == "/TH"]
    assert len(figures) > 20
    assert all(str(e.get("/Alt", "")) for e in figures)
    assert {str(e.A.Scope) for e in heads} == {"/Row", "/Column"}
    assert sum(e.S == "/H1" for e in elements) == 1


def test_pdf_links_only_to_itself(document: Any) -> None:
    actions = [
        note.A
        for sheet in document.pages
        for note in sheet.get("/Annots", ())
        if "/A" in note and note.A.S != "/GoTo"
    ]
    assert not actions
    assert "/OpenAction" not in document.Root
    assert "/JavaScript" not in document.Root.get("/Names", {})


def test_pdf_is_the_same_file_again(written: list[Path], folder: Path) -> None:
    from auditor.report import pdf

    record = (folder / "audit.json").read_bytes()
    again = pdf.render(
        Audit.read(folder / "audit.json"), record, pictures.Thumbnails(folder, side=report.PRINTED)
    )
    assert again == written[1].read_bytes()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('<img src="https://example.com/a.jpg" alt="a">', "outside it: https://example.com/a.jpg"),
        ('<img src="file:///etc/hostname" alt="a">', "outside it: file:///etc/hostname"),
        ('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" alt="a">', "outside it: data:"),
        ('<img src="a.jpg" alt="a">', "faulty"),
        ('<p style="background: url(https://example.com/b)">b</p>', "outside it: https:"),
        ('<a href="#nowhere">c</a>', "faulty"),
    ],
)
def test_pdf_refuses_what_is_outside_and_what_is_faulty(
    body: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from auditor.report import pdf

    monkeypatch.setattr(pdf, "page", lambda *_: f'<html lang="en"><title>t</title>{body}')
    with pytest.raises(RunError, match=re.escape(said)):
        pdf.render(audit(), b"{}", pictures.Thumbnails(tmp_path))


def test_without_native_libraries_the_html_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Lacking(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname: str, path: object, target: object = None) -> None:
            if fullname == "auditor.report.pdf":
                print("WeasyPrint could not import some external libraries")
                raise OSError("cannot load library 'libpango-1.0-0'")

    monkeypatch.delitem(sys.modules, "auditor.report.pdf", raising=False)
    monkeypatch.delattr(report, "pdf", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Lacking(), *sys.meta_path])
    run_folder(tmp_path, audit())
    with pytest.raises(RunError, match=r"install libpango-1\.0-0, libpangoft2-1\.0-0 and libharf"):
        report.write(tmp_path)
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert not (tmp_path / "report.pdf").exists()
    assert capsys.readouterr().out == ""


def test_an_audit_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"Cannot read the audit .*audit\.json"):
        report.write(tmp_path)
