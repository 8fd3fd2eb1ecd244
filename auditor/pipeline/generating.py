"""The stage of generation: makes prototypes and runs them through the model and the probe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.config import AuditConfig
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


# Steps where none are set. With 128, concepts are named as well and prototypes are somewhat less
# natural (docs/notes/prototypes.md), which a thousand classes are not worth twice the time.
STEPS, STEPS_OF_MANY = 256, 128
FEW = 300  # prototypes


@dataclass(frozen=True)
class Plan:
    """Which prototypes are made, and how.

    Attributes:
        items: a pair (class index, seed) for each prototype.
        recipe: the mode and its settings.
        constraints: what the images are held to.
    """

    items: Sequence[tuple[int, int]]
    recipe: Recipe
    constraints: Constraints


@dataclass(frozen=True)
class Generated:
    """The n prototypes, with what the model and the probe make of them.

    Attributes:
        recipe: how they were made.
        constraints: what they were held to.
        prototypes: the images, with their classes and seeds.
        activations: the model's activations of the images, in every layer.
        rows: float array of shape (n, e), the probe's unit vector of each image.
        regions: the part of each image that makes the model see the class; `None` if the setting
            `prototypes.isolate` is off.
    """

    recipe: Recipe
    constraints: Constraints
    prototypes: Prototypes
    activations: Activations
    rows: NDArray[np.float32]
    regions: Regions | None

    @property
    def owners(self) -> NDArray[np.int64]:
        """The class index of each prototype, int array of shape (n,)."""
        return np.array(self.prototypes.class_indices)

    def of_class(self, index: int) -> list[int]:
        """Positions of the prototypes of the class with this index."""
        return [int(place) for place in np.flatnonzero(self.owners == index)]

    def best_of(self, index: int) -> int:
        """Position of the prototype of a class that the model gives the highest probability."""
        own = self.of_class(index)
        return own[int(self.prototypes.probabilities[own].argmax())]


def generate(inputs: Inputs, observed: Observed, engine: Engine) -> Generated:
    """Make prototypes of every audited class, and observe them."""
    plan = planned(inputs, observed.pool.activations, observed.pool.on_path, engine)
    made = make(plan, inputs.worker, engine, inputs.config)
    with engine.watch.stage("seen prototypes"):
        size = inputs.config.batch
        parts = (collect(inputs.classifier, inputs.layers, [part]) for part in made.batches(size))
        seen = Activations.joined(parts, len(made.images), len(made.images), engine.store.scratch)
        rows = [inputs.probe.encode_images(part).cpu().numpy() for part in made.batches(size)]
    regions = _regions(made, inputs, engine) if inputs.config.prototypes.isolate else None
    return Generated(plan.recipe, plan.constraints, made, seen, np.concatenate(rows), regions)


def planned(
    inputs: Inputs, pooled: Activations, generic: NDArray[np.bool_], engine: Engine
) -> Plan:
    """Decide which prototypes are made, and how.

    Args:
        inputs: of the audit.
        pooled: the model's activations of the n photos of the pool.
        generic: bool array of shape (n,), the photos of the pool that prototypes may be held to.
        engine: its progress is told of the stage; it computes nothing here.
    """
    config, settings = inputs.config, inputs.config.prototypes
    items = [(c, config.seed + k) for c in inputs.classes for k in range(settings.per_class)]
    known = known_labels(inputs.images, inputs.pool, np.flatnonzero(generic))
    mode = prototype_mode(settings.mode, least_left(known, inputs.classes))
    recipe = Recipe(
        mode=mode,
        parameterisation=parameterisation_of(settings.parameterisation, mode),
        steps=settings.steps or (STEPS if len(items) <= FEW else STEPS_OF_MANY),
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
    return Plan(items, recipe, constraints)


def make(plan: Plan, worker: Worker, engine: Engine, config: AuditConfig) -> Prototypes:
    """Make the prototypes of all pairs of a plan, in the order of the plan.

    Args:
        plan: the pairs, and how they are made.
        worker: holds the model.
        engine: computes the tasks, and stores the images of each.
        config: says how many images one task stores, see `prototype_tasks`.
    """
    items, tasks = plan.items, prototype_tasks(plan, worker, config)
    # the images lie in a temporary file, because all together they may not fit in memory
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


def prototype_tasks(plan: Plan, worker: Worker, config: AuditConfig) -> list[GeneratePrototypes]:
    """The tasks that `make` consists of.

    The setting `prototypes.batch` is the number of images that a task stores, and optimises at
    once. By default a task stores twice as many as it optimises at once, for when an image is
    finished, the next one takes its place; and so few that each GPU has a task.
    """
    items, batch = plan.items, config.prototypes.batch
    devices = len(hardware.peers(hardware.choose_device(config.device)))
    each = -(-len(items) // devices)  # rounded up
    size = batch or min(each, 2 * hardware.images_at_once(worker.classifier))
    return [
        GeneratePrototypes(part, plan.recipe, plan.constraints.of({c for c, _ in part}), batch)
        for part in _parts(items, plan.recipe, size)
    ]


def _parts(
    items: Sequence[tuple[int, int]], recipe: Recipe, size: int
) -> Iterator[tuple[tuple[int, int], ...]]:
    """Divide the pairs into parts of about a size, one for each task."""
    if recipe.diversity:  # all seeds of a class must be in one task: round up to whole classes
        per_class = max(1, sum(item[0] == items[0][0] for item in items))
        size = -(-size // per_class) * per_class
    for start in range(0, len(items), size):
        yield tuple(items[start : start + size])


def _regions(made: Prototypes, inputs: Inputs, engine: Engine) -> Regions:
    """The part of each prototype that makes the model see its class."""
    size = inputs.worker.batch
    tasks = [
        FindRegions(made.images[k : k + size], made.class_indices[k : k + size])
        for k in range(0, len(made.images), size)
    ]
    return Regions(**joined(list(engine.map("isolation", tasks))))


def prototype_mode(wanted: str, photos: int) -> Mode:
    """The mode of prototypes.

    Args:
        wanted: a mode, which is taken as it is, or `auto`: `natural` if there are enough photos,
            else `data-free`.
        photos: generic photos that are left for the class with the fewest of them.
    """
    if wanted == "auto":
        return "natural" if photos >= LEAST_PHOTOS else "data-free"
    return next(mode for mode in MODES if mode == wanted)


def parameterisation_of(wanted: str, mode: Mode) -> parameterisations.Name:
    """How an image is represented while it is optimised.

    Args:
        wanted: a parameterisation, or `auto`: `pixel` for the mode `paper`, else `fourier`.
        mode: of the prototypes.
    """
    if wanted == "auto":
        return "pixel" if mode == "paper" else "fourier"
    return next(name for name in parameterisations.NAMES if name == wanted)
