"""What the user's texts mean: which classes are audited, and what is expected of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from auditor.concepts.banks import ConceptBank
from auditor.errors import ConfigError
from auditor.images.label_meaning import ClassMatcher
from auditor.models.loading import Classifier

__all__ = ["select_classes", "settle_expected"]


def select_classes(wanted: Sequence[str] | None, classifier: Classifier) -> tuple[int, ...]:
    """Indices of the classes to audit, given by index, folder id or name; by default all.

    Raises:
        ConfigError: a text means no class, or several.
    """
    if wanted is None:
        return tuple(range(len(classifier.class_names)))
    matcher = ClassMatcher(classifier.class_names, classifier.class_ids)
    return tuple(dict.fromkeys(_class_meant(text, matcher, "classes") for text in wanted))


def settle_expected(
    wanted: Mapping[str, Sequence[str]], classifier: Classifier, bank: ConceptBank
) -> dict[str, tuple[str, ...]]:
    """What is expected of classes, by their names; by index where several have the name.

    Raises:
        ConfigError: a class or a concept is unknown, so that nothing would be expected of it, or a
            text means several classes.
    """
    named = {concept.name.casefold() for concept in bank.concepts}
    names = classifier.class_names
    matcher = ClassMatcher(names, classifier.class_ids)
    settled: dict[str, tuple[str, ...]] = {}
    for key, expected in wanted.items():
        index = _class_meant(key, matcher, "expected")
        for concept in expected:
            if concept.casefold() not in named:
                raise ConfigError(
                    f"expected[{key[:80]!r}] names the concept {concept[:80]!r}, which is not "
                    f"among the {len(named)} of the bank; check its spelling."
                )
        for text in (names[index], str(index)):
            bearers = [k for k, name in enumerate(names) if text in (name, str(k))]
            if bearers == [index] and matcher.candidates(text) == {index}:
                settled[text] = settled.get(text, ()) + tuple(expected)
                break
        else:
            raise ConfigError(
                f"expected[{key[:80]!r}] means class {index}, whose name and index are also those "
                "of others; give other names with --class-names."
            )
    return settled


def _class_meant(text: str, matcher: ClassMatcher, setting: str) -> int:
    """The class that a text means, by the rules for folders of photos."""
    classes = sorted(matcher.candidates(text))
    if not classes:
        raise ConfigError(
            f"The model has no class {text[:80]!r}; give {setting} an index from 0 to "
            f"{matcher.count - 1}, a folder id or a name."
        )
    if len(classes) > 1:
        raise ConfigError(
            f"{setting} names {text[:80]!r}, which can mean the classes "
            f"{', '.join(map(str, classes))}; give an index with a leading zero, such as "
            f"0{classes[0]}, or a folder id."
        )
    return classes[0]
