import numpy as np
import pytest
import torch
import torchvision
from tiny import classifier
from torch import nn

from auditor.models import activations
from auditor.models.activations import Activations
from auditor.models.layers import Layers, find_layers
from auditor.prototypes import expectations
from auditor.prototypes.collages import collages

LAYERS = Layers(("a", "b", "c"), "head", True, {"a": 1, "b": 1, "c": 1, "": 1}, True)


def photos(n=400, channels=20, classes=6, slope=1.0, seed=0):
    """Photos whose channels in layer `a` go with the logits through known slopes."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes))
    slopes = slope * rng.normal(size=(classes, channels))
    centred = logits - logits.mean(1, keepdims=True)
    values = 3 + centred @ slopes + 0.3 * rng.normal(size=(n, channels))
    path = {"a": values.astype(np.float32)}
    path |= {name: rng.normal(size=(n, channels)).astype(np.float32) for name in "bc"}
    spread = {name: np.abs(part) for name, part in path.items()}
    features = rng.normal(size=(n, 4)).astype(np.float32)
    pixels = rng.random((n, 6)).astype(np.float32)
    return Activations(path, spread, pixels, features, logits.astype(np.float32)), slopes, values


def test_what_goes_with_the_class_is_read_off_at_the_level_that_photos_reach():
    seen, slopes, values = photos()
    found = expectations.expected(seen, LAYERS, (0, 3))
    assert tuple(found.layers) == ("a",)
    centred = seen.logits - seen.logits.mean(1, keepdims=True)
    assert found.level == pytest.approx(centred.max(1).mean(), rel=1e-5)
    for row, c in enumerate((0, 3)):
        shift = found.layers["a"].mean[row] - values.mean(0)
        # the slow way: simple regression, one channel at a time
        slow = [
            np.polyfit(centred[:, c], values[:, k], 1)[0] * (found.level - centred[:, c].mean())
            for k in range(values.shape[1])
        ]
        np.testing.assert_allclose(shift, slow, rtol=0.1, atol=0.05)
        other = slopes[(c + 1) % 6]
        assert np.corrcoef(shift, slopes[c])[0, 1] > np.corrcoef(shift, other)[0, 1] + 0.3


def test_what_goes_with_no_class_stays_at_the_mean():
    kept = []
    for seed in range(20):
        seen, _, values = photos(n=60, slope=0.0, seed=seed)
        found = expectations.expected(seen, LAYERS, (1,))
        kept.append(np.abs(found.layers["a"].mean[0] - values.mean(0)).mean() / values.std())
    assert np.median(kept) < 0.1  # unshrunk it would be the reach over the root of n: about 0.2


def test_expectations_stay_within_the_range_of_photos():
    seen, _, values = photos(n=50, slope=30.0)
    found = expectations.expected(seen, LAYERS, (0, 1, 2)).layers["a"]
    assert (found.mean >= values.min(0) - 1e-3).all()
    assert (found.mean <= values.max(0) + 1e-3).all()
    assert (found.spread >= 0).all()


def test_a_class_s_own_photos_are_left_out():
    seen, _, values = photos()
    labels = np.full(len(values), -1)
    labels[:100] = 2
    found = expectations.expected(seen, LAYERS, (2, 4), labels=labels)
    rest = Activations(
        {k: v[100:] for k, v in seen.path.items()},
        {k: v[100:] for k, v in seen.spread.items()},
        seen.pixels[100:],
        seen.features[100:],
        seen.logits[100:],
    )
    alone = expectations.expected(rest, LAYERS, (2,))
    whole = expectations.expected(seen, LAYERS, (4,))
    alone_shift = alone.layers["a"].mean[0] - rest.path["a"].mean(0)
    shift = found.layers["a"].mean[0] - rest.path["a"].mean(0)
    assert np.corrcoef(alone_shift, shift)[0, 1] > 0.999
    np.testing.assert_allclose(found.layers["a"].mean[1], whole.layers["a"].mean[0], rtol=1e-5)
    assert np.abs(shift - (whole_shift(seen, 2))).mean() > 1e-3


def whole_shift(seen, c):
    found = expectations.expected(seen, LAYERS, (c,)).layers["a"].mean[0]
    return found - seen.path["a"].mean(0)


def test_collages_are_varied_pictures_and_the_same_each_time():
    images = collages(6, 48, 40)
    assert images.shape == (6, 3, 48, 40)
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    torch.testing.assert_close(images, collages(6, 48, 40))
    assert (images[0] - images[1]).abs().mean() > 0.05
    assert (collages(1, 48, 40, seed=1)[0] - images[0]).abs().mean() > 0.05


def normed(mean, variance):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6)),
        nn.Sequential(nn.ReLU(), nn.Conv2d(6, 6, 3, 2), nn.BatchNorm2d(6)),
        nn.Sequential(nn.ReLU(), nn.Conv2d(6, 6, 3, 2), nn.BatchNorm2d(6)),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.get_buffer("running_mean").fill_(mean)
        norm.get_buffer("running_var").fill_(variance)
        norm.bias.data.uniform_(-1, 1)
    return classifier(net, 32, 3)


def test_batch_normalisation_says_where_the_centre_lies():
    model = normed(0.2, 0.7)
    layers = find_layers(model)
    drawn = collages(24, 32, 32)
    seen = activations.collect(model, layers, drawn.split(8))
    plain = expectations.expected(seen, layers, (0, 1, 2), share=1.0)
    moved = expectations.with_batch_norm(model, layers, plain, drawn)
    modules = dict(model.net.named_modules())
    norms = {
        name: [m for m in modules[name].modules() if isinstance(m, nn.BatchNorm2d)]
        for name in plain.layers
    }
    assert any(norms.values())
    for name, norm in norms.items():
        if not norm:
            continue
        centre = moved.layers[name].mean - (plain.layers[name].mean - seen.path[name].mean(0))
        bias = norm[-1].bias.detach().numpy()
        np.testing.assert_allclose(centre, np.tile(bias, (3, 1)), atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_layers_that_add_or_join_are_left_as_they_are(name):
    torch.manual_seed(0)
    made = {"resnet18": torchvision.models.resnet18, "googlenet": torchvision.models.googlenet}
    more = {} if name == "resnet18" else {"aux_logits": False, "init_weights": False}
    net = made[name](weights=None, num_classes=4, **more)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.get_buffer("running_var").fill_(2.0)
            module.bias.data.normal_()
    model = classifier(net, 64, 4)
    layers = find_layers(model)
    images = collages(6, 64, 64)
    seen = activations.collect(model, layers, [images])
    plain = expectations.expected(seen, layers, (0, 1), share=1.0)
    moved = expectations.with_batch_norm(model, layers, plain, images)
    for layer in plain.layers:
        same = np.array_equal(moved.layers[layer].mean, plain.layers[layer].mean)
        # of a block, what follows its last normalisation works in place, or adds to it
        assert same != isinstance(net.get_submodule(layer), nn.BatchNorm2d), layer


def test_folded_batch_normalisation_says_nothing():
    model = normed(0.0, 1.0)
    layers = find_layers(model)
    drawn = collages(8, 32, 32)
    seen = activations.collect(model, layers, [drawn])
    plain = expectations.expected(seen, layers, (0, 1))
    assert expectations.with_batch_norm(model, layers, plain, drawn) is plain
