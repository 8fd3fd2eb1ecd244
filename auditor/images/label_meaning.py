"""What labels mean: all labels are read one way, and where two ways differ, it is asked.

A label such as "10" may be an output of the model, the name or folder id of a class, or the name of
a folder that the training numbered by its place: torchvision's ImageFolder and the imagefolder of
Hugging Face's datasets sort names as text, so that folder "10" comes before folder "2".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from auditor.core.class_names import MAX_DIGITS
from auditor.core.phrases import counted, few, shown
from auditor.errors import ImagesError
from auditor.record.schema import Remark

__all__ = [
    "READINGS",
    "ClassMatcher",
    "Column",
    "Meaning",
    "TwoReadingsError",
    "plain",
    "read_column",
]

READINGS = {
    "id": "by folder id",
    "name": "by class name",
    "index": "by index",
    "folder-order": "by the order of the names as text, which torchvision's ImageFolder follows",
}
NUMBERED = re.compile(r"\D*\d+")  # names that say no more than a number, as "LABEL_3"
OWN = ("id", "name", "index")  # what a label says by itself, the surest first

Classes = Mapping[str, int]


def plain(name: str) -> str:
    """A name in the form that names are compared in: NFC, no case, spaces like underscores.

    >>> plain("Golden_Retriever ")
    'golden retriever'
    """
    spaced = " ".join(unicodedata.normalize("NFC", name).replace("_", " ").split())
    return unicodedata.normalize("NFC", spaced.casefold())


class ClassMatcher:
    """Finds the class that a folder or a label means: by folder id, by index or by name.

    Names are compared as `plain` gives them, ids in Unicode's form NFC.
    """

    def __init__(self, names: Sequence[str], ids: Sequence[str] | None) -> None:
        self.class_names = tuple(names)
        self.names: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            self.names.setdefault(plain(name), []).append(index)
        self.ids = {
            unicodedata.normalize("NFC", text): index for index, text in enumerate(ids or ())
        }
        self.count = len(names)

    def by_index(self, text: str) -> set[int]:
        """The class with this index, as in "7" and "007"."""
        if not text.isascii() or not text.isdigit() or len(text) > MAX_DIGITS:
            return set()
        return {int(text)} if int(text) < self.count else set()

    def by_id(self, text: str) -> set[int]:
        """The class with this folder id."""
        text = unicodedata.normalize("NFC", text)
        return {self.ids[text]} if text in self.ids else set()

    def by_name(self, text: str) -> set[int]:
        """The classes with this name."""
        return set(self.names.get(plain(text), ()))

    def candidates(self, text: str) -> set[int]:
        """All classes that one text by itself can mean: an id is taken as such before all else.

        >>> sorted(ClassMatcher(["0", "1", "10", "2"], None).candidates("2"))
        [2, 3]
        """
        text = text.strip()
        return self.by_id(text) or self.by_index(text) | self.by_name(text)


@dataclass(frozen=True)
class Column:
    """Labels as a source writes them.

    Attributes:
        name: of the column; empty where labels are folders.
        values: the label of each photo, or `None` where it has none.
        declared: the source's own list of classes, in its order; folders declare theirs.
        numbered: whether the source stores numbers, places in `declared`, whose names `values` are.
        allowed: the readings that the column's name leaves open.
    """

    name: str
    values: tuple[str | None, ...]
    declared: tuple[str, ...] | None = None
    numbered: bool = False
    allowed: frozenset[str] = frozenset(READINGS)

    def texts(self) -> list[str]:
        """The labels, each once."""
        return sorted({value for value in self.values if value is not None})


@dataclass(frozen=True)
class Meaning:
    """The class of each label.

    Attributes:
        reading: how labels were read; "mixed" where each by itself can mean one class only.
        classes: class index of each label.
        others: other readings that fit all labels and give another class for some.
        remarks: what is to be said of it.
    """

    reading: str
    classes: Classes
    others: Mapping[str, Classes] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()


class TwoReadingsError(ImagesError):
    """Labels can be read in two ways that differ; `readings` are those that fit all labels."""

    def __init__(self, sentence: str, readings: Mapping[str, Classes]) -> None:
        super().__init__(sentence)
        self.readings = readings


def read_column(column: Column, matcher: ClassMatcher, wanted: str, *, source: str) -> Meaning:
    """The class of each label of a column, all labels read in the same way.

    Args:
        column: the labels.
        matcher: finds the model's classes.
        wanted: one of `READINGS`, or "auto" for the reading that fits all labels.
        source: what the labels are of, for sentences.

    Raises:
        TwoReadingsError: two readings fit and give different classes.
        ImagesError: some labels match no class, or several.

    >>> labels, matcher = Column("", ("cat", "dog")), ClassMatcher(["dog", "cat"], None)
    >>> read_column(labels, matcher, "auto", source="photos").classes
    {'cat': 1, 'dog': 0}
    """
    readings = _Readings.of(column, matcher, wanted, source=source)
    fitting = readings.fitting
    if wanted == "auto":
        own = [way for way in OWN if way in fitting]
        if not own:
            return readings.mixed()
        reading = own[0]
        readings.see_no_rival(reading)
    elif wanted in fitting:
        reading = wanted
    else:
        nothing: dict[str, set[int]] = {text: set() for text in column.texts()}
        raise _misfit(readings.found.get(wanted, nothing), wanted, False, source)
    classes = fitting[reading]
    remarks = readings.by_number(classes) if reading == "index" else ()
    return Meaning(reading, classes, readings.others(classes), remarks)


def _ways(
    column: Column, matcher: ClassMatcher, wanted: str
) -> dict[str, Callable[[str], set[int]]]:
    """How each reading that is open finds classes."""
    texts = column.texts()
    declared = column.declared
    ways: dict[str, Callable[[str], set[int]]] = {
        "id": matcher.by_id, "name": matcher.by_name, "index": matcher.by_index,
    }  # fmt: skip
    if column.numbered and declared is not None:
        as_digits = all(matcher.by_index(text) for text in texts)
        if len(declared) == matcher.count or (wanted == "index" and not as_digits):
            places = {text: place for place, text in enumerate(declared)}
            ways["index"] = lambda text: (
                {places[text]} if places.get(text, matcher.count) < matcher.count else set()
            )
    order = sorted(texts if declared is None else declared)
    if len(order) == matcher.count:
        ordered = {text: place for place, text in enumerate(order)}
        ways["folder-order"] = lambda text: {ordered[text]} if text in ordered else set()
    allowed = column.allowed if wanted == "auto" else {*column.allowed, wanted}
    return {way: find for way, find in ways.items() if way in allowed}


@dataclass(frozen=True)
class _Readings:
    """The readings of a column that are open, with what they find.

    Attributes:
        column: the labels.
        matcher: finds the model's classes.
        source: what the labels are of, for sentences.
        found: by reading, the classes that each label can mean.
        fitting: by reading, the class of each label, where every label means just one.
    """

    column: Column
    matcher: ClassMatcher
    source: str
    found: Mapping[str, Mapping[str, set[int]]]
    fitting: Mapping[str, Classes]

    @staticmethod
    def of(column: Column, matcher: ClassMatcher, wanted: str, *, source: str) -> _Readings:
        """Try all readings that are open."""
        texts = column.texts()
        ways = _ways(column, matcher, wanted)
        found = {way: {text: find(text) for text in texts} for way, find in ways.items()}
        fitting = {
            way: {text: next(iter(classes)) for text, classes in each.items()}
            for way, each in found.items()
            if all(len(classes) == 1 for classes in each.values())
        }
        return _Readings(column, matcher, source, found, fitting)

    def others(self, classes: Classes) -> dict[str, Classes]:
        """The readings that fit and give other classes than these."""
        return {way: each for way, each in self.fitting.items() if each != classes}

    def see_no_rival(self, reading: str) -> None:
        """See that no other reading that fits gives another class.

        Where labels are the model's own names or ids, the place of a folder in the order is no
        rival. Where they are indices, it is one, and so is a label that is also the name or id of
        another class, even if not all labels are names or ids.
        """
        classes = self.fitting[reading]
        rivals = [way for way in OWN if way in self.fitting]
        if rivals == ["index"]:
            rivals += [way for way in ("id", "name") if way in self.found]
            if self.column.declared is not None and not self.column.numbered:
                rivals.append("folder-order")
        for text in sorted(classes, key=lambda text: (len(text), text)):
            for way in rivals:
                other = self.found.get(way, {}).get(text, set())
                if other and classes[text] not in other:
                    raise self.differ(text, (reading, classes[text]), (way, min(other)))

    def differ(self, text: str, one: tuple[str, int], other: tuple[str, int]) -> TwoReadingsError:
        """The error that two readings, each with its class, differ for a label."""
        words = {**READINGS, "index": "by the stored number"} if self.column.numbered else READINGS
        said = " and ".join(
            f"class {index} ({shown(self.matcher.class_names[index])}) {words[way]}"
            for way, index in (one, other)
        )
        ways = [f"--labels {way}" for way, _ in (one, other) if way in self.fitting]
        remedy = f"say {' or '.join(ways)}" if ways else "name all of them in one way"
        if len(ways) == 1:
            remedy += ", or name all of them in another way"
        return TwoReadingsError(
            f"The labels of {self.source} can be read in two ways: {shown(text)} is {said}; "
            f"{remedy}.",
            self.fitting,
        )

    def mixed(self) -> Meaning:
        """Labels of which some are names and some indices, each of which can mean one class only.

        Raises:
            TwoReadingsError: an index could be a place in the order of the folders' names.
            ImagesError: a label matches no class, or several.
        """
        column = self.column
        own = {way: self.found[way] for way in OWN if way in self.found}
        texts = column.texts()
        union = {text: set[int]().union(*(each[text] for each in own.values())) for text in texts}
        if any(len(classes) != 1 for classes in union.values()):
            folders = column.declared is not None and not column.numbered
            orderable = folders and "folder-order" in self.fitting
            raise _misfit(union, "auto", orderable, self.source)
        classes = {text: next(iter(each)) for text, each in union.items()}
        used = {way: [text for text in texts if each[text]] for way, each in own.items()}
        ordered = self.fitting.get("folder-order", {}) if not column.numbered else {}
        if any(ordered.get(text, classes[text]) != classes[text] for text in used.get("name", ())):
            ordered = {}  # the names that there are say that the order is not meant
        for text in used.get("index", ()):
            named = any(text in used.get(way, ()) for way in ("id", "name"))
            if not named and ordered.get(text, classes[text]) != classes[text]:
                raise self.differ(text, ("index", classes[text]), ("folder-order", ordered[text]))
        ways = ", ".join(
            f"{len(labels)} {READINGS[way]} such as {shown(labels[0])}"
            for way, labels in used.items()
            if labels
        )
        remark = Remark(
            code="labels-of-several-kinds",
            text=f"The labels of {self.source} are not all of one kind: {ways}. Each can mean one "
            "class of the model only.",
        )
        return Meaning("mixed", classes, self.others(classes), (remark,))

    def by_number(self, classes: Classes) -> tuple[Remark, ...]:
        """Says that names of a data set are not the model's, where its numbers were taken."""
        names = self.matcher.class_names
        strange = [
            text
            for text, index in classes.items()
            if not any(self.found.get(way, {}).get(text) for way in ("id", "name"))
            and _synonyms(text).isdisjoint(_synonyms(names[index]))
        ]
        if not self.column.numbered or not strange:
            return ()
        first = min(strange, key=classes.__getitem__)
        index = classes[first]
        without_words = any(
            all(NUMBERED.fullmatch(name) for name in some)
            for some in (strange, [names[classes[text]] for text in strange])
        )
        return (
            Remark(
                code="labels-by-stored-number",
                text=f"{counted(len(strange), 'class name')} of {self.source} {_are(strange)} not "
                "the model's, so the numbers that it stores were taken for the model's outputs: "
                f"{shown(first)} is class {index} ({shown(names[index])}).",
                serious=not without_words,
            ),
        )


