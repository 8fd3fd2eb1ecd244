"""Runs an audit: calls the stages in their order and publishes the record they lead to."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from auditor.config import AuditConfig
from auditor.core.storage import Work
from auditor.errors import ConfigError, RunError
from auditor.pipeline import model_check, run_folder
from auditor.pipeline.engine import InProcess
from auditor.pipeline.experimenting import experiment
from auditor.pipeline.generating import generate
from auditor.pipeline.grouping import cluster
from auditor.pipeline.illustrating import illustrate
from auditor.pipeline.inputs import Given, load
from auditor.pipeline.judging import judge
from auditor.pipeline.observing import observe
from auditor.pipeline.progress import Progress, Silent, Watch
from auditor.pipeline.recording import Stages, record
from auditor.pipeline.scoring import score
from auditor.pipeline.testing import test
from auditor.record.schema import Audit

__all__ = ["run", "run_folder_of"]

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
    """Run all stages in their order. Each stage takes the results of earlier ones."""
    inputs = load(config, watch, given)
    engine = InProcess(inputs.worker, Work(out / "work"), watch)
    model_check.check_kept(inputs.worker, engine.store)
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
    out = Path(config.out)
    for photos in (config.images, config.pool):
        if photos is not None and _lies_in_photos(out, photos):
            raise ConfigError(
                f"out = {out} lies in the photos {photos}, so that its pictures would be taken for "
                "photos; choose another --out."
            )
    return out


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
