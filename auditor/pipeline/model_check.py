"""A model tried, on a few of the user's photos, for all that an audit asks of it.

What fails is told in one sentence before any work: an answer that depends on a photo's neighbours
or changes when it is asked again, layers and features that cannot be read, a gradient that is
missing, zero or not finite in the very network that prototypes are optimised with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from auditor.config import ModelConfig
from auditor.core.storage import Work
from auditor.errors import ModelError, lacks_memory
from auditor.images.image_set import ImageSet
from auditor.models import hardware, outputs
from auditor.models.activations import head_weights, pooled, recorded
from auditor.models.layers import Layers, find_layers
from auditor.models.loading import Classifier
from auditor.pipeline.engine import Worker
from auditor.prototypes.collages import collages
from auditor.prototypes.expectations import EARLY
from auditor.prototypes.objectives import moments
from auditor.record.schema import Remark

__all__ = ["check_kept", "same_answers", "sample_answers", "sampled", "settled", "tried"]

PHOTOS = 6
ALONE = 3  # of them that are also run alone
REPEATED = 1e-3  # of the logits' spread, that two answers to the same batch may differ by
NEIGHBOURED = 0.02  # the same for another batch: float16 or bfloat16 inside a model rounds so
ROUNDING = 1e-5  # of the largest logit: rounding of float32
SAMPLES = 8  # pictures whose logits are kept with the results of a model
BFLOAT16 = 0.25  # of the spread: what prototypes may be optimised with


def sampled(photos: ImageSet) -> ImageSet:
    """A few photos, spread over the classes where they have labels."""
    order = np.arange(len(photos))
    if photos.labels is not None:
        order = np.argsort(np.array(photos.labels), kind="stable")
    chosen = np.linspace(0, len(photos) - 1, min(PHOTOS, len(photos))).astype(int)
    return photos.subset(np.unique(order[chosen]).tolist())


def settled(classifier: Classifier, photos: ImageSet, *, stated: str) -> Classifier:
    """The classifier with its output recognised on photos and turned into logits.

    Args:
        classifier: from `models.load`.
        photos: a few, from `sampled`.
        stated: `ModelConfig.output`.

    Raises:
        ModelError: it fails on the photos, or its output cannot be read.
    """
    images = _images(classifier, photos)

    def run(net: nn.Module) -> Tensor:
        pixels = images.clone().requires_grad_()  # so that the output's last operation is known
        return dataclasses.replace(classifier, net=net).output_of(pixels, photos.ids)

    reading = outputs.read(classifier.net, run, stated=stated, spec=classifier.name)
    return dataclasses.replace(
        classifier,
        net=reading.net,
        output=reading.output,
        remarks=(*classifier.remarks, *reading.remarks),
    )


def tried(
    classifier: Classifier, config: ModelConfig, photos: ImageSet, *, batch: int
) -> tuple[Classifier, Layers]:
    """The classifier as the audit runs it, and its layers, both tried on photos.

    Args:
        classifier: from `models.load`.
        config: its configuration: how its output is read, and its layers where they are named.
        photos: a few, from `sampled`.
        batch: images in the largest batch that photos are classified in.

    Raises:
        ModelError: the model cannot do what the audit asks of it.
    """
    classifier = settled(classifier, photos, stated=config.output)
    images = _images(classifier, photos)
    with torch.inference_mode():
        answers = classifier.logits(images, photos.ids)
    _check_answers(classifier, images, answers, photos.ids, batch)
    layers = find_layers(classifier, config.layers)
    layers = _check_layers(classifier, layers, images, answers)
    classifier = _check_gradient(classifier, layers, images, answers)
    if not layers.linear:
        _check_head(classifier, layers, images)
    with torch.inference_mode():
        again = classifier.logits(images, photos.ids)
    _check_same(classifier, again, answers, REPEATED, "when it is asked again")
    return classifier, layers


def _images(classifier: Classifier, photos: ImageSet) -> Tensor:
    device = next(iter(classifier.net.parameters())).device
    fit = classifier.preprocess.fit
    return torch.cat(list(photos.batches(fit, size=len(photos)))).to(device)


def _check_answers(
    classifier: Classifier, images: Tensor, answers: Tensor, ids: Sequence[str], batch: int
) -> None:
    """The same photo must get the same logits again, alone, in another order and a large batch."""
    n = len(images)
    with torch.inference_mode():
        again = classifier.logits(images, ids)
        _check_same(classifier, again, answers, REPEATED, "when it is asked again")
        alone = torch.cat([classifier.logits(image[None], ids) for image in images[:ALONE]])
        told = "alone and in a batch, as a model in training mode does (call eval() on it)"
        _check_same(classifier, alone, answers[:ALONE], NEIGHBOURED, told)
        turned = classifier.logits(images.flip(0), ids[::-1]).flip(0)
        _check_same(classifier, turned, answers, NEIGHBOURED, "in another order of the batch")
        many = images[torch.arange(max(batch, n), device=images.device) % n]
        crowd = torch.cat(list(hardware.Parts(len(many))(classifier.logits, many)))[:n]
        _check_same(classifier, crowd, answers, NEIGHBOURED, f"in a batch of {len(many)}")


def _check_same(
    classifier: Classifier, one: Tensor, other: Tensor, share: float, told: str
) -> None:
    away = (one - other).abs().max()
    if bool(away > _allowed(other, share)):
        raise ModelError(
            f"{classifier.name} answers differently to the same photo {told}: its logits differ by "
            f"up to {float(away):.3g}, so that nothing measured on it would hold."
        )


def _allowed(answers: Tensor, share: float) -> Tensor:
    centred = answers.float() - answers.float().mean(1, keepdim=True)
    return share * centred.std() + ROUNDING * answers.float().abs().max()


def _check_layers(
    classifier: Classifier, layers: Layers, images: Tensor, answers: Tensor
) -> Layers:
    """Every layer and the features can be read, and the head is linear where that is said."""
    with torch.inference_mode(), recorded(classifier.net, layers) as values:
        watched = classifier.logits(images)
        missing = [name for name in (*layers.path, "") if name not in values]
        if missing:
            what = f"layer {missing[0]!r}" if missing[0] else "features"
            raise ModelError(f"{classifier.name} gives no {what} for photos that can be read.")
        widths = {name: pooled(v, layers.channel_axis[name]) for name, v in values.items()}
    _check_same(classifier, watched, answers, REPEATED, "while its layers are read")
    for name, rows in widths.items():
        if rows.ndim != 2 or len(rows) != len(images):
            what = f"The layer {name!r}" if name else "The features"
            raise ModelError(
                f"{what} of {classifier.name} cannot be read: one row of numbers is needed for "
                f"each of {len(images)} photos, and the shape is {tuple(rows.shape)}."
            )
        if not rows.isfinite().all():
            what = f"activations in the layer {name!r}" if name else "features"
            raise ModelError(f"{classifier.name} gives {what} that are not finite for photos.")
    if layers.linear:
        weights = torch.from_numpy(head_weights(classifier, layers, images)).to(images.device)
        rest = answers.float() - widths[""] @ weights.T
        rest = rest - rest.mean(1, keepdim=True)  # a softmax takes no note of what all share
        if bool((rest - rest.mean(0)).abs().max() > _allowed(answers, NEIGHBOURED)):
            layers = dataclasses.replace(layers, linear=False)
    return layers


def _check_head(classifier: Classifier, layers: Layers, images: Tensor) -> None:
    """The logits have a gradient by the features."""
    try:
        with torch.enable_grad(), recorded(classifier.net, layers) as values:
            logits = classifier.logits(images.clone().requires_grad_())
            torch.autograd.grad(logits[:, -1].sum(), values[""])
    except RuntimeError as error:
        if lacks_memory(error):
            raise
        raise ModelError(
            f"{classifier.name} gives no gradient of its logits by its features, taken at "
            f"{layers.features!r}, by which concepts are weighed; end it with a linear layer."
        ) from error


def _check_gradient(
    classifier: Classifier, layers: Layers, images: Tensor, answers: Tensor
) -> Classifier:
    """Prototypes can be optimised: with all shortcuts, or, where that fails, without them."""
    fault = _fault(classifier, layers, images, answers)
    if fault is None:
        return classifier
    plain = dataclasses.replace(classifier, shortcuts=False)
    still = _fault(plain, layers, images, answers)
    if still is not None:
        raise ModelError(f"{classifier.name} {still}, and prototypes need it.")
    remark = Remark(
        code="prototypes-in-float32",
        text="The model fails in bfloat16 or with folded normalisations "
        f"(it {fault}), so prototypes were made in float32, which is slower.",
    )
    return dataclasses.replace(plain, remarks=(*plain.remarks, remark))


def _fault(classifier: Classifier, layers: Layers, images: Tensor, answers: Tensor) -> str | None:
    """What fails where an image is optimised, as the end of a sentence."""
    sides = torch.ones(answers.shape[1], device=images.device)
    sides[1::2] = -1
    try:
        fast, autocast = hardware.for_gradients(hardware.folded(classifier, layers.path))
        pixels = images.clone().requires_grad_()
        with torch.enable_grad(), recorded(fast.net, layers) as values:
            with autocast:
                logits = fast.logits(pixels).float()
            early = layers.path[: max(1, round(EARLY * len(layers.path)))]
            statistics = [moments(values[k], layers.channel_axis[k]) for k in early]
            by_class = (logits @ sides).sum()
            whole = by_class + sum(part.float().mean() for pair in statistics for part in pair)
            (gradient,) = torch.autograd.grad(by_class, pixels, retain_graph=True)
            torch.autograd.grad(whole, pixels)
    except (ModelError, RuntimeError) as error:
        if lacks_memory(error):
            raise
        return f"gives no gradient to its input ({str(error).splitlines()[0][:200]})"
    if not gradient.isfinite().all():
        return "gives a gradient to its input that is not finite"
    if not gradient.any():
        return "gives a gradient to its input that is zero everywhere"
    away = (logits.detach() - answers.float()).abs().max()
    if not bool(away <= _allowed(answers, BFLOAT16) + 0.02 * answers.abs().max()):
        return f"gives other logits there, by up to {float(away):.3g}"
    return None


def sample_answers(worker: Worker) -> Tensor:
    """The model's logits of the sample pictures, float tensor of shape (SAMPLES, K).

    They tell models apart that have the same weights and other code.
    """
    pictures = collages(SAMPLES, *worker.classifier.preprocess.size).to(worker.device)
    with torch.inference_mode():
        return worker.classifier.logits(pictures).float().cpu()


def check_kept(worker: Worker, store: Work) -> Tensor:
    """What is kept of a model still holds: it answers sample pictures as it did then.

    Kept results are found by the model's weights, which changed code leaves as they are.

    Returns:
        the logits that `sample_answers` gives.

    Raises:
        ModelError: it answers otherwise.
    """
    answers = sample_answers(worker)
    kept = store.arrays("answers", worker.model_key, lambda: {"logits": answers.numpy()})
    if not same_answers(answers, torch.from_numpy(kept["logits"])):
        raise ModelError(
            f"{worker.classifier.name} has the weights that the results in {store.folder} were "
            "computed with, and answers otherwise: its code was changed. Give the audit another "
            "folder with --work."
        )
    return answers


def same_answers(one: Tensor, other: Tensor) -> bool:
    """Whether logits of shape (n, K) are equal, but for rounding on other machines."""
    if one.shape != other.shape:
        return False
    return bool((one - other).abs().max() <= _allowed(other, NEIGHBOURED))
