"""Results of tasks are kept by the version of their code, which changes with the code."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import auditor
from auditor.pipeline import tasks
from auditor.pipeline.engine import Task, lineage

HOME = Path(auditor.__file__).parent
LOCK = Path(__file__).with_name("versions.json")
APART = ("errors", "record", "config")  # which decide no number
CODE: dict[type[Task], tuple[str, ...]] = {
    tasks.ObservePhotos: ("models.activations", "models.loading", "images.image_set"),
    tasks.EncodePhotos: ("concepts.probes", "images.image_set"),
    tasks.GeneratePrototypes: ("prototypes.generation", "prototypes.constraints"),
    tasks.FindRegions: ("prototypes.isolation",),
    tasks.DrawConcept: ("evidence.insertion",),
    tasks.SeeDrawing: ("evidence.insertion", "concepts.probes"),
    tasks.Transplant: ("evidence.surroundings",),
}


def imports(tree: ast.AST) -> set[str]:
    """Modules of the package that a module imports, without the package's name."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("auditor."):
            place = (node.module or "").removeprefix("auditor.")
            found |= {place, *(f"{place}.{name.name}" for name in node.names)}
    return {name for name in found if path(name).is_file() and name.split(".")[0] not in APART}


def path(name: str) -> Path:
    return HOME / f"{name.replace('.', '/')}.py"


def meaning(tree: ast.AST) -> str:
    """A module's code without comments and docstrings."""
    for node in ast.walk(tree):
        body: Any = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        text = first.value if isinstance(first, ast.Expr) else None
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            body[:1] = [ast.Pass()]
    return ast.unparse(tree)


def digest(roots: tuple[str, ...]) -> str:
    """Of the code that a task runs: of some modules and all that these import."""
    waiting, seen = list(roots), dict[str, str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        tree = ast.parse(path(name).read_text(encoding="utf-8"))
        waiting += imports(tree)
        seen[name] = meaning(tree)
    return hashlib.sha256(json.dumps(sorted(seen.items())).encode()).hexdigest()[:16]


def current() -> dict[str, list[object]]:
    return {kind.stage: [lineage(kind), digest(roots)] for kind, roots in CODE.items()}


@pytest.mark.parametrize("kind", CODE, ids=lambda kind: kind.stage)
def test_changed_code_has_another_version(kind: type[Task]) -> None:
    version, code = json.loads(LOCK.read_text())[kind.stage]
    assert [version, code] == [lineage(kind), digest(CODE[kind])], (
        f"The code of {kind.__name__} was changed. Where its results change, raise its version; "
        "then run `python tests/pipeline/test_versions.py`, which writes versions.json anew."
    )


def test_every_task_is_watched() -> None:
    found = [value for value in vars(tasks).values() if isinstance(value, type)]
    assert {value for value in found if hasattr(value, "version")} == set(CODE)
    assert len({kind.stage for kind in CODE}) == len(CODE)


def test_comments_and_docstrings_are_no_change() -> None:
    plain = "pass\n\ndef f():\n    pass\n    return 1\n"
    spoken = '"""A module."""\n\ndef f():\n    """A function."""\n    # why\n    return 1\n'
    other = "def f():\n    return 2\n"
    assert meaning(ast.parse(plain)) == meaning(ast.parse(spoken)) != meaning(ast.parse(other))


if __name__ == "__main__":
    LOCK.write_text(json.dumps(current(), indent=1) + "\n")
