"""Engines: they compute the tasks of a stage and store the results on disk.

A stage of the audit is divided into tasks. A task is a small object that can be pickled. It says
what its result depends on (its key), and it computes the result with the model, the probe and the
photos of a `Worker`. An engine computes each task once; when the same task comes again, also in a
later run, the engine reads the stored result.

A task does not hold the model or the photos. So it can be computed in this process, or in another
one that has loaded its own worker. Stages hand their tasks to the method `map` of an engine.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.concepts.probes import ProbeModel
from auditor.core.storage import Arrays, Work
from auditor.errors import first_line
from auditor.images.image_set import ImageSet
from auditor.models import hardware
from auditor.models.layers import Layers
from auditor.models.loading import Classifier
from auditor.pipeline.progress import Step, Watch

Made = TypeVar("Made")

logger = logging.getLogger(__name__)

AHEAD = 2  # tasks for each GPU that are begun before the results of earlier ones are used

__all__ = ["Engine", "InProcess", "Shapes", "Task", "Worker", "joined", "lineage"]


@dataclass(frozen=True)
class Worker:
    """The model, probe and photos that tasks need.

    Attributes:
        classifier: the audited model.
        layers: where its activations are read.
        probe: the CLIP model that looks for concepts in photos.
        photos: sets of photos by the name of their source: "images" (the audited photos), "pool",
            and "concept NAME" for each concept that the user gave example photos of.
        batch: images per forward pass.
        seed: of the audit.
        device_type: the kind of device that tasks are computed on, where another machine computes
            them; empty where that is the device of this model.
    """

    classifier: Classifier
    layers: Layers
    probe: ProbeModel
    photos: Mapping[str, ImageSet]
    batch: int
    seed: int
    device_type: str = ""
    _last: dict[str, tuple[object, Any]] = field(default_factory=dict, repr=False, compare=False)

    def on(self, device: torch.device) -> Worker | None:
        """A worker with copies of the model and the probe on another device.

        `None` if the network cannot be copied.
        """
        net = hardware.copied(self.classifier.net)
        if net is None:
            return None
        classifier = dataclasses.replace(self.classifier, net=net.to(device))
        probe = self.probe.on(device)
        return dataclasses.replace(self, classifier=classifier, probe=probe, _last={})

    @functools.cached_property
    def model_key(self) -> list[Any]:
        """The part of a task's key that stands for the model, its input and its device."""
        return [
            self.classifier.digest,
            self.classifier.output,
            self.input_key,
            list(self.layers.path),
            self.layers.features,
            self._device_kind,
        ]

    @property
    def probe_key(self) -> list[str]:
        """The part of a task's key that stands for the probe and its device."""
        return [self.probe.digest, self._device_kind]

    @property
    def _device_kind(self) -> str:
        """The kind of device that tasks are computed on; results on others round otherwise."""
        return self.device_type or self.device.type

    @property
    def input_key(self) -> list[str]:
        """The part of a task's key that stands for how photos are turned into model inputs."""
        return [str(value) for value in dataclasses.astuple(self.classifier.preprocess)]

    @property
    def device(self) -> torch.device:
        """The device of the model's parameters."""
        return next(iter(self.classifier.net.parameters())).device

    def inputs(self, source: str, rows: Sequence[int]) -> Tensor:
        """Photos in the size of the model's input, before its normalisation.

        Args:
            source: name of the set of photos.
            rows: positions of the n photos in that set.

        Returns:
            Float tensor of shape (n, 3, H, W) in [0, 1].
        """

        def made() -> Tensor:
            photos = self.photos[source].subset(rows)
            fit = self.classifier.preprocess.fit
            return torch.cat(list(photos.batches(fit, size=self.batch)))

        return self.remembered("inputs", (source, tuple(rows)), made)

    def remembered(self, kind: str, what: object, make: Callable[[], Made]) -> Made:
        """A cache that keeps the last value of each kind: many tasks in a row need the same one.

        Args:
            kind: name of the kind of value.
            what: says which value of this kind is wanted; compared with `==`.
            make: called to make it, where the last one of this kind was another.
        """
        if self._last.get(kind, (None,))[0] != what:
            self._last.pop(kind, None)  # the memory of one is enough
            self._last[kind] = what, make()
        made: Made = self._last[kind][1]
        return made

    def known(self, kind: str, what: object) -> Any | None:
        """The value that `remembered` would give without making it, or `None`."""
        last, value = self._last.get(kind, (None, None))
        return value if last == what else None


@dataclass(frozen=True)
class Shapes:
    """A check that stored arrays can be the result of a task.

    Attributes:
        wanted: for each array's name, the letter of its NumPy kind ("f" float, "i" and "u" integer,
            "b" bool) and the lengths of its first axes. Further axes may have any length.
    """

    wanted: Mapping[str, tuple[str | int, ...]]

    def __call__(self, arrays: Arrays) -> bool:
        """Whether these are the names, kinds and lengths, and all floats are finite."""
        return arrays.keys() == self.wanted.keys() and all(
            (values.dtype.kind, *values.shape)[: len(self.wanted[name])] == self.wanted[name]
            and (values.dtype.kind != "f" or bool(np.isfinite(values).all()))
            for name, values in arrays.items()
        )


