import numpy as np
import pytest
import torch
from tiny import classifier, stripes, timm_model
from torch import nn

from auditor.errors import ModelError
from auditor.models import activations
from auditor.models.layers import MAX_LAYERS, find_layers

MODELS = ["test_resnet", "test_vit", "test_efficientnet", "test_convnext"]


@pytest.mark.parametrize("name", MODELS)
def test_layers_and_features_are_found_in_any_family(name):
    model = timm_model(name, 160)
    layers = find_layers(model)
    assert 3 <= len(layers.path) <= MAX_LAYERS
    images = torch.rand(5, 3, 160, 160)
    seen = activations.collect(model, layers, images.split(2))
    assert len(seen) == 5
    weights = activations.head_weights(model, layers, images[:2])
    assert weights.shape == (5, seen.features.shape[1])
    # a linear head: features and weights give the logits, up to the bias
    difference = seen.logits - seen.features @ weights.T
    np.testing.assert_allclose(difference, np.broadcast_to(difference[:1], (5, 5)), atol=1e-3)


def test_hooks_are_gone_afterwards():
    model = timm_model("test_resnet", 64)
    layers = find_layers(model)
    with pytest.raises(RuntimeError, match="stop"), activations.recorded(model.net, layers):
        raise RuntimeError("stop")
    activations.collect(model, layers, [torch.rand(2, 3, 64, 64)])
    for module in model.net.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_pooled_is_the_mean_over_positions():
    value = torch.rand(2, 4, 3, 5)
    torch.testing.assert_close(activations.pooled(value, 1), value.mean((2, 3)))
    deviation = value.flatten(2).std(2, correction=0)
    torch.testing.assert_close(activations.spread(value, 1), deviation)
    tokens = torch.rand(2, 7, 4)
    torch.testing.assert_close(activations.pooled(tokens, 2), tokens.mean(1))
    assert not activations.spread(tokens[:, 0], 1).any()


def test_the_path_is_kept_for_the_photos_that_are_asked_for():
    model = stripes()
    layers = find_layers(model)
    images = torch.rand(7, 3, 32, 32)
    wanted = np.array([1, 0, 0, 1, 0, 1, 1], bool)
    some = activations.collect(model, layers, images.split(3), on_path=wanted)
    every = activations.collect(model, layers, images.split(3))
    assert len(some) == 7
    for name in layers.path:
        np.testing.assert_allclose(some.path[name], every.path[name][wanted], atol=1e-6)


def test_the_gradient_of_a_head_that_is_not_linear_is_used():
    class Squared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3)
            self.head = nn.Conv2d(6, 3, 3)

        def forward(self, x):
            return self.head(self.conv(x)).square().mean((2, 3))

    torch.manual_seed(0)
    model = classifier(Squared(), 16, 3)
    layers = find_layers(model)
    assert not layers.linear
    images = torch.rand(4, 3, 16, 16)
    weights = activations.head_weights(model, layers, images)
    assert weights.shape == (3, 6)
    assert np.abs(weights).min() > 0


def test_modules_that_give_one_number_are_no_layers():
    class Sum(nn.Module):
        def forward(self, x):
            return x.sum()

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.sum, self.conv, self.head = Sum(), nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.conv(x).mean((2, 3))) + 0 * self.sum(x)

    assert find_layers(classifier(Scaled(), 16, 3)).path == ("conv",)


def test_named_layers_are_used_and_unknown_ones_are_refused():
    model = stripes()
    assert find_layers(model, ("norm", "conv")).path == ("conv", "norm")
    with pytest.raises(ModelError, match="no layer 'nowhere'"):
        find_layers(model, ("nowhere",))


def test_parts_that_are_too_few_are_not_filled_with_zeros():
    model = timm_model("test_resnet", 160)
    seen = activations.collect(model, find_layers(model), [torch.rand(2, 3, 160, 160)])
    joined = activations.Activations.joined([seen, seen], 4, 4)
    np.testing.assert_array_equal(joined.logits[2:], seen.logits)
    with pytest.raises(ValueError, match="holds 2 images, not 3"):
        activations.Activations.joined([seen], 3, 3)
