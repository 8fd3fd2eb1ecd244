"""The last stage: the record of everything that was found, from what, and the files beside it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import auditor
from auditor.config import AuditConfig
from auditor.core import seeds
from auditor.core.statistics import proportion, rank_correlation
from auditor.core.storage import digest_package
from auditor.evidence import credibility
from auditor.findings.deriving import derive
from auditor.findings.screening import possible
from auditor.images.image_set import ImageSet
from auditor.models.loading import Classifier
from auditor.pipeline import planted
from auditor.pipeline.coverage import cover
from auditor.pipeline.engine import Engine
from auditor.pipeline.experimenting import Edits
from auditor.pipeline.generating import Generated
from auditor.pipeline.grouping import Clusters
from auditor.pipeline.illustrating import Shown
from auditor.pipeline.inputs import Inputs, now
from auditor.pipeline.judging import Trust
from auditor.pipeline.observing import Observed
from auditor.pipeline.scoring import Scores
from auditor.pipeline.tables import ordered, score_columns, test_columns
from auditor.pipeline.testing import Tested
from auditor.record import tables
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
    OtherClass,
    Probe,
    ProbeQuality,
    Prototype,
    Prototyping,
    Provenance,
    Reason,
    Region,
    ToldApart,
    Tool,
    Transfer,
    Verdict,
    VerdictReason,
)

__all__ = ["Stages", "record"]

FIRST = 20  # concepts of each class in the record: all are in the table beside it
DIGITS = 6  # of saved numbers: more would differ between runs on equal machines
PACKAGES = (
    "auditor", "torch", "torchvision", "open_clip_torch", "timm", "transformers", "scikit-learn",
    "scipy", "numpy", "pyarrow", "pillow", "weasyprint",
)  # fmt: skip


@dataclass(frozen=True)
class Stages:
    """What the stages of an audit gave."""

    inputs: Inputs
    observed: Observed
    made: Generated
    trust: Trust
    edits: Edits
    scores: Scores
    tested: Tested
    groups: Clusters
    shown: Shown


def record(stages: Stages, engine: Engine, folder: Path) -> Audit:
    """Put the record together, and write the tables that belong to it into a folder."""
    inputs, config = stages.inputs, stages.inputs.config
    vocabulary = stages.scores.vocabulary
    findings = derive(
        stages.tested.pairs, q_level=config.statistics.q_level, pictures=stages.shown.findings
    )
    listed = planted.read(config.planted)
    named = {(each.class_index, each.concept.casefold()) for each in (*findings, *(listed or ()))}
    classes = tuple(_audited_class(stages, row, named) for row in range(len(inputs.classes)))
    clusters = _clusters(stages)
    finished = now()
    return Audit(
        schema_version=SCHEMA_VERSION,
        tool=Tool(name="auditor", version=auditor.__version__, source=digest_package()),
        created=finished,
        title=config.scope.title or f"Audit of {inputs.classifier.name}",
        verdict=Verdict(
            status="not_assessed",
            reasons=(VerdictReason(code="no_criteria"),),
        ),
        spec=config.model_dump(mode="json"),
        provenance=_provenance(stages, engine, finished),
        coverage=cover(
            inputs,
            stages.observed,
            stages.trust,
            stages.scores,
            stages.tested,
            findings=findings,
        ),
        prototyping=_prototyping(inputs, stages.made, stages.trust),
        divergence_and_harm=_divergence_and_harm(classes, config),
        concepts=tuple(
            Concept(
                name=concept.name,
                category=concept.category,
                extrinsic=concept.extrinsic,
                source=vocabulary.sources[j],
                n_photos=int(vocabulary.n_photos[j]),
                reason=vocabulary.reasons[j],
            )
            for j, concept in enumerate(inputs.bank.concepts)
        ),
        classes=classes,
        other_classes=tuple(_others(inputs, clusters, findings)),
        clusters=clusters,
        findings=findings,
        planted=planted.found(listed, _ranked(stages), findings),
        self_test=None,
        tables=(
            tables.write(folder, "scores", score_columns(inputs, stages.scores)),
            tables.write(folder, "tests", test_columns(inputs, stages.edits, stages.tested)),
        ),
    )


def _ranked(stages: Stages) -> dict[int, list[str]]:
    """Extrinsic concepts that are not core to each class, best first, by the class's index."""
    inputs, scores = stages.inputs, stages.scores
    listed = inputs.bank.concepts
    wanted = possible(listed, scores.is_core) & np.isfinite(scores.naming.score)
    return {
        index: [listed[j].name for j in ordered(scores, row) if wanted[row, j]]
        for row, index in enumerate(inputs.classes)
    }


