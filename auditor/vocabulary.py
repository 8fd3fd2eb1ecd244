"""The bank as one audit sees it: each concept's direction, where it came from, and whether it can
be tested at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from auditor import datasets, naming
from auditor.activations import Activations
from auditor.concepts import Concept, ConceptBank
from auditor.config import AuditConfig
from auditor.counterfactuals import Insertions
from auditor.datasets import ImageSet
from auditor.naming import Directions, Naming
from auditor.observations import Observer
from auditor.probes import ProbeModel
from auditor.statistics import bootstrap_weights

__all__ = ["Vocabulary"]

Floats = NDArray[np.floating]
Source = Literal["named", "drawn", "shown"]


@dataclass(frozen=True)
class Vocabulary:
    """Directions of the bank's m concepts in the audited model, with their null.

    Attributes:
        concepts: the bank, in order.
        sources: where each direction comes from.
        texts: float array of shape (m, e), the probe's unit rows of the prompts.
        directions: of the concepts; NaN where not tested.
        null: directions of random concepts.
        reasons: why a concept was not tested, or `None`.
        mean, scale: float arrays of shape (d,), by which features are standardised.
    """

    concepts: tuple[Concept, ...]
    sources: tuple[Source, ...]
    texts: Floats
    directions: Directions
    null: Directions
    reasons: tuple[str | None, ...]
    mean: Floats
    scale: Floats
    members: tuple[Floats, ...]
    q_level: float

    @property
    def tested(self) -> NDArray[np.bool_]:
        """Which concepts have a direction."""
        return np.array([reason is None for reason in self.reasons], bool)

    @staticmethod
    def build(
        bank: ConceptBank,
        probe: ProbeModel,
        observer: Observer,
        *,
        pool: ImageSet,
        pooled: Activations,
        pool_rows: Floats,
        insertions: Mapping[str, Insertions],
        classes: tuple[int, ...],
        config: AuditConfig,
    ) -> Vocabulary:
        """Give every concept of the bank its direction.

        Args:
            bank: the concepts.
            probe: reads their texts.
            observer: runs the user's example photos through the model.
            pool: the photos that named concepts are learned from.
            pooled: the model's activations of the pool.
            pool_rows: float array of shape (n, e), the probe's unit rows of the pool.
            insertions: by drawing, from `counterfactuals.insert`.
            classes: the audited classes.
            config: levels and sizes.
        """
        mean, scale = pooled.features.mean(0), np.maximum(pooled.features.std(0), 1e-6)
        features = (pooled.features - mean) / scale
        logits = _centred(pooled.logits)[:, classes]
        texts = prompt_rows(probe, bank)
        textcav = naming.text_map(pool_rows, features)
        shown = naming.shows(naming.presence(pool_rows, texts))
        seen = shown.sum(0)
        least = config.statistics.min_photos
        counts = np.zeros(len(texts), np.int64)
        reasons: list[str | None] = [None] * len(texts)
        sources: list[Source] = []
        for j, concept in enumerate(bank.concepts):
            sources.append(_source(concept))
            if sources[j] != "named":
                continue
            if seen[j] < least:
                reasons[j] = (
                    f"{seen[j]} of {len(pool)} pool photos show it by the probe, {least} are needed"
                )
            else:
                counts[j] = naming.n_photos(int(seen[j]), len(pool))
        made = naming.named(features, logits, pool_rows, texts, counts, textcav)
        vectors, shift, n_photos = made.vectors.copy(), made.shift.copy(), made.n_photos.copy()
        members = _members(features, naming.presence(pool_rows, texts), counts)
        for j, concept in enumerate(bank.concepts):
            if concept.drawing is not None:
                insertion = insertions[concept.drawing]
                vectors[j] = _unit(insertion.features.mean(0))
                plain, drawn, _ = insertion.log_probabilities
                shift[j] = (drawn - plain).mean(0)[list(classes)]
                n_photos[j] = len(plain)
                members[j] = insertion.features
            elif concept.photos is not None:
                examples = datasets.load(
                    str(concept.photos), class_names=(), class_ids=None, labelled=False
                )
                if len(examples) < least:
                    reasons[j] = f"{len(examples)} example photos, {least} are needed"
                    continue
                given = observer.photos(examples, np.zeros(len(examples), bool), lambda _: None)
                rows = (given.features - mean) / scale
                one = naming.shown(
                    features, logits, rows, _centred(given.logits)[:, classes], texts[j], textcav
                )
                vectors[j], shift[j], n_photos[j] = one.vectors[0], one.shift[0], len(examples)
                members[j] = rows - features.mean(0)
        directions = Directions(vectors, made.textual, shift, texts, n_photos)
        rng = np.random.default_rng((config.seed, 0x17))
        typical = counts[counts > 0]
        null_counts = rng.choice(
            typical if len(typical) else np.array([min(least, len(pool) - 1)]),
            config.statistics.permutations,
        )
        null = naming.named(
            features, logits, pool_rows,
            naming.null_texts(texts, config.statistics.permutations, rng), null_counts, textcav,
        )  # fmt: skip
        return Vocabulary(
            bank.concepts, tuple(sources), texts, directions, null, tuple(reasons),
            mean, scale, tuple(members), config.statistics.q_level,
        )  # fmt: skip

    def name(self, prototypes: Floats, weights: Floats, prototype_rows: Floats) -> Naming:
        """Score all classes and concepts (see `auditor.naming.name`).

        Args:
            prototypes: float array of shape (C, d), mean features of each class's prototypes.
            weights: float array of shape (C, d), from `activations.head_weights`.
            prototype_rows: float array of shape (C, e), the probe's mean rows of the prototypes.
        """
        return naming.name(
            self.directions,
            self.null,
            (prototypes - self.mean) / self.scale,
            weights * self.scale,
            prototype_rows,
            q_level=self.q_level,
        )

    def resampled(self, j: int, replicates: int, rng: np.random.Generator) -> Floats:
        """Bootstrap replicates of a direction over its photos, of shape (replicates, d)."""
        rows = self.members[j]
        weights = bootstrap_weights(len(rows), replicates, rng) / len(rows)
        return _unit(weights @ rows)

    def likeness(self) -> Floats:
        """Cosine between the directions of each two concepts, of shape (m, m)."""
        return np.asarray(self.directions.vectors @ self.directions.vectors.T)


def prompt_rows(probe: ProbeModel, bank: ConceptBank) -> Floats:
    """The mean of the probe's rows over each concept's prompts, as unit rows of shape (m, e)."""
    prompts = [prompt for concept in bank.concepts for prompt in concept.prompts]
    rows = probe.encode_texts(prompts).cpu().numpy()
    edges = np.cumsum([0, *(len(concept.prompts) for concept in bank.concepts)])
    return _unit(np.stack([rows[a:b].mean(0) for a, b in pairwise(edges)]))


def _members(features: Floats, scores: Floats, counts: NDArray[np.int64]) -> list[Floats]:
    """Rows behind each named direction, relative to the mean of the photos that are not."""
    members: list[Floats] = []
    for j, count in enumerate(counts):
        if not count:
            members.append(np.zeros((0, features.shape[1]), np.float32))
            continue
        chosen = np.argpartition(scores[:, j], -count)[-count:]
        rest = (features.sum(0) - features[chosen].sum(0)) / max(1, len(features) - count)
        members.append(features[chosen] - rest)
    return members


def _source(concept: Concept) -> Source:
    if concept.drawing is not None:
        return "drawn"
    return "shown" if concept.photos is not None else "named"


def _centred(logits: Floats) -> Floats:
    return np.asarray(logits - logits.mean(1, keepdims=True))


def _unit(rows: Floats) -> Floats:
    norm = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(norm, 1e-12))
