"""Other readings of labels and preprocessing, tried on photos: which would make a model far better.

The usual ones are tried: other readings of the labels, labels shifted by one, the order of the
channels, the range and the normalisation of the pixels, photos squeezed or cropped, turned and on
other grounds. Another reading fits if the model is right for `GAIN` more of the photos and
McNemar's exact test (1947) says so, at a level that is divided by the number of readings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from auditor.core import seeds
from auditor.errors import lacks_memory
from auditor.images.image_set import ImageSet
from auditor.models.hardware import Parts
from auditor.models.loading import Classifier
from auditor.models.preprocessing import Preprocess

__all__ = ["Better", "Reading", "better", "chance"]

PARTS = (
    24,
    96,
    384,
)  # photos that other preprocessing is tried on; after each, the rest is dropped
LEFT = 2  # readings, of those that are better, that all photos are spent on
GAIN = 0.15  # in accuracy, from which another reading is far better
LUCK = 0.05  # in accuracy on the first photos, by which a better reading may seem worse
SLIGHT = 0.05  # in accuracy, from which it is worth a remark
LEVEL = 0.001  # of McNemar's test, divided by the number of readings
DOUBTFUL = 0.05  # the same, where the photos are too few to say so for sure

USUAL = (
    ("ImageNet's mean and deviation", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("a mean and deviation of 0.5", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ("pixels of 0 to 1 as they are", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
)
"""What most networks normalise with; of a grey network's input, the first number counts."""

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Reading:
    """Another way to read labels or to make the network's input, and how well it fits.

    Attributes:
        words: what is other, as in "blue as the first channel".
        advice: how it is stated.
        labels, predictions: by it, of each photo that it was tried on.
        before: whether the model is right as it stands, of the same photos.
        of_labels: whether labels are read in another way, not photos.
    """

    words: str
    advice: str
    labels: Ints
    predictions: Ints
    before: Bools
    of_labels: bool = False

    @property
    def right(self) -> Bools:
        """Whether the model is right by it, of each photo."""
        return np.asarray(self.labels == self.predictions)

    @property
    def gain(self) -> float:
        """In accuracy, over the present reading or over chance, whichever is higher."""
        lower = max(float(self.before.mean()), chance(self.labels, self.predictions))
        return float(self.right.mean()) - lower

    @property
    def differs(self) -> bool:
        """Whether the model is right for other photos by it."""
        return bool((self.right != self.before).any())

    @property
    def p(self) -> float:
        """Of McNemar's exact test, two-sided."""
        better = int((self.right & ~self.before).sum())
        worse = int((~self.right & self.before).sum())
        return float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0

    @property
    def balanced(self) -> float:
        """Share of photos that are right by it, averaged over its classes."""
        return float(np.mean([self.right[self.labels == c].mean() for c in np.unique(self.labels)]))

    def followed_by(self, labels: Ints, predictions: Ints, before: Bools) -> Reading:
        """With further photos that it was tried on."""
        return dataclasses.replace(
            self,
            labels=np.concatenate([self.labels, labels]),
            predictions=np.concatenate([self.predictions, predictions]),
            before=np.concatenate([self.before, before]),
        )


@dataclass(frozen=True)
class Better:
    """A reading that fits better: far better or slightly; `sure` if photos enough say so."""

    reading: Reading
    far: bool
    sure: bool


@dataclass(frozen=True)
class _Input:
    """Another way to make the network's input of a photo."""

    words: str
    advice: str
    preprocess: Preprocess
    change: Change
    photos: ImageSet


