"""Activations of any classifier: the pooled values of its layers, and their channel statistics.

A layer's activation of an image is its mean over positions, one number per channel.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor, nn

from auditor.errors import ModelError
from auditor.models.hardware import Parts
from auditor.models.layers import Layers
from auditor.models.loading import Classifier
from auditor.models.tracing import first_tensor

__all__ = [
    "Activations",
    "Allocate",
    "collect",
    "head_weights",
    "pooled",
    "recorded",
    "spread",
]

Floats = NDArray[np.float32]
Allocate = Callable[
    [tuple[int, ...], DTypeLike], NDArray[Any]
]  # makes an array of a shape and type

WHOLE = ("pixels", "features", "logits")  # arrays of `Activations` that are not one per layer


@dataclass(frozen=True)
class Activations:
    """Pooled activations of n images, with the path of m of them.

    Attributes:
        path: layer name -> float array of shape (m, channels): mean over positions.
        spread: layer name -> float array of shape (m, channels): standard deviation over positions.
        pixels: float array of shape (m, 6): mean and standard deviation of red, green and blue.
        features: float array of shape (n, d).
        logits: float array of shape (n, K).
    """

    path: Mapping[str, Floats]
    spread: Mapping[str, Floats]
    pixels: Floats
    features: Floats
    logits: Floats

    def __post_init__(self) -> None:
        n = len(self.logits)
        m = {len(values) for values in (*self.path.values(), *self.spread.values(), self.pixels)}
        if len(m) > 1 or max(m, default=0) > n:
            raise ValueError(f"layers hold {sorted(m)} images of {n}; they must hold the same ones")
        if self.features.ndim != 2 or len(self.features) != n:
            raise ValueError(f"features have shape {self.features.shape}, expected ({n}, d)")

    def __len__(self) -> int:
        return len(self.logits)

    def arrays(self) -> dict[str, Floats]:
        """All arrays by name: `features`, `logits`, `pixels`, `path/LAYER` and `spread/LAYER`."""
        return {
            **{name: getattr(self, name) for name in WHOLE},
            **{f"path/{name}": values for name, values in self.path.items()},
            **{f"spread/{name}": values for name, values in self.spread.items()},
        }

    @staticmethod
    def of(arrays: Mapping[str, Floats], path: Sequence[str]) -> Activations:
        """Those that `arrays` gave, for the layers of a path; the spread may be missing."""
        spread = {name: arrays[f"spread/{name}"] for name in path if f"spread/{name}" in arrays}
        means = {name: arrays[f"path/{name}"] for name in path}
        return Activations(means, spread, *(arrays[name] for name in WHOLE))

    @staticmethod
    def joined(
        parts: Iterable[Activations], n: int, m: int, allocate: Allocate = np.empty
    ) -> Activations:
        """Those of the images of several parts, one part after the other and in memory.

        Args:
            parts: one at least.
            n, m: images of all parts together, and those of them on the path.
            allocate: makes the arrays, which need not lie in memory.

        Raises:
            ValueError: the parts hold another number of images.
        """
        made: dict[str, Floats] = {}
        path: Sequence[str] = ()
        done: Counter[str] = Counter()
        for part in parts:
            path = list(part.path)
            for name, values in part.arrays().items():
                if name not in made:
                    rows = n if name in ("features", "logits") else m
                    made[name] = allocate((rows, *values.shape[1:]), values.dtype)
                made[name][done[name] : done[name] + len(values)] = values
                done[name] += len(values)
        short = [name for name, values in made.items() if done[name] != len(values)]
        if short:  # what is missing would be read as zeros
            raise ValueError(f"{short[0]} holds {done[short[0]]} images, not {len(made[short[0]])}")
        return Activations.of(made, path)

    def along(self, kept: NDArray[np.bool_]) -> Activations:
        """The same with fewer images on the path: `kept` is a bool array of shape (m,)."""
        return replace(
            self,
            path={name: values[kept] for name, values in self.path.items()},
            spread={name: values[kept] for name, values in self.spread.items()},
            pixels=self.pixels[kept],
        )


@contextlib.contextmanager
def recorded(net: nn.Module, layers: Layers) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of the path's layers, and the features, during forward passes.

    The dictionary is filled anew by each forward pass; tensors keep their graph. The features are
    stored under the empty name. Hooks are gone when the block ends.
    """
    values: dict[str, Tensor] = {}
    modules = dict(net.named_modules())

    def keep(name: str, value: object) -> Tensor | None:
        """Keep a tensor as it is now; what the network is to go on with, where that is a copy."""
        tensor = first_tensor(value)
        if tensor is None:
            return None
        if name not in layers.overwritten:
            values[name] = tensor
        elif name == "" and isinstance(value, Tensor):
            # callers ask for gradients by this tensor: the network goes on with a copy of it
            values[name] = tensor
            return tensor.clone()
        else:
            values[name] = tensor.clone()
        return None

    def keep_output(name: str) -> Callable[[nn.Module, tuple[object, ...], object], Tensor | None]:
        return lambda _module, _inputs, output: keep(name, output)

    def keep_input(_module: nn.Module, inputs: tuple[object, ...]) -> tuple[object, ...] | None:
        copied = keep("", inputs[0] if inputs else None)
        return None if copied is None else (copied, *inputs[1:])

    with contextlib.ExitStack() as stack:
        for name in layers.path:
            handle = modules[name].register_forward_hook(keep_output(name))
            stack.callback(handle.remove)
        if layers.features_are_input:
            handle = modules[layers.features].register_forward_pre_hook(keep_input)
        else:
            handle = modules[layers.features].register_forward_hook(keep_output(""))
        stack.callback(handle.remove)
        yield values


