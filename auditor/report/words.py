"""The report's own words: verdicts, grades, tests and limits.

With `auditor.report.claims` and `auditor.report.notes` this holds every sentence that judges, once,
so that the wording can be reviewed: a claim says no more than its grade, and "nothing found" never
stands alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from auditor.record.codes import Grade, Status, TestName
from auditor.record.schema import Audit, SelfTest
from auditor.report import notes
from auditor.report.text import count, name, told

__all__ = [
    "CHANNELS",
    "GRADES",
    "LIMITS",
    "TESTS",
    "VERDICTS",
    "Badge",
    "TestWords",
    "absence",
    "detection_power",
    "nothing_found",
]


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


TESTS: Mapping[TestName, TestWords] = {
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
    effect = audit.coverage.smallest_effect
    smallest = (
        "The smallest effect that would have been found was not estimated."
        if effect is None
        else f"The smallest effect that would have been found: {notes.smallest(effect)}."
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
