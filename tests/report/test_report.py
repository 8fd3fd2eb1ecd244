"""The report: what it says, what it refuses, and the structure of both files."""

from __future__ import annotations

import importlib.abc
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pikepdf
import pytest
import tinyhtml5  # type: ignore[import-untyped]
from audits import LONG, QUOTES, SCRIPT, audit, run_folder
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from auditor import report
from auditor.config import AuditConfig
from auditor.core.estimates import Estimate
from auditor.errors import RunError
from auditor.record.codes import TestName
from auditor.record.schema import Audit, Evidence, ModelInput, NotTested, Reason, Remark
from auditor.report import charts, claims, html, pictures, reproduction, text, words
from auditor.report.parts import HTML, PDF
from auditor.report.view import build

SVG = "{http://www.w3.org/2000/svg}"
BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    saved = audit(hostile=True, self_test=True)
    return run_folder(tmp_path_factory.mktemp("run"), saved)


@pytest.fixture(scope="module")
def written(folder: Path) -> list[Path]:
    return report.write(folder)


@pytest.fixture(scope="module")
def page(written: list[Path]) -> Element:
    return parse(written[0].read_bytes())


@pytest.fixture(scope="module")
def document(written: list[Path]) -> Any:
    with pikepdf.open(written[1]) as opened:
        yield opened


def parse(data: bytes) -> Element:
    parsed: Element = tinyhtml5.parse(data.decode(), namespace_html_elements=False)
    return parsed


def rendered(saved: Audit, tmp_path: Path) -> Element:
    return parse(html.render(saved, pictures.Thumbnails(tmp_path)))


