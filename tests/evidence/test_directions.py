"""Directions of a bank's concepts for each class: which photos they come from."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from auditor.concepts import banks, presence
from auditor.concepts.probes import ProbeModel
from auditor.config import StatisticsConfig
from auditor.evidence import learning, scoring
from auditor.evidence.directions import Vocabulary
from auditor.evidence.insertion import Insertions
from auditor.evidence.learning import Drawings, Evidence, SeenPool, learn
from auditor.evidence.members import ExamplePhotos

N, D, E, K = 300, 12, 16, 9
BANK = "snow\nnight\nmud\nsunset\ndust\nsmoke\nneon\nsand\nice\ngrass\n"
RNG = np.random.default_rng(0)
TEXTS = np.linalg.qr(RNG.normal(size=(E, E)))[0][:10].astype(np.float32)
AXES = np.linalg.qr(RNG.normal(size=(D, D)))[0][:10].astype(np.float32)


class Probe:
    """Reads the prompts of a bank's concept as its own row, any other as what no photo shows."""

    def __init__(self, bank: banks.ConceptBank) -> None:
        self.rows = {
            prompt: row
            for concept, row in zip(bank.concepts, TEXTS, strict=True)
            for prompt in concept.prompts
        }

    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        rng = np.random.default_rng(4)
        beside = rng.normal(size=(len(texts), E))
        beside -= beside @ TEXTS.T @ TEXTS
        beside /= np.linalg.norm(beside, axis=1, keepdims=True)
        rows = [self.rows.get(text, row) for text, row in zip(texts, beside, strict=True)]
        return torch.from_numpy(np.stack(rows).astype(np.float32))


def build(
    tmp_path: Path, *, own: np.ndarray, labels: tuple[int, ...] | None = (0,) * N
) -> tuple[Vocabulary, np.ndarray, np.ndarray]:
    """A vocabulary over photos of which a third show each concept, with rows and features."""
    (tmp_path / "bank.txt").write_text(BANK)
    rng = np.random.default_rng(1)
    shows = rng.random((N, 10)) < 0.15
    rows = shows @ TEXTS + 0.01 * rng.normal(size=(N, E)).astype(np.float32)
    features = shows @ AXES + 0.1 * rng.normal(size=(N, D)).astype(np.float32)
    # the class of row 0 is seen in its own photos alone: they are far out on every axis
    features[own[:, 0]] += 5 * AXES.sum(0)
    logits = features @ rng.normal(size=(D, K))
    bank = banks.load(str(tmp_path / "bank.txt"))
    drawings = Drawings({}, np.zeros(0, np.int64), {})
    evidence = Evidence(SeenPool(features, logits, rows, own, labels), drawings, {})
    statistics = StatisticsConfig(permutations=99)
    made = learn(bank, cast(ProbeModel, Probe(bank)), evidence, (0, 1), statistics, seed=0)
    return made, rows, (features - made.mean) / made.scale


def owned(first: int) -> np.ndarray:
    """The first photos may show the class of row 0, none that of row 1."""
    own = np.zeros((N, 2), bool)
    own[:first, 0] = True
    return own


def test_a_direction_comes_from_photos_that_may_not_show_the_class(tmp_path: Path) -> None:
    made, rows, features = build(tmp_path, own=owned(60))
    left, whole = made.directions(0), made.directions(1)
    kept = slice(60, None)
    count = int(made.n_photos[0])
    best = np.argsort(-(rows[kept] @ made.texts[0]))[:count]
    rest = np.setdiff1d(np.arange(N - 60), best)
    expected = features[kept][best].mean(0) - features[kept][rest].mean(0)
    np.testing.assert_allclose(left.vectors[0], expected / np.linalg.norm(expected), atol=1e-5)
    assert left.vectors[0] @ whole.vectors[0] < 0.99
    np.testing.assert_allclose(whole.vectors, made.directions().vectors)


def test_where_most_photos_of_a_concept_may_show_the_class_only_the_others_are_taken(
    tmp_path: Path,
) -> None:
    made, rows, _ = build(tmp_path, own=owned(100))
    mud = np.flatnonzero(made.shown(rows)[:, 2])
    own = np.zeros((N, 2), bool)
    own[mud[5:], 0] = True
    made, _, _ = build(tmp_path, own=own)
    assert len(made._members(0, 2)) == 5 < made.n_photos[2] / 2
    assert len(made._members(1, 2)) == made.n_photos[2]


def test_bootstrap_members_are_those_of_the_class_s_direction(tmp_path: Path) -> None:
    made, _, _ = build(tmp_path, own=owned(60))
    for row in (0, 1):
        mean = made._members(row, 3).mean(0)
        own = made.directions(row).vectors[3]
        np.testing.assert_allclose(mean / np.linalg.norm(mean), own, atol=1e-5)
        drawn = made.resampled(row, 3, 50, np.random.default_rng(0))
        np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, rtol=1e-5)
        assert 0.2 < (drawn @ own).mean() < 1 - 1e-6
    apart = made.directions(0).vectors[3] @ made.directions(1).vectors[3]
    assert apart < 0.99, "or the test could not tell the rows apart"


