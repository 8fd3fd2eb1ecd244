"""Progress of an audit: who is told of it, how long each stage took, and where memory ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from auditor.errors import ResourceError, lacks_memory

__all__ = ["Progress", "Silent", "Step", "Watch"]

Step = Callable[[int], None]


class Progress(Protocol):
    """Told of each stage and how far it is."""

    def stage(self, name: str, total: int) -> contextlib.AbstractContextManager[Step]:
        """Begin a stage of `total` steps; the function that is given takes the steps done."""
        ...


class Silent:
    """Progress that nobody watches."""

    @contextlib.contextmanager
    def stage(self, name: str, total: int) -> Iterator[Step]:
        """Say nothing."""
        yield lambda done: None


class Watch:
    """Watches stages: tells a `Progress` of them and counts their seconds."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str, total: int = 1) -> Iterator[Step]:
        """A stage of `total` steps.

        Raises:
            ResourceError: memory ended in it.
        """
        start = time.perf_counter()
        with self.progress.stage(name, total) as step:
            try:
                yield step
            except BaseException as error:  # a library in Rust raises what is no Exception
                if not lacks_memory(error):
                    raise
                raise ResourceError(
                    f"The memory ended in the stage {name!r}; set a smaller batch or "
                    "prototypes.batch, audit fewer --classes at once, or give more memory. What "
                    "is finished is kept for the next run."
                ) from None
        seconds = time.perf_counter() - start
        self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 2)
