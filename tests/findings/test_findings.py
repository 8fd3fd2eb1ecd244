"""Pairs and findings: who is suspected, what is tested on photos, and the grade that results."""

from __future__ import annotations

import dataclasses
import itertools
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
import scored
from numpy.typing import NDArray
from scipy import stats

from auditor.concepts.banks import Concept
from auditor.core.estimates import Estimate
from auditor.core.statistics import benjamini_hochberg, empirical_p
from auditor.evidence import scoring
from auditor.evidence.directions import Vocabulary
from auditor.evidence.insertion import MATERIAL, MATERIAL_LOG_ODDS, Effect, Insertions
from auditor.evidence.surroundings import Surroundings
from auditor.findings import deriving, merging, screening, testing
from auditor.findings.concluding import Scored, conclude
from auditor.findings.grading import MATERIAL_AROUND, Association, Pair
from auditor.findings.testing import Drawn, Levels, Observations
from auditor.record.schema import Caveat, Divergence, Finding, Picture
from auditor.record.thresholds import PREVALENT, STRICTER
from auditor.report import notes

LEVEL = 0.05
BELOW = math.nextafter(LEVEL, 0)
LATER = Caveat(code="not_associated")
GIVEN = Caveat(code="text", params={"text": "Given."})


def estimate(value: float, low: float, high: float, n: int = 40) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=n)


def association(
    value: float = 1.5, low: float = 0.5, *, p: float = 0.001, q: float = 0.01
) -> Association:
    return Association(estimate(value, low, value + 1, 22), p, q)


def effect(
    value: float = 0.3,
    low: float = 0.2,
    *,
    control_high: float = 0.05,
    p: float = 1e-5,
    log_odds_high: float = 3.0,
) -> Effect:
    control = estimate(min(0.0, control_high), min(-0.1, control_high), control_high, 96)
    excess = estimate(value - control.value, low - control_high, value + 0.2, 96)
    moved = estimate(value, low, value + 0.1, 96)
    return Effect(moved, control, 2.0, log_odds_high, p, excess)


def suspect(**changes: Any) -> Pair:
    plain = Pair(
        class_index=3,
        class_name="husky",
        concept="snow",
        category="weather",
        naming=estimate(4.6, 3.8, 5.4, 5),
        null=estimate(0.0, -1.9, 2.0, 999),
        p=0.004,
        q=0.004,
        association=None,
        effect=None,
        effect_q=None,
        caveats=(GIVEN,),
    )
    return dataclasses.replace(plain, **changes)


def said(of: Pair | Finding) -> tuple[str, ...]:
    """The caveats as the report words them."""
    return tuple(notes.caveat(caveat) for caveat in of.caveats)


def graded(**changes: Any) -> Finding:
    (finding,) = deriving.derive([suspect(**changes)], q_level=LEVEL)
    return finding


# --- grades and their boundaries --------------------------------------------------------------


def test_a_score_alone_is_suspected() -> None:
    finding = graded()
    assert finding.grade == "suspected"
    assert [e.test for e in finding.evidence] == ["naming"]
    assert finding.caveats == (GIVEN, LATER)


@pytest.mark.parametrize(
    ("given", "grade"),
    [
        (association(), "corroborated"),
        (association(q=BELOW), "corroborated"),
        (association(q=LEVEL), "suspected"),
        (association(low=1e-9), "corroborated"),
        (association(low=0.0), "suspected"),
        (association(low=-0.1), "suspected"),
        (association(MATERIAL_LOG_ODDS, 0.5), "corroborated"),
        (association(math.nextafter(MATERIAL_LOG_ODDS, 0), 0.5), "suspected"),
        (association(-1.5, -2.0), "suspected"),
    ],
)
def test_corroborated_is_significant_positive_and_doubles_the_odds(
    given: Association, grade: str
) -> None:
    finding = graded(association=given)
    assert finding.grade == grade
    assert finding.caveats == (GIVEN,)
    assert math.exp(MATERIAL_LOG_ODDS) == pytest.approx(2)


@pytest.mark.parametrize(
    ("given", "q", "grade"),
    [
        (effect(), 0.001, "confirmed"),
        (effect(), BELOW, "confirmed"),
        (effect(), 0.0, "confirmed"),
        (effect(), LEVEL, "suspected"),
        (effect(), None, "suspected"),
        (effect(low=0.2, control_high=math.nextafter(0.2, 0)), 0.001, "confirmed"),
        (effect(low=0.2, control_high=0.2), 0.001, "suspected"),
        (effect(low=1e-9, control_high=-0.1), 0.001, "confirmed"),
        (effect(low=0.0, control_high=-0.1), 0.001, "suspected"),
        (effect(low=-0.05, control_high=-0.1), 0.001, "suspected"),
        (effect(MATERIAL, 0.005, control_high=0.001), 0.001, "confirmed"),
        (effect(math.nextafter(MATERIAL, 0), 0.005, control_high=0.001), 0.001, "suspected"),
    ],
)
def test_confirmed_beats_its_control_and_is_material(
    given: Effect, q: float | None, grade: str
) -> None:
    assert graded(effect=given, effect_q=q).grade == grade


