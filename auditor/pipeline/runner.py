"""Runs an audit: calls the stages in their order and publishes the record they lead to."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from auditor.config import AuditConfig
from auditor.core.storage import Work
from auditor.errors import ConfigError, RunError
from auditor.pipeline import model_check, run_folder
from auditor.pipeline.engine import Engine, InProcess
from auditor.pipeline.experimenting import experiment
from auditor.pipeline.generating import generate
from auditor.pipeline.grouping import cluster
from auditor.pipeline.illustrating import illustrate
from auditor.pipeline.inputs import Given, Inputs, load
from auditor.pipeline.judging import judge
from auditor.pipeline.observing import observe
from auditor.pipeline.progress import Progress, Silent, Watch
from auditor.pipeline.recording import Stages, record
from auditor.pipeline.scoring import score
from auditor.pipeline.testing import test
from auditor.record.schema import Audit

if TYPE_CHECKING:
    from auditor.pipeline.ray_cluster import Cluster

__all__ = ["run", "run_folder_of", "store_of"]

logger = logging.getLogger(__name__)


def run(
    config: AuditConfig, *, progress: Progress | None = None, given: Given | None = None
) -> Audit:
    """Audit a classifier, and write `audit.json` and its pictures to the run folder.

    If the run folder already holds an audit with another result, that audit is moved to the folder
    `previous`, with its pictures and reports.

    Args:
        config: all settings.
        progress: is told of each stage; by default no progress is shown.
        given: a model and photos that are given as Python objects. They are used in place of those
            that `config` names.

    Raises:
        AuditorError: anything that the user can put right. The message says how, in one sentence.
    """
    out = run_folder_of(config)
    with run_folder.locked(out):
        return _audit(config, out, Watch(progress or Silent()), given)


def _audit(config: AuditConfig, out: Path, watch: Watch, given: Given | None) -> Audit:
    with contextlib.ExitStack() as stack:
        machines = stack.enter_context(_machines(config))  # an error in it is told before the work
        inputs = load(config, watch, given)
        store = store_of(config)
        engine: Engine
        if machines is None:
            engine = InProcess.on_all_devices(inputs.worker, store, watch, device=config.device)
        else:
            engine = stack.enter_context(machines.engine(inputs, given, store, watch))
        model_check.check_kept(engine.worker, store)
        return _stages(inputs, out, engine)


@contextlib.contextmanager
def _machines(config: AuditConfig) -> Iterator[Cluster | None]:
    """The Ray cluster that the settings ask for, while the block runs."""
    if config.engine == "process":
        yield None
        return
    from auditor.pipeline import ray_cluster

    with ray_cluster.connected(config) as machines:
        yield machines


def _stages(inputs: Inputs, out: Path, engine: Engine) -> Audit:
    """Run all stages in their order. Each stage takes the results of earlier ones."""
    observed = observe(inputs, engine)
    made = generate(inputs, observed, engine)
    trust = judge(inputs, observed, made, engine)
    edits = experiment(inputs, observed, engine)
    scores = score(inputs, observed, made, edits, engine)
    tested = test(inputs, observed, trust, edits, scores, engine=engine)
    groups = cluster(inputs, observed, made, scores, engine)
    with run_folder.staging(out) as folder:
        shown = illustrate(inputs, made, edits, tested, groups, folder=folder, engine=engine)
        stages = Stages(inputs, observed, made, trust, edits, scores, tested, groups, shown)
        return _publish(record(stages, engine, folder), out, folder)


def run_folder_of(config: AuditConfig) -> Path:
    """The run folder that a configuration names.

    Raises:
        ConfigError: it names none, or one inside a folder of photos.
    """
    if not config.out.strip():
        raise ConfigError("out is empty; name the run folder with --out.")
    if config.work is not None and not config.work.strip():
        raise ConfigError("work is empty; name a folder with --work, or leave it out.")
    for name, place in (("out", config.out), ("work", config.work)):
        for photos in (config.images, config.pool):
            if place and photos is not None and _lies_in_photos(Path(place), photos):
                raise ConfigError(
                    f"{name} = {place} lies in the photos {photos}, so that its pictures would be "
                    f"taken for photos; choose another --{name}."
                )
    return Path(config.out)


def store_of(config: AuditConfig) -> Work:
    """The folder of finished parts, inside the run folder or the one that audits share.

    Raises:
        RunError: the folder that is to be shared is not the program's own.
    """
    if config.work is None:
        return Work(Path(config.out) / "work")
    run_folder.claim_work(Path(config.work))
    return Work(Path(config.work))


def _lies_in_photos(out: Path, photos: str) -> bool:
    """Whether the run folder, which need not exist yet, lies in a folder of photos."""
    try:
        return os.path.isdir(photos) and out.resolve().is_relative_to(Path(photos).resolve())
    except (OSError, RuntimeError, ValueError):
        return False  # the path is not valid; the code that opens it reports that


def _publish(audit: Audit, out: Path, staged: Path) -> Audit:
    """Write the record beside its staged pictures, and move both into the run folder.

    An earlier audit with another result is kept. One with the same result is replaced, and the
    new record takes over its self-test.
    """
    earlier, place = None, out / run_folder.RECORD
    with contextlib.suppress(RunError):  # no earlier audit, or one that cannot be read
        earlier = Audit.read(place)
    same = earlier is not None and earlier.same_result(audit)
    if earlier is not None and same and earlier.self_test is not None:
        audit = audit.model_copy(update={"self_test": earlier.self_test})
    audit.write(staged / run_folder.RECORD)
    kept = run_folder.publish(out, keep=place.exists() and not same)
    if kept is not None:
        logger.info("The earlier audit in %s is kept in %s.", out, kept)
    return audit
