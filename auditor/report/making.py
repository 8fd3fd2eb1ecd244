"""How the prototypes were made, what was used, and how far they can be believed."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.record.schema import Audit, Prototyping, Transfer
from auditor.report import notes
from auditor.report.text import count, estimate, name, number, told

__all__ = ["Making", "making"]

MODES = {
    "natural": "natural: pixels and early layers held to what generic photos lead to expect of the "
    "class",
    "data-free": "data-free: pixels and early layers held to what collages lead to expect of the "
    "class",
    "reference": "reference: activations of photos of the class copied; this can hide what is "
    "wrong with a model",
    "paper": "paper: the class's logit and smoothness, after the published recipe",
    "patch": "patch: a small patch that makes the model see the class on any photo",
}
LAYER = 80  # characters of a layer's name
LISTED = 4  # layers of a kind that are named


@dataclass(frozen=True)
class Making:
    """Facts in a list, and a warning where one is due."""

    facts: tuple[tuple[str, str], ...]
    reading: str


def making(audit: Audit) -> Making | None:
    """What the report says of the prototypes' making; nothing for records that do not say it."""
    made = audit.prototyping
    if made is None:
        return None
    reached = [p.reached for c in audit.classes for p in c.prototypes]
    facts = [
        ("Mode", MODES[made.mode]),
        ("Parameterisation", made.parameterisation),
        ("Made from", told(notes.material(made.used))),
        ("Layers held", _layers(made)),
        (
            f"Reached {audit.settings().prototypes.probability:g}",
            f"{sum(reached):,} of {count(len(reached), 'prototype')}",
        ),
        ("Transfer", _transfer(made.transfer)),
        ("Told from photos", _told_apart(made)),
    ]
    return Making(
        tuple((label, value) for label, value in facts if value),
        "Similarity in layers that were held does not count towards divergence. "
        "Normalised similarity, class-specific similarity and transfer are read together: the "
        "first can be raised without an image that looks like anything.",
    )


def _layers(made: Prototyping) -> str:
    if not made.layers_used:
        return "none"
    names = ", ".join(name(layer, LAYER).short for layer in made.layers_used[:LISTED])
    more = len(made.layers_used) - LISTED
    return names + (f" and {more} more" if more > 0 else "")


def _transfer(found: Transfer | None) -> str:
    if found is None:
        return "not tested: no second model was given"
    without = f"; {count(found.unmatched, 'class', 'classes')} without a counterpart"
    return (
        f"{name(found.model, LAYER)} puts the prototype's class first for {estimate(found.first)} "
        f"and among its first five for {estimate(found.first_five)} of {found.first.n:,}; "
        f"median place {found.median_place:g} of {found.classes_of_model:,}"
        + (without if found.unmatched else "")
    )


def _told_apart(made: Prototyping) -> str:
    layers = [layer for layer in made.told_apart if layer.layer not in made.layers_used]
    if not layers:
        return "not tested: see what was not assessed"
    best = max(layers, key=lambda layer: layer.auc.value)
    worst = min(layers, key=lambda layer: layer.auc.value)
    return (
        f"a classifier tells them apart with AUC {number(worst.auc.value)} "
        f"({name(worst.layer, LAYER)}) to {number(best.auc.value)} ({name(best.layer, LAYER)}); "
        "0.5 is not at all, 1 always"
    )
