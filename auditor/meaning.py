"""When a concept means the class itself: its name, a synonym, a part or a more general name.

Such a concept is no finding: a bunting may look like a bird. Everything is read from words:

- the class's name and its synonyms, which commas separate, are reduced to singular words;
- the last word is what the thing is ("school bus" is a bus, a "shower cap" is a cap and no
  shower), also inside one word ("fireboat"), and what follows "of", "with" and the like does
  not count;
- the tables `means` of the built-in bank say what is a kind or a part of what ("beagle" is a
  dog, a dog is a mammal, a mammal has fur). Phrases of several words there are opaque: a
  "sea lion" is a seal and no lion.

Extrinsic concepts carry no tables in the built-in bank, so that they are core only for a class of
their own name. What only the knowledge of the world tells (a "groom" is a person) is not found.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Lexicon", "Reading", "keys"]

_PREPOSITIONS = ("of", "with", "in", "on", "at", "for", "from", "by", "to", "without", "under")
_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "people": "person",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "lice": "louse",
    "oxen": "ox",
    "leaves": "leaf",
    "wolves": "wolf",
    "knives": "knife",
    "shelves": "shelf",
    "calves": "calf",
    "loaves": "loaf",
    "scarves": "scarf",
    "hooves": "hoof",
    "tomatoes": "tomato",
    "potatoes": "potato",
    "shoes": "shoe",
    "horseshoes": "horseshoe",
    "canoes": "canoe",
    "movies": "movie",
    "cookies": "cookie",
    "lens": "lens",
    "bus": "bus",
    "gas": "gas",
    "grey": "gray",
    "colour": "color",
    "tyre": "tire",
    "aeroplane": "airplane",
    "theatre": "theater",
    "harbour": "harbor",
    "armour": "armor",
    "plough": "plow",
    "licence": "license",
}
# First halves of one-word compounds that the bank's own words do not cover.
_FIRST_HALVES = (
    "air back base bath bed bird black blue bull butter cow cross day double down eye fire fly "
    "foot fore green gun hand head heart hedge home horse house ice key lady land life light "
    "locker mail mini mountain motor news night out over pack police race rail rain river road "
    "rock row sail sand school sea ship shoe shop show side sky snow speed star steam sun tea "
    "tooth toy tree trolley tug under up wall war wash water white wild wind wood work"
)
_LONGEST_NAME = 2000
_MOST_READINGS = 100_000
_WORDS = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Reading:
    """A name as read: its full phrases, everything it is by its words, and by the tables."""

    phrases: frozenset[str]
    heads: frozenset[str]
    kinds: frozenset[str]


class Lexicon:
    """What a concept bank says about words: which stands for what, and which words there are.

    Args:
        entries: for each concept its name, its prompts and its terms (`means`).
    """

    def __init__(self, entries: Iterable[tuple[str, tuple[str, ...], tuple[str, ...]]]) -> None:
        self._owners: dict[str, set[str]] = {}
        self._opaque: set[str] = set()
        self._words: set[str] = set(_FIRST_HALVES.split())
        for name, prompts, means in entries:
            for text in (name, *prompts, *means):
                self._words.update(_tokens(text))
            for term in means:
                tokens = _tokens(term)
                self._owners.setdefault(_key(tokens), set()).add(_key(_tokens(name)))
                if len(tokens) > 1:
                    self._opaque.add(_key(tokens))
        self._readings: dict[str, Reading] = {}

    def read(self, name: str) -> Reading:
        """What a name of a class or concept, of any content, stands for."""
        name = name[:_LONGEST_NAME]
        if name not in self._readings:
            if len(self._readings) > _MOST_READINGS:
                self._readings.clear()
            self._readings[name] = self._reading(name)
        return self._readings[name]

    def _reading(self, name: str) -> Reading:
        phrases: set[str] = set()
        heads: set[str] = set()
        for tokens in _synonyms(name):
            phrases.add(_key(tokens))
            heads.update(self._heads(tokens))
        kinds, waiting = set(heads), list(heads)
        while waiting:
            for owner in self._owners.get(waiting.pop(), ()):
                if owner not in kinds:
                    kinds.add(owner)
                    waiting.append(owner)
        return Reading(frozenset(phrases), frozenset(heads), frozenset(kinds))

    def _heads(self, tokens: tuple[str, ...]) -> Iterator[str]:
        """Ever shorter endings of a name, down to its last word, or to an opaque phrase."""
        for start in range(len(tokens)):
            key = _key(tokens[start:])
            yield key
            if key in self._opaque:
                return
        last = tokens[-1]
        if last in self._owners:
            return
        for cut in range(2, len(last) - 2):
            if last[:cut] in self._words and last[cut:] in self._words:
                yield last[cut:]


def keys(terms: tuple[str, ...]) -> frozenset[str]:
    """Terms in the form in which `Reading` holds them."""
    return frozenset(_key(_tokens(term)) for term in terms)


def _synonyms(name: str) -> Iterator[tuple[str, ...]]:
    """The words of each synonym, without what follows a preposition; "crane (bird)" gives two."""
    for part in re.split(r"[,;/|()\[\]]", name):
        tokens = _tokens(part)
        if not tokens:
            continue
        yield tokens
        for place, token in enumerate(tokens[1:], start=1):
            if token in _PREPOSITIONS:
                yield tokens[:place]
                break


def _key(tokens: tuple[str, ...]) -> str:
    return "".join(tokens)  # "sail boat", "sail-boat" and "sailboat" are one


@lru_cache(maxsize=65536)
def _tokens(text: str) -> tuple[str, ...]:
    """Words of a text in the singular, without case, accents, digits and punctuation."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    plain = unicodedata.normalize("NFKD", text.casefold().replace("'", "").replace("’", ""))
    plain = "".join(each for each in plain if not unicodedata.combining(each))
    return tuple(_singular(word) for word in _WORDS.findall(plain))


def _singular(word: str) -> str:
    """A word's singular by the regular rules of English and a few exceptions."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "shes", "ches", "xes", "zzes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return _IRREGULAR.get(word[:-1], word[:-1])
    return word
