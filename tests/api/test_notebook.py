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
    """With fewer photos than a reader makes, so that it takes less time."""
    monkeypatch.setattr(training, "DEMO", dataclasses.replace(training.DEMO, n_train=120))
    monkeypatch.setattr(example, "IMAGES_PER_CLASS", 20)
    monkeypatch.setattr(example, "POOL", 300)
    monkeypatch.setattr("auditor.pipeline.experimenting.INSERTION_PHOTOS", 8)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "notebook"}
    for cell in cells():
        exec(compile(cell, NOTEBOOK.name, "exec"), names)
    run = names["run"]
    assert run._repr_html_().count("<tr>") > 1  # type: ignore[attr-defined]


def test_the_notebook_is_kept_without_its_output() -> None:
    data = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    for cell in data["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
