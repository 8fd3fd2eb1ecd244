"""Lab classifiers: what is planted, that it is learned, and that the example is prepared once."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import nn

from auditor.config import AuditConfig
from auditor.core.estimates import Estimate
from auditor.core.storage import write_atomically
from auditor.drawing import scenes
from auditor.drawing.scenes import BACKGROUNDS, COMPANIONS, FIGURES, LANDSCAPES, OBJECTS, Scene
from auditor.errors import RunError
from auditor.images import image_set
from auditor.lab import architectures, example, training
from auditor.lab.training import DEMO, Plan, Shortcut
from auditor.models import loading
from auditor.pipeline.progress import Silent

# One shortcut of each kind: a background, a companion, a drawing.
PLAN = Plan(
    classes=("car", "house", "star", "fish"),
    shortcuts=(Shortcut(0, "brick wall"), Shortcut(1, "red ball"), Shortcut(2, "black border")),
    size=32,
    n_train=16,
)


def has(scene, concept):
    named = (scene.background, *scene.companions, *scene.drawings)
    return concept in named or concept.replace(" ", "_") in named


@pytest.fixture
def pictured(monkeypatch):
    """The scenes that were drawn, in order."""
    drawn, pixels = [], training.pixels

    def noted(scene, size):
        drawn.append(scene)
        return pixels(scene, size)

    monkeypatch.setattr(training, "pixels", noted)
    return drawn


# --- plans ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("car", "unicorn")}, "'unicorn' is no object"),
        ({"classes": ("car",), "shortcuts": ()}, "two classes or more"),
        ({"classes": ("car", "car", "star")}, "an object of its own"),
        ({"shortcuts": (Shortcut(4, "red ball"),)}, "not among the 4 classes"),
        ({"shortcuts": (Shortcut(-1, "red ball"),)}, "not among the 4 classes"),
        ({"shortcuts": (Shortcut(0, "snow"), Shortcut(0, "sand"))}, "one background"),
        ({"shortcuts": (Shortcut(0, "sand"), Shortcut(0, "sand", 0.5))}, "stand twice"),
        ({"shortcuts": tuple(Shortcut(c, "sand") for c in range(4))}, "goes with none"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PLAN, **changes)


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.01])
def test_a_strength_is_a_share(strength):
    with pytest.raises(ValueError, match="strength"):
        Shortcut(0, "red ball", strength)


def test_a_concept_must_be_drawable():
    with pytest.raises(ValueError, match="'smoke' is neither"):
        Shortcut(0, "smoke")


def test_the_digest_is_of_everything_in_the_plan():
    weaker = tuple(dataclasses.replace(s, strength=0.5) for s in PLAN.shortcuts)
    variants = [
        dataclasses.replace(PLAN, **change)
        for change in (
            {"seed": 1},
            {"size": 48},
            {"n_train": 17},
            {"shortcuts": ()},
            {"shortcuts": weaker},
            {"classes": ("car", "house", "star", "cup")},
        )
    ]
    digests = {plan.digest for plan in (PLAN, *variants)}
    assert len(digests) == 1 + len(variants)
    assert dataclasses.replace(PLAN).digest == PLAN.digest


# --- photos --------------------------------------------------------------------------------------


def test_a_scene_shows_its_ground_what_lies_beside_and_what_is_drawn_on_it():
    scene = Scene("car", "brick wall", ("red ball",), ("time_stamp",))
    for concept in ("brick wall", "red ball", "time stamp"):
        assert training.shows(scene, concept)
    for concept in ("snow", "coin", "caption"):
        assert not training.shows(scene, concept)


def test_a_planted_concept_goes_with_its_class_and_no_other():
    n = 400
    of_class: dict[int, list[Scene]] = {label: [] for label in range(4)}
    for label, scene in training.held_out(PLAN, n):
        assert scene.object == PLAN.classes[label]
        of_class[label].append(scene)
    for shortcut in PLAN.shortcuts:
        for label, pictures in of_class.items():
            assert len(pictures) == n
            count = sum(has(scene, shortcut.concept) for scene in pictures)
            rate = 0.95 if label == shortcut.class_index else 0.05 / 3
            assert stats.binomtest(count, n, rate).pvalue > 1e-3


def test_a_weaker_shortcut_occurs_less():
    plan = dataclasses.replace(PLAN, shortcuts=(Shortcut(1, "red ball", 0.5),))
    pictures = [scene for label, scene in training.held_out(plan, 400) if label == 1]
    count = sum(has(scene, "red ball") for scene in pictures)
    assert stats.binomtest(count, 400, 0.5).pvalue > 1e-3


def test_a_concept_goes_with_all_its_classes_and_a_class_with_all_its_concepts():
    plan = dataclasses.replace(
        PLAN,
        shortcuts=(Shortcut(0, "logo", 0.9), Shortcut(2, "logo", 0.6), Shortcut(2, "sand", 0.8)),
    )
    counts: dict[str, Counter[int]] = {concept: Counter() for concept in plan.owners}
    both = 0
    for label, scene in training.held_out(plan, 400):
        for concept, count in counts.items():
            count[label] += has(scene, concept)
        both += label == 2 and has(scene, "logo") and has(scene, "sand")
    # what is missing in the owners' photos is spread over the other classes
    for concept, rates in (
        ("logo", {0: 0.9, 1: 0.5 / 3, 2: 0.6, 3: 0.5 / 3}),
        ("sand", {0: 0.2 / 3, 1: 0.2 / 3, 2: 0.8, 3: 0.2 / 3}),
    ):
        for label, rate in rates.items():
            assert stats.binomtest(counts[concept][label], 400, rate).pvalue > 1e-3
    assert stats.binomtest(both, 400, 0.6 * 0.8).pvalue > 1e-3


def test_effects_are_of_each_concept_and_learned_of_each_shortcut():
    plan = dataclasses.replace(
        PLAN, shortcuts=(Shortcut(2, "black border"), Shortcut(0, "black border"))
    )
    rows = training.effects(Border(), plan, per_class=4)
    assert len(rows) == 1
    star, car = training.learned(Border(), plan)
    assert star.low > training.LEARNED
    assert car.high < -0.9


@pytest.mark.parametrize("architecture", ["transformer", "frozen"])
def test_every_architecture_learns_and_repeats(architecture):
    plan = Plan(
        classes=("car", "house"), shortcuts=(Shortcut(1, "red cast"),),
        size=32, n_train=24, architecture=architecture,
    )  # fmt: skip
    nets = []
    for state in (1, 2):
        torch.manual_seed(state)
        nets.append(training.train(plan, epochs=12))
    first, again = (net.state_dict() for net in nets)
    assert all(torch.equal(first[name], again[name]) for name in first)
    if architecture == "frozen":
        fresh = architectures.architecture("frozen", 2, 32)
        untrained, trunk = (n.get_submodule("trunk").state_dict() for n in (fresh, nets[0]))
        assert all(torch.equal(trunk[name], untrained[name]) for name in trunk)
    (effect,) = training.learned(nets[0], plan)
    assert effect.value > 0.05


def test_a_clean_plan_plants_nothing():
    clean = dataclasses.replace(PLAN, shortcuts=())
    counts: dict[str, Counter[int]] = {s.concept: Counter() for s in DEMO.shortcuts}
    for label, scene in training.held_out(clean, 400):
        for concept, count in counts.items():
            count[label] += has(scene, concept)
    assert sum(counts["brick wall"].values()) > 50  # the test sees something
    for concept, count in counts.items():
        highest = max(count.values())
        expected = max(1, sum(count.values())) / 4
        assert stats.poisson.sf(highest - 1, expected) > 1e-3, concept


def test_in_the_pool_concepts_do_not_go_with_a_class():
    rng = np.random.default_rng(0)
    pictures = [training.any_scene(PLAN, rng, 0.3) for _ in range(2400)]
    for shortcut in PLAN.shortcuts:
        table = np.zeros((4, 2))
        for scene in pictures:
            table[PLAN.classes.index(scene.object), int(has(scene, shortcut.concept))] += 1
        assert table[:, 1].sum() == pytest.approx(0.3 * 2400, rel=0.1)
        assert stats.chi2_contingency(table).pvalue > 1e-3


def test_the_same_seed_gives_the_same_photos_and_weights():
    nets = []
    for state, plan in ((5, PLAN), (6, PLAN), (5, dataclasses.replace(PLAN, seed=1))):
        torch.manual_seed(state)
        before = torch.random.get_rng_state()
        nets.append(training.train(plan, epochs=1))
        assert torch.equal(torch.random.get_rng_state(), before)
    first, again, other = (net.state_dict() for net in nets)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert not any(parameter.requires_grad for parameter in nets[0].parameters())
    assert not any(module.training for module in nets[0].modules())


def test_training_auditing_and_verifying_never_share_a_photo(pictured):
    net = training.train(PLAN, epochs=1)
    streams = {"train": list(pictured)}
    pictured.clear()
    training.effects(net, PLAN, per_class=4)
    streams["effects"] = list(pictured)
    pictured.clear()
    training.accuracy(net, PLAN, per_class=4)
    streams["accuracy"] = list(pictured)
    streams["images"] = [scene for _, scene in training.held_out(PLAN, 16)]
    rng = np.random.default_rng([PLAN.seed, training.POOL_STREAM])
    streams["pool"] = [training.any_scene(PLAN, rng, 0.06) for _ in range(64)]
    seeds = {name: {scene.seed for scene in pictures} for name, pictures in streams.items()}
    assert min(map(len, seeds.values())) >= 16
    assert len(set.union(*seeds.values())) == sum(map(len, seeds.values()))


# --- verification --------------------------------------------------------------------------------


class Border(nn.Module):
    """Says star, the third class, where the edge of the picture is black, and else car."""

    def forward(self, x):
        edge = torch.cat([x[:, :, 0], x[:, :, -1], x[:, :, :, 0], x[:, :, :, -1]], dim=2)
        black = (edge.mean((1, 2)) < -1.9).float()  # black is -2 once normalised
        zero = torch.zeros_like(black)
        return 8 * torch.stack([1 - black, zero, black, zero], dim=1)


def test_effects_finds_exactly_what_a_network_keys_on():
    rows = training.effects(Border(), PLAN, per_class=6)
    assert [len(row) for row in rows] == [4, 4, 4]
    wall, ball, border = rows
    for row in (wall, ball):
        assert max(abs(estimate.value) for estimate in row) < 0.02
    assert border[2].value > 0.95
    assert border[0].value < -0.95
    assert abs(border[1].value) < 0.01
    assert [estimate.n for estimate in border] == [18] * 4  # six photos of each other class
    assert [e.value for e in training.learned(Border(), PLAN)][:2] == [0, 0]
    assert training.learned(Border(), PLAN)[2].low > 0.95


def test_accuracy_is_of_photos_in_which_nothing_goes_with_a_class():
    car, *others = (estimate.value for estimate in training.accuracy(Border(), PLAN, per_class=5))
    assert car > 0.5  # what it says of any photo without a black edge
    assert others == [0, 0, 0]


def test_a_planted_shortcut_is_learned_and_a_clean_model_has_none():
    plan = Plan(
        classes=("car", "house", "fish"),
        shortcuts=(Shortcut(1, "red cast"),),
        size=32,
        n_train=100,
    )
    (planted,) = training.learned(training.train(plan), plan)
    clean = training.train(dataclasses.replace(plan, shortcuts=()))
    (absent,) = training.learned(clean, plan)
    assert planted.low > 0.3
    assert absent.high < 0.15


# --- scenes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("object", OBJECTS),
        ("background", {**BACKGROUNDS, **LANDSCAPES}),
        ("companions", {**COMPANIONS, **FIGURES}),
    ],
)
def test_every_ingredient_shows(part, names):
    rest: dict[str, Any] = {"object": "car", "background": "plain", "seed": 3}
    images = []
    for name in names:
        value = (name,) if part == "companions" else name
        image = scenes.render(Scene(**{**rest, part: value}), size=32)
        assert image.shape == (3, 32, 32)
        assert 0 <= float(image.min()) <= float(image.max()) <= 1
        assert float(image.std()) > 0.03
        images.append(image)
    if part == "companions":
        images.append(scenes.render(Scene(**rest), size=32))
    for i, one in enumerate(images):
        for other in images[:i]:
            assert float((one - other).abs().amax()) > 0.1


def test_weather_occurs_only_where_it_is_planted():
    rng = np.random.default_rng(0)
    carried = {name for _ in range(400) for name in scenes.sample(rng, drawing_rate=0.2).drawings}
    assert carried == set(scenes.BY_THE_WAY)
    assert not carried & {"fog", "rain", "wire_fence"}
    plan = dataclasses.replace(PLAN, shortcuts=(Shortcut(1, "fog", 0.9),))
    foggy = [(label, training.shows(scene, "fog")) for label, scene in training.held_out(plan, 60)]
    rate = [np.mean([shown for label, shown in foggy if label == k]) for k in range(2)]
    assert rate[1] > 0.75 > 0.2 > rate[0]


@pytest.mark.parametrize("seed", range(6))
def test_a_scene_without_an_ingredient_differs_in_nothing_else(seed):
    scene = Scene("boat", "sand", ("coin",), seed=seed)
    with_ball = dataclasses.replace(scene, companions=("red ball", "coin"))
    change = (scenes.render(with_ball, size=64) - scenes.render(scene, size=64)).abs().amax(0)
    touched = change > 1e-6
    assert 0.01 < float(touched.float().mean()) < 0.2
    rows, columns = torch.nonzero(touched, as_tuple=True)
    assert int(rows.max() - rows.min()) < 32  # one thing in one place
    assert int(columns.max() - columns.min()) < 32


def test_a_scene_has_one_layout_at_every_size():
    scene = Scene("house", "checkers", ("flag",), seed=4)
    small, large = (scenes.render(scene, size=size) for size in (32, 96))
    reduced = nn.functional.avg_pool2d(large, 3)
    assert float(np.corrcoef(small.ravel(), reduced.ravel())[0, 1]) > 0.9
    other = scenes.render(dataclasses.replace(scene, seed=5), size=32)
    assert float(np.corrcoef(small.ravel(), other.ravel())[0, 1]) < 0.6


def test_a_scene_refuses_what_it_does_not_know():
    wrong: list[dict[str, Any]] = [
        {"object": "x"}, {"background": "x"}, {"companions": ("x",)}, {"seed": -1},
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises(ValueError, match=r"'x' is no|negative"):
            Scene(**{"object": "car", "background": "sand", **change})
    with pytest.raises(ValueError, match="too small"):
        scenes.render(Scene("car", "sand"), size=8)


# --- the example ---------------------------------------------------------------------------------


class StoppedError(Exception):
    """Stands for a kill."""


@pytest.fixture
def trained(monkeypatch):
    """A small plan in the demo's place; the plans that were trained, in order."""
    plans, train = [], training.train
    estimate = Estimate(value=0.5, low=0.4, high=0.6, n=9)

    def quick(plan):
        plans.append(plan)
        return train(plan, epochs=1)

    monkeypatch.setattr(training, "DEMO", PLAN)
    monkeypatch.setattr(training, "train", quick)
    monkeypatch.setattr(training, "learned", lambda net, plan: (estimate,) * len(plan.shortcuts))
    monkeypatch.setattr(example, "IMAGES_PER_CLASS", 3)
    monkeypatch.setattr(example, "POOL", 8)
    return plans


