"""The trial of the suspects: their tests and their pictures, from everything the stages gave."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special

from auditor.concepts import presence
from auditor.core.estimates import Estimate
from auditor.core.statistics import interval
from auditor.drawing import drawings
from auditor.evidence import insertion, surroundings
from auditor.evidence.directions import own_photos
from auditor.findings import examples, screening
from auditor.findings.grading import Suspect, derive
from auditor.pipeline.pictures import Kind, save_photo
from auditor.pipeline.results import Results, places
from auditor.record.schema import Finding, Picture

__all__ = ["findings"]

Floats = NDArray[np.floating]

SHOWN = 2  # photos of other classes that show a concept


def findings(
    results: Results, is_core: NDArray[np.bool_], files: Mapping[int, str]
) -> tuple[Finding, ...]:
    """Test the suspects and grade them; `files` are the saved prototypes by their place."""
    config, classes = results.config, list(results.classes)
    logits = results.seen.logits.astype(np.float64)
    log_odds = np.stack([_log_odds(logits, index) for index in classes], axis=1)
    photos = screening.Photos(
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
    donors = screening.Donors(
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
    found = screening.find(
        results.named, results.vocabulary, is_core, results.classes,
        results.classifier.class_names, photos, donors, results.insertions, results.diverged,
        {name: quality.auc for name, quality in results.probe.quality.items()},
        lambda row, j, suspect: _illustrate(results, photos, donors, files, row, j, suspect),
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
    results: Results,
    photos: screening.Photos,
    donors: screening.Donors,
    files: Mapping[int, str],
    row: int,
    j: int,
    suspect: Suspect,
) -> tuple[Picture, ...]:
    """A prototype, and photos that are examples of what the tests say (see `examples`).

    A drawn concept is shown on a photo that it moves, another by surroundings that show it and by
    photos of other classes that do, each beside its like without. What no photo is an example of
    has no picture.
    """
    index = results.classes[row]
    own = places(results.made, index)
    best = own[int(results.made.probabilities[own].argmax())]
    name = results.classifier.class_names[index]
    pictures = [Picture(file=files[best], kind="prototype", caption=f"Prototype of {name}")]
    if suspect.effect is not None:
        return (*pictures, *_drawn(results, row, j))
    if suspect.surroundings is not None and suspect.surroundings.estimate.value > 0:
        pictures += _surrounded(results, donors, row, j)
    return (*pictures, *_seen(results, photos, row, j, suspect))


def _drawn(results: Results, row: int, j: int) -> list[Picture]:
    """A photo without a drawing, with it, and with its control."""
    index, concept = results.classes[row], results.bank.concepts[j]
    assert concept.drawing is not None
    logs = results.insertions[concept.drawing].log_probabilities[:, :, index]
    others = np.flatnonzero(results.canvas_labels != index)
    chances = np.exp(logs.astype(np.float64))
    example = examples.edit(*chances[:, others])
    if example is None:
        return []
    place = int(others[example.place])
    photo = results.classifier.preprocess.fit(results.canvas.image(place))
    seed = insertion.photo_seed(results.config.seed, place)
    edited = drawings.draw(concept.drawing, photo, seed=seed)
    control = drawings.draw_control(concept.drawing, photo, seed=seed)
    save = functools.partial(save_photo, results.out)
    plain, with_it, null = (_chance(results, index, float(p)) for p in chances[:, place])
    return [
        save(photo, "without", f"{example.words.capitalize()}: {plain}"),
        save(edited, "edited", f"{concept.name} drawn: {with_it}"),
        save(control, "control", f"Control edit: {null}"),
    ]


def _seen(
    results: Results, photos: screening.Photos, row: int, j: int, suspect: Suspect
) -> list[Picture]:
    """Photos of other classes that show the concept, and one that does not.

    Where they lean towards the class on the whole, examples of it; else those that show it best.
    """
    index, concept = results.classes[row], results.bank.concepts[j]
    others = np.flatnonzero(results.labels != index)
    if suspect.association is not None and suspect.association.estimate.value > 0:
        found = examples.contrast(
            photos.log_odds[others, row], photos.shown[others, j], results.labels[others], SHOWN
        )
        if found is None:
            return []
        chosen, without = others[found[0]], [int(others[found[1]])]
    else:
        scores = presence.presence(results.rows, results.vocabulary.texts[[j]])[:, 0]
        chosen = others[np.argsort(-scores[others], kind="stable")][:SHOWN]
        without = [int(i) for i in others[np.argsort(np.abs(scores[others]), kind="stable")][:1]]
    logs = special.log_softmax(results.seen.logits.astype(np.float64), axis=1)[:, index]

    def saved(place: int, kind: Kind, words: str) -> Picture:
        chance = _chance(results, index, float(np.exp(logs[place])))
        caption = f"Another class, {words}: {chance}"
        return save_photo(results.out, results.images.image(place), kind, caption)

    shown = [saved(int(i), "with", f"{concept.name} by the probe") for i in chosen]
    return shown + [saved(i, "without", f"no sign of {concept.name}") for i in without]


def _surrounded(results: Results, donors: screening.Donors, row: int, j: int) -> list[Picture]:
    """One photo's middle with surroundings that show the concept, and with some that do not.

    The surroundings have the median answer of each kind; the middle is an example.
    """
    index, others = results.classes[row], np.flatnonzero(~donors.own[:, row])
    kept = results.recipients[results.labels[results.recipients] != index]
    groups = [others[donors.shown[others, j] == there] for there in (True, False)]
    if not len(kept) or not all(map(len, groups)):
        return []
    odds = donors.around.log_odds[:, row]
    chosen = [examples.middle(group, odds[group]) for group in groups]
    fit = results.classifier.preprocess.fit
    middles = torch.stack([fit(results.images.image(int(place))) for place in kept])
    around = torch.stack([fit(results.donors.image(place)) for place in chosen])
    composed = surroundings.composed(middles, around)
    with torch.inference_mode():
        logits = results.classifier.logits(composed.flatten(0, 1).to(results.device))
    chances = logits.double().softmax(1)[:, index].cpu().numpy().reshape(2, len(kept))
    example = examples.edit(chances[1], chances[0], chances[1])
    if example is None or chances[0, example.place] <= chances[1, example.place]:
        return []
    whose = results.classifier.class_names[int(results.labels[kept[example.place]])]
    kinds: tuple[Kind, ...] = ("surrounded", "unsurrounded")
    return [
        save_photo(results.out, image[example.place], kind,
                   f"Around {whose}: {_chance(results, index, float(chance[example.place]))}")
        for kind, image, chance in zip(kinds, composed, chances, strict=True)
    ]  # fmt: skip


def _chance(results: Results, index: int, value: float) -> str:
    """A class's probability in a caption; small ones keep a digit, to be told from each other."""
    shown = f"{value:.3f}" if value >= 0.001 or value == 0 else f"{value:.1e}"
    return f"p({results.classifier.class_names[index]}) = {shown}"
