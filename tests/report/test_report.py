"""The HTML: its structure, how much it shows, its pictures and charts, and how to repeat it."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest
from audits import SCRIPT, audit, run_folder
from hypothesis import given
from hypothesis import strategies as st
from pages import SVG, headings, parse, rendered, words_of
from PIL import Image

from auditor.config import AuditConfig
from auditor.record.schema import Audit
from auditor.report import charts, html, pictures, reproduction
from auditor.report.parts import HTML, PDF
from auditor.report.view import build

# --- the HTML's structure ---------------------------------------------------------------------


def test_writes_both_files_beside_the_audit(written: list[Path], folder: Path) -> None:
    assert written == [folder / "report.html", folder / "report.pdf"]
    assert all(path.stat().st_size > 10_000 for path in written)


@pytest.mark.parametrize("findings", [True, False])
def test_one_h1_and_no_skipped_level(findings: bool, tmp_path: Path) -> None:
    found = headings(rendered(audit(findings=findings), tmp_path))
    assert [level for level, _ in found].count(1) == 1
    assert found[0][0] == 1
    for (before, _), (after, title) in itertools.pairwise(found):
        assert after <= before + 1, title
    assert all(title for _, title in found)


def test_policy_and_language(page: Element) -> None:
    policy = [m.get("content") for m in page.iter("meta") if m.get("http-equiv")]
    assert policy == [
        "default-src 'none'; img-src data:; font-src data:; style-src 'unsafe-inline'"
    ]
    assert page.get("lang") == "en"


def test_nothing_runs_and_nothing_is_fetched(page: Element) -> None:
    tags = {str(e.tag).removeprefix(SVG) for e in page.iter()}
    assert not tags & {"script", "iframe", "object", "embed", "form", "input", "link", "base"}
    for element in page.iter():
        for attribute, value in element.attrib.items():
            assert not attribute.startswith("on"), attribute
            if attribute in {"src", "href", "srcset", "poster", "data"}:
                assert value.startswith(("data:image/jpeg;base64,", "#")), value[:60]
    for style in page.iter("style"):
        urls = re.findall(r"url\(\s*[\"']?([^\"')]*)", style.text or "")
        assert urls
        assert all(url.startswith("data:font/woff2;base64,") for url in urls)
        assert "@import" not in (style.text or "")


def test_pictures_and_charts_have_words(page: Element) -> None:
    images = list(page.iter("img"))
    assert len(images) > 20
    assert all(len(image.get("alt", "")) > 10 for image in images)
    drawings = list(page.iter(SVG + "svg"))
    assert len(drawings) > 20
    for drawing in drawings:
        title = drawing.find(SVG + "title")
        assert drawing.get("role") == "img"
        assert title is not None
        assert re.search(r"\d", title.text or ""), "a chart's title tells its numbers"


def test_tables_have_captions_and_scopes(page: Element) -> None:
    tables = list(page.iter("table"))
    assert len(tables) > 10
    for table in tables:
        caption = table.find("caption")
        assert caption is not None
        assert words_of(caption)
        for row in table.iter("tr"):
            assert row.find("th") is not None
        for section, scope in (("thead", "col"), ("tbody", "row")):
            group = table.find(section)
            assert group is not None
            assert {cell.get("scope") for cell in group.iter("th")} == {scope}


def test_links_arrive_and_identifiers_are_unique(page: Element) -> None:
    identifiers = Counter(e.get("id") for e in page.iter() if e.get("id"))
    assert set(identifiers.values()) == {1}
    links = [a.get("href", "") for a in page.iter("a")]
    assert len(links) > 15
    assert all(link[1:] in identifiers for link in links)
    assert links[0] == "#report", "the first link skips to the report"


# --- how much is shown ------------------------------------------------------------------------


def many_classes(quantity: int) -> Audit:
    saved = audit()
    template = saved.classes[3]
    more = [
        template.model_copy(update={"index": i, "name": f"class number {i}"})
        for i in range(6, quantity)
    ]
    return saved.model_copy(update={"classes": (*saved.classes, *more)})


def test_many_classes_become_a_table(tmp_path: Path) -> None:
    root = rendered(many_classes(100), tmp_path)
    pages = [e for e in root.iter("article") if e.get("class") == "class"]
    assert len(pages) == HTML.class_pages == 60
    assert "60 classes of 100 in full: those with findings, then the most divergent." in words_of(
        root
    )
    table = next(t for t in root.iter("table") if "The other" in words_of(t.find("caption")))  # type: ignore[arg-type]
    assert len(list(table.find("tbody") or ())) == 40
    shown = {e.get("id") for e in pages}
    assert {"class-0", "class-1", "class-2"} <= shown, "classes with findings come first"
    assert len(build(many_classes(100), PDF).pages) == PDF.class_pages


def test_many_findings_become_a_table(tmp_path: Path) -> None:
    saved = audit()
    more = [saved.findings[2].model_copy(update={"id": f"{i:012x}"}) for i in range(47)]
    root = rendered(saved.model_copy(update={"findings": (*saved.findings, *more)}), tmp_path)
    cards = [e for e in root.iter("article") if e.get("class", "").startswith("card ")]
    assert len(cards) == HTML.cards == 30
    table = next(t for t in root.iter("table") if "The other" in words_of(t.find("caption")))  # type: ignore[arg-type]
    rows = [words_of(row) for row in table.find("tbody") or ()]
    assert len(rows) == 20
    assert rows[0] == "freight car graffiti ○ suspected Naming 4.60 (3.80 to 5.40) 0.004"
    assert "showing 30 of 50 findings in full" in words_of(root)


def test_pictures_keep_to_their_budget(folder: Path, page: Element) -> None:
    saved = Audit.read(folder / "audit.json")
    budget = 12_000
    root = parse(html.render(saved, pictures.Thumbnails(folder), budget=budget))
    kept = [image.get("src", "") for image in root.iter("img")]
    assert 0 < len(kept) < len(list(page.iter("img")))
    assert sum(map(len, kept)) <= budget
    assert "left out to keep this file small" in words_of(root)


def test_a_thousand_classes_fit_in_ten_megabytes(tmp_path: Path) -> None:
    data = html.render(many_classes(1000), pictures.Thumbnails(tmp_path))
    assert len(data) + html.PICTURE_BUDGET < 10_000_000


# --- pictures ---------------------------------------------------------------------------------


def test_thumbnails_keep_pixels_and_nothing_else(tmp_path: Path) -> None:
    image = Image.new("RGB", (600, 300), (200, 30, 30))
    exif = Image.Exif()
    exif[0x010E] = "SECRET-PLACE"
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / "a.jpg", exif=exif, comment=b"SECRET-COMMENT")
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(b"SECRET-TAIL")
    made = pictures.Thumbnails(tmp_path).get("a.jpg")
    assert isinstance(made, pictures.Thumbnail)
    assert b"SECRET" not in made.jpeg
    assert b"Exif" not in made.jpeg
    assert (made.width, made.height) == (80, 160)


def test_only_pictures_inside_the_run_folder_are_read(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "outside.png")
    (run / "link.png").symlink_to(tmp_path / "outside.png")
    (run / "loop.png").symlink_to(run / "loop.png")
    (run / "folder.png").mkdir()
    (run / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (run / "page.png").write_bytes(b"<svg onload='x'/>")
    os.mkfifo(run / "pipe.png")
    thumbnails = pictures.Thumbnails(run)
    outside = ("../outside.png", str(tmp_path / "outside.png"), "link.png", "..\\outside.png", "")
    for file in outside:
        assert thumbnails.get(file) == pictures.Missing("the file lies outside the run folder")
    for file in ("nowhere.png", "loop.png", "folder.png", "broken.png", "page.png", "pipe.png"):
        assert isinstance(thumbnails.get(file), pictures.Missing), file


def test_missing_pictures_are_told(tmp_path: Path) -> None:
    root = rendered(audit(), tmp_path)
    assert not list(root.iter("img"))
    shown = words_of(root)
    assert "Picture not shown: the file is missing. prototypes/0/0.png" in shown


# --- charts -----------------------------------------------------------------------------------


def test_scales_hold_their_values_and_have_round_ticks() -> None:
    axis = charts.scale([-0.37, 0.91], include=(0.0, 1.0))
    assert axis.low < -0.37
    assert axis.high > 1.0
    assert [round(t, 6) for t in axis.ticks] == [0.0, 0.5, 1.0]
    assert axis.at(axis.low, 10, 90) == 10
    assert axis.at(5.0, 10, 90) == 90


def test_a_missing_layer_is_a_gap_in_the_path() -> None:
    layers = audit().classes[2].divergence.layers
    assert layers[4].normalised is None
    drawn = charts.path(layers, "a path with 1 gap")
    whole = charts.path(audit().classes[1].divergence.layers, "a path without 1 gap")
    assert drawn.count("<polyline") == 4
    assert whole.count("<polyline") == 2


def test_text_in_charts_is_escaped() -> None:
    drawn = charts.scatter(
        [charts.Point(0.1, 0.2, None, SCRIPT), charts.Point(0.5, 0.4, "suspected", None)],
        SCRIPT,
        x_label="x",
        y_label="y",
    )
    assert "<script" not in drawn
    assert drawn.count("&lt;script&gt;") == 2


# --- reproduction -----------------------------------------------------------------------------


@pytest.mark.parametrize("hostile", [False, True])
def test_command_and_settings_give_the_configuration_back(hostile: bool) -> None:
    saved = audit(hostile=hostile)
    spec = saved.spec
    line = shlex.split(reproduction.command(spec))
    assert line[:3] == ["auditor", "audit", "audit.toml"]
    flags = dict(zip(line[3::2], line[4::2], strict=True))
    overrides = {key: flags.get(flag) for key, flag in reproduction.FLAGS.items()}
    settings = tomllib.loads(reproduction.settings(spec))
    merged = settings | {
        key: value for key, value in overrides.items() if value is not None and "." not in key
    }
    merged["model"] = {"spec": overrides["model.spec"], **settings.get("model", {})}
    merged["seed"] = int(merged["seed"])
    assert AuditConfig.model_validate(merged) == saved.settings()


@given(st.text(max_size=60))
def test_any_setting_survives_the_file(value: str) -> None:
    spec = AuditConfig.model_validate(
        {
            "model": {"spec": "m"},
            "images": "p",
            "scope": {"title": value},
            "expected": {value: [value]},
        }
    )
    settings = tomllib.loads(reproduction.settings(spec.model_dump(mode="json")))
    assert settings["expected"] == {value: [value]}
    assert settings["scope"]["title"] == value


def test_digests_stand_in_full(page: Element) -> None:
    shown = words_of(page)
    for digit in "abcde":
        assert digit * 64 in shown
    assert reproduction.config_digest(audit(hostile=True).spec) in shown


# --- the same bytes, without PyTorch ----------------------------------------------------------

WITHOUT_TORCH = """
import importlib.abc, sys
from pathlib import Path

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "timm", "open_clip", "transformers"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
try:
    import torch
except ImportError:
    pass
else:
    raise SystemExit("the blocker does not block")
from auditor import report
report.write(Path(sys.argv[1]), pdf=False)
"""


def test_same_bytes_without_torch_in_another_place(
    folder: Path, written: list[Path], tmp_path: Path
) -> None:
    first = written[0].read_bytes()
    run_folder(tmp_path, Audit.read(folder / "audit.json"))
    subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path)],
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert (tmp_path / "report.html").read_bytes() == first
