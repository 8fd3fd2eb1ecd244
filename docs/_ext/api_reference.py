"""The API reference, made from docstrings and signatures without importing the package.

Docstrings are Markdown with the sections of Google's style, as they are written.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import griffe

__all__ = ["documented", "drawings", "pages", "settings"]

# From the top of the method down; a chapter that is not named here comes after them.
ORDER = (
    "api", "cli", "pipeline", "lab", "report", "findings", "evidence", "prototypes", "concepts",
    "models", "images", "record", "drawing", "core", "config", "errors",
)  # fmt: skip
LEFT_OUT = ("__main__", "architectures", "data", "templates")  # started, old name, files
SECTIONS = {"constants": "Constants", "classes": "Classes", "functions": "Functions"}


@lru_cache(maxsize=1)
def _package(root: Path) -> griffe.Module:
    loaded = griffe.load(
        root.name,
        search_paths=[str(root.parent)],
        docstring_parser="google",
        docstring_options={"warnings": False},  # an entry may be of several names
        allow_inspection=False,
    )
    assert isinstance(loaded, griffe.Module)
    return loaded


def pages(root: Path) -> dict[str, str]:
    """Markdown pages by name: one for the package's own names, one for each chapter."""
    package = _package(root)
    chapters = {
        name: module
        for name, module in package.members.items()
        if isinstance(module, griffe.Module) and name not in LEFT_OUT and not _private(name)
    }
    ranks = {name: place for place, name in enumerate(ORDER)}
    found = {}
    if exported(package):
        found["00-auditor"] = _page("auditor", [package])
    for name in sorted(chapters, key=lambda name: (ranks.get(name, len(ranks)), name)):
        place = ranks.get(name, len(ranks))
        modules = [chapters[name], *_below(chapters[name])]
        found[f"{place + 1:02d}-{name}"] = _page(f"auditor.{name}", modules)
    return found


def documented(root: Path) -> set[str]:
    """Dotted names of all that the pages show."""
    package = _package(root)
    modules = [package, *_below(package)]
    return {
        f"{module.path}.{name}"
        for module in modules
        if not set(module.path.split(".")) & set(LEFT_OUT)
        for name in exported(module)
    }


def exported(module: griffe.Module) -> list[str]:
    """The names in a module's `__all__` that are defined there or come from the package."""
    names = [str(name).strip("'\"") for name in module.exports or ()]
    return [name for name in names if name in module.members and _object(module, name) is not None]


def settings(root: Path) -> str:
    """Every section of the settings: its meaning, and each name with type and default."""
    module = _package(root).members["config"]
    assert isinstance(module, griffe.Module)
    parts = []
    for name in ("AuditConfig", "ModelConfig", "PrototypeConfig", "StatisticsConfig",
                 "SelfTestConfig", "ScopeConfig"):  # fmt: skip
        section = module.members[name]
        assert isinstance(section, griffe.Class)
        lines = [f"## {name}", "", *_docstring(section), ""]
        lines += ["| setting | meaning | values | default |", "|---|---|---|---|"]
        for key, value in section.members.items():
            if isinstance(value, griffe.Attribute) and value.annotation and not _private(key):
                cells = map(_cell, (f"`{key}`", *_setting(value)))
                lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


