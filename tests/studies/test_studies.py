"""What benchmarks compute: similarity against pairs counted singly, turns, places and limits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from scipy import stats
from tiny import stripes

from auditor.core.estimates import Estimate
from auditor.models.activations import collect
from auditor.models.layers import find_layers
from benchmarks import making, similarity, studies
from benchmarks.prototypes import speed
from benchmarks.published import place


@dataclass
class Counted(making.Maker):
    calls: list[list[int]] = field(default_factory=list)


def mean_of(found: similarity.Similarity, kind: str) -> Estimate:
    mean = found.mean(kind)
    assert mean is not None
    return mean


def textbook(proto, owners, natural, labels, c):
    """The three sums of one class and layer, pair by pair."""

    def rho(left, right, *, skip_same=False):
        pairs = [
            stats.spearmanr(a, b).statistic
            for i, a in enumerate(left)
            for j, b in enumerate(right)
            if not (skip_same and i == j)
        ]
        return np.mean(pairs)

    own, others = natural[labels == c], natural[labels != c]
    mine = proto[owners == c]
    floor = rho(own, others)
    return (
        rho(mine, own) - floor,
        rho(mine, own) - rho(mine, others),
        rho(own, own, skip_same=True) - floor,
    )


def planted(rng: np.random.Generator, classes: int = 6, photos: int = 5, channels: int = 40):
    """Photos that share a pattern with the photos of their class."""
    patterns = rng.normal(size=(classes, channels))
    labels = np.repeat(np.arange(classes), photos)
    return patterns[labels] + rng.normal(size=(len(labels), channels)), labels, patterns


def test_similarity_equals_the_pairs_counted_one_by_one():
    rng = np.random.default_rng(0)
    natural, labels, _ = planted(rng, classes=3, photos=3, channels=7)
    natural = natural.round()  # ties
    proto, owners = rng.normal(size=(4, 7)), np.array([2, 0, 0, 7])
    found = similarity.similarity({"a": proto}, owners, {"a": natural}, labels)
    assert found.classes == (2, 0)  # 7 has no photos, 1 no prototype
    for row, c in enumerate(found.classes):
        wanted = textbook(proto, owners, natural, labels, c)
        got = (found.normalised[row, 0], found.specific[row, 0], found.separation[row, 0])
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_sums_over_classes_come_before_the_ratio():
    parts = np.array([[1.0], [3.0]]), np.array([[2.0], [0.0]]), np.array([[4.0], [1.0]])
    found = similarity.Similarity(("a",), (0, 1), *parts)
    assert found.by_layer("normalised").tolist() == [0.8]
    mean = mean_of(found, "specific")
    assert mean.value == pytest.approx(0.4)
    assert mean.low == 0
    assert mean.high == pytest.approx(0.5)
    assert found.mean("normalised", lambda name: name != "a") is None


def test_pooling_over_layers_weighs_them_by_their_separation():
    near, far = np.array([[0.3, 0.02]]), np.array([[0.5, 0.001]])
    found = similarity.Similarity(("a", "b"), (0,), near, near, far)
    assert found.pooled("normalised") == pytest.approx(0.32 / 0.501)
    assert found.by_layer("normalised")[1] == pytest.approx(20)


def test_photos_of_the_class_reach_the_ceiling_and_photos_of_others_the_floor():
    natural, labels, patterns = planted(np.random.default_rng(1), classes=12)
    ceiling, floor = similarity.ceiling_and_floor({"a": natural}, labels)
    assert mean_of(ceiling, "normalised").value == pytest.approx(1, abs=0.1)
    assert mean_of(ceiling, "specific").value == pytest.approx(1, abs=0.1)
    assert mean_of(floor, "normalised").value == pytest.approx(0, abs=0.1)
    ideal = similarity.similarity({"a": patterns}, np.arange(12), {"a": natural}, labels)
    assert mean_of(ideal, "specific").low > 1


def test_a_generic_mean_raises_the_normalised_figure_and_not_the_specific_one():
    rng = np.random.default_rng(2)
    natural, labels, _ = planted(rng)
    natural = natural + 2 * rng.normal(size=natural.shape[1])  # all photos have this in common
    mean = np.repeat(natural.mean(0, keepdims=True), 6, axis=0)
    found = similarity.similarity({"a": mean}, np.arange(6), {"a": natural}, labels)
    assert mean_of(found, "normalised").value > 0.4
    assert mean_of(found, "specific").value == pytest.approx(0, abs=0.2)


@pytest.fixture
def maker(tmp_path, monkeypatch):
    classifier = stripes()
    layers = find_layers(classifier)
    generic = collect(classifier, layers, [torch.rand(4, 3, 32, 32)])
    made = Counted(
        "stripes", classifier, layers, generic, tmp_path / "out", tmp_path, tmp_path, 1, 0, "first"
    )
    real = making.ours

    def counted(*args, **options):
        made.calls.append(list(args[3]))
        return real(*args, **options)

    monkeypatch.setattr(making, "ours", counted)
    return made


def test_what_was_made_is_not_made_again(maker):
    maker.by_ours("natural", [0, 1], 2)
    maker.by_ours("natural", [0, 1], 2)
    assert maker.calls == [[0, 1]]
    place_of = maker.out / "ours-natural" / "steps-2"
    kept = maker.kept(place_of, 1)
    assert kept.image.shape == (32, 32, 3)
    assert kept.record["together"] == 2
    (place_of / "1.json").unlink()  # as if killed between the two images
    maker.by_ours("natural", [0, 1], 2)
    assert len(maker.calls) == 2
    maker.by_ours("natural", [0, 1], 3)
    assert len(maker.calls) == 3


def test_images_of_an_engine_that_changed_are_made_again(maker):
    maker.by_ours("natural", [0], 2)
    record = maker.out / "ours-natural" / "steps-2" / "0.json"
    text = record.read_text()
    source = maker.kept(record.parent, 0).record["source"]
    record.write_text(text.replace(source, "0" * 16))
    maker.by_ours("natural", [0], 2)
    assert maker.calls == [[0], [0]]


def test_the_middle_of_an_image_is_its_middle():
    image = np.zeros((40, 40, 3), np.uint8)
    image[15:25, 15:25] = 255
    assert making._middle(image, 0.25).shape == (10, 10, 3)
    assert making._middle(image, 0.25).min() == 255


def test_speed_compares_within_turns():
    def kept(seconds, run):
        record = {"seconds": seconds, "steps": 8, "run": run, "load": 1.0}
        return making.Kept(np.zeros((2, 2, 3), np.uint8), record)

    ours = {0: kept(1.0, "a"), 1: kept(10.0, "b"), 2: kept(1.0, "b")}
    peer = {0: kept(5.0, "a"), 1: kept(50.0, "c")}
    found = speed(peer, ours)
    assert found["ratio"] == 5  # the machine was ten times slower in the second turn
    assert found["in_one_run"] == 0.5
    assert found["n"] == 2


def test_a_concept_without_a_value_is_behind_all_others():
    values = {"snow": 0.5, "fence": None, "water": 0.9}
    assert [place(values, name) for name in values] == [2, 3, 1]


def test_a_study_goes_on_where_it_was_stopped(tmp_path):
    results = tmp_path / "deep" / "study.jsonl"
    halves = ("development", "held-out")
    jobs = [studies.Job(name, half, plan=0) for half in halves for name in ("planted", "clean")]
    assert list(studies.unfinished(jobs, results)) == jobs
    studies.keep({"job": "planted", "half": "development", "outcome": {}}, results)
    studies.keep({"job": "clean", "half": "held-out", "outcome": {}}, results)
    assert list(studies.unfinished(jobs, results)) == jobs[1:3]
    assert list(studies.unfinished(jobs, results, "pla")) == [jobs[2]]
    left = studies.unfinished(jobs, results)
    assert next(left) == jobs[1]
    studies.keep({"job": "planted", "half": "held-out"}, results)  # by another process
    assert list(left) == []
