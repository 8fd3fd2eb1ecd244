"""The audited classifier: its network, its preprocessing and its class names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from auditor.config import ModelConfig
from auditor.core.class_names import ClassNames, read_class_names
from auditor.errors import ModelError, first_line, lacks_memory
from auditor.models import outputs
from auditor.models.description import Description, assumptions, complete
from auditor.models.foreign import ForeignCode, named
from auditor.models.huggingface import PlainLogits
from auditor.models.preprocessing import Preprocess
from auditor.models.sources import SOURCES, GivenModel, Source, from_python_object
from auditor.models.weights import save, weights_digest
from auditor.record.schema import Output, Remark

__all__ = ["Classifier", "Preprocess", "hookable", "load", "save", "weights_digest"]


@dataclass(frozen=True)
class Classifier:
    """A classifier that is ready to be audited.

    Attributes:
        net: the network, in evaluation mode, with frozen parameters; gives logits of shape (n, K).
        preprocess: how a photo becomes the network's input.
        class_names: K names; two classes may share one, so the index is the key.
        class_ids: K names of folders such as WordNet ids, or `None`.
        digest: SHA-256 of the weights.
        name: the spec that the model came from.
        output: what the model's own output was, before it was turned into logits.
        shortcuts: whether prototypes may be made in bfloat16 and with folded normalisations; off
            for a model that was seen to fail so.
        remarks: what its files and outputs turned out to be.
    """

    net: nn.Module
    preprocess: Preprocess
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...] | None
    digest: str
    name: str
    output: Output = "logits"
    shortcuts: bool = True
    remarks: tuple[Remark, ...] = ()

    def logits(self, images: Tensor, names: Sequence[str] = ()) -> Tensor:
        """Logits of shape (n, K) for images of shape (n, 3, height, width) in [0, 1].

        Args:
            images: a batch.
            names: of its n photos, where they are known, for messages.

        Raises:
            ModelError: the network fails, gives another shape or type, or values that are not
                finite; the last is seen where no gradient is asked for, for it waits for the
                device, and results without a gradient are read back anyway.
        """
        logits = self.output_of(images, names)
        shape = (len(images), len(self.class_names))
        if logits.shape != shape:
            raise ModelError(
                f"{self.name} gives an output of shape {tuple(logits.shape)} for a batch of shape "
                f"{tuple(images.shape)}; it must give {shape}, a logit for each class of each "
                "photo, whatever the batch."
            )
        return logits

    def output_of(self, images: Tensor, names: Sequence[str] = ()) -> Tensor:
        """The network's own output, of whatever shape; the rest is as for `logits`."""
        n = len(images)
        given = self.preprocess.normalise(images)
        try:
            with ForeignCode():
                output: Tensor = self.net(given)
        except Exception as error:  # code that is not ours: whatever it meets
            if lacks_memory(error):
                raise
            raise ModelError(f"{self.name} fails on a batch of {n}: {named(error)}.") from error
        check_floating(output, self.name)
        if not torch.is_grad_enabled() and not bool(output.isfinite().all()):
            rows = (~output.isfinite().reshape(len(output), -1).all(1)).nonzero()[:, 0].tolist()
            first = f"; the first is {names[rows[0]]}" if len(names) > rows[0] else ""
            raise ModelError(
                f"{self.name} gives logits that are not finite (NaN or infinite) for {len(rows)} "
                f"of a batch of {n}{first}."
            )
        return output


def check_floating(output: Tensor, spec: str) -> None:
    """See that an output holds real numbers that can have a gradient.

    Raises:
        ModelError: it is complex, or of integers.
    """
    if not isinstance(output, Tensor) or not output.is_floating_point():
        kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise ModelError(f"{spec} gives an output of {kind}, not a tensor of real numbers.")