TYPES = {"str": "text", "bool": "true or false", "int": "whole number", "float": "number"}
SHORT = {"Unit": "number above 0 and below 1", "Sides": "one side, or height and width"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def _setting(setting: griffe.Attribute) -> tuple[str, str, str]:
    """What a setting means, the values that it takes, and its default, in words."""
    given: ast.expr | None = None
    if setting.value is not None:
        given = ast.parse(str(setting.value), mode="eval").body
    field: dict[str | None, ast.expr] = {}
    if isinstance(given, ast.Call) and ast.unparse(given.func) == "Field":
        field = {each.arg: each.value for each in given.keywords}
        given = field.get("default")
    kinds = _parts(ast.parse(str(setting.annotation)).body[0])
    values = [" or ".join(_words(part) for part in kinds), _limits(field.items())]
    default = "required" if given is None else f"`{ast.unparse(given)}`"
    meaning = ast.literal_eval(field["description"]) if "description" in field else ""
    return meaning, " ".join(values).strip(), default.replace("`None`", "not set")


def _limits(keywords: Iterable[tuple[str | None, ast.expr]]) -> str:
    """The limits of a number, such as "at least 1 and at most 64"."""
    return " and ".join(
        f"{BOUNDS[name]} {eval(ast.unparse(value)):,}" for name, value in keywords if name in BOUNDS
    )


def _parts(node: ast.stmt | ast.expr) -> Iterator[ast.expr]:
    """The members of a union, but for `None`, which is how a setting is left open."""
    expression = node.value if isinstance(node, ast.Expr) else node
    if isinstance(expression, ast.BinOp):
        yield from _parts(expression.left)
        yield from _parts(expression.right)
    elif isinstance(expression, ast.expr) and ast.unparse(expression) != "None":
        yield expression


def _words(node: ast.expr) -> str:
    text = ast.unparse(node)
    if not isinstance(node, ast.Subscript):
        return TYPES.get(text) or SHORT.get(text) or f"`{text}`"
    kind, inner = ast.unparse(node.value), node.slice
    elements = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if kind == "Literal":
        return ", ".join(f"`{ast.literal_eval(each)}`" for each in elements)
    if kind == "tuple":
        return f"list of {_words(elements[0])}"
    if kind == "dict":
        return f"mapping from {_words(elements[0])} to {_words(elements[1])}"
    fields = [each.keywords for each in elements[1:] if isinstance(each, ast.Call)]
    limits = _limits((each.arg, each.value) for keywords in fields for each in keywords)
    return f"{_words(elements[0])} {limits}".strip()


def drawings(root: Path) -> str:
    """A table of the drawings by kind, read from the list that defines them."""
    tree = ast.parse((root / "drawing" / "drawings.py").read_text(encoding="utf-8"))
    value = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_ALL"
    )
    assert isinstance(value, ast.Tuple)
    kinds: dict[str, list[str]] = {}
    for call in value.elts:
        assert isinstance(call, ast.Call)
        kind = ast.unparse(call.func).lstrip("_")
        kinds.setdefault(kind, []).append(ast.unparse(call.args[0]).split(".")[1])
    lines = ["| kind | drawings |", "|---|---|"]
    lines += [f"| {kind} | {', '.join(f'`{n}`' for n in names)} |" for kind, names in kinds.items()]
    return "\n".join(lines)


def _page(title: str, modules: list[griffe.Module]) -> str:
    parts = [f"# {title}\n"]
    for number, module in enumerate(modules):
        names = exported(module)
        if number and not names:
            continue
        if number:
            parts.append(f"## {module.path.removeprefix(title + '.')}\n")
        parts.append(f"```{{py:module}} {module.path}\n```\n")
        parts.append("\n".join(_docstring(module)) + "\n")
        parts += [_member(module, name) for name in names]
    return "\n".join(parts)


def _member(module: griffe.Module, name: str) -> str:
    found = _object(module, name)
    assert found is not None
    if isinstance(found, griffe.Function):
        return _directive("function", f"{name}{_signature(found)}", _docstring(found))
    if isinstance(found, griffe.Class):
        body = _docstring(found)
        if not any(line.startswith("**Attributes**") for line in body):
            body += _fields(found)
        for key, inner in found.members.items():
            if _private(key) or isinstance(inner, griffe.Alias) or inner.docstring is None:
                continue
            if isinstance(inner, griffe.Function):
                head = f"{key}{_signature(inner)}"
                body += ["", *_directive("method", head, _docstring(inner)).splitlines()]
            elif "property" in inner.labels:
                body += ["", *_directive("property", key, _docstring(inner)).splitlines()]
        return _directive("class", name, body)
    assert isinstance(found, griffe.Attribute)
    return _directive("data", name, _docstring(found))