def _others(
    inputs: Inputs, clusters: Sequence[Cluster], findings: Sequence[Finding]
) -> Iterator[OtherClass]:
    """The classes that were not audited and are shown all the same."""
    pictures = [p for cluster in clusters for p in cluster.pictures]
    pictures += [p for finding in findings for p in finding.pictures]
    seen = {p.owner for p in pictures if p.owner is not None}
    seen |= {share.index for cluster in clusters for share in cluster.classes}
    for index in sorted(seen - set(inputs.classes)):
        yield OtherClass(index=index, name=inputs.names[index])


def _prototyping(inputs: Inputs, made: Generated, trust: Trust) -> Prototyping:
    apart = trust.told_apart.auc.items()
    return Prototyping(
        mode=made.recipe.mode,
        parameterisation=made.recipe.parameterisation,
        used=made.constraints.note,
        layers_used=made.constraints.layers,
        photos_copied=len(made.constraints.used),
        transfer=_transfer(inputs.second, trust.transfer),
        told_apart=tuple(ToldApart(layer=name, auc=auc) for name, auc in apart),
    )


def _transfer(second: Classifier | None, judged: credibility.Transfer | None) -> Transfer | None:
    if second is None or judged is None:
        return None
    return Transfer(
        model=second.name,
        weights_sha256=second.digest,
        first=judged.shares[1],
        first_five=judged.shares[5],
        median_place=judged.median,
        classes_of_model=judged.n_classes,
        unmatched=len(judged.unmatched),
    )


def _audited_class(stages: Stages, row: int, named: Set[tuple[int, str]]) -> AuditedClass:
    inputs, made, scores = stages.inputs, stages.made, stages.scores
    index, classifier = inputs.classes[row], inputs.classifier
    members = inputs.labels == index
    n = int(members.sum())
    predicted = stages.observed.images.activations.logits[members].argmax(1)
    tested = possible(inputs.bank.concepts, scores.is_core)[row] & np.isfinite(scores.naming.q[row])
    return AuditedClass(
        index=index,
        name=classifier.class_names[index],
        id=classifier.class_ids[index] if classifier.class_ids else None,
        n_images=n,
        accuracy=proportion(int((predicted == index).sum()), n) if n else None,
        prototypes=tuple(_prototype(stages, place) for place in made.of_class(index)),
        divergence=stages.trust.divergence[index],
        n_concepts=len(inputs.bank.concepts),
        n_hypotheses=int(tested.sum()),
        concepts=tuple(_concept_scores(inputs, scores, row, named)),
    )


def _prototype(stages: Stages, place: int) -> Prototype:
    made = stages.made.prototypes
    probability = made.probabilities[place]
    return Prototype(
        file=stages.shown.prototypes[place],
        seed=made.seeds[place],
        probability=_rounded(probability),
        steps=made.steps[place],
        reached=bool(probability >= stages.inputs.config.prototypes.probability),
        trace=tuple(_rounded(value) for value in made.traces[place]),
        region=_region(stages, place),
    )


def _region(stages: Stages, place: int) -> Region | None:
    found = stages.made.regions
    if found is None:
        return None
    return Region(
        file=stages.shown.regions[place],
        area=_rounded(found.areas[place]),
        probability=_rounded(found.probabilities[place]),
        control=_rounded(found.controls[place]),
    )


