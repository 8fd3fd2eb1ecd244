"""Checkpoints: where in a file copies of a network's weights may be, and which of them is taken.

Training programs put the weights beside optimisers, losses and averaged copies, under keys and
prefixes of their own: `state_dict`, `module.`, `_orig_mod.`, `model.` and many more. They are not
listed here: every mapping of tensors in the file is looked through for every prefix behind which
names of the network stand.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from auditor.errors import ModelError

__all__ = ["AVERAGED", "Copy", "copies", "different", "needed", "preferred", "shown"]

WRAPPED = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
"""What torch.compile, FSDP and activation checkpointing put into names, at any depth."""

AVERAGED = re.compile(r"(?:^|[._])(?:ema|swa|averaged?|avg)(?:[._\d]|$)")

PREFIXES = 50
"""Prefixes of one mapping that are tried, those with most of the network's names first."""

HEAD = ("weight", "bias")


@dataclass(frozen=True)
class Copy:
    """Tensors under one key and behind one prefix, by the names that follow the prefix.

    Attributes:
        key: of the mapping in the file, dotted; empty at its top.
        prefix: of the names in the mapping, with its last dot.
        tensors: by the network's own names, and others of the same prefix.
        beside: by full name, those in the mapping that do not have the prefix.
        translated: whether names were changed by more than a prefix.
    """

    key: str
    prefix: str
    tensors: Mapping[str, Tensor]
    beside: Mapping[str, Tensor]
    translated: bool = False

    @property
    def place(self) -> str:
        """The dotted path that names this copy after `FILE#`; empty at the top of the file."""
        return ".".join(part for part in (self.key, self.prefix.rstrip(".")) if part)

    @property
    def is_average(self) -> bool:
        """Whether its place says that it is an average over training steps."""
        return AVERAGED.search(self.place) is not None

    def __str__(self) -> str:
        key = f"under {shown(self.key)}" if self.key else ""
        prefix = f"behind the prefix {shown(self.prefix)}" if self.prefix else ""
        return " and ".join(part for part in (key, prefix) if part) or "at the top of the file"


def copies(
    sets: Mapping[str, Mapping[str, Tensor]], own: Mapping[str, Tensor], *, chosen: str
) -> list[Copy]:
    """What may be a copy of the weights: the tensors behind each prefix in each mapping.

    Args:
        sets: mappings of tensors by their keys in the file.
        own: the network's state dict.
        chosen: the place that is wanted, or empty text for any.
    """
    found = [copy for key, tensors in sets.items() for copy in _in_set(key, tensors, own)]
    return [c for c in found if not chosen or f"{c.place}.".startswith(f"{chosen}.")]


def needed(own: Mapping[str, Tensor]) -> list[str]:
    """The names without which a network is not what was trained."""
    # the counter of training steps is never read in evaluation; converted weights leave it out
    return [name for name in own if not name.endswith("num_batches_tracked")]


def preferred(fitting: list[Copy], names: list[str], path: Path) -> Copy:
    """The copy to take: the only one, or the average of several, as timm does.

    Raises:
        ModelError: several that differ fit, and not exactly one of them is an average.
    """
    apart = different(fitting, names)
    averages = [copy for copy in apart if copy.is_average]
    if len(apart) == 1 or len(averages) == 1:
        return averages[0] if averages else apart[0]
    places = ", ".join(shown(copy.place or "the top of the file") for copy in apart[:6])
    raise ModelError(
        f"{path} holds {len(apart)} different copies of the weights, under {places}; say which is "
        f"meant with {path}#{apart[0].place or apart[1].place} or another of them."
    )


def different(fitting: Iterable[Copy], names: list[str]) -> list[Copy]:
    """The first of each group of copies that hold the same numbers."""

    def equal(a: Copy, b: Copy) -> bool:
        pairs = ((a.tensors[name], b.tensors[name]) for name in names)
        return all(x is y or (x.dtype == y.dtype and torch.equal(x, y)) for x, y in pairs)

    apart: list[Copy] = []
    for copy in fitting:
        if not any(equal(copy, other) for other in apart):
            apart.append(copy)
    return apart


def shown(name: str) -> str:
    """A name from a file as a sentence shows it: quoted, and cut where it is long."""
    return repr(name if len(name) <= 80 else f"{name[:60]}...{name[-15:]}")


def _in_set(key: str, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Iterator[Copy]:
    named = _unwrapped(tensors, own)
    found: Counter[str] = Counter()
    for name in named:
        parts = name.split(".")
        for k in range(min(len(parts), PREFIXES)):
            if ".".join(parts[k:]) in own:
                found["".join(f"{part}." for part in parts[:k])] += 1
    if set(needed(own)) <= named.keys():
        found = Counter({"": 1})  # the whole of it fits: parts of it are no copies of their own
    for prefix, _ in found.most_common(PREFIXES):
        behind = {n.removeprefix(prefix): v for n, v in named.items() if n.startswith(prefix)}
        beside = {n: v for n, v in named.items() if not n.startswith(prefix)}
        yield _with_separate_head(Copy(key, prefix, behind, beside), own)


def _unwrapped(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors without what compiling and sharding put into their names."""
    if any(WRAPPED.search(name) for name in own):
        return tensors
    plain = {WRAPPED.sub("", name): value for name, value in tensors.items()}
    return plain if len(plain) == len(tensors) else tensors


def _with_separate_head(copy: Copy, own: Mapping[str, Tensor]) -> Copy:
    """A backbone with the linear layer beside it as its head, where just that is missing.

    So MMPretrain saves networks that have torchvision's names: `backbone.conv1.weight` and
    `head.fc.weight` for `conv1.weight` and `fc.weight`.
    """
    outer, cut, _ = copy.prefix.rpartition("backbone.")
    missing = set(needed(own)) - copy.tensors.keys()
    layers = {name.rpartition(".")[0] for name in missing}
    theirs = {name: f"{outer}head.fc.{name.rpartition('.')[2]}" for name in missing}
    if not cut or len(layers) != 1 or len(missing) != len(HEAD):
        return copy
    if not copy.beside.keys() >= set(theirs.values()):
        return copy
    return dataclasses.replace(
        copy,
        tensors={**copy.tensors, **{name: copy.beside[other] for name, other in theirs.items()}},
        beside={n: v for n, v in copy.beside.items() if n not in theirs.values()},
        translated=True,
    )
