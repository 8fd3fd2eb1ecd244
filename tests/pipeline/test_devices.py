"""Tasks on several devices of one machine: copies on the processor stand in for GPUs."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from miniature import Project

from auditor.config import AuditConfig
from auditor.core.storage import Work
from auditor.models import hardware
from auditor.models.preprocessing import Preprocess
from auditor.pipeline import runner, tasks
from auditor.pipeline.engine import InProcess, Shapes, Task, Worker
from auditor.pipeline.inputs import load
from auditor.pipeline.progress import Silent, Step, Watch

CPU = torch.device("cpu")
WAIT = 60  # seconds at most


@pytest.fixture
def config(project: Project) -> AuditConfig:
    project.filled()
    project.photos("pool", seed=1)
    made = project.settings(prototypes__per_class=2, prototypes__steps=6, pool="pool")
    return AuditConfig.model_validate(made)


def without_times(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text())
    del data["created"], data["spec"]["out"]
    for key in ("started", "finished", "seconds", "device"):
        del data["provenance"][key]
    return data


def test_two_devices_give_the_audit_of_one(
    config: AuditConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "CHUNK_PHOTOS", 8)
    changes = {"prototypes": config.prototypes.model_copy(update={"batch": 1})}
    config = config.model_copy(update=changes)
    runner.run(config.model_copy(update={"out": "one"}))
    used: dict[str, set[int]] = {}
    compute = tasks.GeneratePrototypes.compute

    def noted(self: tasks.GeneratePrototypes, worker: Worker, step: Step) -> Mapping[str, Any]:
        used.setdefault(threading.current_thread().name, set()).add(id(worker.classifier.net))
        return compute(self, worker, step)

    monkeypatch.setattr(tasks.GeneratePrototypes, "compute", noted)
    monkeypatch.setattr(hardware, "peers", lambda _device: [CPU, CPU])
    audit = runner.run(config.model_copy(update={"out": "two"}))
    assert audit.provenance.device.startswith("2 x cpu")
    assert len(set.union(*used.values())) == 2, "each has a network of its own"
    assert without_times(Path("two/audit.json")) == without_times(Path("one/audit.json"))


@dataclass(frozen=True)
class Told:
    """A task that ends when the gate opens, or when nobody waits for it any more."""

    number: int
    gate: threading.Event
    ended: list[int]
    stage: ClassVar[str] = "told"
    version: ClassVar[int] = 1
    after: ClassVar[tuple[type[Task], ...]] = ()
    size: ClassVar[int] = 10

    def key(self, worker: Worker) -> list[Any]:
        return [self.number]

    def shapes(self, worker: Worker) -> Shapes:
        return Shapes({"n": ("i", 1)})

    def compute(self, worker: Worker, step: Step) -> Mapping[str, Any]:
        if self.number == 5:
            raise ValueError("the fifth fails")
        for _ in range(WAIT * 100):
            step(3)
            if self.gate.wait(0.01):
                break
        self.ended.append(self.number)
        return {"n": np.array([self.number])}


@pytest.fixture
def engine(config: AuditConfig, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    monkeypatch.setattr(hardware, "peers", lambda _device: [CPU, CPU])
    inputs = load(config, Watch(Silent()))
    return InProcess.on_all_devices(
        inputs.worker, Work(Path("work")), Watch(Silent()), device=config.device
    )


def test_results_come_in_order_and_an_error_comes_in_its_turn(engine: InProcess) -> None:
    gate, ended = threading.Event(), list[int]()
    gate.set()
    found = engine.map("told", [Told(k, gate, ended) for k in range(5)])
    assert [int(arrays["n"][0]) for arrays in found] == list(range(5))
    again = engine.map("told", [Told(k, gate, ended) for k in range(8)])
    assert [int(next(again)["n"][0]) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="the fifth fails"):
        next(again)


def test_what_nobody_waits_for_ends_soon(engine: InProcess) -> None:
    opened, closed, ended = threading.Event(), threading.Event(), list[int]()
    opened.set()
    later = [Told(k, closed, ended) for k in range(1, 5)]
    found = engine.map("told", [Told(0, opened, ended), *later])
    assert int(next(found)["n"][0]) == 0
    assert isinstance(found, Generator)
    found.close()  # as Ctrl-C does; waits for the tasks that run
    assert ended == [0]


def test_a_network_that_cannot_be_copied_uses_one_device(
    config: AuditConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hardware, "peers", lambda _device: [CPU, CPU])
    monkeypatch.setattr(hardware, "copied", lambda _net: None)
    inputs = load(config, Watch(Silent()))
    engine = InProcess.on_all_devices(
        inputs.worker, Work(Path("work")), Watch(Silent()), device=config.device
    )
    assert not engine.peers
    assert "is not used: the model cannot be copied" in caplog.text


def test_a_device_that_is_full_is_left_out(
    config: AuditConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_worker: Worker, _device: torch.device) -> Worker:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(hardware, "peers", lambda _device: [CPU, CPU])
    monkeypatch.setattr(Worker, "on", full)
    audit = runner.run(config)
    assert audit.provenance.device.startswith("cpu")
    assert "is not used: CUDA out of memory" in caplog.text


def test_an_audit_goes_on_where_memory_does_not_suffice_for_a_batch(
    config: AuditConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = runner.run(config.model_copy(update={"out": "whole"}))
    normalise = Preprocess.normalise

    def limited(self: Preprocess, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 8:
            raise torch.OutOfMemoryError("the test's card is full")
        return normalise(self, images)

    monkeypatch.setattr(Preprocess, "normalise", limited)
    audit = runner.run(config.model_copy(update={"out": "halved"}))
    assert "images at once now" in caplog.text
    assert [(f.class_index, f.concept, f.grade) for f in audit.findings] == [
        (f.class_index, f.concept, f.grade) for f in whole.findings
    ]
    for one, other in zip(audit.classes, whole.classes, strict=True):
        assert one.accuracy == other.accuracy


def test_what_the_probe_saw_on_another_kind_of_device_is_not_taken(config: AuditConfig) -> None:
    worker = load(config, Watch(Silent())).worker
    elsewhere = dataclasses.replace(worker, device_type="cuda")
    for task in (tasks.EncodePhotos("pool", range(3)), tasks.SeeDrawing("black_border", (0, 1))):
        assert task.key(worker) == task.key(dataclasses.replace(worker, device_type="cpu"))
        assert task.key(worker) != task.key(elsewhere)
