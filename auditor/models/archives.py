"""Reading saved graphs without running code that somebody put into the file.

`torch.export.load` unpickles example inputs and some tensors, evaluates expressions for sizes and
compiles checks from text; PyTorch's documentation says to load only what one trusts. TorchScript
has an interpreter of its own, which reaches nothing in Python, but some of its operators write
files, and loading a file already runs what it says of restoring objects. Here an archive is looked
through first, and whatever could run code or reach files makes it "not plain": then the file is
loaded only where its origin is trusted. Faults of PyTorch's own readers are not guarded against.
"""

from __future__ import annotations

import ast
import io
import json
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from auditor.errors import ModelError, first_line
from auditor.models.description import Description
from auditor.models.limits import check_archive
from auditor.models.weights import METADATA_KEY

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["is_torchscript", "load_exported", "load_scripted"]

PLAIN_FILES = re.compile(
    r"archive_format|archive_version|byteorder|\.data/\w+|extra/[\w.]+|models/model\.json"
    r"|data/weights/(model_weights_config\.json|weight_\d+)"
    r"|data/constants/(model_constants_config\.json|tensor_\d+)|data/sample_inputs/model\.pt"
)
PLAIN_OPERATIONS = re.compile(
    r"torch\.ops\.aten\.(?!(?:from_file|save)\.)\w+\.\w+"
    r"|torch\.sym_\w+|math\.(ceil|floor|trunc|sqrt)"
    r"|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|eq|ne|lt|le|gt|ge|and_|or_)"
)
"""`aten::from_file` and `aten::save` open any file; the other operators only see their inputs."""

NAMESPACES = re.compile(rb"\b(?:torch|ops|__torch__)\b(?:\.\w+)*")
"""Where TorchScript finds operators and classes: `torch` is the operators `aten`."""

PLAIN_USE = re.compile(
    rb"(?:torch|ops\.(?:aten|prim|quantized))"
    rb"(?:\.(?!(?:from_file|save|autograd|PythonOp|rpc_\w+)\b)\w+)+"
    rb"|__torch__\.(?!torch$|torch\.classes\b(?!\.quantized\.))[\w.]+"
)
"""A use is plain if it is the full name of one operator or class. A namespace that is used as a
value, such as `torch.autograd`, could be asked for any other name. `classes` are written in C++,
and other packages may add some."""

CUSTOM_CLASS = re.compile(rb"torch[.\s]+classes\b(?![.\s]+quantized\b)")

PLAIN_NAME = re.compile(r"[\w.]*")
PLAIN_TREES = {None, "builtins.tuple", "builtins.list", "builtins.dict"}
SIZE_FUNCTIONS = {
    *("FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod", "CleanDiv", "CeilToInt"),
    *("FloorToInt", "CeilDiv", "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv"),
    *("IntTrueDiv", "IsNonOverlappingAndDenseIndicator", "TruncToFloat", "TruncToInt"),
    *("RoundToInt", "RoundDecimal", "ToFloat", "Identity", "Max", "Min", "Eq", "Ne", "Ge", "Gt"),
    *("Le", "Lt", "Integer"),
}
DECLARED_SIZE = re.compile(r"Symbol\('([suz]+\d+)'(?:, [a-z]+=(?:True|False))*\)")
LONGEST_EXPRESSION = 2000
LARGEST_POWER = 64
LARGEST_INTEGER = 2048
"""Characters of an expression for a size, the largest exponent, and bits of any number in it.
PyTorch evaluates expressions to the end, and `10**10**10` has none. Sizes fit into 64 bits."""

LARGEST_GRAPH = 200_000
"""Operations of a program; a network of 1,000 layers has a tenth of them."""

