"""An audit that is killed at any point continues where it stopped, and ends in the same record."""

import contextlib
import json
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
import tiny
from miniature import BANK as SMALLER
from miniature import Project, drawn_once
from PIL import Image
from safetensors.numpy import load_file, save_file

from auditor.concepts import probes
from auditor.config import AuditConfig
from auditor.core import storage
from auditor.core.storage import Work
from auditor.images import image_set
from auditor.models.layers import find_layers
from auditor.pipeline import model_check, runner, tasks
from auditor.pipeline.engine import InProcess, Worker
from auditor.pipeline.observing import encode_photos, observe_photos
from auditor.pipeline.progress import Watch
from auditor.prototypes import constraints

BANK = (
    SMALLER
    + """
[[concept]]
name = "red cast"
category = "colour"
drawing = "red_cast"
prompts = ["a reddish photo"]
"""
)
# Kept together: 8 photos, 1 prototype, 1 drawing. There are 20 photos of the two classes and 12 in
# the pool.
DRAWN = {"photos": 5, "probed": 5, "prototypes": 4, "insertions": 2, "changes": 2}
ALL = {**DRAWN, "surroundings": 1}
SECONDS = 300  # after which a process is stuck, also on a busy machine


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    Project(folder).filled(bank=BANK, n=10).photos("pool", n=6, seed=1)
    # drawn here, they are there in all processes that are forked
    drawn_once(constraints.COLLAGES, 32, 32, seed=0)
    drawn_once(model_check.SAMPLES, 32, 32)
    return folder