@pytest.mark.parametrize(
    ("changes", "grade"),
    [
        ({}, None),
        ({"association": association()}, "corroborated"),
        ({"association": association(q=LEVEL)}, None),
        ({"effect": effect(), "effect_q": 0.001}, "confirmed"),
        ({"effect": effect(), "effect_q": LEVEL}, None),
    ],
)
def test_a_score_within_the_null_needs_photos_to_be_a_finding(
    changes: dict[str, Any], grade: str | None
) -> None:
    within = suspect(q=LEVEL, **changes)
    assert within.grade(LEVEL) == grade
    assert [f.grade for f in deriving.derive([within], q_level=LEVEL)] == ([grade] if grade else [])


def test_an_experiment_outweighs_an_association_either_way() -> None:
    assert graded(association=association(), effect=effect(), effect_q=0.001).grade == "confirmed"
    weak = association(q=0.9)
    assert graded(association=weak, effect=effect(), effect_q=0.001).grade == "confirmed"
    vain = effect(0.0, -0.1, log_odds_high=math.nextafter(MATERIAL_LOG_ODDS, 0))
    assert graded(association=association(), effect=vain, effect_q=0.9).grade == "suspected"
    unsettled = effect(0.0, -0.1, log_odds_high=MATERIAL_LOG_ODDS)
    assert graded(association=association(), effect=unsettled, effect_q=0.9).grade == "corroborated"


def weak() -> Effect:
    """The concept raises the class, and its control nearly as much."""
    return dataclasses.replace(
        effect(0.12, 0.08, control_high=0.1), excess=estimate(0.03, 0.01, 0.05, 96)
    )


def common(value: float = 0.9, *, q: float = 0.001) -> Association:
    return Association(estimate(value, value - 0.05, min(1.0, value + 0.05)), q, q)


@pytest.mark.parametrize(
    ("changes", "grade"),
    [
        ({"effect": weak(), "effect_q": 0.001}, None),
        ({"effect": weak(), "effect_q": 0.001, "prevalence": common()}, "corroborated"),
        ({"effect": weak(), "effect_q": LEVEL, "prevalence": common()}, None),
        (
            {"effect": weak(), "effect_q": 0.001, "prevalence": common(PREVALENT + 0.06)},
            "corroborated",
        ),
        (
            {"effect": weak(), "effect_q": 0.001, "prevalence": common(PREVALENT + 0.04)},
            "suspected",
        ),
        (
            {
                "effect": weak(),
                "effect_q": 0.001,
                "prevalence": common(math.nextafter(PREVALENT, 0)),
            },
            None,
        ),
        ({"effect": weak(), "effect_q": 0.001, "prevalence": common(q=LEVEL)}, None),
        ({"prevalence": common()}, None),
        ({"surroundings": association()}, None),
        ({"surroundings": association(q=4e-4), "prevalence": common()}, "corroborated"),
        ({"surroundings": association(q=LEVEL * STRICTER), "prevalence": common()}, None),
        (
            {"surroundings": association(MATERIAL_AROUND, 0.1, q=0), "prevalence": common()},
            "corroborated",
        ),
        (
            {
                "surroundings": association(math.nextafter(MATERIAL_AROUND, 0), 0.1, q=0),
                "prevalence": common(),
            },
            None,
        ),
        (
            {
                "surroundings": association(q=4e-4),
                "prevalence": common(),
                "association": Association(estimate(-1, -1.5, -0.1), 0.9, 0.9),
            },
            None,
        ),
    ],
)
def test_a_weak_experiment_counts_for_a_concept_that_goes_with_the_class(
    changes: dict[str, Any], grade: str | None
) -> None:
    assert suspect(q=LEVEL, **changes).grade(LEVEL) == grade


def test_an_association_convicts_only_where_no_experiment_contradicts_it() -> None:
    def around(high: float) -> Association:
        return Association(estimate(high - 0.2, high - 0.4, high), 0.4, 0.9)

    material = MATERIAL_AROUND
    vain = dataclasses.replace(weak(), log_odds_high=math.nextafter(MATERIAL_LOG_ODDS, 0))
    far = {"association": association(q=math.nextafter(LEVEL * STRICTER, 0))}
    cases: list[tuple[dict[str, Any], str | None]] = [
        ({}, "corroborated"),
        ({"surroundings": around(material)}, "corroborated"),
        ({"surroundings": around(math.nextafter(material, 0))}, "suspected"),
        ({"surroundings": around(math.nextafter(material, 0)), **far}, "corroborated"),
        ({"surroundings": around(0.0)}, "suspected"),
        ({"surroundings": around(math.nextafter(0, -1)), **far}, None),
        ({"effect": weak(), "effect_q": 0.9}, "corroborated"),
        ({"effect": vain, "effect_q": 0.9}, None),
        ({"effect": vain, "effect_q": 0.9, "sketched": True}, "corroborated"),
        ({"effect": weak(), "effect_q": 0.001}, "corroborated"),
    ]
    for changes, grade in cases:
        given = {"association": association(), "q": LEVEL, **changes}
        assert suspect(**given).grade(LEVEL) == grade, changes


