"""Streams of random numbers: each stage and item has its own, whatever the order of calls."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import auditor
from auditor.core import seeds

HOME = Path(auditor.__file__).parent
# What draws or trains by a seed of its own; noise of an image's own seed; the null of one division.
OWN_SEEDS = (
    "core/seeds.py",
    "drawing/",
    "lab/",
    "prototypes/optimisation.py",
    "evidence/clusters.py",
)


def first(name: str, *items: int, seed: int = 0) -> int:
    return int(seeds.stream(seed, name, *items).integers(2**62))


def test_each_stage_and_item_has_a_stream_of_its_own() -> None:
    drawn = [first(name, *items) for name in seeds.STREAMS for items in ((), (0,), (1,), (0, 1))]
    assert len(set(drawn)) == len(drawn)
    assert len(set(seeds.STREAMS.values())) == len(seeds.STREAMS)


@given(st.sampled_from(sorted(seeds.STREAMS)), st.integers(0, 2**31 - 1), st.integers(0, 10**6))
def test_a_stream_is_the_same_again(name: str, seed: int, item: int) -> None:
    assert first(name, item, seed=seed) == first(name, item, seed=seed)
    assert first(name, item, seed=seed) != first(name, item + 1, seed=seed)


def test_the_numbers_of_saved_audits_stay() -> None:
    """Whoever changes a number in the registry changes the results of every audit."""
    expected = np.random.default_rng((5, 3, 0xC0F)).integers(2**62)
    assert first("insertion", 3, seed=5) == expected
    assert first("null", seed=5) == np.random.default_rng((5, 0x17)).integers(2**62)


def test_a_name_that_is_not_registered_is_an_error() -> None:
    with pytest.raises(KeyError):
        seeds.stream(0, "somewhere else")


def test_nothing_else_makes_a_generator() -> None:
    found = set()
    for path in HOME.rglob("*.py"):
        place = path.relative_to(HOME).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            made = isinstance(node, ast.Attribute) and node.attr in ("default_rng", "RandomState")
            if made and not place.startswith(OWN_SEEDS):
                found.add(place)
    assert not found
