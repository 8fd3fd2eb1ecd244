"""The tasks of an audit: everything slow, divided into parts whose results are stored.

An engine (`auditor.pipeline.engine`) stores each result under the task's key. So a run that was
killed continues where it stopped, and a run with other settings computes again only what these
settings change.

In shapes, n counts photos or images of size (H, W), d the model's features, K its classes, and e
the numbers in a vector of the probe.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.evidence import insertion
from auditor.evidence.insertion import Insertions
from auditor.evidence.surroundings import transplant
from auditor.images.image_set import ImageSet
from auditor.models.activations import collect
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
    "chunks",
]

CHUNK_PHOTOS = 256  # photos in one task of observation: few, so that all workers have some
SEEN_PHOTOS = 32  # photos that a drawing is put on to measure how the probe's vectors change


def chunks(n: int, batch: int) -> Iterator[range]:
    """Divide the positions of n photos into ranges, one for each task; if n is 0, one empty one."""
    size = max(1, CHUNK_PHOTOS // batch) * batch
    for start in range(0, max(1, n), size):
        yield range(start, min(start + size, n))


@dataclass(frozen=True)
class ObservePhotos:
    """Run some photos of a source through the model.

    The result has the arrays of `auditor.models.activations.Activations`, of all n photos and of
    the m photos of `on_path`.

    Attributes:
        source: name of the source of photos.
        rows: positions of the n photos in the source.
        on_path: positions, within `rows`, of the photos whose activations are kept in every layer.
    """

    source: str
    rows: range
    on_path: tuple[int, ...]
    stage: ClassVar[str] = "photos"
    version: ClassVar[int] = 2
    after: ClassVar[tuple[type[Task], ...]] = ()

    @property
    def size(self) -> int:
        """Number of photos."""
        return len(self.rows)

    def key(self, worker: Worker) -> list[Any]:
        """It depends on the model and the photos."""
        return [*worker.model_key, self._photos(worker).digest, list(self.on_path)]

    def shapes(self, worker: Worker) -> Shapes:
        """Arrays with a row for each of the n photos, or for each of the m in `on_path`."""
        n, m = len(self.rows), len(self.on_path)
        names = [f"{part}/{name}" for part in ("path", "spread") for name in worker.layers.path]
        lengths = {"features": n, "logits": n, "pixels": m, **dict.fromkeys(names, m)}
        return Shapes({name: ("f", length) for name, length in lengths.items()})

    def compute(self, worker: Worker, step: Step) -> Mapping[str, Any]:
        """Run the photos through the model."""
        photos = self._photos(worker)
        kept = np.isin(np.arange(len(photos)), self.on_path)
        batches = photos.batches(worker.classifier.preprocess.fit, size=worker.batch)
        seen = collect(
            worker.classifier, worker.layers, batches,
            names=photos.ids, on_path=kept, on_batch=step,
        )  # fmt: skip
        return seen.arrays()

    def _photos(self, worker: Worker) -> ImageSet:
        return worker.photos[self.source].subset(self.rows)


@dataclass(frozen=True)
class EncodePhotos:
    """The probe's unit vectors of the photos at positions `rows` of a source, of shape (n, e)."""

    source: str
    rows: range
    stage: ClassVar[str] = "probed"
    version: ClassVar[int] = 1
    after: ClassVar[tuple[type[Task], ...]] = ()

    @property
    def size(self) -> int:
        """Number of photos."""
        return len(self.rows)

    def key(self, worker: Worker) -> list[Any]:
        """It depends on the probe and the photos."""
        return [*worker.probe_key, worker.photos[self.source].subset(self.rows).digest]

    def shapes(self, worker: Worker) -> Shapes:
        """A vector for each photo."""
        return Shapes({"rows": ("f", len(self.rows))})

    def compute(self, worker: Worker, step: Step) -> Mapping[str, Any]:
        """Encode the photos, batch by batch."""
        rows: list[NDArray[np.float32]] = []
        photos = worker.photos[self.source].subset(self.rows)
        for batch in photos.batches(worker.probe.fit, size=worker.batch):
            rows.append(worker.probe.encode_images(batch).cpu().numpy())
            step(sum(map(len, rows)))
        return {"rows": np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)}


