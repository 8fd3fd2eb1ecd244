"""An audit in shards: each computes a share of the tasks, and a merge makes the audit of them.

A shard needs no other one and talks to none, so that any scheduler can start it: an array of jobs,
an indexed job, or a loop over machines. The results lie in the `work` folder of its run folder,
kept under all that they depend on; a note beside them says what it was a share of. The shards may
have a folder each, or one together. A merge checks the notes, brings the results together and
runs the audit, which finds every task of the shards done.

The other tasks depend on the activations of the pool. So each shard computes these, unless it finds
them in its folder.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError, field_validator

from auditor.config import PLACES, AuditConfig
from auditor.core.storage import (
    UNFINISHED,
    digest_package,
    read_text,
    write_atomically,
)
from auditor.errors import ConfigError, RunError
from auditor.models import hardware
from auditor.pipeline import model_check, run_folder, runner
from auditor.pipeline.engine import InProcess, Task
from auditor.pipeline.experimenting import drawing_tasks, transplant_task
from auditor.pipeline.generating import planned, prototype_tasks
from auditor.pipeline.inputs import Inputs, load
from auditor.pipeline.observing import encoding_tasks, observe_pool, source_tasks
from auditor.pipeline.progress import Progress, Silent, Watch

__all__ = ["Shard", "compute", "merge"]

NOTES = "shards"  # the folder of the notes, in a run folder
MOST_SHARDS = 100_000
ANSWERS = 16  # classes whose logits are noted
MOST_BYTES = 2**24  # of a note


@dataclass(frozen=True)
class Shard:
    """One of `total` equal shares, `number` from 1."""

    number: int
    total: int

    @staticmethod
    def parse(text: str) -> Shard:
        """The shard that a text such as "3/8" names.

        Raises:
            ConfigError: it names none.

        >>> Shard.parse("3/8")
        Shard(number=3, total=8)
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
        if found is not None:
            number, total = int(found[1]), int(found[2])
            if 1 <= number <= total <= MOST_SHARDS:
                return Shard(number, total)
        raise ConfigError(
            f"--shard {text[:80]!r} is no share such as 3/8: which, from 1, and of how many."
        )

    def of(self, groups: Sequence[Sequence[Task]]) -> list[Task]:
        """The tasks of every `total`-th group, from its own number on: a part of each stage."""
        return [task for group in groups[self.number - 1 :: self.total] for task in group]


