"""Plans: what may be planted, what it is called, and that few plans cover every family."""

import collections

import pytest

from auditor.concepts import banks
from auditor.drawing.drawings import DRAWINGS
from auditor.errors import ProbeError
from auditor.lab import architectures, plans
from auditor.lab.plans import FAMILIES, Architecture, Plan, Shortcut

BANK = {concept.name: concept for concept in banks.load(None).concepts}


def test_every_concept_of_a_family_can_be_drawn_and_named_by_the_bank():
    planted = [concept for members in FAMILIES.values() for concept in members]
    assert len(set(planted)) == len(planted)
    for concept in planted:
        part, name = plans.ingredient(concept)
        assert (part == "drawings") == (name in DRAWINGS)
        for accepted in plans.accepted(concept):
            assert BANK[accepted].extrinsic, accepted
    assert plans.family("sunset") == "photographic background"
    assert plans.family("meadow") == "ground"
    assert plans.family("candle") == "other"


def test_a_few_plans_cover_every_family():
    seen: collections.Counter[str] = collections.Counter()
    for seed in range(4):
        plan = plans.planted(seed, (0.95,) * 6)
        assert len(plan.shortcuts) == 6
        assert len({s.class_index for s in plan.shortcuts}) == 6
        families = [plans.family(s.concept) for s in plan.shortcuts]
        assert len(set(families)) == 6, "no family twice while others wait"
        seen.update(families)
    assert len(seen) > 8


def test_a_plan_is_drawn_from_its_seed_and_from_what_is_allowed():
    first = plans.planted(3, (0.5, 1.0), concepts=("logo", "snow"), classes=10)
    assert first == plans.planted(3, (0.5, 1.0), concepts=("logo", "snow"), classes=10)
    assert {s.concept for s in first.shortcuts} == {"logo", "snow"}
    assert sorted(s.strength for s in first.shortcuts) == [0.5, 1.0]
    assert plans.planted(4, (0.5, 1.0), classes=10) != plans.planted(3, (0.5, 1.0), classes=10)
    assert plans.clean(3).shortcuts == ()
    assert plans.clean(3).classes != plans.clean(4).classes
    with pytest.raises(ValueError, match="none of the concepts"):
        plans.planted(0, (0.9,), concepts=("unicorn",))
    with pytest.raises(ValueError, match="do not fit"):
        plans.planted(0, (0.9,) * 5, classes=4)


def test_a_concept_may_go_with_several_classes_and_a_class_with_several():
    plan = Plan(
        classes=("car", "house", "star", "fish"),
        shortcuts=(Shortcut(0, "logo", 0.9), Shortcut(2, "logo", 0.6), Shortcut(0, "sand")),
    )
    assert plan.owners == {"logo": {0: 0.9, 2: 0.6}, "sand": {0: 0.95}}


def test_a_factory_builds_what_its_name_says():
    made: list[tuple[Architecture, int, int]] = [("residual", 5, 32), ("transformer", 7, 64)]
    for kind, classes, size in made:
        module, _, name = architectures.factory(kind, classes, size).rpartition(":")
        assert module == "python:auditor.lab.architectures"
        net = getattr(architectures, name)()
        assert net(plans_image(size)).shape == (2, classes)
    with pytest.raises(AttributeError, match="residual_x"):
        _ = architectures.residual_x


def test_a_frozen_trunk_holds_the_published_weights_and_only_its_head_is_open(monkeypatch):
    net = architectures.architecture("frozen", 4, 64).eval()
    assert net(plans_image(64)).shape == (2, 4)
    first = next(iter(net.get_submodule("trunk").state_dict().values()))
    other = architectures.architecture("frozen", 3, 64)
    again = next(iter(other.get_submodule("trunk").state_dict().values()))
    assert bool((first == again).all())

    def missing(names):
        raise ProbeError("gone")

    monkeypatch.setattr(architectures, "read_trunk", missing)
    with pytest.raises(ProbeError, match="gone"):
        architectures.architecture("frozen", 4, 64)


def plans_image(size):
    import torch

    return torch.rand((2, 3, size, size), generator=torch.Generator().manual_seed(0))


def test_audits_of_earlier_versions_find_their_networks() -> None:
    from auditor import architectures
    from auditor.lab.architectures import LabNetwork

    make = architectures.residual_12_64
    assert callable(make)
    assert isinstance(make(), LabNetwork)
