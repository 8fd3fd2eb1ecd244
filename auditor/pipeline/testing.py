"""The stage of tests: candidates on photos, and the findings that they allow."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from auditor.concepts import presence
from auditor.core.vectors import LogOdds
from auditor.findings.concluding import Scored, conclude
from auditor.findings.grading import Pair
from auditor.findings.testing import Donors, Drawn, Levels, Observations, Photos
from auditor.pipeline.engine import Engine
from auditor.pipeline.experimenting import Edits
from auditor.pipeline.inputs import Inputs
from auditor.pipeline.judging import Trust
from auditor.pipeline.observing import Observed
from auditor.pipeline.scoring import Scores

__all__ = ["Tested", "test"]


@dataclass(frozen=True)
class Tested:
    """Findings, and the photos that they rest on.

    Attributes:
        pairs: of class and concept, with all evidence.
        seen: the photos that candidates were tested on.
    """

    pairs: tuple[Pair, ...]
    seen: Observations


def test(
    inputs: Inputs,
    observed: Observed,
    trust: Trust,
    edits: Edits,
    scores: Scores,
    *,
    engine: Engine,
) -> Tested:
    """Test the candidates of every class on photos."""
    statistics, seed = inputs.config.statistics, inputs.config.seed
    with engine.watch.stage("findings"):
        seen = _observations(inputs, observed, edits, scores)
        scored = Scored(
            naming=scores.naming,
            vocabulary=scores.vocabulary,
            is_core=scores.is_core,
            classes=inputs.classes,
            names=inputs.names,
            divergence=trust.divergence,
            quality={name: quality.auc for name, quality in inputs.probe.quality.items()},
            interval=lambda row, j: scores.interval(row, j, inputs.classes[row]),
        )
        levels = Levels(statistics.q_level, statistics.min_photos, statistics.bootstrap, seed)
        return Tested(conclude(scored, seen, levels), seen)


def _observations(inputs: Inputs, observed: Observed, edits: Edits, scores: Scores) -> Observations:
    images, vocabulary = observed.images, scores.vocabulary
    odds = LogOdds(images.activations.logits)
    donors = edits.transplanted.donors
    rows, known = observed.pool.rows, inputs.pool.labels
    labels = None if known is None else [known[int(place)] for place in donors]
    return Observations(
        photos=Photos(
            labels=inputs.labels,
            log_odds=lambda row: odds(inputs.classes[row]),
            shown=vocabulary.shown(images.rows),
            sight=functools.cache(lambda j: images.rows @ vocabulary.looks[j]),
            fit=lambda j: presence.presence(images.rows, vocabulary.texts[[j]])[:, 0],
            margin=vocabulary.margin,
            representative=inputs.config.representative,
        ),
        drawn=Drawn(edits.drawn.insertions, edits.drawn.labels),
        donors=Donors(
            around=edits.transplanted.around,
            shown=vocabulary.shown(rows)[donors],
            own=presence.own_photos(
                inputs.probe, rows[donors], labels, inputs.classes, inputs.names, most=None
            ),
            labels=None if labels is None else np.array(labels),
        ),
    )
