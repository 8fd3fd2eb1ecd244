"""What the bytes of a photo tell beside its decoder: work that never ends, and lost parts.

Decoders of JPEG, WebP and AVIF give some picture for almost any bytes. Where a disk or a transfer
has lost a part, it reads as zeros, which compressed data hardly ever hold in a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["has_lost_part", "scans"]

SCAN = 0xDA
FRAME_BASELINE = (0xC0, 0xC1)
TABLES = 0xC4
END = 0xD9
ALONE = {0x01, 0xD8, *range(0xD0, 0xD8)}
"""Markers of a JPEG that no length follows."""

MARKER = re.compile(rb"\xff+[^\x00\xff]")
AFTER_SCAN = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
"""A marker that ends the coded data of a scan: within it, 0xFF stands before 0 or a restart."""

MOST_SCANS = 1000

LEAST_ZEROS = 64
"""Zero bytes in a row that tell a lost part. Pillow's own AVIF files of flat colours, gradients and
noise of 64 to 2,000 pixels a side hold at most 16 in a row, its baseline JPEGs 8."""

PIXELS_PER_ZERO = 4096
"""Flat areas of a WebP: 388 zero bytes in a row for one colour on 2,000 x 2,000 pixels, that is one
for 10,000 pixels."""


@dataclass(frozen=True)
class Scan:
    """The coded data of one pass over a JPEG's picture: where it begins and ends.

    `dense` is true where zero bits stand for detail in every block, so that no picture has many.
    """

    start: int
    stop: int
    dense: bool


def scans(data: bytes) -> list[Scan]:
    """The scans of a JPEG, at most 1,000 of them, without those of other pictures after its end.

    A baseline scan is dense where the shortest code of its first component's AC table, which is
    made of zeros (ITU-T T.81, annex C), is not "end of block".
    """
    found: list[Scan] = []
    shortest: dict[int, int] = {}
    baseline = False
    place = 2
    while len(found) < MOST_SCANS and (match := MARKER.search(data, place)):
        kind, place = data[match.end() - 1], match.end()
        if kind == END:
            break
        if kind in ALONE:
            continue
        length = int.from_bytes(data[place : place + 2])
        segment = data[place + 2 : place + max(2, length)]
        place += max(2, length)
        baseline |= kind in FRAME_BASELINE
        if kind == TABLES:
            shortest |= _shortest_codes(segment)
        elif kind == SCAN:
            after = AFTER_SCAN.search(data, place)
            stop = after.start() if after else len(data)
            table = segment[2] & 15 if len(segment) > 2 else 0
            found.append(Scan(place, stop, baseline and shortest.get(table, 0) != 0))
            place = stop
    return found


def _shortest_codes(segment: bytes) -> dict[int, int]:
    """The symbol of the shortest code of each AC table in a segment of Huffman tables."""
    found: dict[int, int] = {}
    place = 0
    while place + 17 <= len(segment):
        kind, count = segment[place], sum(segment[place + 1 : place + 17])
        if kind >> 4 == 1 and place + 17 < len(segment):
            found[kind & 15] = segment[place + 17]
        place += 17 + count
    return found


def has_lost_part(data: bytes, form: str, *, pixels: int, metadata: Iterable[bytes]) -> bool:
    """Whether zeros stand in a photo's coded data where its form leaves no room for them.

    Uncompressed pixels, and JPEGs that are progressive or whose tables let zeros stand for flat
    areas, do not tell it; PNG and GIF have checks of their own, which their decoders heed.

    Args:
        data: the whole file.
        form: Pillow's name of its format.
        pixels: width times height.
        metadata: parts of the file that are no coded data.
    """
    zeros = bytes(LEAST_ZEROS + (pixels // PIXELS_PER_ZERO if form == "WEBP" else 0))
    if form not in ("JPEG", "MPO", "WEBP", "AVIF") or zeros not in data:
        return False
    if form in ("JPEG", "MPO"):
        coded = [each for each in scans(data) if each.dense]
        return any(data.find(zeros, each.start, each.stop) >= 0 for each in coded)
    for part in metadata:
        data = data.replace(part, b"") if part else data
    return zeros in data
