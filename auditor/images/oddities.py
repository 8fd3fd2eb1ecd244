"""What the photos of a set hold that decoding has to settle, in sentences for the report."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence

from auditor.images.decoding import Decoding, Note
from auditor.record.schema import Remark

__all__ = ["remarks"]

EXAMPLES = 3
LONGEST = 80  # characters of an example's id

Noted = tuple[str, frozenset[Note], int | None]
"""The id of a photo, and the notes and the peak that `auditor.images.decoding.Photo` has of it."""


def remarks(
    noted: Sequence[Noted], *, total: int, source: str, decoding: Decoding
) -> tuple[Remark, ...]:
    """One remark for each kind that was met: how many photos, of which ids, and what was done.

    Args:
        noted: the photos with a note.
        total: the photos that can be used.
        source: where they are from.
        decoding: how what they leave open was settled.
    """
    sentences: Mapping[Note, str] = {
        "transparent": _background(decoding),
        "turned": _orientation(decoding),
        "odd-orientation": "have an EXIF orientation that is none of 1 to 8, and are left as they "
        "are stored.",
        "sixteen-bit": _depth(max([peak or 0 for _, _, peak in noted], default=0), decoding),
        "clipped": f"have values above the stated bit depth of {decoding.bit_depth}, which became "
        "white; give another --bit-depth if they are not.",
        "cmyk": "are CMYK, and were turned into RGB without colour management.",
        "animation": "hold several pictures, of which the first was taken.",
        "profile": "have a colour profile other than sRGB, which was not applied, as torchvision, "
        "timm and transformers do not.",
    }
    found: list[Remark] = []
    for note, sentence in sentences.items():
        ids = [name for name, notes, _ in noted if note in notes]
        if ids:
            which = ", ".join(map(_short, ids[:EXAMPLES])) + (", …" if len(ids) > EXAMPLES else "")
            count = f"{len(ids)} of the {total} photos of {reprlib.repr(source)} ({which})"
            found.append(Remark(code=f"{note}-photos", text=f"{count} {sentence}"))
    return tuple(found)


def _short(name: str) -> str:
    """An id without its middle where it is long: beginnings are often the same."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}…{name[-LONGEST // 2 :]}"


def _background(decoding: Decoding) -> str:
    if decoding.background == "drop":
        return (
            "have transparent pixels; the colours that are stored under them were taken, as "
            "torchvision, timm and transformers do; give --background if training did otherwise."
        )
    return f"have transparent pixels, which were laid on {decoding.background}, as was asked."


def _orientation(decoding: Decoding) -> str:
    if decoding.orientation == "exif":
        return (
            "were turned upright by their EXIF orientation; give --orientation stored if training "
            "read them as they are stored, as torchvision's ImageFolder and timm do."
        )
    return "have an EXIF orientation and were left as they are stored, as was asked."


def _depth(peak: int, decoding: Decoding) -> str:
    bits = max(8, peak.bit_length())
    if decoding.bit_depth < 16:
        return f"have 16 bits, and were scaled by 2^{decoding.bit_depth} - 1, as was asked."
    if bits <= 12:
        return (
            f"have 16 bits and no value above {peak}, so they are nearly black when 65535 is "
            f"white, as it was taken; give --bit-depth {bits} if they hold {bits} bits."
        )
    return "have 16 bits, and were scaled so that 65535 is white."
