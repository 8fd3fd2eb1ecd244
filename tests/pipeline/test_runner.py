"""The whole audit on a tiny model: its record, its report, and that it resumes."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from miniature import BANK
from PIL import Image

from auditor.cli import commands
from auditor.concepts import banks, probes
from auditor.concepts.banks import Concept, ConceptBank
from auditor.concepts.probes import load as load_probe
from auditor.config import AuditConfig
from auditor.core.storage import Work
from auditor.errors import ConfigError, ImagesError, RunError
from auditor.pipeline import generating, observing, run_folder, runner, selection
from auditor.pipeline.engine import InProcess
from auditor.pipeline.inputs import load
from auditor.pipeline.progress import Silent, Watch
from auditor.prototypes import generation
from auditor.record import tables
from auditor.record.schema import Audit
from auditor.report import notes


def without_times(path):
    data = json.loads(Path(path).read_text())
    del data["created"]
    for key in ("started", "finished", "seconds"):
        del data["provenance"][key]
    return data


def test_an_audit_with_the_embedded_probe_is_whole_and_resumes_to_the_same(user, monkeypatch):
    monkeypatch.setattr(probes, "load", load_probe)
    done = runner.run(AuditConfig.model_validate(user))
    assert Audit.read(Path("audit/audit.json")) == done
    assert [c.n_images for c in done.classes] == [12, 12]
    assert [q.id for q in done.coverage.quarantined] == ["0/broken.png"]
    assert done.coverage.hypotheses > 0
    for row in done.classes:
        assert row.divergence.score is not None
        assert all((c.p_model is None) == (c.p is None) for c in row.concepts)
        assert any(c.p_model != c.p for c in row.concepts)
        for prototype in row.prototypes:
            with Image.open(Path("audit") / prototype.file) as image:
                assert image.size == (32, 32)
    first = without_times("audit/audit.json")

    def forbidden(*args, **kwargs):
        raise AssertionError("a finished stage was repeated")

    monkeypatch.setattr(generation, "generate", forbidden)
    Path("audit/audit.json").unlink()
    runner.run(AuditConfig.model_validate(user))
    assert without_times("audit/audit.json") == first


def test_the_files_beside_the_record_are_its_own(user):
    done = runner.run(AuditConfig.model_validate(user))
    out = Path("audit")
    assert [table.name for table in done.tables] == ["scores", "tests"]
    scored = tables.read(out, done, "scores")
    assert len(scored["concept"]) == sum(c.n_concepts for c in done.classes)
    named = {(f.class_index, f.concept) for f in done.findings}
    whole = tables.scores(out, done)
    for row in done.classes:
        every = whole[row.index]
        ranks = [score.rank for score in every if score.rank is not None]
        assert ranks == list(range(1, len(ranks) + 1))
        assert row.concepts[:20] == every[:20]
        assert len(row.concepts) >= min(20, len(every))
        assert {concept for index, concept in named if index == row.index} <= {
            score.concept for score in row.concepts
        }
        assert row.n_hypotheses <= sum(score.q is not None for score in every)
    photos = tables.read(out, done, "tests")
    assert set(photos["finding"]) <= {finding.id for finding in done.findings}
    made = {(f.id, e.test) for f in done.findings for e in f.evidence if e.test != "naming"}
    assert set(zip(photos["finding"], photos["test"], strict=True)) == made
    assert set(photos["role"]) <= {"with", "without", "own", "drawn", "control", "middle"}
    (out / "scores.parquet").write_bytes(b"another")
    with pytest.raises(RunError, match="its SHA-256 differs"):
        tables.read(out, done, "scores")


def test_the_report_escapes_class_names(user):
    from auditor import report

    runner.run(AuditConfig.model_validate(user))
    report.write(Path("audit"), pdf=False)
    html = Path("audit/report.html").read_text()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html
    assert sorted(p.name for p in Path("audit/prototypes").iterdir()) == ["0", "1"]


def test_a_user_error_is_one_sentence_and_exit_code_2(user, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["auditor", "audit", "--model", "nowhere:x", "--images", "photos"]
    )
    with pytest.raises(SystemExit) as stopped:
        commands.main()
    assert stopped.value.code == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text
    assert "nowhere" in text


def test_photos_that_the_pool_shares_are_said(user):
    def told():
        rows = runner.run(AuditConfig.model_validate(user)).coverage.not_tested
        return [notes.reason(row.reason) for row in rows if row.what == "independent_pool"]

    (reason,) = told()
    assert reason.startswith("24 audited photos are also in the pool")
    user |= {"pool": str(Path("photos") / "0"), "out": "partly"}
    (reason,) = told()
    assert reason.startswith("12 audited photos are also in the pool")
    rng = np.random.default_rng(1)
    Path("other").mkdir()
    for n in range(12):
        pixels = rng.integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(Path("other") / f"{n}.png")
    user |= {"pool": "other", "out": "apart"}
    assert told() == []


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        ({"nothing": ("snow",)}, "no class 'nothing'; give expected an index"),
        ({"0": ("a typing error",)}, "the concept 'a typing error'"),
    ],
)
def test_what_is_expected_must_exist(user, expected, told):
    with pytest.raises(ConfigError, match=told):
        runner.run(AuditConfig.model_validate(user | {"expected": expected}))


DIGITS = ("0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9")


def named(names, ids=None):
    return dataclasses.replace(tiny.stripes(), class_names=names, class_ids=ids)


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (("n1", "crane", "0"), (1, 2, 0)),
        (("N1",), "no class 'N1'; give classes an index from 0 to 2"),
        (("tench", "Tench", " TENCH"), (0,)),
        (("2" * 5000,), "no class '2222"),
    ],
)
def test_classes_are_told_by_index_id_or_name(texts, found):
    classifier = named(("tench", "shark", "crane"), ("n0", "n1", "n2"))
    if isinstance(found, tuple):
        assert selection.select_classes(texts, classifier) == found
        return
    with pytest.raises(ConfigError, match=found):
        selection.select_classes(texts, classifier)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"labels": "name"}, r"2 labels that match no class of the model by class name: '0', '1'"),
        ({"label_column": "kind"}, "folder of photos without columns; leave --label-column out"),
    ],
)
def test_what_the_user_says_of_labels_is_heeded(user, settings, told):
    with pytest.raises(ImagesError, match=told):
        runner.run(AuditConfig.model_validate(user | settings))


def test_a_text_that_means_two_classes_is_asked_about():
    digits, twins = named(DIGITS), named(("crane", "crane", "tench"))
    bank = banks.load(None)
    for classifier, text, told in ((digits, "10", "2, 10"), (twins, "crane", "0, 1")):
        with pytest.raises(ConfigError, match=f"classes names '{text}', .* classes {told};"):
            selection.select_classes((text,), classifier)
        with pytest.raises(ConfigError, match=f"expected names '{text}', .* classes {told};"):
            selection.settle_expected({text: ("snow",)}, classifier, bank)
    assert selection.select_classes(("010", "02", "1"), digits) == (10, 2, 1)
    with pytest.raises(ConfigError, match="means class 10, whose name and index"):
        selection.settle_expected({"010": ("snow",)}, digits, bank)


def test_what_is_expected_goes_by_a_name_that_only_the_class_has():
    classifier = named(("crane", "crane", "tench"), ("n0", "n1", "n2"))
    wanted = {"n2": ("snow",), "TENCH": ("fog",), "n1": ("rain",), "00": ("dust",)}
    bank = ConceptBank(
        tuple(Concept(text, "object", (text,), None, None, True) for (text,) in wanted.values()), ""
    )
    assert selection.settle_expected(wanted, classifier, bank) == {
        "tench": ("snow", "fog"), "1": ("rain",), "0": ("dust",),
    }  # fmt: skip


@pytest.mark.parametrize("out", ["photos", "photos/audit", "link/audit"])
@pytest.mark.parametrize("where", ["images", "pool"])
def test_a_run_folder_in_the_photos_is_refused(user, out, where):
    Path("other").mkdir()
    Path("link").symlink_to("photos")
    given = user | {"images": "other", "pool": "other", "out": out} | {where: "photos"}
    before = sorted(Path("photos").rglob("*"))
    with pytest.raises(ConfigError, match=r"lies in the photos photos.*another --out"):
        runner.run(AuditConfig.model_validate(given))
    assert sorted(Path("photos").rglob("*")) == before


def test_a_pool_without_differences_is_refused(user):
    Path("other").mkdir()
    for name in ("a.png", "b.png"):
        (Path("other") / name).write_bytes((Path("photos") / "0" / "0.png").read_bytes())
    with pytest.raises(ImagesError, match="The pool other holds fewer than 2 different photos"):
        runner.run(AuditConfig.model_validate(user | {"pool": "other"}))
    (Path("other") / "c.png").write_bytes((Path("photos") / "1" / "0.png").read_bytes())
    runner.run(AuditConfig.model_validate(user | {"pool": "other"}))


@pytest.mark.parametrize("mode", ["data-free", "paper", "patch"])
def test_the_mode_of_prototypes_is_said_with_what_it_used(user, mode):
    settings = {"prototypes": {"per_class": 1, "steps": 4, "mode": mode, "isolate": True}}
    audit = runner.run(AuditConfig.model_validate(user | settings))
    made = audit.prototyping
    assert made is not None
    assert made.mode == mode
    used = {"data-free": "collages", "paper": "model_alone", "patch": "patched_photos"}
    assert made.used.code == used[mode]
    assert bool(made.layers_used) == (mode == "data-free")
    for audited in audit.classes:
        for prototype in audited.prototypes:
            assert prototype.region is not None
            assert (Path(audit.settings().out) / prototype.region.file).exists()
        for layer in audited.divergence.layers:
            assert layer.used == (layer.name in made.layers_used)
    reasons = {row.what: row.reason.code for row in audit.coverage.not_tested}
    assert reasons["transfer"] == "no_second_model"


def test_a_second_model_judges_the_prototypes(user):
    Path("other.py").write_text(
        "from mine import net as first\n\n"
        "def net():\n"
        "    made = first()\n"
        "    made.head.weight.data = made.head.weight.data.flip(0) if TURNED else "
        "made.head.weight.data * 1.5\n"
        "    return made\n"
    )
    second = user["model"] | {"spec": "python:other:net"}
    settings = {"prototypes": {"per_class": 2, "steps": 40}, "second_model": second}
    for turned in (False, True):
        sys.modules.pop("other", None)
        text = Path("other.py").read_text()
        Path("other.py").write_text(f"TURNED = {turned}\n" + text)
        audit = runner.run(AuditConfig.model_validate(user | settings))
        assert audit.prototyping is not None
        judged = audit.prototyping.transfer
        assert judged is not None
        assert judged.first is not None
        assert judged.unmatched == 0
        assert judged.weights_sha256 != audit.provenance.weights_sha256
        assert judged.first.value == (0 if turned else 1)  # the turned one sees the other class
        Path("other.py").write_text(text)


def test_the_audited_model_is_no_second_model(user):
    settings = {"second_model": user["model"]}
    with pytest.raises(ConfigError, match="took no part"):
        runner.run(AuditConfig.model_validate(user | settings))


def test_a_mode_that_needs_photos_says_how_many_are_left(user):
    settings = {"prototypes": {"mode": "natural", "per_class": 1, "steps": 2}}
    with pytest.raises(ConfigError, match="needs 32 photos that do not show the class"):
        runner.run(AuditConfig.model_validate(user | settings))


def test_what_a_killed_run_left_half_written_is_cleared(user):
    config = AuditConfig.model_validate(user)
    run_folder.claim(Path(config.out))
    left = Path(config.out) / "work" / "photos" / ".auditor-tmp-abc"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    runner.run(config)
    assert not left.exists()


@pytest.mark.parametrize("written", [None, "[", "[" * 100_000, '[{"concept": "sky"}]', "{}1"])
def test_a_list_of_what_was_planted_is_read_before_the_work(user, written):
    if written is not None:
        Path("planted.json").write_text(written)
    with pytest.raises(ConfigError, match=r"planted = planted\.json cannot be used"):
        runner.run(AuditConfig.model_validate(user | {"planted": "planted.json"}))
    assert not list(Path("audit").glob("work/*/*"))


def test_example_photos_that_cannot_be_used_are_listed(user):
    shown = Path("shown")
    shown.mkdir()
    for n in range(6):
        Image.effect_noise((32, 32), 40 + n).convert("RGB").save(shown / f"{n}.png")
    (shown / "broken.png").write_bytes(b"nothing")
    Path("bank.toml").write_text(
        BANK + '[[concept]]\nname = "hum"\ncategory = "artefact"\nphotos = "shown"\n'
    )
    done = runner.run(AuditConfig.model_validate(user))
    listed = {q.id: q.reason for q in done.coverage.quarantined}
    assert "0/broken.png" in listed
    assert listed["concept hum: broken.png"]
    assert next(c for c in done.concepts if c.name == "hum").n_photos == 6


def test_a_retrained_model_takes_over_what_only_photos_and_probe_decide(user, monkeypatch):
    again = "\ndef trained_again():\n    made = net()\n    made.head.weight.data *= 1.5\n"
    Path("mine.py").write_text(Path("mine.py").read_text() + again + "    return made\n")
    computed = []
    arrays = Work.arrays

    def noted(self, stage, key, compute, **options):
        def once():
            computed.append(stage)
            return compute()

        return arrays(self, stage, key, once, **options)

    monkeypatch.setattr(Work, "arrays", noted)
    shared = user | {"work": "shared"}
    runner.run(AuditConfig.model_validate(shared | {"out": "first"}))
    assert {"probed", "changes", "photos"} <= set(computed)
    assert not Path("first/work").exists()
    computed.clear()
    retrained = shared["model"] | {"spec": "python:mine:trained_again"}
    runner.run(AuditConfig.model_validate(shared | {"out": "second", "model": retrained}))
    assert {"photos", "prototypes", "insertions"} <= set(computed)
    assert not {"probed", "changes"} & set(computed)
    alone = runner.run(AuditConfig.model_validate(user | {"out": "alone", "model": retrained}))
    assert Audit.read(Path("second/audit.json")).same_result(alone)


def test_a_shared_folder_of_parts_is_the_program_s_own(user):
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("all of it")
    with pytest.raises(
        RunError, match=r"mine is no work folder .* holds 'thesis.txt'.* for --work"
    ):
        runner.run(AuditConfig.model_validate(user | {"work": "mine"}))
    with pytest.raises(ConfigError, match="work is empty; name a folder"):
        runner.run(AuditConfig.model_validate(user | {"work": " "}))
    with pytest.raises(ConfigError, match=r"work = photos/parts lies in the photos photos"):
        runner.run(AuditConfig.model_validate(user | {"work": "photos/parts"}))
    runner.run(AuditConfig.model_validate(user | {"out": "first"}))
    runner.run(AuditConfig.model_validate(user | {"out": "second", "work": "first/work"}))
    assert not Path("second/work").exists()


@pytest.mark.parametrize(("steps", "few", "made"), [(None, 4, 256), (None, 3, 128), (7, 3, 7)])
def test_many_prototypes_have_fewer_steps_unless_they_are_set(user, monkeypatch, steps, few, made):
    monkeypatch.setattr(generating, "FEW", few)
    settings = {"prototypes": {"per_class": 2, "steps": steps}}
    inputs = load(AuditConfig.model_validate(user | settings), Watch(Silent()))
    engine = InProcess(inputs.worker, Work(Path("work")), Watch(Silent()))
    pooled, generic = observing.observe_pool(inputs, engine)
    plan = generating.planned(inputs, pooled, generic, engine)
    assert len(plan.items) == 4
    assert plan.recipe.steps == made
