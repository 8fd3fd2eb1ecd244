"""From the stages' results to the saved record: the values of `audit.json` and its pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

import auditor
from auditor.config import AuditConfig
from auditor.core.statistics import proportion, rank_correlation
from auditor.core.storage import digest_package, read_text
from auditor.errors import ConfigError
from auditor.findings import coverage, screening, testing
from auditor.images.image_set import ImageSet
from auditor.models import hardware
from auditor.models.loading import Classifier
from auditor.pipeline.pictures import save_photo, save_prototype, save_region
from auditor.pipeline.results import Results, places
from auditor.prototypes import isolation
from auditor.record.schema import (
    SCHEMA_VERSION,
    Audit,
    AuditedClass,
    Channels,
    Cluster,
    ClusterClass,
    Concept,
    ConceptScore,
    Correlation,
    Finding,
    ModelInput,
    Picture,
    Planted,
    Probe,
    ProbeQuality,
    Prototype,
    Prototyping,
    Provenance,
    Region,
    ToldApart,
    Tool,
    Transfer,
    Verdict,
)

__all__ = ["assemble", "read_planted"]

Floats = NDArray[np.floating]

MOST_BYTES = 4 * 2**20  # of a list of planted shortcuts
DIGITS = 6  # of saved numbers: more would differ between runs on equal machines


def assemble(
    results: Results,
    seconds: Mapping[str, float],
    now: Callable[[], str],
    packages: Mapping[str, str],
) -> Audit:
    """Test the suspects, write the pictures and put the record together.

    Args:
        results: of the stages.
        seconds: per stage.
        now: the time, in ISO 8601.
        packages: versions by name.
    """
    config, names = results.config, results.classifier.class_names
    is_core = screening.core(results.vocabulary, results.classes, names, config.expected)
    files = {
        place: save_prototype(results.out, index, n, results.made.images[place])
        for index in results.classes
        for n, place in enumerate(places(results.made, index))
    }
    findings = testing.findings(results, is_core, files)
    ordered = [_audited_class(results, row, is_core, files) for row in range(len(results.classes))]
    finished = now()
    return Audit(
        schema_version=SCHEMA_VERSION,
        tool=Tool(name="auditor", version=auditor.__version__, source=digest_package()),
        created=finished,
        title=config.scope.title or f"Audit of {results.classifier.name}",
        verdict=Verdict(
            status="not_assessed",
            reasons=("No acceptance criteria were set for this audit.",),
        ),
        spec=config,
        provenance=_provenance(results, seconds, finished, packages),
        coverage=coverage.of(results, is_core, findings),
        prototyping=_prototyping(results),
        divergence_and_harm=_divergence_and_harm(ordered, config),
        concepts=tuple(
            Concept(
                name=concept.name,
                category=concept.category,
                extrinsic=concept.extrinsic,
                source=results.vocabulary.sources[j],
                n_photos=int(results.vocabulary.n_photos[j]),
                reason=results.vocabulary.reasons[j],
            )
            for j, concept in enumerate(results.bank.concepts)
        ),
        classes=tuple(ordered),
        clusters=_clusters(results, files),
        findings=findings,
        planted=_planted(results, ordered, findings),
        self_test=None,
    )


def _prototyping(results: Results) -> Prototyping:
    transfer = None
    if results.judged is not None:
        second, judged = results.judged
        transfer = Transfer(
            model=second.name,
            weights_sha256=second.digest,
            first=judged.shares[1],
            first_five=judged.shares[5],
            median_place=judged.median,
            classes_of_model=judged.n_classes,
            unmatched=len(judged.unmatched),
        )
    return Prototyping(
        mode=results.recipe.mode,
        parameterisation=results.recipe.parameterisation,
        used=results.material.words,
        layers_used=results.material.layers,
        photos_copied=len(results.material.used),
        transfer=transfer,
        told_apart=tuple(ToldApart(layer=name, auc=auc) for name, auc in results.apart.auc.items()),
    )


def _region(results: Results, place: int, n: int) -> Region | None:
    found = results.regions
    if found is None:
        return None
    faded = isolation.shown(results.made.images[place], found.masks[place])
    return Region(
        file=save_region(results.out, results.made.class_indices[place], n, faded),
        area=_rounded(found.areas[place]),
        probability=_rounded(found.probabilities[place]),
        control=_rounded(found.controls[place]),
    )


def _audited_class(
    results: Results, row: int, is_core: NDArray[np.bool_], files: Mapping[int, str]
) -> AuditedClass:
    index = results.classes[row]
    members = results.labels == index
    n = int(members.sum())
    hits = int((results.seen.logits[members].argmax(1) == index).sum())
    classifier = results.classifier
    return AuditedClass(
        index=index,
        name=classifier.class_names[index],
        id=classifier.class_ids[index] if classifier.class_ids else None,
        n_images=n,
        accuracy=proportion(hits, n) if n else None,
        prototypes=tuple(
            Prototype(
                file=files[place],
                seed=results.made.seeds[place],
                probability=_rounded(results.made.probabilities[place]),
                steps=results.made.steps[place],
                reached=bool(
                    results.made.probabilities[place] >= results.config.prototypes.probability
                ),
                trace=tuple(_rounded(value) for value in results.made.traces[place]),
                region=_region(results, place, n),
            )
            for n, place in enumerate(places(results.made, index))
        ),
        divergence=results.diverged[index],
        concepts=_concept_scores(results, row, is_core),
    )


def _concept_scores(
    results: Results, row: int, is_core: NDArray[np.bool_]
) -> tuple[ConceptScore, ...]:
    named = results.named
    scores = named.score[row]
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    listed = []
    for place, j in enumerate(order):
        concept = results.bank.concepts[j]
        tested = bool(np.isfinite(scores[j]))
        listed.append(
            ConceptScore(
                concept=concept.name,
                category=concept.category,
                core=bool(is_core[row, j]),
                score=_optional(scores[j]),
                rank=place + 1 if tested else None,
                p=_optional(named.p[row, j]),
                q=_optional(named.q[row, j]),
                p_model=_optional(named.p_model[row, j]),
                channels=Channels(
                    **{key: _optional(values[row, j]) for key, values in named.channels.items()}
                ),
            )
        )
    return tuple(listed)


def _clusters(results: Results, files: Mapping[int, str]) -> tuple[Cluster, ...]:
    saved = []
    for group, named in zip(results.groups, results.group_names, strict=True):
        rows = results.group_photos[list(group.photos)]
        owners = results.labels[rows]
        prototype_owners = np.array(results.made.class_indices)[list(group.prototypes)]
        present = [int(c) for c in np.unique(owners)]
        pictures = [
            save_photo(results.out, results.images.image(int(i)), "photo",
                       results.classifier.class_names[int(results.labels[i])])
            for i in rows[:4]
        ]  # fmt: skip
        pictures += [
            Picture(file=files[place], kind="prototype",
                    caption=results.classifier.class_names[results.made.class_indices[place]])
            for place in group.prototypes[:2]
        ]  # fmt: skip
        saved.append(
            Cluster(
                id=_cluster_id(results.images, rows),
                name=results.bank.concepts[named[0]].name if named else None,
                score=_rounded(named[1]) if named else None,
                n_images=len(rows),
                n_prototypes=len(group.prototypes),
                classes=tuple(
                    ClusterClass(
                        index=c,
                        n_images=int((owners == c).sum()),
                        n_prototypes=int((prototype_owners == c).sum()),
                    )
                    for c in present
                ),
                shared=len(present) > 1,
                pictures=tuple(pictures),
            )
        )
    return tuple(saved)


def _cluster_id(images: ImageSet, rows: NDArray[np.int64]) -> str:
    members = "\0".join(sorted(images.digests[int(i)] for i in rows))
    return hashlib.sha256(members.encode()).hexdigest()[:12]


def _provenance(
    results: Results, seconds: Mapping[str, float], finished: str, packages: Mapping[str, str]
) -> Provenance:
    return Provenance(
        weights_sha256=results.classifier.digest,
        model_input=_model_input(results.classifier),
        images_digest=results.images.digest,
        pool_digest=results.pool.digest,
        concepts_digest=results.bank.digest,
        probe=Probe(
            name=results.probe.name,
            digest=results.probe.digest,
            quality=tuple(
                ProbeQuality(concept=name, auc=q.auc, n_with=q.n_with, n_without=q.n_without)
                for name, q in results.probe.quality.items()
            ),
            note=results.probe.note,
        ),
        packages=dict(packages),
        device=hardware.describe(results.device),
        seeds=tuple(sorted(set(results.made.seeds))),
        started=results.started,
        finished=finished,
        seconds=dict(seconds),
    )


def _model_input(classifier: Classifier) -> ModelInput:
    preprocess = classifier.preprocess
    return ModelInput(
        size=preprocess.size,
        resize=preprocess.resize,
        aspect=preprocess.aspect,
        interpolation=preprocess.interpolation,
        mean=preprocess.mean,
        std=preprocess.std,
        channels=preprocess.channels,
        background=preprocess.decoding.background,
        bit_depth=preprocess.decoding.bit_depth,
        orientation=preprocess.decoding.orientation,
        output=classifier.output,
    )


def _divergence_and_harm(classes: list[AuditedClass], config: AuditConfig) -> Correlation:
    pairs = [
        (c.divergence.score.value, 1 - c.accuracy.value)
        for c in classes
        if c.divergence.score is not None and c.accuracy is not None
    ]
    x, y = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    rng = np.random.default_rng((config.seed, 0xDA))
    rho = rank_correlation(x, y, config.statistics.bootstrap, rng)
    if rho is None:
        return Correlation(rho=None, reason=f"{len(pairs)} classes with both, or no variation")
    return Correlation(rho=rho, reason=None)


def read_planted(path: str | None) -> list[Planted] | None:
    """The shortcuts that a lab planted, from its JSON file, before any audit of them.

    Raises:
        ConfigError: the file cannot be read, or is no list of planted shortcuts.
    """
    if path is None:
        return None
    try:
        rows = json.loads(read_text(Path(path), limit=MOST_BYTES))
        return [Planted(**row, found_rank=None, found_grade=None) for row in rows]
    except (OSError, ValueError, TypeError, RecursionError, ValidationError) as error:
        why = " ".join(str(getattr(error, "strerror", None) or error).split())[:160]
        raise ConfigError(f"planted = {path} cannot be used: {why}.") from None


def _planted(
    results: Results, classes: list[AuditedClass], findings: tuple[Finding, ...]
) -> tuple[Planted, ...] | None:
    """What a lab planted, beside the place and grade that the audit gave it.

    `found_rank` counts extrinsic concepts that are not core to the class.
    """
    listed = read_planted(results.config.planted)
    if listed is None:
        return None
    by_index = {c.index: c for c in classes}
    grades = {(f.class_index, f.concept.casefold()): f.grade for f in findings}
    extrinsic = {c.name for c in results.bank.concepts if c.extrinsic}
    done = []
    for planted in listed:
        audited = by_index.get(planted.class_index)
        rank = None
        if audited is not None:
            ranked = [
                c.concept.casefold()
                for c in audited.concepts
                if c.rank is not None and not c.core and c.concept in extrinsic
            ]
            wanted = planted.concept.casefold()
            rank = ranked.index(wanted) + 1 if wanted in ranked else None
        grade = grades.get((planted.class_index, planted.concept.casefold()))
        done.append(planted.model_copy(update={"found_rank": rank, "found_grade": grade}))
    return tuple(done)


def _rounded(value: float | np.floating) -> float:
    return round(float(value), DIGITS)


def _optional(value: float | np.floating) -> float | None:
    return _rounded(value) if np.isfinite(value) else None