def words_of(element: Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def headings(root: Element) -> list[tuple[int, str]]:
    return [
        (int(e.tag[1]), words_of(e)) for e in root.iter() if re.fullmatch(r"h[1-6]", str(e.tag))
    ]


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


# --- names from outside -----------------------------------------------------------------------


def test_hostile_names_are_text(page: Element, written: list[Path]) -> None:
    shown = words_of(page)
    assert SCRIPT in shown
    assert QUOTES in shown
    assert "{{ 7*7 }}" in shown
    assert "gnp.exe stop" in shown
    raw = written[0].read_text(encoding="utf-8")
    assert not set(BIDI) & set(raw)
    assert not [c for c in raw if unicodedata.category(c) == "Cc" and c != "\n"]


def test_long_names_are_cut_with_the_whole_in_the_title(page: Element) -> None:
    whole = " ".join(LONG.split())
    cut = [e for e in page.iter("bdi") if e.get("title") == whole]
    assert cut
    assert all(len(words_of(e)) <= 40 and words_of(e).count("…") == 1 for e in cut)


@given(st.text(alphabet=st.characters(), max_size=300), st.integers(min_value=2, max_value=60))
def test_cleaned_names_hold_nothing_hidden(raw: str, limit: int) -> None:
    shown = text.name(raw, limit)
    assert len(shown.short) <= max(limit, len("(no name)"))
    assert not {unicodedata.category(c) for c in shown.full} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert text.clean(shown.full) == shown.full
    assert shown.full.encode()


def test_stacked_marks_are_thinned() -> None:
    assert text.clean("a" + "\u0301" * 40) == "a\u0301\u0301"


# --- what is said -----------------------------------------------------------------------------


def test_sections_stand_in_order(page: Element) -> None:
    titles = [title for level, title in headings(page) if level == 2]
    assert titles == [
        "1 Summary",
        "2 Scope",
        "3 Criteria",
        "4 Data and probe",
        "5 Ranking by divergence",
        "6 Findings",
        "7 What was planted, what was found",
        "8 Classes",
        "9 Shared shortcuts",
        "10 Detection power",
        "11 Not assessed, limits and residual risk",
        "12 Reproduction and sign-off",
    ]


def test_claims_say_no_more_than_their_grade() -> None:
    confirmed, corroborated, suspected = (card.claim for card in build(audit(), HTML).cards)
    assert confirmed == (
        "Drawn on photos of other classes, “Chinese watermark” raises the probability of “carton” "
        "by 0.31 (0.25 to 0.37); a matched edit without its meaning changes it by "
        "0.020 (−0.010 to 0.050)."
    )
    assert corroborated.endswith("q\u00a0=\u00a00.011. No experiment has shown a cause.")
    assert suspected.endswith("q\u00a0=\u00a00.004. It was not tested on photos of other classes.")
    assert "relies" not in corroborated + suspected


def test_page_one_names_what_a_finding_is_not_told_from_unless_it_was_drawn(tmp_path: Path) -> None:
    alike = ("winter", "<b>ice</b>", "sleet", "fog")
    found = tuple(f.model_copy(update={"alike": alike}) for f in audit().findings)
    shown = words_of(rendered(audit().model_copy(update={"findings": found}), tmp_path))
    assert re.search(r"for husky \(not told from winter ?, <b>ice</b> and 2 more ?\)", shown)
    assert "for carton (" not in shown


def test_a_suspicion_tells_the_test_that_speaks_for_it() -> None:
    finding = audit().findings[1].model_copy(update={"grade": "suspected"})
    naming, association = finding.evidence
    naming = naming.model_copy(update={"q": 0.5})
    moved = audit().findings[0].evidence[2]
    assert moved.test == "insertion"
    names = text.name("husky"), text.name("snow")

    def claimed(basis: TestName, *evidence: Evidence) -> str:
        changed = finding.model_copy(update={"evidence": evidence, "basis": basis})
        return claims.claim(changed, *names)

    assert claimed("naming", naming).endswith("It was not tested on photos of other classes.")
    told = claimed("association", naming, association)
    assert told.startswith("Photos of other classes that show “snow” lean towards “husky”: +1.42")
    assert told.endswith("but whether photos of the class show it is not known.")
    around = association.model_copy(update={"test": "surroundings"})
    common = Estimate(value=0.75, low=0.7, high=0.8, n=20)
    prevalent = association.model_copy(update={"test": "prevalence", "effect": common})
    still = around.model_copy(update={"effect": Estimate(value=0.1, low=-0.1, high=0.3, n=20)})
    rare = prevalent.model_copy(update={"effect": Estimate(value=0.6, low=0.5, high=0.7, n=20)})
    assert claimed("association", naming, association, still, rare).endswith(
        "but photos of the class hardly show it more often than others: 0.60 (0.50 to 0.70); "
        "surroundings that show it, put around other objects, do 0.10 (−0.10 to 0.30)."
    )
    for evidence in ((association, prevalent), (association, around, prevalent)):
        assert claimed("association", naming, *evidence).endswith("do not bear it out far enough.")
    assert claimed("insertion", naming, association, moved).startswith(
        "Drawn on photos of other classes, “snow”"
    )
    assert claimed("insertion", naming, moved).endswith("or hide what speaks for the true one.")
    weak = moved.model_copy(update={"control": moved.effect.model_copy(update={"value": 0.29})})
    assert claimed("insertion", naming, weak, prevalent).endswith("than others is not sure enough.")
    assert claimed("naming", naming, weak, rare).endswith("have not borne it out.")
    vain = association.model_copy(update={"q": 0.9})
    assert claimed("naming", naming, vain).endswith("have not borne it out.")


def test_a_weak_experiment_is_told_with_what_may_explain_it() -> None:
    finding = audit().findings[1]
    naming, association = finding.evidence
    around = association.model_copy(update={"test": "surroundings", "q": 1e-5})
    drawn = audit().findings[0].evidence[2].model_copy(update={"q": 1e-6})
    names = text.name("husky"), text.name("snow")

    def claimed(basis: TestName, *evidence: Evidence) -> str:
        changed = finding.model_copy(update={"evidence": evidence, "basis": basis})
        return claims.claim(changed, *names)

    assert claimed("surroundings", naming, association, around).startswith(
        "The surroundings of photos that show “snow”, put around objects of other classes, lean "
        "towards “husky”: +1.42 (0.92 to 1.92) in log-odds"
    )
    told = claimed("insertion", naming, association, around, drawn)
    assert "a matched edit without its meaning changes it by 0.020 (−0.010 to 0.050); but" in told
    assert told.endswith("but this is less than a confirmation asks for.")
    rare = Estimate(value=0.85, low=0.7, high=0.95, n=12)
    unsure = association.model_copy(update={"test": "prevalence", "effect": rare})
    told = claimed("insertion", naming.model_copy(update={"p": 2e-4}), unsure, drawn)
    assert told.endswith("but that photos of the class show it more often than others is not sure "
                         "(its score has p < 0.001).")  # fmt: skip
    wide = Estimate(value=0.02, low=-0.25, high=0.29, n=9)
    told = claimed("insertion", naming, association, drawn.model_copy(update={"control": wide}))
    assert "raises the probability of “husky” by 0.31 (0.25 to 0.37); a matched" in told
    assert "by 0.02 (−0.25 to 0.29); but the intervals overlap: part of it" in told
    told = claimed("insertion", naming, unsure, drawn.model_copy(update={"control": wide}))
    assert "any mark in that place, and that photos of the class show it more often" in told
    vain = around.model_copy(update={"effect": Estimate(value=0.1, low=-0.1, high=0.3, n=9)})
    assert claimed("association", naming, association, vain).startswith(
        "Photos of other classes that show"
    )


def test_a_lowered_probability_is_told_as_such() -> None:
    finding = audit().findings[0]
    insertion = finding.evidence[2].model_copy(
        update={"effect": Estimate(value=-0.2, low=-0.3, high=-0.1, n=9), "control": None}
    )
    changed = finding.model_copy(update={"evidence": (insertion,)})
    sentence = claims.claim(changed, text.name("carton"), text.name("mist"))
    assert "lowers the probability of “carton” by 0.20 (0.10 to 0.30)." in sentence


def test_nothing_found_never_stands_alone(tmp_path: Path) -> None:
    shown = words_of(rendered(audit(findings=False), tmp_path))
    assert shown.count("Nothing found") >= 3
    for place in re.finditer("Nothing found", shown):
        follows = shown[place.start() : place.start() + 240]
        assert re.search(r"None among the \d+ hypotheses tested", follows)
        assert "smallest effect that would have been found" in follows
    assert "hypotheses tested, at a detection power that was not measured." in shown
    assert "by the score alone, 3.6 standard deviations of random concepts (q < 0.05" in shown


def test_an_unknown_smallest_effect_is_said_to_be_unknown() -> None:
    saved = audit(findings=False)
    blind = saved.coverage.model_copy(update={"smallest_effect": None})
    unknown = saved.model_copy(update={"coverage": blind})
    assert "was not estimated" in words.nothing_found(unknown, 48)
    assert "None among the 1 other hypothesis tested" in words.nothing_found(unknown, 1, "other")


def test_hypotheses_are_those_that_can_be_findings(page: Element) -> None:
    saved = audit()
    inner = {concept.name for concept in saved.concepts if not concept.extrinsic}
    possible = [
        s for c in saved.classes for s in c.concepts
        if s.q is not None and not s.core and s.concept not in inner
    ]  # fmt: skip
    tested = [s for c in saved.classes for s in c.concepts if s.q is not None]
    assert 0 < len(possible) < len(tested)
    assert sum(c.n_hypotheses for c in saved.classes) == len(possible)
    assert f"Hypotheses tested {len(possible)}" in words_of(page)
    left = len(possible) - len(saved.findings)
    assert f"None among the {left} other hypotheses tested" in words_of(page)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("met", "Criterion met"),
        ("not_met", "Criterion not met"),
        ("inconclusive", "Inconclusive"),
        ("not_assessed", "Not assessed"),
    ],
)
def test_verdict_words(status: str, said: str, tmp_path: Path) -> None:
    saved = audit()
    verdict = saved.verdict.model_copy(update={"status": status, "reasons": ()})
    root = rendered(saved.model_copy(update={"verdict": verdict}), tmp_path)
    assert headings(root)[2][1].endswith(said)