def pooled(value: Tensor, channel_axis: int) -> Tensor:
    """Mean over positions, per image and channel: float32 tensor of shape (n, channels).

    Args:
        value: output of a layer, of shape (n, ...), with at least two axes.
        channel_axis: the axis of its channels.
    """
    return _by_position(value, channel_axis).mean(2)


def spread(value: Tensor, channel_axis: int) -> Tensor:
    """Standard deviation over positions, as `pooled`; 0 for vectors."""
    flat = _by_position(value, channel_axis)
    # several times as fast as `Tensor.var` where channels come last in memory
    return (flat - flat.mean(2, keepdim=True)).square_().mean(2).sqrt()


def _by_position(value: Tensor, channel_axis: int) -> Tensor:
    """A layer's output as float32 tensor of shape (n, channels, positions)."""
    if value.ndim == 2:
        return value.float()[..., None]
    return value.movedim(channel_axis, 1).flatten(2).float()


def collect(
    classifier: Classifier,
    layers: Layers,
    batches: Iterable[Tensor],
    *,
    names: Sequence[str] = (),
    on_path: NDArray[np.bool_] | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Activations:
    """Activations of images, one batch in memory at a time.

    Args:
        classifier: the audited model.
        layers: where to read, from `find_layers`.
        batches: image batches of shape (n, 3, H, W) in [0, 1], at the model's input size.
        names: of the images, where they have names, for messages.
        on_path: bool array of shape (n_images,): the images whose path is kept, by default all.
        on_batch: called with the number of images done after each batch.

    Raises:
        ModelError: the model fails on a batch, or what it gives is not finite.
    """
    found: list[Activations] = []
    done = 0
    parts: Parts | None = None
    with torch.inference_mode(), recorded(classifier.net, layers) as values:
        seen = functools.partial(_seen, classifier=classifier, layers=layers, values=values)
        for batch in batches:
            n = len(batch)
            here = names[done : done + n]
            kept = np.ones(n, bool) if on_path is None else on_path[done : done + n]
            parts = parts or Parts(n)
            found += parts(seen, batch, here, kept)
            done += n
            if on_batch is not None:
                on_batch(done)
    if found:
        return Activations.joined(found, done, sum(len(part.pixels) for part in found))
    none = np.zeros((0, 0), np.float32)
    layer = dict.fromkeys(layers.path, none)
    logits = np.zeros((0, len(classifier.class_names)), np.float32)
    return Activations(layer, layer, np.zeros((0, 6), np.float32), none, logits)


def _seen(
    batch: Tensor,
    names: Sequence[str],
    kept: NDArray[np.bool_],
    *,
    classifier: Classifier,
    layers: Layers,
    values: Mapping[str, Tensor],
) -> Activations:
    """Activations of one batch, with those along the path of the images that are kept."""
    device = next(iter(classifier.net.parameters())).device
    logits = classifier.logits(batch.to(device), names)
    means: dict[str, Floats] = {}
    deviations: dict[str, Floats] = {}
    for name in layers.path:
        value, axis = values[name], layers.channel_axis[name]
        mean = pooled(value, axis).cpu().numpy()
        deviation = spread(value if kept.all() else value[kept], axis).cpu().numpy()
        what = f"activations in the layer {name!r}"
        _check_finite(classifier, mean, names, what)
        _check_finite(classifier, deviation, list(compress(names, kept)), what)
        means[name], deviations[name] = mean[kept], deviation
    seen = batch[kept]
    pixels = torch.cat([pooled(seen, 1), spread(seen, 1)], 1).cpu().numpy()
    features = pooled(values[""], layers.channel_axis[""]).cpu().numpy()
    _check_finite(classifier, features, names, "features")
    return Activations(means, deviations, pixels, features, logits.float().cpu().numpy())


def _check_finite(classifier: Classifier, values: Floats, names: Sequence[str], what: str) -> None:
    rows = np.flatnonzero(~np.isfinite(values).all(1))
    if len(rows):
        first = f"; the first is {names[rows[0]]}" if names else ""
        raise ModelError(
            f"{classifier.name} gives {what} that are not finite (NaN or infinite) for {len(rows)} "
            f"of a batch of {len(values)} images{first}."
        )


def head_weights(classifier: Classifier, layers: Layers, images: Tensor) -> Floats:
    """Gradient of every class's logit by the pooled features, of shape (K, d).

    For a linear head this is its weight. Otherwise the gradient is averaged over `images`
    (n, 3, H, W), summed over positions so that it answers a shift of the whole channel.
    """
    if layers.linear:
        module = dict(classifier.net.named_modules())[layers.features]
        weight = module.weight
        assert isinstance(weight, Tensor)
        return weight.detach().flatten(1).float().cpu().numpy()
    device = next(iter(classifier.net.parameters())).device
    rows: list[Floats] = []
    with torch.enable_grad(), recorded(classifier.net, layers) as values:
        logits = classifier.logits(images.to(device).requires_grad_())
        for k in range(logits.shape[1]):
            (gradient,) = torch.autograd.grad(logits[:, k].sum(), values[""], retain_graph=True)
            flat = gradient.movedim(layers.channel_axis[""], 1)
            flat = flat.flatten(2).sum(2) if flat.ndim > 2 else flat
            rows.append(flat.mean(0).float().cpu().numpy())
    weights = np.stack(rows)
    if not np.isfinite(weights).all():
        raise ModelError(f"{classifier.name} gives gradients by its features that are not finite.")
    return weights
