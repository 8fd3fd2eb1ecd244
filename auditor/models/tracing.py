"""One forward pass of a network, watched: its modules in order, and the tensors between them.

Which axis of a tensor holds the channels is followed through the operations of the pass where that
works (`auditor.models.channels`), and guessed from the shape where it does not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from auditor.errors import ModelError
from auditor.models.channels import ChannelAxes
from auditor.models.loading import Classifier, hookable

__all__ = ["Trace", "Value", "first_tensor", "traced"]

Shape = tuple[int, ...]


def first_tensor(value: object) -> Tensor | None:
    """The first tensor of what a module is given or gives, such as a tuple or a dictionary."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, tuple | list) and value:
        return first_tensor(value[0])
    if isinstance(value, Mapping):
        for part in value.values():
            found = first_tensor(part)
            if found is not None:
                return found
    return None


@dataclass(frozen=True)
class Value:
    """What was seen of a tensor that went into a module or came out of it."""

    shape: Shape
    axis: int  # of its channels
    overwritten: bool  # by a later operation in place


@dataclass(frozen=True)
class Trace:
    """One forward pass: modules in the order they finish, with their inputs and outputs."""

    executed: list[str]
    inputs: dict[str, Value]
    outputs: dict[str, Value]


def traced(classifier: Classifier) -> Trace:
    """One forward pass of two grey images, in which channels are followed where that works."""
    try:
        return _watched(classifier, ChannelAxes())
    except ModelError:  # such as compiled code, which modes of PyTorch cannot look into
        return _watched(classifier, None)


def _watched(classifier: Classifier, axes: ChannelAxes | None) -> Trace:
    executed: list[str] = []
    inputs: dict[str, _Seen] = {}
    outputs: dict[str, _Seen] = {}
    device = next(iter(classifier.net.parameters())).device

    def before(name: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
        def keep(_module: nn.Module, given: tuple[object, ...]) -> None:
            tensor = first_tensor(given)
            if tensor is not None:
                inputs[name] = _Seen(tensor, axes)

        return keep

    def after(name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def keep(_module: nn.Module, _inputs: object, output: object) -> None:
            result = first_tensor(output)
            if result is None or not result.is_floating_point() or result.shape[:1] != (2,):
                return
            if name in outputs:
                executed.remove(name)  # a module run twice counts where it ran last
            executed.append(name)
            outputs[name] = _Seen(result, axes)
            if outputs[name].axis is None:  # then it is that of the last module inside it
                inner = [k for k in reversed(executed) if k.startswith(f"{name}.")]
                alike = (outputs[k].axis for k in inner if outputs[k].value.ndim == result.ndim)
                outputs[name].axis = next(alike, None)

        return keep

    with contextlib.ExitStack() as stack:
        for name, module in hookable(classifier.net):
            if name:
                stack.callback(module.register_forward_pre_hook(before(name)).remove)
                stack.callback(module.register_forward_hook(after(name)).remove)
        images = torch.full((2, 3, *classifier.preprocess.size), 0.5, device=device)
        with torch.no_grad(), axes or contextlib.nullcontext():
            classifier.logits(images)
    return Trace(
        executed,
        {name: seen.told() for name, seen in inputs.items()},
        {name: seen.told() for name, seen in outputs.items()},
    )


class _Seen:
    """A tensor as it passed a hook."""

    def __init__(self, value: Tensor, axes: ChannelAxes | None) -> None:
        self.value = value
        self.axis = axes.of(value) if axes is not None else None
        self.version = self._version()

    def _version(self) -> int:
        return 0 if self.value.is_inference() else self.value._version

    def told(self) -> Value:
        shape = tuple(self.value.shape)
        axis = _guessed_axis(shape) if self.axis is None else self.axis
        return Value(shape, axis, self._version() != self.version)


def _guessed_axis(shape: Shape) -> int:
    """The channel axis by the shape alone, where no operation told it."""
    if len(shape) == 4:
        channels_last = shape[1] == shape[2] and shape[3] != shape[2]
        return 3 if channels_last else 1
    return len(shape) - 1 if len(shape) > 1 else 0
