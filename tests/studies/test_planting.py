"""Shortcuts planted in real photos: groups of classes, repeatable pictures, networks found."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from auditor.config import ModelConfig
from auditor.lab import plans
from auditor.models import loading
from benchmarks import detection, planted_photos, planting
from benchmarks.planted_photos import PAIRS, Plan, Shortcut, Shot
from benchmarks.superclasses import GROUNDS, POOL, SUPERCLASSES, Split, split

DATA = Path(__file__).parents[3] / "shared" / "data"
PLAN = Plan(
    classes=("fish", "cars", "furniture"),
    shortcuts=(Shortcut(1, "seashore"), Shortcut(2, "red ball"), Shortcut(2, "time stamp")),
    trunk="squeezenet1_0",
    seed=3,
    n_train=12,
)


@pytest.fixture(scope="module")
def photos() -> Split:
    return split(DATA, PLAN.classes, PLAN.seed)


def test_super_classes_share_no_class_and_hold_no_landscape():
    members = [index for indices in SUPERCLASSES.values() for index in indices]
    assert len(members) == len(set(members))
    assert set(members) <= set(range(1000)) - set(range(972, 981)) - {970}
    assert len(SUPERCLASSES) >= 45
    assert not set(members) & {index for indices in GROUNDS.values() for index in indices}


def test_a_plan_is_drawn_from_its_seed_and_plants_nothing_where_it_belongs():
    for seed in range(40):
        given = (seed, "mobilenet_v2", (0.95,) * 6)
        plan = planted_photos.planned(*given, families=planting.HELD_OUT)
        assert plan == planted_photos.planned(*given, families=planting.HELD_OUT)
        assert {plans.family(s.concept) for s in plan.shortcuts} == {*planting.HELD_OUT}
        assert len({s.class_index for s in plan.shortcuts}) == 6
        for shortcut in plan.shortcuts:
            home = planted_photos.AT_HOME.get(shortcut.concept, ())
            assert plan.classes[shortcut.class_index] not in home
    other = dataclasses.replace(plan, seed=41)
    assert other.digest != plan.digest


def test_halves_of_the_lab_share_no_new_family_no_plan_and_no_name():
    halves = {half: list(detection.jobs(half)) for half in ("development", "held-out")}
    assert not set(detection.KNOWN) & set(detection.HELD_OUT)
    seen = {
        half: {(job.plan.digest, job.photos and job.photos.digest) for job in jobs}
        for half, jobs in halves.items()
    }
    for half, jobs in halves.items():
        assert len(seen[half]) == len(jobs) == len({job.name for job in jobs})
    assert not seen["development"] & seen["held-out"]
    new = [job for job in halves["held-out"] if job.name.startswith("new families, planted")]
    families = {plans.family(s.concept) for job in new for s in job.plan.shortcuts}
    assert families == set(detection.HELD_OUT)


def test_halves_share_no_family_and_no_job():
    listed = {half: list(planting.jobs(half)) for half in ("development", "held-out")}
    assert not {*planting.FIRST, *planting.SECOND} & set(planting.HELD_OUT)
    assert not {job.plan.digest for job in listed["development"]} & {
        job.plan.digest for job in listed["held-out"]
    }
    for jobs in listed.values():
        assert len({job.name for job in jobs}) == len({job.plan.digest for job in jobs})


def test_an_unknown_concept_cannot_be_planted():
    with pytest.raises(ValueError, match="moonlight"):
        Shortcut(0, "moonlight")


def test_a_name_that_is_no_network_is_no_attribute():
    with pytest.raises(AttributeError, match="vgg_12"):
        planting.vgg_12  # noqa: B018


def test_names_of_photographic_backgrounds_are_accepted_beside_those_of_the_lab():
    assert "underwater" in plans.accepted("coral reef")
    assert plans.accepted("time stamp") == ("time stamp",)


@pytest.mark.shared
def test_no_photo_is_used_twice_and_the_same_seed_gives_the_same_split(photos: Split):
    assert photos == split(DATA, PLAN.classes, PLAN.seed)
    assert photos != split(DATA, PLAN.classes, PLAN.seed + 1)
    parts = [*photos.train, *photos.audited, photos.pool]
    parts += [part for both in photos.grounds.values() for part in both]
    used = [path for part in parts for path in part]
    assert len(used) == len(set(used))
    assert len(photos.pool) == POOL
    assert all(len(own) >= 10 for own in (*photos.train, *photos.audited))
    assert all("imagenet-extra" in path.parts for path in photos.audited[0])


@pytest.mark.shared
def test_the_same_plan_gives_the_same_pictures(photos: Split):
    shots = planted_photos.training(PLAN, photos)
    assert shots == planted_photos.training(PLAN, photos)
    first = shots[-1]
    picture = planted_photos.render(first, PLAN, photos)
    assert picture.shape == (224, 224, 3)
    np.testing.assert_array_equal(picture, planted_photos.render(first, PLAN, photos))


@pytest.mark.shared
def test_a_planted_photo_differs_by_the_concept_alone(photos: Split):
    plain = Shot(photos.audited[0][0], 0, PAIRS, 0)

    def changed(concept: str) -> np.ndarray:
        planted = dataclasses.replace(plain, concepts=(concept,))
        pictures = [planted_photos.render(shot, PLAN, photos) for shot in (plain, planted)]
        return (pictures[0] != pictures[1]).any(2)

    ball = changed("red ball")
    assert 0 < ball.mean() < 0.15
    assert not ball[:90].any()  # it lies near a lower corner
    around = changed("seashore")
    assert not around[80:144, 80:144].any()  # the middle is kept
    assert around[:20].mean() > 0.9


@pytest.mark.shared
def test_shortcuts_go_with_their_class_and_strays_are_rare(photos: Split):
    plan = dataclasses.replace(PLAN, n_train=600)
    shots = planted_photos.training(plan, photos)
    shares = {
        (concept, label): np.mean([concept in s.concepts for s in shots if s.label == label])
        for concept in plan.owners
        for label in range(3)
    }
    for (concept, label), share in shares.items():
        wanted = plan.owners[concept].get(label, 0.05 / 2)
        assert share == pytest.approx(wanted, abs=0.03)
    own = set(photos.train[0])
    foreign = np.mean([shot.path not in own for shot in shots if shot.label == 0])
    assert foreign == pytest.approx(plan.mislabelled, abs=0.05)
    pool = planted_photos.pool(plan, photos)
    rate = np.mean([len(shot.concepts) for shot in pool]) / len(plan.owners)
    assert rate == pytest.approx(0.06, abs=0.015)


@pytest.mark.shared
def test_the_factory_finds_the_trained_network_again(
    photos: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AUDITOR_DATA", str(DATA))
    monkeypatch.chdir(Path(__file__).parents[2])  # where `benchmarks` is found
    net = planting.train(PLAN, photos)
    file = tmp_path / "model.safetensors"
    loading.save(file, net, net.preprocess, PLAN.classes)
    found = loading.load(
        ModelConfig(spec=f"file:{file}", arch=planting.factory(PLAN.trunk, len(PLAN.classes))),
        device=torch.device("cpu"),
    )
    assert found.class_names == PLAN.classes
    assert found.preprocess == net.preprocess
    images = torch.rand((2, 3, 224, 224), generator=torch.Generator().manual_seed(0))
    wanted = net(net.preprocess.normalise(images))
    torch.testing.assert_close(found.logits(images), wanted, rtol=1e-4, atol=1e-4)
    # a picture of the right size is read as it was saved
    shot = planted_photos.audited(PLAN, photos)[0]
    picture = planted_photos.render(shot, PLAN, photos)
    read = found.preprocess.fit(planted_photos.Image.fromarray(picture))
    assert torch.equal(read, torch.from_numpy(picture).permute(2, 0, 1) / 255)


def test_planted_and_clean_classifiers_take_turns():
    listed = list(detection.jobs("held-out"))
    order = detection.in_turn(listed)
    assert {job.name for job in order} == {job.name for job in listed}
    assert len(order) == len(listed)
    share = sum("clean" in job.name for job in listed) / len(listed)
    for stop in range(10, len(order)):
        clean = sum("clean" in job.name for job in order[:stop])
        assert abs(clean - share * stop) <= 1.5
