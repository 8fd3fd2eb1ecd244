"""The tasks of an audit: observations of photos, prototypes and experiments, in parts.

Each is computed once and kept under all that it depends on, so that a run that was killed continues
where it stopped, and one with other settings computes again only what they decide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.core.storage import Arrays
from auditor.evidence import insertion
from auditor.evidence.surroundings import transplant
from auditor.images.image_set import ImageSet
from auditor.models import hardware
from auditor.models.activations import Activations, Layers, collect
from auditor.pipeline.engine import Shapes, Task, Worker
from auditor.pipeline.progress import Step
from auditor.prototypes import generation, isolation
from auditor.prototypes.constraints import Constraints
from auditor.prototypes.generation import Recipe

__all__ = [
    "DrawConcept",
    "EncodePhotos",
    "FindRegions",
    "GeneratePrototypes",
    "ObservePhotos",
    "SeeDrawing",
    "Transplant",
    "activations_of",
    "chunks",
]

CHUNK_PHOTOS = 2048  # photos that are observed, and kept, together
SEEN_PHOTOS = 32  # photos that the probe is shown with a drawing
WHOLE = ("pixels", "features", "logits")  # what is kept beside the layers


def chunks(n: int, batch: int) -> Iterator[range]:
    """Positions of n photos in parts that are kept together; one empty part of no photos."""
    size = max(1, CHUNK_PHOTOS // batch) * batch
    for start in range(0, max(1, n), size):
        yield range(start, min(start + size, n))


@dataclass(frozen=True)
class ObservePhotos:
    """Activations of some photos of a source.

    Attributes:
        source: name of the photos.
        rows: positions of the photos.
        on_path: positions, in `rows`, of those whose activations in every layer are kept.
    """

    source: str
    rows: range
    on_path: tuple[int, ...]
    stage: ClassVar[str] = "photos"
    version: ClassVar[int] = 1
    after: ClassVar[tuple[type[Task], ...]] = ()

    @property
    def size(self) -> int:
        """Photos."""
        return len(self.rows)

    def key(self, worker: Worker) -> list[Any]:
        """The model and the photos."""
        return [*worker.model_key, self._photos(worker).digest, list(self.on_path)]

    def shapes(self, worker: Worker) -> Shapes:
        """A row for each photo, and one for each on the path."""
        n, m = len(self.rows), len(self.on_path)
        names = [f"{part}/{name}" for part in ("path", "spread") for name in worker.layers.path]
        lengths = {"features": n, "logits": n, "pixels": m, **dict.fromkeys(names, m)}
        return Shapes({name: ("f", length) for name, length in lengths.items()})

    def compute(self, worker: Worker, step: Step) -> Mapping[str, Any]:
        """Run the photos through the model."""
        photos = self._photos(worker)
        kept = np.isin(np.arange(len(photos)), self.on_path)
        seen = collect(
            worker.classifier,
            worker.layers,
            photos.batches(worker.classifier.preprocess.fit, size=worker.batch),
            names=photos.ids,
            on_path=kept,
            on_batch=step,
        )
        return {
            **{name: getattr(seen, name) for name in WHOLE},
            **{f"path/{name}": values for name, values in seen.path.items()},
            **{f"spread/{name}": values for name, values in seen.spread.items()},
        }

    def _photos(self, worker: Worker) -> ImageSet:
        return worker.photos[self.source].subset(self.rows)


def activations_of(arrays: Arrays, layers: Layers) -> Activations:
    """What `ObservePhotos` gave."""

    def part(prefix: str) -> dict[str, NDArray[np.float32]]:
        return {name: arrays[f"{prefix}/{name}"] for name in layers.path}

    return Activations(part("path"), part("spread"), *(arrays[name] for name in WHOLE))


@dataclass(frozen=True)
class EncodePhotos:
    """The probe's unit rows of some photos of a source, of shape (n, e)."""

    source: str
    rows: range
    stage: ClassVar[str] = "probed"
    version: ClassVar[int] = 1
    after: ClassVar[tuple[type[Task], ...]] = ()

    @property
    def size(self) -> int:
        """Photos."""
        return len(self.rows)

    def key(self, worker: Worker) -> list[Any]:
        """The probe and the photos."""
        return [worker.probe.digest, worker.photos[self.source].subset(self.rows).digest]

    def shapes(self, worker: Worker) -> Shapes:
        """A row for each photo."""
        return Shapes({"rows": ("f", len(self.rows))})

    def compute(self, worker: Worker, step: Step) -> Mapping[str, Any]:
        """Show the photos to the probe."""
        rows: list[NDArray[np.float32]] = []
        photos = worker.photos[self.source].subset(self.rows)
        for batch in photos.batches(worker.probe.fit, size=worker.batch):
            rows.append(worker.probe.encode_images(batch).cpu().numpy())
            step(sum(map(len, rows)))
        return {"rows": np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)}


