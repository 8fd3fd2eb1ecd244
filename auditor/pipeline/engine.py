"""Engines: they compute tasks, each once, and keep what was computed.

A stage is divided into tasks. A task is a small value that can be pickled; it says what its result
depends on (its key) and computes it, with the model, the probe and the photos that a `Worker`
holds. So the same tasks can be computed in this process, or in others that load a worker of their
own. All that an engine offers is `map`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.concepts.probes import ProbeModel
from auditor.core.storage import Arrays, Work
from auditor.images.image_set import ImageSet
from auditor.models.activations import Layers
from auditor.models.loading import Classifier
from auditor.pipeline.progress import Step, Watch

__all__ = ["Engine", "InProcess", "Shapes", "Task", "Worker", "joined", "lineage"]


@dataclass(frozen=True)
class Worker:
    """What tasks are computed with.

    Attributes:
        classifier, layers: the audited model.
        probe: the CLIP probe.
        photos: by the name of the source: "images", "pool", and "concept NAME" for each concept of
            the bank that example photos show.
        batch: images per forward pass.
        seed: of the audit.
    """

    classifier: Classifier
    layers: Layers
    probe: ProbeModel
    photos: Mapping[str, ImageSet]
    batch: int
    seed: int
    _last: dict[str, tuple[object, Tensor]] = field(default_factory=dict, repr=False, compare=False)

    @functools.cached_property
    def model_key(self) -> list[Any]:
        """What every observation of this model depends on."""
        return [
            self.classifier.digest,
            self.classifier.output,
            self.input_key,
            list(self.layers.path),
            self.layers.features,
            self.device.type,
        ]

    @property
    def input_key(self) -> list[str]:
        """How photos are made inputs."""
        return [str(value) for value in dataclasses.astuple(self.classifier.preprocess)]

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(iter(self.classifier.net.parameters())).device

    def inputs(self, source: str, rows: Sequence[int]) -> Tensor:
        """Photos as the model's inputs, float tensor of shape (n, 3, H, W) in [0, 1]."""

        def made() -> Tensor:
            photos = self.photos[source].subset(rows)
            fit = self.classifier.preprocess.fit
            return torch.cat(list(photos.batches(fit, size=self.batch)))

        return self.remembered("inputs", (source, tuple(rows)), made)

    def remembered(self, kind: str, what: object, make: Callable[[], Tensor]) -> Tensor:
        """What was made last of a kind, if it is this: many tasks in a row need the same."""
        if self._last.get(kind, (None,))[0] != what:
            self._last[kind] = what, make()
        return self._last[kind][1]


@dataclass(frozen=True)
class Shapes:
    """Whether arrays can be a task's result: by name the kind of numbers and the first lengths."""

    wanted: Mapping[str, tuple[str | int, ...]]

    def __call__(self, arrays: Arrays) -> bool:
        """Whether they are."""
        return arrays.keys() == self.wanted.keys() and all(
            (values.dtype.kind, *values.shape)[: len(self.wanted[name])] == self.wanted[name]
            and (values.dtype.kind != "f" or bool(np.isfinite(values).all()))
            for name, values in arrays.items()
        )


class Task(Protocol):
    """One part of a stage, which can be pickled and computed anywhere.

    Attributes:
        stage: whose part it is, which is also where its result is kept.
        version: of the code that computes it; raised where its results change.
        after: the tasks whose results it depends on: it is computed again where their version
            changes.
    """

    stage: ClassVar[str]
    version: ClassVar[int]
    after: ClassVar[tuple[type[Task], ...]]

    @property
    def size(self) -> int:
        """Its steps, as progress counts them."""
        ...

    def key(self, worker: Worker) -> list[Any]:
        """What the result depends on beside the code, in plain values."""
        ...

    def shapes(self, worker: Worker) -> Shapes:
        """What the result must look like."""
        ...

    def compute(self, worker: Worker, step: Step) -> Mapping[str, Any]:
        """The result, as arrays by name; `step` is told of the steps done."""
        ...


class Engine(Protocol):
    """Computes tasks."""

    @property
    def watch(self) -> Watch:
        """Told of the stages."""
        ...

    @property
    def store(self) -> Work:
        """Where results are kept."""
        ...

    def map(self, stage: str, tasks: Sequence[Task]) -> Iterator[Arrays]:
        """The results of tasks, in their order, as one stage of the progress."""
        ...


@dataclass(frozen=True)
class InProcess:
    """The engine that computes in this process, one task after the other."""

    worker: Worker
    store: Work
    watch: Watch

    def map(self, stage: str, tasks: Sequence[Task]) -> Iterator[Arrays]:
        """The results of tasks, in their order; those that were kept are read."""
        with self.watch.stage(stage, sum(task.size for task in tasks)) as step:
            done = 0
            for task in tasks:
                yield self._result(task, done, step)
                done += task.size
                step(done)

    def path(self, task: Task) -> Path:
        """Where a task's result is kept."""
        return self.store.path(task.stage, self._key(task))

    def _key(self, task: Task) -> list[Any]:
        return [lineage(type(task)), task.key(self.worker)]

    def _result(self, task: Task, done: int, step: Step) -> Arrays:
        return self.store.arrays(
            task.stage,
            self._key(task),
            lambda: task.compute(self.worker, lambda n: step(done + n)),
            fits=task.shapes(self.worker),
        )


def lineage(kind: type[Task]) -> list[Any]:
    """A task's version with those of the tasks that it depends on, and so on."""
    return [kind.stage, kind.version, [lineage(earlier) for earlier in kind.after]]


def joined(parts: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    """Results of tasks put together along the first axis."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
