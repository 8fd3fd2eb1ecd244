"""The notebook of the examples runs from its first cell to its last."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from auditor.lab import example, training

NOTEBOOK = Path(__file__).parents[2] / "examples" / "audit-from-python.ipynb"


def cells() -> list[str]:
    """The code of the notebook."""
    data = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in data["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer photos than a reader makes: it takes less time, and finds little."""
    monkeypatch.setattr(training, "DEMO", dataclasses.replace(training.DEMO, n_train=30))
    monkeypatch.setattr(example, "IMAGES_PER_CLASS", 10)
    monkeypatch.setattr(example, "POOL", 80)
    monkeypatch.setattr("auditor.pipeline.experimenting.INSERTION_PHOTOS", 4)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "notebook"}
    for cell in cells():
        exec(compile(cell, NOTEBOOK.name, "exec"), names)
    shown = names["run"]._repr_html_()  # type: ignore[attr-defined]
    assert "not assessed; the report says which" in shown
    assert set(names["scores"]["class"]) == {"star", "umbrella", "fish"}  # type: ignore[index]


def test_the_notebook_is_kept_without_its_output() -> None:
    data = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    for cell in data["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