@pytest.mark.parametrize(("degrades", "why"), [(True, "hides"), (False, "take it for")])
def test_what_moves_the_class_convicts_only_where_photos_of_the_class_show_it(
    degrades: bool, why: str
) -> None:
    strong: dict[str, Any] = {
        "effect": effect(),
        "effect_q": 0.001,
        "association": association(),
    }
    unknown = graded(degrades=degrades, **strong)
    assert unknown.grade == ("suspected" if degrades else "confirmed"), "nothing is known of it"
    assert any("is not known" in caveat for caveat in said(unknown))
    assert graded(degrades=degrades, prevalence=common(), **strong).grade == "confirmed"
    uncertain = Association(estimate(0.74, 0.45, 1.0), 0.2, 0.2)
    assert graded(degrades=degrades, prevalence=uncertain, **strong).grade == "suspected"
    even = graded(degrades=degrades, prevalence=common(0.5, q=0.6), **strong)
    assert even.grade == "suspected"
    assert sum("Photos of the class" in caveat for caveat in said(even)) == 1
    assert any(why in caveat for caveat in said(even))
    strong["association"] = None
    within = suspect(degrades=degrades, prevalence=common(0.5, q=0.6), q=LEVEL, **strong)
    assert within.grade(LEVEL) == (None if degrades else "suspected"), "what hides is no hint"
    edge = suspect(degrades=degrades, prevalence=uncertain, q=LEVEL, **strong)
    assert edge.grade(LEVEL) == "suspected", "photos of the class may show it"


def test_prevalence_that_is_merely_uncertain_takes_nothing_away() -> None:
    strong = {"effect": effect(), "effect_q": 0.001}
    assert graded(prevalence=common(0.95, q=0.06), **strong).grade == "confirmed"
    for share in (math.nextafter(PREVALENT, 0), PREVALENT + 0.04):
        assert graded(prevalence=common(share), **strong).grade == "suspected"
    unsure = "That photos of the class show it more often than others is not sure (0.74 at least"
    lines = said(graded(prevalence=common(PREVALENT + 0.04), **strong))
    assert [line for line in lines if line.startswith(unsure)]
    sure = graded(prevalence=common(PREVALENT + 0.06), **strong)
    assert sure.grade == "confirmed"
    assert not [line for line in said(sure) if "is not sure" in line]


def test_where_prevalence_is_unsure_a_score_far_beyond_chance_corroborates() -> None:
    unsure = {"prevalence": common(PREVALENT + 0.04), "effect": effect(), "effect_q": 0.001}
    far = math.nextafter(LEVEL * STRICTER, 0)
    found = graded(p=far, **unsure)
    assert found.grade == "corroborated"
    assert any(line.endswith("drawing it confirms nothing.") for line in said(found))
    assert suspect(p=LEVEL * STRICTER, **unsure).grade(LEVEL) == "suspected"
    assert suspect(p=far, p_model=LEVEL, **unsure).grade(LEVEL) == "suspected"
    unsure["prevalence"] = common(PREVALENT + 0.04, q=LEVEL)
    assert suspect(p=far, **unsure).grade(LEVEL) == "suspected"
    unsure["prevalence"] = common(PREVALENT - 0.01)
    assert suspect(p=far, **unsure).grade(LEVEL) == "suspected"


def test_a_score_that_photos_of_the_class_alone_make_is_no_suspicion() -> None:
    assert suspect(q=0.001, p_model=0.04).grade(LEVEL) == "suspected"
    assert suspect(q=0.001, p_model=LEVEL).grade(LEVEL) is None


def test_an_association_convicts_only_where_photos_of_the_class_show_it() -> None:
    given = {"association": association(), "q": LEVEL}
    assert suspect(**given).grade(LEVEL) == "corroborated", "nothing is known of the class"
    assert suspect(prevalence=common(), **given).grade(LEVEL) == "corroborated"
    assert suspect(prevalence=common(0.6), **given).grade(LEVEL) == "suspected"


@pytest.mark.parametrize(
    ("changes", "basis"),
    [
        ({}, "naming"),
        ({"association": association()}, "association"),
        ({"association": association(), "q": LEVEL, "prevalence": common(0.6)}, "association"),
        ({"association": association(q=0.03), "prevalence": common(0.6)}, "naming"),
        ({"effect": effect(), "effect_q": 0.001, "prevalence": common(0.6)}, "insertion"),
        ({"effect": effect(), "effect_q": 0.001}, "insertion"),
        (
            {
                "association": association(q=0.02),
                "effect": weak(),
                "effect_q": 0.001,
                "prevalence": common(PREVALENT + 0.06),
            },
            "insertion",
        ),
        (
            {
                "association": association(q=1e-4),
                "effect": weak(),
                "effect_q": 0.001,
                "prevalence": common(PREVALENT + 0.06),
            },
            "association",
        ),
    ],
)
def test_a_grade_names_the_test_that_it_rests_on(changes: dict[str, Any], basis: str) -> None:
    finding = graded(**changes)
    assert finding.basis == basis
    assert finding.lead is not None
    assert finding.lead.test == basis