def better(
    classifier: Classifier,
    images: ImageSet,
    labels: Ints,
    predictions: Ints,
    *,
    seed: int,
    batch: int,
) -> Better | None:
    """The reading that fits best, if one fits better than the present one.

    Far better is a reading of labels or of photos from `GAIN` on; slightly better, which tells
    nothing of labels, one of photos from `SLIGHT` on.

    Args:
        classifier: the audited model.
        images: the audited photos.
        labels, predictions: of the photos, of shape (n,).
        seed: of the sample of photos that other preprocessing is tried on.
        batch: photos per forward pass.
    """
    right = predictions == labels
    tried = [
        Reading(words, advice, other, predictions, right, of_labels=True)
        for words, advice, other in _other_labels(images, labels)
    ]
    rows = _sample(labels, seeds.stream(seed, "other readings"))
    if right[rows].mean() <= 1 - GAIN:  # else nothing can be so much better
        tried += _other_inputs(classifier, images, labels, right, rows, batch=batch)
    # labels that some classes alone fit are a chance of what is taken for what
    likely = [each for each in tried if not each.of_labels or each.balanced > 0.5]
    for least, level in ((GAIN, LEVEL), (GAIN, DOUBTFUL), (SLIGHT, LEVEL)):
        fit = [
            each
            for each in likely
            if each.gain >= least
            and each.p < level / len(tried)
            and (least == GAIN or not each.of_labels)
        ]
        if fit:
            best = max(fit, key=lambda each: each.gain)
            return Better(best, far=least == GAIN, sure=level == LEVEL)
    return None


def chance(labels: Ints, predictions: Ints) -> float:
    """Share of photos that are right on average if their labels are shuffled among them."""
    both = np.intersect1d(labels, predictions)
    return float(sum((labels == c).mean() * (predictions == c).mean() for c in both))


def _sample(labels: Ints, rng: np.random.Generator) -> Ints:
    """Positions of as many photos as are tried at most, of each class about as many, shuffled."""
    order = rng.permutation(len(labels))
    turn = np.zeros(len(labels), np.int64)
    for c in np.unique(labels):
        members = labels[order] == c
        turn[members] = np.arange(members.sum())
    return np.asarray(order[np.argsort(turn, kind="stable")][: PARTS[-1]], np.int64)


def _other_labels(images: ImageSet, labels: Ints) -> Iterator[tuple[str, str, Ints]]:
    """Other readings of the labels: words, advice and labels."""
    for name, other in images.readings.items():
        if tuple(other) != images.labels:
            yield (
                f"labels read as {name}",
                f"give --labels {name}",
                np.array(other, np.int64),
            )
    if "folder-order" not in images.readings and all("/" in name for name in images.ids):
        # torchvision's and other loaders number folders by their names as text
        folders = [name.split("/")[0] for name in images.ids]
        place = {folder: k for k, folder in enumerate(sorted(set(folders)))}
        ranked = np.array([place[folder] for folder in folders], np.int64)
        if (ranked != labels).any():
            yield (
                "outputs in the order of the folders' names as text",
                "give --labels folder-order, or names in the order of the outputs with "
                "--class-names",
                ranked,
            )
    for step, words in ((1, "after"), (-1, "before")):
        yield (
            f"each label's output taken to be the one {words} it",
            "the names of the classes are shifted by one against the model's outputs; give those "
            "in their order with --class-names",
            labels + step,
        )


def _other_inputs(
    classifier: Classifier, images: ImageSet, labels: Ints, right: Bools, rows: Ints, *, batch: int
) -> list[Reading]:
    """Other preprocessing, tried on sampled photos; what is no better is tried on no more."""
    inputs = [
        *_other_values(classifier.preprocess, images),
        _other_aspect(classifier.preprocess, images),
        *_other_decodings(classifier.preprocess, images),
    ]
    tried: dict[int, Reading] = {}
    alive = list(range(len(inputs)))
    for turn, part in enumerate(filter(len, np.split(rows, PARTS[:-1]))):
        answers = _answers(classifier, [inputs[k] for k in alive], part, batch)
        for k, answer in zip(alive, answers, strict=True):
            seen = labels[part], answer, right[part]
            each = inputs[k]
            tried[k] = (
                tried[k].followed_by(*seen)
                if k in tried
                else Reading(each.words, each.advice, *seen)
            )
        least = 0 if turn else -LUCK
        alive = [k for k in alive if tried[k].gain > least and tried[k].differs]
        if turn:
            alive = sorted(alive, key=lambda k: -tried[k].gain)[:LEFT]
    return list(tried.values())


def _same(pixels: Tensor) -> Tensor:
    return pixels


def _swapped(pixels: Tensor) -> Tensor:
    return pixels.flip(1)


def _larger(pixels: Tensor) -> Tensor:
    return pixels * 255


def _smaller(pixels: Tensor) -> Tensor:
    return pixels / 255