READ_FREELY = {"metadata", "torch_version", "as_string", "as_strings", "guards_code"}
"""Text that is only kept, passed as an argument, or never used here (the compiled checks)."""


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def load_scripted(
    path: Path, device: torch.device, *, trust_code: bool
) -> tuple[torch.jit.ScriptModule, Description]:
    """Load a TorchScript file, and the description among its extra files.

    Raises:
        ModelError: it cannot be loaded, or could reach files and is not trusted.
    """
    extra: dict[str, str | bytes] = {METADATA_KEY: ""}
    check_archive(path)
    try:
        data = path.read_bytes()
        if not trust_code:
            archive = torch._C.PyTorchFileReader(io.BytesIO(data))  # as torch.jit.load reads it
            problem = _not_plain_script(archive.get_all_records(), archive.get_record)
            if problem is not None:
                raise ModelError(
                    f"{path} could reach files when it is run ({problem}); save the model with "
                    "torch.export.save, or give --trust-code if you trust where it comes from."
                )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated, which its users know
            script: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]
                io.BytesIO(data), map_location=device, _extra_files=extra
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"Cannot load the TorchScript file {path}: {first_line(error)}.") from None
    return script, Description.parse(extra[METADATA_KEY], source=str(path))


def load_exported(path: Path, *, trust_code: bool) -> tuple[ExportedProgram, Description]:
    """Load a `.pt2` file of `torch.export.save`, and the description among its extra files.

    Raises:
        ModelError: it cannot be loaded, or could run code and is not trusted.
    """
    try:
        from torch.export.pt2_archive._package import PT2ArchiveReader, load_pt2
    except ImportError:
        raise ModelError(
            f"This PyTorch ({torch.__version__}) cannot read {path}; install 2.9 or newer."
        ) from None
    check_archive(path)
    try:
        data = path.read_bytes()
        if not trust_code:
            with PT2ArchiveReader(io.BytesIO(data)) as archive:
                problem = _not_plain(archive.get_file_names(), archive.read_bytes)
            if problem is not None:
                raise ModelError(
                    f"{path} could run code, or never end, when it is loaded ({problem}); export "
                    "it again without that, or give --trust-code if you trust where it comes from."
                )
        contents = load_pt2(io.BytesIO(data))
        program: ExportedProgram = contents.exported_programs["model"]
    except ModelError:
        raise
    except Exception as error:  # whatever PyTorch's parsers meet in a damaged file
        raise ModelError(f"Cannot load the program {path}: {first_line(error)}.") from error
    described = contents.extra_files.get(METADATA_KEY, "")
    return program, Description.parse(described, source=str(path))


def _not_plain_script(names: list[str], read: Callable[[str], bytes]) -> str | None:
    """What in a TorchScript archive is more than tensors, classes and harmless operators."""
    folded = [name.casefold() for name in names]  # PyTorch finds files whatever their case
    if len(set(folded)) < len(folded):
        return "it holds two files of one name"
    if "model.json" in folded:
        return "it holds 'model.json', which only PyTorch 1.1 and older wrote"
    for name, plain in zip(names, folded, strict=True):
        problem = None
        if plain.startswith("code/") and plain.endswith(".py"):
            uses = (found[0] for found in NAMESPACES.finditer(read(name)))
            problem = next((use for use in uses if not PLAIN_USE.fullmatch(use)), None)
        elif plain.endswith(".pkl") and (found := CUSTOM_CLASS.search(read(name))):
            problem = found[0]
        if problem is not None:
            return f"it uses {problem[:80].decode()!r}"
    return None


def _not_plain(names: list[str], read: Callable[[str], bytes]) -> str | None:
    """What in an archive is more than tensors and calls of PyTorch's operators."""
    for name in names:
        if not PLAIN_FILES.fullmatch(name):
            return f"it holds {name[:80]!r}"
    for name in names:
        if name.startswith("extra/"):
            continue
        if name.endswith(".json"):
            problem = _not_plain_value(json.loads(read(name)), "")
            if problem is not None:
                return problem
        elif name.endswith("model.pt"):
            try:
                torch.load(io.BytesIO(read(name)), weights_only=True)
            except pickle.UnpicklingError:
                return "its example inputs are pickled objects"
    return None


