"""Which axis of a tensor holds channels, followed through a network's operations.

A convolution gives channels at axis 1, a linear layer at the last; everything else moves, keeps or
loses the axis of its input. A shape alone does not tell: a map of 16 channels, 16 rows and 8
columns looks like one of 16 rows, 16 columns and 8 channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ["ChannelAxes"]

FIRST = ("convolution", "batch_norm", "group_norm", "instance_norm")
"""Parts of the names of operations that give channels at axis 1, on any device."""

LAST = {"addmm", "mm", "bmm", "baddbmm", "matmul", "linear", "embedding"}

REDUCTIONS = {"mean", "sum", "amax", "amin", "max", "min", "median", "var", "std", "norm", "prod"}


class ChannelAxes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, follows the channel axis of every tensor that is computed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._axes: Any = WeakTensorKeyDictionary()

    def of(self, tensor: Tensor) -> int | None:
        """The channel axis of a tensor, where it is known."""
        axis: int | None = self._axes.get(tensor)
        return axis

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and follow the axis through it."""
        results = func(*args, **(kwargs or {}))
        name = str(func.overloadpacket.__name__).strip("_")
        for result in _tensors(results):
            axis = self._axis(name, args, result)
            if axis is not None:
                self._axes[result] = axis
            elif result in self._axes:  # overwritten in place by something else
                del self._axes[result]
        return results

    def _axis(self, name: str, args: tuple[Any, ...], result: Tensor) -> int | None:
        if result.ndim < 2:
            return None
        if any(part in name for part in FIRST):
            return 1
        if name in LAST or (name.endswith("layer_norm") and len(args[1]) == 1):
            return result.ndim - 1
        for given in _tensors(args):
            axis = self.of(given)
            if axis is None:
                continue
            moved = _MOVES.get(name, _kept)
            return moved(axis, given, args[1:], result)
        return None


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


Rest = Sequence[Any]


def _kept(axis: int, given: Tensor, rest: Rest, result: Tensor) -> int | None:
    """The same axis, counted from the end where the result was broadcast to more axes."""
    return None if result.ndim < given.ndim else axis + result.ndim - given.ndim


def _permuted(axis: int, given: Tensor, rest: Rest, result: Tensor) -> int | None:
    return [d % given.ndim for d in rest[0]].index(axis)


def _transposed(axis: int, given: Tensor, rest: Rest, result: Tensor) -> int | None:
    one, other = (d % given.ndim for d in (rest or (0, 1)))
    return {one: other, other: one}.get(axis, axis)


def _viewed(axis: int, given: Tensor, rest: Rest, result: Tensor) -> int | None:
    """The axis of the same size with the same number of elements behind it."""
    wanted = given.shape[axis], math.prod(given.shape[axis + 1 :])
    for place in range(1, result.ndim):
        if (result.shape[place], math.prod(result.shape[place + 1 :])) == wanted:
            return place
    return None


def _without(gone: set[int], axis: int, keep: bool) -> int | None:
    if axis in gone:
        return None
    return axis if keep else axis - sum(d < axis for d in gone)


def _reduced(axis: int, given: Tensor, rest: Rest, result: Tensor) -> int | None:
    if not rest or rest[0] is None:
        return None
    dims = rest[0] if isinstance(rest[0], tuple | list) else [rest[0]]
    return _without({d % given.ndim for d in dims}, axis, result.ndim == given.ndim)


def _squeezed(axis: int, given: Tensor, rest: Rest, result: Tensor) -> int | None:
    dims = rest[0] if rest else range(given.ndim)
    dims = dims if isinstance(dims, tuple | list | range) else [dims]
    return _without({d % given.ndim for d in dims if given.shape[d] == 1}, axis, False)


def _unsqueezed(axis: int, given: Tensor, rest: Rest, result: Tensor) -> int | None:
    return axis + int(rest[0] % result.ndim <= axis)


def _selected(axis: int, given: Tensor, rest: Rest, result: Tensor) -> int | None:
    return _without({rest[0] % given.ndim}, axis, False)


_MOVES: Mapping[str, Callable[[int, Tensor, Rest, Tensor], int | None]] = {
    "permute": _permuted,
    "transpose": _transposed,
    "t": _transposed,
    **dict.fromkeys(("view", "unsafe_view", "reshape", "reshape_alias"), _viewed),
    **dict.fromkeys(REDUCTIONS, _reduced),
    "squeeze": _squeezed,
    "unsqueeze": _unsqueezed,
    "select": _selected,
    "unbind": lambda axis, given, rest, result: _selected(axis, given, rest or (0,), result),
}
