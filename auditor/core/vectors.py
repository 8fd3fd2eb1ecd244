"""Unit vectors and log-odds: each in one place, for rounding decides where they meet 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["log_odds", "log_odds_of_classes", "unit_rows"]

Floats = NDArray[np.floating]

ROWS = 1024  # at once, in double precision


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


def log_odds_of_classes(logits: Floats, classes: Sequence[int]) -> NDArray[np.float64]:
    """log p / (1 - p) of some classes, without the loss of digits near 0 and 1.

    Args:
        logits: float array of shape (n, K), of two classes or more.
        classes: indices of C classes.

    Returns:
        Float array of shape (n, C).

    >>> log_odds_of_classes(np.array([[0.0, 0.0], [100.0, 0.0]]), [0])
    array([[  0.],
           [100.]])
    """
    columns = np.array(classes, int)
    found = np.empty((len(logits), len(columns)))
    for start in range(0, len(logits), ROWS):
        part = slice(start, start + ROWS)
        values = logits[part].astype(np.float64)
        every, first = np.arange(len(values)), values.argmax(1)
        values -= values[every, first][:, None]
        shares = np.exp(values)
        with np.errstate(divide="ignore"):
            others = np.log(shares.sum(1)[:, None] - shares[:, columns])
        found[part] = values[:, columns] - others
        # that difference has no digits left for a class that dwarfs all others
        values[every, first] = -np.inf
        of_first = 0.0 - special.logsumexp(values, axis=1)
        own = first[:, None] == columns
        found[part][own] = np.broadcast_to(of_first[:, None], own.shape)[own]
    return found
