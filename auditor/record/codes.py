"""Every code of a record: what programs compare and `auditor.report` turns into words.

Each table has a line for each code of its kind: what the code means, and the values that stand
beside it. `docs/reference/record.md` holds the same tables, which a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "CAVEATS",
    "FOUND",
    "GAPS",
    "GRADES",
    "MATERIALS",
    "ON_PHOTOS",
    "PICTURES",
    "REASONS",
    "TESTS",
    "UNITS",
    "VERDICT_REASONS",
    "CaveatCode",
    "GapCode",
    "Grade",
    "MaterialCode",
    "Meaning",
    "ParamKind",
    "PictureKind",
    "ReasonCode",
    "Status",
    "TestName",
    "Unit",
    "VerdictCode",
    "strength",
]

ParamKind = Literal["count", "number", "flag", "text", "texts"]
Status = Literal["met", "not_met", "inconclusive", "not_assessed"]

Grade = Literal["suspected", "corroborated", "confirmed", "not_tested"]
GRADES: tuple[Grade, ...] = ("not_tested", "suspected", "corroborated", "confirmed")
"""From the weakest to the strongest."""
FOUND: tuple[Grade, ...] = GRADES[1:]
"""The grades of what was tested and found, from the weakest to the strongest."""

TestName = Literal["naming", "association", "surroundings", "prevalence", "insertion"]
ON_PHOTOS: tuple[TestName, ...] = ("association", "surroundings", "insertion")
"""Tests on photos of other classes, which alone can convict."""

Unit = Literal["null_sd", "log_odds", "probability", "auc"]

PictureKind = Literal[
    "prototype",
    "photo",
    "with",
    "without",
    "plain",
    "edited",
    "control",
    "surrounded",
    "unsurrounded",
]

CaveatCode = Literal[
    "not_told_apart",
    "explains",
    "probe_quality_unknown",
    "probe_weak",
    "not_drawn",
    "not_associated",
    "prevalence_without_pool",
    "prevalence_unknown",
    "prevalence_low",
    "prevalence_unsure",
    "prototypes_unlike_photos",
    "channels_against",
    "text",
]
ReasonCode = Literal[
    "few_photos",
    "few_other_photos",
    "few_photos_of_each",
    "few_photos_to_draw_on",
    "few_pool_photos",
    "few_pool_photos_of_others",
    "few_examples",
    "few_classes",
    "not_correlated",
    "no_prototype",
    "all_layers_held",
    "photos_unalike",
    "beyond_first_groups",
    "shared_photos",
    "not_representative",
    "no_second_model",
    "text",
]
GapCode = Literal[
    "concept",
    "concepts_of_class",
    "concepts_standing_out",
    "divergence",
    "prevalence",
    "insertion",
    "independent_pool",
    "told_apart",
    "transfer",
    "text",
]
MaterialCode = Literal[
    "model_alone", "patched_photos", "collages", "pool_photos", "pool_and_copied_photos", "text"
]
VerdictCode = Literal["no_criteria", "text"]


@dataclass(frozen=True)
class Meaning:
    """What a code means, and the values beside it: each one's name and kind."""

    text: str
    params: Mapping[str, ParamKind]


def _means(text: str, /, **params: ParamKind) -> Meaning:
    return Meaning(text, params)


TESTS: Mapping[TestName, str] = {
    "naming": "How far prototypes, weights and photos of the class point to the concept.",
    "association": "The class's answer on photos of other classes with and without the concept.",
    "surroundings": "The class's answer when surroundings with and without the concept are put "
    "around objects of other classes.",
    "prevalence": "How well the concept's showing tells photos of the class from others.",
    "insertion": "The class's answer when the concept is drawn on photos of other classes.",
}
UNITS: Mapping[Unit, str] = {
    "null_sd": "Standard deviations of the scores of random concepts.",
    "log_odds": "Difference of the log-odds of the class.",
    "probability": "Difference of the probability of the class.",
    "auc": "Area under the ROC curve, from 0 to 1; 0.5 is no difference.",
}
PICTURES: Mapping[PictureKind, str] = {
    "prototype": "A prototype of the class `owner`.",
    "photo": "A photo of the class `owner`, in a cluster.",
    "with": "A photo of another class that shows the concept by the probe.",
    "without": "A photo of another class that does not show the concept by the probe.",
    "plain": "A photo before the concept is drawn on it; the middle one of `alike` photos, out of "
    "`photos`, that go the same way.",
    "edited": "The same photo with the concept drawn.",
    "control": "The same photo with the matched control edit.",
    "surrounded": "The middle of a photo of the class `owner`, with surroundings that show the "
    "concept by the probe.",
    "unsurrounded": "The same middle, with surroundings that do not show the concept.",
}

