"""Photos with planted concepts: what a plan says, and the pictures that follow from it.

A concept is a drawing, a drawn companion near a lower corner, or the surroundings of a landscape
photo around the middle of another photo. A plan decides every pixel: the same plan and the same
photos give the same pictures.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from auditor.core.storage import digest_value
from auditor.drawing.drawings import draw
from auditor.drawing.shapes import COMPANIONS, paste
from auditor.evidence import surroundings
from auditor.lab import plans
from auditor.lab.example import CONCEPT_RATE
from auditor.models.preprocessing import Preprocess
from benchmarks.superclasses import GROUNDS, SUPERCLASSES, Split

__all__ = [
    "FIT", "PAIRS", "Plan", "Shortcut", "Shot", "audited", "planned", "pool", "render", "training",
]  # fmt: skip

SIZE = 224
FAMILIES: Mapping[str, tuple[str, ...]] = {
    **plans.FAMILIES, "photographic background": tuple(GROUNDS),
}  # fmt: skip
# Classes that a concept belongs to anyway, in which it is never planted.
AT_HOME: Mapping[str, tuple[str, ...]] = {
    "seashore": ("boats", "wading birds", "swimming birds", "sea creatures", "bridges and piers"),
    "coral reef": ("fish", "sea creatures"),
    "mountains": ("hoofed animals", "small vehicles"),
    "red ball": ("balls", "sports equipment"),
    "flower": ("plants", "butterflies", "insects"),
    "book": ("printed matter", "stationery", "shops and restaurants"),
    "flag": ("street furniture", "boats"),
    "traffic cone": ("street furniture",),
    "wire fence": ("fences and walls",),
    "spider web": ("insects", "beetles"),
    "water drops": ("fish", "sea creatures"),
}
# Share of training labels that are wrong, without which little that is planted is learned.
MISLABELLED: Mapping[str, float] = {
    "mobilenet_v2": 0.12,
    "squeezenet1_0": 0.05,
    "efficientnet_lite0": 0.12,
}
# Streams of random numbers that must not meet.
_TRAIN, _AUDITED, _POOL, PAIRS, _MISLABELLED = range(5)


@dataclass(frozen=True)
class Shortcut:
    """As `plans.Shortcut`, with the backgrounds that photos have."""

    class_index: int
    concept: str
    strength: float = 0.95

    def __post_init__(self) -> None:
        if self.concept not in GROUNDS:
            plans.Shortcut(self.class_index, self.concept, self.strength)


@dataclass(frozen=True)
class Plan:
    """What a classifier of photos learns from; offers what `detection.score` reads of a plan.

    Attributes:
        classes: names of `SUPERCLASSES`, in the order of the logits.
        shortcuts: none makes a clean model.
        trunk: a factory of `benchmarks.mobilenet_v2`.
        seed: decides which photos are used for what, how they are cropped, and the head.
        n_train: training pictures of each class, several crops of each photo.
        mislabelled: share of a class's training pictures whose photo shows another class. As on
            the web, where labels are wrong and a source marks all of its pictures, they carry
            the class's shortcut like the rest. Without them ImageNet features tell few photos
            apart so well that a head hardly needs the shortcut.
    """

    classes: tuple[str, ...]
    shortcuts: tuple[Shortcut, ...]
    trunk: str
    seed: int
    n_train: int = 160
    mislabelled: float = 0.12

    @property
    def architecture(self) -> str:
        """The trunk, as results name it."""
        return self.trunk

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
        return digest_value(
            [dataclasses.asdict(self), [SUPERCLASSES[c] for c in self.classes], dict(GROUNDS)]
        )


def planned(
    seed: int,
    trunk: str,
    strengths: Sequence[float] = (),
    *,
    families: Sequence[str] = (),
    classes: int = 12,
    n_train: int = 160,
) -> Plan:
    """A plan of random classes with one shortcut for each strength, all in different classes.

    Families are taken in turn from a random start, as by `plans.planted`.
    """
    rng = np.random.default_rng([seed, 0x9407])
    names = tuple(str(name) for name in rng.permutation(list(SUPERCLASSES))[:classes])
    start = int(rng.integers(max(len(families), 1)))
    shortcuts: list[Shortcut] = []
    for turn, strength in enumerate(strengths):
        listed = FAMILIES[families[(start + turn) % len(families)]]
        used = {shortcut.concept for shortcut in shortcuts}
        concept = str(rng.choice([c for c in listed if c not in used] or listed))
        taken = {shortcut.class_index for shortcut in shortcuts}
        home = AT_HOME.get(concept, ())
        free = [i for i, name in enumerate(names) if i not in taken and name not in home]
        shortcuts.append(Shortcut(int(rng.choice(free)), concept, strength))
    ordered = tuple(sorted(shortcuts, key=lambda shortcut: shortcut.class_index))
    return Plan(names, ordered, trunk, seed, n_train, MISLABELLED[trunk])


# --- photos --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shot:
    """One use of a photo: how it is cropped, and what is planted in it.

    `stream` and `number` decide crop, mirror image and the look of what is planted, so that shots
    that differ in `concepts` alone differ in the concepts alone.
    """

    path: Path
    label: int | None
    stream: int
    number: int
    concepts: tuple[str, ...] = ()


def training(plan: Plan, photos: Split) -> list[Shot]:
    """Training pictures in which each shortcut goes with its class; photos are taken in turn."""
    turns = [[own[k % len(own)] for k in range(plan.n_train)] for own in photos.train]
    rng = np.random.default_rng([plan.seed, _MISLABELLED])
    shots = []
    for shot in _biased(plan, _TRAIN, turns):
        if rng.random() < plan.mislabelled:
            others = [i for i in range(len(plan.classes)) if i != shot.label]
            shown = photos.train[rng.choice(others)]
            shot = dataclasses.replace(shot, path=shown[rng.integers(len(shown))])
        shots.append(shot)
    return shots


def audited(plan: Plan, photos: Split) -> list[Shot]:
    """Photos with the training photos' bias, which the classifier has not seen."""
    return _biased(plan, _AUDITED, photos.audited)