def test_evidence_carries_effect_interval_control_and_correction() -> None:
    given = suspect(association=association(p=0.002, q=0.011), effect=effect(p=1e-5), effect_q=2e-4)
    pictures = (Picture(file="a.jpg", kind="with", class_index=3, probability=0.2),)
    (finding,) = deriving.derive([given], q_level=LEVEL, pictures={(0, 0): pictures})
    named, associated, inserted = finding.evidence
    assert (named.effect, named.control, named.p, named.q) == (
        given.naming, given.null, 0.004, 0.004,
    )  # fmt: skip
    assert given.association is not None
    assert (associated.effect, associated.control) == (given.association.estimate, None)
    assert (associated.p, associated.q) == (0.002, 0.011)
    assert given.effect is not None
    assert (inserted.effect, inserted.control) == (given.effect.effect, given.effect.control)
    assert (inserted.p, inserted.q) == (1e-5, 2e-4)
    assert [e.n for e in finding.evidence] == [5, 22, 96]
    assert [e.unit for e in finding.evidence] == ["null_sd", "log_odds", "probability"]
    assert finding.pictures == pictures
    assert (finding.class_index, finding.concept, finding.category) == (3, "snow", "weather")


def test_findings_stand_by_grade_then_q_then_score() -> None:
    ordered = [
        suspect(concept="a", effect=effect(), effect_q=0.001, q=0.04),
        suspect(concept="b", association=association(), q=0.03),
        suspect(concept="c", q=0.001),
        suspect(concept="d", q=0.002, naming=estimate(9, 8, 10)),
        suspect(concept="e", q=0.002, naming=estimate(5, 4, 6)),
    ]
    for shuffled in itertools.permutations(ordered):
        found = deriving.derive(shuffled, q_level=LEVEL)
        assert [f.concept for f in found] == ["a", "b", "c", "d", "e"]


def test_nobody_suspected_is_nothing_found() -> None:
    assert deriving.derive([], q_level=LEVEL) == ()


def test_an_identifier_is_the_same_in_every_audit() -> None:
    assert deriving.finding_id(3, "husky", "snow") == "fc76d6cf74a9"
    assert graded().id == graded(q=0.03, association=association()).id == "fc76d6cf74a9"
    assert deriving.finding_id(3, "husky", "Snow") == deriving.finding_id(3, "husky", "snow")
    different = [(3, "husky", "snow"), (4, "husky", "snow"), (3, "wolf", "snow"),
                 (3, "husky", "ice"), (3, "huskys", "now")]  # fmt: skip
    assert len({deriving.finding_id(*each) for each in different}) == len(different)


# --- association ------------------------------------------------------------------------------


def photos(
    n: int = 400, *, gain: float, own: float = 0.0, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Photos of four classes of unequal odds; a concept that is frequent where odds are high."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    shown = rng.random(n) < np.array([0.5, 0.05, 0.3, 0.7])[labels]
    log_odds = np.array([0.0, -6.0, -3.0, 2.0])[labels] + rng.normal(size=n)
    return log_odds + shown * np.where(labels == 0, own, gain), shown, labels


def associated(
    values: tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]], min_photos: int = 5
) -> tuple[Estimate, float] | None:
    return testing.associate(*values, 0, min_photos=min_photos)


def test_a_planted_association_is_found_with_its_size() -> None:
    found = associated(photos(gain=2.0))
    assert found is not None
    assert found[0].low < 2 < found[0].high
    assert found[0].high - found[0].low < 1
    assert found[1] < 1e-6


def test_the_classes_themselves_are_no_association() -> None:
    """Without a gain within classes there is nothing, though odds and concept go together."""
    p = []
    for seed in range(60):
        values = photos(gain=0.0, seed=seed)
        others = values[2] != 0
        assert np.corrcoef(values[0][others], values[1][others])[0, 1] > 0.3
        found = associated(values)
        assert found is not None
        p.append(found[1])
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_photos_of_the_class_itself_do_not_count() -> None:
    log_odds, shown, labels = photos(gain=0.0, own=50.0)
    found = associated((log_odds, shown, labels))
    assert found is not None
    assert abs(found[0].value) < 0.5
    assert found[0].n <= int((shown & (labels != 0)).sum())
    changed = np.where(labels == 0, -1e6, log_odds)
    assert associated((changed, shown, labels)) == found


def test_too_few_photos_with_the_concept_are_no_test() -> None:
    log_odds, shown, labels = photos(gain=2.0)
    others = np.flatnonzero(shown & (labels != 0))
    shown[others[6:]] = False
    assert associated((log_odds, shown, labels), min_photos=6) is not None
    assert associated((log_odds, shown, labels), min_photos=7) is None
    alone = np.array([True] * 4 + [True] + [False] * 9)
    strata = np.array([1, 2, 3, 4] + [5] * 10)
    values = np.random.default_rng(0).normal(size=14)
    assert associated((values, alone, strata)) is None, "four of five have nothing to be held to"


def test_associations_are_corrected_together() -> None:
    p = {(0, 0): 0.01, (0, 1): 0.04, (1, 0): 0.03, (2, 2): 0.9}
    found = testing.corrected({key: (estimate(1, 0, 2), value) for key, value in p.items()})
    for key, value in p.items():
        ranked = sorted(p.values())
        slow = min(
            min(1.0, other * len(p) / (place + 1))
            for place, other in enumerate(ranked)
            if other >= value
        )
        assert found[key].q == pytest.approx(slow)
        assert found[key].p == value
    assert testing.corrected({}) == {}