CAVEATS: Mapping[CaveatCode, Meaning] = {
    "not_told_apart": _means(
        "The audit cannot tell these concepts from the finding's.", concepts="texts"
    ),
    "explains": _means(
        "Photos of the class show no more of these concepts than the finding's lets expect.",
        concepts="texts",
    ),
    "probe_quality_unknown": _means("How well the probe recognises the concept is not known."),
    "probe_weak": _means("The probe recognises the concept poorly.", auc="number"),
    "not_drawn": _means(
        "The concept was not drawn on photos, for too few show another class.",
        photos="count",
        needed="count",
    ),
    "not_associated": _means(
        "Not tested on photos of other classes, for too few of them show the concept."
    ),
    "prevalence_without_pool": _means(
        "For want of a pool, prevalence counts only what exceeds other photos by a margin."
    ),
    "prevalence_unknown": _means(
        "It is not known whether photos of the class show the concept; `hides` where the drawing "
        "may hide what speaks for the true class.",
        hides="flag",
    ),
    "prevalence_low": _means(
        "Photos of the class hardly show the concept more often than others; `hides` as above.",
        hides="flag",
    ),
    "prevalence_unsure": _means(
        "It is not sure that photos of the class show the concept more often than others: `low` is "
        "the lower end of the area, `asked` what is asked for; `convicts` where the finding is "
        "more than suspected all the same.",
        low="number",
        photos="count",
        asked="number",
        convicts="flag",
    ),
    "prototypes_unlike_photos": _means(
        "The prototypes run through the model unlike photos of the class.", similarity="number"
    ),
    "channels_against": _means(
        "Channels of the score that speak against the concept.", channels="texts"
    ),
    "text": _means("Words of an older record, or of a later one.", text="text"),
}
REASONS: Mapping[ReasonCode, Meaning] = {
    "few_photos": _means("Too few photos of the class.", photos="count", needed="count"),
    "few_other_photos": _means("Too few photos of other classes.", photos="count"),
    "few_photos_of_each": _means(
        "Too few photos of the class, or of others.", own="count", others="count", needed="count"
    ),
    "few_photos_to_draw_on": _means(
        "Too few of the photos that are drawn on show another class.",
        photos="count",
        needed="count",
    ),
    "few_pool_photos": _means(
        "Too few photos of the pool show the concept.",
        photos="count",
        pool="count",
        needed="count",
    ),
    "few_pool_photos_of_others": _means(
        "Too few pool photos of other classes show these concepts, so that they cannot be told "
        "from the class.",
        concepts="count",
        needed="count",
    ),
    "few_examples": _means("Too few example photos.", photos="count", needed="count"),
    "few_classes": _means(
        "Too few classes have prototypes and photos.", classes="count", needed="count"
    ),
    "not_correlated": _means(
        "Too few classes have a divergence and an accuracy, or one of the two does not vary.",
        classes="count",
    ),
    "no_prototype": _means("The class has no prototype."),
    "all_layers_held": _means("The prototypes were held to photos in every layer."),
    "photos_unalike": _means(
        "The photos of the class do not resemble each other more than photos of other classes in "
        "any layer."
    ),
    "beyond_first_groups": _means(
        "Only the first `groups` groups of a class are put to the test; `named` are the first of "
        "the `concepts` that were not.",
        groups="count",
        concepts="count",
        named="texts",
    ),
    "shared_photos": _means("So many audited photos are in the pool too.", photos="count"),
    "not_representative": _means(
        "The photos are said to be unlike those that the model learned from."
    ),
    "no_second_model": _means("No second model was given."),
    "text": _means("Words of an older record, or of a later one.", text="text"),
}
GAPS: Mapping[GapCode, str] = {
    "concept": "The concept `concept`, for all classes.",
    "concepts_of_class": "Some concepts, for the class; `reason` counts them.",
    "concepts_standing_out": "Concepts whose scores stand out for the class; `reason` counts them.",
    "divergence": "The divergence of the class.",
    "prevalence": "Whether photos show a concept more than others, of the class or of all.",
    "insertion": "Drawn concepts by experiment, for the class.",
    "independent_pool": "Concepts and associations on photos that did not choose them.",
    "told_apart": "Whether prototypes can be told from photos.",
    "transfer": "What a second model sees in the prototypes.",
    "text": "Something else; its name stands as `what` beside the reason's code.",
}
MATERIALS: Mapping[MaterialCode, Meaning] = {
    "model_alone": _means("Nothing but the model."),
    "patched_photos": _means("Photos of the pool that patches were put on.", photos="count"),
    "collages": _means(
        "Collages of sample photos and drawn scenes; `batch_norm` where what batch normalisation "
        "recorded in training was used too.",
        collages="count",
        batch_norm="flag",
    ),
    "pool_photos": _means("Photos of the pool.", photos="count"),
    "pool_and_copied_photos": _means(
        "Photos of the pool, and photos of the audited classes whose activations were copied.",
        photos="count",
        copied="count",
    ),
    "text": _means("Words of an older record, or of a later one.", text="text"),
}
VERDICT_REASONS: Mapping[VerdictCode, Meaning] = {
    "no_criteria": _means("No acceptance criteria were set for this audit."),
    "text": _means("Words of an older record, or of a later one.", text="text"),
}


def strength(grade: Grade | None) -> int:
    """0 for no finding, more for a stronger grade."""
    return 0 if grade is None else 1 + GRADES.index(grade)
