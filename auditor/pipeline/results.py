"""Everything that the stages of one audit gave, for what is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.concepts.banks import ConceptBank
from auditor.concepts.probes import ProbeModel
from auditor.config import AuditConfig
from auditor.evidence import credibility, insertion, scoring
from auditor.evidence.clusters import Group
from auditor.evidence.directions import Vocabulary
from auditor.evidence.surroundings import Surroundings
from auditor.images.image_set import ImageSet
from auditor.models.activations import Activations
from auditor.models.loading import Classifier
from auditor.pipeline.observations import Observer
from auditor.prototypes import isolation
from auditor.prototypes.constraints import Material
from auditor.prototypes.generation import Prototypes, Recipe
from auditor.record.schema import (
    Divergence,
    Remark,
)

__all__ = ["Results", "places"]

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Results:
    """Everything that the stages of one audit gave."""

    config: AuditConfig
    out: Path
    observer: Observer
    classifier: Classifier
    classes: tuple[int, ...]
    bank: ConceptBank
    probe: ProbeModel
    images: ImageSet
    pool: ImageSet
    labels: NDArray[np.int64]
    seen: Activations
    rows: Floats
    pooled: Activations
    pool_rows: Floats
    canvas: ImageSet
    canvas_labels: NDArray[np.int64]
    recipe: Recipe
    material: Material
    made: Prototypes
    of_made: Activations
    regions: isolation.Regions | None
    apart: credibility.ToldApart
    judged: tuple[Classifier, credibility.Transfer] | None
    diverged: Mapping[int, Divergence]
    insertions: Mapping[str, insertion.Insertions]
    around: Surroundings
    donors: ImageSet
    recipients: NDArray[np.int64]
    vocabulary: Vocabulary
    named: scoring.Naming
    groups: tuple[Group, ...]
    group_names: tuple[tuple[int, float] | None, ...]
    group_photos: NDArray[np.int64]
    device: torch.device
    started: str
    remarks: tuple[Remark, ...]


def places(made: Prototypes, index: int) -> list[int]:
    """Positions of a class's prototypes."""
    return [place for place, owner in enumerate(made.class_indices) if owner == index]
