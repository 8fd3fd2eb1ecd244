"""What is observed once and kept: activations, probe rows, prototypes and insertions.

Each function runs one stage over photos or classes and leaves its arrays in the run folder under
the digest of all it depends on; a run that was killed finds them there.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.concepts.probes import ProbeModel
from auditor.core.storage import Arrays, Work
from auditor.evidence import insertion
from auditor.evidence.surroundings import Surroundings, transplant
from auditor.images.image_set import ImageSet
from auditor.models import hardware
from auditor.models.activations import Activations, Layers, collect
from auditor.models.loading import Classifier
from auditor.prototypes import generation, isolation
from auditor.prototypes.constraints import Material
from auditor.prototypes.generation import Prototypes, Recipe

__all__ = ["Observer"]

PATH_PHOTOS = 64  # photos of each audited class whose path is kept
OTHER_PHOTOS = 1024  # photos of the other classes whose path is kept
GENERIC_PHOTOS = 512  # pool photos whose path is kept: what prototypes are held to
INSERTION_PHOTOS = 64  # photos that each drawn concept is put on
SEEN_PHOTOS = 32  # of them, those that the probe is shown with it
CHUNK_PHOTOS = 2048  # photos that are observed, and kept, together
WHOLE = ("pixels", "features", "logits")  # what is kept beside the layers

Step = Callable[[int], None]


@dataclass(frozen=True)
class Observer:
    """The audited model with the run folder: everything that stages share."""

    classifier: Classifier
    layers: Layers
    work: Work
    batch: int
    seed: int

    @property
    def key(self) -> list[Any]:
        """What every observation of this model depends on."""
        return [
            WHOLE, self.classifier.digest, self.classifier.output, self._fitted,
            list(self.layers.path), self.layers.features,
            str(next(iter(self.classifier.net.parameters())).device.type),
        ]  # fmt: skip

    @property
    def _fitted(self) -> list[Any]:
        """How photos are made inputs."""
        return [str(value) for value in dataclasses.astuple(self.classifier.preprocess)]

    def photos(self, photos: ImageSet, on_path: NDArray[np.bool_], step: Step) -> Activations:
        """Activations of photos; the path is kept where `on_path` says so."""
        parts: list[Arrays] = []
        for start, chunk in self._chunks(photos):
            kept = on_path[start : start + len(chunk)]

            def compute(
                start: int = start, chunk: ImageSet = chunk, kept: NDArray[np.bool_] = kept
            ) -> Mapping[str, Any]:
                batches = chunk.batches(self.classifier.preprocess.fit, size=self.batch)
                return _arrays(
                    collect(
                        self.classifier, self.layers, batches,
                        names=chunk.ids, on_path=kept, on_batch=lambda done: step(start + done),
                    )
                )  # fmt: skip

            n, m = len(chunk), int(kept.sum())
            path = [f"{part}/{name}" for part in ("path", "spread") for name in self.layers.path]
            lengths = {"features": n, "logits": n, "pixels": m, **dict.fromkeys(path, m)}
            fits = _Fit({name: ("f", length) for name, length in lengths.items()})
            key = [*self.key, chunk.digest, np.flatnonzero(kept).tolist()]
            parts.append(self.work.arrays("photos", key, compute, fits=fits))
            step(start + len(chunk))
        return _activations(_joined(parts), self.layers)

    def probed(self, photos: ImageSet, probe: ProbeModel, step: Step) -> NDArray[np.float32]:
        """The probe's unit rows of photos, of shape (n, e)."""
        parts: list[Arrays] = []
        for start, chunk in self._chunks(photos):

            def compute(start: int = start, chunk: ImageSet = chunk) -> Mapping[str, Any]:
                rows = []
                for batch in chunk.batches(probe.fit, size=self.batch):
                    rows.append(probe.encode_images(batch).cpu().numpy())
                    step(start + sum(map(len, rows)))
                return {"rows": np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)}

            key = [probe.digest, chunk.digest]
            fits = _Fit({"rows": ("f", len(chunk))})
            parts.append(self.work.arrays("probed", key, compute, fits=fits))
            step(start + len(chunk))
        return _joined(parts)["rows"]

    def _chunks(self, photos: ImageSet) -> Iterator[tuple[int, ImageSet]]:
        """Photos that are kept together, each part with the place where it starts."""
        size = max(1, CHUNK_PHOTOS // self.batch) * self.batch
        for start in range(0, max(1, len(photos)), size):
            yield start, photos.subset(range(start, min(start + size, len(photos))))

    def prototypes(
        self,
        items: Sequence[tuple[int, int]],
        recipe: Recipe,
        material: Material,
        *,
        batch: int | None,
        devices: Sequence[torch.device],
        step: Step,
    ) -> Prototypes:
        """Prototypes of (class, seed) pairs; parts that were finished are kept.

        Args:
            items: pairs of class index and seed, the seeds of a class side by side.
            recipe: the mode and its settings.
            material: what images are held to.
            batch: images at once, and kept together; by default what memory serves best.
            devices: that share the work.
            step: told of the image steps done.
        """
        size = batch or 2 * hardware.images_at_once(self.classifier) * len(devices)
        if recipe.diversity:  # the seeds of a class stay together
            per_class = max(1, sum(item[0] == items[0][0] for item in items))
            size = -(-size // per_class) * per_class
        shape = (len(items), *self.classifier.preprocess.size, 3)
        images = self.work.scratch(shape, np.uint8)
        parts: list[Arrays] = []
        for start in range(0, len(items), size):
            chunk = items[start : start + size]

            def generated(
                chunk: Sequence[tuple[int, int]] = chunk, start: int = start
            ) -> Mapping[str, Any]:
                made = generation.generate(
                    self.classifier, self.layers, chunk, recipe,
                    expectation=material.expectation, photos=material.photos,
                    references={
                        c: material.references[c] for c, _ in chunk if c in material.references
                    },
                    batch=batch, devices=devices,
                    on_step=lambda done: step(start * recipe.steps + done),
                )  # fmt: skip
                return {
                    "images": made.images,
                    "probabilities": made.probabilities,
                    "traces": made.traces,
                    "steps": np.array(made.steps),
                }

            key = [*self.key, material.digest, [list(item) for item in chunk], vars(recipe)]
            n = len(chunk)
            fits = _Fit({
                "images": ("u", n, *shape[1:]), "probabilities": ("f", n), "traces": ("f", n),
                "steps": ("i", n),
            })  # fmt: skip
            part = self.work.arrays("prototypes", key, generated, fits=fits)
            images[start : start + size] = part.pop("images")
            parts.append(part)
            step(min(start + size, len(items)) * recipe.steps)
        return Prototypes(
            images=images,
            class_indices=tuple(c for c, _ in items),
            seeds=tuple(seed for _, seed in items),
            probabilities=np.concatenate([part["probabilities"] for part in parts]),
            traces=np.concatenate([part["traces"] for part in parts]),
            steps=tuple(int(n) for part in parts for n in part["steps"]),
        )

    def of_prototypes(self, made: Prototypes) -> Activations:
        """Activations of prototypes, as they were saved."""
        return collect(self.classifier, self.layers, made.batches(self.batch))

    def regions(self, made: Prototypes, step: Step) -> isolation.Regions:
        """The regions of prototypes that carry their class."""
        parts: list[Arrays] = []
        for start in range(0, len(made.images), self.batch):
            part = slice(start, start + self.batch)
            images, owners = made.images[part], made.class_indices[part]

            def compute(
                images: NDArray[np.uint8] = images, owners: tuple[int, ...] = owners
            ) -> Mapping[str, Any]:
                return vars(isolation.isolate(self.classifier, images, owners))

            key = [*self.key, hashlib.sha256(images.tobytes()).hexdigest(), list(owners)]
            n = len(images)
            fits = _Fit({
                "masks": ("b", n, *images.shape[1:3]), "areas": ("f", n), "probabilities": ("f", n),
                "controls": ("f", n),
            })  # fmt: skip
            parts.append(self.work.arrays("regions", key, compute, fits=fits))
            step(min(start + self.batch, len(made.images)))
        return isolation.Regions(**_joined(parts))

    def insertions(
        self, names: Sequence[str], photos: ImageSet, scale: NDArray[np.float32], step: Step
    ) -> dict[str, insertion.Insertions]:
        """Every drawn concept, and its control, on the same photos."""
        images: Tensor | None = None
        found: dict[str, insertion.Insertions] = {}
        for place, name in enumerate(names):

            def compute(name: str = name) -> Mapping[str, Any]:
                nonlocal images
                if images is None:
                    fit = self.classifier.preprocess.fit
                    images = torch.cat(list(photos.batches(fit, size=self.batch)))
                done = insertion.insert(
                    self.classifier, self.layers, name, images,
                    seed=self.seed, batch=self.batch, scale=scale,
                )  # fmt: skip
                return vars(done)

            key = [*self.key, photos.digest, name, self.seed, float(scale.sum())]
            fits = _Fit({
                "features": ("f", len(photos)), "log_probabilities": ("f", 3, len(photos)),
            })  # fmt: skip
            kept = self.work.arrays("insertions", key, compute, fits=fits)
            found[name] = insertion.Insertions(**kept)
            step(place + 1)
        return found

    def changes(
        self, names: Sequence[str], photos: ImageSet, probe: ProbeModel, step: Step
    ) -> dict[str, NDArray[np.float32]]:
        """What each drawn concept changes in the probe's row of a photo, on average, (e,)."""
        photos = photos.subset(range(min(SEEN_PHOTOS, len(photos))))
        images: Tensor | None = None
        plain: Tensor | None = None
        found: dict[str, NDArray[np.float32]] = {}

        def encoded(values: Tensor) -> Tensor:
            parts = torch.split(values, self.batch)
            return torch.cat([probe.encode_images(part).cpu() for part in parts]).mean(0)

        for place, name in enumerate(names):

            def compute(name: str = name) -> Mapping[str, Any]:
                nonlocal images, plain
                if images is None or plain is None:
                    fit = self.classifier.preprocess.fit
                    images = torch.cat(list(photos.batches(fit, size=self.batch)))
                    plain = encoded(images)
                edited = insertion.drawn(name, images, seed=self.seed)
                return {"change": (encoded(edited) - plain).numpy()}

            key = [probe.digest, self._fitted, photos.digest, name, self.seed]
            fits = _Fit({"change": ("f",)})
            found[name] = self.work.arrays("changes", key, compute, fits=fits)["change"]
            step(place + 1)
        return found

    def surroundings(
        self,
        middles: ImageSet,
        labels: NDArray[np.int64],
        donors: ImageSet,
        classes: Sequence[int],
        step: Step,
    ) -> Surroundings:
        """The surroundings of every donor around the middles of labelled photos."""

        def compute() -> Mapping[str, Any]:
            fit = self.classifier.preprocess.fit
            images = torch.cat(list(middles.batches(fit, size=self.batch)))
            return vars(
                transplant(self.classifier, images, labels, donors, classes, batch=self.batch)
            )

        key = [*self.key, middles.digest, donors.digest, labels.tolist(), list(classes)]
        found = Surroundings(**self.work.arrays("surroundings", key, compute))
        step(len(donors))
        return found


def path_photos(
    labels: NDArray[np.int64], classes: Sequence[int], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Photos whose path is kept: some of each audited class, and some of all others."""
    kept = np.zeros(len(labels), bool)
    for c in classes:
        members = np.flatnonzero(labels == c)
        kept[rng.permutation(members)[:PATH_PHOTOS]] = True
    rest = np.flatnonzero(~np.isin(labels, classes))
    kept[rng.permutation(rest)[:OTHER_PHOTOS]] = True
    return kept


def sample(n: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """At most `size` of `n` positions, in order."""
    return np.sort(rng.permutation(n)[:size])


@dataclass(frozen=True)
class _Fit:
    """Whether arrays can be a stage's: by name the kind of numbers and the first lengths."""

    wanted: Mapping[str, tuple[str | int, ...]]

    def __call__(self, arrays: Arrays) -> bool:
        return arrays.keys() == self.wanted.keys() and all(
            (values.dtype.kind, *values.shape)[: len(self.wanted[name])] == self.wanted[name]
            and (values.dtype.kind != "f" or bool(np.isfinite(values).all()))
            for name, values in arrays.items()
        )


def _joined(parts: Sequence[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _arrays(activations: Activations) -> dict[str, Any]:
    return {
        **{name: getattr(activations, name) for name in WHOLE},
        **{f"path/{name}": values for name, values in activations.path.items()},
        **{f"spread/{name}": values for name, values in activations.spread.items()},
    }


def _activations(arrays: Arrays, layers: Layers) -> Activations:
    def part(prefix: str) -> dict[str, NDArray[np.float32]]:
        return {name: arrays[f"{prefix}/{name}"] for name in layers.path}

    return Activations(part("path"), part("spread"), *(arrays[name] for name in WHOLE))