@dataclass(frozen=True)
class GeneratePrototypes:
    """Prototypes of some pairs of class and seed.

    Attributes:
        items: the pairs.
        recipe: the mode and its settings.
        constraints: what images are held to.
        batch: images at once; by default what memory serves best.
    """

    items: tuple[tuple[int, int], ...]
    recipe: Recipe
    constraints: Constraints
    batch: int | None
    stage: ClassVar[str] = "prototypes"
    version: ClassVar[int] = 1
    after: ClassVar[tuple[type[Task], ...]] = (ObservePhotos,)

    @property
    def size(self) -> int:
        """Optimisation steps of all images."""
        return len(self.items) * self.recipe.steps

    def key(self, worker: Worker) -> list[Any]:
        """The model, the recipe and what it is held to."""
        items = [list(item) for item in self.items]
        return [*worker.model_key, self.constraints.digest, items, vars(self.recipe)]

    def shapes(self, worker: Worker) -> Shapes:
        """One of each for every pair."""
        n = len(self.items)
        return Shapes(
            {
                "images": ("u", n, *worker.classifier.preprocess.size, 3),
                "probabilities": ("f", n),
                "traces": ("f", n),
                "steps": ("i", n),
            }
        )

    def compute(self, worker: Worker, step: Step) -> Mapping[str, Any]:
        """Optimise the images."""
        held = self.constraints
        copied = {c: worker.inputs("images", rows) for c, rows in held.copied.items()}
        made = generation.generate(
            worker.classifier,
            worker.layers,
            self.items,
            self.recipe,
            expectation=held.expectation,
            photos=worker.inputs("pool", held.grounds) if held.grounds else None,
            references=copied,
            batch=self.batch,
            devices=hardware.peers(worker.device),
            on_step=step,
        )
        return {
            "images": made.images,
            "probabilities": made.probabilities,
            "traces": made.traces,
            "steps": np.array(made.steps),
        }


@dataclass(frozen=True)
class FindRegions:
    """The regions of some prototypes that carry their class.

    Attributes:
        images: uint8 array of shape (n, H, W, 3).
        classes: the class of each.
    """

    images: NDArray[np.uint8]
    classes: tuple[int, ...]
    stage: ClassVar[str] = "regions"
    version: ClassVar[int] = 1
    after: ClassVar[tuple[type[Task], ...]] = (GeneratePrototypes,)

    @property
    def size(self) -> int:
        """Prototypes."""
        return len(self.classes)

    def key(self, worker: Worker) -> list[Any]:
        """The model and the prototypes."""
        digest = hashlib.sha256(self.images.tobytes()).hexdigest()
        return [*worker.model_key, digest, list(self.classes)]

    def shapes(self, worker: Worker) -> Shapes:
        """One of each for every prototype."""
        n = len(self.classes)
        numbers = dict.fromkeys(("areas", "probabilities", "controls"), ("f", n))
        return Shapes({"masks": ("b", n, *self.images.shape[1:3]), **numbers})

    def compute(self, worker: Worker, step: Step) -> Mapping[str, Any]:
        """Isolate the regions."""
        return vars(isolation.isolate(worker.classifier, self.images, self.classes))