@dataclass(frozen=True)
class GeneratePrototypes:
    """Generate the prototypes of some pairs of class and seed.

    The result has the images and numbers of `auditor.prototypes.generation.Prototypes`.

    Attributes:
        items: the n pairs (class index, seed).
        recipe: the mode and its settings.
        constraints: what the images are held to.
        batch: images that are optimised at once; `None` takes a number that suits the memory.
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
        """Number of optimisation steps of all images together, at most."""
        return len(self.items) * self.recipe.steps

    def key(self, worker: Worker) -> list[Any]:
        """It depends on the model, the recipe, the constraints and the pairs."""
        items = [list(item) for item in self.items]
        return [*worker.model_key, self.constraints.digest, items, vars(self.recipe)]

    def shapes(self, worker: Worker) -> Shapes:
        """Arrays with a row for each pair."""
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
    """Find the region of each prototype that makes the model see its class.

    The result has the arrays of `auditor.prototypes.isolation.Regions`.

    Attributes:
        images: the prototypes, uint8 array of shape (n, H, W, 3).
        classes: the class index of each.
    """

    images: NDArray[np.uint8]
    classes: tuple[int, ...]
    stage: ClassVar[str] = "regions"
    version: ClassVar[int] = 1
    after: ClassVar[tuple[type[Task], ...]] = (GeneratePrototypes,)

    @property
    def size(self) -> int:
        """Number of prototypes."""
        return len(self.classes)

    def key(self, worker: Worker) -> list[Any]:
        """It depends on the model and the prototypes."""
        digest = hashlib.sha256(self.images.tobytes()).hexdigest()
        return [*worker.model_key, digest, list(self.classes)]

    def shapes(self, worker: Worker) -> Shapes:
        """Arrays with a row for each prototype."""
        n = len(self.classes)
        numbers = dict.fromkeys(("areas", "probabilities", "controls"), ("f", n))
        return Shapes({"masks": ("b", n, *self.images.shape[1:3]), **numbers})

    def compute(self, worker: Worker, step: Step) -> Mapping[str, Any]:
        """Find the regions; no steps are counted in between."""
        return vars(isolation.isolate(worker.classifier, self.images, self.classes))


@dataclass(frozen=True)
class DrawConcept:
    """Draw one concept, and its control, on photos of the pool and run them through the model.

    The result has the arrays of `auditor.evidence.insertion.Insertions`.

    Attributes:
        name: of the drawing.
        rows: positions of the n photos in the pool.
        scale: float array of shape (d,) that the features are divided by.
    """

    name: str
    rows: tuple[int, ...]
    scale: NDArray[np.float32]
    stage: ClassVar[str] = "insertions"
    version: ClassVar[int] = 1
    after: ClassVar[tuple[type[Task], ...]] = (ObservePhotos,)
    size: ClassVar[int] = 1

    def key(self, worker: Worker) -> list[Any]:
        """It depends on the model, the drawing, the photos, the seed and the scale."""
        # the sum stands for the whole scale, which follows from the model and the pool
        digest = worker.photos["pool"].subset(self.rows).digest
        return [*worker.model_key, digest, self.name, worker.seed, float(self.scale.sum())]

    def shapes(self, worker: Worker) -> Shapes:
        """A row for each photo; log-probabilities plain, with the concept, with the control."""
        n = len(self.rows)
        return Shapes({"features": ("f", n), "log_probabilities": ("f", 3, n)})

    def compute(self, worker: Worker, step: Step) -> Mapping[str, Any]:
        """Draw the concept and the control, and run the photos through the model."""
        answer = functools.partial(
            insertion.answer, worker.classifier, worker.layers, batch=worker.batch
        )
        photos = worker.inputs("pool", self.rows)
        plain = worker.remembered("answers", self.rows, lambda: answer(photos))
        drawn = worker.remembered(
            "drawn", (self.name, self.rows),
            lambda: insertion.draw_pairs(self.name, photos, seed=worker.seed),
        )  # fmt: skip
        edited = map(answer, drawn)
        return vars(Insertions.of([plain, *edited], self.scale))


@dataclass(frozen=True)
class SeeDrawing:
    """The mean change of the probe's vector of a photo by one drawn concept, of shape (e,).

    Attributes:
        name: of the drawing.
        rows: positions of photos in the pool; the first `SEEN_PHOTOS` of them are used.
    """

    name: str
    rows: tuple[int, ...]
    stage: ClassVar[str] = "changes"
    version: ClassVar[int] = 1
    after: ClassVar[tuple[type[Task], ...]] = ()
    size: ClassVar[int] = 1

    def key(self, worker: Worker) -> list[Any]:
        """It depends on the probe, the drawing, the photos, their input size and the seed."""
        digest = worker.photos["pool"].subset(self.rows[:SEEN_PHOTOS]).digest
        return [*worker.probe_key, worker.input_key, digest, self.name, worker.seed]

    def shapes(self, worker: Worker) -> Shapes:
        """One vector, of any length."""
        return Shapes({"change": ("f",)})

    def compute(self, worker: Worker, step: Step) -> Mapping[str, Any]:
        """Encode the photos with the drawing and without it, and subtract the means."""
        photos = worker.inputs("pool", self.rows)[:SEEN_PHOTOS]
        plain = worker.remembered("encoded", self.rows, lambda: _mean_vector(worker, photos))
        both = worker.known("drawn", (self.name, self.rows))
        drawn = insertion.draw(self.name, photos, seed=worker.seed) if both is None else both[0]
        return {"change": (_mean_vector(worker, drawn[:SEEN_PHOTOS]) - plain).numpy()}


def _mean_vector(worker: Worker, images: Tensor) -> Tensor:
    """The mean of the probe's vectors of some images, of shape (e,)."""
    parts = torch.split(images, worker.batch)
    return torch.cat([worker.probe.encode_images(part).cpu() for part in parts]).mean(0)


@dataclass(frozen=True)
class Transplant:
    """Put the surroundings of pool photos (donors) around the middles of audited photos.

    The result is that of `auditor.evidence.surroundings.Surroundings`.

    Attributes:
        middles: positions, among the audited photos, of those whose middles are kept.
        labels: the class index of each of these.
        donors: positions, in the pool, of the photos whose surroundings are used.
        classes: the indices of the audited classes.
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
        """Number of donors."""
        return len(self.donors)

    def key(self, worker: Worker) -> list[Any]:
        """It depends on the model, the photos and the classes."""
        middles, donors = self._photos(worker)
        labels, classes = list(self.labels), list(self.classes)
        return [*worker.model_key, middles.digest, donors.digest, labels, classes]

    def shapes(self, worker: Worker) -> Shapes:
        """A row for each donor and a column for each class."""
        return Shapes({"log_odds": ("f", len(self.donors), len(self.classes))})

    def compute(self, worker: Worker, step: Step) -> Mapping[str, Any]:
        """Compose the images and run them through the model."""
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