def test_planted_stands_beside_found(page: Element, tmp_path: Path) -> None:
    shown = words_of(page)
    assert "1 of 2 planted shortcuts were found. 2 findings name a pair that was not" in shown
    table = next(t for t in page.iter("table") if "Planted" in words_of(t.find("caption")))  # type: ignore[arg-type]
    rows = [words_of(row) for row in table.find("tbody") or ()]
    assert rows[0].endswith("● confirmed ✓ hit")
    assert rows[1].endswith("0.60 – 4 none ✕ miss")
    assert "What was planted" not in words_of(rendered(audit(planted=False), tmp_path))


def test_the_self_test_says_what_it_was_measured_on(tmp_path: Path) -> None:
    saved = audit(self_test=True)
    assert saved.self_test is not None
    known = saved.self_test.model_copy(
        update={
            "shortcuts": 12, "learned": 10, "strength": 0.95, "families": ("logo", "border"),
            "photos_per_class": 12, "pool": 900,
        }
    )  # fmt: skip
    shown = words_of(rendered(saved.model_copy(update={"self_test": known}), tmp_path))
    assert "Of 12 planted shortcuts, each in 95% of its class, 10 were learned" in shown
    assert "Audited on 12 photos of each class and 900 in the pool. Kinds: logo, border." in shown
    assert "the rates speak for the settings, not for the audited model" in shown


