"""Detection power on real photos: shortcuts planted in photos under real ImageNet features.

    python -m benchmarks.planting DATA --cache CACHE --label LABEL --half development

A classifier here is a frozen ImageNet trunk under a new head for twelve super-classes (or most of
them), which learned from photos that carry planted concepts: drawings, drawn companions, and the
surroundings of landscape photos around the middle. Heads are trained on `imagenet-ccby` photos as
far as there are any; audited photos, which the head never saw, and the pool are `imagenet-extra`
and `coco-mini` photos (`benchmarks.superclasses.split`). Whether a shortcut was learned is an
experiment on the audited photos (`verified`), never assumed.

A clean classifier has nothing planted. It is not free of bias: ImageNet photos of fish show hands,
and what an audit says of that counts as a false alarm here.

Results are JSON lines in CACHE/LABEL-photos.jsonl, in the form of `benchmarks.detection`; what has
a line is not run again. The held-out half has other families and seeds, for one run.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from auditor.config import AuditConfig, ModelConfig, PrototypeConfig
from auditor.core.estimates import Estimate
from auditor.core.statistics import mean_estimate, proportion
from auditor.core.storage import write_atomically
from auditor.lab import scoring
from auditor.models import hardware, loading
from auditor.pipeline import runner
from auditor.pipeline.pictures import encoded_png
from auditor.pipeline.progress import Silent
from benchmarks import mobilenet_v2
from benchmarks.detection import FOURTH, HELD_OUT, _plain, baselines
from benchmarks.planted_photos import (
    FIT,
    PAIRS,
    Plan,
    Shot,
    audited,
    planned,
    pool,
    render,
    training,
)
from benchmarks.studies import Job, keep, unfinished
from benchmarks.superclasses import Split, split

WIDTHS = {"mobilenet_v2": 1280, "squeezenet1_0": 512, "efficientnet_lite0": 1280}
FIRST = ("Latin text", "border", "colour", "object")
SECOND = (
    "pointer", "measuring aid", "mount", "exposure", "print and screen", "photographic background",
)  # fmt: skip
DRAWN = tuple(name for name in HELD_OUT if name != "scenery")  # its grounds are no photos
EPOCHS = 10  # with more, mislabelled photos are learned by heart and accuracy falls
RATE, DECAY = 1e-3, 0.02  # of AdamW


# --- network -------------------------------------------------------------------------------------


class PlantedNetwork(nn.Module):
    """A frozen ImageNet trunk under a new linear head, as `architectures.FrozenNetwork`."""

    def __init__(self, trunk: str, classes: int) -> None:
        super().__init__()
        whole: Any = getattr(mobilenet_v2, trunk)()
        said = whole.auditor
        self.preprocess = dataclasses.replace(FIT, mean=said["mean"], std=said["std"])
        if trunk == "efficientnet_lite0":
            whole.reset_classifier(0, "")
        self.trunk: nn.Module = whole if trunk == "efficientnet_lite0" else whole.features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.norm = nn.BatchNorm1d(WIDTHS[trunk], affine=False)
        self.head = nn.Linear(WIDTHS[trunk], classes)

    def features(self, x: Tensor) -> Tensor:
        """The trunk's pooled features of shape (n, width) for normalised images."""
        features: Tensor = self.flatten(self.pool(self.trunk(x)))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (n, classes) for normalised images of shape (n, 3, H, W)."""
        logits: Tensor = self.head(self.norm(self.features(x)))
        return logits


def factory(trunk: str, classes: int) -> str:
    """The name under which a weights file finds its architecture (`--arch`)."""
    return f"python:benchmarks.planting:{trunk}_{classes}"


def __getattr__(name: str) -> Callable[[], nn.Module]:
    """Factories by name (PEP 562): a factory takes no arguments, so its name says them."""
    found = re.fullmatch(rf"({'|'.join(WIDTHS)})_(\d{{1,3}})", name)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return functools.partial(_network, found[1], int(found[2]), 0)


def _network(trunk: str, classes: int, seed: int) -> PlantedNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PlantedNetwork(trunk, classes)


@torch.no_grad()
def _run(
    net: PlantedNetwork, act: Callable[[Tensor], Tensor], pictures: Iterator[NDArray[np.uint8]]
) -> Tensor:
    """Rows that `act` makes of normalised pictures, 32 at a time."""
    rows: list[Tensor] = []
    while batch := list(islice(pictures, 32)):
        x = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float() / 255
        rows.append(act(net.preprocess.normalise(x).contiguous(memory_format=torch.channels_last)))
    return torch.cat(rows)


def train(plan: Plan, photos: Split) -> PlantedNetwork:
    """A head trained on features that are computed once, in evaluation mode, frozen."""
    net = _network(plan.trunk, len(plan.classes), plan.seed)
    hardware.laid_out(net).eval()
    shots = training(plan, photos)
    features = _run(net, net.features, (render(shot, plan, photos) for shot in shots))
    labels = torch.tensor([shot.label for shot in shots])
    learner = nn.Sequential(net.norm, net.head).train()
    order = torch.Generator().manual_seed(plan.seed)
    batch = min(64, len(labels))
    optimiser = torch.optim.AdamW(learner.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RATE, total_steps=EPOCHS * (len(labels) // batch)
    )
    loss = nn.CrossEntropyLoss(label_smoothing=0.05)
    for _ in range(EPOCHS):
        shuffled = torch.randperm(len(labels), generator=order)[: len(labels) // batch * batch]
        for index in torch.split(shuffled, batch):
            optimiser.zero_grad()
            loss(learner(features[index]), labels[index]).backward()
            optimiser.step()
            schedule.step()
    return net.eval().requires_grad_(False)


# --- verification --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verified:
    """What a trained head does on audited photos without any planted concept.

    Attributes:
        accuracy: share of them that are classified rightly.
        effects: of each shortcut, how far its concept, put on photos of the other classes, raises
            the probability of its class (as `auditor.lab.training.learned`), in [-1, 1].
    """

    accuracy: Estimate
    effects: tuple[Estimate, ...]


def verified(net: PlantedNetwork, plan: Plan, photos: Split, *, per_class: int = 12) -> Verified:
    """Accuracy on plain audited photos, and whether each shortcut was learned."""
    rng = np.random.default_rng([plan.seed, PAIRS])
    plain = [
        Shot(path, label, PAIRS, 1000 * label + n)
        for label, paths in enumerate(photos.audited)
        for n, path in enumerate(paths[:per_class])
    ]
    labels = np.array([shot.label for shot in plain])

    def probabilities(*concepts: str) -> NDArray[np.float64]:
        shots = (dataclasses.replace(shot, concepts=concepts) for shot in plain)
        rows = _run(net, net, (render(shot, plan, photos) for shot in shots))
        return rows.double().softmax(1).numpy()

    before = probabilities()
    after = {concept: probabilities(concept) for concept in plan.owners}
    effects = []
    for shortcut in plan.shortcuts:
        index = shortcut.class_index
        change = (after[shortcut.concept] - before)[labels != index, index]
        effects.append(mean_estimate(change, 999, rng))
    right = int((before.argmax(1) == labels).sum())
    return Verified(proportion(right, len(labels)), tuple(effects))


# --- one classifier ------------------------------------------------------------------------------


def equip(folder: Path, plan: Plan, data: Path) -> AuditConfig:
    """A classifier with its photos and pool as files, and how to audit them.

    What a former call finished is kept, as by `auditor.lab.example.equip`.
    """
    photos = split(data, plan.classes, plan.seed)
    model_file = folder / "model.safetensors"
    if not model_file.exists():
        net = train(plan, photos)
        found = verified(net, plan, photos)
        planted = [
            {**dataclasses.asdict(shortcut), "learned": effect.model_dump()}
            for shortcut, effect in zip(plan.shortcuts, found.effects, strict=True)
        ]
        text = json.dumps(planted, indent=1)
        write_atomically(folder / "planted.json", f"{text}\n".encode())
        write_atomically(folder / "accuracy.json", found.accuracy.model_dump_json().encode())
        loading.save(model_file, net, net.preprocess, plan.classes)
    if not (folder / "photos.done").exists():
        for shot in (*audited(plan, photos), *pool(plan, photos)):
            where = Path("pool") if shot.label is None else Path("images") / str(shot.label)
            picture = Image.fromarray(render(shot, plan, photos))
            write_atomically(folder / where / f"{shot.number:04d}.png", encoded_png(picture))
        write_atomically(folder / "photos.done", b"")
    return AuditConfig(
        model=ModelConfig(spec=f"file:{model_file}", arch=factory(plan.trunk, len(plan.classes))),
        images=str(folder / "images"),
        labels="index",
        pool=str(folder / "pool"),
        out=str(folder / "audit"),
        planted=str(folder / "planted.json"),
        prototypes=PrototypeConfig(per_class=3, steps=192),
        seed=plan.seed,
        pdf="no",
    )


def jobs(half: str) -> Iterator[Job[Plan]]:
    """The classifiers of a half, the telling ones first."""

    def planted(name: str, trunk: str, seed: int, families: tuple[str, ...]) -> Job[Plan]:
        return Job(f"planted {name}", half, planned(seed, trunk, (0.95,) * 6, families=families))

    mobile, squeeze, lite = WIDTHS
    if half == "development":
        yield planted("mobilenet 0", mobile, 5000, FIRST)
        yield Job("clean mobilenet 0", half, planned(5100, mobile))
        yield planted("squeezenet 0", squeeze, 5001, FIRST)
        yield planted("mobilenet 1", mobile, 6000, SECOND)
        yield planted("squeezenet 1", squeeze, 6010, SECOND)
        for k in range(2):
            yield planted(f"mobilenet {2 + k}", mobile, 7000 + k, FOURTH)
            yield planted(f"squeezenet {2 + k}", squeeze, 7010 + k, FOURTH)
        return
    for k in range(2):
        yield planted(f"mobilenet {k}", mobile, 8000 + k, DRAWN)
        yield planted(f"squeezenet {k}", squeeze, 8010 + k, DRAWN)
    yield Job("clean mobilenet 0", half, planned(8100, mobile))
    yield planted("efficientnet 0", lite, 8030, DRAWN)
    many = planned(8020, mobile, (0.95,) * 3, families=DRAWN, classes=45, n_train=64)
    yield Job("3 of 45 classes", half, many)


def run(job: Job[Plan], data: Path, cache: Path) -> dict[str, Any]:
    """Train, audit and score one classifier, and rank its planted concepts by the baselines."""
    start = time.perf_counter()
    folder = cache / "models" / f"photos-{job.plan.digest[:16]}"
    config = equip(folder, job.plan, data)
    trained = time.perf_counter()
    audit = runner.run(config, progress=Silent())
    seconds = time.perf_counter() - trained
    outcome = scoring.score(audit, job.plan)  # type: ignore[arg-type]
    shots = pool(job.plan, split(data, job.plan.classes, job.plan.seed))
    shown = {c: np.array([c in shot.concepts for shot in shots]) for c in job.plan.owners}
    places = baselines(audit, config, shown) if outcome.pairs else []
    return {
        "job": job.name,
        "half": job.half,
        "training_seconds": round(trained - start, 1),
        "accuracy": json.loads((folder / "accuracy.json").read_text()),
        "outcome": _plain(dataclasses.replace(outcome, seconds=round(seconds, 1))),
        "baselines": places,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--half", choices=["development", "held-out"], default="development")
    parser.add_argument("--cache", type=Path, default=Path("out/detection"))
    parser.add_argument("--label", default="study")
    parser.add_argument("--only", default="", help="jobs whose name starts with this")
    given = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["AUDITOR_DATA"] = str(given.data.resolve())
    results = given.cache / f"{given.label}-photos.jsonl"
    for job in unfinished(jobs(given.half), results, given.only):
        row = run(job, given.data, given.cache)
        keep(row, results)
        outcome = row["outcome"]
        print(f"{job.name}: accuracy {row['accuracy']['value']:.2f},", end=" ")
        print(f"{row['training_seconds']} s and {outcome['seconds']} s", flush=True)
        for pair in outcome["pairs"]:
            effect = pair["effect"]
            print(
                f"  {pair['concept']:<18} in {job.plan.classes[pair['class_index']]:<24}", end=" "
            )
            print(f"effect {effect['value']:.2f} ({effect['low']:.2f})", end=" ")
            print(f"rank {pair['rank']} {pair['grade']} {pair['alike']}", flush=True)
        for alarm in outcome["alarms"]:
            index = alarm["class_index"]
            print(f"  alarm: {alarm['concept']} in {job.plan.classes[index]}: {alarm['grade']}")


if __name__ == "__main__":
    main()
