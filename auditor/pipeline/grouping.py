"""The stage of clusters: groups of photos and prototypes that the model sees alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.concepts import presence
from auditor.evidence import clusters
from auditor.evidence.clusters import Group
from auditor.pipeline.engine import Engine
from auditor.pipeline.generating import Generated
from auditor.pipeline.inputs import Inputs
from auditor.pipeline.observing import Observed
from auditor.pipeline.scoring import Scores

__all__ = ["Clusters", "cluster"]


@dataclass(frozen=True)
class Clusters:
    """Clusters with their names.

    Attributes:
        groups: of positions in `photos`, and of prototypes.
        names: of each group the concept's column and its AUC, or `None`.
        photos: int array, positions of the photos of audited classes.
    """

    groups: tuple[Group, ...]
    names: tuple[tuple[int, float] | None, ...]
    photos: NDArray[np.int64]


def cluster(
    inputs: Inputs, observed: Observed, made: Generated, scores: Scores, engine: Engine
) -> Clusters:
    """Group the photos of the audited classes, and name the groups."""
    seen, labels = observed.images, inputs.labels
    with engine.watch.stage("clusters"):
        inside = np.flatnonzero(np.isin(labels, inputs.classes))
        groups = clusters.group(
            seen.activations.features[inside],
            labels[inside],
            made.activations.features,
            seed=inputs.config.seed,
        )
        shown = presence.presence(seen.rows[inside], scores.vocabulary.texts)
        q_level = inputs.config.statistics.q_level
        names = clusters.name_groups(groups, shown, scores.vocabulary.tested, q_level=q_level)
        return Clusters(groups, names, inside)
