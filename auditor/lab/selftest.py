"""The self-test: how often an audit with these settings is right, on classifiers with known truth.

Lab classifiers with planted shortcuts, and clean ones, are audited with the prototypes, probe, bank
and statistics of a given audit. What it finds of what they learned, and what it reports of clean
ones, are hit and false-alarm rates *of these settings on such classifiers*: small networks that
tell drawn objects apart. They say nothing of the audited model itself.

Classifiers are kept by the digest of their plan, finished results by the digest of everything that
decides them, so that the same settings are tested once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from auditor.concepts import banks, probes
from auditor.concepts.banks import ConceptBank
from auditor.config import AuditConfig
from auditor.core.storage import digest_package, digest_value, write_atomically
from auditor.errors import ConfigError, RunError
from auditor.lab import example, plans, scoring
from auditor.lab.plans import Plan
from auditor.models.hardware import choose_device
from auditor.pipeline import run_folder, runner
from auditor.pipeline.progress import Progress, Silent
from auditor.record.schema import SCHEMA_VERSION, Audit, SelfTest

__all__ = ["amounts", "attach", "plantable", "run"]

STRENGTH = 0.95  # share of a class's photos that carry its shortcut
SHORTCUTS = 6  # of twelve classes
MOST = 1000  # models of a kind, as in the settings
SEED = 7_000_000  # far from seeds that methods were improved with
SETTINGS = (
    "prototypes", "statistics", "representative", "probe", "concepts", "seed", "batch", "device",
)  # fmt: skip
"""Of the audit, with which lab classifiers are audited."""


def run(
    config: AuditConfig,
    folder: Path,
    *,
    planted: int,
    clean: int,
    photos: int = example.IMAGES_PER_CLASS,
    pool: int = example.POOL,
    progress: Progress | None = None,
) -> SelfTest:
    """Audit lab classifiers with an audit's settings and score what was found.

    Args:
        config: its prototypes, probe, bank, statistics, batch, device and seed are used; its model
            and photos are not, but where it has no pool the self-test has none either.
        folder: where classifiers, their audits and the result are kept.
        planted, clean: how many classifiers with and without shortcuts.
        photos, pool: how many photos of each class and of the pool the audit has; the self-test has
            as many, up to what the lab draws. With few, much less is found.
        progress: told of the stages, by default nobody.

    Raises:
        ConfigError: there is nothing to run, or the bank holds nothing that can be planted.
        AuditorError: whatever else the user can mend, in one sentence.
    """
    _see_that_it_tests_and_ends(planted, clean)
    photos = min(photos, example.IMAGES_PER_CLASS)
    pool = min(pool, example.POOL) if config.pool else 0
    bank = banks.load(config.concepts)
    device = choose_device(config.device)
    tested = list(_plans(bank, planted, clean, config))
    key = digest_value(
        [
            digest_package(),
            config.prototypes.model_dump(mode="json"),
            config.statistics.model_dump(mode="json"),
            probes.load(config.probe, device=device).digest,
            bank.digest,
            config.seed,
            config.batch,
            device.type,
            config.representative,
            SCHEMA_VERSION,
            [plan.digest for plan in tested],
            [photos, pool],
        ]
    )
    run_folder.claim(folder, "self-test")
    file = folder / f"{key[:32]}.json"
    known = _known(file, key)
    if known is not None:
        return known
    outcomes = []
    for plan in tested:
        home = folder / "models" / digest_value([digest_package(), plan.digest])[:32]
        equipped = example.equip(home, plan, progress=progress or Silent())
        equipped = example.fewer(equipped, photos, pool)
        out = folder / "audits" / key[:32] / plan.digest[:32]
        audit = runner.run(_audited_as(config, equipped, out), progress=progress)
        outcomes.append(scoring.score(audit, plan))
    result = _summed_up(outcomes, key, photos=photos, pool=pool)
    write_atomically(file, f"{result.model_dump_json(indent=1)}\n".encode())
    return result


def _see_that_it_tests_and_ends(planted: int, clean: int) -> None:
    if planted < 0 or clean < 0 or planted + clean < 1:
        raise ConfigError(
            f"A self-test of {planted} planted and {clean} clean models tests nothing; ask for one "
            "or more."
        )
    if max(planted, clean) > MOST:
        raise ConfigError(
            f"A self-test of {planted} planted and {clean} clean models would never end; ask for "
            f"at most {MOST} of each."
        )


def _audited_as(config: AuditConfig, equipped: AuditConfig, out: Path) -> AuditConfig:
    """The audit of a lab classifier with the settings of another audit."""
    settings = {name: getattr(config, name) for name in SETTINGS}
    settings |= {"out": str(out), "pdf": "no"}
    # their labels and preprocessing are known, whatever the models learned
    settings |= {"anyway": True}
    settings |= {} if config.pool else {"pool": None}
    return equipped.model_copy(update=settings)


def _summed_up(
    outcomes: Sequence[scoring.Outcome], key: str, *, photos: int, pool: int
) -> SelfTest:
    pairs = [pair for outcome in outcomes for pair in outcome.pairs]
    return SelfTest(
        digest=key,
        planted_models=sum(not outcome.clean for outcome in outcomes),
        clean_models=sum(outcome.clean for outcome in outcomes),
        rates=scoring.rates(outcomes),
        shortcuts=len(pairs),
        learned=sum(pair.learned for pair in pairs),
        families=tuple(dict.fromkeys(pair.family for pair in pairs if pair.learned)),
        strength=STRENGTH if pairs else None,
        photos_per_class=photos,
        pool=pool or None,
    )


def attach(audit: Audit, config: AuditConfig, *, progress: Progress | None = None) -> Audit:
    """The audit with the self-test that its configuration asks for, saved to its run folder.

    An audit whose configuration asks for none is returned as it is.

    Raises:
        AuditorError: as `run`.
    """
    wanted = config.self_test
    if not wanted.planted + wanted.clean:
        return audit
    folder = Path(wanted.folder or Path(config.out) / "work" / "selftest")
    measured = run(
        config,
        folder,
        planted=wanted.planted,
        clean=wanted.clean,
        progress=progress,
        **amounts(audit),
    )
    done = audit.model_copy(update={"self_test": measured})
    if not run_folder.amend(Path(config.out), audit.encoded(), done.encoded()):
        raise RunError(
            f"Another audit took the place of this one in {config.out} during its self-test, whose "
            f"result is kept in {folder}; choose another --out."
        )
    return done


def amounts(audit: Audit) -> dict[str, int]:
    """How many photos of each class, the median, and of the pool an audit had, for `run`."""
    photos = int(np.median([c.n_images for c in audit.classes]))
    return {"photos": max(photos, 1), "pool": audit.coverage.pool}


def plantable(bank: ConceptBank) -> tuple[str, ...]:
    """The concepts that scenes can plant and the bank can name as extrinsic."""
    known = {concept.name for concept in bank.concepts if concept.extrinsic}
    return tuple(
        concept
        for members in plans.FAMILIES.values()
        for concept in members
        if known & set(plans.accepted(concept))
    )


def _plans(bank: ConceptBank, planted: int, clean: int, config: AuditConfig) -> Iterator[Plan]:
    usable = plantable(bank)
    if planted and not usable:
        raise ConfigError(
            f"The bank {config.concepts} names none of the concepts that the self-test can plant, "
            f"such as {', '.join(plans.FAMILIES['border'])}; add one or use the built-in bank."
        )
    for k in range(planted):
        yield plans.planted(SEED + k, (STRENGTH,) * SHORTCUTS, concepts=usable)
    for k in range(clean):
        yield plans.clean(SEED + k)


def _known(file: Path, key: str) -> SelfTest | None:
    """The result that was kept for a key; a damaged file is measured again."""
    try:
        kept = SelfTest.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
    return kept if kept.digest == key else None
