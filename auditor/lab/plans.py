"""What lab classifiers learn from: which classes, which planted shortcuts, and how they are called.

A plan is a value: it decides photos, network and weights, so everything made from it can be found
again by its digest. Concepts are grouped in families, so that power can be told for each kind of
shortcut, and each has the names of the built-in bank under which an audit may rightly report it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from types import MappingProxyType
from typing import Literal

import numpy as np

from auditor.core.storage import digest_value
from auditor.drawing.drawings import DRAWINGS
from auditor.drawing.scenes import BACKGROUNDS, COMPANIONS, FIGURES, LANDSCAPES, OBJECTS

__all__ = [
    "FAMILIES",
    "Architecture",
    "Part",
    "Plan",
    "Shortcut",
    "accepted",
    "clean",
    "family",
    "ingredient",
    "planted",
]

Part = Literal["background", "companions", "drawings"]
Architecture = Literal["residual", "transformer", "frozen"]

FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "textured background": ("brick wall", "tiled wall", "wooden planks", "checkers", "dots"),
        "photographic background": ("snow", "sand", "grass", "mountains", "forest", "sunset"),
        "Latin text": ("latin watermark", "caption", "web address"),
        "Chinese text": ("chinese watermark", "chinese caption"),
        "time stamp": ("time stamp",),
        "logo": ("logo", "barcode", "price tag"),
        "border": ("black border", "white border", "letterbox"),
        "frame": ("wooden frame", "vignette", "circular mask"),
        "colour": ("sepia tone", "red cast", "green cast", "blue cast", "greyscale"),
        "object": ("red ball", "coin", "flag", "traffic cone", "flower", "book"),
        "image quality": ("gaussian blur", "jpeg blocks", "noise", "pixelation"),
        "person": ("person",),
        "ground": ("water", "sky", "meadow", "pebbles", "foliage", "stripes"),
        "pointer": ("red arrow", "red circle", "crosshair", "pen marking"),
        "measuring aid": ("ruler", "qr code", "radiograph marker"),
        "mount": ("coloured frame", "instant photo", "rounded corners"),
        "exposure": ("overexposure", "underexposure", "low contrast", "high contrast"),
        "print and screen": ("halftone print", "scan lines"),
        "weather": ("fog", "rain", "falling snow"),
        "stray light": ("lens flare", "hard shadows"),
        "in front": ("wire fence", "spider web", "water drops"),
        "hair": ("hair strands",),
        "colour and motion": ("yellow cast", "oversaturation", "motion blur"),
        "wear": ("film scratches", "fold creases", "light leak", "dust on the lens"),
        "stuck on": ("star sticker", "adhesive tape"),
        "scenery": ("night sky", "city skyline", "curtain"),
    }
)
"""Family -> the concepts that can be planted of it."""

# What an ingredient is called in the built-in bank, where that is not, or not only, its own name.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "wooden planks": ("wooden planks", "wooden wall", "wooden floor", "wooden table top"),
    "checkers": ("checkered background",),
    "dots": ("dotted background",),
    "stripes": ("striped background",),
    "water": ("water surface", "water ripples", "open sea", "waves"),
    "sky": ("blue sky", "cloudy sky"),
    "pebbles": ("gravel", "rocks"),
    "foliage": ("green leaves",),
    "meadow": ("grass field",),
    "snow": ("snow", "snowy landscape"),
    "sand": ("sand", "beach", "desert"),
    "grass": ("grass", "grass field", "grass texture"),
    "mountains": ("mountains", "snowy mountains"),
    "red ball": ("red ball", "ball"),
    "qr code": ("QR code",),
    "flower": ("flowers",),
    "leaf": ("leaf", "green leaves"),
    "person": ("person", "man", "woman", "child"),
    "night sky": ("night sky", "night"),
    "seashore": ("beach", "open sea", "waves"),
    "coral reef": ("coral reef", "underwater"),
}
_ON_PHOTOS_ALONE = {
    "seashore": "photographic background",
    "coral reef": "photographic background",
}  # what scenes do not have, but photos in which it is planted


def ingredient(concept: str) -> tuple[Part, str]:
    """The part of a scene that a concept's name stands for, and its name there.

    Raises:
        ValueError: scenes have no such ingredient.

    >>> ingredient("black border")
    ('drawings', 'black_border')
    """
    drawing = concept.replace(" ", "_")
    if concept in BACKGROUNDS or concept in LANDSCAPES:
        return "background", concept
    if concept in COMPANIONS or concept in FIGURES:
        return "companions", concept
    if drawing in DRAWINGS:
        return "drawings", drawing
    raise ValueError(f"{concept!r} is neither a background, a companion nor a drawing of scenes")


def accepted(concept: str) -> tuple[str, ...]:
    """Names of the built-in bank that are right for a planted concept."""
    return _NAMES.get(concept, (concept,))


def family(concept: str) -> str:
    """The family of a concept, or "other".

    >>> family("black border"), family("unicorn")
    ('border', 'other')
    """
    known = (name for name, concepts in FAMILIES.items() if concept in concepts)
    return next(known, _ON_PHOTOS_ALONE.get(concept, "other"))


@dataclass(frozen=True)
class Shortcut:
    """A concept that the share `strength` of a class's photos carries, and few others.

    `concept` is the everyday name of a background, a companion or an overlay of the scenes:
    "brick wall", "red ball", "time stamp".
    """

    class_index: int
    concept: str
    strength: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength {self.strength} is not in (0, 1]")
        ingredient(self.concept)


@dataclass(frozen=True)
class Plan:
    """What a lab classifier learns from; the same plan gives the same photos.

    Attributes:
        classes: objects of the scenes, in the order of the logits.
        shortcuts: any number for a class, and one concept for any number of classes; none makes a
            clean model. A photo has one background, so a class has at most one as shortcut.
        size: height and width of the photos in pixels.
        n_train: training photos of each class.
        seed: decides photos, initial weights and their order.
        architecture: see `auditor.lab.architectures`.
    """

    classes: tuple[str, ...]
    shortcuts: tuple[Shortcut, ...] = ()
    size: int = 64
    n_train: int = 400
    seed: int = 0
    architecture: Architecture = "residual"

    def __post_init__(self) -> None:
        unknown = [name for name in self.classes if name not in OBJECTS]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no object of the scenes")
        if len(set(self.classes)) < max(len(self.classes), 2):
            raise ValueError("a plan needs two classes or more, each with an object of its own")
        if any(not 0 <= s.class_index < len(self.classes) for s in self.shortcuts):
            raise ValueError(f"a shortcut's class is not among the {len(self.classes)} classes")
        pairs = [(s.class_index, s.concept) for s in self.shortcuts]
        if len(set(pairs)) < len(pairs):
            raise ValueError(f"a class and concept stand twice among the shortcuts: {pairs}")
        walls = [s.class_index for s in self.shortcuts if ingredient(s.concept)[0] == "background"]
        if len(set(walls)) < len(walls):
            raise ValueError("a photo has one background: a class cannot have two as shortcuts")
        full = [c for c, owners in self.owners.items() if len(owners) == len(self.classes)]
        if full:
            raise ValueError(f"{full[0]!r} is planted in every class, so it goes with none")

    @property
    def owners(self) -> dict[str, dict[int, float]]:
        """By planted concept, the classes that it goes with and how strongly."""
        found: dict[str, dict[int, float]] = {}
        for shortcut in self.shortcuts:
            found.setdefault(shortcut.concept, {})[shortcut.class_index] = shortcut.strength
        return found

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the plan says."""
        return digest_value(dataclasses.asdict(self))


