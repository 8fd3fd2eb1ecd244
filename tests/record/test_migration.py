"""A record of schema 1 is read as one of schema 2, and its report says the same."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from auditor.errors import RunError
from auditor.record import tables
from auditor.record.codes import CAVEATS, MATERIALS, REASONS, Meaning
from auditor.record.migration import migrated
from auditor.record.notes import Caveat, Material, Reason
from auditor.record.schema import (
    SCHEMA_VERSION,
    Audit,
    Cluster,
    Finding,
    NotTested,
    SmallestEffect,
)
from auditor.report import gaps, html, notes, pictures
from auditor.report.captions import caption
from auditor.report.names import Names
from auditor.report.text import name

SAVED = Path(__file__).with_name("data") / "audit-1.7.json.gz"
VALUES: Mapping[str, Any] = {
    "count": 12, "number": 0.31, "flag": True, "text": "Any words.", "texts": ("snow", "mud"),
}  # fmt: skip


@pytest.fixture(scope="module")
def old() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(gzip.decompress(SAVED.read_bytes()))
    return data


@pytest.fixture(scope="module")
def new(old: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Audit:
    path = tmp_path_factory.mktemp("old") / "audit.json"
    path.write_text(json.dumps(old))
    return Audit.read(path)


def example(meaning: Meaning, **values: Any) -> dict[str, Any]:
    return {key: VALUES[kind] for key, kind in meaning.params.items()} | values


def again(old: dict[str, Any], **changes: Any) -> Audit:
    """The old record with changes, read."""
    return Audit.model_validate(migrated(json.loads(json.dumps(old | changes))))


def test_it_says_that_it_is_an_older_record(old: dict[str, Any], new: Audit) -> None:
    assert old["schema_version"] == "1.7"
    assert new.schema_version == SCHEMA_VERSION
    (remark,) = new.coverage.remarks
    assert remark.code == "record_older"
    assert "1.7" in remark.text


def test_caveats_and_reasons_read_the_same(old: dict[str, Any], new: Audit) -> None:
    for before, after in zip(old["findings"], new.findings, strict=True):
        assert [notes.caveat(each) for each in after.caveats] == before["caveats"]
        assert all(each.code != "text" for each in after.caveats)
    names = Names(new)
    for before, gap in zip(old["coverage"]["not_tested"], new.coverage.not_tested, strict=True):
        assert gap.what != "text"
        told = (gaps.subject(gap, names).full, gaps.reason(gap, names))
        assert told == (before["what"], before["reason"])
    for before, concept in zip(old["concepts"], new.concepts, strict=True):
        assert notes.reason(concept.reason) == (before["reason"] or "")
    assert new.coverage.smallest_effect is not None
    assert notes.smallest(new.coverage.smallest_effect) == old["coverage"]["smallest_effect"]
    assert new.prototyping is not None
    assert notes.material(new.prototyping.used) == old["prototyping"]["used"]
    assert [notes.verdict_reason(r) for r in new.verdict.reasons] == old["verdict"]["reasons"]


def test_captions_read_the_same(old: dict[str, Any], new: Audit) -> None:
    names = Names(new)
    owners: list[tuple[Any, Finding | Cluster]] = [
        *zip(old["findings"], new.findings, strict=True),
        *zip(old["clusters"], new.clusters, strict=True),
    ]
    shown = [
        (before, picture, None if "concept" not in owner else name(owner["concept"]))
        for owner, part in owners
        for before, picture in zip(owner["pictures"], part.pictures, strict=True)
    ]
    assert len(shown) > 30
    for before, picture, concept in shown:
        assert picture.caption is None
        assert caption(picture, names, concept) == before["caption"]
    assert {p.kind for _, p, _ in shown} >= {"plain", "without", "edited", "surrounded", "photo"}


def test_it_renders_and_holds_every_score_itself(new: Audit, tmp_path: Path) -> None:
    page = html.render(new, pictures.Thumbnails(tmp_path)).decode()
    assert "Not told apart from: black, plain black background" in page
    assert "The record has schema version 1.7, older than this program" in page
    scored = tables.scores(tmp_path, new)
    assert {index: len(rows) for index, rows in scored.items()} == {
        c.index: c.n_concepts for c in new.classes
    }


def test_it_is_written_and_read_again(new: Audit, tmp_path: Path) -> None:
    new.write(tmp_path / "audit.json")
    assert Audit.read(tmp_path / "audit.json") == new


@pytest.mark.parametrize("code", CAVEATS)
@pytest.mark.parametrize("flag", [True, False])
def test_every_caveat_becomes_its_code_again(code: Any, flag: bool, old: dict[str, Any]) -> None:
    params = example(CAVEATS[code])
    params |= {key: flag for key, value in params.items() if value is True}
    note = Caveat(code=code, params=params)
    finding = old["findings"][0] | {"caveats": [notes.caveat(note)], "alike": [], "explains": []}
    read = again(old, findings=[finding]).findings[0]
    assert read.caveats == (note,)


@pytest.mark.parametrize("code", sorted(set(REASONS) - {"beyond_first_groups"}))
def test_every_reason_becomes_its_code_again(code: Any, old: dict[str, Any]) -> None:
    note = Reason(code=code, params=example(REASONS[code]))
    if code == "few_pool_photos_of_others":
        gap = NotTested(what="concepts_of_class", kind="class", class_index=3, reason=note)
    else:
        gap = NotTested(what="divergence", kind="class", class_index=3, reason=note)
    assert reread(gap, old) == gap


GAPS: tuple[tuple[Any, ...], ...] = (
    ("concept", "concept", None, "cliff", Reason(code="few_examples", params={
        "photos": 2, "needed": 5})),
    ("prevalence", "class", 3, None, Reason(code="few_photos_of_each", params={
        "own": 2, "others": 9, "needed": 5})),
    ("prevalence", "stage", None, None, Reason(code="not_representative")),
    ("insertion", "class", 3, None, Reason(code="few_photos_to_draw_on", params={
        "photos": 2, "needed": 5})),
    ("independent_pool", "stage", None, None, Reason(code="shared_photos", params={
        "photos": 14})),
    ("told_apart", "stage", None, None, Reason(code="few_classes", params={
        "classes": 4, "needed": 10})),
    ("transfer", "stage", None, None, Reason(code="no_second_model")),
    ("concepts_standing_out", "class", 3, None, Reason(code="beyond_first_groups", params={
        "groups": 5, "concepts": 3, "named": ("snow", "mud")})),
    ("text", "stage", None, None, Reason(code="text", params={
        "text": "no time", "what": "something of old"})),
)  # fmt: skip


@pytest.mark.parametrize(
    "gap",
    [
        NotTested(what=what, kind=kind, class_index=index, concept=concept, reason=reason)
        for what, kind, index, concept, reason in GAPS
    ],
    ids=lambda gap: f"{gap.what} of a {gap.kind}",
)
def test_every_gap_becomes_its_code_again(gap: NotTested, old: dict[str, Any]) -> None:
    assert reread(gap, old) == gap


def reread(gap: NotTested, old: dict[str, Any]) -> NotTested:
    """A gap as schema 1 told it, read again."""
    class_name = "" if gap.class_index is None else old["classes"][gap.class_index]["name"]
    told = {
        "what": notes.gap(gap, class_name), "kind": gap.kind, "reason": notes.reason(gap.reason),
    }  # fmt: skip
    coverage = old["coverage"] | {"not_tested": [told]}
    (found,) = again(old, coverage=coverage).coverage.not_tested
    return found


@pytest.mark.parametrize("code", MATERIALS)
def test_every_material_becomes_its_code_again(code: Any, old: dict[str, Any]) -> None:
    note = Material(code=code, params=example(MATERIALS[code]))
    made = old["prototyping"] | {"used": notes.material(note)}
    read = again(old, prototyping=made).prototyping
    assert read is not None
    assert read.used == note


def test_the_smallest_effect_becomes_numbers_or_a_remark(old: dict[str, Any]) -> None:
    def told(words: str | None) -> Audit:
        return again(old, coverage=old["coverage"] | {"smallest_effect": words})

    none = SmallestEffect(score=None, random_scores=1200, hypotheses=4356, q_level=0.01)
    assert told(notes.smallest(none)).coverage.smallest_effect == none
    assert told(None).coverage.smallest_effect is None
    other = told("0.8 in log-odds on 20 photos that show the concept").coverage
    assert other.smallest_effect is None
    assert "0.8 in log-odds on 20 photos" in other.remarks[-1].text


def test_words_that_nobody_knows_stay_words(old: dict[str, Any]) -> None:
    finding = old["findings"][0] | {"caveats": ["Told in another way.", " "]}
    (caveat,) = again(old, findings=[finding]).findings[0].caveats
    assert caveat == Caveat(code="text", params={"text": "Told in another way."})
    picture = {"file": "a.jpg", "kind": "photo", "caption": "a class that is not there"}
    clusters = [old["clusters"][0] | {"pictures": [picture]}]
    (read,) = again(old, clusters=clusters).clusters[0].pictures
    assert read.caption == "a class that is not there"


def test_a_basis_is_told_from_the_tests(old: dict[str, Any]) -> None:
    for grade in ("confirmed", "corroborated"):
        own = [f for f in again(old).findings if f.grade == grade]
        assert own
        assert all(f.lead is not None and f.lead.effect.low > 0 for f in own)
    assert {f.basis for f in again(old).findings if f.grade == "confirmed"} == {"insertion"}


@pytest.mark.parametrize(
    "change", [{"classes": 5}, {"findings": [{}]}, {"verdict": None}, {"coverage": []}]
)
def test_what_has_not_the_form_of_its_version_is_told(
    change: dict[str, Any], old: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "audit.json").write_text(json.dumps(old | change))
    with pytest.raises(RunError, match=r"the form of schema version 1\.7"):
        Audit.read(tmp_path / "audit.json")