def test_the_self_test_is_told_or_missed(page: Element, tmp_path: Path) -> None:
    assert "hit rate, rank 1 0.80 (0.65 to 0.95)" in words_of(page)
    assert "No self-test was run with this configuration" in words_of(rendered(audit(), tmp_path))


def test_what_is_missing_is_told_with_its_reason(page: Element) -> None:
    shown = words_of(page)
    assert "not tested: 4 photos, at least 5 are needed" in shown
    assert "husky/broken.jpg truncated file" in shown
    assert "no effect on the features" in shown
    assert "Fewer than 5 photos, so not tested: safe (4)." in shown


def test_core_concepts_are_marked(tmp_path: Path) -> None:
    rows = [row for row in rendered(audit(), tmp_path).iter("tr") if row.get("class") == "core"]
    assert rows
    assert all("cardboard core" in words_of(row) for row in rows)


def test_words_that_no_audit_can_say_are_not_said(tmp_path: Path) -> None:
    shown = words_of(rendered(audit(), tmp_path)).lower()
    for word in ("complies", "compliant", "certified", "fair", "bias-free", "unbiased", "safe to"):
        assert not re.search(rf"\b{word}\b", shown), word


def test_numbers_as_readers_see_them() -> None:
    assert text.number(-0.004) == "0.00"
    assert text.number(None) == "–"
    assert text.probability(0.00099) == "< 0.001"
    assert text.probability(1.0) == "1.000"
    assert text.estimate(Estimate(value=0, low=-1.5, high=2, n=3)) == "0.00 (−1.50 to 2.00)"
    assert text.moment("2026-11-23T23:30:00+05:30") == "2026-11-23 18:00 UTC"
    assert text.moment("yesterday") == "yesterday"
    assert text.count(1, "class", "classes") + text.count(1204, "photo") == "1 class1,204 photos"


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


# --- the PDF ----------------------------------------------------------------------------------


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


# --- long texts, and names that look alike ----------------------------------------------------

SHARED = "Animalia Chordata Aves Passeriformes Corvidae Corvus"
ALIKE: dict[str, tuple[str, ...]] = {
    "in the first 39 characters": (f"{SHARED} corax", f"{SHARED} corone"),
    "in the first 60 and last 60": tuple("a" * 60 + letter + "z" * 60 for letter in "mn"),
    "but for their case": ("crane", "Crane"),
    "but for spaces": ("polar bear", "polar  bear"),
    "but for their Unicode form": ("caf\u00e9", "cafe\u0301"),
    "but for what is not shown": ("safe", "sa\u200bfe"),
    "in every character": ("maillot", "maillot"),
    "in 10,000 characters": tuple("x" * 5000 + letter + "x" * 4999 for letter in "ab"),
    "Chinese": tuple("苹果树叶病害" * 10 + letter + "苹果树叶病害" * 9 for letter in "甲乙"),
    "Arabic": tuple("قطة سوداء " * 9 + letter + " قطة سوداء" * 9 for letter in "أب"),
}  # fmt: skip


