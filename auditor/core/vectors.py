"""Unit vectors and log-odds: each in one place, for rounding decides where they meet 0 and 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["LogOdds", "log_odds", "unit_rows"]

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


class LogOdds:
    """log p / (1 - p) of one class at a time, without the loss of digits near 0 and 1.

    >>> LogOdds(np.array([[0.0, 0.0], [100.0, 0.0]]))(0)
    array([  0., 100.])
    """

    def __init__(self, logits: Floats) -> None:
        """Keep what all classes share.

        Args:
            logits: float array of shape (n, K), of two classes or more. It is kept.
        """
        n = len(logits)
        self._logits = logits
        self._first = np.empty(n, np.int64)  # the class with the highest logit
        self._highest, self._total, self._of_first = np.empty((3, n))
        for start in range(0, n, ROWS):
            part = slice(start, start + ROWS)
            values = logits[part].astype(np.float64)
            every, first = np.arange(len(values)), values.argmax(1)
            highest = values[every, first]
            values -= highest[:, None]
            self._total[part] = np.exp(values).sum(1)
            values[every, first] = -np.inf
            self._first[part], self._highest[part] = first, highest
            self._of_first[part] = 0.0 - special.logsumexp(values, axis=1)

    def __call__(self, index: int) -> NDArray[np.float64]:
        """Those of the class with an index, float array of shape (n,)."""
        values = self._logits[:, index].astype(np.float64) - self._highest
        with np.errstate(divide="ignore"):
            odds = values - np.log(self._total - np.exp(values))
        # that difference has no digits left for a class that dwarfs all others
        return np.where(self._first == index, self._of_first, odds)
