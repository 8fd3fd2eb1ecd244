"""Names and texts from outside: shown as text, cut with care, and told apart."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from audits import LONG, QUOTES, SCRIPT, audit
from hypothesis import given
from hypothesis import strategies as st
from pages import parse, rendered, words_of

from auditor import report
from auditor.record.schema import Audit, NotTested, Reason
from auditor.report import html, pictures, text
from auditor.report.parts import HTML, PDF
from auditor.report.view import build

BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"


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


@pytest.mark.parametrize("which", sorted(ALIKE.keys() - {"in every character"}))  # else it is one
def test_concepts_and_layers_and_files_are_told_apart(which: str) -> None:
    alike = ALIKE[which]
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
    assert [row.card for page in built.pages for row in page.concepts].count("#finding-1") == 1


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
    whole = r"(4,000|3,99\d)"  # words are not divided
    for which in ("intended use", "exclusions"):
        of = f"{len(f'{which} {long}'):,}"
        assert re.search(rf"\(shown: {whole} of {of} characters; all are in audit\.json\)", source)
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
