import numpy as np
import pytest
from scipy import special

from auditor.core import vectors
from auditor.core.vectors import LogOdds


@pytest.mark.parametrize("scale", [1, 10, 300])
def test_log_odds_of_many_classes_are_those_of_each(monkeypatch, scale):
    monkeypatch.setattr(vectors, "ROWS", 7)
    logits = (np.random.default_rng(0).normal(size=(30, 12)) * scale).astype(np.float32)
    logits[5] = 0
    logits[6, :2] = 900  # two that dwarf the others alike
    logits[7, 3] = 5000
    odds = LogOdds(logits)
    for index in (3, 0, 1, 11):
        rows = logits.astype(np.float64)
        others = special.logsumexp(np.delete(rows, index, axis=1), axis=1)
        np.testing.assert_allclose(odds(index), rows[:, index] - others, rtol=1e-12, atol=1e-12)
    assert odds(3)[7] > 4000
