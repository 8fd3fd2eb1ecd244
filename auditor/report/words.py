"""The report's own words: verdicts, grades, tests, claims and limits.

Every sentence that judges is written here, once, so that the wording can be reviewed in one place:
a claim says no more than its grade, and "nothing found" never stands alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from auditor.core.estimates import Estimate
from auditor.record.schema import PREVALENT, Audit, Evidence, Finding, Grade, SelfTest
from auditor.report.text import Name, count, estimate, name, number, probability, told

__all__ = [
    "CHANNELS",
    "GRADES",
    "LIMITS",
    "TESTS",
    "VERDICTS",
    "Badge",
    "TestWords",
    "absence",
    "claim",
    "detection_power",
    "lead",
    "nothing_found",
]

Status = Literal["met", "not_met", "inconclusive", "not_assessed"]


@dataclass(frozen=True)
class Badge:
    """A grade or verdict as shape and word; `style` is its class in the style sheets."""

    word: str
    glyph: str
    style: str
    meaning: str


VERDICTS: Mapping[Status, Badge] = {
    "met": Badge("Criterion met", "✓", "met", "The criteria that were set are met."),
    "not_met": Badge("Criterion not met", "✕", "not-met", "A criterion that was set is not met."),
    "inconclusive": Badge(
        "Inconclusive", "◇", "inconclusive", "The evidence decides neither way at its size."
    ),
    "not_assessed": Badge(
        "Not assessed", "◌", "not-assessed", "No criteria were set, so none were assessed."
    ),
}

GRADES: Mapping[Grade, Badge] = {
    "confirmed": Badge(
        "confirmed",
        "●",
        "confirmed",
        "Drawn on photos of other classes, the concept raises the class by more than a matched "
        "edit does, the intervals apart and the odds at least doubled, and photos of the class, "
        "where they can tell, surely show it more often than others.",
    ),
    "corroborated": Badge(
        "corroborated",
        "◐",
        "corroborated",
        "Concept and answer go together on photos beyond chance, or an experiment speaks for it "
        "that does not tell it apart from its control, or from what else the surroundings show, or "
        "that does, and a score far beyond chance, where it is not sure that the class's photos "
        "show it.",
    ),
    "suspected": Badge(
        "suspected",
        "○",
        "suspected",
        "Something speaks for it, a score or a test; no test on photos convicts it.",
    ),
    "not_tested": Badge("not tested", "◌", "not-tested", "The reason stands with the finding."),
}


@dataclass(frozen=True)
class TestWords:
    """What a test is called, what its effect is, and what its control is."""

    title: str
    effect: str
    control: str
    units: str


TESTS: Mapping[str, TestWords] = {
    "naming": TestWords(
        "Naming",
        "How far prototypes, weights and photos of the class point to the concept",
        "random concepts: their median and central 95 %",
        "prototypes",
    ),
    "association": TestWords(
        "Association",
        "Log-odds of the class on photos of other classes, with the concept less without",
        "",
        "photos",
    ),
    "surroundings": TestWords(
        "Surroundings",
        "Log-odds of the class when the surroundings of pool photos with the concept, less those "
        "without, are put around objects of other classes",
        "",
        "photos",
    ),
    "prevalence": TestWords(
        "Prevalence",
        "How often a photo of the class shows more of the concept than one of another class, by "
        "the probe; 0.5 is no difference",
        "",
        "photos of the class",
    ),
    "insertion": TestWords(
        "Insertion",
        "Change of the class's probability when the concept is drawn on photos of other classes",
        "an edit of the same place, area and energy without the concept's meaning",
        "photos",
    ),
}

CHANNELS: tuple[tuple[str, str, str], ...] = (
    ("bridge", "Bridge", "prototypes projected on the concept's direction in the model's features"),
    ("textcav", "Text", "the direction taken from the text through a linear map; no weight"),
    ("direct", "Direct", "the probe's score of the prototype image itself; no weight"),
    ("head", "Weights", "the class's own weights along the concept's direction"),
    (
        "association",
        "Answer",
        "the class's answer on pool photos that show the concept, or on photos that it is drawn on",
    ),
    ("prevalence", "Photos", "how much more the class's own photos show the concept than others"),
)

LIMITS: tuple[tuple[str, str], ...] = (
    (
        "Prototypes are not tamper-proof.",
        "A model can be altered so that its prototypes mislead. A low divergence is no proof of "
        "honesty, and findings that rest on prototypes alone are graded suspected.",
    ),
    (
        "The probe has blind spots.",
        "A concept that the probe does not see, or that is not in the bank, cannot be found. Its "
        "quality per concept, where it is known, is listed under Data, the concepts of findings "
        "first.",
    ),
    (
        "Small samples give wide intervals.",
        "Read the interval and n, not the value alone; an interval that spans zero supports no "
        "claim in either direction.",
    ),
    (
        "Divergence is not harm.",
        "Nobody has shown that divergence predicts harm. It says how far a prototype can be "
        "trusted as evidence; the report sets it beside accuracy and states their correlation.",
    ),
    (
        "The photos stand for no population.",
        "Results hold for the photos that were audited. Other cameras, places or people can "
        "behave differently.",
    ),
)


ON_PHOTOS = ("association", "surroundings", "insertion")  # tests on photos of other classes


def lead(finding: Finding) -> Evidence | None:
    """The evidence that a finding's grade rests on; `None` where there is none.

    Of the tests on photos that speak for a corroborated finding, the one with the lowest q.
    """
    for tests in {
        "confirmed": (("insertion",), ON_PHOTOS, ("naming",)),
        "corroborated": (ON_PHOTOS, ("naming",)),
        "suspected": (("naming",),),
        "not_tested": (),
    }[finding.grade]:
        found = [
            evidence
            for evidence in finding.evidence
            if evidence.test in tests and (evidence.effect.low > 0 or len(tests) == 1)
        ]
        if found:
            return min(found, key=lambda evidence: 1.0 if evidence.q is None else evidence.q)
    return finding.evidence[0] if finding.evidence else None


def claim(finding: Finding, class_name: Name, concept: Name) -> str:
    """What is claimed, in a sentence that says no more than the grade."""
    evidence = lead(finding)
    if finding.grade == "not_tested" or evidence is None:
        return f"Whether “{class_name}” relies on “{concept}” was not tested."
    if finding.grade == "confirmed":
        if evidence.test == "insertion":
            return f"{_drawn(evidence, class_name, concept)}."
        return (
            f"In an experiment on photos, “{concept}” changed the answer “{class_name}” by "
            f"{_size(evidence.effect)}{_against(evidence, 'its matched control by')}."
        )
    if finding.grade == "corroborated" and evidence.test == "insertion":
        tested = {each.test: each for each in finding.evidence}
        reserves = []
        if evidence.control is not None and evidence.effect.low <= evidence.control.high:
            reserves.append("the intervals overlap: part of it may be any mark in that place")
        if "prevalence" in tested and tested["prevalence"].effect.low < PREVALENT:
            reserves.append(
                "that photos of the class show it more often than others is not sure (its score "
                f"has p {probability(tested['naming'].p)})"
            )
        if not reserves:
            reserves.append("this is less than a confirmation asks for")
        return f"{_drawn(evidence, class_name, concept)}; but {', and '.join(reserves)}."
    if finding.grade == "corroborated" and evidence.test == "surroundings":
        return (
            f"The surroundings of photos that show “{concept}”, put around objects of other "
            f"classes, lean towards “{class_name}”: {_measured(evidence)}. What else these "
            "surroundings have in common is not told apart from it."
        )
    if finding.grade == "corroborated":
        return (
            f"Photos of other classes that show “{concept}” lean towards “{class_name}”: "
            f"{_measured(evidence)}. No experiment has shown a cause."
        )
    return _suspicion(finding, class_name, concept, evidence)


def _suspicion(finding: Finding, class_name: Name, concept: Name, evidence: Evidence) -> str:
    """What is claimed where no test on photos convicts; a test that speaks for it is told."""
    on_photos = [e for e in finding.evidence if e.test in ON_PHOTOS]
    by_score = 1.0 if evidence.q is None else evidence.q
    shown = next((e.effect for e in finding.evidence if e.test == "prevalence"), None)
    common = shown is not None and shown.value >= PREVALENT
    for tested in reversed(on_photos):  # an experiment before an association
        control = tested.control
        if (
            tested.test == "insertion"
            and control is not None
            and tested.effect.low > 0
            and (
                tested.effect.value > control.value if common else tested.effect.low > control.high
            )
        ):
            return f"{_drawn(tested, class_name, concept)}; but " + (
                "that photos of the class show it more often than others is not sure enough."
                if common
                else "photos of the class are not known to show it: it may look like the "
                "class, or hide what speaks for the true one."
            )
        if tested.test == "association" and tested.effect.low > 0 and (tested.q or 0) < by_score:
            return (
                f"Photos of other classes that show “{concept}” lean towards “{class_name}”: "
                f"{_measured(tested)}; but {_held_back(finding)}."
            )
    return (
        f"Prototypes, weights and photos of “{class_name}” point to “{concept}”: "
        f"{_measured(evidence)}. "
        + (
            "Tests on photos of other classes have not borne it out."
            if on_photos
            else "It was not tested on photos of other classes."
        )
    )


def _held_back(finding: Finding) -> str:
    """Why an association convicts nobody."""
    beside = {evidence.test: evidence.effect for evidence in finding.evidence}
    seen, around = beside.get("prevalence"), beside.get("surroundings")
    if seen is None:
        why = "whether photos of the class show it is not known"
    elif seen.value < PREVALENT:
        why = f"photos of the class hardly show it more often than others: {estimate(seen)}"
    else:
        why = "the tests beside it do not bear it out far enough"
    if around is not None and around.low <= 0:
        why += f"; surroundings that show it, put around other objects, do {estimate(around)}"
    return why


def unit(text: str) -> str:
    """A unit in running text."""
    return {
        "log-odds of the class": "in log-odds",
        "standard deviations of the null": "standard deviations of the null",
        "probability of the class": "in probability",
    }.get(text, name(text).short)


def nothing_found(audit: Audit, hypotheses: int, which: str = "") -> str:
    """The sentence that goes with every absence of findings.

    Args:
        audit: the audit.
        hypotheses: how many pairs of a class and a concept could have been a finding and are none.
        which: an adjective for them, where they are not all.
    """
    if not hypotheses and not which:
        return (
            "No pair of a class and a concept could be tested; the reasons stand under Not "
            "assessed. This says nothing of what the model relies on."
        )
    smallest = (
        f"The smallest effect that would have been found: {told(audit.coverage.smallest_effect)}."
        if audit.coverage.smallest_effect
        else "The smallest effect that would have been found was not estimated."
    )
    power = "was not measured" if audit.self_test is None else "stands under Detection power"
    noun = f"{which} hypothesis".strip()
    return (
        f"None among the {count(hypotheses, noun, f'{which} hypotheses'.strip())} tested, at a "
        f"detection power that {power}. {smallest} This says nothing of concepts outside the bank, "
        "of classes that were not audited, or of smaller effects."
    )


def absence(hypotheses: int) -> str:
    """What is said in the first place where there is no finding."""
    return "Nothing found." if hypotheses else "Nothing was tested."


def detection_power(test: SelfTest) -> str:
    """What the rates were measured on, and what they do not say."""
    text = (
        f"Measured with these settings on {count(test.planted_models, 'model')} with planted "
        f"shortcuts and {count(test.clean_models, 'model')} without (self-test "
        f"{name(test.digest, 80).short[:12]})."
    )
    if test.learned is not None and test.shortcuts:
        share = "" if test.strength is None else f", each in {test.strength:.0%} of its class"
        text += (
            f" Of {count(test.shortcuts, 'planted shortcut')}{share}, {test.learned:,} were learned"
            ", by experiment, and count; the others count as absent."
        )
    if test.photos_per_class is not None:
        pool = "" if test.pool is None else f" and {test.pool:,} in the pool"
        text += f" Audited on {count(test.photos_per_class, 'photo')} of each class{pool}."
    if test.families:
        text += f" Kinds: {told(', '.join(test.families))}."
    return (
        f"{text} These are small networks that tell drawn objects apart: the rates speak for the "
        "settings, not for the audited model."
    )


def _drawn(evidence: Evidence, class_name: Name, concept: Name) -> str:
    """What drawing a concept did, and its control."""
    moves = "lowers" if evidence.effect.value < 0 else "raises"
    return (
        f"Drawn on photos of other classes, “{concept}” {moves} the probability of “{class_name}” "
        f"by {_size(evidence.effect)}"
        f"{_against(evidence, 'a matched edit without its meaning changes it by')}"
    )


def _size(effect: Estimate) -> str:
    """Size and interval of an effect whose direction the sentence already tells."""
    if effect.value >= 0:
        return estimate(effect)
    return f"{number(-effect.value)} ({number(-effect.high)} to {number(-effect.low)})"


def _measured(evidence: Evidence) -> str:
    sign = "+" if evidence.effect.value > 0 else ""
    q = probability(evidence.q)
    if evidence.q is not None:
        q = f"q {q if q.startswith('<') else '= ' + q}".replace(" ", "\u00a0")
    else:
        q = "q not computed"
    return f"{sign}{estimate(evidence.effect)} {unit(evidence.unit)}, {q}"


def _against(evidence: Evidence, words: str) -> str:
    return "" if evidence.control is None else f"; {words} {estimate(evidence.control)}"