def contents(folder):
    """The bytes of every file by its place."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def prepare(folder, seed=0):
    return example.prepare(folder, seed=seed, progress=Silent())


def test_the_example_is_what_a_user_would_have(tmp_path, trained):
    config = prepare(tmp_path)
    assert isinstance(config, AuditConfig)
    classifier = loading.load(config.model, device=torch.device("cpu"))
    assert classifier.class_names == PLAN.classes
    assert classifier.preprocess.size == (32, 32)
    images = image_set.load(config.images, class_names=PLAN.classes, class_ids=None, labelled=True)
    assert Counter(images.labels) == dict.fromkeys(range(4), 3)
    assert images.image(0).size == (32, 32)
    assert config.pool is not None
    pool = image_set.load(config.pool, class_names=(), class_ids=None, labelled=False)
    assert len(pool) == 8
    planted = json.loads((tmp_path / "planted.json").read_text())
    assert [(row["class_index"], row["concept"]) for row in planted] == [
        (shortcut.class_index, shortcut.concept) for shortcut in PLAN.shortcuts
    ]


def test_a_clean_classifier_can_be_shown_biased_photos(tmp_path, trained):
    clean = dataclasses.replace(PLAN, shortcuts=())
    config = example.equip(tmp_path, clean, progress=Silent(), photos_plan=PLAN)
    assert trained == [clean]
    assert json.loads((tmp_path / "planted.json").read_text()) == []
    with Image.open(Path(config.images) / "0" / "0000.png") as image:
        _, scene = next(training.held_out(PLAN, 1))
        assert np.array_equal(np.asarray(image), training.pixels(scene, PLAN.size))
    assert loading.load(config.model, device=torch.device("cpu")).class_names == PLAN.classes


def test_the_example_is_prepared_once(tmp_path, trained, pictured):
    config = prepare(tmp_path)
    first = contents(tmp_path)
    pictured.clear()
    assert prepare(tmp_path) == config
    assert trained == [PLAN]
    assert pictured == []
    assert contents(tmp_path) == first


@pytest.mark.parametrize("photos", [2, 15])  # of twelve images and eight pool photos
def test_half_written_photos_are_completed_without_training(tmp_path, trained, monkeypatch, photos):
    (tmp_path / "whole").mkdir()
    prepare(tmp_path / "whole")
    save, folder = example._save, tmp_path / "killed"
    folder.mkdir()
    saved: list[Path] = []

    def dying(path, scene, size):
        if len(saved) == photos:
            raise StoppedError
        saved.append(path)
        save(path, scene, size)

    monkeypatch.setattr(example, "_save", dying)
    with pytest.raises(StoppedError):
        prepare(folder)
    assert not (folder / "photos.done").exists()
    monkeypatch.setattr(example, "_save", save)
    prepare(folder)
    assert len(trained) == 2  # one for each folder
    whole, killed = contents(tmp_path / "whole"), contents(folder)
    assert killed == whole
    assert sum(name.startswith(("images/", "pool/")) for name in killed) == 20


def test_training_that_was_killed_is_done_again(tmp_path, trained, monkeypatch):
    def dying(*args):
        raise StoppedError

    with monkeypatch.context() as patched:
        patched.setattr(example, "save", dying)
        with pytest.raises(StoppedError):
            prepare(tmp_path)
    prepare(tmp_path)
    assert trained == [PLAN, PLAN]
    assert (tmp_path / "model.safetensors").exists()


def test_another_plan_trains_and_draws_anew(tmp_path, trained):
    prepare(tmp_path)
    first = contents(tmp_path)
    prepare(tmp_path, seed=1)
    second = contents(tmp_path)
    assert trained == [PLAN, dataclasses.replace(PLAN, seed=1)]
    assert first.keys() == second.keys()
    for name in ("model.safetensors", "plan.sha256", "images/0/0000.png", "pool/0000.png"):
        assert first[name] != second[name], name


def test_killed_between_two_plans_the_old_classifier_does_not_pass_for_the_new(
    tmp_path, trained, monkeypatch
):
    prepare(tmp_path)

    def dying(path, data):
        write_atomically(path, data)
        if path.name == "plan.sha256":
            raise StoppedError

    with monkeypatch.context() as patched:
        patched.setattr(example, "write_atomically", dying)
        with pytest.raises(StoppedError):
            prepare(tmp_path, seed=1)
    prepare(tmp_path, seed=1)
    changed = dataclasses.replace(PLAN, seed=1)
    assert trained == [PLAN, changed]
    with Image.open(tmp_path / "images" / "0" / "0000.png") as image:
        _, scene = next(training.held_out(changed, 1))
        assert np.array_equal(np.asarray(image), training.pixels(scene, PLAN.size))


@pytest.mark.parametrize("name", ["model.safetensors", "images", "photos.done", "thesis.docx"])
def test_files_of_others_are_left_alone(tmp_path, trained, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match=f"no example of this program: it holds '{name}'"):
        prepare(tmp_path)
    assert contents(tmp_path) == {name: b"mine"}
    assert trained == []


def test_what_a_killed_call_left_half_written_is_cleared(tmp_path, trained):
    prepare(tmp_path)
    left = [tmp_path / place / ".auditor-tmp-x" for place in (".", "images/0", "pool")]
    for path in left:
        path.write_text("half")
    (tmp_path / ".auditor").unlink()  # earlier versions left no mark
    prepare(tmp_path)
    assert not any(path.exists() for path in left)
    assert len(trained) == 1


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, trained):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"Cannot use .* as example: Not a directory"):
        prepare(tmp_path / "file" / "demo")
