"""The words of coded notes: one table for each kind of note, a sentence for each code.

What `auditor.record.codes` lists has its words here, and nothing else has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from auditor.record.codes import CaveatCode, GapCode, MaterialCode, ReasonCode, Unit, VerdictCode
from auditor.record.notes import Caveat, Material, Note, Reason, VerdictReason
from auditor.record.schema import NotTested, SmallestEffect

__all__ = [
    "CAVEATS",
    "GAPS",
    "MATERIALS",
    "REASONS",
    "UNITS",
    "VERDICT_REASONS",
    "caveat",
    "gap",
    "material",
    "reason",
    "smallest",
    "unit",
    "verdict_reason",
]

LISTED = 4  # concepts of a caveat that are named
HIDES = "drawing it may raise the class only because it hides what speaks for the true one"

Words = Callable[[Note], str]


def _as_told(note: Note) -> str:
    return note.text("text")


def _always(words: str) -> Words:
    return lambda _: words


def _prevalence_low(note: Note) -> str:
    why = HIDES if note.params["hides"] else "the model may take it for the class's own object"
    return f"Photos of the class hardly show it more often than others: {why}."


def _prevalence_unknown(note: Note) -> str:
    why = f": {HIDES}" if note.params["hides"] else ""
    return f"Whether photos of the class show it is not known{why}."


def _prevalence_unsure(note: Note) -> str:
    return (
        "That photos of the class show it more often than others is not sure "
        f"({note.number('low'):.2f} at least on {note.count('photos')} photos, "
        f"{note.number('asked'):g} is asked for; more photos would tell): drawing it "
        + ("confirms nothing." if note.params["convicts"] else "convicts nobody by itself.")
    )


def _alike(note: Note) -> str:
    names = note.texts("concepts")
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"Not told apart from: {', '.join(names[:LISTED])}{more}."


CAVEATS: Mapping[CaveatCode, Words] = {
    "not_told_apart": _alike,
    "explains": lambda n: (
        "Photos of the class show no more of these than it lets expect: "
        f"{', '.join(n.texts('concepts'))}."
    ),
    "probe_quality_unknown": _always("How well the probe recognises this concept is not known."),
    "probe_weak": lambda n: (
        f"The probe recognises this concept poorly (AUC {n.number('auc'):.2f})."
    ),
    "not_drawn": lambda n: (
        f"Not drawn on photos: {n.count('photos')} show another class, {n.count('needed')} are "
        "needed."
    ),
    "not_associated": _always(
        "Not tested on photos of other classes: too few of them show the concept."
    ),
    "prevalence_without_pool": _always(
        "For want of a pool, prevalence counts only what exceeds photos of other classes by a "
        "quarter of what drawing it changes: the class's own object may do as much."
    ),
    "prevalence_unknown": _prevalence_unknown,
    "prevalence_low": _prevalence_low,
    "prevalence_unsure": _prevalence_unsure,
    "prototypes_unlike_photos": lambda n: (
        "The prototypes run through the model unlike photos of the class "
        f"(class-specific similarity {n.number('similarity'):.2f}, photos 1.00)."
    ),
    "channels_against": lambda n: (
        f"Channels that speak against it: {', '.join(n.texts('channels'))}."
    ),
    "text": _as_told,
}


def _beyond_first_groups(note: Note) -> str:
    named = note.texts("named")
    return (
        f"only the first {note.count('groups')} groups of a class are put to the test: "
        f"{', '.join(named)}{' and others' if note.count('concepts') > len(named) else ''}"
    )


REASONS: Mapping[ReasonCode, Words] = {
    "few_photos": lambda n: (
        f"not tested: {n.count('photos')} photos, at least {n.count('needed')} are needed"
    ),
    "few_other_photos": lambda n: f"not tested: {n.count('photos')} photos of other classes",
    "few_photos_of_each": lambda n: (
        f"{n.count('own')} photos of the class and {n.count('others')} of others, "
        f"{n.count('needed')} of each are needed"
    ),
    "few_photos_to_draw_on": lambda n: (
        f"{n.count('photos')} of the photos that are drawn on show another class, "
        f"{n.count('needed')} are needed"
    ),
    "few_pool_photos": lambda n: (
        f"{n.count('photos')} of {n.count('pool')} pool photos show it by the probe, "
        f"{n.count('needed')} are needed"
    ),
    "few_pool_photos_of_others": lambda n: (
        f"fewer than {n.count('needed')} pool photos of other classes show them: they cannot be "
        "told from the class (give --pool other photos)"
    ),
    "few_examples": lambda n: f"{n.count('photos')} example photos, {n.count('needed')} are needed",
    "few_classes": lambda n: (
        f"not tested: {n.count('classes')} classes have prototypes and photos, "
        f"{n.count('needed')} are needed"
    ),
    "not_correlated": lambda n: f"{n.count('classes')} classes with both, or no variation",
    "no_prototype": _always("not tested: no prototype"),
    "all_layers_held": _always("not tested: prototypes were held to photos in every layer"),
    "photos_unalike": _always(
        "the photos of the class do not resemble each other more than photos of other classes in "
        "any layer"
    ),
    "beyond_first_groups": _beyond_first_groups,
    "shared_photos": lambda n: (
        f"{n.count('photos')} audited photos are also in the pool: a concept that always comes "
        "with a class cannot be told from it, and associations were tested on photos that helped "
        "to choose the concepts (give --pool other photos)"
    ),
    "not_representative": _always(
        "the photos are said to be unlike those that the model learned from (--no-representative)"
    ),
    "no_second_model": _always("no second model was given (--second-model)"),
    "text": _as_told,
}

GAPS: Mapping[GapCode, str] = {
    "concept": "{concept}",
    "concepts_of_class": "{count} concepts of {class_name}",
    "concepts_standing_out": "{count} concepts that stand out of the null for {class_name}",
    "divergence": "divergence of {class_name}",
    "prevalence": "prevalence of concepts in photos of {class_name}",
    "insertion": "drawn concepts by experiment on {class_name}",
    "independent_pool": "an independent pool",
    "told_apart": "whether prototypes can be told from photos",
    "transfer": "transfer of prototypes to a second model",
    "text": "{what}",
}
"""What was not tested, in which the names and numbers stand that are put in."""
OF_ALL: Mapping[GapCode, str] = {
    "prevalence": "whether each class's photos show a concept more than others (prevalence)",
    "divergence": "divergence of prototypes from photos",
    "insertion": "drawn concepts by experiment",
}
"""The same, where it is of no class."""

MATERIALS: Mapping[MaterialCode, Words] = {
    "model_alone": _always("the model alone"),
    "patched_photos": lambda n: (
        f"the model, and {n.count('photos')} photos of the pool that patches were put on"
    ),
    "collages": lambda n: (
        f"{n.count('collages')} collages of seven sample photos and drawn scenes"
        + (" and what batch normalisation recorded in training" if n.params["batch_norm"] else "")
    ),
    "pool_photos": lambda n: (
        f"{n.count('photos')} photos of the pool, a class's own left out of its fit where known"
    ),
    "pool_and_copied_photos": lambda n: (
        f"{n.count('photos')} photos of the pool, a class's own left out of its fit where known; "
        f"and {n.count('copied')} photos of the audited classes, whose activations were copied"
    ),
    "text": _as_told,
}

VERDICT_REASONS: Mapping[VerdictCode, Words] = {
    "no_criteria": _always("No acceptance criteria were set for this audit."),
    "text": _as_told,
}

UNITS: Mapping[Unit, tuple[str, str]] = {
    "null_sd": ("standard deviations of the null", "standard deviations of the null"),
    "log_odds": ("log-odds of the class", "in log-odds"),
    "probability": ("probability of the class", "in probability"),
    "auc": ("area under the ROC curve", "area under the ROC curve"),
}
"""Of each unit, what stands beside a number in a table and what in running text."""


def caveat(note: Caveat) -> str:
    """What a reader must know of a finding's evidence, in a sentence."""
    return CAVEATS[note.code](note)