def test_a_concept_that_only_the_class_s_photos_show_is_not_tested_for_it(tmp_path: Path) -> None:
    own = owned(100)
    made, rows, _ = build(tmp_path, own=own)
    own[:, 0] = made.shown(rows)[:, 2]  # whatever shows mud may show the class
    made, _, _ = build(tmp_path, own=own)
    assert made.short(0).tolist() == [j == 2 for j in range(10)]
    assert not made.short(1).any()
    assert np.isnan(made.directions(0).vectors[2]).all()
    assert np.isfinite(made.directions(1).vectors).all()
    assert np.abs(made.directions(0).vectors[3] - made.directions().vectors[3]).max() > 1e-3
    guessed, _, _ = build(tmp_path, own=own, labels=None)
    assert not guessed.short(0).any()
    apart = guessed.directions(0).vectors[2] - guessed.directions().vectors[2]
    assert np.abs(apart).max() > 1e-3, "what only looks like the class is not taken for it"


def test_the_null_leaves_out_the_same_photos_and_each_class_is_scored_by_its_own(
    tmp_path: Path,
) -> None:
    made, _, _ = build(tmp_path, own=owned(60))
    rng = np.random.default_rng(0)
    prototypes, weights = rng.normal(size=(2, D)), rng.normal(size=(2, D))
    named = made.name(
        prototypes, weights, rng.normal(size=(2, E)), lambda texts: np.full((2, len(texts)), np.nan)
    )
    assert named.null.shape == (2, 99), "as many random concepts as were asked for"
    for row in (0, 1):
        along = made.directions(row).vectors @ ((prototypes[row] - made.mean) / made.scale)
        scored = named.channels["bridge"][row]
        assert np.corrcoef(along, scored)[0, 1] == pytest.approx(1)


def test_example_photos_that_may_show_the_class_do_not_speak_for_it(tmp_path: Path) -> None:
    made, _, _ = build(tmp_path, own=owned(60))
    own = np.zeros((12, 2), bool)
    own[:6, 0] = True
    examples = ExamplePhotos(
        np.concatenate([np.full((6, D), 9.0), np.ones((6, D))]), np.zeros((12, 2)), own
    )
    members, _ = examples.relative(made._pool, 0, 5)
    kept = made._pool.features[60:]
    np.testing.assert_allclose(members, 1 - kept.mean(0, keepdims=True).repeat(6, 0))
    everywhere, _ = examples.relative(made._pool, 1, 5)
    assert len(everywhere) == 12


def test_a_drawing_s_shift_is_of_log_odds_on_photos_of_other_classes() -> None:
    plain = np.log(np.array([[0.5, 0.5], [0.2, 0.8], [0.1, 0.9]], np.float32))
    drawn = np.log(np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]], np.float32))
    found = Insertions(np.zeros((3, 1), np.float32), np.stack([plain, drawn, plain])).shift(
        np.array([0, 1, 1])
    )

    def odds(p: float) -> float:
        return float(np.log(p / (1 - p)))

    first = ((odds(0.5) - odds(0.2)) + (odds(0.2) - odds(0.1))) / 2
    np.testing.assert_allclose(found, [first, odds(0.1) - odds(0.5)], rtol=1e-5)
    alone = Insertions(np.zeros((3, 1), np.float32), np.stack([plain, drawn, plain])).shift(
        np.zeros(3, np.int64)
    )
    assert np.isfinite(alone).all(), "where all photos are of one class, all are taken for it"


# --- what photos show of drawn concepts -----------------------------------------------------------

DRAWN = ("fog", "rain", "logo", "ruler", "noise", "caption", "barcode", "vignette", "crosshair")
ENOUGH = 8  # of these, where the least number of drawn concepts for a null of their own is set low


def drawn(
    tmp_path: Path, names: tuple[str, ...], *, labelled: bool = False
) -> tuple[Vocabulary, np.ndarray, np.ndarray]:
    """A vocabulary with drawn concepts, photos of two classes, and what the drawings change.

    Texts say nothing of the drawings. Photos of the first class carry what the first one changes.
    """
    tables = [
        f'[[concept]]\nname = "{name}"\ncategory = "artefact"\nprompts = ["{name}"]\n'
        + (f'drawing = "{name}"\n' if name in names else "")
        for name in (*DRAWN, "snow")
    ]
    (tmp_path / "bank.toml").write_text("\n".join(tables))
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(N, E))
    labels = np.arange(N) % 2
    changes = {name: 0.3 * rng.normal(size=E) for name in names}
    changes[names[0]] -= changes[names[0]] @ TEXTS[0] * TEXTS[0]
    rows[labels == 0] += changes[names[0]]
    features, logits = rng.normal(size=(N, D)), rng.normal(size=(N, K))
    effect = Insertions(
        rng.normal(size=(8, D)).astype(np.float32), np.log(rng.dirichlet(np.ones(K), (3, 8)))
    )
    bank = banks.load(str(tmp_path / "bank.toml"))
    known = tuple(int(label) for label in labels) if labelled else None
    pool = SeenPool(features, logits, rows, np.zeros((N, 2), bool), known)
    drawings = Drawings(dict.fromkeys(names, effect), np.arange(8) % 2, changes)
    statistics = StatisticsConfig(permutations=999)
    made = learn(
        bank, cast(ProbeModel, Probe(bank)), Evidence(pool, drawings, {}), (0, 1), statistics,
        seed=0,
    )  # fmt: skip
    return made, rows, labels


