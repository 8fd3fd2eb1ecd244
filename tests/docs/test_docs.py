"""The documentation: links lead somewhere, names exist, snippets run, the picture is small."""

from __future__ import annotations

import ast
import functools
import json
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

# What the snippets use is imported where they run: the other tests need nothing of the program.


ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    *sorted(
        page
        for page in DOCS.rglob("*.md")
        if page.parent != DOCS / "reference" / "api"  # made when the site is built
    ),
]
HAND_WRITTEN = [page for page in PAGES if page.parent != DOCS / "notes"]
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.M | re.S)


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def words(page: Path) -> str:
    """A page without its snippets and comments."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return re.sub(r"<!--.*?-->", "", text, flags=re.S)


def snippets(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return [body for name, body in FENCE.findall(text) if name == language]


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(each) for each in re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.M)}


def links(page: Path) -> Iterator[str]:
    text = words(page)
    yield from re.findall(r"\]\(([^)\s]+)\)", text)
    yield from re.findall(r'(?:src|href)="([^"]+)"', text)


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        made = "<!-- generated:" in target.read_text("utf-8") if target.suffix == ".md" else True
        assert not anchor or made or anchor in anchors(target), link


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[a](nowhere.md) [b](#there)\n\n```\n[no](link.md)\n```\n\n# There\n")
    assert list(links(page)) == ["nowhere.md", "#there"]
    assert anchors(page) == {"there"}


def test_every_page_stands_in_a_table_of_contents() -> None:
    listed = {"index"}
    for page in PAGES[1:]:
        for body in re.findall(
            r"^```\{toctree\}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S
        ):
            for line in body.splitlines():
                if line and not line.startswith(":"):
                    where = (page.parent / line).resolve().relative_to(DOCS)
                    listed.add(str(where))
    assert {str(page.relative_to(DOCS).with_suffix("")) for page in PAGES[1:]} == listed - {
        "reference/api/*"
    }


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_paths_in_code_exist(page: Path) -> None:
    for path in re.findall(
        r"`((?:auditor|tests|tools|templates|benchmarks|docs)/[\w./-]+)`", words(page)
    ):
        if path != "docs/reference/api/":
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_dotted_names_exist(page: Path) -> None:
    for name in re.findall(r"`(auditor(?:\.\w+)+)`", words(page)):
        parts = name.split(".")
        if name == "auditor.__all__":
            continue
        for cut in range(len(parts), 0, -1):
            module = ROOT.joinpath(*parts[:cut])
            file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
            if file.exists():
                break
        defined = {
            target for node in ast.parse(file.read_text("utf-8")).body for target in _defined(node)
        }
        assert cut == len(parts) or parts[cut] in defined, name


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    names = [each.id for each in targets if isinstance(each, ast.Name)]
    if names == ["__all__"] and isinstance(node, ast.Assign):
        names += ast.literal_eval(node.value)  # some are imported when they are first used
    return names


def test_the_readme_is_short_and_its_picture_small() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120
    assert (DOCS / "report.png").stat().st_size < 300_000


# --- snippets ------------------------------------------------------------------------------------


def commands() -> list[tuple[str, list[str]]]:
    """Every command line of `auditor` in the pages that are written for users."""
    found = []
    for page in HAND_WRITTEN:
        for body in snippets(page, ""):
            for line in body.replace("\\\n", " ").splitlines():
                given = shlex.split(line, comments=True)
                if given and given[0].endswith("bin/auditor"):
                    found.append((f"{page.relative_to(ROOT)}: {line[:60]}", given[1:]))
    return found


COMMANDS = commands()


@pytest.mark.parametrize("given", [c for _, c in COMMANDS], ids=[c for c, _ in COMMANDS])
def test_commands_are_understood(given: list[str]) -> None:
    """Parsed as the command line parses them; nothing runs."""
    import typer

    from auditor.cli.commands import app

    group = typer.main.get_command(app)
    if given == ["--help"]:
        return
    with group.make_context("auditor", given, resilient_parsing=False) as context:
        name, command, rest = group.resolve_command(context, context._protected_args + context.args)  # type: ignore[attr-defined]
        assert command is not None
        with command.make_context(name, rest, parent=context) as inner:
            assert not inner.args


def settings() -> list[tuple[str, str, str]]:
    return [
        (f"{page.relative_to(ROOT)}-{number}", body.partition("\n")[0], body)
        for page in HAND_WRITTEN
        for number, body in enumerate(snippets(page, "toml"))
    ]


SETTINGS = settings()


@pytest.mark.parametrize(("head", "body"), [s[1:] for s in SETTINGS], ids=[s[0] for s in SETTINGS])
def test_settings_and_banks_can_be_read(head: str, body: str, tmp_path: Path) -> None:
    from auditor.concepts import banks
    from auditor.config import AuditConfig

    file = tmp_path / "snippet.toml"
    file.write_text(body, encoding="utf-8")
    if head.startswith("# drawn"):
        tomllib.loads(body)
    elif head.startswith("# bank"):
        assert banks.load(str(file)).concepts
    elif "[model]" in body or head.startswith("# file"):
        AuditConfig.load(file, {})
    else:  # a part of a file
        AuditConfig.load(file, {"model.spec": "timm:resnet18", "images": "photos"})


def python_pages() -> list[Path]:
    return [page for page in HAND_WRITTEN if snippets(page, "python")]


@pytest.mark.parametrize("page", python_pages(), ids=names(python_pages()))
def test_python_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All snippets of a page one after another, as a reader would; with few steps."""
    import torch

    import auditor

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "audit").mkdir()
    for file in (ROOT / "sample_reports" / "example").iterdir():
        if file.suffix in (".json", ".parquet"):
            shutil.copy(file, tmp_path / "audit")
    factory = snippets(DOCS / "tutorials" / "own-model.md", "python")[0]
    (tmp_path / "my_model.py").write_text(factory, encoding="utf-8")
    for body in snippets(page, "toml"):
        name = re.match(r"# bank: (\S+)", body)
        if name is not None:
            (tmp_path / name[1]).write_text(body, encoding="utf-8")
    sample = auditor.load("audit")  # in place of an audit, and without a PDF
    monkeypatch.setattr("auditor.pipeline.runner.run", lambda *_, **__: sample.audit)
    report = functools.partialmethod(auditor.AuditRun.report, pdf=False)
    monkeypatch.setattr(auditor.AuditRun, "report", report)
    scope: dict[str, object] = {"__name__": "snippet", "model": torch.nn.Flatten()}
    for body in snippets(page, "python"):
        if not body.startswith("# file:"):
            quick = body.replace("steps=256", "steps=2").replace("collages(256", "collages(40")
            exec(compile(quick, str(page), "exec"), scope)
    monkeypatch.delitem(sys.modules, "my_model", raising=False)


