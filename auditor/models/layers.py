"""Which layers of any classifier are read: its activation path, and its features.

Layers are found by one traced forward pass, not by architecture name: the module tree is opened
until it reaches blocks that repeat, and the features are what enters the module that produces the
logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from auditor.errors import ModelError
from auditor.models.loading import Classifier
from auditor.models.outputs import TwoClasses
from auditor.models.tracing import Trace, Value, traced

__all__ = ["MAX_LAYERS", "Layers", "find_layers"]

MAX_LAYERS = 24  # a longer path does not fit a chart, and its neighbouring layers are much alike


@dataclass(frozen=True)
class Layers:
    """Where activations are read.

    Attributes:
        path: module names, in the order of execution.
        features: name of the module that produces the logits, or of the last one before them.
        features_are_input: whether the features enter that module (else they leave it).
        channel_axis: axis of the channels in the output of each layer and in the features.
        linear: whether the logits are a linear function of the features.
        overwritten: those of them that a later operation overwrites in place; they are copied.
    """

    path: tuple[str, ...]
    features: str
    features_are_input: bool
    channel_axis: Mapping[str, int]
    linear: bool
    overwritten: frozenset[str] = frozenset()


def find_layers(classifier: Classifier, names: tuple[str, ...] | None = None) -> Layers:
    """Find the layers of an activation path and the features.

    Args:
        classifier: the audited model; one forward pass of two grey images is run.
        names: layers that the user named, in any order; by default they are found.

    Raises:
        ModelError: a named layer does not exist or gives no activations, or none are found.
    """
    net = classifier.net
    trace = traced(classifier)
    order = {name: place for place, name in enumerate(trace.executed)}
    width = 1 if isinstance(net, TwoClasses) else len(classifier.class_names)
    head = _head(net, trace, width)
    if names is None:
        path = _blocks(net, order, trace.outputs)
        if head is not None:
            path = [name for name in path if order[name] < order[head[0]]]
        path = [name for name in path if len(trace.outputs[name].shape) > 1]
        path = [path[i] for i in np.unique(np.linspace(0, len(path) - 1, MAX_LAYERS).astype(int))]
    else:
        path = _named(net, names, trace, order)
    if not path:
        raise ModelError("No layers were found in the model; name some with --layers.")
    if head is None:
        last = [name for name in trace.executed if trace.outputs[name].shape[-1] != width]
        features, is_input, linear = (last or path)[-1], False, False
        seen = trace.outputs[features]
    else:
        features, linear = head
        is_input, linear = True, linear and width > 1
        seen = trace.inputs[features]
    values = {**{name: trace.outputs[name] for name in path}, "": seen}
    return Layers(
        tuple(path), features, is_input, {name: value.axis for name, value in values.items()},
        linear, frozenset(name for name, value in values.items() if value.overwritten),
    )  # fmt: skip


def _named(
    net: nn.Module, names: tuple[str, ...], trace: Trace, order: Mapping[str, int]
) -> list[str]:
    """The layers that the user named, in the order of execution."""
    modules = dict(net.named_modules())
    for name in names:
        if name not in modules:
            near = ", ".join(list(order)[:8])
            raise ModelError(f"The model has no layer {name!r}; its layers are called {near}, ...")
        if name not in trace.outputs or len(trace.outputs[name].shape) < 2:
            raise ModelError(f"Layer {name!r} gives no activations that can be read.")
    return sorted(names, key=lambda name: order[name])


def _head(net: nn.Module, trace: Trace, width: int) -> tuple[str, bool] | None:
    """The module that produces the logits, and whether they are linear in its pooled input.

    It is the last module with weights that ran, but for those that only go on with its output.
    """
    modules = dict(net.named_modules())
    for name in reversed(trace.executed):
        module = modules[name]
        if isinstance(module, nn.Linear) and module.out_features == width:
            return name, len(trace.inputs[name].shape) == 2
        if isinstance(module, nn.Conv2d) and module.out_channels == width:
            return name, module.kernel_size == (1, 1)
        plain = not any(module.children()) and next(module.parameters(), None) is not None
        if plain and width not in trace.outputs[name].shape:
            break
    named = [name for name in trace.executed if name.split(".")[-1] == "head_input"]
    return (named[-1], False) if named else None


def _blocks(net: nn.Module, order: Mapping[str, int], outputs: Mapping[str, Value]) -> list[str]:
    """Open the module tree until blocks that repeat, or single layers, are reached."""

    def children(name: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
        prefix = f"{name}." if name else ""
        return [(prefix + child, part) for child, part in module.named_children()]

    def runs(name: str) -> bool:
        return name in order or any(other.startswith(f"{name}.") for other in order)

    nodes = children("", net)
    while True:
        kinds = [type(module) for _, module in nodes]
        opened: list[tuple[str, nn.Module]] = []
        for name, module in nodes:
            inner = [part for part in children(name, module) if runs(part[0])]
            container = type(module) in (nn.Sequential, nn.ModuleList) or name not in order
            if inner and (container or kinds.count(type(module)) == 1):
                opened += inner
            else:
                opened.append((name, module))
        if [name for name, _ in opened] == [name for name, _ in nodes]:
            break
        nodes = opened
    kept = [
        name
        for name, module in nodes
        if name in order
        and outputs[name].shape[-1] > 0
        and (next(module.parameters(), None) is not None or isinstance(module, nn.Identity))
    ]
    return sorted(kept, key=lambda name: order[name])
