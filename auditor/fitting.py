"""Putting weights into a network: as a whole or not at all, and saying which were taken.

What a file holds beside the weights is left out only where the network's answer cannot depend on
it, or with a remark that it may.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from auditor.checkpoints import AVERAGED, Copy, copies, different, needed, preferred, shown
from auditor.description import Description
from auditor.errors import ModelError
from auditor.record import Remark
from auditor.weights import Weights

__all__ = ["Architecture", "Fitted", "fit"]

TRAINING = re.compile(
    r"(?:.*\.)?(?:total_ops|total_params|num_batches_tracked|n_averaged)"
    r"|(?:criterion\w*|loss\w*|\w+_loss|\w+_loss_fn|\w*metrics?"
    r"|(?:train|val|valid|test)_(?:acc|f1|auroc|loss|precision|recall)\w*)(?:\..*)?"
)
"""Tensors of losses, metrics and counters, which the network's answer does not depend on."""

SIMULATED = re.compile(r"(?:.*\.)?(?:\w*fake_quant\w*|activation_post_process\w*)\..*")
"""Scales of simulated quantisation, which change the answer a little."""

APART = re.compile(r"(?:opt|lr_|sched|scaler|amp|loss|criterion|metric|grad|rng|random|ema)")
"""How keys begin under which training programs keep what is no part of the network."""

HALVES = (torch.float16, torch.bfloat16)
FLOATS = (*HALVES, torch.float32, torch.float64)

LARGEST_EXPANDED = 2**20
"""Numbers that a tensor may claim beyond those that its file holds."""

LAYOUTS = {
    r"(?:\w+\.)*backbone\..*": "a backbone with a head of its own, as MMPretrain saves it",
    r"(?:\d+\.)+\w+": "an nn.Sequential, as fastai saves it",
    r"(?:\w+\.)*(?:embeddings|embedder)\..*": "a model of transformers, for hf:FOLDER",
}
"""Forms of names that tell a layout."""


@dataclass(frozen=True)
class Architecture:
    """A network without its weights.

    Attributes:
        name: as the user knows it, for messages.
        build: makes it, for a number of classes or, given `None`, its own.
        description: its input, where that does not depend on the weights.
        training_only: beginnings of the names of parts that are used in training only.
        of_a_library: whether the description is that of a library's pretrained weights.
    """

    name: str
    build: Callable[[int | None], nn.Module]
    description: Description
    training_only: tuple[str, ...] = ()
    of_a_library: bool = False


@dataclass(frozen=True)
class Fitted:
    """A network with the weights of a file in it, and what is to be said of that."""

    net: nn.Module
    remarks: tuple[Remark, ...]


def fit(architecture: Architecture, weights: Weights, path: Path) -> Fitted:
    """A network with the weights in it, in single precision.

    Where only the last layer's number of classes differs, the network is built with the weights'.

    Args:
        architecture: what is built.
        weights: the sets of tensors of a file.
        path: the file's path, for messages.

    Raises:
        ModelError: no set fits as a whole, or several that differ do and none is an average.
    """
    trial = _Trial(architecture, architecture.build(None).float())
    found = copies(weights.sets, trial.own, chosen=weights.chosen)
    fitting = [copy for copy in found if trial.problem(copy) is None]
    if not fitting:
        raise ModelError(
            f"The weights {path} do not fit {architecture.name}: "
            f"{_misfit(found, weights, trial, path)}."
        )
    taken = preferred(fitting, needed(trial.own), path)
    n_classes = _other_n_classes(trial.own, taken.tensors)
    if n_classes is not None:
        trial = _Trial(architecture, architecture.build(n_classes).float())
        problem = trial.problem(taken, exactly=True)
        if problem is not None:
            raise ModelError(f"The weights {path} do not fit {architecture.name}: {problem}.")
    own = trial.own
    trial.net.load_state_dict({n: v for n, v in taken.tensors.items() if n in own}, strict=False)
    remarks = [
        *_of_copies(taken, fitting, needed(own), path),
        *_of_what_is_left(taken, fitting, weights, trial, path),
        *_of_precision(taken, own, path),
    ]
    return Fitted(trial.net, tuple(remarks))


