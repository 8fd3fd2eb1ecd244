"""What a network's output is: logits, probabilities, log-probabilities, or a single number.

An audit works with logits: it adds to them, asks for their gradient and takes their softmax.
Probabilities that pass for logits shrink every effect, silently. So the output is read on real
photos, and turned back into logits: exactly where the last module is a softmax or sigmoid, which is
taken off, else by a logarithm. Where two readings are possible, the user is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from auditor.config import ModelConfig
from auditor.errors import ModelError
from auditor.record.schema import Output, Remark

__all__ = ["Reading", "TwoClasses", "read", "refuse_multi_label", "two_classes"]

Seen = Literal["logits", "probabilities", "log-probabilities", "unit interval"]
Run = Callable[[nn.Module], Tensor]

TOLERANCE = 1e-3  # of sums of probabilities; bfloat16 and float16 inside a network round so
TINY, BELOW_ONE = torch.finfo(torch.float32).tiny, 1 - torch.finfo(torch.float32).eps / 2
ENDS = (nn.Softmax, nn.LogSoftmax, nn.Sigmoid)

REARRANGING = re.compile(
    "View|UnsafeView|Reshape|ReshapeAlias|Squeeze|Unsqueeze|Select|Slice|Clone|Expand|ToCopy"
    "|Transpose|Permute|T|Alias"
)
"""Operations whose result holds the values of their input."""

UNBOUNDED = ("Addmm", "Mm", "Bmm", "Baddbmm", "Linear", "Convolution", "MkldnnConvolution")
"""Operations whose values have no bounds, so that they are no probabilities."""


@dataclass(frozen=True)
class Reading:
    """A network that gives logits, what its own output was, and what is to be said of that."""

    net: nn.Module
    output: Output
    remarks: tuple[Remark, ...] = ()


class TakenOff(nn.Module):
    """Stands where a softmax or sigmoid was: passes its input through."""

    def forward(self, value: Tensor) -> Tensor:
        """The input."""
        return value


class LogProbabilities(nn.Module):
    """The logarithm of a network's probabilities, which has their softmax and so is logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (n, K); a probability below the smallest float counts as that."""
        probabilities: Tensor = self.model(images)
        return probabilities.float().clamp_min(TINY).log()


class TwoClasses(nn.Module):
    """A network of one number as one of two classes, whose logits are 0 and that number.

    Args:
        model: gives one number for each image.
        probability: whether it is the probability of the second class, not its logit.
    """

    def __init__(self, model: nn.Module, *, probability: bool) -> None:
        super().__init__()
        self.model = model
        self.probability = probability

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (n, 2)."""
        return self.logits(self.model(images).reshape(len(images)))

    def logits(self, value: Tensor) -> Tensor:
        """Logits of shape (n, 2) for the network's numbers, of shape (n,)."""
        if self.probability:
            value = value.float()
            value = value.clamp_min(TINY).log() - (-value.clamp_max(BELOW_ONE)).log1p()
        return torch.stack([torch.zeros_like(value), value], 1)


def refuse_multi_label(net: nn.Module, spec: str) -> None:
    """See that a model does not say of itself that a photo can have several of its labels.

    Raises:
        ModelError: its configuration, as transformers write it, says so.
    """
    for module in net.modules():
        kind = getattr(getattr(module, "config", None), "problem_type", None)
        if kind == "multi_label_classification":
            raise _multi_label(spec, "is a multi-label classifier by its problem_type")


def two_classes(net: nn.Module, output: Tensor, config: ModelConfig) -> tuple[nn.Module, Tensor]:
    """A network of one number for each photo as one of two classes, where that is known or said.

    Args:
        net: the network.
        output: what it gave for two images, of shape (2,) or (2, 1), with its graph.
        config: says in `output` how the number is read.

    Returns:
        The network of two classes and its output, of shape (2, 2).

    Raises:
        ModelError: nothing tells how the number is read.
    """
    ends_in_sigmoid = last_operation(output) == "Sigmoid"
    if not ends_in_sigmoid and config.output not in ("sigmoid", "probabilities"):
        raise ModelError(
            f"{config.spec} gives an output of shape {tuple(output.shape)} for two images, one "
            "number for each; if a sigmoid of it is the probability of a class, give --output "
            "sigmoid (or probabilities if the sigmoid was taken already) and two --class-names, "
            "that of its absence first."
        )
    wrapped = TwoClasses(net, probability=ends_in_sigmoid or config.output == "probabilities")
    return wrapped, wrapped.logits(output.reshape(2))