def test_prevalence_of_a_drawn_concept_goes_by_what_drawing_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "LEAST_DRAWN", ENOUGH)
    made, rows, labels = drawn(tmp_path, DRAWN)

    def prevalence(looks: np.ndarray) -> np.ndarray:
        return presence.prevalence(rows, labels, (0, 1), looks, min_photos=5)

    scores, null = made._prevalent(2, prevalence)
    assert scores[0].argmax() == 0
    assert scores[0, 0] > 2
    assert scores[1].argmin() == 0
    np.testing.assert_allclose(null.std(1), 1)
    text = prevalence(made.texts)
    assert (text[0] >= text[0, 0]).sum() > 1, "by its text it would not be first"
    by_text = scoring.scale_of(prevalence(made._null[0]))
    np.testing.assert_allclose(scores[:, -1:], (text[:, -1:] - by_text[0]) / by_text[1])


def test_too_few_drawn_concepts_have_no_null_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "LEAST_DRAWN", ENOUGH)
    made, rows, labels = drawn(tmp_path, DRAWN[: ENOUGH - 1])
    assert made._null_drawn is None

    def prevalence(looks: np.ndarray) -> np.ndarray:
        return presence.prevalence(rows, labels, (0, 1), looks, min_photos=5)

    scores, _ = made._prevalent(2, prevalence)
    centre, deviation = scoring.scale_of(prevalence(made._null[0]))
    np.testing.assert_allclose(scores, (prevalence(made.texts) - centre) / deviation)
    told = prevalence(made.looks)[0]
    assert told.argmax() == 0, "the test on photos goes by the drawing all the same"


def test_in_a_labelled_pool_other_classes_are_given_a_quarter_of_what_a_drawing_changes(
    tmp_path: Path,
) -> None:
    made, rows, labels = drawn(tmp_path, DRAWN, labelled=True)
    seen = rows @ made.looks[0]
    moved = seen[labels == 0].mean() - seen[labels == 1].mean()
    assert moved > 0
    np.testing.assert_allclose(made.margin[0], moved / 4, rtol=0.2)
    assert (made.margin[:-1] > 0).all()
    assert made.margin[-1] == 0, "what no code draws is told by its text"
    assert not drawn(tmp_path, DRAWN)[0].margin.any(), "classes of the pool are not known"


def test_a_small_bank_is_told_from_concepts_at_large(tmp_path: Path) -> None:
    made, rows, _ = build(tmp_path, own=owned(60))
    built_in = len(banks.load(None).concepts)
    assert made._at_large.shape[0] > built_in
    np.testing.assert_array_equal(made._at_large[:10], made.texts)
    null = made._null[0]
    beside = null - null @ TEXTS.T @ TEXTS
    assert np.median(np.linalg.norm(beside, axis=1)) > 0.5, "no mixtures of the bank alone"
    scores = presence.presence(rows, made.texts)
    assert (made.shown(rows) <= (scores > 0)).all()
    assert 0.05 < made.shown(rows).mean() < 0.3 < (scores > 0).mean() + 0.2


def test_what_classes_differ_by_is_not_whitened_away() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 2
    rows = rng.normal(size=(N, E))
    rows[labels == 0] += 6 * TEXTS[0]
    plain, within = presence.whitening(rows), presence.whitening(rows, labels.tolist())
    along = [float(TEXTS[0] @ w @ TEXTS[0]) for w in (plain, within)]
    assert along[0] < 0.5 * along[1]
    np.testing.assert_allclose(within @ within @ np.cov(rows[labels == 1].T), np.eye(E), atol=0.8)


def test_without_representative_photos_prevalence_is_unknown(tmp_path: Path) -> None:
    made, _, _ = drawn(tmp_path, DRAWN)
    scores, null = made._prevalent(2, None)
    assert np.isnan(scores).all()
    assert np.isnan(null).all()
    assert (scores.shape, null.shape) == ((2, 10), (2, 999))


def test_more_classes_need_fewer_random_concepts_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "LEAST_RANDOM", 20)
    for most, wanted in ((10**7, 99), (100, 50), (30, 20)):
        monkeypatch.setattr(learning, "MOST_RANDOM", most)  # of two classes
        made, _, _ = build(tmp_path, own=owned(60))
        assert len(made._null[0]) == wanted