def renamed(old: str, new: str, saved: Audit | None = None) -> Audit:
    """The audit with one text replaced wherever it stands."""
    text = (saved or audit()).to_json()
    return Audit.model_validate_json(text.replace(json.dumps(old), json.dumps(new)))


def with_classes(first: str, second: str) -> Audit:
    saved = audit()
    classes = list(saved.classes)
    classes[:2] = [
        c.model_copy(update={"name": new})
        for c, new in zip(classes[:2], (first, second), strict=True)
    ]
    gaps = tuple(
        NotTested(
            what="divergence", kind="class", class_index=i, reason=Reason(code="no_prototype")
        )
        for i in range(2)
    )
    clusters = list(saved.clusters)
    for i in range(2):
        shown = [p.model_copy(update={"owner": i}) for p in clusters[i].pictures]
        clusters[i] = clusters[i].model_copy(update={"pictures": tuple(shown)})
    coverage = saved.coverage.model_copy(update={"not_tested": gaps})
    return saved.model_copy(
        update={"classes": tuple(classes), "coverage": coverage, "clusters": tuple(clusters)}
    )


@pytest.mark.parametrize("alike", ALIKE.values(), ids=ALIKE)
@pytest.mark.parametrize("limits", [HTML, PDF], ids=["html", "pdf"])
def test_classes_whose_names_are_alike_are_told_apart(alike: tuple[str, ...], limits: Any) -> None:
    built = build(with_classes(*alike), limits)
    pages = {page.index: page.class_name.short for page in built.pages}
    assert pages[0].casefold() != pages[1].casefold()
    assert text._look(pages[0]) != text._look(pages[1])
    assert all(len(shown) <= 40 for shown in pages.values())
    rows = [row.class_name.short for row in built.ranking.rows]
    assert {pages[0], pages[1]} < set(rows)
    assert len(set(rows)) == 6
    assert [card.class_name.short for card in built.cards[:2]] == [pages[0], pages[1]]
    assert {pages[0], pages[1]} <= {column.short for column in (built.matrix.columns)}  # type: ignore[union-attr]
    assert pages[0] in built.scope.names
    assert pages[1] in built.scope.names
    if len(alike[0]) > 40:
        gaps = [what.short for _, what, _ in built.closing.not_tested if "divergence" in what.short]
        assert gaps == [f"divergence of {pages[0]}", f"divergence of {pages[1]}"]
        captions = [c.galleries[0].shots[0].caption for c in built.clusters[:2]]
        assert captions == [pages[0], pages[1]]


def test_the_ends_of_names_are_kept_and_explained(tmp_path: Path) -> None:
    shown = words_of(rendered(with_classes(*ALIKE["in the first 39 characters"]), tmp_path))
    assert "Animalia Chordata Aves P…ae Corvus corax" in shown
    assert "Animalia Chordata Aves P…e Corvus corone" in shown
    assert "have a number beside them" not in shown
    shown = words_of(rendered(with_classes("maillot", "maillot"), tmp_path))
    assert "maillot #0" in shown
    assert "maillot #1" in shown
    assert "of a class its index in the model" in shown


@pytest.mark.parametrize("alike", ALIKE.values(), ids=ALIKE)
def test_concepts_and_layers_and_files_are_told_apart(alike: tuple[str, ...]) -> None:
    if alike[0] == alike[1]:
        return  # concepts of one name are one
    saved = renamed("snow", alike[1], renamed("Chinese watermark", alike[0]))
    saved = renamed("features.3", alike[1], renamed("features.2", alike[0], saved))
    saved = renamed("safe/0 bytes.png", alike[1], renamed("husky/broken.jpg", alike[0], saved))
    built = build(saved, HTML)
    for shown in (
        [line.concept for line in built.data.concepts],
        [card.concept for card in built.cards],
        [row.concept for row in built.pages[-1].concepts],
        [row.layer for row in built.pages[0].layers],
        [file for file, _ in built.data.quarantined],
    ):
        looks = [text._look(each.short) for each in shown]
        assert len(set(looks)) == len(looks)
    # a concept's row still leads to its card
    assert [row.card for page in built.pages for row in page.concepts].count("finding-1") == 1


