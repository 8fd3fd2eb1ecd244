"""Studies of many classifiers that can be stopped: JSON lines, one for each classifier."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

__all__ = ["Job", "keep", "kept", "unfinished"]


Plan = TypeVar("Plan")


@dataclass(frozen=True)
class Job(Generic[Plan]):
    """One classifier to audit. `photos` is the plan of its photos, where that is another."""

    name: str
    half: str
    plan: Plan
    photos: Plan | None = None


def kept(results: Path) -> list[dict[str, Any]]:
    """The rows of a file of results, none if there is no such file."""
    lines = results.read_text().splitlines() if results.exists() else []
    return [json.loads(line) for line in lines]


def keep(row: Mapping[str, object], results: Path) -> None:
    """Append a row, which names its `job` and `half`."""
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a") as file:
        file.write(json.dumps(row) + "\n")


def unfinished(jobs: Iterable[Job[Plan]], results: Path, only: str = "") -> Iterator[Job[Plan]]:
    """Jobs without a row whose name starts with `only`; other processes may keep rows meanwhile."""
    for job in jobs:
        done = {(row["job"], row["half"]) for row in kept(results)}
        if (job.name, job.half) not in done and job.name.startswith(only):
            yield job
