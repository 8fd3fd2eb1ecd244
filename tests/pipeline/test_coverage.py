"""What the record says of what was not tested of a class."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from auditor.findings.coverage import _untested
from auditor.findings.grading import finding_id
from auditor.pipeline.results import Results
from auditor.record.schema import Finding

BANK = (
    SimpleNamespace(name="snow", extrinsic=True, drawing=None),
    SimpleNamespace(name="mud", extrinsic=True, drawing=None),
    SimpleNamespace(name="fog", extrinsic=True, drawing="fog"),
    SimpleNamespace(name="fur", extrinsic=False, drawing=None),
)


def results(**changes: Any) -> Results:
    """Results of one audited class, of which everything was tested and nothing stands out."""
    statistics = SimpleNamespace(min_photos=5, q_level=0.05)
    plain = {
        "classes": (3,),
        "config": SimpleNamespace(statistics=statistics, representative=True),
        "classifier": SimpleNamespace(class_names=("a", "b", "c", "husky")),
        "labels": np.repeat([0, 3], 10),
        "canvas_labels": np.repeat([0, 3], 10),
        "diverged": {3: SimpleNamespace(reason=None)},
        "bank": SimpleNamespace(concepts=BANK),
        "vocabulary": SimpleNamespace(short=lambda row: np.zeros(4, bool)),
        "named": SimpleNamespace(q=np.full((1, 4), 0.5), p_model=np.full((1, 4), 0.01)),
    }
    return cast(Results, SimpleNamespace(**{**plain, **changes}))


def told(
    given: Results, *, core: tuple[int, ...] = (), findings: tuple[Finding, ...] = ()
) -> list[tuple[str, str]]:
    is_core = np.isin(np.arange(4), core)
    gaps = list(_untested(given, 0, is_core, findings))
    assert all(gap.kind == "class" for gap in gaps)
    return [(gap.what, gap.reason) for gap in gaps]


def test_what_was_tested_whole_has_no_gap() -> None:
    assert told(results()) == []
    unlike = SimpleNamespace(statistics=results().config.statistics, representative=False)
    assert told(results(labels=np.repeat([0, 3], [18, 2]), config=unlike)) == []


@pytest.mark.parametrize(
    ("changes", "what", "why"),
    [
        ({"diverged": {3: SimpleNamespace(reason="2 photos")}}, "divergence of husky", "2 photos"),
        (
            {"labels": np.repeat([0, 3], [16, 4])},
            "prevalence of concepts in photos of husky",
            "4 photos of the class and 16 of others",
        ),
        (
            {"canvas_labels": np.repeat([0, 3], [4, 60])},
            "drawn concepts by experiment on husky",
            "4 of the photos that are drawn on show another class",
        ),
        (
            {"vocabulary": SimpleNamespace(short=lambda row: np.array([True, True, False, True]))},
            "2 concepts of husky",
            "fewer than 5 pool photos of other classes show them",
        ),
    ],
)
def test_what_was_not_tested_of_a_class_is_told(
    changes: dict[str, Any], what: str, why: str
) -> None:
    ((found, reason),) = told(results(**changes))
    assert found == what
    assert reason.startswith(why)


def test_what_stands_out_and_was_not_followed_up_is_told() -> None:
    out = SimpleNamespace(q=np.full((1, 4), 0.01), p_model=np.array([[0.01, 0.01, 0.2, 0.01]]))
    ((what, reason),) = told(results(named=out))
    assert what == "2 concepts that stand out of the null for husky"
    assert reason.endswith("groups of a class are put to the test: snow, mud")
    finding = Finding(
        id=finding_id(3, "husky", "snow"), class_index=3, concept="snow", category="weather",
        grade="suspected", evidence=(), caveats=(), pictures=(), alike=("mud",),
    )  # fmt: skip
    assert told(results(named=out), findings=(finding,)) == []
    assert told(results(named=out), core=(0, 1)) == []
    of_another = finding.model_copy(update={"class_index": 2})
    assert len(told(results(named=out), findings=(of_another,))) == 1