class _Trial:
    """An architecture as it was built, against which copies are held."""

    def __init__(self, architecture: Architecture, net: nn.Module) -> None:
        self.net = net
        self.own: Mapping[str, Tensor] = net.state_dict()
        self.training_only = architecture.training_only
        self.made = dict(net.named_buffers())

    def problem(self, copy: Copy, *, exactly: bool = False) -> str | None:
        """What keeps a copy from being the weights; another number of classes does not."""
        own, given = self.own, copy.tensors
        missing = [name for name in needed(own) if name not in given]
        if missing:
            return _missing(missing, [name for name in given if name not in own])
        common = [name for name in own if name in given]
        for name in common:
            if (odd := _odd(given[name], own[name])) is not None:
                return f"{shown(name)} {odd}"
        if exactly or _other_n_classes(own, given) is None:
            for name in common:
                if given[name].shape != own[name].shape:
                    shapes = f"{tuple(given[name].shape)}, not {tuple(own[name].shape)}"
                    return f"{shown(name)} has the shape {shapes}"
        for name, value in given.items():
            if name not in own and not self.is_needless(name, value):
                return f"the file's {shown(copy.prefix + name)} has no place in the network"
        return None

    def is_needless(self, name: str, value: Tensor) -> bool:
        """Whether the answer hardly depends on a tensor that the network has no place for."""
        if TRAINING.fullmatch(name) or SIMULATED.fullmatch(name):
            return True
        if self.training_only and name.startswith(self.training_only):
            return True
        made = self.made.get(name)  # by the network itself, where another version saved it
        return made is not None and made.shape == value.shape and torch.equal(made, value.to(made))


def _missing(missing: list[str], free: list[str]) -> str:
    told = []
    for name in missing[:3]:
        near = difflib.get_close_matches(name, free[:2000], n=1)
        told.append(shown(name) + (f" (the nearest there is {shown(near[0])})" if near else ""))
    rest = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return f"{', '.join(told)}{rest} {'is' if len(missing) == 1 else 'are'} missing in the file"


def _odd(value: Tensor, own: Tensor) -> str | None:
    """Why a tensor cannot stand in for the network's own."""
    if value.is_quantized:
        return "is a quantised tensor; export such a model with torch.export.save"
    if value.is_nested or value.layout is not torch.strided:
        return "is no dense tensor; save it as one"
    if value.is_meta:
        return "is a tensor without data (on the device meta)"
    if own.dtype.is_floating_point and value.dtype not in FLOATS:
        said = str(value.dtype).removeprefix("torch.")
        return f"holds {said} numbers; save it as float32"
    if value.dtype.is_complex:
        return "holds complex numbers; save it as it was trained"
    claimed = value.numel() * value.element_size()
    if value.numel() > LARGEST_EXPANDED and claimed > value.untyped_storage().nbytes():
        return "claims more numbers than the file holds; save it as a contiguous tensor"
    return None


