"""Saved graphs that would run code or reach files are refused, and ordinary ones are not."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from saved import CPU, Evil, check_same, export, images, load, resnet, said, script
from torch import Tensor, nn

from auditor.errors import ModelError


def rewritten(
    path: Path, folder: Path, change: Callable[[str, bytes], bytes | None], *more: str
) -> Path:
    """A copy of an archive in which each file is passed through `change`."""
    out = folder / f"changed{path.suffix}"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w") as target:
        root = source.namelist()[0].split("/")[0]
        for name in source.namelist():
            data = change(name.split("/", 1)[1], source.read(name))
            if data is not None:
                target.writestr(name, data)
        for name in more:
            target.writestr(f"{root}/{name}", b"x")
    return out


def in_program(change: Callable[[dict[str, Any]], object]) -> Callable[[str, bytes], bytes]:
    def apply(name: str, data: bytes) -> bytes:
        if name != "models/model.json":
            return data
        program = json.loads(data)
        change(program)
        return json.dumps(program).encode()

    return apply


def pickled(folder: Path, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save((Evil(folder / "owned"),), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def program_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(resnet(), tmp_path_factory.mktemp("program") / "m.pt2")


def nodes(program: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = program["graph_module"]["graph"]["nodes"]
    return found


SIZE = {"as_expr": {"expr_str": "__import__('os').mkdir('owned')", "hint": {"as_int": 2}}}

HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "operation": lambda p: nodes(p)[3].update(target="torch.load"),
    "operation '_": lambda p: nodes(p)[3].update(target="_operator.methodcaller"),
    "operation 'torch.ops.aten.from": lambda p: nodes(p)[3].update(
        target="torch.ops.aten.from_file.default"
    ),
    "operation 'torch.ops.aten.save": lambda p: nodes(p)[3].update(
        target="torch.ops.aten.save.default"
    ),
    "expression": lambda p: p["graph_module"]["graph"]["tensor_values"]["x"].update(sizes=[SIZE]),
    "odd name": lambda p: nodes(p)[3].update(name="a: __import__('os').mkdir('owned')"),
    "structure": lambda p: p["graph_module"]["module_call_graph"][0]["signature"].update(
        in_spec='[1, {"type": "evil.Type", "context": "null", "children_spec": []}]'
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_programs_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program_file: Path, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = rewritten(program_file, tmp_path, in_program(HOSTILE[what]))
    with pytest.raises(ModelError, match=rf"could run code, or .* \({what}.*--trust-code"):
        load(f"file:{path}", **said(tmp_path, 5))
    assert not (tmp_path / "owned").exists()


def test_pickles_in_programs_are_refused(tmp_path: Path, program_file: Path) -> None:
    def inputs(name: str, data: bytes) -> bytes:
        return pickled(tmp_path) if name.startswith("data/sample_inputs") else data

    def weight(name: str, data: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            return data.replace(b'"use_pickle": false', b'"use_pickle": true', 1)
        return pickled(tmp_path) if name.endswith("weight_0") else data

    changed = [rewritten(program_file, tmp_path, inputs)]
    for path in changed:
        with pytest.raises(ModelError, match="pickled objects"):
            load(f"file:{path}", **said(tmp_path, 5))
    with pytest.raises(ModelError, match="pickled objects"):
        load(f"file:{rewritten(program_file, tmp_path, weight)}", **said(tmp_path, 5))
    for extra in ("data/aotinductor/model/x.so", "data/constants/custom_obj_0"):
        path = rewritten(program_file, tmp_path, lambda name, data: data, extra)
        with pytest.raises(ModelError, match=r"it holds 'data/.*--trust-code"):
            load(f"file:{path}", **said(tmp_path, 5))
    assert not (tmp_path / "owned").exists()


def test_a_rewritten_program_still_loads(tmp_path: Path, program_file: Path) -> None:
    # so that the refusals above are for what was changed
    path = rewritten(program_file, tmp_path, lambda name, data: data)
    check_same(load(f"file:{path}", **said(tmp_path, 5)), resnet())


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("s77", True),
        ("2*s0 + 1", True),
        ("FloorDiv(s0 - 1, 2) + Max(1, u3)", True),
        ("(s0, s1)", False),
        ("s0.__class__", False),
        ("__import__('os')", False),
        ("open(1)", False),
        ("lambda: 1", False),
        ("'s0'", False),
        ("Max(*s0)", False),
        ("s0[0]", False),
        ("s0 if s1 else 2", False),
        ("x", False),
        ("(", False),
        ("2**64 * s0", True),
        ("s0**2 + s0**(-1) + 1.5*s0**0.5", True),
        ("PowByNatural(s0, 2) << 3", True),
        ("Min(int_oo, Mod(Symbol('s7', positive=True, integer=True), 8)) >= 1", True),
        ("10**10**10", False),
        ("PowByNatural(10, PowByNatural(10, 10))", False),
        ("PowByNatural(2, 10**10)", False),
        ("FloatPow(s0, 1e10)", False),
        ("s0**s1", False),
        ("1 << 10**10", False),
        ("LShift(1, s0)", False),
        ("((9**64)**64)**64", False),
        ("((9**-64)**-64)**-64", False),
        ("*".join(["s0"] * 100), False),
        ("+".join(["s0"] * 10_000), False),
        ("(" * 1_000 + "1" + ")" * 1_000, False),
        ("-" * 1_900 + "1", False),
    ],
)
def test_expressions_of_sizes(text: str, plain: bool) -> None:
    from auditor.models.archives import _is_arithmetic

    assert _is_arithmetic(text) is plain


# --- scripts that would reach files --------------------------------------------------------------


class Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


def hostile_script(folder: Path, *lines: str) -> Path:
    """A TorchScript file that does more than its module did."""
    plain = b"return torch.mul(x, 2)"
    more = "".join(f"{line}\n    " for line in lines).encode()

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith(".py"):
            return data
        assert plain in data
        return data.replace(plain, more + plain)

    return rewritten(script(Double(), folder / "m.pt", "script"), folder, change)


SAVES = [
    ('torch.save(x, "owned")',),
    ('ops.aten.save(x, "owned")',),
    ('x = torch.add(x, torch.from_file("owned", True, 1))',),
    ("save = torch.save", 'save(x, "owned")'),
    ("t = torch", 't.save(x, "owned")'),
    ("t = ops.aten", 't.save(x, "owned")'),
    ("t = torch.autograd", 't.save(x, "owned")'),
    ('torch . save(x, "owned")',),
    ("torch.\\", 'save(x, "owned")'),
    ('getattr(torch, "sa" "ve")(x, "owned")',),
    ('getattr(torch, "\\163ave")(x, "owned")',),
]


@pytest.mark.parametrize("lines", SAVES)
def test_scripts_that_reach_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = hostile_script(tmp_path, *lines)
    with pytest.raises(ModelError, match=r"could reach files when it is run .*--trust-code"):
        load(f"file:{path}", **said(tmp_path, 5))
    assert not (tmp_path / "owned").exists()
    with pytest.raises(ModelError, match="output of shape"):
        load(f"file:{path}", trust_code=True, **said(tmp_path, 5))
    assert (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("y = ops.image.read_file(x)", "ops.image.read_file"),
        ("y = ops.prim.rpc_sync(x)", "ops.prim.rpc_sync"),
        ("y = ops", "ops"),
        ("y = __torch__.torch", "__torch__.torch"),
        ("y = __torch__.torch.classes.c10d.ReduceOp()", "__torch__.torch.classes.c10d.ReduceOp"),
    ],
)
def test_scripts_may_only_name_harmless_operators(tmp_path: Path, line: str, named: str) -> None:
    with pytest.raises(ModelError, match=rf"\(it uses '{named}'\)"):
        load(f"file:{hostile_script(tmp_path, line)}", **said(tmp_path, 5))


@pytest.mark.parametrize(
    ("more", "told"),
    [("model.json", "'model.json'"), ("CODE/__torch__.PY", "two files of one name")],
)
def test_scripts_hold_no_second_code(tmp_path: Path, more: str, told: str) -> None:
    plain = script(Double(), tmp_path / "m.pt", "script")
    path = rewritten(plain, tmp_path, lambda name, data: data, "code/__torch__.py", more)
    with pytest.raises(ModelError, match=told):
        load(f"file:{path}", **said(tmp_path, 5))


@pytest.mark.parametrize(
    ("package", "problem"), [("c10d", "it uses 'torch.classes'"), ("quantized", None)]
)
def test_scripts_hold_no_objects_of_other_packages(package: str, problem: str | None) -> None:
    from auditor.models.archives import _not_plain_script

    pickled = f"c__torch__.torch.classes.{package}\nMade\n".encode()
    assert _not_plain_script(["data.pkl"], lambda name: pickled) == problem


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (lambda: torchvision.models.resnet18(), "script"),
        (lambda: torchvision.models.resnet18(), "trace"),
        (lambda: torchvision.models.mobilenet_v3_small(), "script"),
        (lambda: torchvision.models.quantization.resnet18(quantize=True), "script"),
    ],
)
def test_ordinary_scripts_are_not_refused(
    tmp_path: Path, build: Callable[[], nn.Module], kind: str
) -> None:
    from auditor.models.archives import load_scripted

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantisation is deprecated
        path = script(build().eval(), tmp_path / "m.pt", kind)
        net, _ = load_scripted(path, CPU, trust_code=False)
        assert net(images(2)).shape == (2, 1000)