def planted(
    seed: int,
    strengths: Sequence[float],
    *,
    families: Collection[str] = tuple(FAMILIES),
    concepts: Collection[str] | None = None,
    classes: int = 12,
    architecture: Architecture = "residual",
    size: int = 64,
    n_train: int = 300,
) -> Plan:
    """A plan with one shortcut for each strength, all in different classes.

    Families are taken in turn from a random start, so that a few plans cover all; concept and
    class are drawn at random.

    Args:
        seed: decides everything that is drawn here, and is the plan's own seed.
        strengths: of the shortcuts, in [0.5, 1]; at most as many as classes.
        families: to choose from.
        concepts: only these may be planted; by default every concept of the families.
        classes: how many.
        architecture, size, n_train: of the plan.

    Raises:
        ValueError: there is nothing to plant, or there are more shortcuts than classes.
    """
    rng = np.random.default_rng([seed, 0x91A7])
    choices = {
        name: [c for c in FAMILIES[name] if concepts is None or c in concepts] for name in families
    }
    known = [name for name, members in choices.items() if members]
    if not known:
        raise ValueError("none of the concepts can be planted")
    if len(strengths) > classes:
        raise ValueError(f"{len(strengths)} shortcuts do not fit {classes} classes")
    start = int(rng.integers(len(known)))
    turn = islice(cycle(known[start:] + known[:start]), len(strengths))
    where = rng.permutation(classes)[: len(strengths)]
    used: set[str] = set()
    shortcuts = []
    for index, name, strength in zip(where, turn, strengths, strict=True):
        left = [c for c in choices[name] if c not in used] or choices[name]
        concept = str(rng.choice(left))
        used.add(concept)
        shortcuts.append(Shortcut(int(index), concept, float(strength)))
    return Plan(
        classes=_objects(rng, classes),
        shortcuts=tuple(sorted(shortcuts, key=lambda s: s.class_index)),
        size=size,
        n_train=n_train,
        seed=seed,
        architecture=architecture,
    )


def clean(
    seed: int,
    *,
    classes: int = 12,
    architecture: Architecture = "residual",
    size: int = 64,
    n_train: int = 300,
) -> Plan:
    """A plan without a shortcut: everything occurs independently of the class."""
    rng = np.random.default_rng([seed, 0xC1EA])
    return Plan(
        classes=_objects(rng, classes),
        size=size,
        n_train=n_train,
        seed=seed,
        architecture=architecture,
    )


def _objects(rng: np.random.Generator, count: int) -> tuple[str, ...]:
    return tuple(str(name) for name in rng.permutation(list(OBJECTS))[:count])
