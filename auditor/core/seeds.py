"""Streams of random numbers: one for each stage and item of an audit, whatever the order of calls.

*Reference*: numpy's `SeedSequence`, which makes independent streams of sequences of integers.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

__all__ = ["STREAMS", "stream"]

STREAMS = MappingProxyType(
    {
        "path photos": 1,  # photos whose activations are kept in every layer
        "generic photos": 2,  # photos of the pool that prototypes are held to
        "drawn on": 3,  # photos of the pool that concepts are drawn on
        "middles": 4,  # photos around which surroundings are put
        "donors": 5,  # photos of the pool whose surroundings are used
        "collages": 0xC011,  # pictures that stand in for photos
        "prototype": 0x9E37,  # all that is random of one image, by class
        "divergence": 0xD1F,  # bootstrap over photos and prototypes
        "told apart": 0x70D,  # folds and bootstrap
        "insertion": 0xC0F,  # bootstrap over photos, by class
        "null": 0x17,  # random concepts
        "score interval": 0x5C0,  # bootstrap of a pair's score, by class and concept
        "divergence and harm": 0xDA,  # bootstrap of their rank correlation
        "other readings": 1947,  # photos that other readings are tried on
    }
)
"""What draws random numbers, with the integer that stands for it in a seed: never change one."""


def stream(seed: int, name: str, *items: int) -> np.random.Generator:
    """The random numbers of one stage, and of one item in it.

    Args:
        seed: of the audit.
        name: one of `STREAMS`.
        items: what tells items of the stage apart, such as the index of a class.

    >>> a, b = stream(0, "donors"), stream(0, "middles")
    >>> int(a.integers(1000)) == int(stream(0, "donors").integers(1000)) != int(b.integers(1000))
    True
    """
    return np.random.default_rng((seed, *items, STREAMS[name]))
