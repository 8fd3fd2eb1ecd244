"""How a photo became the model's input, and how its output was read, as facts of the report."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.record.schema import Audit, ModelInput
from auditor.report.text import name

__all__ = ["input_facts"]

BACKGROUNDS = {"drop": "the colours stored there", "white": "white", "black": "black"}
ORIENTATIONS = {"exif": "turned upright by EXIF", "stored": "left as they lie in the file"}
OUTPUTS = {
    "logits": "logits",
    "probabilities": "probabilities, turned back to logits",
    "log-probabilities": "log-probabilities",
    "sigmoid": "independent logits, each with a sigmoid",
}


def input_facts(audit: Audit) -> Iterator[tuple[str, str]]:
    """Labels and values; of an older record, what its configuration stated."""
    found, stated = audit.provenance.model_input, audit.settings().model
    if found is not None:
        yield from _measured(found)
        return
    if stated.size is not None:
        yield "Input size", _size(stated.size)
    if stated.mean is not None:
        yield "Input mean", _numbers(stated.mean)
    if stated.std is not None:
        yield "Input deviation", _numbers(stated.std)


def _measured(found: ModelInput) -> Iterator[tuple[str, str]]:
    yield "Input size", _size(found.size)
    fitted = (
        f"shorter side to {found.resize:,} pixels and centre crop"
        if found.aspect == "crop"
        else "stretched to the input's proportions"
        + (f" at {found.resize:,} pixels and centre crop" if found.resize > min(found.size) else "")
    )
    yield "Resizing", f"{fitted}, {name(found.interpolation)}"
    order = "grey" if len(found.mean) == 1 else found.channels.upper()
    yield "Channels", order
    yield "Input mean", f"{_numbers(found.mean)}, of pixels from 0 to 1"
    yield "Input deviation", _numbers(found.std)
    ground = BACKGROUNDS.get(found.background, name(found.background).short)
    yield (
        "Decoding",
        f"photos are {ORIENTATIONS[found.orientation]}; transparent pixels show {ground}; pictures "
        f"of 16 bits are taken to use {found.bit_depth}",
    )
    yield "Output read as", OUTPUTS[found.output]


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]} pixels, height by width"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6g}" for value in values[:4])