def _misfit(
    found: Mapping[str, Iterable[int]], wanted: str, orderable: bool, source: str
) -> ImagesError:
    unknown = [text for text, classes in found.items() if not classes]
    way = "" if wanted == "auto" else f" {READINGS[wanted]}"
    if unknown:
        verb = "matches" if len(unknown) == 1 else "match"
        remedy = "name them by class index, folder id or class name"
        if wanted != "auto":
            remedy = "check --labels"
        elif orderable:
            remedy += (
                ", or say --labels folder-order if the model numbers its classes "
                f"{READINGS['folder-order']}"
            )
        return ImagesError(
            f"{source} has {counted(len(unknown), 'label')} that {verb} no class of "
            f"the model{way}: {few(unknown)}; {remedy}."
        )
    unclear = [text for text, classes in found.items() if len(set(classes)) > 1]
    return ImagesError(
        f"{source} has {counted(len(unclear), 'label')} that could mean several classes "
        f"of the model{way}: {few(unclear)}; name them by class index or folder id."
    )


def _synonyms(name: str) -> set[str]:
    """Names between commas: Hugging Face's ImageNet has "tench, Tinca tinca"."""
    return {plain(part) for part in name.split(",")}


def _are(items: Sequence[str]) -> str:
    return "is" if len(items) == 1 else "are"
