"""The stage of observation: audited photos and pool through the model and the probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.core import seeds
from auditor.models.activations import Activations
from auditor.pipeline import agreement
from auditor.pipeline.engine import Engine, Worker, joined
from auditor.pipeline.inputs import Inputs
from auditor.pipeline.tasks import EncodePhotos, ObservePhotos, activations_of, chunks
from auditor.record.schema import Remark

__all__ = [
    "GENERIC_PHOTOS",
    "Observed",
    "Seen",
    "encode_photos",
    "observe",
    "observe_photos",
    "path_photos",
    "sample",
]

PATH_PHOTOS = 64  # photos of each audited class whose path is kept
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
    config, labels = inputs.config, inputs.labels
    on_path = path_photos(labels, inputs.classes, seeds.stream(config.seed, "path photos"))
    seen = observe_photos(engine, inputs.worker, "photos", "images", on_path)
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
    generic = np.zeros(len(inputs.pool), bool)
    chosen = sample(len(generic), GENERIC_PHOTOS, seeds.stream(config.seed, "generic photos"))
    generic[chosen] = True
    pooled = observe_photos(engine, inputs.worker, "pool", "pool", generic)
    if inputs.pool is inputs.images:
        rows = pool_rows = encode_photos(engine, inputs.worker, "probe", "images")
    else:
        both = encode_photos(engine, inputs.worker, "probe", "images", "pool")
        rows, pool_rows = both[: len(inputs.images)], both[len(inputs.images) :]
    return Observed(Seen(seen, rows, on_path), Seen(pooled, pool_rows, generic), remarks)


def observe_photos(
    engine: Engine, worker: Worker, stage: str, source: str, on_path: NDArray[np.bool_]
) -> Activations:
    """Activations of all photos of a source; in every layer where `on_path` says so."""
    n = len(worker.photos[source])
    tasks = [
        ObservePhotos(source, rows, _positions(on_path[rows.start : rows.stop]))
        for rows in chunks(n, worker.batch)
    ]
    return activations_of(joined(list(engine.map(stage, tasks))), worker.layers)


def _positions(chosen: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(np.flatnonzero(chosen).tolist())


def encode_photos(engine: Engine, worker: Worker, stage: str, *sources: str) -> NDArray[np.float32]:
    """The probe's unit rows of all photos of some sources, one source after the other."""
    tasks = [
        EncodePhotos(source, rows)
        for source in sources
        for rows in chunks(len(worker.photos[source]), worker.batch)
    ]
    return np.asarray(joined(list(engine.map(stage, tasks)))["rows"])


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
    """At most `size` of n positions, in order."""
    return np.sort(rng.permutation(n)[:size])
