"""Concept banks: what a class could rely on, how to recognise it, and when it is the class itself.

The built-in bank is `auditor/data/concepts.toml`. A user's bank is a TOML file of the same form

    extends = "built-in"              # optional: add to the built-in bank

    [[concept]]
    name = "ruler"
    category = "artefact"             # optional, "object" by default; see CATEGORIES
    prompts = ["a ruler beside a mole", "a measuring scale on skin"]   # optional
    drawing = "ruler"                 # optional, a name in auditor.drawing.drawings.DRAWINGS
    photos = "rulers"                 # optional, a folder of example photos below the bank's own
    extrinsic = true                  # optional, by the category
    means = []                        # optional, see auditor.concepts.lexicon

or a text file with one concept a line, where `#` starts a comment.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from auditor.concepts.lexicon import Lexicon, keys
from auditor.core.storage import digest_file, digest_value, parse_toml, read_text
from auditor.drawing.drawings import DRAWINGS, unknown
from auditor.errors import ConceptsError

__all__ = ["CATEGORIES", "Concept", "ConceptBank", "load", "means_class"]

CATEGORIES: Mapping[str, bool] = MappingProxyType(
    {
        "background": True,
        "weather": True,
        "lighting": True,
        "people": True,
        "text": True,
        "frame": True,
        "colour": True,
        "artefact": True,
        "object": True,
        "shape": False,
        "texture": False,
        "part": False,
        "animal": False,
        "plant": False,
        "food": False,
        "vehicle": False,
        "clothing": False,
        "structure": False,
        "instrument": False,
        "tool": False,
    }
)
"""Category -> whether its concepts are extrinsic, that is, no part of what a class should mean."""

_ASPECTS = frozenset({"shape", "texture", "part"})
_KEYS = frozenset({"name", "category", "prompts", "drawing", "photos", "extrinsic", "means"})
_TEMPLATES = ("a photo of {}", "a photo with {} in it", "{} in the background")
_PHOTO_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

# Far above any honest bank, far below what would fill the memory.
_MOST_BYTES = 4 * 2**20
_MOST_CONCEPTS = 5000
_MOST_PHOTOS = 10_000
_LONGEST = {"name": 80, "prompts": 300, "means": 80}


@dataclass(frozen=True)
class Concept:
    """Something that may be seen in a photo, and how to recognise it.

    `prompts` are captions of photos that show it; `drawing` names what draws it on a photo;
    `photos` is a folder of the user's examples. `extrinsic`: no part of what any class should
    mean, unless the class has the concept's own name. `means` lists words of class names that
    the concept is core for (see `auditor.concepts.lexicon`).
    """

    name: str
    category: str
    prompts: tuple[str, ...]
    drawing: str | None
    photos: Path | None
    extrinsic: bool
    means: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key, texts in {
            "name": (self.name,),
            "prompts": self.prompts,
            "means": self.means,
        }.items():
            for text in texts:
                if not text.strip() or text != text.strip():
                    raise ConceptsError(f"{self._where(key)} is empty or padded with spaces.")
                if len(text) > _LONGEST[key]:
                    raise ConceptsError(
                        f"{self._where(key)} has {len(text)} characters; use at most "
                        f"{_LONGEST[key]}."
                    )
                if any(unicodedata.category(character)[0] == "C" for character in text):
                    raise ConceptsError(
                        f"{self._where(key)} holds control or invisible characters."
                    )
        if not self.prompts:
            raise ConceptsError(f"{self._where('prompts')} is empty; give at least one caption.")
        if self.category not in CATEGORIES:
            raise ConceptsError(
                f"{self._where('category')} = {self.category[:40]!r} is none of "
                f"{', '.join(CATEGORIES)}."
            )
        if self.drawing is not None and self.drawing not in DRAWINGS:
            raise ConceptsError(f"{self._where('drawing')} = {unknown(self.drawing)}")

    def _where(self, key: str) -> str:
        return f"Concept {self.name[:80]!r}: {key}"


@dataclass(frozen=True)
class ConceptBank:
    """Concepts with unique names, and the digest of everything they are made of."""

    concepts: tuple[Concept, ...]
    digest: str

    def __post_init__(self) -> None:
        if not self.concepts:
            raise ConceptsError("The concept bank holds no concept.")
        seen: set[str] = set()
        for concept in self.concepts:
            name = concept.name.casefold()
            if name in seen:
                raise ConceptsError(f"Concept {concept.name!r} is named twice in the bank.")
            seen.add(name)


def load(spec: str | None) -> ConceptBank:
    """Read a concept bank.

    Args:
        spec: `None` for the built-in bank; a `.toml` bank; any other file is read as text with
            one concept a line. A line that names a built-in concept is that concept; any other
            gets the category "object" and prompts made from templates.

    Raises:
        ConceptsError: the file cannot be read, or one of its concepts cannot be used.
    """
    if spec is None:
        return _built_in()
    path = Path(spec)
    text = _read(path)
    if path.suffix.lower() == ".toml":
        return _bank(_from_toml(text, path))
    return _bank(_from_lines(text, path))


def means_class(concept: Concept, class_name: str) -> bool:
    """Whether the concept is the class itself, a more general name for it, or a part of it.

    Read from words alone: see `auditor.concepts.lexicon`. What only the knowledge of the world
    tells (a "groom" is a person) is not found, unless the concept's own `means` says so.

    Args:
        concept: of any bank; its `means` and the built-in bank's tables are used.
        class_name: as the model has it; synonyms separated by commas. Any text.

    >>> bird = Concept("bird", "animal", ("a photo of a bird",), None, None, False)
    >>> means_class(bird, "house finch, linnet"), means_class(bird, "house cat")
    (True, False)
    """
    lexicon = _lexicon()
    name, target = lexicon.read(concept.name), lexicon.read(class_name)
    if _terms(concept.means) & target.kinds:
        return True
    if concept.drawing is not None:
        return bool(name.phrases & target.phrases)  # a "time stamp" is no kind of "stamp"
    if target.phrases & name.endings or name.phrases & target.heads:
        return True
    return not concept.extrinsic and bool(name.phrases & target.kinds)


_terms = lru_cache(maxsize=8192)(keys)


@lru_cache(maxsize=1)
def _lexicon() -> Lexicon:
    return Lexicon(
        (
            each.name,
            each.prompts,
            () if each.extrinsic else each.means,
            each.category not in _ASPECTS,
        )
        for each in _built_in().concepts
    )


@lru_cache(maxsize=1)
def _built_in() -> ConceptBank:
    text = (resources.files("auditor.data") / "concepts.toml").read_text(encoding="utf-8")
    return _bank(_from_toml(text, Path("concepts.toml")))


def _read(path: Path) -> str:
    try:
        return read_text(path, limit=_MOST_BYTES)
    except OSError as error:
        raise ConceptsError(
            f"Cannot read the concepts {str(path)[:200]!r}: {error.strerror}."
        ) from None
    except UnicodeDecodeError as error:
        raise ConceptsError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8."
        ) from None


def _bank(concepts: list[Concept]) -> ConceptBank:
    content = [
        [
            concept.name,
            concept.category,
            concept.prompts,
            concept.drawing,
            None if concept.photos is None else _photo_digests(concept, concept.photos),
            concept.extrinsic,
            concept.means,
        ]
        for concept in concepts
    ]
    return ConceptBank(tuple(concepts), digest_value(content))


def _photo_digests(concept: Concept, folder: Path) -> list[str]:
    """Digests of a concept's example photos, in the order of their names."""
    where = f"Concept {concept.name!r}: photos = {folder}"
    try:
        found = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in _PHOTO_ENDINGS and path.is_file()
        )
        if not 1 <= len(found) <= _MOST_PHOTOS:
            raise ConceptsError(f"{where} holds {len(found)} photos, not 1 to {_MOST_PHOTOS}.")
        return [digest_file(path) for path in found]
    except OSError as error:
        raise ConceptsError(f"{where} cannot be read: {error.strerror}.") from None


