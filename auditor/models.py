"""The audited classifier: its network, its preprocessing and its class names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from auditor.config import ModelConfig
from auditor.description import Description, assumptions, complete
from auditor.errors import ModelError
from auditor.huggingface import PlainLogits
from auditor.labels import ClassNames, read_class_names
from auditor.preprocessing import Preprocess
from auditor.record import Output, Remark
from auditor.sources import SOURCES
from auditor.weights import first_line, save, weights_digest

__all__ = ["Classifier", "Preprocess", "load", "save", "weights_digest"]


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
        remarks: what its files and outputs turned out to be.
    """

    net: nn.Module
    preprocess: Preprocess
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...] | None
    digest: str
    name: str
    output: Output = "logits"
    remarks: tuple[Remark, ...] = ()

    def logits(self, images: Tensor) -> Tensor:
        """Logits of shape (n, K) for images of shape (n, 3, height, width) in [0, 1]."""
        logits: Tensor = self.net(self.preprocess.normalise(images))
        return logits


def load(config: ModelConfig, *, device: torch.device) -> Classifier:
    """Load a classifier, complete what it does not say of itself, and try it once.

    Specs: `torchvision:NAME[/WEIGHTS]`, `timm:NAME`, `hf:ORG/NAME` or `hf:FOLDER`,
    `mlflow:models:/NAME@ALIAS`, `file:PATH` (torch.export, TorchScript, or weights with `arch`) and
    `python:PACKAGE.MODULE:FACTORY`. For torchvision and timm, `weights` may be a local file.
    A file of weights for torchvision does not say how its input is made, so that of torchvision's
    own weights for the architecture is taken unless `size`, `mean` and `std` are given.

    Two black images are classified to see that the model gives one finite logit for each class and
    a gradient to its input.

    Raises:
        ModelError: the model cannot be loaded, does not fit, or does not say what is needed.
    """
    scheme, colon, rest = config.spec.partition(":")
    if not colon or scheme not in SOURCES or not rest:
        raise ModelError(
            f"The model {config.spec!r} starts with none of "
            f"{', '.join(name + ':' for name in SOURCES)}, followed by a name."
        )
    source = SOURCES[scheme](rest, config, device)
    preprocess = complete(source.description, config)
    net = source.net.to(device).eval().requires_grad_(False)
    net, n_classes = _tried(net, preprocess, config.spec, device)
    if next(net.parameters(), None) is None:
        raise ModelError(
            f"{config.spec} has no parameters, by which its device and layers are told; make its "
            "weights parameters, not buffers or constants."
        )
    names = _class_names(source.description, config)
    _check_names(names, n_classes, config.spec)
    return Classifier(
        net, preprocess, names.names, names.ids, source.digest, config.spec,
        remarks=(*source.remarks, *assumptions(source.description, config)),
    )  # fmt: skip


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
    net: nn.Module, preprocess: Preprocess, spec: str, device: torch.device
) -> tuple[nn.Module, int]:
    """The network, unwrapped to plain logits, and its number of classes."""
    height, width = preprocess.size
    images = torch.zeros((2, 3, height, width), device=device, requires_grad=True)
    try:
        with torch.enable_grad():
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
    if output.ndim != 2 or len(output) != 2 or output.shape[1] < 2:
        raise ModelError(
            f"{spec} gives an output of shape {tuple(output.shape)} for two images; logits of "
            "shape (2, classes), of at least two classes, are needed."
        )
    if not output.isfinite().all():
        raise ModelError(f"{spec} gives logits that are not finite on a black image.")
    if not output.requires_grad:
        raise ModelError(f"{spec} gives no gradient to its input, which prototypes need.")
    return net, output.shape[1]
