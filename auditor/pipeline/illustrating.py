"""The stage of illustration: pictures of prototypes, and photos that are examples of each claim.

See `auditor.findings.examples` for how an example is chosen. What no photo is an example of has no
picture.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import special
from torch import Tensor

from auditor.drawing import drawings
from auditor.evidence import insertion, surroundings
from auditor.findings import examples
from auditor.findings.grading import Pair
from auditor.pipeline.engine import Engine
from auditor.pipeline.experimenting import Edits
from auditor.pipeline.generating import Generated
from auditor.pipeline.grouping import Clusters
from auditor.pipeline.inputs import Inputs
from auditor.pipeline.pictures import save_photo, save_prototype, save_region
from auditor.pipeline.testing import Tested
from auditor.prototypes import isolation
from auditor.record.codes import PictureKind
from auditor.record.schema import Picture

__all__ = ["Shown", "illustrate"]

FEW = 300  # findings; of more, those that are suspected are shown without composed surroundings
SHOWN = 2  # photos of other classes that show a concept
CLUSTER_PHOTOS, CLUSTER_PROTOTYPES = 4, 2  # that stand beside a cluster


@dataclass(frozen=True)
class Shown:
    """Pictures in the run folder.

    Attributes:
        prototypes: file of each prototype, by its position.
        regions: file of each prototype's region, where regions were isolated.
        findings: by row and column of a pair.
        clusters: of each cluster.
    """

    prototypes: Mapping[int, str]
    regions: Mapping[int, str]
    findings: Mapping[tuple[int, int], tuple[Picture, ...]]
    clusters: tuple[tuple[Picture, ...], ...]


@dataclass(frozen=True)
class _Stages:
    """What pictures are made of."""

    inputs: Inputs
    made: Generated
    edits: Edits
    tested: Tested
    folder: Path

    @functools.cached_property
    def middles(self) -> Tensor:
        """The photos whose middles were kept in other surroundings, of shape (k, 3, H, W)."""
        return self.inputs.worker.inputs("images", self.edits.transplanted.middles.tolist())


def illustrate(
    inputs: Inputs,
    made: Generated,
    edits: Edits,
    tested: Tested,
    groups: Clusters,
    *,
    folder: Path,
    engine: Engine,
) -> Shown:
    """Write all pictures into a folder."""
    stages = _Stages(inputs, made, edits, tested, folder)
    with engine.watch.stage("pictures"):
        files, regions = _prototypes(made, inputs.classes, folder)
        return Shown(
            prototypes=files,
            regions=regions,
            findings={
                (pair.row, pair.column): tuple(_of_pair(stages, pair, files))
                for pair in tested.pairs
            },
            clusters=_clusters(stages, groups, files),
        )


def _prototypes(
    made: Generated, classes: tuple[int, ...], folder: Path
) -> tuple[dict[int, str], dict[int, str]]:
    files, regions = {}, {}
    for index in classes:
        for n, place in enumerate(made.of_class(index)):
            image = made.prototypes.images[place]
            files[place] = save_prototype(folder, index, n, image)
            if made.regions is not None:
                faded = isolation.shown(image, made.regions.masks[place])
                regions[place] = save_region(folder, index, n, faded)
    return files, regions


def _of_pair(stages: _Stages, pair: Pair, files: Mapping[int, str]) -> Iterator[Picture]:
    """A prototype, and photos that are examples of what the tests say.

    A drawn concept is shown on a photo that it moves, another by surroundings that show it and by
    photos of other classes that do, each beside its like without.
    """
    best = files[stages.made.best_of(pair.class_index)]
    yield Picture(file=best, kind="prototype", owner=pair.class_index)
    if pair.effect is not None:
        yield from _drawn(stages, pair)
        return
    if pair.surroundings is not None and pair.surroundings.estimate.value > 0:
        level = stages.inputs.config.statistics.q_level
        if len(stages.tested.pairs) <= FEW or pair.grade(level) != "suspected":
            yield from _surrounded(stages, pair)
    yield from _seen(stages, pair)


def _drawn(stages: _Stages, pair: Pair) -> Iterator[Picture]:
    """A photo without a drawing, with it, and with its control."""
    index, drawn = pair.class_index, stages.edits.drawn
    drawing = stages.inputs.bank.concepts[pair.column].drawing
    assert drawing is not None
    chances = np.exp(drawn.insertions[drawing].log_probabilities[:, :, index].astype(np.float64))
    others = np.flatnonzero(drawn.labels != index)
    example = examples.edit(*chances[:, others])
    if example is None:
        return
    place = int(others[example.place])
    photo = stages.inputs.classifier.preprocess.fit(drawn.photos.image(place))
    seed = insertion.photo_seed(stages.inputs.config.seed, place)
    edited, control = drawings.draw_pair(drawing, photo, seed=seed)
    kinds: tuple[PictureKind, ...] = ("plain", "edited", "control")
    for kind, image, chance in zip(kinds, (photo, edited, control), chances[:, place], strict=True):
        first = kind == "plain"
        yield Picture(
            file=save_photo(stages.folder, image),
            kind=kind,
            class_index=index,
            probability=_significant(chance),
            alike=example.alike if first else None,
            photos=example.of if first else None,
        )


def _seen(stages: _Stages, pair: Pair) -> Iterator[Picture]:
    """Photos of other classes that show the concept, and one that does not.

    Where they lean towards the class on the whole, examples of it; else those that show it best.
    """
    index, photos = pair.class_index, stages.tested.seen.photos
    others = np.flatnonzero(photos.labels != index)
    if not len(others):
        return
    if pair.association is not None and pair.association.estimate.value > 0:
        found = examples.contrast(
            photos.log_odds(pair.row)[others],
            photos.shown[others, pair.column],
            photos.labels[others],
            SHOWN,
        )
        if found is None:
            return
        chosen, without = others[found[0]], int(others[found[1]])
    else:
        fit = photos.fit(pair.column)[others]
        chosen = others[np.argsort(-fit, kind="stable")][:SHOWN]
        without = int(others[np.argsort(np.abs(fit), kind="stable")][0])
    chances = special.expit(photos.log_odds(pair.row))

    def saved(place: int, kind: PictureKind) -> Picture:
        return Picture(
            file=save_photo(stages.folder, stages.inputs.images.image(place)),
            kind=kind,
            class_index=index,
            probability=_significant(chances[place]),
            owner=int(photos.labels[place]),
        )

    for place in chosen:
        yield saved(int(place), "with")
    yield saved(without, "without")


def _surrounded(stages: _Stages, pair: Pair) -> Iterator[Picture]:
    """One photo's middle with surroundings that show the concept, and with some that do not.

    The surroundings have the median answer of each kind; the middle is an example.
    """
    inputs, index, donors = stages.inputs, pair.class_index, stages.tested.seen.donors
    transplanted, labels = stages.edits.transplanted, inputs.labels
    others = np.flatnonzero(~donors.own[:, pair.row])
    of_others = labels[transplanted.middles] != index
    kept = transplanted.middles[of_others]
    there = donors.shown[others, pair.column]
    if not len(kept) or there.all() or not there.any():
        return
    odds = donors.around.log_odds[:, pair.row]
    chosen = [examples.middle(part, odds[part]) for part in (others[there], others[~there])]
    fit = inputs.classifier.preprocess.fit
    around = torch.stack(
        [fit(inputs.pool.image(int(transplanted.donors[place]))) for place in chosen]
    )
    composed = surroundings.composed(stages.middles[of_others], around)
    with torch.inference_mode():
        logits = inputs.classifier.logits(composed.flatten(0, 1).to(inputs.worker.device))
    chances = logits.double().softmax(1)[:, index].cpu().numpy().reshape(2, len(kept))
    example = examples.edit(chances[1], chances[0], chances[1])
    if example is None or chances[0, example.place] <= chances[1, example.place]:
        return
    kinds: tuple[PictureKind, ...] = ("surrounded", "unsurrounded")
    for kind, image, chance in zip(kinds, composed, chances, strict=True):
        yield Picture(
            file=save_photo(stages.folder, image[example.place]),
            kind=kind,
            class_index=index,
            probability=_significant(chance[example.place]),
            owner=int(labels[kept[example.place]]),
        )


def _clusters(
    stages: _Stages, groups: Clusters, files: Mapping[int, str]
) -> tuple[tuple[Picture, ...], ...]:
    """The photos nearest to each cluster's centre, and prototypes in it."""
    inputs, owners = stages.inputs, stages.made.prototypes.class_indices
    shown = []
    for group in groups.groups:
        rows = groups.photos[list(group.photos[:CLUSTER_PHOTOS])]
        photos = [
            Picture(
                file=save_photo(stages.folder, inputs.images.image(int(i))),
                kind="photo",
                owner=int(inputs.labels[i]),
            )
            for i in rows
        ]
        prototypes = [
            Picture(file=files[place], kind="prototype", owner=owners[place])
            for place in group.prototypes[:CLUSTER_PROTOTYPES]
        ]
        shown.append((*photos, *prototypes))
    return tuple(shown)


def _significant(probability: float | np.floating) -> float:
    """A probability to four digits: small ones are told apart too."""
    return min(1.0, float(f"{float(probability):.4g}"))