def reason(note: Reason | None) -> str:
    """Why something is missing, in a clause; nothing where there is no reason."""
    return "" if note is None else REASONS[note.code](note)


def material(note: Material) -> str:
    """What prototypes were made from."""
    return MATERIALS[note.code](note)


def verdict_reason(note: VerdictReason) -> str:
    """What a verdict rests on, in a sentence."""
    return VERDICT_REASONS[note.code](note)


def gap(told: NotTested, class_name: str) -> str:
    """What was not tested.

    Args:
        told: the entry.
        class_name: of its class; an empty one where it is of none.
    """
    words = GAPS[told.what] if class_name else OF_ALL.get(told.what, GAPS[told.what])
    count = told.reason.params.get("concepts", "some")
    return words.format(
        concept=told.concept, class_name=class_name or "a class", count=count,
        what=told.reason.text("what") or "something else",
    )  # fmt: skip


def smallest(effect: SmallestEffect) -> str:
    """The smallest effect that would have been found."""
    among = f"q < {effect.q_level:g} among {effect.hypotheses:,} pairs"
    if effect.score is None:
        return (
            f"none by the score alone: {effect.random_scores} random scores cannot give {among}; "
            "only photos could"
        )
    return (
        f"by the score alone, {effect.score:.1f} standard deviations of random concepts ({among}); "
        "below that only what was tested on photos, of which no smallest effect was estimated"
    )


def unit(code: Unit, *, running: bool = False) -> str:
    """A unit beside a number, or in running text."""
    return UNITS[code][running]
