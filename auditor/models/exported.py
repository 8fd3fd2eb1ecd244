"""Exported programs as ordinary modules, with layers that hooks can reach.

A program of `torch.export` has no submodules that run. Here values inside its graph pass through
modules of their own, "taps", which change nothing and can be hooked.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn

from auditor.errors import ModelError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["HEAD_INPUT", "linear_of", "place", "tap_exported"]

HEAD_INPUT = "head_input"
"""Name of the tap before the last linear layer, where that layer cannot be hooked itself."""

aten = torch.ops.aten

LINEAR_LIKE = {
    aten.linear.default,
    aten.addmm.default,
    aten.conv2d.default,
    aten.convolution.default,
}


ENDS: dict[object, Callable[[], nn.Module]] = {
    aten.softmax.int: lambda: nn.Softmax(1),
    aten._softmax.default: lambda: nn.Softmax(1),
    aten.log_softmax.int: lambda: nn.LogSoftmax(1),
    aten._log_softmax.default: lambda: nn.LogSoftmax(1),
    aten.sigmoid.default: nn.Sigmoid,
}


class Tap(nn.Module):
    """Passes its input through; the name of the module whose output it stands for is its name."""

    def forward(self, value: Tensor) -> Tensor:
        """The input."""
        return value


def tap_exported(program: ExportedProgram) -> nn.Module:
    """A module that computes an exported program, with the module names it was exported from.

    Each module that has weights, and each activation function, becomes a tap on the last value
    that was computed in it. Where the logits are a linear layer's output that layer is an ordinary
    `nn.Linear`; else a tap named "head_input" stands before the last linear layer or convolution.
    A softmax or sigmoid at the end is an ordinary module named "end".

    Raises:
        ModelError: the program takes more than an image batch, or was exported for training.
    """
    # the generated checks of input shapes would forbid other sizes, and are code from the file
    options = inspect.signature(program.module).parameters
    module = program.module(check_guards=False) if "check_guards" in options else program.module()
    net = fx.GraphModule(module, module.graph)  # without the ban on eval()
    inputs = [node for node in net.graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise ModelError(f"The exported program takes {len(inputs)} inputs, not one image batch.")
    _forbid_training(net)
    logits = _logits(net)
    last = _last_linear(net)
    given = last is not None and (last is logits or any(n.op == "output" for n in last.users))
    head = _as_linear(net, last) if last is not None and given else None
    outputs = _module_outputs(net)
    for path, node in outputs.items():
        if node is not head:
            _insert_tap(net, node, path, kind=_kind(node, path))
    if last is not None and head is None:
        _insert_tap(net, last.all_input_nodes[_data_input(last)], HEAD_INPUT, kind=nn.Identity)
    net.graph.lint()
    net.recompile()
    return net


def _forbid_training(net: fx.GraphModule) -> None:
    for node in net.graph.nodes:
        name = str(node.target)
        dropout = name.startswith("aten.dropout") and node.args[2] is True
        norm = name.startswith("aten.batch_norm") and node.args[5] is True
        if dropout or norm or name.startswith("aten._native_batch_norm_legit.default"):
            raise ModelError(
                "The program was exported in training mode; call eval() on the model and export "
                "it again."
            )


def _stack(node: fx.Node) -> list[tuple[str, str]]:
    """Path and type of the modules a node was computed in, outermost first, without the root."""
    stack = node.meta.get("nn_module_stack") or {}
    entries = [(re.sub(r"@\d+", "", str(path)), str(kind)) for path, kind in stack.values()]
    return [(path, kind) for path, kind in entries if re.fullmatch(r"\w+(\.\w+)*", path)]


def _kind(node: fx.Node, path: str) -> type[nn.Module]:
    """A class named as the original module's, so that blocks of a kind can be told from others."""
    return _tap_class(dict(_stack(node)).get(path, "").rpartition(".")[2])


@functools.cache
def _tap_class(name: str) -> type[nn.Module]:
    return type(name, (Tap,), {}) if name.isidentifier() else Tap


