"""When a concept means the class itself: its name, a synonym, a part or a more general name.

Such a concept is no finding: a bunting may look like a bird. Everything is read from words:

- the class's name and its synonyms, which commas separate, are reduced to singular words;
- the last word is what the thing is ("school bus" is a bus, a "shower cap" is a cap and no
  shower), also inside one word ("fireboat"), and what follows "of", "with" and the like does
  not count;
- the tables `means` of the built-in bank say what is a kind or a part of what ("beagle" is a
  dog, a dog is a mammal, a mammal has fur). A phrase that stands there apart from its last word
  is opaque: a "sea lion" is a seal and no lion.

Tables of extrinsic concepts name what they are a part of, or another name of the same thing: a
"tree trunk" is core for the class "tree", a "face" for "woman", a "cardboard box" for "carton".
They are not passed on. What only the knowledge of the world tells (a "groom" is a person) is not
found.
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
    "glasses": "glasses",
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
    """A name as read, in words joined together.

    `phrases` are its synonyms in full; `endings` what is left of each, word by word from the
    front, down to the last one; `heads` also what is inside the last word; `kinds` also whatever
    the tables add to all these.
    """

    phrases: frozenset[str]
    endings: frozenset[str]
    heads: frozenset[str]
    kinds: frozenset[str]


class Lexicon:
    """What a concept bank says about words: which stands for what, and which words there are.

    Args:
        entries: for each concept its name, its prompts, its terms (`means`), and whether it is a
            kind of thing, not a part, pattern or shape: only kinds are passed on, since a bus has
            wheels and wheels are round, but a bus is not.
    """

    def __init__(
        self, entries: Iterable[tuple[str, tuple[str, ...], tuple[str, ...], bool]]
    ) -> None:
        self._owners: dict[str, set[str]] = {}
        self._opaque: set[str] = set()
        self._words: set[str] = set(_FIRST_HALVES.split())
        phrases: list[tuple[str, ...]] = []
        kinds: set[str] = set()
        for name, prompts, means, kind in entries:
            kinds.update([_key(_tokens(name))] if kind else [])
            for text in (name, *prompts, *means):
                self._words.update(_tokens(text))
            for term in means:
                owners = self._owners.setdefault(_key(_tokens(term)), set())
                if kind:
                    owners.add(_key(_tokens(name)))
                    phrases.append(_tokens(term))
        for tokens in phrases:
            last = tokens[-1]
            apart = self._owners.get(last, set()) | ({last} & kinds)
            if apart and not apart & self._owners[_key(tokens)]:
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
        endings: set[str] = set()
        heads: set[str] = set()
        for tokens in _synonyms(name):
            phrases.add(_key(tokens))
            thing = tokens if _key(tokens) in self._owners else _before_preposition(tokens)
            found = list(self._endings(thing))
            endings.update(found)
            if found[-1] == thing[-1]:
                heads.update(self._inside(thing[-1]))
        heads |= endings | phrases
        kinds = set(heads)
        waiting = list(kinds)
        while waiting:
            for owner in self._owners.get(waiting.pop(), ()):
                if owner not in kinds:
                    kinds.add(owner)
                    waiting.append(owner)
        groups = (phrases, endings, heads, kinds)
        return Reading(*(frozenset(group) for group in groups))

    def _endings(self, tokens: tuple[str, ...]) -> Iterator[str]:
        """Ever shorter endings of a name, down to its last word, or to an opaque phrase."""
        for start in range(len(tokens)):
            key = _key(tokens[start:])
            yield key
            if key in self._opaque:
                return

    def _inside(self, word: str) -> Iterator[str]:
        """What a word made of two known words is, unless the tables know the word itself."""
        if word in self._owners:
            return
        for cut in range(2, len(word) - 2):
            if word[:cut] in self._words and word[cut:] in self._words:
                yield word[cut:]


def keys(terms: tuple[str, ...]) -> frozenset[str]:
    """Terms in the form in which `Reading` holds them."""
    return frozenset(_key(_tokens(term)) for term in terms)


def _synonyms(name: str) -> Iterator[tuple[str, ...]]:
    """The words of each synonym: "frog or newt" gives three, "churches and temples" likewise.

    What an "and" joins behind a preposition is no name: a "dog with hat and coat" is no coat.
    """
    for part in re.split(r"[,;/|()\[\]]", name):
        tokens = _tokens(part)
        if tokens:
            yield tokens
        while place := _joint(tokens):
            yield tokens[:place]
            tokens = tokens[place + 1 :]
            if tokens and not _joint(tokens):
                yield tokens


def _joint(tokens: tuple[str, ...]) -> int:
    """The place of the first "or" or "and" between two names; 0 if there is none."""
    for place, token in enumerate(tokens[:-1]):
        named = place > 0 and tokens[:place] == _before_preposition(tokens[:place])
        if place > 0 and (token == "or" or (token == "and" and named)):
            return place
    return 0


def _before_preposition(tokens: tuple[str, ...]) -> tuple[str, ...]:
    for place, token in enumerate(tokens[1:], start=1):
        if token in _PREPOSITIONS:
            return tokens[:place]
    return tokens


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