def _not_plain_value(value: Any, key: str) -> str | None:
    if isinstance(value, dict):
        if isinstance(nodes := value.get("nodes"), list) and len(nodes) > LARGEST_GRAPH:
            return f"{len(nodes):,} operations"
        for name, part in value.items():
            if not PLAIN_NAME.fullmatch(name):
                return f"odd name {name[:80]!r}"
            problem = None if name in READ_FREELY else _not_plain_value(part, name)
            if problem is not None:
                return problem
    elif isinstance(value, list):
        for part in value:
            problem = _not_plain_value(part, key)
            if problem is not None:
                return problem
    elif key == "use_pickle" and value is not False:
        return "some tensors are pickled objects"
    elif isinstance(value, str):
        return _not_plain_text(value, key)
    return None


def _not_plain_text(text: str, key: str) -> str | None:
    if key == "target":
        plain = PLAIN_OPERATIONS.fullmatch(text) is not None
        return None if plain else f"operation {text[:80]!r}"
    if key == "expr_str":
        return None if _is_arithmetic(text) else f"expression {text[:80]!r}"
    if key in ("in_spec", "out_spec"):
        plain = text == "" or ("__" not in text and _is_plain_tree(json.loads(text)[1]))
        return None if plain else f"structure {text[:80]!r}"
    return None if PLAIN_NAME.fullmatch(text) else f"odd name {text[:80]!r}"


def _is_plain_tree(tree: dict[str, Any]) -> bool:
    return tree["type"] in PLAIN_TREES and all(map(_is_plain_tree, tree["children_spec"]))


def _is_arithmetic(text: str) -> bool:
    """Whether an expression only computes with numbers and the names of sizes, and soon ends."""
    if len(text) > LONGEST_EXPRESSION:
        return False
    try:
        tree = ast.parse(DECLARED_SIZE.sub(r"\1", text.strip()), mode="eval")
        return _bits(tree.body) <= LARGEST_INTEGER
    except (SyntaxError, ValueError, RecursionError):
        return False


def _bits(node: ast.expr) -> int:
    """Bits that the value of an expression has at most, sizes having 64.

    Raises:
        ValueError: it is more than arithmetic, or a power whose exponent is large or unknown.
    """
    match node:
        case ast.Constant() | ast.Name():
            return _bits_of_one(node)
        case ast.UnaryOp(operand=operand):
            return _bits(operand)
        case ast.BinOp(left=left, op=ast.Pow() | ast.LShift(), right=right):
            return _power(left, right)
        case ast.BinOp(left=left, right=right):
            return _sum([left, right])
        case ast.BoolOp(values=values):
            return _sum(values)
        case ast.Compare(left=left, comparators=others):
            return _sum([left, *others])
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if (
            name in SIZE_FUNCTIONS
        ):
            powers = name in ("PowByNatural", "FloatPow", "LShift") and len(arguments) == 2
            return _power(*arguments) if powers else _sum(arguments)
    raise ValueError(f"{type(node).__name__} is no arithmetic")


def _bits_of_one(node: ast.Constant | ast.Name) -> int:
    """Bits of a number or of a size by name."""
    match node:
        case ast.Constant(value=bool()):
            return 1
        case ast.Constant(value=int(value)):
            return value.bit_length()
        case ast.Constant(value=float()):
            return 64
        case ast.Name(id=name) if _is_size(name):
            return 64
    raise ValueError(f"{type(node).__name__} is no arithmetic")


def _sum(nodes: list[ast.expr]) -> int:
    return 1 + sum(_bits(node) for node in nodes)  # as many as a product has, or more


def _power(base: ast.expr, exponent: ast.expr) -> int:
    sign = exponent.operand if isinstance(exponent, ast.UnaryOp) else exponent
    if not isinstance(sign, ast.Constant) or not isinstance(sign.value, int | float):
        raise ValueError("the exponent is no number")
    if abs(sign.value) > LARGEST_POWER:
        raise ValueError("the exponent is large")
    return max(1, math.ceil(abs(sign.value))) * _bits(base) + LARGEST_POWER


def _is_size(name: str) -> bool:
    return re.fullmatch(r"z?[suf]+\d+|int_oo|oo", name) is not None