def _other_n_classes(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> int | None:
    """The number of classes of the given weights, where it is all that differs."""
    differing = [
        (own[name].shape, given[name].shape)
        for name in own
        if name in given and own[name].shape != given[name].shape
    ]
    sizes = {(a[0], b[0]) for a, b in differing if len(a) == len(b) > 0 and a[1:] == b[1:]}
    same_tails = all(len(a) == len(b) > 0 and a[1:] == b[1:] for a, b in differing)
    return sizes.pop()[1] if same_tails and len(sizes) == 1 else None


def _misfit(found: list[Copy], weights: Weights, trial: _Trial, path: Path) -> str:
    """What is wrong with the copy that has most of the network's names."""
    names = [name for tensors in weights.sets.values() for name in tensors]
    told = (what for form, what in LAYOUTS.items() if any(re.fullmatch(form, n) for n in names))
    layout = "".join(f"; its names look like those of {what}" for what in list(told)[:1])
    if found:
        best = max(found, key=lambda copy: len(trial.own.keys() & copy.tensors.keys()))
        where = f"{best}, " if best.place else ""
        return f"{where}{trial.problem(best)}{layout}"
    wanted = f" under {shown(weights.chosen)}" if weights.chosen else ""
    places = ", ".join(shown(key or "the top of the file") for key in list(weights.sets)[:5])
    return (
        f"it holds none of the names of the network{wanted}, which are {_some(trial.own)}, but "
        f"under {places} {_some(names)}{layout}"
    )


# --- what is said of it --------------------------------------------------------------------------


def _of_copies(taken: Copy, fitting: list[Copy], names: list[str], path: Path) -> Iterator[Remark]:
    if taken.place:
        yield Remark(code="weights-taken", text=f"{path.name}: the weights {taken} were taken.")
    others = [copy for copy in different([taken, *fitting], names) if copy is not taken]
    if others:
        told = " and ".join(copy.place or "the top of the file" for copy in others[:3])
        other = next((copy.place for copy in others if copy.place), "")
        choice = f" To audit the others, give {path.name}#{other}." if other else ""
        yield Remark(
            code="averaged-weights-taken",
            text=f"{path.name} holds other weights at {told}. The averaged ones (EMA) at "
            f"{taken.place} were taken, as timm does.{choice}",
        )
    if taken.translated:
        yield Remark(
            code="weights-of-mmpretrain",
            text=f"{path.name} has the layout of MMPretrain, whose names were translated. This is "
            "right for style='pytorch'; a network of style='caffe' has its strides elsewhere and "
            "would be audited wrongly.",
            serious=True,
        )


def _of_what_is_left(
    taken: Copy, fitting: list[Copy], weights: Weights, trial: _Trial, path: Path
) -> Iterator[Remark]:
    """What the file holds beside the weights: what does not matter, and what may."""
    inside = [n for n in taken.tensors if n not in trial.own and n not in trial.made]
    copied = tuple(copy.prefix for copy in fitting if copy.key == taken.key)
    beside = {n: v for n, v in taken.beside.items() if not n.startswith(copied)}
    used = {copy.key for copy in fitting}
    for key, tensors in weights.sets.items():
        if key not in used and not APART.match(key):
            apart = {f"{key}.{name}".lstrip("."): v for name, v in tensors.items() if v.ndim}
            beside |= apart  # without numbers on their own, such as the best accuracy
    doubtful = [name for name, value in beside.items() if not _is_training(name, value)]
    harmless = [*inside, *(name for name in beside if name not in doubtful)]
    if harmless:
        yield Remark(
            code="weights-left-out",
            text=f"{path.name}: tensors that serve training only were left out, such as "
            f"{_some(harmless)}.",
        )
    if simulated := [name for name in inside if SIMULATED.fullmatch(name)]:
        yield Remark(
            code="simulated-quantisation-left-out",
            text=f"{path.name} was trained with simulated quantisation ({_some(simulated)}). The "
            "network is audited without it, so its answers may differ a little.",
            serious=True,
        )
    if doubtful:
        yield Remark(
            code="weights-without-a-place",
            text=f"{path.name} holds tensors that the architecture has no place for: "
            f"{_some(doubtful)}. If they are part of the model, another one was audited.",
            serious=True,
        )


def _is_training(name: str, value: Tensor) -> bool:
    counter = value.numel() == 1 and not value.dtype.is_floating_point
    return counter or TRAINING.fullmatch(name) is not None or AVERAGED.search(name) is not None


def _of_precision(taken: Copy, own: Mapping[str, Tensor], path: Path) -> Iterator[Remark]:
    held = {
        str(taken.tensors[name].dtype).removeprefix("torch.")
        for name, value in own.items()
        if name in taken.tensors
        and value.dtype.is_floating_point
        and taken.tensors[name].dtype != value.dtype
    }
    if held:
        yield Remark(
            code="weights-in-another-precision",
            text=f"{path.name} holds weights in {' and '.join(sorted(held))}. They were audited in "
            "float32.",
        )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    rest = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(shown(name) for name in listed[:3]) + rest
