"""The engine that shares tasks out to the processes of a Ray cluster.

    connected(config)       the cluster that is named, or a local one for this run
    ├── Cluster.engine      `RayEngine`, which reads and writes the store in this process
    └── Crew                the workers: each is an actor that holds a model and a probe

Each worker computes one task at a time. A lost worker is replaced and its task given to whichever
is ready; restarts and retries of Ray itself are off, for a restarted actor may wait for a machine
for ever, and its task with it. Results stay in Ray's object store until their turn, and only so
many tasks are begun that they stay few.

This process waits for Python's futures, never in Ray, whose own waiting loses what a handler of a
signal raises.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from auditor.core.storage import Arrays, Work
from auditor.errors import AuditorError, ResourceError, first_line, lacks_memory
from auditor.models import hardware
from auditor.pipeline.blueprint import Blueprint
from auditor.pipeline.engine import Task, Worker, lineage
from auditor.pipeline.progress import Watch

__all__ = ["Computer", "Crew", "Job", "RayEngine"]

logger = logging.getLogger(__name__)

MOST_LOSSES = 3  # of workers with one task, or of workers that could not be built in a row
AHEAD = 4  # tasks for each worker that are begun before the results of earlier ones are used
PATIENCE = 60.0  # seconds without a worker, after which it is said


class Computer:
    """An actor: a process that holds a worker and computes tasks with it.

    Errors that a user can mend are answers, so that they come back without Ray's traceback.
    """

    def __init__(self, threads: int, path: Sequence[str]) -> None:
        sys.path += [place for place in path if place not in sys.path]  # a model's own modules
        torch.set_num_threads(threads)
        hardware.keep_freed_memory()

    def build(self, plan: Blueprint) -> AuditorError | None:
        """Load model and probe."""
        try:
            self.worker = plan.build()
        except AuditorError as error:
            return error
        return None

    def compute(self, task: Task) -> Arrays | AuditorError | MemoryError:
        """The result of a task, or why there is none."""
        try:
            made = task.compute(self.worker, lambda done: None)
            return {name: np.asarray(values) for name, values in made.items()}
        except AuditorError as error:
            return error
        except BaseException as error:  # a library in Rust raises what is no Exception
            if lacks_memory(error):
                return MemoryError(str(error))
            raise


@dataclass
class Job:
    """A task with its key; `answer` is what a worker gave, `losses` the workers lost with it."""

    task: Task
    key: list[Any]
    fits: Callable[[Arrays], bool]
    begun: bool = False
    answer: Arrays | Exception | None = None
    losses: int = 0


@dataclass
class Crew:
    """The workers, at most `limit`; they are started when there are tasks for them.

    Attributes:
        start: starts an actor; the second value comes when its worker is built.
        kill: ends an actor.
        limit: most workers.
        waiting: jobs that no worker has.
        ready: workers without a job.
        busy: workers with their job by what they will answer; without one they are being built.
        failed: workers in a row that could not be built.
    """

    start: Callable[[], tuple[Any, futures.Future[Any]]]
    kill: Callable[[Any], None]
    limit: int
    waiting: deque[Job] = field(default_factory=deque)
    ready: list[Any] = field(default_factory=list)
    busy: dict[futures.Future[Any], tuple[Any, Job | None]] = field(default_factory=dict)
    failed: int = 0

    def begin(self, job: Job) -> None:
        """Have a job computed when a worker is ready."""
        job.begun = True
        self.waiting.append(job)
        self._hand_out()

    def finish(self, job: Job, on_answer: Callable[[], None]) -> Arrays:
        """The result of a job that was begun; `on_answer` is called when any job is done.

        Raises:
            AuditorError: the task's own, or the workers with it were lost again and again.
        """
        while job.answer is None:
            done, _ = futures.wait(self.busy, PATIENCE, futures.FIRST_COMPLETED)
            if not done and all(held is None for _, held in self.busy.values()):
                logger.warning(
                    "Workers of the Ray cluster still load the model, or wait for a machine."
                )
            for future in done:
                self._take(future)
            self._hand_out()
            on_answer()
        if isinstance(job.answer, Exception):
            raise job.answer
        # a copy, for what lies in Ray's object store goes with it
        return {name: np.array(values) for name, values in job.answer.items()}

    def close(self) -> None:
        """End all workers."""
        for actor in [*self.ready, *(actor for actor, _ in self.busy.values())]:
            self.kill(actor)
        self.waiting.clear()
        self.ready.clear()
        self.busy.clear()

    def _hand_out(self) -> None:
        while self.waiting and self.ready:
            actor, job = self.ready.pop(), self.waiting.popleft()
            self.busy[actor.compute.remote(job.task).future()] = actor, job
        coming = sum(job is None for _, job in self.busy.values())
        free = self.limit - len(self.busy) - len(self.ready)
        for _ in range(min(free, len(self.waiting) - coming)):
            actor, built = self.start()
            self.busy[built] = actor, None

    def _take(self, future: futures.Future[Any]) -> None:
        """Take an answer, or the loss of who should have given it."""
        from ray.exceptions import RayError, RayTaskError

        actor, job = self.busy.pop(future)
        error = future.exception()
        if error is None:
            self.ready.append(actor)
            self._answered(job, future.result())
            return
        self.kill(actor)
        if not isinstance(error, RayError) or isinstance(error, RayTaskError):
            raise error  # a bug, with its traceback
        self._lost(job, f"{type(error).__name__}: {first_line(error)}")

    def _answered(self, job: Job | None, answer: Any) -> None:
        if job is None:
            if answer is not None:
                raise answer
            self.failed = 0
        elif isinstance(answer, Exception) or job.fits(answer):
            job.answer = answer
        else:
            self._lost(job, "its result has another shape or is not finite")

    def _lost(self, job: Job | None, why: str) -> None:
        if job is None:
            self.failed += 1
            if self.failed >= MOST_LOSSES:
                raise ResourceError(
                    f"No worker of the Ray cluster could load model and probe ({why}); see that "
                    "its machines have the same packages and enough memory."
                )
            return
        job.losses += 1
        if job.losses >= MOST_LOSSES:
            raise ResourceError(
                f"A task of {job.task.stage!r} failed on {job.losses} workers of the Ray cluster "
                f"({why}); give workers more memory or set a smaller batch. What is finished is "
                "kept for the next run."
            )
        logger.warning("A worker of the Ray cluster was lost (%s); its task is repeated.", why)
        self.waiting.appendleft(job)


@dataclass(frozen=True)
class RayEngine:
    """The engine whose tasks are computed by workers of a Ray cluster.

    Attributes:
        worker: of this process, for the keys of tasks.
        store: read and written by this process alone.
        watch: told of the stages; steps are counted when their task is done.
        crew: the workers.
    """

    worker: Worker
    store: Work
    watch: Watch
    crew: Crew

    @property
    def device(self) -> str:
        """The device of the model in this process, and that of the workers where it differs."""
        own = hardware.describe(self.worker.device)
        other = self.worker.device_type
        return own if other == self.worker.device.type else f"{other} of a Ray cluster; {own}"

    def map(self, stage: str, tasks: Sequence[Task]) -> Iterator[Arrays]:
        """The results of tasks, in their order; those that were kept are read.

        Raises:
            AuditorError: a task's own, or its workers were lost again and again.
        """
        with self.watch.stage(stage, sum(task.size for task in tasks)) as step:
            begun: deque[Job] = deque()
            coming = iter(tasks)
            done = 0

            def on_answer() -> None:
                step(done + sum(job.task.size for job in begun if job.answer is not None))

            while True:
                while len(begun) < AHEAD * self.crew.limit and (task := next(coming, None)):
                    begun.append(self._begun(task))
                if not begun:
                    return
                job = begun[0]
                arrays = self._result(job, on_answer)
                begun.popleft()
                done += job.task.size
                yield arrays
                on_answer()

    def _begun(self, task: Task) -> Job:
        """A task's job, which workers have unless its result seems to be kept."""
        job = Job(task, [lineage(type(task)), task.key(self.worker)], task.shapes(self.worker))
        if not self.store.path(task.stage, job.key).exists():
            self.crew.begin(job)
        return job

    def _result(self, job: Job, on_answer: Callable[[], None]) -> Arrays:
        def compute() -> Arrays:
            if not job.begun:  # what was kept is damaged
                self.crew.begin(job)
            return self.crew.finish(job, on_answer)

        return self.store.arrays(job.task.stage, job.key, compute, fits=job.fits)