def _fields(found: griffe.Class) -> list[str]:
    """The public fields of a value, with their types."""
    lines = [
        f"- `{key}`: `{value.annotation}`"
        for key, value in found.members.items()
        if isinstance(value, griffe.Attribute)
        and value.annotation is not None
        and "property" not in value.labels
        and not _private(key)
    ]
    return ["**Attributes**", "", *lines, ""] if lines else []


def _directive(kind: str, head: str, body: list[str]) -> str:
    fence = 3  # backticks: one more than those of what stands inside
    while any(line.lstrip().startswith("`" * fence) for line in body):
        fence += 1
    ticks = "`" * fence
    return "\n".join([f"{ticks}{{py:{kind}}} {head}", "", *body, ticks, ""])


def _signature(function: griffe.Function) -> str:
    """Names and defaults; types stand in the source, and would hide them here."""
    shown, kinds = [], griffe.ParameterKind
    starred = False
    for parameter in function.parameters:
        if parameter.name in ("self", "cls"):
            continue
        stars = {kinds.var_positional: "*", kinds.var_keyword: "**"}.get(parameter.kind, "")
        starred = starred or stars == "*"
        if parameter.kind is kinds.keyword_only and not starred:
            shown.append("*")
            starred = True
        default = "" if parameter.default is None or stars else f"={parameter.default}"
        shown.append(f"{stars}{parameter.name}{default}")
    return f"({', '.join(shown)})"


def _docstring(found: griffe.Object) -> list[str]:
    """A docstring's Markdown lines; its sections become lists."""
    if found.docstring is None:
        return []
    lines: list[str] = []
    for section in found.docstring.parsed:
        if isinstance(section, griffe.DocstringSectionText):
            lines += [*_safe(section.value).splitlines(), ""]
        elif isinstance(section, griffe.DocstringSectionExamples):
            for kind, value in section.value:
                text = kind is griffe.DocstringSectionKind.text
                lines += [value, ""] if text else ["```pycon", *value.splitlines(), "```", ""]
        elif section.kind is griffe.DocstringSectionKind.admonition:
            lines += [f"**{section.title}**", "", *_safe(section.value.description).splitlines()]
        else:
            lines += [f"**{section.kind.value.capitalize()}**", "", *_entries(section), ""]
    return lines


def _entries(section: griffe.DocstringSection) -> Iterator[str]:
    for entry in section.value:
        words = " ".join(_safe(entry.description).split())
        name = getattr(entry, "name", "") or ""
        if section.kind is griffe.DocstringSectionKind.raises:
            name = str(entry.annotation)
        yield f"- `{name}`: {words}" if name else f"- {words}"


def _safe(text: str) -> str:
    """Text of a docstring, with what is laid out by spaces kept so, and no mark-up by chance."""
    text = re.sub(r"(?m)^(>>> (?:.*\n?)+?)(?=\n|\Z)", r"```pycon\n\1\n```\n", text)
    return re.sub(r"<!-- (generated: \w+) -->", r"&lt;!-- \1 --&gt;", text)


def _object(module: griffe.Module, name: str) -> griffe.Object | None:
    found = module.members[name]
    if isinstance(found, griffe.Alias):
        try:
            return found.final_target
        except (griffe.AliasResolutionError, griffe.CyclicAliasError):
            return None  # from another package
    return None if isinstance(found, griffe.Module) else found


def _below(module: griffe.Module) -> list[griffe.Module]:
    found = []
    for name, inner in sorted(module.members.items()):
        if isinstance(inner, griffe.Module) and not _private(name):
            found += [inner, *_below(inner)]
    return found


def _private(name: str) -> bool:
    return name.startswith("_")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