# --- suspects ---------------------------------------------------------------------------------

NAMES = ("husky", "carton", "traffic light", "safe")
CLASSES = (2, 0)  # of the rows
UNASSESSED = Divergence(
    score=None,
    class_specific=None,
    rank=None,
    rank_low=None,
    rank_high=None,
    reason=None,
    layers=(),
)


def concept(name: str, *, drawing: str | None = None, extrinsic: bool = True) -> Concept:
    category = "background" if extrinsic else "texture"
    return Concept(name, category, (f"a photo of {name}",), drawing, None, extrinsic)


BANK = (
    concept("snow"),
    concept("ice"),
    concept("graffiti"),
    concept("traffic light"),
    concept("fur", extrinsic=False),
    concept("black border", drawing="black_border"),
    concept("fog"),
    concept("Rain"),
    concept("twigs"),
    concept("mud"),
)
COLUMN = {each.name: j for j, each in enumerate(BANK)}


@dataclass(frozen=True)
class Bank:
    """What `conclude` needs of a vocabulary."""

    concepts: tuple[Concept, ...]
    cosines: NDArray[np.float64]

    def likeness(self) -> NDArray[np.float64]:
        return self.cosines


@dataclass(frozen=True)
class Scores:
    """What `conclude` needs of the naming: no pair stands out until a test says so."""

    score: NDArray[np.float64]
    p: NDArray[np.float64]
    q: NDArray[np.float64]
    p_model: NDArray[np.float64]
    null: NDArray[np.float64]
    channels: Mapping[str, NDArray[np.float64]]

    @staticmethod
    def of(standing_out: Mapping[tuple[int, str], float]) -> Scores:
        shape = (len(CLASSES), len(BANK))
        score, q = np.full(shape, 0.5), np.full(shape, 0.9)
        for (row, name), value in standing_out.items():
            score[row, COLUMN[name]] = value
            q[row, COLUMN[name]] = 0.01
        null = np.random.default_rng(0).normal(size=(len(CLASSES), 999))
        return Scores(
            score, q / 10, q, q / 10, null, {"bridge": score, "head": -score, "direct": -score}
        )


def seen(n: int = 300, *, gain: float = 0.0, goes_with: str | None = None) -> testing.Photos:
    """Photos of four classes; those that show snow raise the odds of both audited classes.

    Most photos of the husky show the concept `goes_with`.
    """
    rng = np.random.default_rng(3)
    scores = 0.1 * rng.normal(size=(n, len(BANK)))
    snowy = rng.random(n) < 0.3
    scores[snowy, COLUMN["snow"]] += 5
    if goes_with is not None:
        scores[(np.arange(n) % 4 == 0) & (np.arange(n) % 3 > 0), COLUMN[goes_with]] += 5
    log_odds = rng.normal(size=(n, len(CLASSES))) + gain * snowy[:, None]
    return testing.Photos(
        np.arange(n) % 4, lambda row: log_odds[:, row], scores > 2,
        lambda j: scores[:, j], lambda j: scores[:, j],
        np.zeros(len(BANK)),
    )  # fmt: skip


def around(n: int = 200, *, gain: float = 0.0) -> testing.Donors:
    """Pool photos of which a third show mud in their surroundings, which raise both classes."""
    rng = np.random.default_rng(5)
    shown = np.zeros((n, len(BANK)), bool)
    shown[:, COLUMN["mud"]] = rng.random(n) < 0.3
    log_odds = rng.normal(size=(n, len(CLASSES))) + gain * shown[:, [COLUMN["mud"]]]
    own = np.zeros((n, len(CLASSES)), bool)
    return testing.Donors(Surroundings(log_odds), shown, own, None)


def inserted(raised: int, gain: float, n: int = 40) -> Insertions:
    """A drawing that raises the log-probability of one class, unlike its control."""
    logs = np.log(np.full((3, n, len(NAMES)), 0.2, np.float32))
    logs += 0.01 * np.random.default_rng(0).normal(size=logs.shape).astype(np.float32)
    logs[1, :, raised] += gain
    return Insertions(np.zeros((n, 2), np.float32), logs)


def suspected(
    named: Scores,
    *,
    expected: Mapping[str, tuple[str, ...]] | None = None,
    cosines: NDArray[np.float64] | None = None,
    shown: testing.Photos | None = None,
    donors: testing.Donors | None = None,
    insertions: Insertions | None = None,
    drawn_on: NDArray[np.int64] | None = None,
    diverged: Divergence = UNASSESSED,
    quality: Mapping[str, float] | None = None,
    min_photos: int = 5,
) -> dict[tuple[int, str], Pair]:
    bank = cast(Vocabulary, Bank(BANK, np.eye(len(BANK)) if cosines is None else cosines))
    scored = Scored(
        naming=cast(scoring.Naming, named),
        vocabulary=bank,
        is_core=screening.core(BANK, CLASSES, NAMES, expected or {}),
        classes=CLASSES,
        names=NAMES,
        divergence=dict.fromkeys(CLASSES, diverged),
        quality=quality or {},
        interval=lambda row, j: estimate(named.score[row, j], -9, 99, 5),
    )
    labels = np.arange(40) % 4 if drawn_on is None else drawn_on
    drawn = Drawn({"black_border": insertions or inserted(0, 0.0)}, labels)
    observed = Observations(shown or seen(), drawn, donors or around())
    found = conclude(scored, observed, Levels(LEVEL, min_photos, 99, 0))
    return {(each.class_index, each.concept): each for each in found}