def _concept_scores(
    inputs: Inputs, scores: Scores, row: int, named: Set[tuple[int, str]]
) -> Iterator[ConceptScore]:
    """The first concepts of a class, the first that can be a finding, and those that are named."""
    naming, index = scores.naming, inputs.classes[row]
    own = naming.score[row]
    order = ordered(scores, row)
    can_be = possible(inputs.bank.concepts, scores.is_core)[row] & np.isfinite(own)
    best = next((int(j) for j in order if can_be[j]), None)
    for place, j in enumerate(order):
        concept = inputs.bank.concepts[j]
        wanted = (index, concept.name.casefold()) in named
        if place >= FIRST and int(j) != best and not wanted:
            continue
        yield ConceptScore(
            concept=concept.name,
            category=concept.category,
            core=bool(scores.is_core[row, j]),
            score=_optional(own[j]),
            rank=place + 1 if np.isfinite(own[j]) else None,
            p=_optional(naming.p[row, j]),
            q=_optional(naming.q[row, j]),
            p_model=_optional(naming.p_model[row, j]),
            channels=Channels(
                **{key: _optional(values[row, j]) for key, values in naming.channels.items()}
            ),
        )


def _clusters(stages: Stages) -> tuple[Cluster, ...]:
    inputs, groups = stages.inputs, stages.groups
    saved = []
    for group, named, pictures in zip(
        groups.groups, groups.names, stages.shown.clusters, strict=True
    ):
        rows = groups.photos[list(group.photos)]
        owners = inputs.labels[rows]
        prototype_owners = stages.made.owners[list(group.prototypes)]
        present = [int(c) for c in np.unique(owners)]
        saved.append(
            Cluster(
                id=_cluster_id(inputs.images, rows),
                name=inputs.bank.concepts[named[0]].name if named else None,
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
                pictures=pictures,
            )
        )
    return tuple(saved)


def _cluster_id(images: ImageSet, rows: NDArray[np.int64]) -> str:
    members = "\0".join(sorted(images.digests[int(i)] for i in rows))
    return hashlib.sha256(members.encode()).hexdigest()[:12]


def _provenance(stages: Stages, engine: Engine, finished: str) -> Provenance:
    inputs = stages.inputs
    probe = inputs.probe
    return Provenance(
        weights_sha256=inputs.classifier.digest,
        model_input=_model_input(inputs.classifier),
        images_digest=inputs.images.digest,
        pool_digest=inputs.pool.digest,
        concepts_digest=inputs.bank.digest,
        probe=Probe(
            name=probe.name,
            digest=probe.digest,
            quality=tuple(
                ProbeQuality(concept=name, auc=q.auc, n_with=q.n_with, n_without=q.n_without)
                for name, q in probe.quality.items()
            ),
            note=probe.note,
        ),
        packages=_packages(),
        device=engine.device,
        seeds=tuple(sorted(set(stages.made.prototypes.seeds))),
        started=inputs.started,
        finished=finished,
        seconds=dict(engine.watch.seconds),
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


def _divergence_and_harm(classes: Sequence[AuditedClass], config: AuditConfig) -> Correlation:
    pairs = [
        (c.divergence.score.value, 1 - c.accuracy.value)
        for c in classes
        if c.divergence.score is not None and c.accuracy is not None
    ]
    x, y = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    rng = seeds.stream(config.seed, "divergence and harm")
    rho = rank_correlation(x, y, config.statistics.bootstrap, rng)
    if rho is None:
        reason = Reason(code="not_correlated", params={"classes": len(pairs)})
        return Correlation(rho=None, reason=reason)
    return Correlation(rho=rho, reason=None)


def _packages() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _rounded(value: float | np.floating) -> float:
    return round(float(value), DIGITS)


def _optional(value: float | np.floating) -> float | None:
    return _rounded(value) if np.isfinite(value) else None
