"""Which column of a source holds its labels, and the class of each photo by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from auditor.core.phrases import counted, either, few, shown
from auditor.errors import ImagesError
from auditor.images.label_meaning import (
    ClassMatcher,
    Column,
    Meaning,
    TwoReadingsError,
    read_column,
)
from auditor.record.schema import Remark

__all__ = ["LABEL_COLUMNS", "Labelling", "Labels", "candidates", "column", "read_labels"]

LABEL_COLUMNS = (
    *("class_index", "index", "wnid", "class_id"),
    *("label", "labels", "class", "class_name", "cls"),
)
MEANT = {  # readings that the name of a column leaves open
    "class_index": frozenset({"index"}),
    "index": frozenset({"index"}),
    "wnid": frozenset({"id"}),
    "class_id": frozenset({"id", "index"}),
}


@dataclass(frozen=True)
class Labelling:
    """How the labels of a source are to be understood.

    Attributes:
        matcher: finds the model's classes.
        reading: one of `auditor.images.label_meaning.READINGS`, or "auto".
        column: the column of labels, where the user names it.
    """

    matcher: ClassMatcher
    reading: str = "auto"
    column: str | None = None


@dataclass(frozen=True)
class Labels:
    """The class of each photo of a source.

    Attributes:
        classes: class indices, `None` where a photo has no label.
        others: the class indices by other readings that fit and differ.
        remarks: what is to be said of them.
    """

    classes: tuple[int | None, ...]
    others: Mapping[str, tuple[int | None, ...]]
    remarks: tuple[Remark, ...]


def candidates(
    names: Iterable[str], labelling: Labelling, *, source: str, declared: Sequence[str] = ()
) -> list[str]:
    """Columns that may hold the labels: the one that the user names, else those named like labels.

    Args:
        names: all columns of the source.
        labelling: what the user said.
        source: for sentences.
        declared: columns that the source itself says to hold classes.

    Raises:
        ImagesError: there is none.
    """
    names = list(dict.fromkeys(names))
    if labelling.column is not None:
        wanted = labelling.column.strip().casefold()
        found = [name for name in names if name.strip().casefold() == wanted]
        if len(found) != 1:
            what = "no column" if not found else f"{len(found)} columns"
            raise ImagesError(
                f"{source} has {what} {shown(labelling.column)}, which --label-column names; its "
                f"columns are {few(names)}."
            )
        return found
    known = {name.strip().lower(): name for name in names}
    found = [known[name] for name in LABEL_COLUMNS if name in known]
    found += [name for name in declared if name not in found]
    if not found:
        raise ImagesError(
            f"{source} needs a column of labels, named {either(LABEL_COLUMNS)}; or name its own "
            "with --label-column."
        )
    return found


def column(
    name: str,
    values: Sequence[str | None],
    *,
    declared: tuple[str, ...] | None = None,
    explicit: bool = False,
) -> Column:
    """A column of a table, whose name says what it can mean unless the user named it.

    Args:
        name: of the column.
        values: labels; an empty one is none.
        declared: the names of the numbers that the source stores, in order.
        explicit: whether the user named the column.
    """
    texts = tuple((value or "").strip() or None for value in values)
    made = Column(name, texts, declared, numbered=declared is not None)
    meant = MEANT.get(name.strip().lower())
    if explicit or meant is None or declared is not None:
        return made
    return Column(name, texts, allowed=meant)


def read_labels(columns: Sequence[Column], labelling: Labelling, *, source: str) -> Labels:
    """The class of each photo by the columns that name classes, which must agree.

    A column `index` that numbers the rows names no classes. Columns whose labels are no classes of
    the model are passed over where another column's are.

    Raises:
        ImagesError: no column names classes, or two contradict each other, or two readings of one
            differ.
    """
    usable = [each for each in columns if not (_numbers_rows(each) and labelling.column is None)]
    if not usable and columns:
        raise ImagesError(
            f"The column {columns[0].name} of {source} numbers its rows and says no classes; name "
            f"the column of labels with --label-column, or {columns[0].name} itself if each photo "
            "has a class of its own."
        )
    usable = [each for each in usable if each.texts()] or usable[:1]
    if usable and not usable[0].texts() and usable[0].values:
        raise ImagesError(f"No photo of {source} has a label; check its column of labels.")
    meanings: list[tuple[Column, Meaning]] = []
    unclear: list[tuple[Column, TwoReadingsError]] = []
    misfits: list[ImagesError] = []
    for each in usable:
        try:
            found = read_column(each, labelling.matcher, labelling.reading, source=source)
        except TwoReadingsError as error:
            unclear.append((each, error))
        except ImagesError as error:
            misfits.append(error)
        else:
            meanings.append((each, found))
    if not meanings:
        raise unclear[0][1] if unclear else misfits[0]
    best, meaning = meanings[0]
    for each, rival in meanings[1:]:
        _see_agreement(best, meaning.classes, each, rival.classes, source)
    for each, asked in unclear:
        _see_agreement(best, meaning.classes, each, _nearest(best, meaning, each, asked), source)
    agreed = [best, *(each for each, _ in (*meanings[1:], *unclear))]
    remarks = (
        *meaning.remarks,
        *_passed_over(columns, agreed, source),
        *_unlabelled(best, source),
    )
    return Labels(
        tuple(None if value is None else meaning.classes[value] for value in best.values),
        {
            way: tuple(None if value is None else classes[value] for value in best.values)
            for way, classes in meaning.others.items()
        },
        remarks,
    )


def _numbers_rows(each: Column) -> bool:
    """Whether a column named `index` holds a number of its own for each row."""
    if each.name.strip().lower() != "index" or each.declared is not None:
        return False
    texts = each.texts()
    return len(texts) == len(each.values) and all(
        text.isascii() and text.isdigit() for text in texts
    )


def _nearest(
    best: Column, meaning: Meaning, each: Column, error: TwoReadingsError
) -> Mapping[str, int]:
    """The reading of an unclear column that agrees with a clear one, else any."""
    for classes in error.readings.values():
        if _first_conflict(best, meaning.classes, each, classes) is None:
            return classes
    return next(iter(error.readings.values()), {})


def _first_conflict(
    one: Column, classes: Mapping[str, int], other: Column, others: Mapping[str, int]
) -> int | None:
    pairs = zip(one.values, other.values, strict=True)
    return next(
        (
            row
            for row, (a, b) in enumerate(pairs)
            if a is not None and b is not None and classes[a] != others.get(b)
        ),
        None,
    )


def _see_agreement(
    one: Column, classes: Mapping[str, int], other: Column, others: Mapping[str, int], source: str
) -> None:
    row = _first_conflict(one, classes, other, others)
    if row is not None:
        raise ImagesError(
            f"Two columns of {source} name different classes, first in row {row + 1}: {one.name} "
            f"says {shown(one.values[row] or '')} and {other.name} "
            f"{shown(other.values[row] or '')}; say which holds the labels with --label-column "
            f"{one.name} or --label-column {other.name}."
        )


def _passed_over(
    columns: Sequence[Column], agreed: Sequence[Column], source: str
) -> tuple[Remark, ...]:
    left = [each.name for each in columns if each not in agreed]
    if not left:
        return ()
    what = "the column" if len(left) == 1 else "the columns"
    return (
        Remark(
            code="label-columns-passed-over",
            text=f"Of {source} {what} {few(left)} could not be read as classes of the model; the "
            f"labels are those of {agreed[0].name}.",
        ),
    )


def _unlabelled(best: Column, source: str) -> tuple[Remark, ...]:
    missing = sum(value is None for value in best.values)
    if not missing:
        return ()
    return (
        Remark(
            code="rows-without-label",
            text=f"{missing} of {counted(len(best.values), 'photo')} of {source} have no label and "
            "were passed over.",
        ),
    )
