"""The stage of observation: audited photos and pool through the model and the probe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from auditor.core import seeds
from auditor.models.activations import Activations
from auditor.pipeline import agreement
from auditor.pipeline.engine import Engine, Worker, joined
from auditor.pipeline.inputs import Inputs
from auditor.pipeline.tasks import EncodePhotos, ObservePhotos, chunks
from auditor.record.schema import Remark

Source = Literal["images", "pool"]

__all__ = [
    "GENERIC_PHOTOS",
    "Observed",
    "Seen",
    "encode_photos",
    "encoding_tasks",
    "images_on_path",
    "observe",
    "observe_photos",
    "observe_pool",
    "path_photos",
    "photo_tasks",
    "sample",
    "source_tasks",
]

# Photos whose path is kept. Of each audited class it is `PATH_PHOTOS`. With so many classes that
# these exceed `ALL_PATH_PHOTOS`, it is fewer, to save memory, but at least `LEAST_PATH_PHOTOS`.
PATH_PHOTOS = 64
ALL_PATH_PHOTOS = 16384
LEAST_PATH_PHOTOS = 8
OTHER_PHOTOS = 1024  # photos of the other classes whose path is kept
GENERIC_PHOTOS = 512  # pool photos whose path is kept: what prototypes are held to


@dataclass(frozen=True)
class Seen:
    """Photos as the model and the probe see them.

    Attributes:
        activations: of all photos; in every layer for those on the path.
        rows: float array of shape (n, e), the probe's unit rows.
        on_path: bool array of shape (n,).
    """

    activations: Activations
    rows: NDArray[np.float32]
    on_path: NDArray[np.bool_]


@dataclass(frozen=True)
class Observed:
    """What was observed once.

    Attributes:
        images: the audited photos.
        pool: the photos that concepts are learned from.
        remarks: what the accuracy on the photos says of labels and preprocessing.
    """

    images: Seen
    pool: Seen
    remarks: tuple[Remark, ...]


def observe(inputs: Inputs, engine: Engine) -> Observed:
    """Run all photos through the model and the probe.

    Raises:
        ImagesError: the model does not recognise its photos, see `auditor.pipeline.agreement`.
    """
    config, on_path = inputs.config, images_on_path(inputs)
    seen = _observed(inputs, engine, "images", on_path)
    with engine.watch.stage("agreement"):
        remarks = agreement.check(
            inputs.classifier,
            inputs.images,
            seen.logits,
            inputs.classes,
            seed=config.seed,
            batch=config.batch,
            anyway=config.anyway,
        )
    pooled, generic = observe_pool(inputs, engine)
    if inputs.pool is inputs.images:
        pooled = replace(pooled, features=seen.features, logits=seen.logits)  # in memory once
        rows = pool_rows = encode_photos(engine, inputs.worker, "probe", "images")
    else:
        both = encode_photos(engine, inputs.worker, "probe", "images", "pool")
        rows, pool_rows = both[: len(inputs.images)], both[len(inputs.images) :]
    return Observed(Seen(seen, rows, on_path), Seen(pooled, pool_rows, generic), remarks)


def observe_pool(inputs: Inputs, engine: Engine) -> tuple[Activations, NDArray[np.bool_]]:
    """Activations of the pool, and which of its photos are on the path, of shape (n,)."""
    generic = _generic(inputs)
    return _observed(inputs, engine, "pool", generic), generic


def _observed(
    inputs: Inputs, engine: Engine, source: Source, on_path: NDArray[np.bool_]
) -> Activations:
    """Activations of the audited photos or of the pool, along the path where `on_path` says so."""
    stage, tasks = {"images": "photos", "pool": "pool"}[source], source_tasks(inputs, source)

    def parts() -> Iterator[Activations]:
        for task, arrays in zip(tasks, engine.map(stage, tasks), strict=True):
            part = Activations.of(arrays, inputs.worker.layers.path)
            kept = on_path[task.rows.start : task.rows.stop][list(task.on_path)]
            part = part if kept.all() else part.along(kept)
            # how a channel varies within a photo is asked of the pool alone
            yield part if source == "pool" else replace(part, spread={})

    return Activations.joined(parts(), len(on_path), int(on_path.sum()), engine.store.scratch)


def source_tasks(inputs: Inputs, source: Source) -> list[ObservePhotos]:
    """The tasks that observe the audited photos or the pool; the same ones where they are one."""
    on_path = images_on_path(inputs) if source == "images" else _generic(inputs)
    if inputs.pool is inputs.images:
        source, on_path = "images", images_on_path(inputs) | _generic(inputs)
    return photo_tasks(inputs.worker, source, on_path)


def _generic(inputs: Inputs) -> NDArray[np.bool_]:
    """Which photos of the pool prototypes may be held to, of shape (n,)."""
    generic = np.zeros(len(inputs.pool), bool)
    rng = seeds.stream(inputs.config.seed, "generic photos")
    generic[sample(len(generic), GENERIC_PHOTOS, rng)] = True
    return generic


def observe_photos(
    engine: Engine, worker: Worker, stage: str, source: str, on_path: NDArray[np.bool_]
) -> Activations:
    """Activations of all photos of a source; in every layer where `on_path` says so."""
    tasks = photo_tasks(worker, source, on_path)
    found = engine.map(stage, tasks)
    parts = (Activations.of(arrays, worker.layers.path) for arrays in found)
    return Activations.joined(parts, len(on_path), int(on_path.sum()), engine.store.scratch)


def photo_tasks(worker: Worker, source: str, on_path: NDArray[np.bool_]) -> list[ObservePhotos]:
    """What `observe_photos` is divided into."""
    return [
        ObservePhotos(source, rows, _positions(on_path[rows.start : rows.stop]))
        for rows in chunks(len(worker.photos[source]), worker.batch)
    ]


def _positions(chosen: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(np.flatnonzero(chosen).tolist())


def encode_photos(engine: Engine, worker: Worker, stage: str, *sources: str) -> NDArray[np.float32]:
    """The probe's unit rows of all photos of some sources, one source after the other."""
    tasks = encoding_tasks(worker, *sources)
    return np.asarray(joined(list(engine.map(stage, tasks)))["rows"])


def encoding_tasks(worker: Worker, *sources: str) -> list[EncodePhotos]:
    """What `encode_photos` is divided into."""
    return [
        EncodePhotos(source, rows)
        for source in sources
        for rows in chunks(len(worker.photos[source]), worker.batch)
    ]


def images_on_path(inputs: Inputs) -> NDArray[np.bool_]:
    """Which audited photos are on the path, of shape (n,)."""
    rng = seeds.stream(inputs.config.seed, "path photos")
    return path_photos(inputs.labels, inputs.classes, rng)


def path_photos(
    labels: NDArray[np.int64], classes: Sequence[int], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Photos whose path is kept: some of each audited class, and some of all others."""
    kept = np.zeros(len(labels), bool)
    of_each = min(PATH_PHOTOS, max(LEAST_PATH_PHOTOS, ALL_PATH_PHOTOS // len(classes)))
    for c in classes:
        members = np.flatnonzero(labels == c)
        kept[rng.permutation(members)[:of_each]] = True
    rest = np.flatnonzero(~np.isin(labels, classes))
    kept[rng.permutation(rest)[:OTHER_PHOTOS]] = True
    return kept


def sample(n: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """At most `size` of n positions, in order."""
    return np.sort(rng.permutation(n)[:size])
