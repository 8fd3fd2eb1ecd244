"""The trial of the suspects: their tests and their pictures, from everything the stages gave."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special

from auditor import counterfactuals, drawing, showing, surroundings, suspects
from auditor.findings import derive
from auditor.pictures import Kind, save_photo
from auditor.record import Estimate, Finding, Picture
from auditor.results import Results, places
from auditor.statistics import interval
from auditor.vocabulary import own_photos

__all__ = ["findings"]

Floats = NDArray[np.floating]


def findings(
    results: Results, is_core: NDArray[np.bool_], files: Mapping[int, str]
) -> tuple[Finding, ...]:
    """Test the suspects and grade them; `files` are the saved prototypes by their place."""
    config, classes = results.config, list(results.classes)
    logits = results.seen.logits.astype(np.float64)
    log_odds = np.stack([_log_odds(logits, index) for index in classes], axis=1)
    photos = suspects.Photos(
        labels=results.labels,
        log_odds=log_odds,
        shown=results.vocabulary.shown(results.rows),
        sight=functools.cache(lambda j: results.rows @ results.vocabulary.looks[j]),
        margin=results.vocabulary.margin,
        canvas_labels=results.canvas_labels,
        representative=config.representative,
    )
    position = {digest: i for i, digest in enumerate(results.pool.digests)}
    rows = np.array([position[digest] for digest in results.donors.digests])
    known = results.donors.labels
    donors = suspects.Donors(
        around=results.around,
        shown=results.vocabulary.shown(results.pool_rows)[rows],
        own=own_photos(
            results.probe,
            results.pool_rows[rows],
            known,
            results.classes,
            results.classifier.class_names,
            most=None,
        ),
        labels=None if known is None else np.array(known),
    )
    found = suspects.find(
        results.named, results.vocabulary, is_core, results.classes,
        results.classifier.class_names, photos, donors, results.insertions, results.diverged,
        {name: quality.auc for name, quality in results.probe.quality.items()},
        lambda row, j: _illustrate(results, donors, files, row, j),
        q_level=config.statistics.q_level, min_photos=config.statistics.min_photos,
        replicates=config.statistics.bootstrap,
        intervals=lambda row, j: _score_interval(results, row, j),
        seed=config.seed,
    )  # fmt: skip
    return derive(found, q_level=config.statistics.q_level)


def _log_odds(logits: Floats, index: int) -> Floats:
    """log p / (1 - p) of a class, without the loss of digits near 0 and 1."""
    others = np.delete(logits, index, axis=1)
    return np.asarray(logits[:, index] - special.logsumexp(others, axis=1))


def _score_interval(results: Results, row: int, j: int) -> Estimate:
    """The combined score with its bootstrap interval over prototypes and the concept's photos."""
    replicates = 200
    rng = np.random.default_rng((results.config.seed, row, j, 0x5C0))
    own = places(results.made, results.classes[row])
    score = results.named.rescored(
        row,
        j,
        results.vocabulary.resampled(row, j, replicates, rng),
        (results.of_made.features[own] - results.vocabulary.mean) / results.vocabulary.scale,
        rng,
    )
    return interval(float(results.named.score[row, j]), score, len(own))


def _illustrate(
    results: Results, donors: suspects.Donors, files: Mapping[int, str], row: int, j: int
) -> tuple[Picture, ...]:
    """A prototype, and what the concept was tested on: no pick of what speaks for it.

    A drawn one is shown on the photo that it moves by the median of all, another by surroundings
    with the median log-odds of those that show it and of those that do not, and by the photos of
    other classes that show it best and not at all.
    """
    index, concept = results.classes[row], results.bank.concepts[j]
    name = results.classifier.class_names[index]
    save = functools.partial(save_photo, results.out)
    own = places(results.made, index)
    best = own[int(results.made.probabilities[own].argmax())]
    pictures = [
        Picture(file=files[best], kind="prototype", caption=f"Prototype of {name}"),
    ]

    def probability(logs: Floats) -> str:
        return f"p({name}) = {float(np.exp(logs)):.3f}"

    if concept.drawing is not None:
        logs = results.insertions[concept.drawing].log_probabilities[:, :, index]
        others = np.flatnonzero(results.canvas_labels != index)
        if not len(others):
            return tuple(pictures)
        place = _median(others, np.exp(logs[1, others]) - np.exp(logs[0, others]))
        photo = results.classifier.preprocess.fit(results.canvas.image(place))
        seed = counterfactuals.photo_seed(results.config.seed, place)
        edited = drawing.draw(concept.drawing, photo, seed=seed)
        control = drawing.draw_control(concept.drawing, photo, seed=seed)
        pictures += [
            save(photo, "without", f"The one of median change: {probability(logs[0, place])}"),
            save(edited, "edited", f"{concept.name} drawn: {probability(logs[1, place])}"),
            save(control, "control", f"Control edit: {probability(logs[2, place])}"),
        ]  # fmt: skip
        return tuple(pictures)
    pictures += _surrounded(results, donors, row, j)
    scores = showing.presence(results.rows, results.vocabulary.texts[[j]])[:, 0]
    logs = special.log_softmax(results.seen.logits.astype(np.float64), axis=1)[:, index]
    others = np.flatnonzero(results.labels != index)
    for kind, chosen in (
        ("with", others[np.argsort(-scores[others], kind="stable")][:2]),
        ("without", others[np.argsort(np.abs(scores[others]), kind="stable")][:1]),
    ):
        words = f"{concept.name} by the probe" if kind == "with" else f"no sign of {concept.name}"
        pictures += [
            save(results.images.image(int(i)), "with" if kind == "with" else "without",
                 f"Another class, {words}: {probability(logs[i])}")
            for i in chosen
        ]  # fmt: skip
    return tuple(pictures)


def _surrounded(results: Results, donors: suspects.Donors, row: int, j: int) -> list[Picture]:
    """One photo's middle with surroundings that show the concept, and with some that do not."""
    index, others = results.classes[row], np.flatnonzero(~donors.own[:, row])
    kept = results.recipients[results.labels[results.recipients] != index]
    groups = [others[donors.shown[others, j] == there] for there in (True, False)]
    if not len(kept) or not all(map(len, groups)):
        return []
    odds = donors.around.log_odds[:, row]
    places = [_median(group, odds[group]) for group in groups]
    fit = results.classifier.preprocess.fit
    middle = torch.stack([fit(results.images.image(int(kept[0])))])
    around = torch.stack([fit(results.donors.image(place)) for place in places])
    composed = surroundings.composed(middle, around).flatten(0, 1)
    with torch.inference_mode():
        chances = results.classifier.logits(composed.to(results.device)).softmax(1)[:, index]
    name = results.classifier.class_names[index]
    whose = results.classifier.class_names[int(results.labels[kept[0]])]
    kinds: tuple[Kind, ...] = ("surrounded", "unsurrounded")
    pictures = []
    for kind, image, chance in zip(kinds, composed, chances.tolist(), strict=True):
        caption = f"Around {whose}: p({name}) = {chance:.3f}"
        pictures.append(save_photo(results.out, image, kind, caption))
    return pictures


def _median(places: NDArray[np.int64], values: Floats) -> int:
    """The place whose value is the middle one."""
    return int(places[np.argsort(values, kind="stable")[len(values) // 2]])