def _module_outputs(net: fx.GraphModule) -> dict[str, fx.Node]:
    """The last value computed in each module, inner modules first."""
    owners = {name.rpartition(".")[0] for name, _ in net.named_parameters()}
    outputs: dict[str, fx.Node] = {}
    for node in net.graph.nodes:
        value = node.meta.get("val")
        if node.op not in ("call_function", "call_module") or not isinstance(value, Tensor):
            continue
        if value.ndim < 2 or not value.is_floating_point():
            continue
        for path, kind in reversed(_stack(node)):
            container = kind.endswith((".Sequential", ".ModuleList"))
            weighted = any(owner == path or owner.startswith(path + ".") for owner in owners)
            if (weighted or ".activation." in kind) and not container:
                outputs.pop(path, None)
                outputs[path] = node
    return outputs


def _insert_tap(net: fx.GraphModule, node: fx.Node, path: str, *, kind: type[nn.Module]) -> None:
    place(net, path, kind())
    source = node
    while (tap := next((user for user in source.users if user.op == "call_module"), None)) and (
        isinstance(net.get_submodule(str(tap.target)), Tap)
    ):
        source = tap  # the taps on one value follow each other, inner modules first
    with net.graph.inserting_after(source):
        call = net.graph.call_module(path, (source,))
    source.replace_all_uses_with(call, delete_user_cb=lambda user: user is not call)
    call.meta.update(val=node.meta.get("val"), nn_module_stack=node.meta.get("nn_module_stack"))


def place(net: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a path; it takes over the parameters and children of what stood there."""
    parent = net
    *parents, name = path.split(".")
    for part in parents:
        if not isinstance(getattr(parent, part, None), nn.Module):
            parent.add_module(part, nn.Module())
        parent = getattr(parent, part)
    old = getattr(parent, name, None)
    if isinstance(old, nn.Module):
        for key, parameter in old.named_parameters(recurse=False):
            module.register_parameter(key, parameter)
        for key, buffer in old.named_buffers(recurse=False):
            module.register_buffer(key, buffer)
        for key, child in old.named_children():
            module.add_module(key, child)
    parent.add_module(name, module)


def _logits(net: fx.GraphModule) -> object:
    """The node of the logits: what is returned, or what the softmax or sigmoid before that takes.

    Such an end becomes a module.
    """
    output = next(node for node in net.graph.nodes if node.op == "output")
    (end,) = output.all_input_nodes[:1] or (None,)
    make = ENDS.get(end.target) if end is not None else None
    if end is None or make is None or (len(end.args) > 1 and end.args[1] not in (1, -1)):
        return end
    place(net, "end", make())
    logits = end.args[0]
    with net.graph.inserting_after(end):
        call = net.graph.call_module("end", (logits,))
    call.meta.update(val=end.meta.get("val"))
    end.replace_all_uses_with(call)
    net.graph.erase_node(end)
    return logits


def _last_linear(net: fx.GraphModule) -> fx.Node | None:
    found = [node for node in net.graph.nodes if node.target in LINEAR_LIKE]
    return found[-1] if found else None


def _data_input(node: fx.Node) -> int:
    return 1 if node.target is aten.addmm.default else 0


def _as_linear(net: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """Turn the linear node that gives the logits into an `nn.Linear` that shares its weights."""
    if node.target is not aten.linear.default:
        return None
    given = [*node.args[1:], *([None] if len(node.args) < 3 else [])]
    tensors = [_attribute(net, value) for value in given]
    weight, bias = tensors
    if weight is None or (bias is None and given[1] is not None):
        return None
    linear = linear_of(weight, bias)
    paths = [path for path, kind in _stack(node) if kind.endswith(".Linear")]
    path = paths[-1] if paths else "head"
    place(net, path, linear)
    with net.graph.inserting_after(node):
        call = net.graph.call_module(path, (node.args[0],))
    call.meta.update(node.meta)
    node.replace_all_uses_with(call)
    net.graph.erase_node(node)
    return call


def _attribute(net: fx.GraphModule, value: object) -> nn.Parameter | None:
    if not isinstance(value, fx.Node) or value.op != "get_attr":
        return None
    owner, _, name = str(value.target).rpartition(".")
    found = getattr(net.get_submodule(owner), name, None)
    return found if isinstance(found, nn.Parameter) else None


def linear_of(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    """A linear layer around parameters that exist."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = weight
    if bias is not None:
        linear.bias = bias
    return linear
