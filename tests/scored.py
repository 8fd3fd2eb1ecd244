"""Concepts scored on arrays, without an audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.evidence import scoring
from auditor.evidence.directions import ClassVectors
from auditor.evidence.members import PoolPhotos
from auditor.evidence.scoring import Naming


def pool(features: NDArray[Any], logits: NDArray[Any], photos: NDArray[Any]) -> PoolPhotos:
    """Photos that may show no class."""
    own = np.zeros(logits.shape, bool)
    level, shown = np.zeros(len(logits)), np.zeros((len(photos), 0), bool)
    return PoolPhotos(features, logits, level, photos, shown, own, False)


def named(
    photos: PoolPhotos,
    concepts: Mapping[str, tuple[NDArray[Any], NDArray[np.int64]]],
    classes: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    prevalent: tuple[NDArray[Any], NDArray[Any]],
    *,
    q_level: float = 0.05,
) -> Naming:
    """Scores of the texts and counts under "own", against those under "random"."""
    vectors = ClassVectors(*map(scoring.less_mean_class, classes))
    textual = scoring.text_map(photos.rows, photos.features)

    def channels(kind: str, seen: NDArray[Any]) -> dict[str, NDArray[Any]]:
        texts, counts = concepts[kind]
        made = vectors.channels(photos, texts, lambda row: counts, scoring.textual(texts, textual))
        return {**made, "prevalence": seen}

    own, random = channels("own", prevalent[0]), channels("random", prevalent[1])
    return scoring.name(own, random, vectors.prototypes, vectors.weights, q_level=q_level)
