"""What is observed of photos: once where the pool is the photos, and bounded for many classes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from miniature import Project, at_home

from auditor.config import AuditConfig
from auditor.core import storage
from auditor.core.storage import Work
from auditor.errors import ConfigError
from auditor.pipeline import observing, runner, tasks
from auditor.pipeline.engine import InProcess
from auditor.pipeline.inputs import Inputs, load
from auditor.pipeline.progress import Silent, Watch


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with at_home(tmp_path_factory.mktemp("observed")) as project:
        yield project.filled()


def observed(home: Project, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Any:
    """Inputs, what was observed, and how many photos went through the model."""
    monkeypatch.setattr(observing, "PATH_PHOTOS", 3)
    monkeypatch.setattr(observing, "GENERIC_PHOTOS", 5)
    monkeypatch.setattr(tasks, "CHUNK_PHOTOS", 8)
    settings = home.settings(**changes)
    inputs = load(AuditConfig.model_validate(settings), Watch(Silent()))
    ran: list[int] = []
    real = tasks.ObservePhotos.compute

    def counted(self: tasks.ObservePhotos, *given: Any) -> Any:
        ran.append(len(self.rows))
        return real(self, *given)

    monkeypatch.setattr(tasks.ObservePhotos, "compute", counted)
    engine = InProcess(
        inputs.worker, Work(Path(f"work-{len(changes)}-{id(inputs)}")), Watch(Silent())
    )
    return inputs, observing.observe(inputs, engine), sum(ran)


def test_photos_that_are_the_pool_too_run_once(
    home: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, seen, ran = observed(home, monkeypatch, pool=None)
    assert inputs.pool is inputs.images
    assert ran == len(inputs.images)
    apart, both, ran_apart = observed(home, monkeypatch, pool="photos")
    assert apart.pool is not apart.images
    assert ran_apart == 2 * ran
    for own, other in ((seen.images, both.images), (seen.pool, both.pool)):
        np.testing.assert_allclose(own.activations.logits, other.activations.logits, atol=1e-5)
    assert seen.pool.activations.features is seen.images.activations.features
    check_path(inputs, seen)
    check_path(apart, both)


def check_path(inputs: Inputs, seen: observing.Observed) -> None:
    assert seen.images.on_path.sum() == 3 * len(inputs.classes)
    assert seen.pool.on_path.sum() == 5
    last = inputs.worker.layers.path[-1]
    for part in (seen.images, seen.pool):
        assert (
            len(part.activations.path[last]) == part.on_path.sum() == len(part.activations.pixels)
        )
    assert not seen.images.activations.spread, "how channels vary is asked of the pool alone"
    assert len(seen.pool.activations.spread[last]) == 5


def test_large_arrays_lie_in_files_and_the_audit_is_the_same(
    home: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = runner.run(AuditConfig.model_validate(home.settings(out="in memory")))
    made: list[np.ndarray] = []
    scratch = Work.scratch

    def noted(self: Work, *given: Any) -> Any:
        made.append(scratch(self, *given))
        return made[-1]

    monkeypatch.setattr(storage, "SMALL", 1)
    monkeypatch.setattr(Work, "scratch", noted)
    large = runner.run(AuditConfig.model_validate(home.settings(out="in files")))
    shapes = {each.shape for each in made if isinstance(each.base, np.memmap)}
    assert {(24, 2), (24, 4), (2, 2), (2, 4)} <= shapes, "logits, features: photos, prototypes"
    assert large.same_result(small)


def test_the_path_of_many_classes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(4000) % 200
    rng = np.random.default_rng(0)
    assert observing.path_photos(labels, range(200), rng).sum() == 4000
    monkeypatch.setattr(observing, "ALL_PATH_PHOTOS", 2000)
    kept = observing.path_photos(labels, range(200), rng)
    assert np.bincount(labels[kept]).tolist() == [10] * 200
    monkeypatch.setattr(observing, "ALL_PATH_PHOTOS", 100)
    kept = observing.path_photos(labels, range(200), rng)
    assert np.bincount(labels[kept]).tolist() == [8] * 200, "each class keeps a few"


def test_python_without_docstrings_is_refused(
    home: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "flags", SimpleNamespace(optimize=2))
    with pytest.raises(ConfigError, match="PYTHONOPTIMIZE=2"):
        load(AuditConfig.model_validate(home.settings()), Watch(Silent()))