def in_a_process(action):
    """The exit status of an action in a process of its own, negative for a signal's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons: of forks with threads
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        signal.alarm(SECONDS)
        with threadpoolctl.threadpool_limits(1):  # GNU OpenMP's threads do not survive a fork
            action()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly:
    """Progress that kills the process once `stage` has done `steps`."""

    def __init__(self, stage, steps):
        self.fatal, self.steps = stage, steps

    @contextlib.contextmanager
    def stage(self, name, total):
        def step(done):
            if name == self.fatal and done >= self.steps:
                die()

        step(0)
        yield step


def audit(place, out, *, progress=None, killed_at_rename=None, version=None, program=None):
    """Run an audit in a process of its own; its exit status and what it computed, by stage."""

    def action():
        os.chdir(place)
        sys.path.insert(0, str(place))
        model = tiny.probe()
        patch = pytest.MonkeyPatch()  # for good: the process ends with the audit
        patch.setattr(probes, "load", lambda spec, **options: model)
        patch.setattr(tasks, "CHUNK_PHOTOS", 8)
        if version is not None:
            version.version += 1
        if program is not None:
            patch.setattr("auditor.pipeline.recording.digest_package", lambda: program)
        computed: Counter[str] = Counter()
        arrays, replace = Work.arrays, os.replace

        def counted(self, stage, key, compute, **options):
            def once():
                computed[stage] += stage != "answers"  # which only tell that the model is the same
                return compute()

            return arrays(self, stage, key, once, **options)

        def deadly_replace(source, target):
            if killed_at_rename and Path(target).match(killed_at_rename):
                die()
            replace(source, target)

        patch.setattr(Work, "arrays", counted)
        patch.setattr(os, "replace", deadly_replace)
        config = Project(place).settings(
            pool="pool", out=out, batch=4,
            prototypes={"per_class": 2, "steps": 6, "batch": 1},
        )  # fmt: skip
        runner.run(AuditConfig.model_validate(config), progress=progress)
        Path(f"{out}.computed").write_text(json.dumps(+computed))

    counts = place / f"{out}.computed"
    counts.unlink(missing_ok=True)
    status = in_a_process(action)
    return status, json.loads(counts.read_text()) if counts.exists() else None


def kept(folder):
    """Finished parts of each stage in a run folder."""
    files = folder.glob("work/*/*.safetensors")
    return dict(Counter(path.parent.name for path in files if path.parent.name != "answers"))


def published(folder):
    """The names of the record and its pictures."""
    files = [folder / "audit.json", *folder.glob("prototypes/*/*"), *folder.glob("pictures/*")]
    return [path.relative_to(folder).as_posix() for path in files]


def record(folder):
    """The audit without its times and the name of its folder."""
    data = json.loads((folder / "audit.json").read_text())
    del data["created"], data["spec"]["out"]
    for key in ("started", "finished", "seconds"):
        del data["provenance"][key]
    return data


@pytest.fixture(scope="module")
def whole(place):
    """The record of an audit that nothing interrupted."""
    assert audit(place, "whole") == (0, ALL)
    assert kept(place / "whole") == ALL
    return record(place / "whole")


def continued(place, out, whole):
    """Run a killed audit again: only what is missing is computed, and the record is the same."""
    done = kept(place / out)
    status, computed = audit(place, out)
    assert status == 0
    assert computed == {
        stage: count - done.get(stage, 0)
        for stage, count in ALL.items()
        if count > done.get(stage, 0)
    }
    assert record(place / out) == whole
    for row in whole["classes"]:
        for prototype in row["prototypes"]:
            with Image.open(place / out / prototype["file"]) as image:
                image.load()


@pytest.mark.parametrize(
    ("stage", "steps", "done"),
    [
        ("load", 2, {}),
        ("photos", 0, {}),
        ("photos", 12, {"photos": 1}),
        ("pool", 12, {"photos": 4}),
        ("probe", 0, {"photos": 5}),
        ("probe", 17, {"photos": 5, "probed": 2}),
        ("prototypes", 0, {"photos": 5, "probed": 5}),
        ("prototypes", 8, {"photos": 5, "probed": 5, "prototypes": 1}),
        ("drawings", 1, {"photos": 5, "probed": 5, "prototypes": 4, "insertions": 1}),
        ("surroundings", 0, DRAWN),
        ("naming", 0, ALL),
        ("clusters", 0, ALL),
        ("findings", 0, ALL),
    ],
)
def test_an_audit_killed_in_a_stage_continues(place, whole, stage, steps, done):
    out = f"{stage}-{steps}"
    status, _ = audit(place, out, progress=Deadly(stage, steps))
    assert status == -signal.SIGKILL
    assert kept(place / out) == done
    assert not (place / out / "audit.json").exists()
    continued(place, out, whole)


@pytest.mark.parametrize(
    ("target", "done"),
    [
        ("work/photos/*", {}),
        ("work/prototypes/*", {"photos": 5, "probed": 5}),
        ("prototypes/1/0.png", ALL),
        ("audit.json", ALL),
    ],
)
def test_an_audit_killed_while_it_writes_continues(place, whole, target, done):
    out = target.replace("/", "-").replace("*", "any")
    status, _ = audit(place, out, killed_at_rename=target)
    assert status == -signal.SIGKILL
    assert kept(place / out) == done
    assert not (place / out / "audit.json").exists()
    assert list((place / out).rglob(".auditor-tmp-*"))  # what it was writing has no name yet
    continued(place, out, whole)


def test_killed_again_and_again(place, whole):
    for stage, steps in (("photos", 9), ("probe", 9), ("prototypes", 14), ("drawings", 1)):
        before = sum(kept(place / "often").values())
        status, _ = audit(place, "often", progress=Deadly(stage, steps))
        assert status == -signal.SIGKILL
        assert sum(kept(place / "often").values()) > before
    continued(place, "often", whole)


class Steps:
    """Progress that keeps all steps of all stages."""

    def __init__(self):
        self.done = []

    @contextlib.contextmanager
    def stage(self, name, total):
        yield self.done.append


def test_parts_make_the_whole(place, tmp_path, monkeypatch):
    photos = image_set.load(
        str(place / "photos"), class_names=("across", "down"), class_ids=None, labelled=True
    )
    on_path = np.arange(len(photos)) % 3 == 1
    classifier = tiny.stripes()
    worker = Worker(
        classifier, find_layers(classifier, None), tiny.probe(), {"images": photos}, 4, 0
    )
    seen = []
    for size in (8, 100):
        monkeypatch.setattr(tasks, "CHUNK_PHOTOS", size)
        steps = Steps()
        engine = InProcess(worker, Work(tmp_path / str(size)), Watch(steps))
        rows = encode_photos(engine, worker, "probe", "images")
        assert max(steps.done) == steps.done[-1] == len(photos)
        seen.append((observe_photos(engine, worker, "photos", "images", on_path), rows))
        assert max(steps.done) == steps.done[-1] == len(photos)
    (parts, part_rows), (whole, whole_rows) = seen
    assert np.array_equal(part_rows, whole_rows)
    assert np.array_equal(parts.features, whole.features)
    assert np.array_equal(parts.logits, whole.logits)
    for name in worker.layers.path:
        assert len(parts.path[name]) == on_path.sum()
        assert np.array_equal(parts.path[name], whole.path[name])
        assert np.array_equal(parts.spread[name], whole.spread[name])


def test_no_photos_have_no_rows(place, tmp_path):
    none = image_set.load(
        str(place / "pool"), class_names=(), class_ids=None, labelled=False
    ).subset([])
    classifier = tiny.stripes()
    worker = Worker(classifier, find_layers(classifier, None), tiny.probe(), {"pool": none}, 4, 0)
    engine = InProcess(worker, Work(tmp_path), Watch(Steps()))
    assert len(observe_photos(engine, worker, "pool", "pool", np.zeros(0, bool))) == 0


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        (tasks.ObservePhotos, {"photos": 5, "prototypes": 4, "insertions": 2}),
        (tasks.EncodePhotos, {"probed": 5}),
        (tasks.GeneratePrototypes, {"prototypes": 4}),
        (tasks.SeeDrawing, {"changes": 2}),
        (tasks.Transplant, {"surroundings": 1}),
        (None, {}),
    ],
)
def test_another_version_of_a_task_computes_it_again_and_what_depends_on_it(
    place, whole, changed, again
):
    """Another program that differs in nothing but a version, or in a word of the report."""
    out = f"version-{changed.stage if changed else None}"
    assert audit(place, out) == (0, ALL)
    assert audit(place, out, version=changed, program="f" * 64) == (0, again)
    made = record(place / out)
    assert made["tool"].pop("source") == "f" * 64
    assert made == {**whole, "tool": {k: v for k, v in whole["tool"].items() if k != "source"}}


def test_tasks_can_be_pickled(place):
    listed = (
        tasks.ObservePhotos("images", range(4), (1, 2)),
        tasks.EncodePhotos("pool", range(4)),
        tasks.DrawConcept("fog", (1, 2), np.ones(3, np.float32)),
        tasks.SeeDrawing("fog", (1, 2)),
        tasks.Transplant((0,), (1,), (2, 3), (0, 1)),
    )
    for task in listed:
        again = pickle.loads(pickle.dumps(task))
        assert again.stage == task.stage
        assert {k: str(v) for k, v in vars(again).items()} == {
            k: str(v) for k, v in vars(task).items()
        }


def test_a_damaged_part_is_computed_again(place, whole):
    status, _ = audit(place, "damaged", progress=Deadly("findings", 0))
    assert status == -signal.SIGKILL
    part = next((place / "damaged" / "work" / "prototypes").iterdir())
    part.write_bytes(part.read_bytes()[:-7])
    status, computed = audit(place, "damaged")
    assert (status, computed) == (0, {"prototypes": 1})
    assert record(place / "damaged") == whole


def test_parts_in_each_other_s_place_are_computed_again(place, whole):
    status, _ = audit(place, "swapped", progress=Deadly("findings", 0))
    assert status == -signal.SIGKILL
    one, other, *_ = sorted((place / "swapped" / "work" / "prototypes").iterdir())
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)
    assert audit(place, "swapped") == (0, {"prototypes": 2})
    assert record(place / "swapped") == whole


@pytest.mark.parametrize("what", ["rows", "kind", "nan", "name"])
def test_a_part_that_cannot_be_the_result_is_computed_again(place, whole, what):
    """Its digest is right, its content is not."""
    out = f"wrong-{what}"
    status, _ = audit(place, out, progress=Deadly("prototypes", 0))
    assert status == -signal.SIGKILL
    part = next((place / out / "work" / "probed").iterdir())
    rows = load_file(part)["rows"]
    wrong = {
        "rows": {"rows": rows[:-1]},
        "kind": {"rows": rows.astype(np.int64)},
        "nan": {"rows": np.full_like(rows, np.nan)},
        "name": {"lines": rows},
    }[what]
    origin = f"probed/{part.stem}"
    save_file(wrong, part, {"sha256": storage._digest(wrong, origin)})
    status, computed = audit(place, out)
    assert status == 0
    assert computed["probed"] == 1
    assert record(place / out) == whole


def test_a_picture_that_is_gone_or_changed_is_made_again(place, whole):
    assert audit(place, "pictured") == (0, ALL)
    folder = place / "pictured"
    pictures = sorted(folder.glob("prototypes/*/*.png")) + sorted(folder.glob("pictures/*.jpg"))
    good = [path.read_bytes() for path in pictures]
    assert len(pictures) > 4
    for k, path in enumerate(pictures):
        match k % 4:
            case 0:
                path.unlink()
            case 1:
                path.write_bytes(b"")
            case 2:
                path.write_bytes(good[k][: len(good[k]) // 2])
            case 3:
                path.write_bytes(good[k - 1])  # a whole picture, of something else
    assert audit(place, "pictured") == (0, {})
    assert [path.read_bytes() for path in pictures] == good
    assert record(folder) == whole
    assert not (folder / "previous").exists(), "the same audit is kept once"


def test_another_audit_in_the_same_folder_keeps_the_first(place, whole):
    assert audit(place, "shared") == (0, ALL)
    folder = place / "shared"
    first = {name: (folder / name).read_bytes() for name in published(folder)}
    (folder / "report.pdf").write_bytes(b"of the first")
    (place / "bank.toml").write_text(BANK.replace("black border", "dark frame"))
    try:
        assert audit(place, "shared") == (0, {})
    finally:
        (place / "bank.toml").write_text(BANK)
    (kept,) = (folder / "previous").iterdir()
    assert record(kept) == whole
    assert {name: (kept / name).read_bytes() for name in first} == first
    assert (kept / "report.pdf").read_bytes() == b"of the first"
    assert not (folder / "report.pdf").exists(), "it does not show the new record"
    assert record(folder) != whole
    for row in record(folder)["classes"]:
        for prototype in row["prototypes"]:
            assert (folder / prototype["file"]).exists()


def test_a_finished_audit_computes_nothing_again(place, whole):
    assert audit(place, "whole") == (0, {})
    assert record(place / "whole") == whole


def test_another_bank_keeps_what_does_not_depend_on_it(place, whole):
    (place / "bank.toml").write_text(BANK.replace("black border", "dark frame"))
    try:
        assert audit(place, "whole") == (0, {})
    finally:
        (place / "bank.toml").write_text(BANK)
    assert record(place / "whole") != whole
