"""The stage of judgement: how far prototypes diverge from photos and can be believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.evidence import credibility, divergence
from auditor.pipeline.engine import Engine
from auditor.pipeline.generating import Generated
from auditor.pipeline.inputs import Inputs
from auditor.pipeline.observing import Observed
from auditor.record.schema import Divergence

__all__ = ["Trust", "judge"]


@dataclass(frozen=True)
class Trust:
    """How far prototypes can be believed.

    Attributes:
        divergence: of each class, by its index.
        told_apart: whether a classifier tells prototypes from photos.
        transfer: what a second model sees in the best prototypes, or `None`.
    """

    divergence: Mapping[int, Divergence]
    told_apart: credibility.ToldApart
    transfer: credibility.Transfer | None


def judge(inputs: Inputs, observed: Observed, made: Generated, engine: Engine) -> Trust:
    """Compare prototypes with photos, and show them to a second model."""
    with engine.watch.stage("divergence"):
        diverged, apart = _compared(inputs, observed, made)
        return Trust(diverged, apart, _transfer(inputs, made))


def _compared(
    inputs: Inputs, observed: Observed, made: Generated
) -> tuple[Mapping[int, Divergence], credibility.ToldApart]:
    """Prototypes beside photos that they were not held to."""
    statistics, seed = inputs.config.statistics, inputs.config.seed
    kept = np.flatnonzero(observed.images.on_path)
    held_out = ~np.isin(kept, made.constraints.used)
    path = _HeldOut(observed.images.activations.path, held_out)
    labels = inputs.labels[kept[held_out]]
    diverged = divergence.compare(
        made.activations.path, made.owners, path, labels, inputs.classes,
        used=made.constraints.layers, min_photos=statistics.min_photos,
        replicates=statistics.bootstrap, seed=seed,
    )  # fmt: skip
    apart = credibility.told_apart(
        made.activations.path, made.owners, path, labels,
        replicates=statistics.bootstrap, seed=seed,
    )  # fmt: skip
    return diverged, apart


@dataclass(frozen=True)
class _HeldOut(Mapping[str, NDArray[np.float32]]):
    """The photos that prototypes were not held to: of each layer, copied when it is asked for."""

    path: Mapping[str, NDArray[np.float32]]
    rows: NDArray[np.bool_]

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self.path[name][self.rows]

    def __iter__(self) -> Iterator[str]:
        return iter(self.path)

    def __len__(self) -> int:
        return len(self.path)


def _transfer(inputs: Inputs, made: Generated) -> credibility.Transfer | None:
    """The second model's judgement of the best prototype of each class."""
    if inputs.second is None:
        return None
    best = [made.best_of(index) for index in dict.fromkeys(made.prototypes.class_indices)]
    images = torch.from_numpy(made.prototypes.images[best]).permute(0, 3, 1, 2).float() / 255
    owners = [made.prototypes.class_indices[k] for k in best]
    return credibility.transfer(inputs.classifier, inputs.second, images, owners)
