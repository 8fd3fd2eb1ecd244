"""Saved audits that are damaged, forged or contradict themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import audits
from miniature import called
from table import Called, Fault, Place, rows

Tree = dict[str, Any]


def _forged(place: Place, change: Callable[[Tree], object]) -> Called:
    tree = json.loads(audits.audit().to_json())
    change(tree)
    return _text(place, json.dumps(tree))


def _text(place: Place, text: str | bytes) -> Called:
    place.write("run/audit.json", text)
    return called("report", "run", "--no-pdf")


def _first(tree: Tree, **changes: object) -> None:
    tree["classes"][0].update(changes)


def _finding(tree: Tree, **changes: object) -> None:
    tree["findings"][0].update(changes)


RECORDS: tuple[Fault, ...] = (
    *rows(
        "record",
        _forged,
        {
            "a class twice": (
                lambda t: t["classes"].append(t["classes"][0]),
                "run/audit.json is not a valid audit: a class index stands twice",
            ),
            "a finding twice": (
                lambda t: t["findings"].append(t["findings"][0]),
                "run/audit.json is not a valid audit: a finding stands twice",
            ),
            "a finding of no class": (
                lambda t: _finding(t, class_index=999),
                "run/audit.json is not a valid audit: finding 0a1b2c3d4e5f is of a class that was not",
            ),
            "an unknown field": (
                lambda t: t.update(x=1),
                "run/audit.json is not a valid audit: x: Extra inputs are not permitted",
            ),
            "schema version 99": (
                lambda t: t.update(schema_version="99.0"),
                "run/audit.json has schema version '99.0', this program reads 1.0 to 2.x; render it",
            ),
            "a list as schema version": (
                lambda t: t.update(schema_version=[1]),
                "run/audit.json has schema version [1], this program reads 1.0 to 2.x; render it",
            ),
            "no classes field": (
                lambda t: t.pop("classes"),
                "run/audit.json is not a valid audit: classes: Field required",
            ),
            "photos below 0": (
                lambda t: _first(t, n_images=-5),
                "run/audit.json is not a valid audit: classes.0.n_images: Input should be greater than or",
            ),
            "classes below 0": (
                lambda t: t["coverage"].update(classes=-1),
                "run/audit.json is not a valid audit: coverage.classes: Input should be greater than or",
            ),
            "hypotheses below 0": (
                lambda t: t["coverage"].update(hypotheses=-1),
                "run/audit.json is not a valid audit: coverage.hypotheses: Input should be greater than or",
            ),
            "an interval the wrong way round": (
                lambda t: _first(t, accuracy={"value": 0.5, "low": 0.9, "high": 0.1, "n": 3}),
                "run/audit.json is not a valid audit: classes.0.accuracy: 0.5 lies outside its interval",
            ),
            "an accuracy above 1": (
                lambda t: _first(t, accuracy={"value": 1.5, "low": 1.4, "high": 1.6, "n": 3}),
                "run/audit.json is not a valid audit: class 0: its accuracy lies outside of 0 to 1",
            ),
            "a probability of 2": (
                lambda t: t["classes"][0]["prototypes"][0].update(probability=2),
                "run/audit.json is not a valid audit: classes.0.prototypes.0.probability: Input should be",
            ),
            "a finding without evidence": (
                lambda t: _finding(t, evidence=[]),
                "run/audit.json is not a valid audit: finding 0a1b2c3d4e5f: it is confirmed without",
            ),
            "an unknown grade": (
                lambda t: _finding(t, grade="proven"),
                "run/audit.json is not a valid audit: findings.0.grade: Input should be 'suspected'",
            ),
            "a verdict without reasons": (
                lambda t: t.update(verdict={"status": "met", "reasons": []}),
                "run/audit.json is not a valid audit: the verdict is met without a criterion or reason",
            ),
            "an unknown verdict": (
                lambda t: t.update(verdict={"status": "fine", "reasons": ["x"]}),
                "run/audit.json is not a valid audit: verdict.status: Input should be 'met', 'not_met'",
            ),
            "settings that are none": (
                lambda t: t["spec"].update(seed=-1),
                "run/audit.json is not a valid audit: spec.seed: Input should be greater than or equal to",
            ),
            "text for a number": (
                lambda t: _first(t, n_images="many"),
                "run/audit.json is not a valid audit: classes.0.n_images: Input should be a valid integer",
            ),
        },
    ),
    *rows(
        "record file",
        _text,
        {
            "empty": (
                "",
                "run/audit.json is not valid JSON (Expecting value: line 1 column 1 (char 0)); run the",
            ),
            "no JSON": (
                "{",
                "run/audit.json is not valid JSON (Expecting property name enclosed in double quotes: line",
            ),
            "NaN": (
                '{"schema_version": "2.0", "x": NaN}',
                "run/audit.json is not a valid audit: tool: Field required",
            ),
            "a list": (
                "[]",
                "run/audit.json has schema version None, this program reads 1.0 to 2.x; render it",
            ),
            "a number": (
                "1",
                "run/audit.json has schema version None, this program reads 1.0 to 2.x; render it",
            ),
            "100,000 deep": (
                "[" * 10**5,
                "run/audit.json is not valid JSON (maximum recursion depth exceeded while decoding a JSON",
            ),
            "no UTF-8": (
                b"\xff\xfe",
                "Cannot read the audit run/audit.json: 'utf-8' codec can't decode byte 0xff in position 0",
            ),
            "a byte-order mark": (
                b"\xef\xbb\xbf{}",
                "run/audit.json is not valid JSON (Unexpected UTF-8 BOM (decode using utf-8-sig): line 1",
            ),
            "a number of 5,000 digits": (
                "1" * 5000,
                "run/audit.json is not valid JSON (Exceeds the limit (4300 digits) for integer string",
            ),
            "zeros": (
                bytes(5000),
                "run/audit.json is not valid JSON (Expecting value: line 1 column 1 (char 0)); run the",
            ),
        },
    ),
)
