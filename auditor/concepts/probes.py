"""CLIP models that score photos against texts: an OpenCLIP model, or the embedded one.

    offline                                  the embedded probe (`auditor.concepts.embedded_probe`)
    open_clip:MODEL/TAG                      published weights, fetched once and kept
    open_clip:MODEL/TAG=FILE                 published weights, from a file
    open_clip:MODEL/FILE                     a checkpoint (.safetensors; .pt without code), where
                                             its recipe is known (see `auditor.concepts.clip_files`)
    open_clip:FOLDER                         open_clip_config.json and open_clip_model.safetensors
    open_clip:hf-hub:ORG/NAME                a model of the Hugging Face hub

Files run no code and nothing is fetched for them.

A score says how well a text fits a photo *according to this model*; what the model never learned
to see scores like noise, so a probe's quality per concept stands beside every use of it.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize
from torchvision.transforms import Compose, Normalize

from auditor.concepts.clip_files import Recipe, read_config, reason_to_refuse, recipe_of_file
from auditor.concepts.embedded_probe import FOLDER, Quality, assemble, fold, read_heads, read_texts
from auditor.core.fetching import fetching, offline
from auditor.errors import ProbeError
from auditor.models.hardware import Parts
from auditor.record.schema import Remark

__all__ = ["ProbeModel", "Quality", "load"]

CHECKPOINTS = {".safetensors", ".pt", ".pth", ".bin"}
CPU_BATCH = 8  # images at once on a processor, whose caches larger activations leave
GPU_BATCH = 4096  # more than any batch of photos
TEXT_BATCH = 64


@dataclass(frozen=True)
class ProbeModel:
    """A dual encoder of photos and texts.

    Attributes:
        name: the specification it was loaded from.
        digest: SHA-256 of its weights, its image preprocessing and its tokenizer.
        note: one sentence for readers of a report on what it is.
        quality: by concept name, how well it separates that concept; empty where unknown.
        size: height and width of its input in pixels.
        remarks: what its files turned out to be.
        known: unit rows of texts that were encoded before.
        logit_scale: the factor that its training put on cosines before the softmax.
    """

    name: str
    digest: str
    note: str
    quality: Mapping[str, Quality]
    size: tuple[int, int]
    logit_scale: float
    _net: Any = field(repr=False)  # open_clip has no types
    _fit: Callable[[Image.Image], Tensor] = field(repr=False)
    _normalise: Callable[[Tensor], Tensor] = field(repr=False)
    _tokenize: Callable[[Sequence[str]], Tensor] = field(repr=False)
    remarks: tuple[Remark, ...] = ()
    known: Mapping[str, Tensor] = field(default_factory=dict, repr=False, compare=False)
    _parts: Parts = field(default_factory=lambda: Parts(CPU_BATCH), repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.logit_scale > 0:
            raise ProbeError(f"The probe {self.name} has logit scale {self.logit_scale}, not > 0.")

    def on(self, device: torch.device) -> ProbeModel:
        """A copy on another device."""
        return replace(self, _net=copy.deepcopy(self._net).to(device), _parts=_parts(device))

    def fit(self, image: Image.Image) -> Tensor:
        """Resize and crop a photo to the model's input: float32 of shape (3, H, W) in [0, 1]."""
        return self._fit(image)

    @torch.inference_mode()
    def encode_images(self, images: Tensor) -> Tensor:
        """Directions of images in the common space.

        Args:
            images: float32 of shape (n_images, 3, H, W) in [0, 1]; another size than `size` is
                resized (bicubic, without keeping the aspect).

        Returns:
            Float32 of shape (n_images, n_dimensions) with unit rows, on the CPU.
        """
        device = next(self._net.parameters()).device
        encoded = self._parts(lambda part: self._encoded(part.to(device)).cpu(), images)
        return torch.cat(list(encoded))

    def _encoded(self, images: Tensor) -> Tensor:
        if tuple(images.shape[-2:]) != self.size:
            images = interpolate(images, self.size, mode="bicubic", antialias=True).clamp(0, 1)
        return normalize(self._net.encode_image(self._normalise(images)).float(), dim=-1)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Directions of texts in the common space.

        Returns:
            Float32 of shape (n_texts, n_dimensions) with unit rows, on the CPU.
        """
        if not texts:
            raise ProbeError("No texts were given to the probe.")
        device = next(self._net.parameters()).device
        known = dict(self.known)
        new = [text for text in dict.fromkeys(texts) if text not in known]
        for start in range(0, len(new), TEXT_BATCH):
            part = new[start : start + TEXT_BATCH]
            rows = self._net.encode_text(self._tokenize(part).to(device))
            known.update(zip(part, normalize(rows.float(), dim=-1).cpu(), strict=True))
        return torch.stack([known[text] for text in texts])


def load(spec: str, *, device: torch.device, trust_code: bool = False) -> ProbeModel:
    """Load a probe.

    Args:
        spec: `offline`, or `open_clip:` and a model as listed at the top of this module.
        device: where the model computes.
        trust_code: whether code that comes with a folder or a hub's model may run, and what a
            folder names be fetched.

    Raises:
        ProbeError: the specification is unknown, or weights are missing, altered, unreadable or
            cannot be fetched.
    """
    kind, _, rest = spec.partition(":")
    if spec == "offline":
        return _offline(FOLDER, device=device)
    if kind == "open_clip" and rest:
        return _open_clip(spec, rest, device=device, trust_code=trust_code)
    raise ProbeError(
        f"--probe {spec!r} is unknown: give offline or open_clip:MODEL/PRETRAINED, such as "
        "open_clip:ViT-B-32/laion2b_s34b_b79k."
    )


def _offline(folder: Path, *, device: torch.device) -> ProbeModel:
    card, heads = read_heads(folder)
    with _quiet():
        net, tokenize, preprocess = assemble(heads)
    encoders = _Encoders(net, tokenize, asdict(preprocess))
    note = (
        "The embedded probe: EfficientNet-Lite0 and all-MiniLM-L6-v2 under linear maps trained on "
        f"{card.photos} photos; far weaker than an OpenCLIP model."
    )
    probe = _model("offline", encoders, device, note=note, quality=card.quality)
    fold(net.visual.trunk)  # its digest is of the weights as they are
    return replace(probe, known=read_texts(folder, card))


@dataclass(frozen=True)
class _Source:
    """Where an OpenCLIP model is from: what `create_model` is given for it."""

    model: str
    pretrained: str | None
    words: str
    local: bool
    quick: bool = False
    recipe: Recipe | None = None


def _source(spec: str, rest: str) -> _Source:
    """The source that the words after `open_clip:` mean.

    Raises:
        ProbeError: they mean none, or a file whose recipe nobody says.
    """
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    if rest.startswith("hf-hub:"):
        return _Source(rest, None, "the Hugging Face hub", local=False)
    if os.path.isdir(rest):
        return _Source(f"local-dir:{Path(rest)}", None, "a local folder", local=True)
    model, _, pretrained = rest.partition("/")
    if model not in open_clip.list_models():
        raise ProbeError(
            f"--probe {spec!r}: {model!r} is neither a folder nor a model that OpenCLIP knows."
        )
    if published := get_pretrained_cfg(model, pretrained):
        # The published weights decide, not the architecture's default.
        quick = bool(published.get("quick_gelu"))
        return _Source(model, pretrained, "published weights", local=False, quick=quick)
    tag, equals, file = pretrained.partition("=")
    named = bool(equals and get_pretrained_cfg(model, tag)) and not os.path.isfile(pretrained)
    path = Path(file if named else pretrained)
    if not os.path.isfile(path):
        known = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise ProbeError(
            f"--probe {spec!r}: {str(path)!r} is neither a file nor published weights of "
            f"{model} (known: {known})."
        )
    if path.suffix not in CHECKPOINTS:
        raise ProbeError(f"--probe {spec!r}: give the checkpoint as a .safetensors file.")
    recipe = recipe_of_file(spec, model, path, tag if named else None)
    return _Source(model, str(path), "a local checkpoint", local=True, recipe=recipe)


def _open_clip(spec: str, rest: str, *, device: torch.device, trust_code: bool) -> ProbeModel:
    from open_clip.factory import create_model, get_model_config, get_tokenizer

    source = _source(spec, rest)
    if source.model.startswith("local-dir:") and not trust_code:
        _refuse(spec, reason_to_refuse(read_config(Path(rest))["model_cfg"], Path(rest)))
    options: dict[str, Any] = {"force_quick_gelu": source.quick}
    if source.recipe is not None:
        options = {
            "force_preprocess_cfg": dict(source.recipe.preprocess),
            "quick_gelu": source.recipe.quick_gelu,
        }
    try:
        with _quiet(), _closed(network=not source.local or trust_code):
            if source.model.startswith("hf-hub:") and not trust_code:
                _refuse(spec, reason_to_refuse(get_model_config(source.model), None))
            net = create_model(
                source.model, source.pretrained, require_pretrained=True, device="cpu", **options
            )
            tokenize = get_tokenizer(source.model)
    except ProbeError:
        raise
    except Exception as error:  # OpenCLIP, hub and parser errors share no base
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ProbeError(
            f"--probe {spec!r} cannot be loaded from {source.words} ({reason}): without a network "
            "give open_clip:MODEL/TAG=FILE.safetensors, a model's folder, or offline."
        ) from None
    note = f"The OpenCLIP model {rest}, from {source.words}."
    remarks: tuple[Remark, ...] = ()
    if source.recipe is not None:
        taken = (
            f"Preprocessing and activation of the probe's file {source.pretrained} are "
            f"{source.recipe.origin}."
        )
        note += f" Its preprocessing and activation are {source.recipe.origin}."
        remarks = (Remark(code="probe-preprocessing", text=taken),)
    encoders = _Encoders(net, tokenize, net.visual.preprocess_cfg)
    probe = _model(spec, encoders, device, note=note, quality={})
    return replace(probe, remarks=remarks)


def _refuse(spec: str, reason: str | None) -> None:
    if reason is not None:
        raise ProbeError(
            f"--probe {spec!r} is refused, for {reason}; give --trust-code if you trust where it "
            "comes from."
        )


@dataclass(frozen=True)
class _Encoders:
    """A dual encoder as OpenCLIP gives it, with its tokenizer and its image preprocessing."""

    net: nn.Module
    tokenize: Callable[[Sequence[str]], Tensor]
    preprocess: Mapping[str, Any]

    def digest(self) -> str:
        """SHA-256 of the weights, the preprocessing and the tokenizer."""
        total = hashlib.sha256()
        for name, value in sorted(self.net.state_dict().items()):
            total.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
            total.update(
                value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            )
        tokens = self.tokenize(["A photo of 3 dogs, a watermark and a café (no logo)."]).tolist()
        total.update(json.dumps([dict(self.preprocess), tokens], sort_keys=True).encode())
        return total.hexdigest()


def _model(
    name: str,
    encoders: _Encoders,
    device: torch.device,
    *,
    note: str,
    quality: Mapping[str, Quality],
) -> ProbeModel:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    net = encoders.net
    config = PreprocessCfg(**encoders.preprocess)
    *steps, last = image_transform_v2(config, is_train=False).transforms
    if not isinstance(last, Normalize):
        raise ProbeError(f"The probe {name} ends its preprocessing with {last}; it cannot be used.")
    _, height, width = config.input_size
    net.requires_grad_(False).eval().to(device)
    return ProbeModel(
        name=name,
        digest=encoders.digest(),
        note=note,
        quality=quality,
        size=(height, width),
        logit_scale=float(net.get_parameter("logit_scale").exp()),
        _net=net.to(memory_format=torch.channels_last),
        _fit=Compose(steps),
        _normalise=last,
        _tokenize=encoders.tokenize,
        _parts=_parts(device),
    )


def _parts(device: torch.device) -> Parts:
    return Parts(CPU_BATCH if device.type == "cpu" else GPU_BATCH)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the messages of OpenCLIP and transformers off the user's terminal.

    OpenCLIP logs through the root logger, which installs a handler on it when it has none.
    """
    before, silent = logging.root.manager.disable, logging.NullHandler()
    logging.root.addHandler(silent)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        logging.root.removeHandler(silent)


@contextlib.contextmanager
def _closed(*, network: bool) -> Iterator[None]:
    """Keep transformers from asking whether code may run, and from the hub unless `network` is set.

    Where a model brings code that was not allowed, transformers asks on the terminal and waits for
    an answer; with no time to wait it refuses.
    """
    from transformers import dynamic_module_utils

    waits = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        with fetching(hub=True) if network else offline():
            yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = waits