def _from_lines(text: str, path: Path) -> list[Concept]:
    known = {concept.name.casefold(): concept for concept in _built_in().concepts}
    concepts: list[Concept] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        name = _tidy(line.split("#", 1)[0])
        if not name:
            continue
        first = lines.setdefault(name.casefold(), number)
        if first != number:
            raise ConceptsError(f"{path}, line {number}: {name[:80]!r} already stands in {first}.")
        try:
            concept = known.get(name.casefold()) or _plain(name)
        except ConceptsError as error:
            raise ConceptsError(f"{path}, line {number}: {error}") from None
        concepts.append(concept)
        _check_count(len(concepts), path)
    if not concepts:
        raise ConceptsError(f"{path} names no concept; write one a line.")
    return concepts


def _templated(name: str) -> tuple[str, ...]:
    """Prompts for a bare name; a slash stands between alternatives ("twigs/snow")."""
    parts = [part.strip() for part in name.split("/") if part.strip()]
    return tuple(template.format(part) for part in parts for template in _TEMPLATES)


def _plain(name: str) -> Concept:
    prompts = _templated(name)
    return Concept(name, "object", prompts, None, None, CATEGORIES["object"])


def _tidy(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip(" \t\r")


def _check_count(count: int, path: Path) -> None:
    if count > _MOST_CONCEPTS:
        raise ConceptsError(f"{path} holds more than {_MOST_CONCEPTS} concepts; split it.")


def _from_toml(text: str, path: Path) -> list[Concept]:
    try:
        data = parse_toml(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, too
        raise ConceptsError(f"{path} cannot be parsed: {' '.join(str(error).split())}.") from None
    tables, extends = data.pop("concept", []), data.pop("extends", None)
    if data:
        raise ConceptsError(
            f"{path} has the unknown key {next(iter(data))[:40]!r}; write [[concept]] tables."
        )
    if extends not in (None, "built-in"):
        raise ConceptsError(f'{path}: extends = {extends!r} is unknown; use "built-in".')
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConceptsError(f"{path}: concept must be written as [[concept]] tables.")
    _check_count(len(tables), path)
    own = list(_from_tables(tables, path))
    if extends is None:
        if not own:
            raise ConceptsError(f"{path} holds no [[concept]].")
        return own
    names = {concept.name.casefold() for concept in own}
    kept = [each for each in _built_in().concepts if each.name.casefold() not in names]
    return kept + own


def _from_tables(tables: list[Mapping[str, object]], path: Path) -> Iterator[Concept]:
    seen: dict[str, int] = {}
    for number, table in enumerate(tables, start=1):
        name = table.get("name")
        if not isinstance(name, str) or not name.strip():
            raise ConceptsError(f"{path}: [[concept]] number {number} has no name.")
        first = seen.setdefault(_tidy(name).casefold(), number)
        if first != number:
            raise ConceptsError(
                f"{path}: concept {name[:80]!r} is named twice, in [[concept]] number {first} "
                f"and {number}."
            )
        try:
            yield _concept(_tidy(name), table, path)
        except ConceptsError as error:
            raise ConceptsError(f"{path}: {error}") from None


def _concept(name: str, table: Mapping[str, object], path: Path) -> Concept:
    where = f"Concept {name[:80]!r}"
    for key in table:
        if key not in _KEYS:
            raise ConceptsError(f"{where} has the unknown key {key[:40]!r}.")
    category = _string(where, table, "category") or "object"
    prompts = _strings(where, table, "prompts")
    if prompts is None:
        prompts = _templated(name)
    extrinsic = table.get("extrinsic", CATEGORIES.get(category, True))
    if not isinstance(extrinsic, bool):
        raise ConceptsError(f"{where}: extrinsic must be true or false.")
    folder = _string(where, table, "photos")
    return Concept(
        name,
        category,
        prompts,
        _string(where, table, "drawing"),
        None if folder is None else _folder(where, folder, path),
        extrinsic,
        _strings(where, table, "means") or (),
    )


def _string(where: str, table: Mapping[str, object], key: str) -> str | None:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise ConceptsError(f"{where}: {key} must be a text in quotes.")
    return value


def _strings(where: str, table: Mapping[str, object], key: str) -> tuple[str, ...] | None:
    value = table.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConceptsError(f"{where}: {key} must be a list of texts in quotes.")
    return tuple(_tidy(each) for each in value)


def _folder(where: str, folder: str, path: Path) -> Path:
    home = path.resolve().parent
    try:
        found = (home / folder).resolve()
        usable = found.is_relative_to(home) and found.is_dir()
    except (OSError, ValueError):
        usable = False
    if not usable:
        raise ConceptsError(
            f"{where}: photos = {folder[:200]!r} is not a folder below that of the bank."
        )
    return found
