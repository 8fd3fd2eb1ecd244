"""Counterfactuals: who keys on a drawing is convicted, who does not is acquitted."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from auditor.core.estimates import Estimate
from auditor.drawing import drawings
from auditor.evidence import insertion
from auditor.evidence.insertion import MATERIAL, MATERIAL_LOG_ODDS, Effect, Insertions
from auditor.models.layers import Layers

SIDE = 32
LAYERS = Layers(("keep",), "head", True, {"keep": 1, "": 1}, linear=True)


class Measured(nn.Module):
    """A network whose second class is, by construction, one measure of the photo."""

    def __init__(self, measure: Callable[[Tensor], Tensor], gain: float) -> None:
        super().__init__()
        self.measure = measure
        self.keep = nn.Identity()
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[0.0, 0.0], [gain, 0.0]]))
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.keep(x) * 0.5 + 0.5  # undo the preprocessing
        features = torch.stack([self.measure(pixels), pixels.mean((1, 2, 3))], 1)
        return self.head(features)


def darkness_of_border(pixels: Tensor) -> Tensor:
    edge = torch.ones(SIDE, SIDE, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    return 0.5 - pixels[:, :, edge].mean((1, 2))


def darkness_of_centre(pixels: Tensor) -> Tensor:
    return 0.5 - pixels[:, :, 10:22, 10:22].mean((1, 2, 3))


def energy(pixels: Tensor) -> Tensor:
    return (pixels - 0.5).square().mean((1, 2, 3)).sqrt()


def insertions(
    measure: Callable[[Tensor], Tensor],
    photos: Tensor,
    *,
    gain: float = 8.0,
    name: str = "black_border",
    batch: int = 16,
    scale: float = 1.0,
    seed: int = 0,
) -> Insertions:
    classifier = tiny.classifier(Measured(measure, gain), SIDE, 2)
    answers = [
        insertion.answer(classifier, LAYERS, images, batch=batch)
        for images in (photos, *insertion.draw_pairs(name, photos, seed=seed))
    ]
    return Insertions.of(answers, np.full(2, scale, np.float32))


def verdict(inserted: Insertions, class_index: int = 1, eligible: int | None = None) -> Effect:
    n = inserted.log_probabilities.shape[1]
    chosen = np.arange(n) < (n if eligible is None else eligible)
    return insertion.test(inserted, class_index, chosen, replicates=299, seed=0)


def changed(logs: NDArray[np.floating]) -> Insertions:
    """Insertions into a model of two classes with these log-probabilities of the second."""
    other = np.log1p(-np.exp(np.minimum(logs, -1e-7)))
    return Insertions(
        np.zeros((logs.shape[1], 2), np.float32), np.stack([other, logs], 2).astype(np.float32)
    )


@pytest.fixture
def photos() -> Tensor:
    """Noise around grey, of shape (24, 3, SIDE, SIDE)."""
    generator = torch.Generator().manual_seed(0)
    return (0.5 + 0.1 * torch.randn(24, 3, SIDE, SIDE, generator=generator)).clamp(0, 1)


# --- models whose keys are known --------------------------------------------------------------


def test_a_model_that_keys_on_the_border_is_convicted(photos: Tensor) -> None:
    found = verdict(insertions(darkness_of_border, photos))
    assert found.confirmed
    assert found.p < 1e-4
    assert found.effect.value > 0.3
    assert found.effect.n == found.control.n == len(photos)
    assert abs(found.control.value) < 0.1
    assert not verdict(insertions(darkness_of_border, photos), class_index=0).confirmed


def test_a_model_that_ignores_the_border_is_acquitted(photos: Tensor) -> None:
    found = verdict(insertions(darkness_of_centre, photos))
    assert not found.confirmed
    assert found.effect == found.control
    assert found.effect.value == pytest.approx(0, abs=1e-6)
    assert found.p == 1.0


def test_a_model_that_the_border_puts_off_is_acquitted(photos: Tensor) -> None:
    found = verdict(insertions(darkness_of_border, photos, gain=-8.0))
    assert found.effect.high < 0
    assert not found.confirmed
    assert found.p > 0.999


def test_a_model_that_any_edit_excites_is_acquitted() -> None:
    """On grey photos the energy of the change is all there is, and the control has it too."""
    grey = torch.full((24, 3, SIDE, SIDE), 0.5)
    found = verdict(insertions(energy, grey, gain=10.0))
    assert found.effect.low > MATERIAL, "the model does react"
    assert found.control.value == pytest.approx(found.effect.value, rel=0.15)
    assert not found.confirmed


def test_each_photo_has_its_own_place_and_wording(photos: Tensor) -> None:
    drawn, controls = insertion.draw_pairs("time_stamp", photos, seed=5)
    assert torch.equal(drawn, insertion.draw("time_stamp", photos, seed=5))
    for place, photo in enumerate(photos):
        seed = insertion.photo_seed(5, place)
        pair = drawings.draw_pair("time_stamp", photo, seed=seed)
        assert torch.equal(drawn[place], pair[0])
        assert torch.equal(controls[place], pair[1])
    assert len({insertion.photo_seed(5, place) for place in range(len(photos))}) == len(photos)


def test_insertions_are_the_changes_that_a_slow_loop_sees(photos: Tensor) -> None:
    few = photos[:5]
    made = insertions(darkness_of_border, few, scale=0.25, batch=2, seed=3)
    net = Measured(darkness_of_border, 8.0)
    for place, photo in enumerate(few):
        seed = insertion.photo_seed(3, place)
        edited, control = drawings.draw_pair("black_border", photo, seed=seed)
        with torch.no_grad():
            for row, image in enumerate((photo, edited, control)):
                logs = net(image[None] * 2 - 1).log_softmax(1)[0]
                np.testing.assert_allclose(
                    made.log_probabilities[row, place], logs.numpy(), atol=1e-5
                )
        for column, measure in enumerate((darkness_of_border, lambda x: x.mean((1, 2, 3)))):
            change = (measure(edited[None]) - measure(photo[None])).item()
            assert made.features[place, column] == pytest.approx(change / 0.25, abs=1e-5)


def test_the_batch_does_not_matter(photos: Tensor) -> None:
    whole, parts = (insertions(darkness_of_border, photos, batch=size) for size in (64, 5))
    np.testing.assert_allclose(whole.features, parts.features, atol=1e-5)
    np.testing.assert_allclose(whole.log_probabilities, parts.log_probabilities, atol=1e-5)


def test_the_model_is_left_as_it_was(photos: Tensor) -> None:
    classifier = tiny.classifier(Measured(darkness_of_border, 8.0), SIDE, 2)
    insertion.answer(classifier, LAYERS, photos[:2], batch=2)
    for module in classifier.net.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


# --- the test itself --------------------------------------------------------------------------


def slow_wilcoxon(differences: list[float]) -> float:
    """One-sided signed-rank p-value by its normal law, ties and zeros as in the textbook."""
    kept = [d for d in differences if d != 0]
    ranks = []
    for d in kept:
        smaller = sum(abs(other) < abs(d) for other in kept)
        equal = sum(abs(other) == abs(d) for other in kept)
        ranks.append(smaller + (equal + 1) / 2)
    positive = sum(rank for d, rank in zip(kept, ranks, strict=True) if d > 0)
    n = len(kept)
    counts = [sum(abs(other) == size for other in kept) for size in {abs(d) for d in kept}]
    ties = sum(count**3 - count for count in counts)
    variance = n * (n + 1) * (2 * n + 1) / 24 - ties / 48
    z = (positive - n * (n + 1) / 4) / math.sqrt(variance)
    return 0.5 * math.erfc(z / math.sqrt(2))


@pytest.mark.parametrize("seed", range(4))
def test_effect_and_p_agree_with_a_slow_computation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logs = np.log(rng.uniform(0.05, 0.6, (3, 30)))
    logs[1] += 0.2
    logs[2, :4] = logs[1, :4]  # no difference
    logs[:, 4:10] = logs[:, 10:11]  # ties
    given = changed(logs)
    eligible = rng.random(30) < 0.7
    found = insertion.test(given, 1, eligible, replicates=20_000, seed=seed)
    plain, drawn, control = (
        [float(v) for v, wanted in zip(row, eligible, strict=True) if wanted]
        for row in given.log_probabilities[:, :, 1]
    )
    n = len(plain)
    gains = [math.exp(d) - math.exp(p) for d, p in zip(drawn, plain, strict=True)]
    nulls = [math.exp(c) - math.exp(p) for c, p in zip(control, plain, strict=True)]
    assert found.effect.value == pytest.approx(sum(gains) / n)
    assert found.control.value == pytest.approx(sum(nulls) / n)
    assert found.effect.n == found.control.n == n
    assert found.p == pytest.approx(
        slow_wilcoxon([d - c for d, c in zip(drawn, control, strict=True)]), rel=1e-6
    )
    for estimated, values in ((found.effect, gains), (found.control, nulls)):
        means = sorted(
            float(np.mean([values[int(i)] for i in rng.integers(0, n, n)])) for _ in range(4000)
        )
        assert estimated.low == pytest.approx(means[100], abs=0.012)
        assert estimated.high == pytest.approx(means[3900], abs=0.012)


def test_p_is_uniform_where_drawing_and_control_do_the_same() -> None:
    rng = np.random.default_rng(0)
    p = []
    for _ in range(400):
        logs = np.log(rng.uniform(0.05, 0.5, (1, 40))) + rng.normal(0, 0.3, (3, 40))
        p.append(verdict(changed(np.minimum(logs, -0.01))).p)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.08


def test_photos_of_the_class_do_not_count() -> None:
    rng = np.random.default_rng(0)
    logs = np.log(rng.uniform(0.2, 0.3, (3, 40)))
    logs[1, 20:] = np.log(0.9)
    assert verdict(changed(logs)).confirmed
    within = verdict(changed(logs), eligible=20)
    assert not within.confirmed
    assert within.effect.n == 20
    logs[1, 20:] = -9
    assert verdict(changed(logs), eligible=20) == within


def test_without_any_difference_p_is_one() -> None:
    logs = np.log(np.full((3, 12), 0.3))
    found = verdict(changed(logs))
    assert found.p == 1.0
    assert (found.effect.low, found.effect.high) == (0.0, 0.0)
    assert not found.confirmed


def test_the_same_seed_gives_the_same_effect() -> None:
    logs = np.log(np.random.default_rng(0).uniform(0.2, 0.6, (3, 40)))
    assert verdict(changed(logs)) == verdict(changed(logs))


@pytest.mark.parametrize(
    ("effect", "control", "log_odds", "confirmed"),
    [
        ((0.3, 0.2), 0.1, MATERIAL_LOG_ODDS, True),
        ((0.3, 0.2), 0.1, math.nextafter(MATERIAL_LOG_ODDS, 0), False),
        ((0.3, 0.2), 0.2, 2.0, False),
        ((0.3, 0.2), math.nextafter(0.2, 0), 2.0, True),
        ((0.3, 1e-9), -0.1, 2.0, True),
        ((0.3, 0.0), -0.1, 2.0, False),
        ((MATERIAL, 0.005), 0.0, 2.0, True),
        ((math.nextafter(MATERIAL, 0), 0.005), 0.0, 2.0, False),
        ((-0.3, -0.4), -0.5, 2.0, False),
    ],
)
def test_confirmed_needs_a_gap_to_the_control_and_some_size(
    effect: tuple[float, float], control: float, log_odds: float, confirmed: bool
) -> None:
    value, low = effect
    found = Effect(
        Estimate(value=value, low=low, high=value, n=9),
        Estimate(value=control, low=control, high=control, n=9),
        log_odds,
        log_odds,
        0.5,
        Estimate(value=value - control, low=low - control, high=value - control, n=9),
    )
    assert found.confirmed is confirmed


def test_the_log_odds_are_the_median_gain_over_the_control() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (3, 41, 3))
    logs = logits - np.log(np.exp(logits).sum(2, keepdims=True))
    found = insertion.test(
        Insertions(np.zeros((41, 1), np.float32), logs.astype(np.float32)),
        1,
        np.ones(41, bool),
        replicates=99,
        seed=0,
    )
    p = np.exp(logs[:, :, 1])
    odds = np.log(p / (1 - p))
    assert found.log_odds == pytest.approx(float(np.median(odds[1] - odds[2])), abs=1e-4)
