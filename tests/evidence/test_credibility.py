"""How far prototypes can be believed: transfer, telling apart, and networks without learning."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import timm
import torch
from scipy import stats
from tiny import classifier, stripes
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from auditor.errors import ModelError
from auditor.evidence import credibility

NAMES = ("red", "green", "blue", "grey", "Crane", "crane")


class Colours(nn.Module):
    """Logits that are, by construction, the strength of each row's colour."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(rows))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) @ self.weight.T


def colours(order: tuple[int, ...], *, ids: bool, size: int = 8, named: bool = True):
    """A classifier of colours with its classes in this order."""
    rows = [[3, -1, -1], [-1, 3, -1], [-1, -1, 3], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    made = classifier(Colours([[float(v) for v in rows[k]] for k in order]), size, len(order))
    return dataclasses.replace(
        made,
        class_names=tuple(NAMES[k] if named else f"other {k}" for k in order),
        class_ids=tuple(f"n{k}" for k in order) if ids else None,
    )


def pictures(size: int = 8) -> torch.Tensor:
    """One red, one green and one blue picture."""
    return torch.eye(3)[:, :, None, None].expand(3, 3, size, size).clone()


def test_transfer_finds_classes_where_the_second_model_has_them():
    first = colours((0, 1, 2, 3, 4, 5), ids=True)
    second = colours((5, 2, 3, 0, 4, 1), ids=True, size=5, named=False)
    found = credibility.transfer(first, second, pictures(), [0, 1, 2])
    assert found.places.tolist() == [1, 1, 1]
    assert found.median == 1
    assert found.unmatched == ()
    assert found.n_classes == 6
    z = stats.norm.ppf(0.975)
    assert found.shares[1].value == 1
    assert found.shares[1].low == pytest.approx(3 / (3 + z**2))  # Wilson at a share of 1


def test_transfer_does_not_find_what_the_image_does_not_show():
    first, second = colours((0, 1, 2, 3), ids=True), colours((3, 2, 1, 0), ids=True)
    found = credibility.transfer(first, second, pictures(), [1, 2, 0], places=(1, 2))
    # the right colour is first and grey before the other two, which are alike
    assert found.places.tolist() == [4, 4, 4]
    assert found.shares[1].value == found.shares[2].value == 0


def test_ties_count_against_a_prototype_and_missing_numbers_end_the_audit():
    first, second = colours((0, 1, 2), ids=True), colours((0, 1, 2), ids=True)
    second.net.weight.zero_()
    assert credibility.transfer(first, second, pictures(), [0, 1, 2]).places.tolist() == [3, 3, 3]
    second.net.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="logits that are not finite"):
        credibility.transfer(first, second, pictures(), [0, 1, 2])


def test_classes_match_by_id_before_name_and_are_never_guessed():
    first = colours((0, 1, 2, 4, 5), ids=False)
    upper = dataclasses.replace(first, class_names=("BLUE", "Red", "pink", "crane", "x"))
    assert credibility.match_classes(first, upper) == {0: 1, 2: 0}
    assert credibility.match_classes(upper, first) == {0: 2, 1: 0}
    composed = dataclasses.replace(first, class_names=("a", "b", "caf\u00e9 bar", "d", "e"))
    marked = dataclasses.replace(first, class_names=("Cafe\u0301_Bar", "x", "y", "z", "w"))
    assert credibility.match_classes(composed, marked) == {2: 0}
    with_ids = dataclasses.replace(first, class_ids=("a", "b", "c", "d", "e"))
    others = dataclasses.replace(first, class_ids=("e", "x", "a", "y", "z"))
    assert credibility.match_classes(with_ids, others) == {0: 2, 4: 0}


def test_unmatched_classes_are_listed_and_left_out():
    first, second = colours((0, 1, 2), ids=False), colours((2, 0, 3), ids=False)
    found = credibility.transfer(first, second, pictures(), [0, 1, 2])
    assert found.unmatched == (1,)
    assert found.places.tolist() == [1, 0, 1]
    assert found.shares[1].n == 2


