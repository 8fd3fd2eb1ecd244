"""Text of the report: names made safe to show, and numbers as readers see them.

Escaping is the templates' job (autoescape); here text loses what escaping does not stop: control
and format characters, which reverse or hide what stands beside them, and runaway lengths: layout
takes a time that grows with the square of a text's length where a box's width depends on it.
"""

from __future__ import annotations

import datetime
import functools
import math
import unicodedata
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from auditor.core.estimates import Estimate

__all__ = [
    "PASSAGE",
    "Name",
    "clean",
    "count",
    "estimate",
    "instant",
    "moment",
    "name",
    "number",
    "probability",
    "told",
    "told_apart",
]

Key = TypeVar("Key", bound=Hashable)

MISSING = "–"
STACKED_MARKS = 2  # combining marks kept on one letter; more of them paint over other lines
NAME = 40  # characters of a name that are shown
WHOLE = 300  # of a name where there is room for all of it
SENTENCE = 400  # of a sentence or a fact
PASSAGE = 4000  # of what the user wrote for readers
BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # letters that show nothing


@dataclass(frozen=True)
class Name:
    """Text from outside, cleaned: `short` is shown, `full` goes where there is room."""

    short: str
    full: str

    @property
    def cut(self) -> bool:
        """Whether `short` leaves something out."""
        return self.short != self.full

    def __str__(self) -> str:
        return self.short


def clean(text: str) -> str:
    """The text on one line without control, format and bidirectional characters.

    >>> clean("stop\\u202e gnp.exe\\x07")
    'stop gnp.exe'
    """
    kept: list[str] = []
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in {"Mn", "Me"} else 0
        if character in "\t\n\r\x0b\x0c\x85" or category in {"Zl", "Zp"}:
            kept.append(" ")
        elif category == "Cs":
            kept.append("\ufffd")
        elif category in {"Cc", "Cf", "Cn"} or character in BLANK:
            continue
        elif marks <= STACKED_MARKS:
            kept.append(character)
    return " ".join("".join(kept).split())


@functools.lru_cache(maxsize=8192)
def name(text: str, limit: int = NAME, mark: str = "") -> Name:
    """A name to show: cleaned, and cut in its middle to `limit` characters with `mark` at its end.

    >>> name("Animalia Chordata Aves Passeriformes Corvidae Corvus corax").short
    'Animalia Chordata Aves P…ae Corvus corax'
    """
    full = clean(_ends(text, 2 * WHOLE)) or "(no name)"
    return Name(_cut(full, limit - len(mark)) + mark, _cut(full, WHOLE))


def told_apart(texts: Mapping[Key, tuple[str, int]], limit: int = NAME) -> dict[Key, Name]:
    """Names of things of one kind: of those that look alike, each has its number beside it.

    Alike are names that a reader may take for each other: the same but for their case, spaces or
    Unicode form, or cut to the same.

    Args:
        texts: by any key, the name and the number.
        limit: characters that are shown.
    """
    shown = {key: name(text, limit) for key, (text, _) in texts.items()}
    alike = Counter(_look(each.short) for each in shown.values())
    for key, (text, number) in texts.items():
        if alike[_look(shown[key].short)] > 1:
            shown[key] = name(text, limit, f" #{number}")
    return shown


def told(text: str, limit: int = SENTENCE) -> str:
    """A sentence, a fact or a passage, cleaned; what is left out of a long one is counted.

    >>> told("word " * 100, 9)
    'word word… (shown: 9 of 500 characters; all are in audit.json)'
    """
    whole = clean(text[: 4 * limit])
    if len(text) <= 4 * limit and len(whole) <= limit:
        return whole
    shown = whole[:limit].rstrip()
    return f"{shown}… (shown: {len(shown):,} of {len(text):,} characters; all are in audit.json)"


def _cut(text: str, limit: int) -> str:
    """A text without its middle, for names are often told apart by their ends."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) * 2 // 5
    rest = text[len(text) - tail :]
    while rest and unicodedata.category(rest[0]).startswith("M"):  # of a letter that is cut off
        rest = rest[1:]
    return f"{text[: limit - 1 - tail].rstrip()}…{rest.lstrip()}"


def _ends(text: str, most: int) -> str:
    """Beginning and end of a text so long that nobody reads it, and cleaning it takes a while."""
    return text if len(text) <= 20 * most else text[: 10 * most] + text[-10 * most :]


def _look(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def number(value: float | None, digits: int = 2) -> str:
    """A number with a true minus sign and no negative zero; an en dash where there is none.

    >>> number(-0.001), number(-1234.5, 1), number(None)
    ('0.00', '−1,234.5', '–')
    """
    if value is None:
        return MISSING
    if abs(value) >= 1e6:
        return f"{value:.2e}".replace("-", "−")
    text = f"{value:,.{digits}f}"
    if text.strip("-0.,") == "":
        text = text.lstrip("-")
    return text.replace("-", "−")


def estimate(value: Estimate | None, digits: int = 2) -> str:
    """Value and interval in words, so that no sign is taken for a dash.

    A small estimate gets a digit more; what would read 0 and is not gets one significant digit, for
    whether an interval ends above 0 may decide a grade.

    >>> estimate(Estimate(value=0.31, low=-0.02, high=0.6, n=40))
    '0.31 (−0.02 to 0.60)'
    >>> estimate(Estimate(value=0.0121, low=0.00012, high=0.036, n=64))
    '0.012 (0.0001 to 0.036)'
    """
    if value is None:
        return MISSING
    if max(abs(value.low), abs(value.high)) < 0.1:
        digits = max(digits, 3)
    shown, low, high = (
        number(v, digits if abs(v) < 1e-6 else max(digits, significant(v)))
        for v in (value.value, value.low, value.high)
    )
    return f"{shown} ({low} to {high})"


def significant(value: float) -> int:
    """Digits after the point up to the first that is not 0.

    >>> significant(0.00012), significant(3.2)
    (4, 0)
    """
    return max(0, math.ceil(-math.log10(abs(value) * (1 + 1e-9))))


def probability(value: float | None) -> str:
    """A p- or q-value to three digits; an en dash where there is none.

    >>> probability(0.0004), probability(0.0123)
    ('< 0.001', '0.012')
    """
    if value is None:
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def count(quantity: int, noun: str, plural: str | None = None) -> str:
    """A quantity with its noun: `1 photo`, `1,204 photos`."""
    return f"{quantity:,} {noun if quantity == 1 else plural or noun + 's'}"


def instant(text: str) -> datetime.datetime | None:
    """The time that an ISO 8601 text tells, in UTC; `None` where it tells none."""
    try:
        time = datetime.datetime.fromisoformat(text)
        if time.tzinfo is None:
            return time.replace(tzinfo=datetime.UTC)
        return time.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        return None


def moment(text: str) -> str:
    """A time as readers see it: `2026-11-23 23:47 UTC`; what cannot be read is shown as it is."""
    time = instant(text)
    return told(text, NAME) if time is None else f"{time:%Y-%m-%d %H:%M} UTC"
