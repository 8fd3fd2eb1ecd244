"""The stage of scoring: every pair of class and concept, against a null of random concepts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.concepts import presence
from auditor.core import seeds
from auditor.core.estimates import Estimate
from auditor.core.statistics import interval
from auditor.evidence import learning
from auditor.evidence.directions import Vocabulary
from auditor.evidence.learning import Drawings, Evidence, SeenExamples, SeenPool
from auditor.evidence.scoring import Naming
from auditor.findings.screening import core
from auditor.models.activations import head_weights
from auditor.pipeline.engine import Engine
from auditor.pipeline.experimenting import Edits
from auditor.pipeline.generating import Generated
from auditor.pipeline.inputs import Inputs
from auditor.pipeline.observing import Observed, encode_photos, observe_photos

__all__ = ["Scores", "score"]

REPLICATES = 200  # of the bootstrap of one pair's score


@dataclass(frozen=True)
class Scores:
    """Scores of C classes and m concepts.

    Attributes:
        vocabulary: the directions of the concepts.
        naming: the scores.
        is_core: bool array of shape (C, m), concepts that mean the class or are expected of it.
        prototypes: float arrays of shape (seeds, d) by class index: features of each prototype,
            standardised as the directions are.
        seed: of the bootstrap.
    """

    vocabulary: Vocabulary
    naming: Naming
    is_core: NDArray[np.bool_]
    prototypes: dict[int, NDArray[np.floating]]
    seed: int

    def interval(self, row: int, column: int, index: int) -> Estimate:
        """A pair's score with its bootstrap interval over prototypes and the concept's photos."""
        own = self.prototypes[index]
        rng = seeds.stream(self.seed, "score interval", index, column)
        directions = self.vocabulary.resampled(row, column, REPLICATES, rng)
        replicates = self.naming.rescored(row, column, directions, own, rng)
        return interval(float(self.naming.score[row, column]), replicates, len(own))


def score(
    inputs: Inputs, observed: Observed, made: Generated, edits: Edits, engine: Engine
) -> Scores:
    """Learn the directions of all concepts and score every class on them."""
    config, classes = inputs.config, list(inputs.classes)
    examples = _examples(inputs, engine)
    with engine.watch.stage("naming"):
        vocabulary = learning.learn(
            inputs.bank,
            inputs.probe,
            _evidence(inputs, observed, edits, examples),
            classes,
            config.statistics,
            seed=config.seed,
        )
        first = next(made.prototypes.batches(config.batch))
        weights = head_weights(inputs.classifier, inputs.layers, first)
        prevalence = functools.partial(
            presence.prevalence,
            observed.images.rows,
            inputs.labels,
            inputs.classes,
            min_photos=config.statistics.min_photos,
        )
        features = made.activations.features
        naming = vocabulary.name(
            _per_class(features, made.owners, classes),
            (weights - weights.mean(0))[classes],
            _per_class(made.rows, made.owners, classes),
            prevalence if config.representative else None,
        )
        standardised = (features - vocabulary.mean) / vocabulary.scale
        return Scores(
            vocabulary=vocabulary,
            naming=naming,
            is_core=core(vocabulary.concepts, inputs.classes, inputs.names, config.expected),
            prototypes={c: standardised[made.owners == c] for c in classes},
            seed=config.seed,
        )


def _evidence(
    inputs: Inputs, observed: Observed, edits: Edits, examples: dict[str, SeenExamples]
) -> Evidence:
    seen, drawn = observed.pool, edits.drawn
    return Evidence(
        pool=SeenPool(
            features=seen.activations.features,
            logits=seen.activations.logits,
            rows=seen.rows,
            own=presence.own_photos(
                inputs.probe, seen.rows, inputs.pool.labels, inputs.classes, inputs.names
            ),
            labels=inputs.pool.labels,
        ),
        drawings=Drawings(drawn.insertions, drawn.labels, drawn.changes),
        examples=examples,
    )


def _examples(inputs: Inputs, engine: Engine) -> dict[str, SeenExamples]:
    """The user's example photos of concepts, through the model and the probe."""
    found = {}
    for concept in inputs.bank.concepts:
        if concept.photos is None:
            continue
        source = f"concept {concept.name}"
        nowhere = np.zeros(len(inputs.worker.photos[source]), bool)
        seen = observe_photos(engine, inputs.worker, "examples", source, nowhere)
        rows = encode_photos(engine, inputs.worker, "examples", source)
        own = presence.own_photos(inputs.probe, rows, None, inputs.classes, inputs.names)
        found[concept.name] = SeenExamples(seen.features, seen.logits, own)
    return found


def _per_class(
    values: NDArray[np.float32], owners: NDArray[np.int64], classes: Sequence[int]
) -> NDArray[np.float32]:
    """Mean of the rows of each class, of shape (C, d)."""
    return np.stack([values[owners == c].mean(0) for c in classes])
