"""TorchScript as ordinary modules: layers that hooks can reach, and gradients to the input.

Hooks on the submodules of a loaded TorchScript module never fire. Here its graph is inlined, and
values inside it become further outputs that pass through modules of their own, "taps", which
change nothing and can be hooked. The compiler's Python interface that this needs is not public:
where it fails, the module is used as it is.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from auditor.models.exported import HEAD_INPUT, linear_of, place

__all__ = ["tap_scripted"]

logger = logging.getLogger(__name__)

MAX_TAPS = 32
"""All tapped values stay in memory until the forward pass ends."""

WEIGHTED = {
    "aten::conv2d",
    "aten::_convolution",
    "aten::convolution",
    "aten::linear",
    "aten::addmm",
    "aten::batch_norm",
    "aten::layer_norm",
    "aten::group_norm",
    "aten::instance_norm",
}
ACTIVATIONS = {
    f"aten::{name}{in_place}"
    for name in (
        *("relu", "relu6", "gelu", "silu", "mish", "elu", "leaky_relu", "prelu", "selu"),
        *("hardtanh", "hardswish", "hardsigmoid", "sigmoid", "tanh", "softplus", "clamp"),
    )
    for in_place in ("", "_")
}
ENDS: dict[str, Callable[[], nn.Module]] = {
    "aten::softmax": lambda: nn.Softmax(1),
    "aten::log_softmax": lambda: nn.LogSoftmax(1),
    "aten::sigmoid": nn.Sigmoid,
}
JOINTS = {"aten::add", "aten::add_", "aten::cat", "aten::scaled_dot_product_attention"}


@dataclass(frozen=True)
class _Lifted:
    """A TorchScript graph as a function of the image and of all tensors that it held.

    `function` returns the logits, or the head's input where there is a head, then each tap's value.
    `end` is the softmax or sigmoid that is put on the logits.
    """

    function: _Function
    tensors: dict[str, Tensor]
    taps: tuple[str, ...]
    head: tuple[str, str | None] | None
    end: nn.Module | None


class _Function:
    """A compiled function, which holds no tensors, so that copies of a network can share it."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def __call__(self, *values: Tensor) -> Any:
        return self._compiled(*values)

    def __deepcopy__(self, memo: object) -> _Function:
        return self


class _Unsuitable(Exception):  # noqa: N818 - told in a warning, never raised to the caller
    """The graph is of a kind that cannot be opened."""


class TappedScript(nn.Module):
    """A TorchScript graph whose inner values pass through taps after each forward pass."""

    def __init__(self, lifted: _Lifted) -> None:
        super().__init__()
        self._function = lifted.function
        self._names: list[str] = []
        places: dict[str, str] = {}
        for i, (name, value) in enumerate(lifted.tensors.items()):
            places[name] = f"tensor_{i}"
            self._names.append(places[name])
            if value.is_floating_point():
                parameter = nn.Parameter(value.detach(), requires_grad=False)
                self.register_parameter(places[name], parameter)
            else:
                self.register_buffer(places[name], value)
        self._taps = lifted.taps
        for path in lifted.taps:
            place(self, path, nn.Identity())
        self.head: nn.Linear | None = None
        if lifted.head is not None:
            weight, bias = lifted.head
            self.head = linear_of(
                getattr(self, places[weight]), None if bias is None else getattr(self, places[bias])
            )
        self._has_end = lifted.end is not None
        if lifted.end is not None:
            self.add_module("end", lifted.end)

    def forward(self, images: Tensor) -> Tensor:
        """The logits of a batch of network inputs."""
        given = [getattr(self, name) for name in self._names]
        # the optimiser may fuse operations, and cut the gradient between a tap and the logits
        with torch.jit.optimized_execution(False):
            values = self._function(images, *given)
        first, *rest = values if isinstance(values, tuple) else (values,)
        for path, value in zip(self._taps, rest, strict=True):
            self.get_submodule(path)(value)
        logits: Tensor = first if self.head is None else self.head(first)
        if self._has_end:
            logits = self.get_submodule("end")(logits)
        return logits


class ClosedScript(nn.Module):
    """A TorchScript module that could not be opened: the only tap is on its logits."""

    def __init__(self, script: nn.Module) -> None:
        super().__init__()
        self.script = script
        self.logits = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """The logits of a batch of network inputs."""
        output = self.script(images)
        logits: Tensor = self.logits(output[0] if isinstance(output, tuple) else output)
        return logits


