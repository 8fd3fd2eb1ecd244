"""Concepts as the probe reads them: unit rows of their prompts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from auditor.concepts import banks
from auditor.concepts.banks import Concept, ConceptBank
from auditor.concepts.probes import ProbeModel
from auditor.core.vectors import unit_rows

__all__ = ["at_large", "prompt_rows"]

Floats = NDArray[np.floating]


def at_large(probe: ProbeModel, bank: ConceptBank) -> Floats:
    """Texts of the bank's concepts, then of built-in ones that are not in it, unit rows.

    A handful of concepts says neither what a photo shows best nor what concepts at random are.
    """
    known = {concept.name.casefold() for concept in bank.concepts}
    beside = [c for c in banks.load(None).concepts if c.name.casefold() not in known]
    return prompt_rows(probe, [*bank.concepts, *beside])


def prompt_rows(probe: ProbeModel, listed: Sequence[Concept]) -> Floats:
    """The mean of the probe's rows over each concept's prompts, as unit rows of shape (m, e)."""
    prompts = [prompt for concept in listed for prompt in concept.prompts]
    rows = probe.encode_texts(prompts).cpu().numpy()
    edges = np.cumsum([0, *(len(concept.prompts) for concept in listed)])
    return unit_rows(np.stack([rows[a:b].mean(0) for a, b in pairwise(edges)]))