@dataclass(frozen=True)
class DrawConcept:
    """One drawn concept, and its control, on photos of the pool.

    Attributes:
        name: of the drawing.
        rows: positions of the photos in the pool.
        scale: float array of shape (d,) that features are divided by.
    """

    name: str
    rows: tuple[int, ...]
    scale: NDArray[np.float32]
    stage: ClassVar[str] = "insertions"
    version: ClassVar[int] = 1
    after: ClassVar[tuple[type[Task], ...]] = (ObservePhotos,)
    size: ClassVar[int] = 1

    def key(self, worker: Worker) -> list[Any]:
        """The model, the drawing and the photos."""
        digest = worker.photos["pool"].subset(self.rows).digest
        return [*worker.model_key, digest, self.name, worker.seed, float(self.scale.sum())]

    def shapes(self, worker: Worker) -> Shapes:
        """A row for each photo: plain, with the drawing and with the control."""
        n = len(self.rows)
        return Shapes({"features": ("f", n), "log_probabilities": ("f", 3, n)})

    def compute(self, worker: Worker, step: Step) -> Mapping[str, Any]:
        """Draw it, and run the photos through the model."""
        done = insertion.insert(
            worker.classifier,
            worker.layers,
            self.name,
            worker.inputs("pool", self.rows),
            seed=worker.seed,
            batch=worker.batch,
            scale=self.scale,
        )
        return vars(done)


@dataclass(frozen=True)
class SeeDrawing:
    """What one drawn concept changes in the probe's row of a photo, on average, of shape (e,).

    Attributes:
        name: of the drawing.
        rows: positions of the photos in the pool, of which the first are shown.
    """

    name: str
    rows: tuple[int, ...]
    stage: ClassVar[str] = "changes"
    version: ClassVar[int] = 1
    after: ClassVar[tuple[type[Task], ...]] = ()
    size: ClassVar[int] = 1

    def key(self, worker: Worker) -> list[Any]:
        """The probe, the drawing and the photos."""
        digest = worker.photos["pool"].subset(self.rows[:SEEN_PHOTOS]).digest
        return [worker.probe.digest, worker.input_key, digest, self.name, worker.seed]

    def shapes(self, worker: Worker) -> Shapes:
        """One row."""
        return Shapes({"change": ("f",)})

    def compute(self, worker: Worker, step: Step) -> Mapping[str, Any]:
        """Show the photos to the probe with the drawing and without it."""
        rows = self.rows[:SEEN_PHOTOS]
        photos = worker.inputs("pool", rows)
        plain = worker.remembered("encoded", rows, lambda: _encoded(worker, photos))
        edited = insertion.drawn(self.name, photos, seed=worker.seed)
        return {"change": (_encoded(worker, edited) - plain).numpy()}


def _encoded(worker: Worker, images: Tensor) -> Tensor:
    """The probe's mean row of images."""
    parts = torch.split(images, worker.batch)
    return torch.cat([worker.probe.encode_images(part).cpu() for part in parts]).mean(0)


@dataclass(frozen=True)
class Transplant:
    """The surroundings of photos of the pool around the middles of audited photos.

    Attributes:
        middles: positions of the photos whose middles stay, in the audited photos.
        labels: their classes.
        donors: positions of the photos whose surroundings are used, in the pool.
        classes: the audited classes.
    """

    middles: tuple[int, ...]
    labels: tuple[int, ...]
    donors: tuple[int, ...]
    classes: tuple[int, ...]
    stage: ClassVar[str] = "surroundings"
    version: ClassVar[int] = 1
    after: ClassVar[tuple[type[Task], ...]] = ()

    @property
    def size(self) -> int:
        """Photos of the pool."""
        return len(self.donors)

    def key(self, worker: Worker) -> list[Any]:
        """The model and the photos."""
        middles, donors = self._photos(worker)
        labels, classes = list(self.labels), list(self.classes)
        return [*worker.model_key, middles.digest, donors.digest, labels, classes]

    def shapes(self, worker: Worker) -> Shapes:
        """A row for each donor and a column for each class."""
        return Shapes({"log_odds": ("f", len(self.donors), len(self.classes))})

    def compute(self, worker: Worker, step: Step) -> Mapping[str, Any]:
        """Put them together, and run them through the model."""
        done = transplant(
            worker.classifier,
            worker.inputs("images", self.middles),
            np.array(self.labels),
            self._photos(worker)[1],
            self.classes,
            batch=worker.batch,
        )
        return vars(done)

    def _photos(self, worker: Worker) -> tuple[ImageSet, ImageSet]:
        photos = worker.photos
        return photos["images"].subset(self.middles), photos["pool"].subset(self.donors)
