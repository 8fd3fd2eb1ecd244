"""Scoring of audits against what was planted."""

import dataclasses

import pytest
from audits import audit, estimate

from auditor.core.statistics import poisson_rate, separation
from auditor.lab import scoring
from auditor.lab.plans import Plan, Shortcut
from auditor.lab.scoring import Outcome
from auditor.record.schema import Planted

PLAN = Plan(
    classes=("car", "house", "star", "fish", "key", "cup"),
    shortcuts=(Shortcut(0, "chinese watermark"), Shortcut(1, "snow"), Shortcut(2, "time stamp")),
)
LEARNED, NOT = estimate(0.4, 0.1), estimate(0.1, 0.1)


def planted(**effects):
    """The synthetic audit, of a classifier with three planted shortcuts."""
    saved = audit()
    names = {"chinese watermark": "Chinese watermark"}
    rows = tuple(
        Planted(
            class_index=s.class_index, concept=s.concept, strength=s.strength,
            learned=effects.get(s.concept.split()[-1], LEARNED), found_rank=None, found_grade=None,
        )
        for s in PLAN.shortcuts
    )  # fmt: skip
    findings = tuple(
        f.model_copy(update={"concept": {v: k for k, v in names.items()}.get(f.concept, f.concept)})
        for f in saved.findings
    )
    classes = tuple(
        c.model_copy(
            update={
                "concepts": tuple(
                    row.model_copy(update={"concept": row.concept.replace("Chinese", "chinese")})
                    for row in c.concepts
                )
            }
        )
        for c in saved.classes
    )
    bank = tuple(
        c.model_copy(update={"name": c.name.replace("Chinese", "chinese")}) for c in saved.concepts
    )
    return saved.model_copy(
        update={"planted": rows, "findings": findings, "classes": classes, "concepts": bank}
    )


def test_findings_are_right_where_they_name_what_was_learned():
    found = scoring.score(planted(), PLAN)
    watermark, snow, stamp = found.pairs
    assert [p.learned for p in found.pairs] == [True] * 3
    assert (watermark.rank, watermark.grade) == (1, "confirmed")
    assert (snow.rank, snow.grade) == (1, "corroborated")
    assert stamp.grade is None
    assert stamp.rank is not None
    assert stamp.rank > 1
    assert stamp.candidates == 9, "cardboard is no extrinsic concept"
    assert (watermark.family, stamp.family) == ("Chinese text", "time stamp")
    assert found.hits == (0, 1, 1)
    assert [(a.class_index, a.concept, a.grade) for a in found.alarms] == [
        (2, "graffiti", "suspected")
    ]
    assert [(a.p, a.q, a.p_model) for a in found.alarms] == [(0.0004, 0.004, 0.0006)]
    assert not found.clean
    assert found.null_pairs == 0, "nothing is null where something was planted"


def test_what_was_not_learned_is_not_there_to_be_found():
    found = scoring.score(planted(snow=NOT, watermark=NOT, stamp=NOT), PLAN)
    assert found.clean
    assert found.hits == (0, 0, 0)
    assert {(a.concept, a.grade) for a in found.alarms} == {
        ("chinese watermark", "confirmed"), ("snow", "corroborated"), ("graffiti", "suspected"),
    }  # fmt: skip
    assert found.null_pairs == 6 * 9
    assert found.null_below == 6, "the first of each class"


def test_a_concept_that_is_listed_as_not_told_apart_is_found():
    saved = planted()
    graffiti = next(f for f in saved.findings if f.concept == "graffiti")
    listed = graffiti.model_copy(update={"alike": ("twigs", "time stamp")})
    changed = saved.model_copy(
        update={"findings": tuple(listed if f is graffiti else f for f in saved.findings)}
    )
    found = scoring.score(changed, PLAN)
    assert found.pairs[2].grade is None
    assert found.pairs[2].alike == "suspected"
    assert found.pairs[2].found("suspected")
    assert not found.pairs[2].found("corroborated")
    assert found.alarms == ()


def test_an_audit_of_another_plan_is_refused():
    with pytest.raises(ValueError, match="the plan has others"):
        scoring.score(planted(), dataclasses.replace(PLAN, shortcuts=PLAN.shortcuts[:2]))


