"""What prototypes are held to in each mode: gathered from photos, or made where there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.core.storage import digest_value
from auditor.errors import ConfigError
from auditor.images.image_set import ImageSet
from auditor.models.activations import Activations, Layers, collect
from auditor.models.loading import Classifier
from auditor.prototypes.collages import collages
from auditor.prototypes.expectations import Expectation, expected, with_batch_norm
from auditor.prototypes.generation import Mode
from auditor.prototypes.objectives import sorted_layers

__all__ = ["LEAST_PHOTOS", "Material", "gather", "known_labels", "least_left"]

LEAST_PHOTOS = 32  # with fewer generic photos the mode `auto` takes collages
BACKGROUNDS = 256  # photos that patches are put on
COLLAGES = 256  # that stand in for photos
REFERENCES = 16  # photos of a class that the mode `reference` may copy: at most half of them


@dataclass(frozen=True)
class Material:
    """Inputs of `prototypes.generate`, with what a report says of them.

    Attributes:
        expectation: what the early layers are held to, or `None`.
        photos: what patches are put on, or `None`.
        references: photos of each class that are copied; empty but for the mode `reference`.
        used: positions of the audited photos of a class that its own images were held to or put
            on: they are held out of the divergence.
        layers: names of the layers that the optimisation held to anything, in path order.
        digest: of all of these.
        words: what was used, in a sentence.
    """

    expectation: Expectation | None
    photos: Tensor | None
    references: Mapping[int, Tensor]
    used: NDArray[np.int64]
    layers: tuple[str, ...]
    digest: str
    words: str


def known_labels(images: ImageSet, pool: ImageSet, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Classes of photos of the pool, for those that are audited photos too; else -1."""
    known = dict(zip(images.identities, images.labels or (), strict=True))
    return np.array([known.get(pool.identities[int(i)], -1) for i in rows], np.int64)


def least_left(labels: NDArray[np.int64], classes: Sequence[int]) -> int:
    """Photos that are left for the class that has fewest, its own left out."""
    return min(int((labels != c).sum()) for c in classes)


def gather(
    mode: Mode,
    classifier: Classifier,
    layers: Layers,
    classes: Sequence[int],
    *,
    images: ImageSet,
    pool: ImageSet,
    pooled: Activations,
    generic: NDArray[np.bool_],
    batch: int,
    seed: int,
) -> Material:
    """The material of a mode.

    Args:
        mode: of the prototypes.
        classifier, layers: the audited model.
        classes: the audited classes.
        images: the audited photos, with their classes.
        pool: any photos; where one of them is an audited photo, its class is known.
        pooled: activations of the pool, with the path of the `generic` photos.
        generic: bool array of shape (pool,).
        batch: images per forward pass.
        seed: of the collages.
    """
    key: list[Any] = [mode, list(classes), seed]
    none = np.zeros(0, np.int64)
    if mode == "paper":
        words = "the model alone"
        return Material(None, None, {}, none, (), digest_value(key), words)
    if mode == "patch":
        rows = np.flatnonzero(generic)
        free = rows[~np.isin(known_labels(images, pool, rows), classes)]
        few = pool.subset((free if len(free) else rows)[:BACKGROUNDS].tolist())
        seen_too = np.flatnonzero(np.isin(images.identities, few.identities))
        photos = torch.cat(list(few.batches(classifier.preprocess.fit, size=batch)))
        words = f"the model, and {len(few)} photos of the pool that patches were put on"
        return Material(None, photos, {}, seen_too, (), digest_value([*key, few.digest]), words)
    if mode == "data-free":
        drawn = collages(COLLAGES, *classifier.preprocess.size, seed=seed)
        seen = collect(classifier, layers, torch.split(drawn, batch))
        expectation = expected(seen, layers, classes)
        with_norm = with_batch_norm(classifier, layers, expectation, drawn)
        norm = with_norm is not expectation
        words = f"{len(drawn)} collages of seven sample photos and drawn scenes" + (
            " and what batch normalisation recorded in training" if norm else ""
        )
        digest = digest_value([*key, len(drawn)])
        return Material(with_norm, None, {}, none, tuple(with_norm.layers), digest, words)
    places = np.flatnonzero(generic)
    photos_seen = Activations(
        pooled.path, pooled.spread, pooled.pixels, pooled.features[places], pooled.logits[places]
    )
    labels = known_labels(images, pool, places)
    left = least_left(labels, classes)
    if left < LEAST_PHOTOS:
        raise ConfigError(
            f"prototypes.mode = {mode!r} needs {LEAST_PHOTOS} photos that do not show the class, "
            f"and one class has {left}; give more photos with --pool, or choose 'data-free'."
        )
    expectation = expected(photos_seen, layers, classes, labels=labels)
    digest = digest_value([*key, pool.subset(places.tolist()).digest, labels.tolist()])
    words = f"{len(places)} photos of the pool, a class's own left out of its fit where known"
    if mode == "natural":
        return Material(expectation, None, {}, none, tuple(expectation.layers), digest, words)
    owners = np.array(images.labels or ())
    copied = {c: np.flatnonzero(owners == c) for c in classes}
    copied = {c: rows[: min(REFERENCES, len(rows) // 2)] for c, rows in copied.items()}
    without = [classifier.class_names[c] for c, rows in copied.items() if not len(rows)]
    if without:
        raise ConfigError(
            f"prototypes.mode = 'reference' copies photos of each class, and {len(without)} have "
            f"fewer than two ({', '.join(without[:5])}); choose 'natural', or other --classes."
        )
    references = {
        c: torch.cat(
            list(images.subset(rows.tolist()).batches(classifier.preprocess.fit, size=batch))
        )
        for c, rows in copied.items()
    }
    rows = np.concatenate([*copied.values(), none])
    copies = {images.digests[int(i)] for i in rows}  # a photo listed twice is held out twice
    used = np.flatnonzero([digest in copies for digest in images.digests])
    held = {*expectation.layers, *sorted_layers(classifier, layers)}
    digest = digest_value([digest, images.subset(used.tolist()).digest])
    return Material(
        expectation, None, references, used, tuple(n for n in layers.path if n in held), digest,
        f"{words}; and {len(used)} photos of the audited classes, whose activations were copied",
    )  # fmt: skip
