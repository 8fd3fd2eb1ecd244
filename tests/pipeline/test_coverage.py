"""What the record says of what was not tested of a class."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from auditor.findings.deriving import finding_id
from auditor.pipeline.coverage import _of_class
from auditor.record.schema import Finding, Reason
from auditor.report import notes

BANK = (
    SimpleNamespace(name="snow", extrinsic=True, drawing=None),
    SimpleNamespace(name="mud", extrinsic=True, drawing=None),
    SimpleNamespace(name="fog", extrinsic=True, drawing="fog"),
    SimpleNamespace(name="fur", extrinsic=False, drawing=None),
)


class Given:
    """The stages of one audited class, of which everything was tested and nothing stands out."""

    def __init__(self, **changes: Any) -> None:
        statistics = SimpleNamespace(min_photos=5, q_level=0.05)
        config = SimpleNamespace(
            statistics=statistics, representative=changes.get("representative", True)
        )
        self.inputs = SimpleNamespace(
            classes=(3,),
            config=config,
            names=("a", "b", "c", "husky"),
            labels=changes.get("labels", np.repeat([0, 3], 10)),
            bank=SimpleNamespace(concepts=BANK),
        )
        self.trust = SimpleNamespace(
            divergence={3: SimpleNamespace(reason=changes.get("diverged"))}
        )
        drawn_on = changes.get("drawn_on", np.repeat([0, 3], 10))
        seen = SimpleNamespace(drawn=SimpleNamespace(labels=drawn_on))
        self.tested = SimpleNamespace(seen=seen)
        short = changes.get("short", np.zeros(4, bool))
        self.vocabulary = SimpleNamespace(short=lambda row: short)
        self.naming = changes.get(
            "naming", SimpleNamespace(q=np.full((1, 4), 0.5), p_model=np.full((1, 4), 0.01))
        )


def told(
    given: Given, *, core: tuple[int, ...] = (), findings: tuple[Finding, ...] = ()
) -> list[tuple[str, str]]:
    scores = SimpleNamespace(
        is_core=np.isin(np.arange(4), core)[None], vocabulary=given.vocabulary, naming=given.naming
    )
    stages: tuple[Any, Any, Any, Any] = (given.inputs, given.trust, scores, given.tested)
    gaps = list(_of_class(*stages, 0, findings=findings))
    assert all(gap.kind == "class" for gap in gaps)
    assert all(gap.class_index == 3 for gap in gaps)
    return [(gap.what, notes.reason(gap.reason)) for gap in gaps]


def test_what_was_tested_whole_has_no_gap() -> None:
    assert told(Given()) == []
    assert told(Given(labels=np.repeat([0, 3], [18, 2]), representative=False)) == []


@pytest.mark.parametrize(
    ("changes", "what", "why"),
    [
        ({"diverged": Reason(code="no_prototype")}, "divergence", "not tested: no prototype"),
        (
            {"labels": np.repeat([0, 3], [16, 4])},
            "prevalence",
            "4 photos of the class and 16 of others",
        ),
        (
            {"drawn_on": np.repeat([0, 3], [4, 60])},
            "insertion",
            "4 of the photos that are drawn on show another class",
        ),
        (
            {"short": np.array([True, True, False, True])},
            "concepts_of_class",
            "fewer than 5 pool photos of other classes show them",
        ),
    ],
)
def test_what_was_not_tested_of_a_class_is_told(
    changes: dict[str, Any], what: str, why: str
) -> None:
    ((found, reason),) = told(Given(**changes))
    assert found == what
    assert reason.startswith(why)


def test_what_stands_out_and_was_not_followed_up_is_told() -> None:
    out = SimpleNamespace(q=np.full((1, 4), 0.01), p_model=np.array([[0.01, 0.01, 0.2, 0.01]]))
    ((what, reason),) = told(Given(naming=out))
    assert what == "concepts_standing_out"
    assert reason.endswith("groups of a class are put to the test: snow, mud")
    finding = Finding(
        id=finding_id(3, "husky", "snow"), class_index=3, concept="snow", category="weather",
        grade="suspected", basis="naming", evidence=(), caveats=(), pictures=(), alike=("mud",),
    )  # fmt: skip
    assert told(Given(naming=out), findings=(finding,)) == []
    assert told(Given(naming=out), core=(0, 1)) == []
    of_another = finding.model_copy(update={"class_index": 2})
    assert len(told(Given(naming=out), findings=(of_another,))) == 1
