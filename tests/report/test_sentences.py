"""What a report says, and that it says no more than its grade."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest
from audits import SCRIPT, audit
from pages import headings, rendered, words_of

from auditor.core.estimates import Estimate
from auditor.record.codes import TestName
from auditor.record.schema import Audit, Evidence, ModelInput, Remark
from auditor.report import claims, text, words
from auditor.report.parts import HTML
from auditor.report.view import build


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