def tap_scripted(script: torch.jit.ScriptModule, example: Tensor) -> nn.Module:
    """A module that computes a TorchScript module, with taps named after the weights behind them.

    The graph is inlined, its tensors become parameters, and the values at the ends of chains of
    convolution, normalisation and activation, of additions, concatenations and attention become
    further outputs that pass through taps. Where the logits are a linear layer's output that layer
    is an ordinary `nn.Linear` named "head"; else a tap "head_input" is the last before the logits.
    A softmax or sigmoid at the end is an ordinary module named "end".
    Where that fails the module is kept whole, with one tap, and a warning is logged.

    Args:
        script: a loaded TorchScript module.
        example: network inputs on which the opened graph must give the module's own logits.
    """
    script.eval()
    kinds = (value.dtype for value in script.parameters() if value.is_floating_point())
    example = example.to(next(kinds, example.dtype))
    try:
        tapped = TappedScript(_lift(script))
        with torch.no_grad():
            expected = ClosedScript(script)(example)
            if not torch.allclose(tapped(example), expected, rtol=1e-4, atol=1e-5, equal_nan=True):
                raise _Unsuitable("the opened graph gives other logits")
    except (_Unsuitable, RuntimeError, AttributeError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        logger.warning("The TorchScript graph cannot be opened, so no layers show: %s", reason)
        return ClosedScript(script)
    return tapped


def _lift(script: torch.jit.ScriptModule) -> _Lifted:
    with torch.no_grad():
        frozen = torch._C._freeze_module(script._c, [], True, True)
    method = frozen._get_method("forward")
    graph: Any = method.graph.copy()
    _fill_defaults(graph, method.schema.arguments)
    root = torch.jit._recursive.wrap_cpp_module(frozen)  # type: ignore[no-untyped-call]
    tensors = _lift_tensors(graph, root)
    torch._C._jit_pass_constant_propagation(graph)
    torch._C._jit_pass_peephole(graph, False)
    torch._C._jit_pass_dce(graph)
    graph.eraseInput(0)  # the module itself: raises where something still needs it
    _unpack_output(graph)
    names = dict(zip([v.debugName() for v in graph.inputs()][1:], tensors, strict=True))
    end = _cut_end(graph)
    head = _cut_head(graph, names)
    taps = _choose_taps(graph, names, head is not None)
    for _, value in taps:
        graph.registerOutput(value)
    if taps:
        graph.makeMultiOutputIntoTuple()
    torch._C._jit_pass_dce(graph)
    graph.lint()
    function = torch._C._create_function_from_graph("forward", graph)
    return _Lifted(_Function(function), tensors, tuple(name for name, _ in taps), head, end)


def _fill_defaults(graph: Any, arguments: list[Any]) -> None:
    """Put default values in place of all inputs but the module and the image."""
    inputs = list(graph.inputs())
    for i in range(len(inputs) - 1, 1, -1):
        if not arguments[i].has_default_value():
            raise _Unsuitable(f"the model needs an input {arguments[i].name} beside the image")
        inputs[i].replaceAllUsesWith(_constant(graph, arguments[i].default_value))
        graph.eraseInput(i)


def _constant(graph: Any, value: object) -> Any:
    constant = graph.insertConstant(value)
    constant.node().moveBefore(next(iter(graph.nodes())))
    return constant


def _lift_tensors(graph: Any, root: nn.Module) -> dict[str, Tensor]:
    """Make inputs of all tensors in the graph; their names and values in the inputs' order."""
    found: dict[str, tuple[Tensor, Any]] = {}

    def resolved(value: Any) -> tuple[Any, str]:
        node = value.node()
        if node.kind() != "prim::GetAttr":
            return root, ""
        owner, path = resolved(next(iter(node.inputs())))
        name = node.s("name")
        return getattr(owner, name), f"{path}.{name}" if path else name

    for node in list(_all_nodes(graph)):
        if node.kind() == "prim::GetAttr":
            value, name = resolved(node.output())
        elif node.kind() == "prim::Constant" and node.hasAttribute("value"):
            value = node.t("value") if node.kindOf("value") == "t" else ()
            name = f"constant_{len(found)}"
        else:
            continue
        if value is None:
            node.output().replaceAllUsesWith(_constant(graph, None))
        elif isinstance(value, Tensor) and (value.ndim or node.kind() == "prim::GetAttr"):
            if name not in found:
                given = graph.addInput()
                given.setType(node.output().type())
                found[name] = value, given
            node.output().replaceAllUsesWith(found[name][1])
    return {name: value for name, (value, _) in found.items()}


def _all_nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _all_nodes(inner)


def _unpack_output(graph: Any) -> None:
    """Leave the first value where the graph returns a tuple."""
    (output,) = list(graph.outputs())
    if output.node().kind() == "prim::TupleConstruct":
        first = next(iter(output.node().inputs()))
        graph.eraseOutput(0)
        graph.registerOutput(first)
        output = first
    if output.type().kind() != "TensorType":
        raise _Unsuitable(f"it returns a {output.type().kind()}, not a tensor of logits")


def _cut_end(graph: Any) -> nn.Module | None:
    """Leave a softmax or sigmoid over the classes at the graph's end out of it; as a module."""
    (output,) = list(graph.outputs())
    kind = output.node().kind()
    given = list(output.node().inputs())
    if kind not in ENDS or (kind != "aten::sigmoid" and given[1].toIValue() not in (1, -1)):
        return None
    graph.eraseOutput(0)
    graph.registerOutput(given[0])
    torch._C._jit_pass_dce(graph)
    return ENDS[kind]()


def _cut_head(graph: Any, names: dict[str, str]) -> tuple[str, str | None] | None:
    """Leave the linear layer that gives the logits out of the graph; its weight and bias."""
    (logits,) = list(graph.outputs())
    if logits.node().kind() != "aten::linear":
        return None
    data, weight, bias = list(logits.node().inputs())
    named_bias = names.get(bias.debugName())
    if weight.debugName() not in names or (named_bias is None and not _is_none(bias)):
        return None
    graph.eraseOutput(0)
    graph.registerOutput(data)
    torch._C._jit_pass_dce(graph)
    return names[weight.debugName()], named_bias


def _is_none(value: Any) -> bool:
    return bool(value.node().mustBeNone())


def _choose_taps(graph: Any, names: dict[str, str], has_head: bool) -> list[tuple[str, Any]]:
    """Names and values of the taps, in the order of execution."""
    candidates: list[tuple[str, Any]] = []
    base, taken = "input", {"head", "end", HEAD_INPUT}
    last = None
    for node in graph.nodes():
        kind = node.kind()
        if (
            kind not in WEIGHTED | ACTIVATIONS | JOINTS
            or node.output().type().kind() != "TensorType"
        ):
            continue
        owners = [names[v.debugName()] for v in node.inputs() if v.debugName() in names]
        if kind in WEIGHTED:
            base = next((n.rpartition(".")[0] for n in owners if "." in n), kind[6:].strip("_"))
            if kind not in {"aten::batch_norm", "aten::layer_norm", "aten::group_norm"}:
                last = node
        name = base if kind in WEIGHTED else f"{base}_{kind.removeprefix('aten::').rstrip('_')}"
        if not _continues(node.output()):
            candidates.append((_unique(name, taken), node.output()))
    step = max(1, len(candidates) / MAX_TAPS)
    chosen = [candidates[int(i * step)] for i in range(min(len(candidates), MAX_TAPS))]
    if not has_head and last is not None:
        data = list(last.inputs())[1 if last.kind() == "aten::addmm" else 0]
        inner = {v.debugName() for v in _before(graph, last)}
        chosen = [tap for tap in chosen if tap[1].debugName() in inner]
        chosen.append((HEAD_INPUT, data))
    return chosen


def _continues(value: Any) -> bool:
    """Whether a value only goes on into a normalisation or activation, or is written over."""
    users = [use.user.kind() for use in value.uses()]
    overwritten = any(kind.startswith("aten::") and kind.endswith("_") for kind in users)
    norms = {"aten::batch_norm", "aten::group_norm", "aten::instance_norm"}
    return overwritten or (len(users) == 1 and users[0] in ACTIVATIONS | norms)


def _before(graph: Any, last: Any) -> Iterator[Any]:
    for node in graph.nodes():
        if node == last:
            return
        yield from node.outputs()


def _unique(name: str, taken: set[str]) -> str:
    name = ".".join(re.sub(r"\W", "_", part) or "_" for part in name.split("."))
    plain, count = name, 1
    while name in taken:
        count += 1
        name = f"{plain}_{count}"
    taken.add(name)
    return name