# --- generated pages -----------------------------------------------------------------------------


def test_the_record_page_has_every_object_and_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS / "_ext")
    import record_reference

    page = record_reference.page(DOCS / "audit.schema.json")
    schema = json.loads((DOCS / "audit.schema.json").read_text("utf-8"))
    for name, one in {"Audit": schema, **schema["$defs"]}.items():
        section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
        assert section is not None, name
        assert all(f"| `{field}` |" in section[1] for field in one.get("properties", ()))


def test_the_api_pages_have_every_public_name(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("griffe", reason="the extra docs is not installed")
    monkeypatch.syspath_prepend(DOCS / "_ext")
    import api_reference

    pages = api_reference.pages(ROOT / "auditor")
    text = "\n".join(pages.values())
    for name in api_reference.documented(ROOT / "auditor"):
        module, _, own = name.rpartition(".")
        assert f"{{py:module}} {module}\n" in text, name
        assert re.search(rf"\{{py:(function|class|data)\}} {own}\b", text), name
    assert "ruler" in api_reference.drawings(ROOT / "auditor")
    shown = api_reference.settings(ROOT / "auditor")
    row = (
        "| `per_class` | Prototypes of each class. | whole number at least 1 and at most 64 | `3` |"
    )
    assert row in shown
    assert "|  |" not in shown, "every setting has a meaning and values"
    assert "Field(" not in shown
