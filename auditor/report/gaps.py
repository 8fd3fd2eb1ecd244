"""What was not assessed: a few lines for the first page, and the whole list."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.record.schema import Audit, NotTested
from auditor.report import notes
from auditor.report.names import Names
from auditor.report.text import Name, count, name

__all__ = ["all_told", "in_short", "reason", "subject"]

FIRST = 3  # reasons on the first page
SUBJECT = 80  # characters of what was not tested


def in_short(audit: Audit, names: Names) -> Iterator[str]:
    """What was not tested, told together where the codes are the same."""
    alike: dict[tuple[str, str, str], list[NotTested]] = {}
    for gap in audit.coverage.not_tested:
        alike.setdefault((gap.kind, gap.what, _cause(gap)), []).append(gap)
    whole = {"concept": len(audit.concepts), "class": len(audit.classes)}
    most = sorted(alike.values(), key=len, reverse=True)
    for gaps in most[:FIRST]:
        first = gaps[0]
        words = name(subject(first, names).full, 60).short
        told = f"{words}: {name(reason(first, names), 110).short}"
        if len(gaps) == 1:
            yield told[:1].upper() + told[1:]
        else:
            nouns = "classes" if first.kind == "class" else f"{first.kind}s"
            of = f"of {whole[first.kind]:,} " if first.kind in whole else ""
            yield f"{len(gaps):,} {of}{nouns}, such as {told}"
    if len(most) > FIRST:
        yield f"{count(len(most) - FIRST, 'more reason')} in section “Not assessed”."


def all_told(audit: Audit) -> Iterator[NotTested]:
    """Everything that was not tested, with the concepts of which the bank alone says so."""
    listed = {gap.concept for gap in audit.coverage.not_tested}
    yield from audit.coverage.not_tested
    for concept in audit.concepts:
        if concept.reason is not None and concept.name not in listed:
            yield NotTested(
                what="concept", kind="concept", concept=concept.name, reason=concept.reason
            )


def subject(gap: NotTested, names: Names) -> Name:
    """What was not tested."""
    if gap.what == "concept" and gap.concept is not None:
        return names.concept(gap.concept)
    class_name = "" if gap.class_index is None else names[gap.class_index].short
    return name(names.within(notes.gap(gap, class_name)), SUBJECT)


def reason(gap: NotTested, names: Names) -> str:
    """Why it was not tested."""
    return names.within(notes.reason(gap.reason))


def _cause(gap: NotTested) -> str:
    """The reason's code; of words that have none, the words."""
    return gap.reason.code if gap.reason.code != "text" else gap.reason.text("text")
