"""The caption of a picture, from the numbers that the record holds of it."""

from __future__ import annotations

from auditor.record.schema import Picture
from auditor.report.names import Names
from auditor.report.text import Name

__all__ = ["caption"]


def caption(picture: Picture, names: Names, concept: Name | None) -> str:
    """What a picture shows.

    Args:
        picture: of a finding or of a cluster.
        names: of the classes.
        concept: of the finding; `None` in a cluster.
    """
    if picture.caption is not None:
        return names.within(picture.caption)
    owner = "another class" if picture.owner is None else names[picture.owner].short
    chance = _chance(picture, names)
    match picture.kind:
        case "prototype":
            return owner if concept is None else f"Prototype of {owner}"
        case "photo":
            return owner
        case "plain":
            chosen = f"Median of {picture.alike} of {picture.photos} photos that go this way"
            return f"{'Photo' if picture.alike is None else chosen}{chance}"
        case "edited":
            return f"{concept} drawn{chance}"
        case "control":
            return f"Control edit{chance}"
        case "surrounded" | "unsurrounded":
            return f"Around {owner}{chance}"
        case "with":
            return f"Another class, {concept} by the probe{chance}"
        case "without":
            return f"Another class, no sign of {concept}{chance}"


def _chance(picture: Picture, names: Names) -> str:
    """A class's probability; small ones keep a digit, to be told apart."""
    value = picture.probability
    if value is None or picture.class_index is None:
        return ""
    shown = f"{value:.3f}" if value >= 0.001 or value == 0 else f"{value:.1e}"
    return f": p({names[picture.class_index]}) = {shown}"