def outcome(**changes):
    found = scoring.score(planted(), PLAN)
    return dataclasses.replace(found, **changes)


def test_rates_count_learned_shortcuts_and_clean_models():
    good = outcome()
    alarm = dataclasses.replace(good.alarms[0], grade="confirmed")
    clean = Outcome("x", 1, "residual", 6, (), (), (0, 0, 0), 200, 8, 0, 1.0)
    noisy = dataclasses.replace(clean, alarms=(alarm, alarm), null_below=22)
    rates = {r.name: r.rate for r in scoring.rates([good, good, clean, noisy])}
    first = rates["planted concept first of its class's extrinsic concepts"]
    assert (first.value, first.n) == (4 / 6, 6)
    assert rates["planted concept found, corroborated or stronger"].value == 4 / 6
    assert rates["planted concept found, confirmed"].value == 2 / 6
    right = rates["findings of models with shortcuts that are right, suspected or stronger"]
    assert (right.value, right.n) == (4 / 6, 6)
    assert rates["findings of models with shortcuts that are right, confirmed"].value == 1
    assert rates["false alarms per clean model, confirmed"] == poisson_rate(2, 2)
    assert rates["clean models with a false alarm, confirmed"].value == 0.5
    assert rates["classes of clean models with a false alarm, confirmed"].value == 1 / 12
    assert rates["pairs of clean models with p below 0.05 (calibrated: 0.05)"].value == 30 / 400
    only = scoring.rates([clean])
    assert not any("planted concept" in rate.name for rate in only)


def test_a_poisson_rate_is_the_textbooks():
    found = poisson_rate(3, 10)
    assert (found.value, found.n) == (0.3, 10)
    assert found.low == pytest.approx(0.0619, abs=1e-4)  # Garwood's table: 0.619 to 8.77 for 3
    assert found.high == pytest.approx(0.8767, abs=1e-4)
    assert poisson_rate(0, 20).high == pytest.approx(3.689 / 20, abs=1e-4)


def test_separation_is_the_share_of_pairs_in_order():
    import numpy as np

    rng = np.random.default_rng(0)
    present, absent = rng.integers(2, 8, 30).astype(float), rng.integers(0, 6, 50).astype(float)
    pairs = np.sign(present[:, None] - absent[None, :])
    found = separation(present, absent)
    assert found is not None
    assert found[0].value == pytest.approx((pairs.mean() + 1) / 2)
    assert found[0].low < found[0].value < found[0].high
    assert found[1] < 1e-4
    p = []
    for _ in range(200):
        null = separation(rng.normal(size=12), rng.normal(size=80))
        assert null is not None
        p.append(null[1])
        assert 0 <= null[0].low <= null[0].high <= 1
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09
    assert separation(present[:1], absent) is None
    without_fail = separation(np.arange(5.0) + 10, np.arange(40.0) / 5)
    assert without_fail is not None
    assert without_fail[0].value == without_fail[0].high == 1
    assert 0.6 < without_fail[0].low < 0.9, "five photos are no proof"
    surely = []
    for _ in range(400):  # an area of 0.74
        drawn = separation(rng.normal(0.91, 1, 5), rng.normal(size=200))
        assert drawn is not None
        surely.append(drawn[0].low >= 0.75)
    assert np.mean(surely) < 0.05
    same = separation(np.ones(5), np.ones(6))
    assert same is not None
    assert same[0].value == 0.5
    assert same[1] == pytest.approx(0.5, abs=0.5)


def test_what_else_the_class_learned_takes_nobodys_place_and_what_it_did_not_does():
    saved = planted()
    scored = {c.index: c.concepts for c in saved.classes}
    first = scoring.candidates(saved.planted[0], saved, scored)
    other = next(c.concept for c in first if c.concept != "chinese watermark")
    for effect, counts in ((LEARNED, False), (NOT, True)):
        beside = saved.planted[0].model_copy(update={"concept": other, "learned": effect})
        both = saved.model_copy(update={"planted": (*saved.planted, beside)})
        listed = [c.concept for c in scoring.candidates(both.planted[0], both, scored)]
        assert (other in listed) is counts
        assert len(listed) == len(first) - (not counts)