def read(net: nn.Module, run: Run, *, stated: str, spec: str) -> Reading:
    """Recognise a network's output on photos, check it against what is said, and give logits.

    Args:
        net: the network, which gives (n, K), or is `TwoClasses`; a softmax or sigmoid at its end is
            replaced in it.
        run: the output of a network like it for some photos, with its graph if gradients are on.
        stated: `ModelConfig.output`.
        spec: the model's name, for messages.

    Raises:
        ModelError: the output is of several labels, contradicts what is said, or can be read in
            more than one way.
    """
    with torch.enable_grad():
        output = run(net.model if isinstance(net, TwoClasses) else net)
    last, values = last_operation(output), output.detach().double().cpu()
    if isinstance(net, TwoClasses):
        return _read_number(net, run, values, last, spec)
    if last == "Sigmoid" or stated == "sigmoid":
        raise _multi_label(spec, f"gives a sigmoid for each of {values.shape[1]} labels")
    seen = _seen(values)
    if seen == "unit interval" and stated == "auto" and last not in UNBOUNDED:
        raise ModelError(
            f"{spec} gives numbers between 0 and 1 that do not add up to 1 for a photo (those of "
            f"the first add up to {float(values[0].sum()):.3g}); say with --output logits that "
            "they are logits, or audit one label at a time if they are sigmoids of several labels."
        )
    found = seen if seen != "unit interval" else "logits"
    if stated not in ("auto", found):
        low, high, total = (float(f(values[0])) for f in (torch.min, torch.max, torch.sum))
        raise ModelError(
            f"--output {stated} is said of {spec}, and its outputs for photos are {found}: those "
            f"of the first lie between {low:.3g} and {high:.3g} and add up to {total:.3g}."
        )
    if found == "logits":
        return Reading(net, found)
    restored = _taken_off(net, run, values)
    how, lost = "its last softmax was taken off", False
    if restored is None and found == "log-probabilities":
        restored, how = net, "they serve as logits as they are"
    elif restored is None:
        restored, how = LogProbabilities(net), "their logarithms were taken"
        lost = bool((values <= TINY).any())
    text = f"The model's outputs are {found}, not logits; {how}."
    if lost:
        text += (
            " Some are 0 for real photos, so that changes of such classes cannot be seen; give a "
            "model that ends before its softmax."
        )
    return Reading(restored, found, (Remark(code=f"outputs-are-{found}", text=text, serious=lost),))


def _read_number(net: TwoClasses, run: Run, values: Tensor, last: str, spec: str) -> Reading:
    """The reading of a network of one number, which is a probability or a logit."""
    bounded = bool(((values >= 0) & (values <= 1)).all())
    if net.probability and not bounded:
        raise ModelError(
            f"--output probabilities is said of {spec}, and its number for photos lies between "
            f"{float(values.min()):.3g} and {float(values.max()):.3g}."
        )
    if not net.probability and bounded and last not in UNBOUNDED:
        raise ModelError(
            f"{spec} gives a number between 0 and 1 for every photo tried; give --output "
            "probabilities if it is the probability of the second class already, else end the "
            "model with the linear layer that gives its logit."
        )
    how = "the logit of the second"
    if net.probability:
        how = "the probability of the second, turned into its logit"
        restored = _taken_off(net.model, run, values)
        if restored is not None:
            net = TwoClasses(restored, probability=False)
            how = "the probability of the second, whose sigmoid was taken off"
    text = f"The model gives one number for a photo; it was audited as two classes, by {how}."
    return Reading(net, "sigmoid", (Remark(code="one-output-for-two-classes", text=text),))


def last_operation(output: Tensor) -> str:
    """The operation that made the values of an output, such as "Softmax"; "" without a graph."""
    node = output.grad_fn
    while node is not None:
        name = re.sub(r"(Backward|Forward)?\d*$", "", node.name())
        if not REARRANGING.fullmatch(name):
            return name
        node = node.next_functions[0][0] if node.next_functions else None
    return ""


def _seen(values: Tensor) -> Seen:
    if bool(((values >= -1e-6) & (values <= 1 + 1e-6)).all()):
        whole = bool(((values.sum(1) - 1).abs() < TOLERANCE).all())
        return "probabilities" if whole else "unit interval"
    logs = bool((values <= 1e-6).all()) and bool((values.logsumexp(1).abs() < TOLERANCE).all())
    return "log-probabilities" if logs else "logits"


def _taken_off(net: nn.Module, run: Run, values: Tensor) -> nn.Module | None:
    """The network without the softmax or sigmoid that made its output, where it is a module.

    It must be the last of its kind to run, run once, and give the same output again when it is put
    on what the network gives without it.
    """
    ran: list[str] = []
    hooks = [
        module.register_forward_hook(lambda _m, _i, _o, name=name: ran.append(name))
        for name, module in net.named_modules()
        if isinstance(module, ENDS)
    ]
    try:
        with torch.no_grad():
            run(net)
    finally:
        for hook in hooks:
            hook.remove()
    if not ran or not ran[-1] or ran.count(ran[-1]) > 1:
        return None
    parent, _, name = ran[-1].rpartition(".")
    owner = net.get_submodule(parent)
    end = getattr(owner, name)
    setattr(owner, name, TakenOff())
    with torch.no_grad():
        again = end(run(net))
    if again.shape == values.shape and torch.allclose(again.double().cpu(), values, 1e-3, 1e-7):
        return net
    setattr(owner, name, end)
    return None


def _multi_label(spec: str, what: str) -> ModelError:
    return ModelError(
        f"{spec} {what}, so that a photo can have several, and an audit compares classes of which "
        "a photo has one; audit one label at a time, with --output sigmoid and a factory "
        "(--model python:PACKAGE.MODULE:FACTORY) of a network that gives the logit of that label "
        "alone."
    )
