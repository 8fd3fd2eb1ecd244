"""Unit vectors and log-odds: each in one place, for rounding decides where they meet 0 and 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["log_odds", "log_odds_of_class", "unit_rows"]

Floats = NDArray[np.floating]


def unit_rows(rows: Floats, *, directionless: float = np.nan) -> Floats:
    """Rows of norm 1.

    Args:
        rows: float array of shape (..., d).
        directionless: what a row of zeros, which has no direction, becomes.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [nan, nan]])
    """
    norm = np.linalg.norm(rows, axis=-1, keepdims=True)
    fill = np.full_like(rows, directionless)
    return np.asarray(np.divide(rows, norm, out=fill, where=norm > 0))


def log_odds(log_probabilities: Floats, *, least: float) -> NDArray[np.float64]:
    """log p / (1 - p) of log-probabilities, in double precision.

    Args:
        log_probabilities: float array of any shape, at most 0.
        least: a p nearer to 1 than this counts as 1 - `least`.

    >>> log_odds(np.log(np.array([0.5, 0.8])), least=1e-9).round(3)
    array([0.   , 1.386])
    """
    logs = np.minimum(log_probabilities.astype(np.float64), -least)
    return np.asarray(logs - np.log(-np.expm1(logs)))


def log_odds_of_class(logits: Floats, index: int) -> NDArray[np.float64]:
    """log p / (1 - p) of one class, without the loss of digits near 0 and 1.

    Args:
        logits: float array of shape (n, K).
        index: of the class.

    >>> log_odds_of_class(np.array([[0.0, 0.0], [100.0, 0.0]]), 0)
    array([  0., 100.])
    """
    logits = logits.astype(np.float64)
    others = np.delete(logits, index, axis=1)
    return np.asarray(logits[:, index] - special.logsumexp(others, axis=1))
