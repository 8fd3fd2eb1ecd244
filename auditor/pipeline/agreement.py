"""Whether a model recognises its photos better than by chance, and than by other readings of them.

An audit rests on labels and preprocessing that are those of the model's training. Where they are
not, most models still answer, and all that is said of them is wrong. So accuracy is compared with
what labels shuffled among the photos would give, overall and in each audited class, and other
readings are tried (`auditor.pipeline.misreadings`). One that fits is named, never taken unasked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from auditor.errors import ImagesError
from auditor.images.image_set import ImageSet
from auditor.models.loading import Classifier
from auditor.pipeline.misreadings import Reading, better, chance
from auditor.record.schema import Remark

__all__ = ["check"]

LEAST_PHOTOS = 10  # of all, or of a class: fewer are missed by bad luck
WEAK = 0.05  # of the binomial test of the accuracy against chance
NAMED = 5  # classes that a sentence names
HARD = 0.25  # accuracy of classes that good models confuse with a twin

WRONG = (
    "so labels or preprocessing are not those of its training, or it does not recognise {what} at "
    "all; check --labels, --class-names, --size, --mean, --std, --channels, --pixel-range and "
    "--aspect"
)

Ints = NDArray[np.int64]


def check(
    classifier: Classifier,
    images: ImageSet,
    logits: NDArray[np.float32],
    classes: Sequence[int],
    *,
    seed: int,
    batch: int,
    anyway: bool,
) -> tuple[Remark, ...]:
    """What the accuracy on the photos says of labels and preprocessing.

    Args:
        classifier: the audited model.
        images: the audited photos, with labels.
        logits: of the photos, of shape (n, K).
        classes: the audited classes.
        seed: of the sample that other preprocessing is tried on.
        batch: photos per forward pass.
        anyway: whether to go on where the accuracy says that a reading is wrong.

    Returns:
        Serious remarks: the accuracy is not clearly above chance, another reading may fit, or what
        is below was found and `anyway` went on.

    Raises:
        ImagesError: another reading fits far better, or the accuracy, or that of a class, is no
            better than chance, and `anyway` is not set.
    """
    labels = np.array(images.labels, np.int64)
    predictions = np.asarray(logits.argmax(1), np.int64)
    n = len(labels)
    if n < LEAST_PHOTOS:
        return ()
    one = len(set(images.labels or ())) == 1  # shuffling changes nothing
    by_chance = 1 / logits.shape[1] if one else chance(labels, predictions)
    other = better(classifier, images, labels, predictions, seed=seed, batch=batch)
    failed = _classes_at_chance(labels, predictions, classes, classifier.class_names)
    found = (
        (_misread(other.reading) if other is not None and other.far and other.sure else None)
        or _at_chance(labels, predictions, by_chance)
        or (failed.told if failed is not None and failed.sure else None)
    )
    if found is not None:
        code, text = found
        if not anyway:
            raise ImagesError(f"{text}, or go on all the same with --anyway.")
        text = f"{text}. The audit went on all the same, as --anyway asked."
        return (Remark(code=code, text=text, serious=True),)
    doubts: tuple[Remark, ...] = ()
    if other is not None:
        why = (
            "The photos are too few to say for sure"
            if other.far
            else "Wrong readings mostly cost more, so it may be another difference to the training"
        )
        text = f"{_misread(other.reading)[1]}. {why}."
        doubts = (Remark(code="another-reading-may-fit", text=text, serious=True),)
    if failed is not None:
        code, text = failed.told
        text = f"{text}. The photos are too few to say for sure."
        doubts += (Remark(code=code, text=text, serious=True),)
    right = int((predictions == labels).sum())
    if stats.binomtest(right, n, by_chance, "greater").pvalue <= WEAK:
        return doubts
    text = (
        f"The model is right for {right} of {n} photos, which is not clearly more than by chance "
        f"({by_chance:.1%}): it hardly recognises them, or labels or preprocessing are wrong."
    )
    return (*doubts, Remark(code="accuracy-near-chance", text=text, serious=True))


def _misread(best: Reading) -> tuple[str, str]:
    return (
        "another-reading-fits",
        f"The model is right for {int(best.before.sum())} of {len(best.before)} photos as labels "
        f"and preprocessing are read, and for {int(best.right.sum())} of {len(best.right)} with "
        f"{best.words}: {best.advice}",
    )


def _at_chance(labels: Ints, predictions: Ints, by_chance: float) -> tuple[str, str] | None:
    right, n = int((predictions == labels).sum()), len(labels)
    if right / n > by_chance + 1e-9:
        return None
    return (
        "accuracy-at-chance",
        f"The model is right for {right} of {n} photos ({right / n:.1%}), no more than by chance "
        f"({by_chance:.1%}), {WRONG.format(what='these photos')}",
    )


@dataclass(frozen=True)
class _Failed:
    """Classes at chance: what is told of them, and whether that is no bad luck."""

    told: tuple[str, str]
    sure: bool


def _classes_at_chance(
    labels: Ints, predictions: Ints, classes: Sequence[int], names: Sequence[str]
) -> _Failed | None:
    """Audited classes that are recognised no more often than other photos are taken for them.

    Good models of many classes confuse some with a twin, and miss all of a few photos of them by
    bad luck. So it is sure only where so many classes would hardly fail (`WEAK`) if each were right
    for `HARD` of its photos: one of 12 classes with 20 photos each, or 70 of 1,000 with ten.
    """
    failed: list[str] = []
    luck: list[float] = []
    for c in classes:
        own = labels == c
        n, others = int(own.sum()), int((~own).sum())
        if min(n, others) < LEAST_PHOTOS:
            continue
        hits, alarms = int((predictions[own] == c).sum()), int((predictions[~own] == c).sum())
        luck.append((1 - HARD) ** n)
        if hits * others <= alarms * n:
            failed.append(f"{names[c]}: {hits} of {n}, and {alarms} of {others} others")
    if not failed:
        return None
    more = f"; and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
    what = "one audited class" if len(failed) == 1 else f"{len(failed)} audited classes"
    text = (
        f"The model recognises photos of {what} no more often than it takes other photos for them "
        f"({'; '.join(failed[:NAMED])}{more}), {WRONG.format(what='them')}"
    )
    by_luck = stats.binom.sf(len(failed) - 1, len(luck), float(np.mean(luck)))
    return _Failed(("classes-at-chance", text), bool(by_luck < WEAK))