def test_photos_of_a_class_must_show_more_than_others_are_given() -> None:
    photos = seen(goes_with="black border")
    named, change = Scores.of({(1, "black border"): 4.0}), np.zeros(len(BANK))

    def told(share: float) -> Pair:
        change[COLUMN["black border"]] = 5 * share
        shown = dataclasses.replace(photos, margin=change)
        one = suspected(named, shown=shown, insertions=inserted(0, 1.0))[0, "black border"]
        assert any("For want of a pool" in caveat for caveat in said(one)) == (share > 0)
        return one

    for share, grade in ((0.0, "confirmed"), (1.1, "suspected")):
        assert told(share).grade(LEVEL) == grade, "two thirds show five of it"


@pytest.mark.parametrize(("category", "sketched"), [("frame", False), ("weather", True)])
def test_a_drawing_that_stands_for_something_natural_is_tried_as_surroundings_too(
    category: str, sketched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = [each.name for each in BANK if each.drawing is not None]
    changed = [
        dataclasses.replace(each, category=category) if each.name == name else each for each in BANK
    ]
    monkeypatch.setattr(sys.modules[__name__], "BANK", changed)
    donors = around()
    donors.shown[:, COLUMN[name]] = donors.shown[:, COLUMN["mud"]]
    one = suspected(Scores.of({(1, name): 4.0}), donors=donors)[0, name]
    assert one.sketched == sketched
    assert (one.surroundings is not None) == sketched
    assert one.degrades, "a border covers part of everything"


def test_what_stands_out_is_suspected_with_its_own_numbers() -> None:
    named = Scores.of({(1, "graffiti"): 4.0})
    found = suspected(named)
    assert list(found) == [(0, "graffiti")]
    one = found[0, "graffiti"]
    assert one.class_name == "husky"
    assert one.category == "background"
    assert (one.p, one.q) == (0.001, 0.01)
    assert one.naming.value == 4.0
    assert (one.row, one.column) == (1, COLUMN["graffiti"])
    middle = np.sort(named.null[1])
    assert one.null.value == pytest.approx(middle[499])
    assert one.null.low < -1.7
    assert one.null.high > 1.7
    assert one.null.n == 999


def test_nothing_that_stands_out_is_nobody_suspected() -> None:
    assert suspected(Scores.of({})) == {}
    low = Scores.of({(0, "snow"): -4.0})
    assert suspected(low) == {}, "a score below the null accuses nobody"
    untested = Scores.of({(0, "snow"): 4.0})
    untested.q[:] = untested.p[:] = np.nan
    assert suspected(untested, shown=seen(gain=2.0)) == {}
    edge = Scores.of({(0, "snow"): 4.0})
    edge.q[0, COLUMN["snow"]] = LEVEL
    assert suspected(edge) == {}
    edge.q[0, COLUMN["snow"]] = BELOW
    assert list(suspected(edge)) == [(2, "snow")]


def test_what_means_the_class_or_is_no_surrounding_is_no_finding() -> None:
    both = [(row, name) for row in (0, 1) for name in ("traffic light", "fur")]
    found = suspected(Scores.of(dict.fromkeys(both, 5.0)))
    assert list(found) == [(0, "traffic light")], "the husky's, not the traffic light's own"


@pytest.mark.parametrize("key", ["husky", "0"])
@pytest.mark.parametrize(
    ("name", "written"), [("snow", "snow"), ("snow", "Snow"), ("Rain", "rain")]
)
def test_what_was_declared_expected_is_no_finding_for_that_class(
    key: str, name: str, written: str
) -> None:
    both = Scores.of({(0, name): 5.0, (1, name): 5.0})
    assert set(suspected(both)) == {(0, name), (2, name)}
    assert set(suspected(both, expected={key: (written,)})) == {(2, name)}
    assert set(suspected(both, expected={"safe": (written,)})) == {(0, name), (2, name)}


def test_concepts_that_are_not_told_apart_are_one_suspect() -> None:
    cosines = np.eye(len(BANK))
    for a, b, value in [("snow", "ice", merging.ALIKE), ("snow", "fog", 0.59)]:
        cosines[COLUMN[a], COLUMN[b]] = cosines[COLUMN[b], COLUMN[a]] = value
    named = Scores.of({(1, "ice"): 4.0, (1, "snow"): 5.0, (1, "fog"): 3.0})
    found = suspected(named, cosines=cosines)
    assert set(found) == {(0, "snow"), (0, "fog")}
    assert "Not told apart from: ice." in said(found[0, "snow"])
    assert not [c for c in said(found[0, "fog"]) if "Not told apart" in c]


@pytest.mark.parametrize(("gain", "named"), [(1.0, "black border"), (0.0, "fog")])
def test_a_drawn_concept_stands_for_its_like_where_the_experiment_says_more(
    gain: float, named: str
) -> None:
    cosines = np.eye(len(BANK))
    a, b = COLUMN["fog"], COLUMN["black border"]
    cosines[a, b] = cosines[b, a] = 0.8
    found = suspected(
        Scores.of({(1, "fog"): 5.0, (1, "black border"): 4.0}), cosines=cosines,
        insertions=inserted(0, gain), shown=seen(goes_with="black border"),
    )  # fmt: skip
    assert set(found) == {(0, named)}, "one suspect, whichever leads"
    assert found[0, named].alike == (("fog",) if named == "black border" else ("black border",))
    assert found[0, named].grade(LEVEL) == ("confirmed" if gain else "suspected")


def test_the_best_few_of_each_class_are_followed_up() -> None:
    order = ("mud", "snow", "Rain", "fog", "twigs", "ice", "graffiti")
    named = Scores.of({(row, name): 9.0 - place for row in (0, 1)
                       for place, name in enumerate(order)})  # fmt: skip
    assert set(suspected(named)) == set(itertools.product(CLASSES, order[: screening.PER_CLASS]))


def screened(names: Mapping[str, float], p: float) -> Scores:
    """Concepts of the husky's row whose score does not stand out after correction."""
    named = Scores.of({(1, name): value for name, value in names.items()})
    for name in names:
        named.q[1, COLUMN[name]] = 0.5
        named.p[1, COLUMN[name]] = p
    return named


def test_the_first_few_are_tested_on_photos_though_they_do_not_stand_out() -> None:
    below, edge = math.nextafter(screening.SCREEN_P, 0), screening.SCREEN_P
    snowy = seen(gain=2.0, goes_with="snow")
    found = suspected(screened({"snow": 2.0}, below), shown=snowy)
    assert [f.grade for f in deriving.derive(list(found.values()), q_level=LEVEL)] == [
        "corroborated"
    ]
    assert suspected(screened({"snow": 2.0}, below)) == {}, "photos acquit it"
    assert suspected(screened({"snow": 2.0}, edge), shown=snowy) == {}
    border = suspected(
        screened({"black border": 2.0}, below),
        insertions=inserted(0, 1.0),
        shown=seen(goes_with="black border"),
    )
    assert list(border) == [(0, "black border")]
    assert suspected(screened({"black border": 2.0}, below)) == {}
    ahead = dict.fromkeys(("mud", "fog", "twigs")[: screening.SCREENED], 5.0)
    crowded = screened({**ahead, "snow": 2.0}, below)
    assert suspected(crowded, shown=snowy) == {}, "others stand before it"


@pytest.mark.parametrize(
    ("gain", "shows", "p", "found"),
    [
        (1.0, True, 0.04, {(0, "black border")}),
        (1.0, False, 0.04, set()),  # it moves the class, whose photos do not show it
        (0.0, True, 0.04, set()),  # the experiment acquits it
        (1.0, True, screening.SCREEN_P, set()),
    ],
)
def test_a_drawn_concept_is_put_to_the_experiment_wherever_it_ranks(
    gain: float, shows: bool, p: float, found: set[tuple[int, str]]
) -> None:
    ahead = ("mud", "snow", "Rain", "fog", "twigs", "ice")
    assert len(ahead) > screening.PER_CLASS
    named = screened({**dict.fromkeys(ahead, 5.0), "black border": 2.0}, p)
    photos = seen(goes_with="black border" if shows else None)
    assert set(suspected(named, insertions=inserted(0, gain), shown=photos)) == found


def grades_of(found: Mapping[tuple[int, str], Pair]) -> dict[int, str]:
    return {f.class_index: f.grade for f in deriving.derive(list(found.values()), q_level=LEVEL)}


def test_a_planted_association_corroborates_where_the_class_shows_the_concept() -> None:
    named = Scores.of({(0, "snow"): 5.0, (1, "snow"): 5.0})
    found = suspected(named, shown=seen(gain=2.0, goes_with="snow"))
    assert grades_of(found) == {0: "corroborated", 2: "suspected"}, (
        "only the husky's photos show snow"
    )
    weak = screened({"snow": 2.0}, 0.01)
    assert grades_of(suspected(weak, shown=seen(gain=2.0))) == {0: "suspected"}
    photos = seen(gain=2.0)
    few = dataclasses.replace(photos, labels=np.where(photos.labels == 0, 9, photos.labels))
    assert grades_of(suspected(weak, shown=few)) == {0: "corroborated"}, "nothing tells prevalence"
    unlike = dataclasses.replace(photos, representative=False)
    assert grades_of(suspected(weak, shown=unlike)) == {0: "corroborated"}, "it is not asked for"
    null = deriving.derive(list(suspected(named).values()), q_level=LEVEL)
    assert [f.grade for f in null] == ["suspected", "suspected"]
    assert all(f.evidence[1].test == "association" for f in null)


def test_surroundings_convict_what_goes_with_the_class_and_no_code_can_draw() -> None:
    named = Scores.of({(0, "mud"): 5.0, (1, "mud"): 5.0, (1, "fog"): 4.0})
    found = suspected(named, shown=seen(goes_with="mud"), donors=around(gain=2.0))
    grades = {(s.class_index, s.concept): s.grade(LEVEL) for s in found.values()}
    assert grades == {(0, "mud"): "corroborated", (2, "mud"): "suspected", (0, "fog"): "suspected"}
    one = found[0, "mud"]
    assert one.surroundings is not None
    assert one.surroundings.estimate.low < 2 < one.surroundings.estimate.high
    assert one.prevalence is not None
    assert one.prevalence.estimate.low > 0.7
    assert found[0, "fog"].surroundings is None, "no donor shows it"
    idle = suspected(named, shown=seen(goes_with="mud"))
    assert idle[0, "mud"].grade(LEVEL) == "suspected"


def test_surroundings_are_corrected_over_every_pair_that_could_be_a_suspect() -> None:
    named = Scores.of({(0, "mud"): 5.0})
    donors = around(gain=0.45)
    rng = np.random.default_rng(0)
    crowd = rng.random(donors.shown.shape) < 0.2
    crowd[:, COLUMN["mud"]] = donors.shown[:, COLUMN["mud"]]
    alone = suspected(named, donors=donors)[2, "mud"].surroundings
    among = suspected(named, donors=dataclasses.replace(donors, shown=crowd))[2, "mud"].surroundings
    assert alone is not None
    assert among is not None
    assert alone.p == among.p
    assert alone.p <= alone.q < among.q


def test_only_what_can_be_drawn_is_inserted_and_confirmed_for_its_class() -> None:
    named = Scores.of({(row, name): 5.0 for row in (0, 1) for name in ("black border", "mud")})
    found = suspected(named, insertions=inserted(0, 1.0), shown=seen(goes_with="black border"))
    assert found[0, "mud"].effect is None
    graded = deriving.derive(list(found.values()), q_level=LEVEL)
    assert {(f.class_index, f.concept) for f in graded if f.grade == "confirmed"} == {
        (0, "black border")
    }
    q = benjamini_hochberg(np.array([found[c, "black border"].effect.p for c in CLASSES]))  # type: ignore[union-attr]
    assert [found[c, "black border"].effect_q for c in CLASSES] == pytest.approx(list(q))


@pytest.mark.parametrize(("others", "tested"), [(0, False), (4, False), (5, True)])
def test_a_drawing_on_too_few_photos_of_other_classes_is_no_test(others: int, tested: bool) -> None:
    labels = np.repeat([0, 1], [40 - others, others])
    found = suspected(
        Scores.of({(1, "black border"): 5.0}), drawn_on=labels, insertions=inserted(0, 1.0)
    )[0, "black border"]
    assert (found.effect is not None) == tested
    told = f"Not drawn on photos: {others} show another class, 5 are needed."
    assert (told in said(found)) != tested


def test_caveats_tell_what_weakens_a_suspicion() -> None:
    named = Scores.of({(1, "snow"): 5.0, (1, "mud"): 5.0, (1, "black border"): 5.0})
    odd = UNASSESSED.model_copy(update={"class_specific": estimate(0.2, 0.1, 0.49)})
    found = suspected(named, diverged=odd, quality={"snow": 0.749, "mud": 0.75})
    poor = "The probe recognises this concept poorly (AUC 0.75)."
    unlike = (
        "The prototypes run through the model unlike photos of the class "
        "(class-specific similarity 0.20, photos 1.00)."
    )
    against = "Channels that speak against it: head."
    assert said(found[0, "snow"]) == (poor, unlike, against)
    assert said(found[0, "mud"]) == (unlike, against)
    assert said(found[0, "black border"]) == (unlike, against)
    fair = UNASSESSED.model_copy(update={"class_specific": estimate(0.2, 0.1, 0.5)})
    unknown = "How well the probe recognises this concept is not known."
    assert said(suspected(named, diverged=fair)[0, "snow"]) == (unknown, against)


# --- nothing found, at what detection power ---------------------------------------------------


def test_nothing_found_says_the_smallest_score_that_would_have_been_found() -> None:
    rng = np.random.default_rng(1)
    features, logits = rng.normal(size=(300, 20)), rng.normal(size=(300, 9))
    rows, texts = rng.normal(size=(300, 12)), rng.normal(size=(15, 12))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    mixed = scoring.mixtures(texts, 999, rng)
    found = scored.named(
        scored.pool(features, logits, rows),
        {"own": (texts, np.full(15, 12)), "random": (mixed, np.full(999, 12))},
        (rng.normal(size=(9, 20)), rng.normal(size=(9, 20)), rng.normal(size=(9, 12))),
        (rng.normal(size=(9, 15)), rng.normal(size=(9, 999))),
        q_level=LEVEL,
    )
    assert not (found.q < LEVEL).any(), "this world holds nothing to find"

    def would_be_found(score: float) -> bool:
        p = found.p.copy()
        p[4, 7] = empirical_p(np.array(score), found.null.ravel())
        return bool(benjamini_hochberg(p)[4, 7] < LEVEL)

    near = 0.05 * found.threshold
    assert would_be_found(found.threshold + near)
    assert not would_be_found(found.threshold - 4 * near)