def hookable(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Names and modules that hooks can be put on: all but those of TorchScript."""
    for name, module in net.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            yield name, module


def load(
    config: ModelConfig, *, device: torch.device, given: GivenModel | None = None
) -> Classifier:
    """Load a classifier, complete what it does not say of itself, and try it once.

    Specs: `torchvision:NAME[/WEIGHTS]`, `timm:NAME`, `hf:ORG/NAME` or `hf:FOLDER`,
    `mlflow:models:/NAME@ALIAS`, `file:PATH` (torch.export, TorchScript, or weights with `arch`) and
    `python:PACKAGE.MODULE:FACTORY`. For torchvision and timm, `weights` may be a local file.
    A file of weights for torchvision does not say how its input is made, so that of torchvision's
    own weights for the architecture is taken unless `size`, `mean` and `std` are given.

    Two black images are classified to see that the model gives one finite number for each class
    and a gradient to its input; `auditor.pipeline.model_check` tries it on photos. A model whose
    weights are of another type, such as float16, is computed in float32. One that gives a single
    number, of which it is known that a sigmoid makes a probability, is a model of two classes.

    Args:
        config: what the user says of the model.
        device: where it computes.
        given: the network itself, of which a copy is audited; nothing is loaded then, and
            `config.spec` is its name.

    Raises:
        ModelError: the model cannot be loaded, does not fit, or does not say what is needed.
    """
    source = _source(config, device) if given is None else from_python_object(given, config)
    preprocess = complete(source.description, config)
    net, remarks = _in_float32(source.net)
    net = net.to(device).eval().requires_grad_(False)
    outputs.refuse_multi_label(net, config.spec)
    net, n_classes = _tried(net, preprocess, config, device)
    if next(net.parameters(), None) is None:
        raise ModelError(
            f"{config.spec} has no parameters, by which its device and layers are told; make its "
            "weights parameters, not buffers or constants."
        )
    names = _class_names(source.description, config)
    _check_names(names, n_classes, config.spec)
    return Classifier(
        net, preprocess, names.names, names.ids, source.digest, config.spec,
        remarks=(*source.remarks, *assumptions(source.description, config), *remarks),
    )  # fmt: skip


def _source(config: ModelConfig, device: torch.device) -> Source:
    scheme, colon, rest = config.spec.partition(":")
    if not colon or scheme not in SOURCES or not rest:
        raise ModelError(
            f"The model {config.spec!r} starts with none of "
            f"{', '.join(name + ':' for name in SOURCES)}, followed by a name."
        )
    return SOURCES[scheme](rest, config, device)


def _in_float32(net: nn.Module) -> tuple[nn.Module, tuple[Remark, ...]]:
    """The network with weights of float32, and a remark where they were of another type."""
    kinds = {
        value.dtype
        for value in (*net.parameters(), *net.buffers())
        if value.is_floating_point() and value.dtype != torch.float32
    }
    if not kinds:
        return net, ()
    listed = " and ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
    text = f"The model's weights are of type {listed}; they were computed with in float32."
    return net.float(), (Remark(code="weights-in-another-precision", text=text),)


def _class_names(description: Description, config: ModelConfig) -> ClassNames:
    if config.class_names is not None:
        return read_class_names(Path(config.class_names))
    if description.class_names is None:
        raise ModelError(
            f"{config.spec} does not say the names of its classes; give a file with --class-names."
        )
    return ClassNames(description.class_names, description.class_ids)


def _check_names(names: ClassNames, n_classes: int, spec: str) -> None:
    columns: Sequence[tuple[str, tuple[str, ...] | None]] = [
        ("names", names.names),
        ("ids", names.ids),
    ]
    for what, values in columns:
        if values is not None and len(values) != n_classes:
            raise ModelError(
                f"{spec} has {n_classes} classes and there are {len(values)} class {what}; "
                "give a file with one for each with --class-names."
            )
        for text in values or ():
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise ModelError(
                    f"The class {what} of {spec} hold {text[:80]!r}, which no file can hold; give "
                    "others with --class-names."
                )
    if names.ids is not None and len(set(names.ids)) < len(names.ids):
        raise ModelError(f"Two classes of {spec} have the same id; give others with --class-names.")


def _tried(
    net: nn.Module, preprocess: Preprocess, config: ModelConfig, device: torch.device
) -> tuple[nn.Module, int]:
    """The network, unwrapped to a plain output for each class, and its number of classes."""
    spec = config.spec
    height, width = preprocess.size
    images = torch.zeros((2, 3, height, width), device=device, requires_grad=True)
    try:
        with ForeignCode(), torch.enable_grad():
            output = net(preprocess.normalise(images))
    except Exception as error:  # code that is not ours: whatever it meets
        raise ModelError(
            f"{spec} fails on a batch of two images of {height} x {width} pixels with "
            f"{len(preprocess.mean)} channels: {first_line(error)}."
        ) from error
    if not isinstance(output, Tensor):
        logits = (
            output.get("logits") if isinstance(output, dict) else getattr(output, "logits", None)
        )
        if not isinstance(logits, Tensor):
            raise ModelError(f"{spec} gives a {type(output).__name__}, not a tensor of logits.")
        net, output = PlainLogits(net), logits
    check_floating(output, spec)
    if output.numel() == 2 and output.ndim in (1, 2) and len(output) == 2:
        net, output = outputs.two_classes(net, output, config)
    if output.ndim != 2 or len(output) != 2 or output.shape[1] < 2:
        raise ModelError(
            f"{spec} gives an output of shape {tuple(output.shape)} for two images; logits of "
            "shape (2, classes), of at least two classes, are needed."
        )
    if not output.isfinite().all():
        raise ModelError(f"{spec} gives logits that are not finite on a black image.")
    _check_gradient(output, images, spec)
    return net, output.shape[1]


def _check_gradient(output: Tensor, images: Tensor, spec: str) -> None:
    """See that there is a gradient, by computing it: what is quantised has none, and says so late.

    Raises:
        ModelError: there is none.
    """
    why = ""
    try:
        if output.requires_grad:
            (gradient,) = torch.autograd.grad(output.sum(), images, allow_unused=True)
            if gradient is not None:
                return
    except RuntimeError as error:
        if lacks_memory(error):
            raise
        why = f" ({first_line(error)})"
    raise ModelError(f"{spec} gives no gradient to its input, which prototypes need{why}.")
