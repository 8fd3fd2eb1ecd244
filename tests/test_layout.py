"""The package's shape: what modules export, how long they and their functions are, what is packed.

The floors of the chapters are contracts in `pyproject.toml`, which `lint-imports` checks.
"""

from __future__ import annotations

import ast
import importlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULE_LINES = 400
FUNCTION_LINES = 60  # without the docstring: what a function explains is not held against it


def read(root: Path) -> dict[str, ast.Module]:
    """The syntax trees of a package's modules, by dotted name."""
    trees = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text(encoding="utf-8"))
    return trees


@pytest.fixture(scope="module")
def modules() -> dict[str, ast.Module]:
    return read(ROOT / "auditor")


def exports(tree: ast.Module) -> list[str]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(each, ast.Name) and each.id == "__all__" for each in targets):
            return list(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return []


def bound(tree: ast.AST) -> set[str]:
    """All names that a module gives to something: at its top, in classes and in functions."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def borrowed(tree: ast.Module, modules: dict[str, ast.Module]) -> Iterator[tuple[str, str]]:
    """Names of other modules of the package that a module uses, as pairs of module and name."""
    modules_here = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in modules:
                    modules_here[alias.asname or alias.name] = whole
                else:
                    yield node.module, alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in modules:
                    modules_here[alias.asname or alias.name] = alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = modules_here.get(ast.unparse(node.value))
            if owner is not None and f"{owner}.{node.attr}" not in modules:
                yield owner, node.attr


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def borrowed_privately(modules: dict[str, ast.Module]) -> set[str]:
    """Uses of a name with a leading underscore that only other modules of the package give."""
    given = {name: bound(tree) for name, tree in modules.items()}
    anywhere = set().union(*given.values())
    found = set()
    for name, tree in modules.items():
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        foreign = {each for each in used & anywhere if each not in given[name]}
        foreign |= {each for _, each in borrowed(tree, modules)}
        found |= {f"{name} uses {each}" for each in foreign if private(each)}
    return found


def not_exported(modules: dict[str, ast.Module]) -> set[str]:
    """Public names that another module of the package uses and `__all__` lacks, by dotted name."""
    exported = {name: exports(tree) for name, tree in modules.items()}
    return {
        f"{owner}.{name}"
        for tree in modules.values()
        for owner, name in borrowed(tree, modules)
        if not name.startswith("_") and name not in exported[owner]
    }


def lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From `def` to the end, without the docstring."""
    count = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        count -= (first.end_lineno or 0) - first.lineno + 1
    return count


def test_no_private_name_is_used_across_modules(modules: dict[str, ast.Module]) -> None:
    assert not borrowed_privately(modules)


def test_every_exported_name_exists(modules: dict[str, ast.Module]) -> None:
    for name, tree in modules.items():
        module = importlib.import_module(name)
        assert not [each for each in exports(tree) if not hasattr(module, each)], name


def test_every_name_that_another_module_uses_is_exported(modules: dict[str, ast.Module]) -> None:
    assert not not_exported(modules)


def test_the_checks_of_names_see_what_breaks_them(tmp_path: Path) -> None:
    package = tmp_path / "planted"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.py").write_text(
        "__all__ = ['shown']\nshown = hidden = _own = 1\nclass Base:\n    def _inner(self): pass\n"
    )
    (package / "b.py").write_text(
        "from planted import a\n"
        "from planted.a import _own, shown\n"
        "def f(base): return a.hidden + shown + base._inner()\n"
    )
    modules = read(package)
    assert borrowed_privately(modules) == {"planted.b uses _own", "planted.b uses _inner"}
    assert not_exported(modules) == {"planted.a.hidden"}


def test_modules_are_short() -> None:
    long = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "auditor").rglob("*.py")
        if len(path.read_text(encoding="utf-8").splitlines()) > MODULE_LINES
    }
    assert not long


def test_functions_are_short(modules: dict[str, ast.Module]) -> None:
    long = {
        f"{name}.{node.name}"
        for name, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines(node) > FUNCTION_LINES
    }
    assert not long


def test_every_folder_of_the_package_is_packed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {path.parent for path in (ROOT / "auditor").rglob("*.py")}
    packages = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(project["tool"]["setuptools"]["packages"]) == packages | {"auditor.templates"}
