"""The stage of generation: prototypes, and what the model and the probe see in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.core.storage import Arrays
from auditor.models import hardware
from auditor.models.activations import Activations, collect
from auditor.pipeline.engine import Engine, Worker, joined
from auditor.pipeline.inputs import Inputs
from auditor.pipeline.observing import Observed
from auditor.pipeline.tasks import FindRegions, GeneratePrototypes
from auditor.prototypes import parameterisations
from auditor.prototypes.constraints import (
    LEAST_PHOTOS,
    Constraints,
    gather,
    known_labels,
    least_left,
)
from auditor.prototypes.generation import MODES, Mode, Prototypes, Recipe
from auditor.prototypes.isolation import Regions

__all__ = [
    "Generated",
    "Plan",
    "generate",
    "make",
    "parameterisation_of",
    "planned",
    "prototype_mode",
    "prototype_tasks",
]


@dataclass(frozen=True)
class Plan:
    """Which prototypes are made, and how.

    Attributes:
        items: pairs of class and seed.
        recipe: the mode and its settings.
        constraints: what images are held to.
    """

    items: Sequence[tuple[int, int]]
    recipe: Recipe
    constraints: Constraints


@dataclass(frozen=True)
class Generated:
    """Prototypes, and what is seen in them.

    Attributes:
        recipe: how they were made.
        constraints: what they were held to.
        prototypes: the images.
        activations: of the images, in every layer.
        rows: float array of shape (n, e), the probe's unit rows of the images.
        regions: those that carry the class, or `None`.
    """

    recipe: Recipe
    constraints: Constraints
    prototypes: Prototypes
    activations: Activations
    rows: NDArray[np.float32]
    regions: Regions | None

    @property
    def owners(self) -> NDArray[np.int64]:
        """The class of each prototype, int array of shape (n,)."""
        return np.array(self.prototypes.class_indices)

    def of_class(self, index: int) -> list[int]:
        """Positions of a class's prototypes."""
        return [int(place) for place in np.flatnonzero(self.owners == index)]

    def best_of(self, index: int) -> int:
        """Position of the most probable prototype of a class."""
        own = self.of_class(index)
        return own[int(self.prototypes.probabilities[own].argmax())]


def generate(inputs: Inputs, observed: Observed, engine: Engine) -> Generated:
    """Make prototypes of every audited class."""
    plan = planned(inputs, observed.pool.activations, observed.pool.on_path, engine)
    made = make(plan, inputs.worker, engine, batch=inputs.config.prototypes.batch)
    with engine.watch.stage("seen prototypes"):
        size = inputs.config.batch
        seen = collect(inputs.classifier, inputs.layers, made.batches(size))
        rows = [inputs.probe.encode_images(part).cpu().numpy() for part in made.batches(size)]
    regions = _regions(made, inputs, engine) if inputs.config.prototypes.isolate else None
    return Generated(plan.recipe, plan.constraints, made, seen, np.concatenate(rows), regions)


def planned(
    inputs: Inputs, pooled: Activations, generic: NDArray[np.bool_], engine: Engine
) -> Plan:
    """Which prototypes are made, and how.

    Args:
        inputs: the audit's.
        pooled: activations of the pool.
        generic: bool array of shape (n,), photos of the pool that prototypes may be held to.
        engine: told of the stage.
    """
    config, settings = inputs.config, inputs.config.prototypes
    known = known_labels(inputs.images, inputs.pool, np.flatnonzero(generic))
    mode = prototype_mode(settings.mode, least_left(known, inputs.classes))
    recipe = Recipe(
        mode=mode,
        parameterisation=parameterisation_of(settings.parameterisation, mode),
        steps=settings.steps,
        early=settings.early,
        diversity=settings.diversity,
        patch=settings.patch,
        compile=settings.compile,
    )
    with engine.watch.stage("constraints"):
        constraints = gather(
            mode, inputs.classifier, inputs.layers, inputs.classes, images=inputs.images,
            pool=inputs.pool, pooled=pooled, generic=generic,
            batch=config.batch, seed=config.seed,
        )  # fmt: skip
    items = [(c, config.seed + k) for c in inputs.classes for k in range(settings.per_class)]
    return Plan(items, recipe, constraints)


def make(plan: Plan, worker: Worker, engine: Engine, *, batch: int | None) -> Prototypes:
    """Prototypes of all pairs of a plan, the seeds of a class side by side.

    Args:
        plan: the pairs, and how they are made.
        worker: the model.
        engine: computes them in batches, which are kept.
        batch: images at once, and kept together; by default what memory serves best.
    """
    items, tasks = plan.items, prototype_tasks(plan, worker, batch=batch)
    # they need not fit in memory together
    images = engine.store.scratch((len(items), *worker.classifier.preprocess.size, 3), np.uint8)
    parts: list[Arrays] = []
    done = 0
    for task, part in zip(tasks, engine.map("prototypes", tasks), strict=True):
        images[done : done + len(task.items)] = part.pop("images")
        done += len(task.items)
        parts.append(part)
    rest = joined(parts)
    return Prototypes(
        images=images,
        class_indices=tuple(c for c, _ in items),
        seeds=tuple(seed for _, seed in items),
        probabilities=rest["probabilities"],
        traces=rest["traces"],
        steps=tuple(int(n) for n in rest["steps"]),
    )


def prototype_tasks(plan: Plan, worker: Worker, *, batch: int | None) -> list[GeneratePrototypes]:
    """What `make` is divided into."""
    return [
        GeneratePrototypes(part, plan.recipe, plan.constraints.of({c for c, _ in part}), batch)
        for part in _batches(plan.items, plan.recipe, worker, batch)
    ]


def _batches(
    items: Sequence[tuple[int, int]], recipe: Recipe, worker: Worker, batch: int | None
) -> Iterator[tuple[tuple[int, int], ...]]:
    """Items that are made, and kept, together."""
    peers = len(hardware.peers(worker.device))
    size = batch or 2 * hardware.images_at_once(worker.classifier) * peers
    if recipe.diversity:  # the seeds of a class stay together
        per_class = max(1, sum(item[0] == items[0][0] for item in items))
        size = -(-size // per_class) * per_class
    for start in range(0, len(items), size):
        yield tuple(items[start : start + size])


def _regions(made: Prototypes, inputs: Inputs, engine: Engine) -> Regions:
    """The regions of prototypes that carry their class."""
    size = inputs.worker.batch
    tasks = [
        FindRegions(made.images[k : k + size], made.class_indices[k : k + size])
        for k in range(0, len(made.images), size)
    ]
    return Regions(**joined(list(engine.map("isolation", tasks))))


def prototype_mode(wanted: str, photos: int) -> Mode:
    """The mode of prototypes: `auto` takes photos where there are enough of them."""
    if wanted == "auto":
        return "natural" if photos >= LEAST_PHOTOS else "data-free"
    return next(mode for mode in MODES if mode == wanted)


def parameterisation_of(wanted: str, mode: Mode) -> parameterisations.Name:
    """The parameterisation of images: `auto` takes pixels for mode `paper`, else Fourier."""
    if wanted == "auto":
        return "pixel" if mode == "paper" else "fourier"
    return next(name for name in parameterisations.NAMES if name == wanted)