class Task(Protocol):
    """One part of a stage, which can be pickled and computed anywhere.

    Attributes:
        stage: name of the kind of task, and of the folder that its results are stored in.
        version: version of the code that computes it. Raise it when a change of code changes
            results, so that stored results of the old code are not used.
        after: the kinds of task that give what this one starts from. When their version changes,
            this task is computed again too.
    """

    stage: ClassVar[str]
    version: ClassVar[int]
    after: ClassVar[tuple[type[Task], ...]]

    @property
    def size(self) -> int:
        """Number of steps, as progress counts them."""
        ...

    def key(self, worker: Worker) -> list[Any]:
        """What the result depends on besides the code, as values that JSON can hold."""
        ...

    def shapes(self, worker: Worker) -> Shapes:
        """The names, kinds and lengths that the arrays of the result must have."""
        ...

    def compute(self, worker: Worker, step: Step) -> Mapping[str, Any]:
        """Compute the result: arrays by name. `step` is called with the number of steps done."""
        ...


class Engine(Protocol):
    """Computes tasks and stores their results."""

    @property
    def worker(self) -> Worker:
        """The model, probe and photos of this process, which the keys of tasks are made of."""
        ...

    @property
    def watch(self) -> Watch:
        """Is told of the stages and their progress."""
        ...

    @property
    def store(self) -> Work:
        """The folder that results are stored in."""
        ...

    @property
    def device(self) -> str:
        """The device that tasks are computed on, in words."""
        ...

    def map(self, stage: str, tasks: Sequence[Task]) -> Iterator[Arrays]:
        """Give the result of each task, in order, while progress shows them as one stage."""
        ...


class Stopped(Exception):  # noqa: N818 - no error: nobody waits for the result any more
    """Ends a task of an engine that was interrupted."""


@dataclass(frozen=True)
class InProcess:
    """The engine that computes tasks in this process: one after the other, or one on each GPU.

    Attributes:
        worker: the model, probe and photos.
        store: the folder of results.
        watch: is told of the stages and their progress.
        peers: workers with copies of the model and probe on other GPUs of this machine.
    """

    worker: Worker
    store: Work
    watch: Watch
    peers: Sequence[Worker] = ()

    @property
    def device(self) -> str:
        """The device of the model, in words."""
        own = hardware.describe(self.worker.device)
        return f"{1 + len(self.peers)} x {own}" if self.peers else own

    def map(self, stage: str, tasks: Sequence[Task]) -> Iterator[Arrays]:
        """Give the result of each task, in order. A stored result is read, not computed."""
        with self.watch.stage(stage, sum(task.size for task in tasks)) as step:
            count = _Count(len(tasks), step)
            if not self.peers:  # no thread, in which glibc gives memory back again and again
                for place, task in enumerate(tasks):
                    yield self._result(task, self.worker, count.of(place))
                    count.of(place)(task.size)
                return
            yield from self._beside(tasks, count)

    @staticmethod
    def on_all_devices(worker: Worker, store: Work, watch: Watch, *, device: str) -> InProcess:
        """An engine with all GPUs, if `device`, as in the settings, leaves open which."""
        found = []
        for each in hardware.peers(hardware.choose_device(device))[1:]:
            try:
                peer, why = worker.on(each), "the model cannot be copied"
            except RuntimeError as error:  # others may use that GPU
                peer, why = None, first_line(error)
            if peer is None:
                logger.warning("The device %s is not used: %s.", each, why)
            else:
                found.append(peer)
        return InProcess(worker, store, watch, found)

    def _beside(self, tasks: Sequence[Task], count: _Count) -> Iterator[Arrays]:
        """The same on all devices; only few results wait in memory for their turn."""
        free: SimpleQueue[Worker] = SimpleQueue()
        for worker in (self.worker, *self.peers):
            free.put(worker)

        def result(place: int) -> Arrays:
            worker = free.get()
            try:
                return self._result(tasks[place], worker, count.of(place))
            finally:
                free.put(worker)

        devices = 1 + len(self.peers)
        pool = ThreadPoolExecutor(devices)
        begun: deque[Future[Arrays]] = deque()
        coming = iter(range(len(tasks)))
        try:
            for place, task in enumerate(tasks):
                for later in itertools.islice(coming, AHEAD * devices - len(begun)):
                    begun.append(pool.submit(result, later))
                yield begun.popleft().result()
                count.of(place)(task.size)
        finally:
            count.stopped = True
            pool.shutdown(cancel_futures=True)

    def path(self, task: Task) -> Path:
        """The file of a task's result."""
        return self.store.path(task.stage, self._key(task))

    def _key(self, task: Task) -> list[Any]:
        """Everything that a result depends on: versions of the code, and the task's own key."""
        return [lineage(type(task)), task.key(self.worker)]

    def _result(self, task: Task, worker: Worker, step: Step) -> Arrays:
        """Read a result, or compute it with a worker, and tell its own steps."""
        return self.store.arrays(
            task.stage,
            self._key(task),
            lambda: task.compute(worker, step),
            fits=task.shapes(self.worker),
        )


class _Count:
    """Adds up the steps of several tasks."""

    def __init__(self, tasks: int, tell: Step) -> None:
        self.done, self.tell, self.stopped = [0] * tasks, tell, False

    def of(self, place: int) -> Step:
        """What is to be told of the steps of one task."""

        def step(done: int) -> None:
            if self.stopped:
                raise Stopped
            self.done[place] = done
            self.tell(sum(self.done))

        return step


def lineage(kind: type[Task]) -> list[Any]:
    """The version of a kind of task, with the lineage of each kind that it comes after."""
    return [kind.stage, kind.version, [lineage(earlier) for earlier in kind.after]]


def joined(parts: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    """The results of several tasks, each array concatenated along its first axis."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
