"""Detection power: audits of lab classifiers held against what was planted in them.

    python -m benchmarks.detection run development --cache CACHE
    python -m benchmarks.detection run held-out --cache CACHE
    python -m benchmarks.detection_report --cache CACHE --docs docs

Methods were improved with the development half alone. The held-out half has other families of
shortcuts, other seeds of the known families, and clean classifiers of its own. Classifiers,
photos and finished stages are kept in CACHE, and results are appended to a file of JSON lines
there, one for each classifier; what has a line is not run again, so that a run can be stopped and
continued, and so that processes can share it (`--part 0 --of 2`). `--label` keeps the results of
different states of the method apart.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from auditor.concepts import banks, presence, probes
from auditor.concepts.texts import prompt_rows
from auditor.config import AuditConfig, PrototypeConfig
from auditor.images import image_set
from auditor.lab import example, plans, scoring, training
from auditor.lab.plans import Plan, Shortcut
from auditor.models import hardware, loading
from auditor.models.layers import find_layers
from auditor.pipeline import runner
from auditor.pipeline.observing import path_photos
from auditor.pipeline.progress import Silent
from auditor.record import tables
from auditor.record.schema import Audit
from benchmarks.observing import Observer
from benchmarks.studies import Job, keep, unfinished

FIRST = ("textured background", "Latin text", "time stamp", "border", "colour", "object")
SECOND = ("photographic background", "Chinese text", "logo", "frame", "image quality", "person")
THIRD = ("ground", "pointer", "measuring aid", "mount", "exposure", "print and screen")
FOURTH = ("weather", "stray light", "in front", "hair", "colour and motion")
EARLIER = FIRST + SECOND + THIRD
KNOWN = EARLIER + FOURTH
HELD_OUT = ("wear", "stuck on", "scenery")
STRENGTHS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
GOAL = (0.95,) * 6
CHANNELS = ("bridge", "head", "association", "prevalence", "textcav", "direct")


def jobs(half: str) -> Iterator[Job[Plan]]:
    """The classifiers of a half, the cheap and telling ones first.

    The second, third and fourth families and their seeds were held out once; what was seen of them
    suggested changes of the method, so they are of the development half now.
    """

    def job(name: str, plan: Plan, photos: Plan | None = None) -> Job[Plan]:
        return Job(name, half, plan, photos)

    if half == "development":
        yield from _every_kind(job, "first families", FIRST, 1000, planted=2, clean=2)
        yield from _every_kind(job, "second families", SECOND, 2000, planted=4, clean=8)
        yield from _every_kind(job, "third families", THIRD, 3000, planted=4, clean=10)
        for k in range(4):
            plan = plans.planted(3080 + k, GOAL, families=FIRST + SECOND)
            yield job(f"first and second families, planted {k}", plan)
        yield from _clean(job, "further", EARLIER, 4000, clean=16, biased=8, transformers=4)
        yield from _every_kind(job, "fourth families", FOURTH, 5000, planted=6, clean=8)
        for k in range(6):
            plan = plans.planted(5080 + k, GOAL, families=EARLIER)
            yield job(f"first to third families, planted {k}", plan)
        yield from _clean(job, "still further", EARLIER, 6000, clean=16, biased=3, transformers=2)
        return
    yield from _every_kind(job, "new families", HELD_OUT, 8000, planted=6, clean=8)
    for k in range(6):
        plan = plans.planted(8080 + k, GOAL, families=KNOWN)
        yield job(f"known families, planted {k}", plan)
    yield from _clean(job, "further", KNOWN, 9000, clean=16, biased=3, transformers=2)


def in_turn(listed: Iterable[Job[Plan]]) -> list[Job[Plan]]:
    """Jobs in an order in which planted and clean ones run out together, wherever it stops."""
    kinds: dict[bool, list[Job[Plan]]] = {True: [], False: []}
    for job in listed:
        kinds["clean" in job.name].append(job)
    placed = [
        ((place + 0.5) / len(members), clean, job)
        for clean, members in kinds.items()
        for place, job in enumerate(members)
    ]
    return [job for *_, job in sorted(placed, key=lambda entry: entry[:2])]


def _clean(
    job: Callable[..., Job[Plan]],
    name: str,
    families: tuple[str, ...],
    seed: int,
    *,
    clean: int,
    biased: int,
    transformers: int,
) -> Iterator[Job[Plan]]:
    """Classifiers without a shortcut; the photos of some are biased by these families."""
    for k in range(clean):
        yield job(f"{name} clean {k}", plans.clean(seed + k))
    for k in range(biased):
        plan = plans.clean(seed + 100 + k)
        yield job(f"{name} clean, biased photos {k}", plan, _biased(seed + 100 + k, families))
    for k in range(transformers):
        plan = plans.clean(seed + 200 + k, architecture="transformer")
        yield job(f"{name} clean transformer {k}", plan)


def _every_kind(
    job: Callable[..., Job[Plan]],
    name: str,
    families: tuple[str, ...],
    seed: int,
    *,
    planted: int,
    clean: int,
) -> Iterator[Job[Plan]]:
    """Classifiers of every kind with shortcuts of these families, and clean ones."""

    def plan(k: int, strengths: tuple[float, ...] = GOAL, **more: Any) -> Plan:
        return plans.planted(seed + k, strengths, families=families, **more)

    frozen: dict[str, Any] = {"architecture": "frozen", "size": 96, "n_train": 150}
    transformer = plans.clean(seed + 150, architecture="transformer")
    biased = _biased(seed + 120, families)
    for k in range(planted):
        yield job(f"{name}, planted {k}", plan(k))
    yield job(f"{name}, strengths", plan(20, STRENGTHS))
    yield job(f"{name}, two in one class", _doubled(plan(30)))
    yield job(f"{name}, one in three classes", _shared(plan(40)))
    yield job(f"{name}, transformer", plan(50, architecture="transformer"))
    yield job(f"{name}, frozen", plan(60, **frozen))
    yield job(f"{name}, 3 of 18 classes", plan(70, GOAL[:3], classes=18))
    for k in range(clean):
        yield job(f"{name}, clean {k}", plans.clean(seed + 100 + k))
    yield job(f"{name}, clean, biased photos", plans.clean(seed + 120), biased)
    yield job(f"{name}, clean transformer", transformer)
    yield job(f"{name}, clean frozen", plans.clean(seed + 160, **frozen))


def _biased(seed: int, families: tuple[str, ...]) -> Plan:
    """Biased photos of the same classes as the clean plan of a seed."""
    other = plans.planted(seed, GOAL, families=families)
    return dataclasses.replace(other, classes=plans.clean(seed).classes)


def _doubled(plan: Plan) -> Plan:
    """The first three shortcuts' classes rely on two each: the others move to them."""
    shortcuts = list(plan.shortcuts)
    grounds = [s for s in shortcuts if plans.ingredient(s.concept)[0] == "background"]
    rest = [s for s in shortcuts if s not in grounds]
    first, second = (grounds + rest)[:3], (grounds + rest)[3:]
    moved = [
        dataclasses.replace(b, class_index=a.class_index)
        for a, b in zip(first, second, strict=True)
    ]
    return dataclasses.replace(plan, shortcuts=(*first, *moved))


