"""Saved audits that are damaged, forged or contradict themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import audits
from table import Called, Fault, Place, rows

Tree = dict[str, Any]


def _forged(place: Place, change: Callable[[Tree], object]) -> Called:
    tree = json.loads(audits.audit().to_json())
    change(tree)
    return _text(place, json.dumps(tree))


def _text(place: Place, text: str | bytes) -> Called:
    place.write("run/audit.json", text)
    return place.call("report", "run", "--no-pdf")


def _first(tree: Tree, **changes: object) -> None:
    tree["classes"][0].update(changes)


def _finding(tree: Tree, **changes: object) -> None:
    tree["findings"][0].update(changes)


RECORDS: tuple[Fault, ...] = (
    *rows(
        "record",
        _forged,
        {
            "a class twice": (lambda t: t["classes"].append(t["classes"][0]), ""),
            "a finding twice": (lambda t: t["findings"].append(t["findings"][0]), ""),
            "a finding of no class": (lambda t: _finding(t, class_index=999), ""),
            "an unknown field": (lambda t: t.update(x=1), ""),
            "schema version 99": (lambda t: t.update(schema_version="99.0"), ""),
            "a list as schema version": (lambda t: t.update(schema_version=[1]), ""),
            "no classes field": (lambda t: t.pop("classes"), ""),
            "photos below 0": (lambda t: _first(t, n_images=-5), ""),
            "classes below 0": (lambda t: t["coverage"].update(classes=-1), ""),
            "hypotheses below 0": (lambda t: t["coverage"].update(hypotheses=-1), ""),
            "an interval the wrong way round": (
                lambda t: _first(t, accuracy={"value": 0.5, "low": 0.9, "high": 0.1, "n": 3}),
                "",
            ),
            "an accuracy above 1": (
                lambda t: _first(t, accuracy={"value": 1.5, "low": 1.4, "high": 1.6, "n": 3}),
                "",
            ),
            "a probability of 2": (
                lambda t: t["classes"][0]["prototypes"][0].update(probability=2),
                "",
            ),
            "a finding without evidence": (lambda t: _finding(t, evidence=[]), ""),
            "an unknown grade": (lambda t: _finding(t, grade="proven"), ""),
            "a verdict without reasons": (
                lambda t: t.update(verdict={"status": "met", "reasons": []}),
                "",
            ),
            "an unknown verdict": (
                lambda t: t.update(verdict={"status": "fine", "reasons": ["x"]}),
                "",
            ),
            "settings that are none": (lambda t: t["spec"].update(seed=-1), ""),
            "text for a number": (lambda t: _first(t, n_images="many"), ""),
        },
    ),
    *rows(
        "record file",
        _text,
        {
            "empty": ("", ""),
            "no JSON": ("{", ""),
            "NaN": ('{"schema_version": "1.7", "x": NaN}', ""),
            "a list": ("[]", ""),
            "a number": ("1", ""),
            "100,000 deep": ("[" * 10**5, ""),
            "no UTF-8": (b"\xff\xfe", ""),
            "a byte-order mark": (b"\xef\xbb\xbf{}", ""),
            "a number of 5,000 digits": ("1" * 5000, ""),
            "zeros": (bytes(5000), ""),
        },
    ),
)
