"""Accuracy is compared with chance and with other readings; a wrong one stops the audit."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from auditor.core.storage import digest_bytes
from auditor.errors import ImagesError
from auditor.images.image_set import ImageSet
from auditor.models.loading import Classifier
from auditor.pipeline import agreement, misreadings
from auditor.record.schema import Remark

COLOURS = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60))
EACH = 16


def png(pixels: NDArray[np.float64]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def photo_set(
    data: list[bytes], labels: list[int], *, folders: list[str] | None = None
) -> ImageSet:
    ids = tuple(f"{folders[k] if folders else k}/{n:03}.png" for n, k in enumerate(labels))
    digests = tuple(map(digest_bytes, data))
    return ImageSet(ids, tuple(labels), digests, (), data.__getitem__)


def coloured(order: tuple[int, ...] = (0, 1, 2, 3), **options: list[str]) -> ImageSet:
    """Photos of one colour each, brighter and darker; the class of the k-th colour is order[k]."""
    rng = np.random.default_rng(0)
    data = [
        png(np.array(colour) * rng.uniform(0.7, 1.2) + rng.normal(0, 12, (8, 8, 3)))
        for colour in COLOURS
        for _ in range(EACH)
    ]
    return photo_set(data, [label for label in order for _ in range(EACH)], **options)


class Nearest(nn.Module):
    """Takes pixels as `prepared` gives them back in [0, 1] for the nearest of four colours."""

    def __init__(
        self, prepared: Callable[[Tensor], Tensor] = lambda x: x, classes: int = 4
    ) -> None:
        super().__init__()
        self.prepared = prepared
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        mean = self.prepared(x).clamp(-1, 2).mean((2, 3))
        mean = mean / (mean.norm(dim=1, keepdim=True) + 1e-6)
        colours = torch.tensor(COLOURS, dtype=x.dtype) / 255
        near = mean @ (colours / colours.norm(dim=1, keepdim=True)).T
        pad = near.new_full((len(x), len(self.bias) - 4), -1.0)
        return 20 * torch.cat([near, pad], 1) + self.bias


def model(net: nn.Module, mean: float = 0.0, std: float = 1.0, **changes: Any) -> Classifier:
    made = tiny.classifier(net, 8, len(net.get_parameter("bias")))
    preprocess = dataclasses.replace(made.preprocess, mean=(mean,) * 3, std=(std,) * 3, **changes)
    return dataclasses.replace(made, preprocess=preprocess)


def logits(classifier: Classifier, images: ImageSet) -> NDArray[np.float32]:
    with torch.inference_mode():
        parts = images.batches(classifier.preprocess.fit, size=32)
        return np.concatenate([classifier.logits(part).numpy() for part in parts])


def checked(
    classifier: Classifier, images: ImageSet, *, anyway: bool = False
) -> tuple[Remark, ...]:
    classes = range(len(classifier.class_names))
    return agreement.check(
        classifier, images, logits(classifier, images), classes, seed=0, batch=32, anyway=anyway
    )


# --- other readings ------------------------------------------------------------------------------


def test_the_right_reading_says_nothing() -> None:
    assert checked(model(Nearest()), coloured()) == ()


IMAGENET = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
SPREAD = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)

INPUTS = {
    "bgr": (lambda x: x.flip(1), {}, "blue as the first channel: give --channels bgr"),
    "0-255": (lambda x: x / 255, {}, "give --pixel-range 0-255"),
    "0-1": (
        lambda x: x * 255, {"mean": 0.0, "std": 1.0}, "pixels of 0 to 1: give --pixel-range 0-1"
    ),
    "imagenet": (
        lambda x: x * SPREAD + IMAGENET, {},
        "give --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
    ),
    "half": (lambda x: x * 0.5 + 0.5, {"mean": -3.0, "std": 4.0},
             "give --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5"),
    "none": (lambda x: x, {"mean": 0.9, "std": 0.1}, "give --mean 0,0,0 --std 1,1,1"),
}  # fmt: skip


@pytest.mark.parametrize(("wanted", "said", "advice"), INPUTS.values(), ids=INPUTS.keys())
def test_preprocessing_that_fits_better_is_named(
    wanted: Callable[[Tensor], Tensor], said: dict[str, float], advice: str
) -> None:
    def strict(x: Tensor) -> Tensor:
        # outside of the range that it was trained on, a network sees nothing
        pixels = wanted(x)
        lowest, highest = pixels.amin((1, 2, 3)), pixels.amax((1, 2, 3))
        usual = (lowest > -0.05) & (highest < 1.05) & (highest > 0.2)
        return pixels * usual[:, None, None, None]

    with pytest.raises(ImagesError) as caught:
        checked(model(Nearest(strict), **said), coloured())
    assert advice in str(caught.value)
    assert str(caught.value).endswith("or go on all the same with --anyway.")
    assert "for 64 of 64 with" in str(caught.value)


def test_anyway_goes_on_and_says_so() -> None:
    swapped = model(Nearest(lambda x: x.flip(1)))
    (remark,) = checked(swapped, coloured(), anyway=True)
    assert remark.code == "another-reading-fits"
    assert remark.serious
    assert "--channels bgr" in remark.text
    assert remark.text.endswith("The audit went on all the same, as --anyway asked.")


def test_squeezed_photos_are_named() -> None:
    """The colour stands at the sides, which a crop cuts off."""
    rng = np.random.default_rng(0)
    data = []
    for colour in COLOURS:
        for _ in range(EACH):
            pixels = np.full((8, 24, 3), 128.0) + rng.normal(0, 12, (8, 24, 3))
            pixels[:, :6] = pixels[:, -6:] = np.array(colour) * rng.uniform(0.7, 1.2)
            data.append(png(pixels))
    wide = photo_set(data, [k for k in range(4) for _ in range(EACH)])
    with pytest.raises(ImagesError, match=r"give --aspect stretch --resize 8, or"):
        checked(model(Nearest()), wide)
    assert checked(model(Nearest(), aspect="stretch"), wide) == ()


class Background(Nearest):
    """Its first output is a background class, of which its names know nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).roll(1, 1)