def test_models_without_a_class_in_common_are_told_in_one_sentence():
    first, second = colours((0, 1, 2, 3), ids=False), stripes(8)
    with pytest.raises(ModelError) as error:
        credibility.transfer(first, second, torch.zeros(4, 3, 8, 8), [0, 1, 2, 3])
    assert str(error.value) == (
        "tiny has none of the 4 classes of these prototypes (red, green, blue, ...); give a second "
        "model with the same ids or names of classes."
    )


def made(n_classes: int, per_class: int, channels: int, rng: np.random.Generator):
    """Activations of no structure, with their classes."""
    labels = np.repeat(np.arange(n_classes), per_class)
    return rng.normal(size=(len(labels), channels)), labels


def test_prototypes_that_differ_in_one_layer_are_told_apart_there():
    rng = np.random.default_rng(0)
    synthetic, owners = made(20, 1, 12, rng)
    natural, labels = made(20, 4, 12, rng)
    shifted = synthetic + np.where(np.arange(12) < 3, 2.0, 0.0)
    found = credibility.told_apart(
        {"same": synthetic, "shifted": shifted}, owners,
        {"same": natural, "shifted": natural}, labels, replicates=200, seed=0,
    )  # fmt: skip
    assert found.reason is None
    assert found.auc["shifted"].value > 0.9
    assert found.auc["shifted"].low > 0.8
    assert found.auc["same"].low < 0.5 < found.auc["same"].high
    assert found.auc["same"].n == 20


def test_telling_apart_is_centred_on_one_half_where_nothing_differs():
    values = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        synthetic, owners = made(20, 1, 6, rng)
        natural, labels = made(20, 4, 6, rng)
        found = credibility.told_apart(
            {"a": synthetic}, owners, {"a": natural}, labels, replicates=1, seed=seed
        )
        values.append(found.auc["a"].value)
    assert np.mean(values) == pytest.approx(0.5, abs=3 * np.std(values) / np.sqrt(30))


def test_what_holds_for_one_class_only_does_not_tell_prototypes_of_other_classes():
    """Each class has a channel in which only its own prototypes differ from its photos."""
    rng = np.random.default_rng(1)
    synthetic, owners = made(20, 3, 20, rng)
    natural, labels = made(20, 4, 20, rng)
    synthetic[np.arange(60), owners] += 6
    natural[np.arange(80), labels] -= 6
    # channels by class: a classifier that saw the class would be right every time
    found = credibility.told_apart(
        {"a": synthetic}, owners, {"a": natural}, labels, replicates=200, seed=0
    )
    assert found.auc["a"].value < 0.75


def test_classes_with_only_one_kind_do_not_count():
    rng = np.random.default_rng(2)
    synthetic, owners = made(12, 1, 4, rng)
    natural, labels = made(30, 4, 4, rng)
    natural[labels >= 12] += 50  # photos of classes without prototypes
    found = credibility.told_apart(
        {"a": synthetic}, owners, {"a": natural}, labels, replicates=100, seed=0
    )
    assert found.auc["a"].n == 12
    assert found.auc["a"].value < 0.75


def test_too_few_classes_are_not_tested():
    rng = np.random.default_rng(3)
    synthetic, owners = made(9, 1, 4, rng)
    natural, labels = made(9, 4, 4, rng)
    found = credibility.told_apart(
        {"a": synthetic}, owners, {"a": natural}, labels, replicates=10, seed=0
    )
    assert not found.auc
    assert found.reason is not None
    assert found.reason.code == "few_classes"
    assert found.reason.params == {"classes": 9, "needed": 10}