def _other_values(preprocess: Preprocess, images: ImageSet) -> Iterator[_Input]:
    """Other channel orders, ranges and normalisation."""
    channels = len(preprocess.mean)
    if channels == 3:
        first, order = ("blue", "bgr") if preprocess.channels == "rgb" else ("red", "rgb")
        words = f"{first} as the first channel"
        yield _Input(words, f"give --channels {order}", preprocess, _swapped, images)
    for words, mean, std in USUAL:
        usual = dataclasses.replace(preprocess, mean=mean[:channels], std=std[:channels])
        if (usual.mean, usual.std) == (preprocess.mean, preprocess.std):
            continue
        flags = f"--mean {_listed(usual.mean)} --std {_listed(usual.std)}"
        yield _Input(words, f"give {flags}", usual, _same, images)
        if usual.std[0] == 1:
            advice = f"give --pixel-range 0-255 {flags}"
            yield _Input("pixels of 0 to 255 as they are", advice, usual, _larger, images)
    for words, change in (("0-255", _larger), ("0-1", _smaller)):
        pixels = f"pixels of {words.replace('-', ' to ')}"
        yield _Input(pixels, f"give --pixel-range {words}", preprocess, change, images)


def _other_aspect(preprocess: Preprocess, images: ImageSet) -> _Input:
    """Photos squeezed in place of cropped, or the other way."""
    if preprocess.aspect == "stretch":
        cropped = dataclasses.replace(preprocess, aspect="crop")
        words, advice = "photos cropped, not squeezed", "give --aspect crop"
        return _Input(words, advice, cropped, _same, images)
    side = min(preprocess.size)
    squeezed = dataclasses.replace(preprocess, aspect="stretch", resize=side)
    words, advice = "photos squeezed, not cropped", f"give --aspect stretch --resize {side}"
    return _Input(words, advice, squeezed, _same, images)


def _other_decodings(preprocess: Preprocess, images: ImageSet) -> Iterator[_Input]:
    """Photos turned or left as they lie, and on other grounds where they are transparent."""
    decoding = images.decoding
    changes = [
        ({"orientation": "stored"}, "photos left as they lie in their files"),
        ({"orientation": "exif"}, "photos turned upright by their EXIF"),
        ({"background": "drop"}, "transparency dropped"),
        ({"background": "white"}, "white under transparency"),
        ({"background": "black"}, "black under transparency"),
    ]
    for change, words in changes:
        ((name, value),) = change.items()
        if getattr(decoding, name) == value:
            continue
        other: Any = change
        photos = dataclasses.replace(images, decoding=dataclasses.replace(decoding, **other))
        yield _Input(words, f"give --{name} {value}", preprocess, _same, photos)


def _answers(
    classifier: Classifier, inputs: Sequence[_Input], rows: Ints, batch: int
) -> list[Ints]:
    """Predictions of photos by each reading; -1 where the model fails on its input."""
    found = [np.full(len(rows), -1, np.int64) for _ in inputs]
    device = next(iter(classifier.net.parameters())).device
    shared: dict[tuple[int, str], list[int]] = {}
    for k, each in enumerate(inputs):
        fitted = (each.preprocess.resize, each.preprocess.aspect)
        shared.setdefault((id(each.photos), str(fitted)), []).append(k)
    for members in shared.values():  # those share their pixels: each photo is decoded once
        leader = inputs[members[0]]
        photos = leader.photos.subset(rows.tolist())
        done = 0
        for pixels in photos.batches(leader.preprocess.fit, size=batch):
            part = slice(done, done + len(pixels))
            for k in members:
                found[k][part] = _answer(classifier, inputs[k], pixels.to(device))
            done += len(pixels)
    return found


def _answer(classifier: Classifier, reading: _Input, pixels: Tensor) -> Ints:
    other = dataclasses.replace(classifier, preprocess=reading.preprocess)
    parts = Parts(len(pixels))
    try:
        with torch.inference_mode():
            logits = torch.cat(list(parts(lambda part: other.logits(reading.change(part)), pixels)))
        return np.asarray(logits.argmax(1).cpu().numpy(), np.int64)
    except Exception as error:  # code that is not ours, on input that it may not be made for
        if lacks_memory(error):
            raise
        return np.full(len(pixels), -1, np.int64)  # a reading that fails fits not


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