@pytest.mark.parametrize(
    ("net", "order"), [(Background(classes=6), (0, 1, 2, 3)), (Nearest(classes=6), (1, 2, 3, 4))]
)
def test_labels_that_are_shifted_by_one_are_told(net: nn.Module, order: tuple[int, ...]) -> None:
    images = coloured(order, folders=["photos"] * 6)
    with pytest.raises(
        ImagesError, match=r"shifted by one against the model's outputs; .*--anyway"
    ):
        checked(model(net), images)


def test_folders_in_the_order_of_text_are_told() -> None:
    """Folders 0, 2, 10 and 11, and a model whose outputs are 0, 10, 11 and 2."""
    net = Nearest(classes=12)
    images = coloured((0, 10, 11, 2), folders=[str(k) for k in range(12)])
    with pytest.raises(ImagesError, match="give --labels folder-order") as caught:
        checked(model(net), images)
    assert "right for 16 of 64 photos as" in str(caught.value)
    assert "64 of 64 with" in str(caught.value)


def test_readings_of_the_source_are_tried() -> None:
    plain = coloured((1, 0, 3, 2))
    readings = {"id": coloured().labels or (), "index": plain.labels or ()}
    images = dataclasses.replace(plain, readings=readings)
    with pytest.raises(ImagesError, match="with labels read as id: give --labels id"):
        checked(model(Nearest()), images)


def test_gain_and_p_of_a_reading() -> None:
    labels = np.arange(40) % 4
    reading = misreadings.Reading("words", "advice", labels, labels, np.arange(40) < 30)
    assert reading.gain == 0.25
    assert reading.p == pytest.approx(2 / 2**10)
    same = misreadings.Reading("words", "advice", labels, labels, np.ones(40, bool))
    assert (same.gain, same.p) == (0, 1)


def test_labels_that_fit_some_classes_alone_are_not_shifted() -> None:
    """Two classes that are taken for each other."""
    labels = [0] * 40 + [1] * 10
    assert told(labels, [1 - k for k in labels], classes=3) == ["accuracy-at-chance"]


def test_a_reading_that_fits_by_one_answer_for_all_is_none() -> None:
    """Shifted by one, most labels are the model's only answer: that is chance."""
    assert told([0] * 40 + [1] * 10 + [2] * 10, [1] * 60) == ["accuracy-at-chance"]


def test_a_reading_that_the_model_cannot_take_fits_not() -> None:
    class Picky(Nearest):
        def forward(self, x: Tensor) -> Tensor:
            if x.amax() > 1.001 or x.amax() < 0.1:
                raise ValueError("pixels of 0 to 1, please")
            return super().forward(1 - x)

    with pytest.raises(ImagesError, match=r"no more than by chance"):
        checked(model(Picky()), coloured())


# --- chance --------------------------------------------------------------------------------------


class Fixed(nn.Module):
    """One answer for every photo."""

    def __init__(self, answer: int, classes: int = 4) -> None:
        super().__init__()
        self.bias = nn.Parameter(nn.functional.one_hot(torch.tensor(answer), classes).float())

    def forward(self, x: Tensor) -> Tensor:
        return self.bias.expand(len(x), -1) + 0 * x.mean((1, 2, 3))[:, None]


def test_one_answer_for_all_is_chance() -> None:
    with pytest.raises(ImagesError) as caught:
        checked(model(Fixed(2)), coloured())
    assert "right for 16 of 64 photos (25.0%), no more than by chance (25.0%)" in str(caught.value)
    assert "does not recognise these photos at all" in str(caught.value)
    (remark,) = checked(model(Fixed(2)), coloured(), anyway=True)
    assert (remark.code, remark.serious) == ("accuracy-at-chance", True)


