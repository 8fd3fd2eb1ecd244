"""What prototypes are held to in each mode: gathered from photos, or made where there are none."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.core.storage import digest_value
from auditor.errors import ConfigError
from auditor.images.image_set import ImageSet
from auditor.models.activations import Activations, collect
from auditor.models.layers import Layers
from auditor.models.loading import Classifier
from auditor.prototypes.collages import collages
from auditor.prototypes.expectations import Expectation, expected, with_batch_norm
from auditor.prototypes.generation import Mode
from auditor.prototypes.objectives import sorted_layers
from auditor.record import notes

__all__ = ["LEAST_PHOTOS", "Constraints", "gather", "known_labels", "least_left"]

LEAST_PHOTOS = 32  # with fewer generic photos the mode `auto` takes collages
BACKGROUNDS = 256  # photos that patches are put on
COLLAGES = 256  # that stand in for photos
REFERENCES = 16  # photos of a class that the mode `reference` may copy: at most half of them
NOTHING = np.zeros(0, np.int64)
ALONE = notes.Material(code="model_alone")


@dataclass(frozen=True)
class Constraints:
    """What prototypes are held to, with what a report says of it.

    Attributes:
        expectation: what the early layers are held to, or `None`.
        grounds: positions in the pool of the photos that patches are put on.
        copied: positions, among the audited photos, of those of each class whose activations are
            copied; empty but for the mode `reference`.
        used: positions of the audited photos of a class that its own images were held to or put
            on: they are held out of the divergence.
        layers: names of the layers that the optimisation held to anything, in path order.
        digest: of all of these.
        note: what was used, for the record.
    """

    expectation: Expectation | None
    grounds: tuple[int, ...]
    copied: Mapping[int, tuple[int, ...]]
    used: NDArray[np.int64]
    layers: tuple[str, ...]
    digest: str
    note: notes.Material

    def of(self, classes: Collection[int]) -> Constraints:
        """What a few of the classes are held to, which is small enough to be sent elsewhere."""
        expectation = self.expectation
        return dataclasses.replace(
            self,
            expectation=None if expectation is None else expectation.of(classes),
            copied={c: rows for c, rows in self.copied.items() if c in classes},
        )


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
) -> Constraints:
    """What prototypes of a mode are held to.

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
    sources = _Sources(classifier, layers, classes, images, pool, pooled, generic, batch)
    key: list[Any] = [mode, list(classes), seed]
    if mode == "paper":
        return Constraints(None, (), {}, NOTHING, (), digest_value(key), ALONE)
    if mode == "patch":
        return sources.patch(key)
    if mode == "data-free":
        return sources.data_free(key, seed)
    natural = sources.natural(key, mode)
    return natural if mode == "natural" else sources.reference(natural)


@dataclass(frozen=True)
class _Sources:
    """The model and its photos, from which the material of each mode is made (see `gather`).

    `key`, where it is asked for, says what else decides the material: it goes into the digest.
    """

    classifier: Classifier
    layers: Layers
    classes: Sequence[int]
    images: ImageSet
    pool: ImageSet
    pooled: Activations
    generic: NDArray[np.bool_]
    batch: int

    def patch(self, key: list[Any]) -> Constraints:
        """Photos that patches are put on: those of no audited class, where there are any."""
        rows = np.flatnonzero(self.generic)
        free = rows[~np.isin(known_labels(self.images, self.pool, rows), self.classes)]
        grounds = tuple((free if len(free) else rows)[:BACKGROUNDS].tolist())
        few = self.pool.subset(grounds)
        used = np.flatnonzero(np.isin(self.images.identities, few.identities))
        note = notes.Material(code="patched_photos", params={"photos": len(few)})
        digest = digest_value([*key, few.digest])
        return Constraints(None, grounds, {}, used, (), digest, note)

    def data_free(self, key: list[Any], seed: int) -> Constraints:
        """What collages, and batch normalisation where the model has it, lead to expect."""
        drawn = collages(COLLAGES, *self.classifier.preprocess.size, seed=seed)
        seen = collect(self.classifier, self.layers, torch.split(drawn, self.batch))
        of_collages = expected(seen, self.layers, self.classes)
        expectation = with_batch_norm(self.classifier, self.layers, of_collages, drawn)
        note = notes.Material(
            code="collages",
            params={"collages": len(drawn), "batch_norm": expectation is not of_collages},
        )
        digest = digest_value([*key, len(drawn)])
        return Constraints(expectation, (), {}, NOTHING, tuple(expectation.layers), digest, note)

    def natural(self, key: list[Any], mode: Mode) -> Constraints:
        """What generic photos of the pool lead to expect of each class.

        Raises:
            ConfigError: too few of them do not show a class.
        """
        rows = np.flatnonzero(self.generic)
        pooled = self.pooled
        seen = Activations(
            pooled.path, pooled.spread, pooled.pixels, pooled.features[rows], pooled.logits[rows]
        )
        labels = known_labels(self.images, self.pool, rows)
        left = least_left(labels, self.classes)
        if left < LEAST_PHOTOS:
            raise ConfigError(
                f"prototypes.mode = {mode!r} needs {LEAST_PHOTOS} photos that do not show the "
                f"class, and one class has {left}; give more photos with --pool, or choose "
                "'data-free'."
            )
        expectation = expected(seen, self.layers, self.classes, labels=labels)
        digest = digest_value([*key, self.pool.subset(rows.tolist()).digest, labels.tolist()])
        note = notes.Material(code="pool_photos", params={"photos": len(rows)})
        return Constraints(expectation, (), {}, NOTHING, tuple(expectation.layers), digest, note)

    def reference(self, natural: Constraints) -> Constraints:
        """What `natural` gives, and audited photos of each class that are copied.

        Raises:
            ConfigError: a class has fewer than two photos.
        """
        owners = np.array(self.images.labels or ())
        copied = {c: np.flatnonzero(owners == c) for c in self.classes}
        copied = {c: rows[: min(REFERENCES, len(rows) // 2)] for c, rows in copied.items()}
        without = [self.classifier.class_names[c] for c, rows in copied.items() if not len(rows)]
        if without:
            raise ConfigError(
                "prototypes.mode = 'reference' copies photos of each class, and "
                f"{len(without)} have fewer than two ({', '.join(without[:5])}); choose 'natural', "
                "or other --classes."
            )
        rows = np.concatenate([*copied.values(), NOTHING])
        digests = self.images.digests
        copies = {digests[int(i)] for i in rows}  # a photo may be listed twice: both are held out
        used = np.flatnonzero([digest in copies for digest in digests])
        held = {*natural.layers, *sorted_layers(self.classifier, self.layers)}
        return Constraints(
            natural.expectation, (), {c: tuple(rows.tolist()) for c, rows in copied.items()}, used,
            tuple(name for name in self.layers.path if name in held),
            digest_value([natural.digest, self.images.subset(used.tolist()).digest]),
            notes.Material(
                code="pool_and_copied_photos",
                params={"photos": natural.note.count("photos"), "copied": len(used)},
            ),
        )  # fmt: skip