class ShardNote(BaseModel):
    """What a shard computed, and of which audit.

    Attributes:
        shard, shards: its number and how many there are.
        settings: all that decides the result, and the run folder.
        program: digest of the program's source.
        device: the kind of device that the model ran on.
        inputs: digests by what they are of, such as the model's weights and the photos.
        answers: logits of a few classes for sample pictures, which the model's code decides too.
        results: the files of its tasks, below the folder `work`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: int
    shards: int
    settings: AuditConfig
    program: str
    device: str
    inputs: dict[str, str]
    answers: list[list[FiniteFloat]]
    results: list[str]

    @field_validator("answers")
    @classmethod
    def _rectangular(cls, rows: list[list[float]]) -> list[list[float]]:
        if not rows or not rows[0] or len({len(row) for row in rows}) > 1:
            raise ValueError("one row of logits for each picture is needed")
        return rows

    def difference(self, other: ShardNote) -> str | None:
        """What tells it from a shard of the same audit, in words; `None` if nothing does."""
        for what, own, others in (
            ("settings", self._result(), other._result()),
            ("version of the program", self.program, other.program),
            ("number of shards", self.shards, other.shards),
            ("kind of device", self.device, other.device),
            *((of, own, other.inputs.get(of)) for of, own in self.inputs.items()),
        ):
            if own != others:
                return what
        own, others = torch.tensor(self.answers), torch.tensor(other.answers)
        return None if model_check.same_answers(own, others) else "code of the model"

    def _result(self) -> dict[str, object]:
        """The settings that decide a result."""
        return self.settings.model_dump(exclude={*PLACES, "pdf", "device"})


def compute(config: AuditConfig, shard: Shard, *, progress: Progress | None = None) -> Path:
    """Compute a share of an audit's tasks, and leave a note of it.

    Args:
        config: of the audit; all shards need the same.
        shard: which share.
        progress: told of the stages, by default nobody.

    Returns:
        the note.

    Raises:
        AuditorError: whatever the user can mend, in one sentence.
    """
    if config.engine != "process":
        raise ConfigError(
            f"engine = {config.engine} and --shard both divide the audit; choose one of them."
        )
    out = runner.run_folder_of(config)
    run_folder.claim(out)  # without its lock: shards may share it, and write only whole files
    watch = Watch(progress or Silent())
    inputs = load(config, watch)
    store = runner.store_of(config)
    engine = InProcess.on_all_devices(inputs.worker, store, watch, device=config.device)
    answers = model_check.check_kept(inputs.worker, store)
    needed, divided = _tasks(inputs, engine)
    own = shard.of(divided)
    for _ in engine.map("shard", own):
        pass
    results = [engine.path(task) for task in (*needed, *own)]
    note = ShardNote(
        shard=shard.number,
        shards=shard.total,
        settings=config,
        program=digest_package(),
        device=inputs.worker.device.type,
        inputs=_inputs(inputs),
        answers=answers[:, :ANSWERS].tolist(),
        results=[path.relative_to(store.folder).as_posix() for path in results],
    )
    place = out / NOTES / f"{shard.number}-of-{shard.total}.json"
    write_atomically(place, note.model_dump_json(indent=1).encode())
    return place


def _tasks(inputs: Inputs, engine: InProcess) -> tuple[Sequence[Task], Sequence[Sequence[Task]]]:
    """The tasks that every shard computes, which are done by now, and those that are divided.

    The latter are in groups; one shard computes all tasks of a group.
    """
    worker = inputs.worker
    pooled, generic = observe_pool(inputs, engine)
    plan = planned(inputs, pooled, generic, engine)
    one = inputs.pool is inputs.images
    alone: list[Task] = [
        *(() if one else source_tasks(inputs, "images")),
        *encoding_tasks(worker, "images", *(() if one else ("pool",))),
        transplant_task(inputs),
    ]
    return source_tasks(inputs, "pool"), [
        *((task,) for task in alone),
        *drawing_tasks(inputs, pooled),
        # last, for other machines may divide them otherwise
        *((task,) for task in prototype_tasks(plan, worker, inputs.config)),
    ]


def _inputs(inputs: Inputs) -> dict[str, str]:
    return {
        "model": inputs.classifier.digest,
        "probe": inputs.probe.digest,
        "concepts": inputs.bank.digest,
        "photos": inputs.images.digest,
        "pool": inputs.pool.digest,
    }


def merge(
    folders: Sequence[Path], out: Path | None = None, *, trust_code: bool = False
) -> AuditConfig:
    """Bring the results of all shards into one run folder.

    Args:
        folders: the run folders of the shards.
        out: the run folder of the audit; by default the one folder, where there is one.
        trust_code: whether the settings in the notes may let code of the model or the probe run.

    Returns:
        the settings of the audit, which finds the shards' tasks done.

    Raises:
        RunError: a shard is missing, damaged or of another audit, or the program is another.
        ConfigError: no run folder is named, or code would run that is not trusted.
    """
    if out is None and len(folders) != 1:
        raise ConfigError("Several folders are merged; name the run folder with --out.")
    out = folders[0] if out is None else out
    found = [(place, _read(place)) for folder in folders for place in _places(folder)]
    first = _checked(found)
    if _trusting(first.settings) and not trust_code:
        raise ConfigError(
            "The shards were computed with --trust-code; give it to the merge too if you trust the "
            "code that comes with the model."
        )
    run_folder.claim(out)
    merged = first.settings.model_copy(update={"out": str(out)})
    for place, note in found:
        own = note.settings.work or place.parents[1] / "work"
        _gather(Path(own), runner.store_of(merged).folder, note)
    return merged


def _trusting(config: AuditConfig) -> bool:
    """Whether settings let code run that comes with a model or the probe."""
    models = (config.model, config.second_model)
    return config.trust_code or any(model is not None and model.trust_code for model in models)


def _places(folder: Path) -> list[Path]:
    places = sorted((folder / NOTES).glob("*-of-*.json"))
    if not places:
        raise RunError(f"{folder} holds no shard of an audit; run auditor audit with --shard.")
    return places


def _read(place: Path) -> ShardNote:
    try:
        return ShardNote.model_validate_json(read_text(place, limit=MOST_BYTES))
    except (OSError, UnicodeDecodeError, ValidationError):
        raise RunError(f"{place} is no note of a shard; compute that shard again.") from None


def _checked(found: Sequence[tuple[Path, ShardNote]]) -> ShardNote:
    """The first note, once all are of one audit, of this program, and none is missing."""
    first_place, first = found[0]
    for place, note in found:
        what = first.difference(note)
        if what is not None:
            raise RunError(
                f"{place} and {first_place} are not of one audit, for they differ in: {what}. "
                "Remove the one that does not belong to it."
            )
    if first.program != digest_package():
        raise RunError(
            f"{first_place} is of another version of the program; merge with that version, or "
            "compute the shards again."
        )
    device = hardware.choose_device(first.settings.device).type
    if device != first.device:
        raise RunError(
            f"The shards were computed on {first.device}, and this machine has {device}, whose "
            "results are others; merge them on a machine like theirs."
        )
    missing = sorted(set(range(1, first.shards + 1)) - {note.shard for _, note in found})
    if missing:
        named = ", ".join(f"{number}/{first.shards}" for number in missing[:10])
        raise RunError(
            f"{len(missing)} of {first.shards} shards are missing: {named}; compute them, and "
            "name their folders."
        )
    return first


def _gather(source: Path, target: Path, note: ShardNote) -> None:
    """Bring the results of a shard into the work folder of the audit."""
    for name in note.results:
        if not re.fullmatch(r"[a-z]+/[0-9a-f]{32}\.safetensors", name):
            raise RunError(f"The shard {note.shard}/{note.shards} names no result: {name[:80]!r}.")
        if os.path.lexists(target / name):
            continue
        try:
            if not stat.S_ISREG((source / name).lstat().st_mode):  # a device may have no end
                raise OSError(None, "it is no file")
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            part = (target / name).with_name(UNFINISHED + secrets.token_hex(8))
            try:
                shutil.copyfile(source / name, part)
                part.replace(target / name)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise RunError(
                f"The result {source / name} of shard {note.shard}/{note.shards} cannot be taken "
                f"over: {error.strerror}; compute that shard again."
            ) from None