def _shared(plan: Plan) -> Plan:
    """Two of the shortcuts go with three classes each."""
    free = [i for i in range(len(plan.classes)) if i not in {s.class_index for s in plan.shortcuts}]
    kept = plan.shortcuts[:4]
    more = [
        Shortcut(index, kept[k // 2].concept, kept[k // 2].strength)
        for k, index in enumerate(free[:4])
    ]
    return dataclasses.replace(plan, shortcuts=(*kept, *more))


# --- one classifier ------------------------------------------------------------------------------


def run(
    job: Job[Plan],
    cache: Path,
    *,
    representative: bool = True,
    photos: int | None = None,
    pool: bool = True,
) -> dict[str, Any]:
    """Train, audit and score one classifier, and rank its planted concepts by the baselines.

    It is audited with the first `photos` of each class, by default with all of them, and with a
    pool or, as most users have it, with these photos alone. Baselines know the pool.
    """
    folder = cache / "models" / f"{job.plan.digest[:16]}{'-biased' if job.photos else ''}"
    silent = Silent()
    start = time.perf_counter()
    equipped = example.equip(folder, job.plan, progress=silent, photos_plan=job.photos)
    trained = time.perf_counter()
    if photos is not None:
        equipped = example.fewer(equipped, photos, example.POOL)
    config = equipped.model_copy(
        update={
            "out": equipped.out + (f"-{photos}" if photos else "") + ("" if pool else "-no-pool"),
            "prototypes": PrototypeConfig(per_class=3, steps=192),
            "seed": job.plan.seed,
            "representative": representative,
            "anyway": True,  # labels and preprocessing are known, whatever the model learned
            "pdf": "no",
        }
    )
    audit = runner.run(
        config if pool else config.model_copy(update={"pool": None}), progress=silent
    )
    seconds = time.perf_counter() - trained
    outcome = dataclasses.replace(scoring.score(audit, job.plan), seconds=round(seconds, 1))
    return {
        "job": job.name,
        "half": job.half,
        "source": audit.tool.source,
        "training_seconds": round(trained - start, 1),
        "outcome": _plain(outcome),
        "baselines": baselines(audit, config, _shown(job)) if outcome.pairs else [],
    }


def _shown(job: Job[Plan]) -> dict[str, NDArray[np.bool_]]:
    """Which photos of the pool truly show each planted concept."""
    pool = list(example.pool_scenes(job.photos or job.plan))
    return {
        concept: np.array([training.shows(scene, concept) for scene in pool])
        for concept in job.plan.owners
    }


def baselines(
    audit: Audit, config: AuditConfig, shown: Mapping[str, NDArray[np.bool_]] | None = None
) -> list[dict[str, float | None]]:
    """Rank of each planted concept among the same candidates by simpler scores.

    `direct` is the probe on the prototypes, `association` the class's logit on pool photos that
    show the concept, less the others (or with and without the drawing); `class name` the similarity
    of the concept's text to the class's name; `mistakes` the similarity to photos wrongly taken for
    the class less that to photos of the same classes that were not (B2T's score, turned to what
    draws photos into a class). `probe` is no rank: the area under the ROC curve with which the
    probe's score of the concept tells the pool's photos that show it, `shown`, from the others.
    """
    device = torch.device("cpu")
    classifier = loading.load(config.model, device=device)
    hardware.laid_out(classifier.net)
    probe = probes.load(config.probe, device=device)
    bank = banks.load(config.concepts)
    images = image_set.load(
        config.images,
        class_names=classifier.class_names,
        class_ids=None,
        labelled=True,
        labels=config.labels,
    )
    labels = np.array(images.labels)
    layers = find_layers(classifier, config.model.layers)
    work = Path(config.out) / "work"
    observer = Observer(classifier, layers, probe, work, config.batch)
    indices = tuple(range(len(classifier.class_names)))
    on_path = path_photos(labels, indices, np.random.default_rng(config.seed))
    predicted = observer.photos(images, on_path).logits.argmax(1)
    rows = observer.rows(images)
    texts = prompt_rows(probe, bank.concepts)
    pool = image_set.load(str(config.pool), class_names=(), class_ids=None, labelled=False)
    scores = presence.presence(observer.rows(pool), texts)
    names = probe.encode_texts([f"a photo of a {name}" for name in classifier.class_names]).numpy()
    column = {concept.name: j for j, concept in enumerate(bank.concepts)}
    found = []
    scored = tables.scores(Path(config.out), audit)
    for planted in audit.planted or ():
        index = planted.class_index
        listed = scoring.candidates(planted, audit, scored)
        wrong = (predicted == index) & (labels != index)
        right = (predicted == labels) & np.isin(labels, labels[wrong])
        places: dict[str, float | None] = {"candidates": len(listed)}

        allowed = plans.accepted(planted.concept)
        for channel in CHANNELS:
            values = {c.concept: getattr(c.channels, channel) for c in listed}
            places[channel] = _place(values, allowed)
        similar = names[index] @ texts.T
        values = {c.concept: float(similar[column[c.concept]]) for c in listed}
        places["class name"] = _place(values, allowed)
        places["mistakes"] = None
        if wrong.any() and right.any():
            gap = (rows[wrong].mean(0) - rows[right].mean(0)) @ texts.T
            values = {c.concept: float(gap[column[c.concept]]) for c in listed}
            places["mistakes"] = _place(values, allowed)
        places["probe"] = None
        if shown is not None and len(set(shown[planted.concept])) == 2:
            truth = shown[planted.concept]
            places["probe"] = max(
                float(roc_auc_score(truth, scores[:, column[name]]))
                for name in allowed
                if name in column
            )
        found.append(places)
    return found


def _place(values: dict[str, float | None], allowed: tuple[str, ...]) -> float | None:
    """Place of the best allowed name among the concepts that have a value."""
    known = {key: value for key, value in values.items() if value is not None}
    own = [known[name] for name in allowed if name in known]
    return None if not own else 1 + sum(value > max(own) for value in known.values())


def _plain(outcome: scoring.Outcome) -> dict[str, object]:
    data = dataclasses.asdict(dataclasses.replace(outcome, pairs=()))
    data["pairs"] = [
        {**vars(pair), "effect": pair.effect.model_dump(), "learned": pair.learned}
        for pair in outcome.pairs
    ]
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run"])
    parser.add_argument("half", choices=["development", "held-out"])
    parser.add_argument("--cache", type=Path, default=Path("out/detection"))
    parser.add_argument("--label", default="study")
    parser.add_argument("--only", default="", help="jobs whose name starts with this")
    parser.add_argument(
        "--representative", action=argparse.BooleanOptionalAction, default=True,
        help="whether audits count what the class's photos show",
    )  # fmt: skip
    parser.add_argument("--part", type=int, default=0, help="of the jobs, with --of: 0, 1, ...")
    parser.add_argument("--of", type=int, default=1, help="processes that share the jobs")
    parser.add_argument("--photos", type=int, help="of each class, by default all 40")
    parser.add_argument(
        "--pool", action=argparse.BooleanOptionalAction, default=True,
        help="whether audits have a pool beside the class's photos",
    )  # fmt: skip
    given = parser.parse_args()
    torch.set_num_threads(1)
    results = given.cache / f"{given.label}-{given.half}.jsonl"
    own = islice(in_turn(jobs(given.half)), given.part, None, given.of)
    for job in unfinished(own, results, given.only):
        row = run(
            job,
            given.cache,
            representative=given.representative,
            photos=given.photos,
            pool=given.pool,
        )
        keep(row, results)
        print(job.name, row["training_seconds"], row["outcome"]["seconds"], flush=True)


if __name__ == "__main__":
    main()
