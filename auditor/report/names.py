"""What classes, concepts and layers are called in one report, so that none is taken for another."""

from __future__ import annotations

from auditor.record.schema import Audit
from auditor.report.text import Name, name, told_apart

__all__ = ["Names"]

LABEL = 20  # characters of a class's name in a chart


class Names:
    """Display names; of those that look alike each has a number beside it.

    A class's number is its index, a concept's its place in the bank, a layer's its place in the
    path. What the audit does not list still has a name.

    Attributes:
        numbered: whether any class or concept has its number beside it.
    """

    def __init__(self, audit: Audit) -> None:
        classes = {c.index: (c.name, c.index) for c in audit.classes}
        classes |= {c.index: (c.name, c.index) for c in audit.other_classes}
        self._classes = told_apart(classes)
        self._labels = told_apart(classes, LABEL)
        concepts = dict.fromkeys(
            [c.name for c in audit.concepts]
            + [f.concept for f in audit.findings]
            + [other for f in audit.findings for other in f.alike]
            + [cluster.name for cluster in audit.clusters if cluster.name]
            + [planted.concept for planted in audit.planted or ()]
        )
        self._concepts = told_apart({c: (c, i) for i, c in enumerate(concepts, start=1)})
        layers = dict.fromkeys(x.name for c in audit.classes for x in c.divergence.layers)
        self._layers = told_apart({x: (x, i) for i, x in enumerate(layers, start=1)})
        texts = [(text, self._classes[index]) for text, index in classes.values()]
        texts += self._concepts.items()
        self._long = sorted(
            ((text, shown.short) for text, shown in texts if len(text) > len(shown.short)),
            key=lambda pair: -len(pair[0]),
        )
        marked = [(shown, index) for index, shown in self._classes.items()]
        marked += [(shown, i) for i, shown in enumerate(self._concepts.values(), start=1)]
        self.numbered = any(shown.short.endswith(f" #{i}") for shown, i in marked)

    def __contains__(self, index: int) -> bool:
        return index in self._classes

    def __getitem__(self, index: int) -> Name:
        return self._classes.get(index) or name(f"class {index}")

    def label(self, index: int) -> str:
        """A class's name where there is little room."""
        return self._labels[index].short

    def concept(self, text: str) -> Name:
        """A concept's name."""
        return self._concepts.get(text) or name(text)

    def layer(self, text: str) -> Name:
        """A layer's name."""
        return self._layers.get(text) or name(text)

    def within(self, text: str) -> str:
        """A text with the long names in it as they are shown."""
        if not self._long or len(text) < len(self._long[-1][0]):
            return text
        for long, short in self._long:
            if long in text:
                text = text.replace(long, short)
        return text
