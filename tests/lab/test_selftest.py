"""The self-test: what it measures, what it keeps, and that the report tells it."""

import copy
import dataclasses
import functools
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
from miniature import BANK

from auditor.cli import commands
from auditor.concepts import banks, probes
from auditor.config import AuditConfig
from auditor.errors import ConfigError
from auditor.lab import example, scoring, selftest, training
from auditor.lab.plans import FAMILIES, Plan, Shortcut
from auditor.pipeline import runner
from auditor.pipeline.progress import Silent
from auditor.record.schema import Audit, SelfTest

SAND = """
[[concept]]
name = "sand"
category = "background"
prompts = ["a photo of sand"]
"""
CLEAN = Plan(classes=("car", "house", "star", "fish"), size=32, n_train=60, seed=1)
PLANTED = dataclasses.replace(CLEAN, shortcuts=(Shortcut(1, "black border"),), seed=0)


@functools.cache
def learned(plan, train=training.train):
    """What a few passes teach, once for all tests."""
    return train(plan, epochs=6)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Tiny plans, few photos and a tiny probe; the plans that were trained."""
    monkeypatch.setattr(probes, "load", tiny.probe)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(example, "IMAGES_PER_CLASS", 8)
    monkeypatch.setattr(example, "POOL", 40)
    Path("bank.toml").write_text(BANK + SAND)
    trained = []

    def counted(plan):
        trained.append(plan)
        return copy.deepcopy(learned(plan))

    monkeypatch.setattr(training, "train", counted)
    monkeypatch.setattr(selftest, "_plans", lambda bank, n, m, config: [PLANTED] * n + [CLEAN] * m)
    return trained


def config(**changes):
    return AuditConfig.model_validate(
        {
            "model": {"spec": "not:used"},
            "images": "not used",
            "concepts": "bank.toml",
            "prototypes": {"per_class": 2, "steps": 12},
            "statistics": {"permutations": 99, "bootstrap": 99},
            **changes,
        }
    )


def test_settings_are_tried_once_and_only_on_what_they_decide(small):
    folder = Path("kept")
    done = selftest.run(config(), folder, planted=1, clean=1)
    assert small == [PLANTED, CLEAN]
    assert (done.shortcuts, done.strength) == (1, 0.95)
    assert done.planted_models + done.clean_models == 2
    assert done.planted_models == done.learned
    names = [rate.name for rate in done.rates]
    assert any(name.startswith("false alarms per clean model") for name in names)
    assert any(name.startswith("pairs of clean models with p below") for name in names)
    assert SelfTest.model_validate_json((folder / f"{done.digest[:32]}.json").read_bytes()) == done

    def forbidden(*args, **kwargs):
        raise AssertionError("known settings were tried again")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runner, "run", forbidden)
        assert selftest.run(config(images="other"), folder, planted=1, clean=1) == done
        with pytest.raises(AssertionError, match="tried again"):
            selftest.run(config(seed=3), folder, planted=1, clean=1)
        (folder / f"{done.digest[:32]}.json").write_text("{")
        with pytest.raises(AssertionError, match="tried again"):
            selftest.run(config(), folder, planted=1, clean=1)
    assert small == [PLANTED, CLEAN], "classifiers are kept apart from settings"


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 3}, {"batch": 7}, {"representative": False},
        {"prototypes": {"per_class": 1, "steps": 12}},
        {"statistics": {"permutations": 199, "bootstrap": 99}},
        {"concepts": "other.toml"},
    ],
)  # fmt: skip
def test_other_settings_are_tried_again(small, monkeypatch, changes):
    Path("other.toml").write_text(BANK.replace("a blue sky", "a grey sky"))
    audited = []
    monkeypatch.setattr(runner, "run", lambda settings, **_: audited.append(settings))
    monkeypatch.setattr(scoring, "score", lambda *_: SimpleNamespace(pairs=(), clean=True))
    monkeypatch.setattr(scoring, "rates", lambda _: ())
    unchanged: dict[str, object] = {}
    for given in (unchanged, unchanged, changes, changes):
        selftest.run(config(**given), Path("kept"), planted=0, clean=1)
    assert len(audited) == 2
    monkeypatch.setattr(selftest, "digest_package", lambda: "another state of the program")
    selftest.run(config(), Path("kept"), planted=0, clean=1)
    assert len(audited) == 3
    assert small == [CLEAN, CLEAN], "the lab may be another too"


def test_it_has_as_many_photos_as_the_audit(small, monkeypatch):
    whole = selftest.run(config(pool="not used"), Path("kept"), planted=0, clean=1)
    assert (whole.photos_per_class, whole.pool) == (8, 40)
    audited, run = [], runner.run

    def seen(settings, **kwargs):
        audited.append(run(settings, **kwargs))
        return audited[-1]

    monkeypatch.setattr(runner, "run", seen)
    few = selftest.run(config(pool="not used"), Path("kept"), planted=0, clean=1, photos=3, pool=30)
    assert few.digest != whole.digest
    assert (few.photos_per_class, few.pool) == (3, 30)
    assert {c.n_images for c in audited[0].classes} == {3}
    assert audited[0].coverage.pool == 30
    assert selftest.amounts(audited[0]) == {"photos": 3, "pool": 30}
    assert small == [CLEAN]
    without = selftest.run(config(pool=None), Path("kept"), planted=0, clean=1, photos=3)
    assert (without.photos_per_class, without.pool) == (3, None)


def test_an_audit_carries_its_self_test_into_record_and_report(small, monkeypatch, capsys):
    audited = example.equip(Path("mine"), CLEAN, progress=Silent())
    own = config(
        model=audited.model.model_dump(), images=audited.images, pool=audited.pool,
        self_test={"planted": 1, "clean": 0}, pdf="no", labels="index", anyway=True,
    )  # fmt: skip
    commands.run(own)
    saved = Audit.read(Path("audit/audit.json"))
    assert saved.self_test is not None
    assert saved.self_test.shortcuts == 1
    html = Path("audit/report.html").read_text()
    assert "Measured with these settings on" in html
    assert "No self-test was run" not in html
    small.clear()
    # the same settings again, from the run folder: known, and added to an audit that has none
    saved.model_copy(update={"self_test": None}).write(Path("audit/audit.json"))
    monkeypatch.setattr(
        sys, "argv",
        ["auditor", "selftest", "audit", "--planted", "1", "--clean", "0",
         "--out", "audit/work/selftest"],
    )  # fmt: skip
    with pytest.raises(SystemExit) as stopped:
        commands.main()
    assert stopped.value.code == 0
    assert small == []
    assert Audit.read(Path("audit/audit.json")).self_test == saved.self_test
    assert ("planted concept" in capsys.readouterr().out) == bool(saved.self_test.learned)
    # of an audit by another state of the program it says nothing
    tool = saved.tool.model_copy(update={"source": "0" * 64})
    saved.model_copy(update={"self_test": None, "tool": tool}).write(Path("audit/audit.json"))
    with pytest.raises(SystemExit):
        commands.main()
    assert Audit.read(Path("audit/audit.json")).self_test is None
    assert "Not added to audit" in capsys.readouterr().out


def test_the_command_can_ask_for_fewer_photos(tmp_path, monkeypatch):
    asked = {}

    def measured(settings, folder, **kwargs):
        asked.update(kwargs)
        return SelfTest(digest="0" * 64, planted_models=0, clean_models=1, rates=())

    monkeypatch.setattr(selftest, "run", measured)
    monkeypatch.setattr(
        sys, "argv", ["auditor", "selftest", "--photos", "12", "--out", str(tmp_path)]
    )
    with pytest.raises(SystemExit) as stopped:
        commands.main()
    assert stopped.value.code == 0
    assert asked["photos"] == 12


def test_nothing_to_test_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="tests nothing"):
        selftest.run(config(concepts=None), tmp_path, planted=0, clean=0)
    Path("bank.txt").write_text("unicorn\n")
    monkeypatch.setattr(
        sys, "argv", ["auditor", "selftest", "given.toml", "--planted", "1", "--out", "kept"]
    )
    Path("given.toml").write_text(
        'images = "x"\nconcepts = "bank.txt"\n[model]\nspec = "not:used"\n'
    )
    with pytest.raises(SystemExit) as stopped:
        commands.main()
    assert stopped.value.code == 2
    assert "names none of the concepts that the self-test can plant" in " ".join(
        capsys.readouterr().err.split()
    )


def test_what_the_built_in_bank_can_name_can_be_planted():
    members = [concept for concepts_ in FAMILIES.values() for concept in concepts_]
    assert selftest.plantable(banks.load(None)) == tuple(members)
    planned = list(selftest._plans(banks.load(None), 2, 1, config()))
    assert [len(plan.shortcuts) for plan in planned] == [6, 6, 0]
    assert len({plan.digest for plan in planned}) == 3
    assert json.dumps([plan.seed for plan in planned]) == "[7000000, 7000001, 7000000]"


def test_an_audit_that_asks_for_no_self_test_is_left_as_it_is():
    from audits import audit

    saved = audit()
    assert selftest.attach(saved, saved.settings()) is saved
