"""Levels of the method that a reader of a record needs to understand its grades."""

from __future__ import annotations

__all__ = ["PREVALENT", "STRICTER"]

PREVALENT = 0.75
"""Area under the ROC curve from which photos of a class are held to show a concept."""

STRICTER = 0.01
"""The share of the q level that is asked for where little else upholds a test.

Of surroundings, since whose object is left in them is known through the probe alone; of an
association where surroundings exclude a material effect; and of the score, where it stands in for a
prevalence that few photos leave unsure.
"""
