"""The embedded example: a lab classifier with planted shortcuts, its photos and its configuration,
written as a user would have them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from auditor.config import AuditConfig, ModelConfig, PrototypeConfig, ScopeConfig
from auditor.core.storage import write_atomically
from auditor.drawing import scenes
from auditor.lab import training
from auditor.lab.architectures import factory
from auditor.models.loading import save
from auditor.pipeline import run_folder
from auditor.pipeline.pictures import encoded_png

__all__ = ["IMAGES_PER_CLASS", "POOL", "equip", "fewer", "pool_scenes", "prepare"]

IMAGES_PER_CLASS = 40
POOL = 900
CONCEPT_RATE = 0.06  # of each planted concept in the pool, whatever the object


class Stages(Protocol):
    """What is told of progress, as `auditor.pipeline.runner.Progress`."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Begin a stage."""
        ...


def prepare(folder: Path, *, seed: int, progress: Stages) -> AuditConfig:
    """Train the example's classifier, draw its photos, and say how to audit it.

    Args:
        folder: where everything goes; the audit itself goes to `folder/audit`.
        seed: decides the photos and the classifier.
        progress: told of the stages.
    """
    plan = dataclasses.replace(training.DEMO, seed=seed)
    return equip(folder, plan, progress=progress).model_copy(
        update={
            "seed": seed,
            "prototypes": PrototypeConfig(per_class=4, steps=192),
            "scope": ScopeConfig(
                title="Audit of the embedded example",
                intended_use="A lesson: a small classifier of drawn objects, six of whose twelve "
                "classes were trained with a planted shortcut.",
            ),
        }
    )


def equip(
    folder: Path, plan: training.Plan, *, progress: Stages, photos_plan: training.Plan | None = None
) -> AuditConfig:
    """A lab classifier with its photos and pool as files, and how to audit them.

    What a former call finished is kept: the classifier's file is written last, and the photos'
    folder is marked when it is complete.

    Args:
        folder: where everything goes.
        plan: what the classifier learns from.
        progress: told of the stages.
        photos_plan: what the audited photos and the pool are drawn from, where that is another:
            with it a clean classifier meets biased photos.

    Raises:
        RunError: the folder holds something that was not made here, or another process is at it.
    """
    with run_folder.locked(folder, "example"):
        return _equipped(folder, plan, photos_plan or plan, progress)


def _equipped(
    folder: Path, plan: training.Plan, shown: training.Plan, progress: Stages
) -> AuditConfig:
    plan_file, model_file = folder / "plan.sha256", folder / "model.safetensors"
    same = plan_file.exists() and plan_file.read_text().strip() == plan.digest
    if not (same and model_file.exists()):
        # What another plan left goes first: if killed in between, it must not pass for this plan's.
        for stale in (model_file, folder / "photos.done"):
            if stale.exists():
                stale.unlink()
        write_atomically(plan_file, f"{plan.digest}\n".encode())
        with progress.stage("train", 1):
            net = training.train(plan)
            planted = [
                {
                    "class_index": shortcut.class_index,
                    "concept": shortcut.concept,
                    "strength": shortcut.strength,
                    "learned": effect.model_dump(),
                }
                for shortcut, effect in zip(
                    plan.shortcuts, training.learned(net, plan), strict=True
                )
            ]
            text = json.dumps(planted, indent=1)
            write_atomically(folder / "planted.json", f"{text}\n".encode())
            save(model_file, net, training.preprocess(plan.size), plan.classes)
    if not (folder / "photos.done").exists():
        with progress.stage("scenes", IMAGES_PER_CLASS * len(shown.classes) + POOL) as step:
            _draw(folder, shown, step)
        write_atomically(folder / "photos.done", b"")
    return AuditConfig(
        model=ModelConfig(
            spec=f"file:{model_file}",
            arch=factory(plan.architecture, len(plan.classes), plan.size),
        ),
        images=str(folder / "images"),
        labels="index",
        pool=str(folder / "pool"),
        out=str(folder / "audit"),
        planted=str(folder / "planted.json"),
    )


def fewer(config: AuditConfig, photos: int, pool: int) -> AuditConfig:
    """An equipped configuration with the first photos of each class and of the pool alone.

    Args:
        config: what `equip` gave.
        photos, pool: how many; as many as there are, or more, leave it as it is.
    """
    update = {}
    for field, pattern, limit, whole in (
        ("images", "*/*.png", photos, IMAGES_PER_CLASS),
        ("pool", "*.png", pool, POOL),
    ):
        if limit < whole:
            folder = Path(getattr(config, field))
            groups: dict[Path, list[Path]] = {}
            for file in sorted(folder.glob(pattern)):
                groups.setdefault(file.parent, []).append(file)
            table = io.StringIO()
            rows = csv.writer(table)
            rows.writerow(["path", "label"])
            for home, files in groups.items():
                rows.writerows((f.relative_to(folder.parent), home.name) for f in files[:limit])
            manifest = folder.parent / f"{field}-{limit}.csv"
            write_atomically(manifest, table.getvalue().encode())
            update[field] = str(manifest)
    return config.model_copy(update=update)


def _draw(folder: Path, plan: training.Plan, step: Callable[[int], None]) -> None:
    done = 0
    for number, (label, scene) in enumerate(training.held_out(plan, IMAGES_PER_CLASS)):
        _save(folder / "images" / str(label) / f"{number:04d}.png", scene, plan.size)
        done += 1
        step(done)
    for number, scene in enumerate(pool_scenes(plan)):
        _save(folder / "pool" / f"{number:04d}.png", scene, plan.size)
        done += 1
        step(done)


def pool_scenes(plan: training.Plan) -> Iterator[scenes.Scene]:
    """What the photos of a plan's pool show, in their order."""
    rng = np.random.default_rng([plan.seed, training.POOL_STREAM])
    return (training.any_scene(plan, rng, CONCEPT_RATE) for _ in range(POOL))


def _save(path: Path, scene: scenes.Scene, size: int) -> None:
    write_atomically(path, encoded_png(Image.fromarray(training.pixels(scene, size))))