def told(
    labels: list[int], predictions: list[int], *, classes: int = 4, anyway: bool = True
) -> list[str]:
    """Codes of what is said of these answers, of a model for which no other reading is better."""
    data = [png(np.full((8, 8, 3), float(k % 256))) for k in range(len(labels))]
    given = np.eye(classes, dtype=np.float32)[predictions]
    remarks = agreement.check(
        model(Fixed(0, classes)), photo_set(data, labels), given, range(classes),
        seed=0, batch=32, anyway=anyway,
    )  # fmt: skip
    assert all(remark.serious for remark in remarks)
    return [remark.code for remark in remarks]


def test_a_class_at_chance_is_named() -> None:
    labels = [0] * 20 + [1] * 20 + [2] * 20
    predictions = [0] * 20 + [1] * 20 + [0] * 10 + [1] * 10
    assert told(labels, predictions) == ["classes-at-chance"]
    with pytest.raises(ImagesError) as caught:
        told(labels, predictions, anyway=False)
    assert "one audited class" in str(caught.value)
    assert "(class 2: 0 of 20, and 0 of 40 others)" in str(caught.value)
    assert "--class-names" in str(caught.value)
    predictions[40] = 2
    assert told(labels, predictions) == []


@pytest.mark.parametrize(
    ("classes", "photos", "missed", "stops"),
    [(12, 10, 1, False), (12, 10, 3, True), (12, 20, 1, True), (100, 10, 9, False),
     (100, 10, 11, True), (100, 30, 1, True)],
)  # fmt: skip
def test_classes_that_bad_luck_may_miss_stop_no_audit(
    classes: int, photos: int, missed: int, stops: bool
) -> None:
    """Of classes that are right for a quarter of their photos, some are missed altogether."""
    labels = np.repeat(np.arange(classes), photos)
    predictions = np.where(labels < missed, (labels + 1) % classes, labels).tolist()
    given: dict[str, Any] = {"classes": classes, "anyway": False}
    if stops:
        with pytest.raises(ImagesError, match=f"{missed if missed > 1 else 'one'} audited class"):
            told(labels.tolist(), predictions, **given)
    else:
        assert told(labels.tolist(), predictions, **given) == ["classes-at-chance"]


def test_few_photos_of_a_class_tell_nothing() -> None:
    labels = [0] * 20 + [1] * 20 + [2] * 9
    assert told(labels, [0] * 20 + [1] * 20 + [0] * 9) == []
    assert told([0, 1] * 4, [1, 0] * 4) == []


def test_photos_of_one_class_are_held_against_the_number_of_classes() -> None:
    assert told([1] * 20, [1] * 20) == []
    assert told([1] * 20, [0] * 20) == ["accuracy-at-chance"]


def test_hardly_above_chance_is_said_and_goes_on() -> None:
    labels = [0, 1] * 10
    predictions = [0, 1] * 6 + [1, 0] * 4
    assert told(labels, predictions, anyway=False) == ["accuracy-near-chance"]
    assert told(labels, [0, 1] * 9 + [1, 0], anyway=False) == []


@pytest.mark.parametrize("sizes", [(200, 5, 40, 1), (3, 3, 3, 3), (500, 500, 500, 500)])
def test_the_sample_is_spread_over_classes(sizes: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = misreadings._sample(labels, np.random.default_rng(0))
    assert len(set(rows.tolist())) == len(rows) == min(misreadings.PARTS[-1], len(labels))
    counts = np.bincount(labels[rows], minlength=len(sizes))
    for count, size in zip(counts, sizes, strict=True):
        assert count == size or count >= counts.max() - 1


@pytest.mark.parametrize(
    ("gained", "lost", "n", "said"),
    [
        (30, 0, 300, "Wrong readings mostly cost more"),  # a tenth, surely
        (60, 0, 300, "stops"),
        (14, 0, 300, None),  # less than a twentieth
        (40, 20, 300, None),  # which may be luck
        (8, 0, 40, "too few to say for sure"),
    ],
)
def test_a_slight_gain_is_a_remark(
    gained: int, lost: int, n: int, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.arange(n) % 4
    right = np.arange(n) >= n // 4
    other = right.copy()
    other[np.flatnonzero(~right)[:gained]] = True
    other[np.flatnonzero(right)[:lost]] = False
    predictions, better = (np.where(each, labels, (labels + 1) % 4) for each in (right, other))
    reading = misreadings.Reading("blue first", "give --channels bgr", labels, better, right)
    monkeypatch.setattr(misreadings, "_other_inputs", lambda *_, **__: [reading])
    answers = (labels.tolist(), predictions.tolist())
    if said == "stops":
        with pytest.raises(ImagesError, match="give --channels bgr, or go on"):
            told(*answers, anyway=False)
        return
    data = [png(np.full((8, 8, 3), float(k % 256))) for k in range(n)]
    remarks = agreement.check(
        model(Fixed(0)), photo_set(data, answers[0]), np.eye(4, dtype=np.float32)[answers[1]],
        range(4), seed=0, batch=32, anyway=False,
    )  # fmt: skip
    if said is None:
        assert remarks == ()
        return
    (remark,) = remarks
    assert (remark.code, remark.serious) == ("another-reading-may-fit", True)
    assert said in remark.text
    assert "give --channels bgr" in remark.text