@pytest.mark.parametrize(
    ("dirty", "shown"),
    [
        ("flag \U0001f3f4\U000e0067\U000e0062\U000e007f", "flag \U0001f3f4"),  # tag characters
        ("\U000e0001hidden\U000e0020", "hidden"),
        ("\u3164\u2800\u115f", "(no name)"),
        ("\U0001f469\u200d\U0001f467", "\U0001f469\U0001f467"),
        ("{{ 7*7 }}{% raise %}", "{{ 7*7 }}{% raise %}"),
        ("${jndi:ldap://x}", "${jndi:ldap://x}"),
        ("e" + "\u0301" * 50, "e\u0301\u0301"),
        ("قطة سوداء", "قطة سوداء"),
    ],
)
def test_names_show_what_can_be_read(dirty: str, shown: str) -> None:
    assert text.name(dirty).short == shown


def test_a_long_text_is_cut_and_counted() -> None:
    assert (
        text.told("a" * 401)
        == "a" * 400 + "… (shown: 400 of 401 characters; all are in audit.json)"
    )
    assert text.told("a " * 200) == ("a " * 200).strip()
    assert len(text.told("word " * 10**6, text.PASSAGE)) < text.PASSAGE + 100
    assert len(text.name("\u0301" * 10**6 + "a" * 10**6).full) <= text.WHOLE


def told(words: str, **values: str) -> dict[str, Any]:
    """A note that has words alone."""
    return {"code": "text", "params": {"text": words, **values}}


TEXTS: dict[str, Callable[[dict[str, Any], str], object]] = {
    "title": lambda d, t: d.update(title=t),
    "intended use": lambda d, t: d["spec"]["scope"].update(intended_use=t),
    "exclusions": lambda d, t: d["spec"]["scope"].update(exclusions=t),
    "model": lambda d, t: d["spec"]["model"].update(spec=t),
    "architecture": lambda d, t: d["spec"]["model"].update(arch=t),
    "layers": lambda d, t: d["spec"]["model"].update(layers=[t, t]),
    "images": lambda d, t: d["spec"].update(images=t),
    "expected": lambda d, t: d["spec"].update(expected={t: [t, t]}),
    "class": lambda d, t: d["classes"][0].update(name=t),
    "class id": lambda d, t: d["classes"][0].update(id=t),
    "divergence reason": lambda d, t: d["classes"][5]["divergence"].update(reason=told(t)),
    "layer": lambda d, t: d["classes"][0]["divergence"]["layers"][0].update(name=t),
    "category": lambda d, t: d["findings"][0].update(category=t),
    "caption": lambda d, t: d["findings"][0]["pictures"][0].update(caption=t),
    "file": lambda d, t: d["findings"][0]["pictures"][0].update(file=t),
    "caveat": lambda d, t: d["findings"][0].update(caveats=[told(t)] * 20),
    "finding id": lambda d, t: d["findings"][0].update(id=t),
    "alike": lambda d, t: d["findings"][1].update(alike=[t, t + "b", t + "c"]),
    "other class": lambda d, t: d.update(other_classes=[{"index": 9, "name": t}]),
    "names in a caveat": lambda d, t: d["findings"][1].update(
        caveats=[{"code": "not_told_apart", "params": {"concepts": [t] * 9}}]
    ),
    "made from": lambda d, t: d.update(
        prototyping={
            "mode": "natural",
            "parameterisation": "pixel",
            "used": told(t),
            "layers_used": [t],
            "photos_copied": 0,
        }
    ),
    "cluster": lambda d, t: d["clusters"][0].update(name=t, id=t),
    "quarantined": lambda d, t: d["coverage"]["quarantined"][0].update(id=t, reason=t),
    "not tested": lambda d, t: d["coverage"]["not_tested"][0].update(
        what="text", reason=told(t, what=t)
    ),
    "remark": lambda d, t: d["coverage"].update(
        remarks=[{"code": t, "text": t, "serious": s} for s in (True, False)]
    ),
    "reason": lambda d, t: d["verdict"].update(reasons=[told(t)] * 5),
    "concept reason": lambda d, t: d["concepts"][0].update(reason=told(t)),
    "probe": lambda d, t: d["provenance"]["probe"].update(name=t, note=t, digest=t),
    "digest": lambda d, t: d["provenance"].update(weights_sha256=t),
    "device": lambda d, t: d["provenance"].update(device=t),
    "packages": lambda d, t: d["provenance"].update(packages={t: t}),
    "stages": lambda d, t: d["provenance"].update(seconds={t: 1.0}),
    "rate": lambda d, t: d["self_test"]["rates"][0].update(name=t),
    "family": lambda d, t: d["self_test"].update(families=[t]),
    "planted": lambda d, t: d["planted"][0].update(concept=t),
    "harm": lambda d, t: d.update(divergence_and_harm={"rho": None, "reason": told(t)}),
    "tool": lambda d, t: d["tool"].update(version=t),
}


