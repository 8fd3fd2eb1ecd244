"""Activations of any classifier: which layers, their pooled values, and their channel statistics.

Layers are found by one traced forward pass, not by architecture name: the module tree is opened
until it reaches blocks that repeat, and the features are what enters the module that produces the
logits. A layer's activation of an image is its mean over positions, one number per channel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from auditor.errors import ModelError
from auditor.models import Classifier

__all__ = ["Activations", "Layers", "collect", "find_layers", "recorded"]

Floats = NDArray[np.float32]

MAX_LAYERS = 24  # beyond this a path has no room in a chart, and neighbours say the same


@dataclass(frozen=True)
class Layers:
    """Where activations are read.

    Attributes:
        path: module names, in the order of execution.
        features: name of the module that produces the logits, or of the last one before them.
        features_are_input: whether the features enter that module (else they leave it).
        channel_axis: axis of the channels in the output of each layer and in the features.
        linear: whether the logits are a linear function of the features.
    """

    path: tuple[str, ...]
    features: str
    features_are_input: bool
    channel_axis: Mapping[str, int]
    linear: bool


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


@contextlib.contextmanager
def recorded(net: nn.Module, layers: Layers) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of the path's layers, and the features, during forward passes.

    The dictionary is filled anew by each forward pass; tensors keep their graph. The features are
    stored under the empty name. Hooks are gone when the block ends.
    """
    values: dict[str, Tensor] = {}
    modules = dict(net.named_modules())

    def keep(name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def hook(_module: nn.Module, _inputs: tuple[object, ...], output: object) -> None:
            tensor = _tensor(output)
            if tensor is not None:
                values[name] = tensor

        return hook

    def keep_input(_module: nn.Module, inputs: tuple[object, ...]) -> None:
        tensor = _tensor(inputs)
        if tensor is not None:
            values[""] = tensor

    with contextlib.ExitStack() as stack:
        for name in layers.path:
            handle = modules[name].register_forward_hook(keep(name))
            stack.callback(handle.remove)
        if layers.features_are_input:
            handle = modules[layers.features].register_forward_pre_hook(keep_input)
        else:
            handle = modules[layers.features].register_forward_hook(keep(""))
        stack.callback(handle.remove)
        yield values


def pooled(value: Tensor, channel_axis: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over positions, per image and channel.

    Args:
        value: output of a layer, of shape (n, ...), with at least two axes.
        channel_axis: the axis of its channels.

    Returns:
        Two tensors of shape (n, channels), in float32; the deviation is 0 for vectors.
    """
    if value.ndim == 2:
        return value.float(), torch.zeros_like(value, dtype=torch.float32)
    flat = value.movedim(channel_axis, 1).flatten(2).float()
    mean = flat.mean(2)
    variance = flat.var(2, correction=0) if flat.shape[2] > 1 else torch.zeros_like(mean)
    return mean, (variance + 1e-12).sqrt()


def find_layers(classifier: Classifier, names: tuple[str, ...] | None = None) -> Layers:
    """Find the layers of an activation path and the features.

    Args:
        classifier: the audited model; one forward pass of two grey images is run.
        names: layers that the user named, in any order; by default they are found.

    Raises:
        ModelError: a named layer does not exist or gives no activations, or none are found.
    """
    net = classifier.net
    executed, shapes = _trace(classifier)
    order = {name: place for place, name in enumerate(executed)}
    n_classes = len(classifier.class_names)
    head = _head(net, executed, shapes, n_classes)
    if names is None:
        path = _blocks(net, order, shapes)
        if head is not None:
            path = [name for name in path if order[name] < order[head[0]]]
        path = [name for name in path if len(shapes[name][1]) > 1]
        path = [path[i] for i in np.unique(np.linspace(0, len(path) - 1, MAX_LAYERS).astype(int))]
    else:
        modules = dict(net.named_modules())
        for name in names:
            if name not in modules:
                near = ", ".join(list(order)[:8])
                raise ModelError(
                    f"The model has no layer {name!r}; its layers are called {near}, ..."
                )
            if name not in shapes or len(shapes[name][1]) < 2:
                raise ModelError(f"Layer {name!r} gives no activations that can be read.")
        path = sorted(names, key=lambda name: order[name])
    if not path:
        raise ModelError("No layers were found in the model; name some with --layers.")
    if head is None:
        last = [name for name in executed if shapes[name][1][-1] != n_classes]
        features, is_input, linear = (last or path)[-1], False, False
        feature_shape = shapes[features][1]
    else:
        features, linear = head
        is_input = True
        feature_shape = shapes[features][0]
    axes = {name: _channel_axis(shapes[name][1]) for name in path}
    axes[""] = _channel_axis(feature_shape)
    return Layers(tuple(path), features, is_input, axes, linear)


def collect(
    classifier: Classifier,
    layers: Layers,
    batches: Iterable[Tensor],
    *,
    on_path: NDArray[np.bool_] | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Activations:
    """Activations of images, one batch in memory at a time.

    Args:
        classifier: the audited model.
        layers: where to read, from `find_layers`.
        batches: image batches of shape (n, 3, H, W) in [0, 1], at the model's input size.
        on_path: bool array of shape (n_images,): the images whose path is kept, by default all.
        on_batch: called with the number of images done after each batch.
    """
    device = next(iter(classifier.net.parameters())).device
    path: dict[str, list[Floats]] = {name: [] for name in layers.path}
    spread: dict[str, list[Floats]] = {name: [] for name in layers.path}
    pixels: list[Floats] = []
    features: list[Floats] = []
    logits: list[Floats] = []
    done = 0
    with torch.inference_mode(), recorded(classifier.net, layers) as values:
        for batch in batches:
            out = classifier.logits(batch.to(device))
            wanted = slice(None) if on_path is None else on_path[done : done + len(batch)]
            for name in layers.path:
                mean, deviation = pooled(values[name], layers.channel_axis[name])
                path[name].append(mean.cpu().numpy()[wanted])
                spread[name].append(deviation.cpu().numpy()[wanted])
            pixels.append(torch.cat(pooled(batch, 1), 1).cpu().numpy()[wanted])
            features.append(pooled(values[""], layers.channel_axis[""])[0].cpu().numpy())
            logits.append(out.float().cpu().numpy())
            done += len(batch)
            if on_batch is not None:
                on_batch(done)
    n_classes = len(classifier.class_names)

    def joined(parts: list[Floats], width: int) -> Floats:
        return np.concatenate(parts) if parts else np.zeros((0, width), np.float32)

    return Activations(
        {name: joined(parts, 0) for name, parts in path.items()},
        {name: joined(parts, 0) for name, parts in spread.items()},
        joined(pixels, 6),
        joined(features, 0),
        joined(logits, n_classes),
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
    with recorded(classifier.net, layers) as values:
        logits = classifier.logits(images.to(device).requires_grad_())
        for k in range(logits.shape[1]):
            (gradient,) = torch.autograd.grad(logits[:, k].sum(), values[""], retain_graph=True)
            flat = gradient.movedim(layers.channel_axis[""], 1).flatten(2)
            rows.append((flat.sum(2) if flat.ndim == 3 else flat).mean(0).float().cpu().numpy())
    return np.stack(rows)


def _tensor(value: object) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, tuple | list) and value:
        return _tensor(value[0])
    if isinstance(value, Mapping):
        for part in value.values():
            found = _tensor(part)
            if found is not None:
                return found
    return None


Shape = tuple[int, ...]


def _trace(classifier: Classifier) -> tuple[list[str], dict[str, tuple[Shape, Shape]]]:
    """Names of the modules in the order they finish, with their input and output shapes."""
    executed: list[str] = []
    shapes: dict[str, tuple[Shape, Shape]] = {}
    device = next(iter(classifier.net.parameters())).device

    def hook(name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def keep(_module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            result = _tensor(output)
            if result is None or not result.is_floating_point() or result.shape[:1] != (2,):
                return
            given = _tensor(inputs)
            if name in shapes:
                executed.remove(name)  # a module run twice counts where it ran last
            executed.append(name)
            shapes[name] = (tuple(given.shape) if given is not None else (), tuple(result.shape))

        return keep

    with contextlib.ExitStack() as stack:
        for name, module in classifier.net.named_modules():
            if name:
                stack.callback(module.register_forward_hook(hook(name)).remove)
        with torch.inference_mode():
            classifier.logits(torch.full((2, 3, *classifier.preprocess.size), 0.5, device=device))
    return executed, shapes


def _head(
    net: nn.Module, executed: list[str], shapes: Mapping[str, tuple[Shape, Shape]], n_classes: int
) -> tuple[str, bool] | None:
    """The module that produces the logits, and whether they are linear in its pooled input."""
    modules = dict(net.named_modules())
    for name in reversed(executed):
        module = modules[name]
        if isinstance(module, nn.Linear) and module.out_features == n_classes:
            return name, len(shapes[name][0]) == 2
        if isinstance(module, nn.Conv2d) and module.out_channels == n_classes:
            return name, module.kernel_size == (1, 1)
    named = [name for name in executed if name.split(".")[-1] == "head_input"]
    return (named[-1], False) if named else None


def _blocks(
    net: nn.Module, order: Mapping[str, int], shapes: Mapping[str, tuple[Shape, Shape]]
) -> list[str]:
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
        and shapes[name][1][-1] > 0
        and (next(module.parameters(), None) is not None or isinstance(module, nn.Identity))
    ]
    return sorted(kept, key=lambda name: order[name])


def _channel_axis(shape: Shape) -> int:
    if len(shape) == 4:
        channels_last = shape[1] == shape[2] and shape[3] != shape[2]
        return 3 if channels_last else 1
    return len(shape) - 1 if len(shape) > 1 else 0
