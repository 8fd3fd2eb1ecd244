"""Every code has a meaning, words and a line in the documentation, and none has them in vain."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from auditor.record import codes
from auditor.record.notes import Caveat, Material, Note, Reason, VerdictReason
from auditor.report import notes, parts, words

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "record.md"
VALUES: Mapping[str, Any] = {
    "count": 12, "number": 0.31, "flag": True, "text": "Any words.", "texts": ("snow", "mud"),
}  # fmt: skip
NOTES: Mapping[type[Note], tuple[Any, Mapping[Any, Any]]] = {
    Caveat: (codes.CaveatCode, notes.CAVEATS),
    Reason: (codes.ReasonCode, notes.REASONS),
    Material: (codes.MaterialCode, notes.MATERIALS),
    VerdictReason: (codes.VerdictCode, notes.VERDICT_REASONS),
}


@pytest.mark.parametrize("kind", NOTES, ids=lambda kind: kind.__name__)
def test_every_code_has_a_meaning_and_words_and_none_has_them_in_vain(kind: type[Note]) -> None:
    listed, said = NOTES[kind]
    assert set(get_args(listed)) == set(kind.meanings) == set(said)
    for code, meaning in kind.meanings.items():
        note = kind(code=code, params={k: VALUES[v] for k, v in meaning.params.items()})
        told = said[code](note)
        assert told == told.strip() != ""
        assert "None" not in told
        for name in meaning.params:
            with pytest.raises(ValidationError, match=f"needs {name}"):
                kind(code=code, params={k: v for k, v in note.params.items() if k != name})


def test_every_other_code_has_words() -> None:
    assert set(get_args(codes.GapCode)) == set(codes.GAPS) == set(notes.GAPS)
    assert set(get_args(codes.Unit)) == set(codes.UNITS) == set(notes.UNITS)
    assert set(get_args(codes.TestName)) == set(codes.TESTS) == set(words.TESTS)
    assert set(get_args(codes.PictureKind)) == set(codes.PICTURES) == set(parts.KINDS)
    assert set(get_args(codes.Grade)) == set(codes.GRADES) == set(words.GRADES)
    assert set(get_args(codes.Status)) == set(words.VERDICTS)


def test_grades_have_one_order() -> None:
    order: list[codes.Grade | None] = [None, "not_tested", "suspected", "corroborated", "confirmed"]
    assert sorted(order, key=codes.strength) == order
    assert codes.FOUND == ("suspected", "corroborated", "confirmed")


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"photos": 1.5, "needed": 5}, "needs photos, a count"),
        ({"photos": True, "needed": 5}, "needs photos, a count"),
        ({"photos": "4", "needed": 5}, "needs photos, a count"),
        ({"photos": float("nan"), "needed": 5}, "finite"),
        ({"photos": 4}, "needs needed, a count"),
    ],
)
def test_values_of_another_kind_are_refused(params: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Reason(code="few_photos", params=params)


def test_values_that_a_later_version_adds_are_kept() -> None:
    note = Reason(code="few_photos", params={"photos": 4, "needed": 5, "of": "day"})
    assert notes.reason(note) == "not tested: 4 photos, at least 5 are needed"


# --- the page -----------------------------------------------------------------------------------


def listed() -> Iterator[tuple[str, str]]:
    """The tables of the page: a title, and the lines."""
    plain: Mapping[str, Mapping[Any, str]] = {
        "Tests": codes.TESTS,
        "Units": codes.UNITS,
        "Pictures": codes.PICTURES,
        "What was not tested": codes.GAPS,
    }
    for title, meanings in plain.items():
        rows = "\n".join(f"| `{code}` | {text} |" for code, text in meanings.items())
        yield title, f"| Code | Meaning |\n| --- | --- |\n{rows}\n"
    coded: Mapping[str, Mapping[Any, codes.Meaning]] = {
        "Caveats": codes.CAVEATS,
        "Reasons": codes.REASONS,
        "What prototypes were made from": codes.MATERIALS,
        "Reasons of the verdict": codes.VERDICT_REASONS,
    }
    for title, notes_of in coded.items():
        rows = "\n".join(
            f"| `{code}` | {m.text} | {', '.join(f'`{n}` ({k})' for n, k in m.params.items())} |"
            for code, m in notes_of.items()
        )
        yield title, f"| Code | Meaning | Values |\n| --- | --- | --- |\n{rows}\n"


def test_the_page_has_the_tables() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for title, table in listed():
        assert f"### {title}\n\n{table}" in page, f"run `python {Path(__file__).name}`"
    assert len(re.findall(r"^### ", page, re.MULTILINE)) == len(list(listed()))


if __name__ == "__main__":
    head = PAGE.read_text(encoding="utf-8").partition("\n### ")[0].rstrip()
    body = "\n".join(f"### {title}\n\n{table}" for title, table in listed())
    PAGE.write_text(f"{head}\n\n{body}", encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
