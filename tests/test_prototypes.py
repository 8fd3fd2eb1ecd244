import numpy as np
import pytest
import torch
from tiny import stripes, timm_model

from auditor import activations, prototypes


def made(model, items, steps=40, statistics=None):
    layers = activations.find_layers(model)
    return prototypes.generate(model, layers, statistics or {}, items, steps=steps)


def test_a_prototype_shows_what_its_class_is():
    result = made(stripes(), [(0, 0), (1, 0)])
    assert result.probabilities.min() > 0.99
    pixels = result.tensor().mean(1)
    across = pixels.diff(dim=2).abs().mean((1, 2))
    down = pixels.diff(dim=1).abs().mean((1, 2))
    assert across[1] > 1.3 * down[1]  # class 1 is vertical stripes
    assert down[0] > 1.3 * across[0]


def test_the_saved_probability_is_of_the_saved_pixels():
    model = stripes()
    result = made(model, [(1, 3)], steps=10)
    again = model.logits(result.tensor()).softmax(1)[0, 1]
    assert result.probabilities[0] == pytest.approx(float(again), abs=1e-6)
    assert result.traces.shape == (1, 10)


def test_a_seed_gives_the_same_image_alone_and_in_company():
    model = timm_model("test_resnet", 64)
    items = [(0, 0), (1, 0), (2, 5)]
    together = made(model, items, steps=8)
    again = made(model, items, steps=8)
    alone = made(model, [(2, 5)], steps=8)
    np.testing.assert_array_equal(together.images, again.images)
    difference = np.abs(together.images[2].astype(int) - alone.images[0])
    assert np.mean(difference <= 1) > 0.98
    assert np.mean(made(model, [(2, 6)], steps=8).images != alone.images) > 0.5


def test_parameters_get_no_gradient_and_stay_as_they_are():
    model = timm_model("test_resnet", 64)
    before = {k: v.clone() for k, v in model.net.state_dict().items()}
    made(model, [(0, 0)], steps=3)
    for name, value in model.net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert all(p.grad is None for p in model.net.parameters())


def test_early_channels_are_kept_within_the_range_of_photos():
    model = timm_model("test_resnet", 64)
    layers = activations.find_layers(model)
    generator = torch.Generator().manual_seed(0)
    photos = torch.rand(64, 3, 8, 8, generator=generator)
    photos = torch.nn.functional.interpolate(photos, 64, mode="bilinear")
    seen = activations.collect(model, layers, photos.split(16))
    statistics = prototypes.generic_statistics(seen, layers)
    assert tuple(statistics) == layers.path[: len(statistics)]
    items = [(k, 0) for k in range(4)]

    name, statistic = next(iter(statistics.items()))

    def away(result):
        found = activations.collect(model, layers, [result.tensor()])
        return np.mean(np.abs(found.path[name] - statistic.mean) / statistic.mean_deviation)

    assert away(made(model, items, 60, statistics)) < 0.6 * away(made(model, items, 60))


def test_noise_has_the_spectrum_of_photographs():
    noise = prototypes._pink_noise(64, 64, np.random.default_rng(0)).mean(0)
    power = np.abs(np.fft.fft2(noise - noise.mean())) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
    low = power[(radius > 0.03) & (radius < 0.08)].mean()
    high = power[(radius > 0.3) & (radius < 0.4)].mean()
    slope = np.log(low / high) / np.log(0.35 / 0.055)
    assert 1.5 < slope < 2.6  # 1/f amplitude is 1/f^2 power
