"""The stage of experiments: photos that are edited, and what the model makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.core import seeds
from auditor.evidence.insertion import Insertions
from auditor.evidence.surroundings import DONORS, Surroundings, choose_recipients
from auditor.images.image_set import ImageSet
from auditor.models.activations import Activations
from auditor.pipeline.engine import Engine, Task, joined
from auditor.pipeline.inputs import Inputs
from auditor.pipeline.observing import Observed, sample
from auditor.pipeline.tasks import DrawConcept, SeeDrawing, Transplant

__all__ = [
    "Drawn",
    "Edits",
    "Transplanted",
    "drawing_tasks",
    "experiment",
    "feature_scale",
    "transplant_task",
]

INSERTION_PHOTOS = 64  # photos that each drawn concept is put on


@dataclass(frozen=True)
class Drawn:
    """Drawn concepts on photos of the pool.

    Attributes:
        photos: those that were drawn on.
        labels: int array of shape (n,), their classes; the model's own prediction where no label is
            known.
        insertions: by drawing, what it does to the model's answers.
        changes: by drawing, what it changes in the probe's row, float arrays of shape (e,).
    """

    photos: ImageSet
    labels: NDArray[np.int64]
    insertions: Mapping[str, Insertions]
    changes: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Transplanted:
    """Surroundings of photos of the pool around the middles of audited photos.

    Attributes:
        around: what they do to the model's answers.
        donors: int array of shape (n,), positions in the pool of the photos that gave theirs.
        middles: int array of shape (r,), positions of the audited photos that kept theirs.
    """

    around: Surroundings
    donors: NDArray[np.int64]
    middles: NDArray[np.int64]


@dataclass(frozen=True)
class Edits:
    """All experiments on photos."""

    drawn: Drawn
    transplanted: Transplanted


def experiment(inputs: Inputs, observed: Observed, engine: Engine) -> Edits:
    """Draw every drawn concept on photos, and exchange surroundings."""
    return Edits(_drawn(inputs, observed, engine), _transplanted(inputs, engine))


def _drawn(inputs: Inputs, observed: Observed, engine: Engine) -> Drawn:
    pool, pooled = inputs.pool, observed.pool.activations
    rows, names = _drawn_on(inputs), _drawings(inputs)
    tasks = [task for pair in drawing_tasks(inputs, pooled) for task in pair]
    found = list(engine.map("drawings", tasks))
    effects, changes = found[::2], found[1::2]
    return Drawn(
        photos=pool.subset(rows),
        labels=np.array(pool.labels or pooled.logits.argmax(1))[list(rows)],
        insertions={n: Insertions(**kept) for n, kept in zip(names, effects, strict=True)},
        changes={n: kept["change"] for n, kept in zip(names, changes, strict=True)},
    )


def drawing_tasks(inputs: Inputs, pooled: Activations) -> list[tuple[Task, Task]]:
    """Each drawn concept before the model and before the probe.

    A worker that computes both tasks of a pair, one after the other, draws the concept once.
    """
    rows, scale = _drawn_on(inputs), feature_scale(pooled.features)
    return [(DrawConcept(name, rows, scale), SeeDrawing(name, rows)) for name in _drawings(inputs)]


def _drawings(inputs: Inputs) -> list[str]:
    return [c.drawing for c in inputs.bank.concepts if c.drawing is not None]


def _drawn_on(inputs: Inputs) -> tuple[int, ...]:
    """Positions in the pool of the photos that are drawn on."""
    rng = seeds.stream(inputs.config.seed, "drawn on")
    return tuple(sample(len(inputs.pool), INSERTION_PHOTOS, rng).tolist())


def _transplanted(inputs: Inputs, engine: Engine) -> Transplanted:
    task = transplant_task(inputs)
    found = joined(list(engine.map("surroundings", [task])))
    return Transplanted(Surroundings(**found), np.array(task.donors), np.array(task.middles))


def transplant_task(inputs: Inputs) -> Transplant:
    """The surroundings of some photos of the pool around the middles of some audited photos."""
    seed, labels = inputs.config.seed, inputs.labels
    middles = choose_recipients(labels, seeds.stream(seed, "middles"))
    donors = sample(len(inputs.pool), DONORS, seeds.stream(seed, "donors"))
    return Transplant(
        tuple(middles.tolist()), tuple(labels[middles].tolist()), tuple(donors.tolist()),
        inputs.classes,
    )  # fmt: skip


def feature_scale(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """By how much each feature varies over photos, of shape (d,), never 0."""
    return np.asarray(np.maximum(features.std(0), 1e-6))