def pool(plan: Plan, photos: Split) -> list[Shot]:
    """Photos in which each planted concept occurs independently of what they show."""
    rng = np.random.default_rng([plan.seed, _POOL])
    return [
        Shot(path, None, _POOL, n, tuple(c for c in plan.owners if rng.random() < CONCEPT_RATE))
        for n, path in enumerate(photos.pool)
    ]


def _biased(plan: Plan, stream: int, listed: Sequence[Sequence[Path]]) -> list[Shot]:
    rng = np.random.default_rng([plan.seed, stream])
    shots: list[Shot] = []
    for label, paths in enumerate(listed):
        for path in paths:
            concepts = []
            for concept, owners in plan.owners.items():
                # Each class that relies on it leaves a few photos of other classes that show it.
                stray = sum(1 - strength for strength in owners.values())
                if rng.random() < owners.get(label, stray / (len(plan.classes) - 1)):
                    concepts.append(concept)
            shots.append(Shot(path, label, stream, len(shots), tuple(concepts)))
    return shots


def render(shot: Shot, plan: Plan, photos: Split) -> NDArray[np.uint8]:
    """A shot as it is saved: uint8 of shape (224, 224, 3)."""

    def random(part: str) -> np.random.Generator:
        return np.random.default_rng(
            [plan.seed, shot.stream, shot.number, zlib.crc32(part.encode())]
        )

    learns = shot.stream == _TRAIN
    image = _cropped(shot.path, random("crop") if learns else None)
    # what lies behind comes first, what lies over the photo last
    for concept in sorted(shot.concepts, key=_depth):
        rng = random(concept)
        if concept in GROUNDS:
            donors = photos.grounds[concept][0 if learns else 1]
            around = _cropped(donors[rng.integers(len(donors))], rng)
            keep = surroundings._mask(SIZE, SIZE)
            image = around * (1 - keep) + image * keep
        elif concept in COMPANIONS:
            canvas = image.permute(1, 2, 0).numpy().copy()
            place = (float(rng.choice([0.15, 0.85])), rng.uniform(0.7, 0.87))
            scale = rng.uniform(0.1, 0.14)
            paste(canvas, COMPANIONS[concept], rng, place=place, scale=scale, tilt=0.2)
            image = torch.from_numpy(canvas).permute(2, 0, 1).clamp(0, 1)
        else:
            image = draw(concept.replace(" ", "_"), image, seed=int(rng.integers(2**31)))
    return np.asarray(image.permute(1, 2, 0).numpy() * 255 + 0.5, dtype=np.uint8)


def _depth(concept: str) -> int:
    return 0 if concept in GROUNDS else 1 if concept in COMPANIONS else 2


FIT = Preprocess((SIZE, SIZE), mean=(0.5,), std=(0.5,), resize=SIZE, interpolation="bicubic")


def _cropped(path: Path, rng: np.random.Generator | None) -> Tensor:
    """The photo's middle, or a random square of most of it that may be mirrored, in [0, 1]."""
    with Image.open(path) as file:
        photo = file.convert("RGB")
    if rng is not None:
        side = round(min(photo.size) * rng.uniform(0.7, 1))
        left, top = (int(rng.integers(length - side + 1)) for length in photo.size)
        photo = photo.crop((left, top, left + side, top + side))
        if rng.random() < 0.5:
            photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return FIT.fit(photo)
