"""The whole audit on a tiny model: its record, its report, and that it resumes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from auditor import cli, pipeline, prototypes
from auditor.config import AuditConfig
from auditor.errors import ConfigError
from auditor.record import Audit

FACTORY = """
import torch
import sys
sys.path.insert(0, {tests!r})
from tiny import Stripes

def net():
    return Stripes()
"""
BANK = """
[[concept]]
name = "black border"
category = "frame"
drawing = "black_border"
prompts = ["a photo with a black border"]

[[concept]]
name = "sky"
category = "background"
prompts = ["a blue sky"]
"""


@pytest.fixture
def user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("mine", None)
    Path("mine.py").write_text(FACTORY.format(tests=str(Path(__file__).parent)))
    Path("names.txt").write_text("across\n<script>alert(1)</script>\n")
    Path("bank.toml").write_text(BANK)
    rng = np.random.default_rng(0)
    for label in range(2):
        folder = Path("photos") / str(label)
        folder.mkdir(parents=True)
        for n in range(12):
            wave = 127 + 100 * np.sin(np.arange(32) * rng.uniform(1, 2))
            pixels = np.broadcast_to(
                wave[None, :, None] if label else wave[:, None, None], (32, 32, 3)
            )
            noisy = np.clip(pixels + rng.normal(0, 20, (32, 32, 3)), 0, 255)
            Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{n}.png")
    (Path("photos") / "0" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return {
        "model": {"spec": "python:mine:net", "size": 32, "class_names": "names.txt"},
        "images": "photos",
        "concepts": "bank.toml",
        "prototypes": {"per_class": 2, "steps": 6},
        "statistics": {"permutations": 99, "bootstrap": 99},
    }


def without_times(path):
    data = json.loads(Path(path).read_text())
    del data["created"]
    for key in ("started", "finished", "seconds"):
        del data["provenance"][key]
    return data


def test_an_audit_is_whole_and_resumes_to_the_same(user, monkeypatch):
    done = pipeline.run(AuditConfig.model_validate(user))
    assert Audit.read(Path("audit/audit.json")) == done
    assert [c.n_images for c in done.classes] == [12, 12]
    assert [q.id for q in done.coverage.quarantined] == ["0/broken.png"]
    assert done.coverage.hypotheses > 0
    for row in done.classes:
        assert row.divergence.score is not None
        for prototype in row.prototypes:
            with Image.open(Path("audit") / prototype.file) as image:
                assert image.size == (32, 32)
    first = without_times("audit/audit.json")

    def forbidden(*args, **kwargs):
        raise AssertionError("a finished stage was repeated")

    monkeypatch.setattr(prototypes, "generate", forbidden)
    Path("audit/audit.json").unlink()
    pipeline.run(AuditConfig.model_validate(user))
    assert without_times("audit/audit.json") == first


def test_the_report_escapes_class_names(user):
    from auditor import report

    pipeline.run(AuditConfig.model_validate(user))
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
        cli.main()
    assert stopped.value.code == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text
    assert "nowhere" in text


def test_photos_that_the_pool_shares_are_said(user):
    def told():
        rows = pipeline.run(AuditConfig.model_validate(user)).coverage.not_tested
        return [row.reason for row in rows if row.what == "an independent pool"]

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
        ({"nothing": ("snow",)}, "the class 'nothing'"),
        ({"0": ("a typing error",)}, "the concept 'a typing error'"),
    ],
)
def test_what_is_expected_must_exist(user, expected, told):
    with pytest.raises(ConfigError, match=told):
        pipeline.run(AuditConfig.model_validate(user | {"expected": expected}))


@pytest.mark.parametrize("mode", ["data-free", "paper", "patch"])
def test_the_mode_of_prototypes_is_said_with_what_it_used(user, mode):
    settings = {"prototypes": {"per_class": 1, "steps": 4, "mode": mode, "isolate": True}}
    audit = pipeline.run(AuditConfig.model_validate(user | settings))
    made = audit.prototyping
    assert made is not None
    assert made.mode == mode
    used = {"data-free": "collages", "paper": "alone", "patch": "put on"}
    assert used[mode] in made.used
    assert bool(made.layers_used) == (mode == "data-free")
    for audited in audit.classes:
        for prototype in audited.prototypes:
            assert prototype.region is not None
            assert (Path(audit.spec.out) / prototype.region.file).exists()
        for layer in audited.divergence.layers:
            assert layer.used == (layer.name in made.layers_used)
    reasons = {row.what: row.reason for row in audit.coverage.not_tested}
    assert "--second-model" in reasons["transfer of prototypes to a second model"]


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
        audit = pipeline.run(AuditConfig.model_validate(user | settings))
        judged = audit.prototyping.transfer
        assert judged.unmatched == 0
        assert judged.weights_sha256 != audit.provenance.weights_sha256
        assert judged.first.value == (0 if turned else 1)  # the turned one sees the other class
        Path("other.py").write_text(text)


def test_the_audited_model_is_no_second_model(user):
    settings = {"second_model": user["model"]}
    with pytest.raises(ConfigError, match="took no part"):
        pipeline.run(AuditConfig.model_validate(user | settings))


def test_a_mode_that_needs_photos_says_how_many_are_left(user):
    settings = {"prototypes": {"mode": "natural", "per_class": 1, "steps": 2}}
    with pytest.raises(ConfigError, match="needs 32 photos that do not show the class"):
        pipeline.run(AuditConfig.model_validate(user | settings))


def test_what_a_killed_run_left_half_written_is_cleared(user):
    config = AuditConfig.model_validate(user)
    left = Path(config.out) / "work" / "photos" / ".tmp-abc"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    pipeline.run(config)
    assert not left.exists()
