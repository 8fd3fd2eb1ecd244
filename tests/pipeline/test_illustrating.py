"""Which pictures a finding has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from auditor.core.estimates import Estimate
from auditor.findings.grading import Association
from auditor.pipeline import illustrating
from auditor.record.schema import Picture


@pytest.mark.parametrize(
    ("pairs", "grade", "composed"),
    [(300, "suspected", True), (301, "suspected", False), (301, "corroborated", True)],
)
def test_of_many_findings_the_weak_ones_are_not_composed(
    monkeypatch: pytest.MonkeyPatch, pairs: int, grade: str, composed: bool
) -> None:
    for kind, name in (("surrounded", "_surrounded"), ("with", "_seen")):
        made = [Picture(file=f"{kind}.jpg", kind=cast(Any, kind))]
        monkeypatch.setattr(illustrating, name, lambda stages, pair, made=made: made)
    known = Association(Estimate(value=1.0, low=0.5, high=1.5, n=9), 0.5, 0.5)
    pair: Any = SimpleNamespace(
        class_index=0, effect=None, surroundings=known, grade=lambda level: grade
    )
    stages: Any = SimpleNamespace(
        made=SimpleNamespace(best_of=lambda index: 0),
        tested=SimpleNamespace(pairs=(pair,) * pairs),
        inputs=SimpleNamespace(config=SimpleNamespace(statistics=SimpleNamespace(q_level=0.05))),
    )
    kinds = [p.kind for p in illustrating._of_pair(stages, pair, {0: "0.png"})]
    assert kinds == ["prototype", *(["surrounded"] if composed else []), "with"]