def longest_texts(root: Element) -> list[int]:
    """Lengths of the texts of all elements but the settings' and the style sheets'."""
    settings = {id(e) for pre in root.iter("pre") for e in pre.iter()}
    return sorted(
        len(piece or "")
        for e in root.iter()
        if id(e) not in settings and e.tag != "style"
        for piece in (e.text, e.tail, e.get("title"), e.get("alt"), e.get("aria-label"))
    )


def long_texts(long: str) -> Audit:
    """An audit whose texts are all long."""
    data = json.loads(audit(self_test=True).to_json())
    for which, change in TEXTS.items():
        change(data, f"{which} {long}")
    return Audit.model_validate(data)


@pytest.mark.parametrize("long", ["word " * 2000, "x" * 10_000], ids=["words", "solid"])
@pytest.mark.parametrize("limits", [HTML, PDF], ids=["html", "pdf"])
def test_no_text_of_the_user_is_laid_out_whole(long: str, limits: Any) -> None:
    # WeasyPrint takes a time that grows with the square of the length of a text in a flexible box
    # or a table's cell, so that all but the passages is short there
    made = build(long_texts(long), limits)
    medium: Any = "html" if limits is HTML else "pdf"
    source = html.page(made, medium, lambda _: pictures.Missing("none"), lambda _: "")
    root = parse(source.encode())
    lengths = longest_texts(root)
    assert lengths[-1] <= text.PASSAGE + 100
    assert lengths[-3] <= 2500, "but for intended use and exclusions; five reasons stand together"
    assert len(source) < 900_000
    for which in ("intended use", "exclusions"):
        words = (
            f"(shown: 4,000 of {len(long) + len(which) + 1:,} characters; all are in audit.json)"
        )
        assert words in source or "word" in long
    settings = [words_of(pre) for pre in root.iter("pre")]
    assert all(len(shown) <= 17_000 for shown in settings)
    assert "see spec in audit.json" in settings[1]


def test_running_text_stands_in_no_flexible_box_of_the_pdf() -> None:
    import tinycss2  # type: ignore[import-untyped]

    sheet = (Path(report.__file__).parents[2] / "templates" / "page.css").read_text()
    flexible = [
        tinycss2.serialize(rule.prelude)
        for rule in tinycss2.parse_stylesheet(sheet, skip_whitespace=True, skip_comments=True)
        if rule.type == "qualified-rule" and "flex" in tinycss2.serialize(rule.content)
    ]
    assert flexible
    running = ("quote", "facts", "digests", "warning", "gaps", "caveats", "pre", "blockquote", "dd")
    assert not [rule for rule in flexible if any(word in rule for word in running)]


def test_the_longest_texts_make_a_pdf_in_time(tmp_path: Path) -> None:
    from auditor.report import pdf

    begun = time.process_time()
    made = pdf.render(long_texts("lorem ipsum " * 900), b"{}", pictures.Thumbnails(tmp_path))
    assert made.startswith(b"%PDF")
    assert time.process_time() - begun < 90, "it took hours before; a few seconds where it is calm"