def test_comparisons_equal_counting_them():
    rng = np.random.default_rng(4)
    scores = rng.integers(0, 5, 30).astype(float)  # with ties
    kind, owner = rng.integers(0, 2, 30), rng.integers(0, 4, 30)
    wins, pairs = np.zeros((4, 4)), np.zeros((4, 4))
    for i in np.flatnonzero(kind == 1):
        for j in np.flatnonzero(kind == 0):
            pairs[owner[i], owner[j]] += 1
            wins[owner[i], owner[j]] += (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
    won, met = credibility._comparisons(scores, kind, owner, 4)
    np.testing.assert_array_equal(won, wins)
    np.testing.assert_array_equal(met, pairs)


class Odd(nn.Module):
    """Layers with and without their own initialisation, as a trained network has them."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.arange(6.0))
        self.conv = nn.Conv2d(3, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.frozen = FrozenBatchNorm2d(6)
        self.head = nn.Linear(6, 4)
        with torch.no_grad():
            for parameter in self.norm.parameters():
                parameter.copy_(torch.arange(1.0, 7.0))
            for norm in (self.norm, self.frozen):
                norm.get_buffer("running_mean").fill_(50)
                norm.get_buffer("running_var").fill_(1e4)
            self.frozen.weight.copy_(torch.arange(6.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.frozen(self.norm(self.conv(x))) + self.token[:, None, None]
        return self.head(x.mean((2, 3)))


def test_randomised_networks_keep_nothing_that_was_learned():
    net = Odd().eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.random.get_rng_state()
    one, same, other = (credibility.randomised(net, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    for name, value in one.named_parameters():
        assert not torch.equal(value, before[name]), name
        assert torch.equal(value, same.state_dict()[name])
    after = one.state_dict()
    assert not torch.equal(after["conv.weight"], other.state_dict()["conv.weight"])
    assert torch.equal(after["token"].sort().values, net.token)  # its values in another order
    assert torch.equal(after["frozen.weight"].sort().values, before["frozen.weight"])
    for norm in ("norm", "frozen"):
        assert torch.equal(after[f"{norm}.running_mean"], torch.zeros(6))
        assert torch.equal(after[f"{norm}.running_var"], torch.ones(6))
    assert not one.training
    assert not any(parameter.requires_grad for parameter in one.parameters())


def test_statistics_of_batch_normalisation_follow_the_images():
    images = torch.rand(16, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 4 - 2
    made = credibility.randomised(Odd().eval(), 0, images=images)
    assert isinstance(made, Odd)
    with torch.no_grad():
        values = made.norm(made.conv(images))
    assert not made.norm.training
    torch.testing.assert_close(values.mean((0, 2, 3)), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(values.std((0, 2, 3)), torch.ones(6), atol=1e-2, rtol=0)
    assert made.norm.momentum == 0.1


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_real_architectures_are_randomised_and_stay_alive(name):
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=5).eval()
    with torch.no_grad():
        for parameter in net.parameters():  # as if trained: no parameter is constant
            parameter.add_(torch.randn_like(parameter))
    images = torch.randn(8, 3, 64, 64) if name != "test_vit" else torch.randn(8, 3, 160, 160)
    made = credibility.randomised(net, 0, images=images)
    learned = dict(net.named_parameters())
    for key, value in made.named_parameters():
        assert value.numel() == 1 or not torch.equal(value, learned[key]), key
    with torch.no_grad():
        logits = made(images)
    assert logits.isfinite().all()
    assert logits.std(0).min() > 0


def test_what_a_network_has_learned_is_gone():
    """A hand-made network tells vertical stripes from horizontal ones; random ones do not."""
    net = stripes(32).net
    striped = torch.ones(1, 3, 32, 32)
    striped[..., ::3] = -1
    turned = striped.transpose(2, 3)

    def prefers(network: nn.Module) -> float:
        """How much more the class of stripes answers stripes than the same turned."""
        difference = network(striped) - network(turned)
        return float(difference[0, 1] - difference[0, 0])

    assert prefers(net) > 5
    effects = [prefers(credibility.randomised(net, seed)) for seed in range(40)]
    assert np.abs(effects).max() < 2
    assert abs(np.mean(effects)) < 3 * np.std(effects) / np.sqrt(40)
