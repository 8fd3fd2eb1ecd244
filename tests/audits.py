"""A synthetic audit with everything a report has to cope with, and its run folder."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Literal

from PIL import Image

from auditor.config import AuditConfig
from auditor.core.estimates import Estimate
from auditor.record.codes import PictureKind
from auditor.record.schema import (
    SCHEMA_VERSION,
    Audit,
    AuditedClass,
    Caveat,
    Channels,
    Cluster,
    ClusterClass,
    Concept,
    ConceptScore,
    Correlation,
    Coverage,
    Divergence,
    Evidence,
    Finding,
    LayerDivergence,
    NotTested,
    Picture,
    Planted,
    Probe,
    ProbeQuality,
    Prototype,
    Provenance,
    Quarantined,
    Rate,
    Reason,
    SelfTest,
    SmallestEffect,
    Tool,
    Verdict,
    VerdictReason,
)

SCRIPT = '<script>alert("1")</script>'
RTL = "\u202egnp.exe\u2066 \u200fstop\u200e"
QUOTES = '"it\'s" & <b>bold</b> {{ 7*7 }}'
LONG = "extremely " * 30
HOSTILE = (SCRIPT, RTL, QUOTES, LONG)

CLASSES = ("carton", "husky", "freight car", "mortarboard", "cockatoo", "safe")
CONCEPTS: tuple[tuple[str, str, bool, Literal["named", "drawn", "shown"]], ...] = (
    ("Chinese watermark", "text", True, "drawn"),
    ("snow", "weather", True, "named"),
    ("graffiti", "background", True, "named"),
    ("human face", "people", True, "named"),
    ("time stamp", "text", True, "drawn"),
    ("black border", "frame", True, "drawn"),
    ("cardboard", "material", False, "named"),
    ("twigs", "background", True, "named"),
    ("ruler", "artefact", True, "shown"),
    ("blue cast", "colour", True, "drawn"),
)
FEW = Reason(code="few_photos", params={"photos": 4, "needed": 5})
VAIN = Reason(code="text", params={"text": "no effect on the features"})
LAYERS = tuple(f"features.{i}" for i in range(12))


def estimate(value: float, spread: float, n: int = 40) -> Estimate:
    return Estimate(value=value, low=value - spread, high=value + spread, n=n)


def audit(
    *, hostile: bool = False, findings: bool = True, planted: bool = True, self_test: bool = False
) -> Audit:
    """Six classes, three findings of different grades, clusters; hostile names where asked."""
    rng = random.Random(0)
    names = list(CLASSES)
    concepts = list(CONCEPTS)
    if hostile:
        names[:4] = list(HOSTILE)
        concepts[0] = (SCRIPT + LONG, RTL, True, "drawn")
        concepts[1] = (QUOTES, SCRIPT, True, "named")
        concepts[2] = (LONG, "background", True, "named")
    bank = [concept for concept, *_ in concepts]
    return Audit(
        schema_version=SCHEMA_VERSION,
        tool=Tool(name="auditor", version="0.1.0"),
        created="2026-11-23T10:00:00+00:00",
        title=(SCRIPT + LONG) if hostile else "MobileNetV2 before release 4",
        verdict=Verdict(
            status="not_met",
            reasons=tuple(
                VerdictReason(code="text", params={"text": told})
                for told in (
                    "1 confirmed finding; at most 0 are allowed.",
                    SCRIPT
                    if hostile
                    else "Worst class accuracy 0.62, at least 0.60 is asked: met.",
                    *((LONG, LONG, LONG) if hostile else ()),
                )
            ),
        ),
        spec=AuditConfig.model_validate(
            {
                "model": {"spec": "torchvision:mobilenet_v2", "size": 224},
                "images": SCRIPT if hostile else "photos/validation",
                "pool": "photos/pool",
                "classes": names,
                "expected": {names[1]: ["snow"]},
                "scope": {
                    "intended_use": LONG + SCRIPT
                    if hostile
                    else "Sorting product photos before a person checks them.",
                    "exclusions": None if hostile else "Not for photos of people.",
                },
            }
        ).model_dump(mode="json"),
        provenance=Provenance(
            weights_sha256="a" * 64,
            images_digest="b" * 64,
            pool_digest="c" * 64,
            concepts_digest="d" * 64,
            probe=Probe(
                name="open_clip:ViT-B-32/laion2b_s34b_b79k",
                digest="e" * 64,
                quality=tuple(
                    ProbeQuality(concept=c, auc=0.97 - 0.05 * i, n_with=30 + i, n_without=400)
                    for i, c in enumerate(bank[:7])
                ),
                note="Zero-shot, prompts of the bank.",
            ),
            packages={"torch": "2.14.0", "numpy": "2.3.1", "open_clip_torch": "3.3.0"},
            device="cpu",
            seeds=(0, 1, 2),
            started="2026-11-23T10:00:00+00:00",
            finished="2026-11-23T10:14:30+00:00",
            seconds={"prototypes": 512.3, "activations": 44.0, "probe": 20.25},
        ),
        coverage=Coverage(
            classes=6,
            classes_of_model=1000,
            images=244,
            pool=400,
            hypotheses=48,
            quarantined=(
                Quarantined(id="husky/broken.jpg", reason="truncated file"),
                Quarantined(id=RTL if hostile else "safe/0 bytes.png", reason="empty file"),
            ),
            not_tested=(
                NotTested(what="divergence", kind="class", class_index=5, reason=FEW),
                NotTested(what="concept", kind="concept", concept="blue cast", reason=VAIN),
                *(
                    NotTested(
                        what="text",
                        kind="stage",
                        reason=Reason(code="text", params={"what": LONG, "text": f"{i} {LONG}"}),
                    )
                    for i in range(4 if hostile else 0)
                ),
            ),
            smallest_effect=SmallestEffect(
                score=3.6, random_scores=9999, hypotheses=48, q_level=0.05
            ),
        ),
        divergence_and_harm=Correlation(rho=estimate(0.31, 0.45, 5), reason=None),
        concepts=tuple(
            Concept(
                name=c,
                category=category,
                extrinsic=extrinsic,
                source=source,
                n_photos=40,
                reason=VAIN if c == "blue cast" else None,
            )
            for c, category, extrinsic, source in concepts
        ),
        classes=tuple(
            _class(i, class_name, concepts, rng) for i, class_name in enumerate(names)
        ),
        clusters=_clusters(bank),
        findings=_findings(bank) if findings else (),
        planted=_planted(bank) if planted else None,
        self_test=SelfTest(
            digest="f" * 64,
            planted_models=10,
            clean_models=10,
            rates=(Rate(name="hit rate, rank 1", rate=estimate(0.8, 0.15, 10)),),
        )
        if self_test
        else None,
    )  # fmt: skip


def run_folder(folder: Path, saved: Audit) -> Path:
    """Write an audit and every picture it names as a small PNG."""
    files = [p.file for c in saved.classes for p in c.prototypes]
    files += [p.file for f in saved.findings for p in f.pictures]
    files += [p.file for c in saved.clusters for p in c.pictures]
    for place, file in enumerate(dict.fromkeys(files)):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = (40 + 17 * place % 200, 90, 200 - 13 * place % 180)
        Image.linear_gradient("L").resize((48, 48)).convert("RGB").save(path)
        Image.blend(Image.open(path), Image.new("RGB", (48, 48), colour), 0.6).save(path)
    saved.write(folder / "audit.json")
    return folder


def _class(
    index: int,
    class_name: str,
    concepts: list[tuple[str, str, bool, Literal["named", "drawn", "shown"]]],
    rng: random.Random,
) -> AuditedClass:
    thin = index == 5
    scores = sorted((rng.gauss(1.0, 1.2) for _ in concepts), reverse=True)
    order = list(range(len(concepts)))
    order.insert(0, order.pop(order.index(index)))  # each class has its own concept first
    return AuditedClass(
        index=index,
        name=class_name,
        id=f"n0{index}",
        n_images=4 if thin else 40 + index,
        accuracy=None if thin else estimate(0.9 - 0.07 * index, 0.08, 40 + index),
        prototypes=tuple(
            Prototype(
                file=f"prototypes/{index}/{n}.png",
                seed=n,
                probability=0.99 - 0.02 * n,
                steps=256,
                reached=n < 2,
                trace=tuple(min(0.99, 0.01 + 0.07 * step) for step in range(17)),
            )
            for n in range(3)
        ),
        divergence=_divergence(index, rng)
        if not thin
        else Divergence(
            score=None,
            class_specific=None,
            rank=None,
            rank_low=None,
            rank_high=None,
            reason=FEW,
            layers=(),
        ),
        n_concepts=len(concepts),
        n_hypotheses=sum(extrinsic for _, _, extrinsic, _ in concepts),
        concepts=tuple(
            ConceptScore(
                concept=concepts[which][0],
                category=concepts[which][1],
                core=not concepts[which][2],
                score=scores[place] + (3.5 if place == 0 else 0),
                rank=place + 1,
                p=0.0004 if place == 0 else min(1.0, 0.11 * place),
                q=0.004 if place == 0 else min(1.0, 0.2 * place),
                p_model=0.0006 if place == 0 else min(1.0, 0.12 * place),
                channels=Channels(
                    bridge=scores[place],
                    textcav=scores[place] / 2,
                    direct=-scores[place] / 3,
                    head=scores[place] * 1.2,
                    association=None if place % 4 == 3 else 0.4,
                    prevalence=None if which % 3 == 2 else 0.7,
                ),
            )
            for place, which in enumerate(order)
        ),
    )


def _divergence(index: int, rng: random.Random) -> Divergence:
    layers = []
    for depth, layer in enumerate(LAYERS):
        base = 1.0 - 0.05 * abs(depth - 2) if depth < 6 else 0.3 + 0.1 * (depth - 6)
        missing = index == 2 and depth == 4
        layers.append(
            LayerDivergence(
                name=layer,
                normalised=None if missing else base - 0.1 * index + rng.gauss(0, 0.06),
                class_specific=None if missing else 0.08 * depth - 0.1 + rng.gauss(0, 0.04),
                spearman=0.5 + 0.03 * depth,
                l1=0.9 - 0.04 * depth,
            )
        )
    return Divergence(
        score=estimate(0.25 + 0.11 * index, 0.09, 40),
        class_specific=estimate(0.35 - 0.03 * index, 0.06, 40),
        rank=5 - index,
        rank_low=max(1, 4 - index),
        rank_high=min(5, 6 - index),
        reason=None,
        layers=tuple(layers),
    )


def _findings(bank: list[str]) -> tuple[Finding, ...]:
    def pictures(index: int, *kinds: PictureKind) -> tuple[Picture, ...]:
        return tuple(
            Picture(
                file=f"pictures/{index}/{kind}-{n}.png",
                kind=kind,
                class_index=index,
                probability=0.1 + 0.2 * n,
                owner=4,
                alike=40,
                photos=60,
            )
            for kind in kinds
            for n in range(3)
        )

    naming = Evidence(
        test="naming",
        effect=estimate(4.6, 0.8, 5),
        control=estimate(1.9, 0.7, 5),
        p=0.0004,
        q=0.004,
        n=5,
        unit="null_sd",
    )
    association = Evidence(
        test="association",
        effect=estimate(1.42, 0.5, 22),
        control=None,
        p=0.002,
        q=0.011,
        n=22,
        unit="log_odds",
    )
    insertion = Evidence(
        test="insertion",
        effect=estimate(0.31, 0.06, 96),
        control=estimate(0.02, 0.03, 96),
        p=0.00001,
        q=0.0002,
        n=96,
        unit="probability",
    )
    return (
        Finding(
            id="0a1b2c3d4e5f",
            class_index=0,
            concept=bank[0],
            category="text",
            grade="confirmed",
            basis="insertion",
            evidence=(naming, association, insertion),
            caveats=(
                Caveat(code="text", params={"text": "The watermark's wording was not varied."}),
            ),
            pictures=pictures(0, "plain", "edited", "control"),
        ),
        Finding(
            id="1a1b2c3d4e5f",
            class_index=1,
            concept=bank[1],
            category="weather",
            grade="corroborated",
            basis="association",
            evidence=(naming, association),
            caveats=(),
            pictures=pictures(1, "with", "without"),
        ),
        Finding(
            id="2a1b2c3d4e5f",
            class_index=2,
            concept=bank[2],
            category="background",
            grade="suspected",
            basis="naming",
            evidence=(naming,),
            caveats=(Caveat(code="not_associated"),),
            pictures=(),
        ),
    )


def _clusters(bank: list[str]) -> tuple[Cluster, ...]:
    def cluster(identifier: str, title: str | None, members: tuple[int, ...]) -> Cluster:
        return Cluster(
            id=identifier,
            name=title,
            score=None if title is None else 0.88,
            n_images=12 * len(members),
            n_prototypes=len(members),
            classes=tuple(ClusterClass(index=i, n_images=12, n_prototypes=1) for i in members),
            shared=len(members) > 1,
            pictures=tuple(
                Picture(file=f"clusters/{identifier}/{n}.png", kind="photo", owner=members[0])
                for n in range(4)
            ),
        )

    return (
        cluster("k0", bank[1], (1, 4)),
        cluster("k1", None, (0, 2, 5)),
        cluster("k2", bank[0], (0,)),
    )


def _planted(bank: list[str]) -> tuple[Planted, ...]:
    return (
        Planted(
            class_index=0,
            concept=bank[0],
            strength=0.9,
            learned=estimate(0.42, 0.1),
            found_rank=1,
            found_grade="confirmed",
        ),
        Planted(
            class_index=3,
            concept=bank[4],
            strength=0.6,
            learned=None,
            found_rank=4,
            found_grade=None,
        ),
    )