@pytest.mark.parametrize("huge", [1e308, -1e308, 1e20, 5e-324])
def test_numbers_of_any_size_are_drawn(huge: float, tmp_path: Path) -> None:
    data = json.loads(audit().to_json())
    low, high = sorted((huge, -huge))
    data["classes"][0]["divergence"]["score"] = {"value": 0, "low": low, "high": high, "n": 3}
    data["classes"][1]["divergence"]["score"] = {"value": huge, "low": huge, "high": huge, "n": 3}
    data["classes"][0]["concepts"][0]["score"] = huge
    data["classes"][0]["divergence"]["layers"][0]["normalised"] = huge
    data["findings"][2]["evidence"][0]["effect"].update(value=huge, low=huge, high=huge)
    shown = words_of(rendered(Audit.model_validate(data), tmp_path))
    assert "nan" not in shown.lower().split()
    assert "inf" not in shown.lower().split()
    if huge == 1e308:
        assert "0.00 (−1.00e+308 to 1.00e+308)" in shown


# --- remarks on the inputs --------------------------------------------------------------------


def remarked(*texts: tuple[str, bool]) -> Audit:
    saved = audit()
    remarks = tuple(Remark(code="x", text=told, serious=serious) for told, serious in texts)
    coverage = saved.coverage.model_copy(update={"remarks": remarks})
    return saved.model_copy(update={"coverage": coverage})


def test_serious_remarks_stand_under_the_verdict_and_the_others_under_data(tmp_path: Path) -> None:
    saved = remarked(
        ("14 photos are copies.", False), (f"Accuracy is that of chance. {SCRIPT}", True)
    )
    sections = {e.get("id"): e for e in rendered(saved, tmp_path).iter("section")}
    first, data = words_of(sections["summary"]), words_of(sections["data"])
    assert "Read this first" in first
    verdict, warning = first.index("Criterion not met"), first.index("Accuracy is that of chance.")
    assert verdict < warning < first.index("Findings by grade")
    assert "14 photos are copies." in data
    assert "copies" not in first
    assert "Accuracy is that of chance" not in data
    shown = words_of(rendered(audit(), tmp_path))
    assert "Read this first" not in shown
    assert "What the inputs turned out to be" not in shown


def test_the_models_input_is_told_as_it_was_used(tmp_path: Path) -> None:
    saved = audit()
    found = ModelInput(
        size=(224, 160), resize=256, aspect="crop", interpolation="bicubic",
        mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), channels="bgr", background="white",
        bit_depth=12, orientation="stored", output="probabilities",
    )  # fmt: skip
    provenance = saved.provenance.model_copy(update={"model_input": found})
    facts = dict(build(saved.model_copy(update={"provenance": provenance}), HTML).scope.model)
    assert facts["Input size"] == "224 × 160 pixels, height by width"
    assert facts["Resizing"] == "shorter side to 256 pixels and centre crop, bicubic"
    assert facts["Channels"] == "BGR"
    assert facts["Input mean"] == "0.5, 0.4, 0.3, of pixels from 0 to 1"
    assert facts["Input deviation"] == "0.2, 0.2, 0.2"
    assert facts["Decoding"] == (
        "photos are left as they lie in the file; transparent pixels show white; pictures of 16 "
        "bits are taken to use 12"
    )
    assert facts["Output read as"] == "probabilities, turned back to logits"
    stretched = found.model_copy(update={"aspect": "stretch", "resize": 160, "mean": (0.5,)})
    provenance = saved.provenance.model_copy(update={"model_input": stretched})
    facts = dict(build(saved.model_copy(update={"provenance": provenance}), HTML).scope.model)
    assert facts["Resizing"] == "stretched to the input's proportions, bicubic"
    assert facts["Channels"] == "grey"
    assert dict(build(saved, HTML).scope.model)["Input size"] == "224 × 224 pixels, height by width"


def test_a_claim_without_an_example_says_so() -> None:
    saved = audit()
    bare = tuple(f.model_copy(update={"pictures": ()}) for f in saved.findings)
    cards = build(saved.model_copy(update={"findings": bare}), HTML).cards
    words = "no photo is shown, for none is an example of what was measured on all."
    assert cards[0].caveats[0] == f"Insertion: {words}"
    assert cards[1].caveats == (f"Association: {words}",)
    assert not any(words in caveat for card in build(saved, HTML).cards for caveat in card.caveats)
