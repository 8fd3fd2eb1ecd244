"""Phrases of sentences about many things: counts, and lists that are cut short."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["counted", "either", "few", "one_line", "shown"]

LONGEST = 80  # characters of a user's text in a sentence


def shown(text: str) -> str:
    """A text in quotes, its end cut off where it is long.

    >>> shown("tabby cat")
    "'tabby cat'"
    """
    return repr(text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}...")


def few(texts: Sequence[str], most: int = 10) -> str:
    """The first texts in quotes, and how many more there are.

    >>> few(["a", "b", "c", "d"], most=2)
    "'a', 'b' and 2 more"
    """
    listed = ", ".join(shown(text) for text in texts[:most])
    return listed if len(texts) <= most else f"{listed} and {len(texts) - most} more"


def counted(n: int, noun: str) -> str:
    """As in "1 photo" and "2 photos"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def either(names: Sequence[str]) -> str:
    """As in "a, b or c"."""
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


def one_line(error: BaseException) -> str:
    """An error's text on one line of at most 200 characters, without a full stop.

    >>> one_line(ValueError("No such\\n  file."))
    'No such file'
    """
    return " ".join(str(error).split())[:200].rstrip(".")
