"""The saved audit: what is written is read again, and what is wrong is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from audits import HOSTILE, audit
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.testing import CliRunner

from auditor.cli import commands
from auditor.core.estimates import Estimate
from auditor.errors import RunError
from auditor.record.schema import SCHEMA_VERSION, Audit, json_schema

SCHEMA = Path(__file__).parents[2] / "docs" / "audit.schema.json"
Edit = Callable[[dict[str, Any]], object]


def plain(saved: Audit) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(saved.to_json())
    return read


def refusal(path: Path) -> str:
    """What the user is told: one sentence on one line that names the file."""
    with pytest.raises(RunError) as refused:
        Audit.read(path)
    told = str(refused.value)
    assert "\n" not in told
    assert str(path) in told
    assert told.endswith(".")
    return told


# --- what is written is read ------------------------------------------------------------------


@pytest.mark.parametrize("hostile", [False, True])
def test_a_written_audit_is_read_as_it_was(hostile: bool, tmp_path: Path) -> None:
    saved = audit(hostile=hostile, self_test=True)
    saved.write(tmp_path / "audit.json")
    first = (tmp_path / "audit.json").read_bytes()
    read = Audit.read(tmp_path / "audit.json")
    assert read == saved
    read.write(tmp_path / "audit.json")
    assert (tmp_path / "audit.json").read_bytes() == first


def test_hostile_names_survive_as_text(tmp_path: Path) -> None:
    names = (*HOSTILE, "\x00\x1b[31m", "\u200b", "half \ud800 of a pair", "\\udce9", '\\"\n')
    saved = audit()
    classes = [
        saved.classes[0].model_copy(update={"index": i, "name": name})
        for i, name in enumerate(names)
    ]
    coverage = saved.coverage.model_copy(update={"classes": len(names), "images": 1000})
    saved = saved.model_copy(update={"classes": tuple(classes), "coverage": coverage})
    saved.write(tmp_path / "audit.json")
    assert [c.name for c in Audit.read(tmp_path / "audit.json").classes] == list(names)
    text = (tmp_path / "audit.json").read_bytes().decode("utf-8")
    assert not [c for c in text if ord(c) < 32 and c != "\n"]


@settings(deadline=None)
@given(st.text(st.characters(), max_size=40), st.floats(allow_nan=False, allow_infinity=False))
def test_any_text_and_number_survive(name: str, value: float) -> None:
    estimate = Estimate(value=value, low=value, high=value, n=1)
    saved = audit()
    own = saved.classes[0].divergence.model_copy(update={"score": estimate})
    first = saved.classes[0].model_copy(update={"name": name, "divergence": own})
    saved = saved.model_copy(update={"classes": (first, *saved.classes[1:])})
    read = Audit.model_validate(json.loads(saved.to_json())).classes[0]
    assert (read.name, read.divergence.score) == (name, estimate)


# --- what is inconsistent is refused ----------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "low", "high", "n"),
    [
        (0.5, 0.6, 0.4, 9),
        (0.3, 0.4, 0.6, 9),
        (0.7, 0.4, 0.6, 9),
        (0.5, 0.4, 0.6, -1),
        (float("nan"), 0.4, 0.6, 9),
        (0.5, float("nan"), 0.6, 9),
        (0.5, 0.4, float("inf"), 9),
    ],
)
def test_an_estimate_lies_in_its_interval(value: float, low: float, high: float, n: int) -> None:
    with pytest.raises(ValidationError):
        Estimate(value=value, low=low, high=high, n=n)


def test_an_interval_may_be_a_point() -> None:
    assert Estimate(value=0.5, low=0.5, high=0.5, n=0).value == 0.5


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (lambda d: d["classes"][1].update(index=0), "a class index stands twice"),
        (lambda d: d["findings"][1].update(id=d["findings"][0]["id"]), "a finding stands twice"),
        (lambda d: d["findings"][0].update(class_index=99), "a class that was not audited"),
        (lambda d: d["classes"][0]["accuracy"].update(value=99), "classes.0.accuracy"),
        (lambda d: d["classes"][0]["accuracy"].update(low=None), "classes.0.accuracy.low"),
        (lambda d: d["classes"][0]["prototypes"][0].update(probability=1.5), "probability"),
        (lambda d: d["classes"][0]["concepts"][0].update(p=-0.1), "classes.0.concepts.0.p"),
        (lambda d: d["findings"][0].update(grade="certain"), "findings.0.grade"),
        (lambda d: d["verdict"].update(status="passed"), "verdict.status"),
        (lambda d: d["coverage"].pop("smallest_effect"), "coverage.smallest_effect"),
        (lambda d: d["spec"].update(seed=-1), "spec.seed"),
        (lambda d: d.update(extra=1), "extra"),
        (lambda d: d.pop("findings"), "findings"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(
    edit: Edit, where: str, tmp_path: Path
) -> None:
    data = plain(audit())
    path = tmp_path / "audit.json"
    path.write_text(json.dumps(data))
    Audit.read(path)  # as it is, it is valid
    edit(data)
    path.write_text(json.dumps(data))
    told = refusal(path)
    assert "is not a valid audit: " in told
    assert where in told


def evidence(data: dict[str, Any], finding: int, test: int) -> dict[str, Any]:
    told: dict[str, Any] = data["findings"][finding]["evidence"][test]
    return told


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        # counts
        (lambda d: d["classes"][0].update(n_images=-5), "classes.0.n_images"),
        (lambda d: d["classes"][0].update(n_images=10**400), "classes.0.n_images"),
        (lambda d: d["classes"][0].update(n_images=100_000), "photos together, of 244"),
        (lambda d: d["coverage"].update(images=-1), "coverage.images"),
        (lambda d: d["coverage"].update(pool=-1), "coverage.pool"),
        (lambda d: d["coverage"].update(hypotheses=-1), "coverage.hypotheses"),
        (lambda d: d["coverage"].update(classes=7), "7 classes are said to be audited and 6"),
        (lambda d: d["coverage"].update(classes_of_model=3), "6 of the model's 3 classes"),
        (lambda d: d["classes"][0].update(index=2000), "none of the model's 1000 classes"),
        (lambda d: d["clusters"][0].update(n_images=3), "its classes have 24 photos of 3"),
        (lambda d: d["clusters"][0].update(n_prototypes=1), "its classes have 2 prototypes of 1"),
        (lambda d: d["clusters"][0]["classes"][0].update(index=1000), "none of the model's"),
        (lambda d: d["clusters"][0]["classes"][0].update(index=4), "a class stands twice"),
        (lambda d: d["clusters"][2].update(shared=True), "said to be shared, by one class"),
        (lambda d: d["self_test"].update(shortcuts=3, learned=4), "4 of 3 planted shortcuts"),
        (lambda d: d["self_test"].update(planted_models=-1), "self_test.planted_models"),
        (lambda d: d["concepts"][0].update(n_photos=-1), "concepts.0.n_photos"),
        (lambda d: d["provenance"]["seconds"].update(probe=-1), "provenance.seconds.probe"),
        (lambda d: d["provenance"].update(seeds=[-1]), "provenance.seeds.0"),
        (lambda d: evidence(d, 0, 0).update(n=-1), "findings.0.evidence.0.n"),
        # ranks
        (lambda d: d["classes"][0]["divergence"].update(rank=0), "divergence.rank"),
        (lambda d: d["classes"][0]["divergence"].update(rank_low=5, rank_high=5, rank=4),
         "rank 4 by divergence does not lie in 5 to 5"),
        (lambda d: d["classes"][0]["divergence"].update(rank=7, rank_high=7), "of 6 classes"),
        (lambda d: d["classes"][0]["divergence"].update(rank=None), "both ends of its interval"),
        (lambda d: d["classes"][0]["divergence"].update(rank=None, rank_low=None, rank_high=None),
         "a divergence and no rank"),
        (lambda d: d["classes"][0]["concepts"][0].update(rank=2), "a rank stands twice"),
        (lambda d: d["classes"][0]["concepts"][0].update(rank=99), "has rank 99 of 10"),
        (lambda d: d["classes"][0]["concepts"][0].update(rank=None), "a score or a rank alone"),
        (lambda d: d["planted"][0].update(found_rank=0), "planted.0.found_rank"),
        # numbers outside of what they can be
        (lambda d: d["classes"][0]["accuracy"].update(high=1.7), "accuracy lies outside"),
        (lambda d: d["classes"][0].update(n_images=0), "an accuracy and no photos"),
        (lambda d: d["divergence_and_harm"]["rho"].update(high=1.2), "outside of -1 to 1"),
        (lambda d: d["classes"][0]["divergence"]["layers"][0].update(spearman=1.1), "spearman"),
        (lambda d: d["classes"][0]["divergence"]["layers"][0].update(l1=-0.1), "l1"),
        (lambda d: evidence(d, 0, 2)["effect"].update(high=1.5), "insertion lies outside of -1"),
        (lambda d: [evidence(d, 2, 0).update(test="prevalence"),
                    d["findings"][2].update(basis="prevalence")], "prevalence lies outside of 0"),
        (lambda d: d["planted"][0]["learned"].update(high=2), "no change of a probability"),
        (lambda d: evidence(d, 0, 1).update(q=0.0001), "association has q below p"),
        (lambda d: d["classes"][0]["concepts"][0].update(q=0.0001), "has q below p"),
        (lambda d: evidence(d, 0, 1).update(p="NaN"), "findings.0.evidence.1.p"),
        # claims
        (lambda d: d["findings"][0].update(evidence=[]), "confirmed without evidence"),
        (lambda d: d["findings"][2].update(evidence=[]), "suspected without evidence"),
        (lambda d: d["findings"][1]["evidence"].pop(), "no test on photos speaks for it"),
        (lambda d: d["findings"][1].update(basis="insertion"), "is not among its evidence"),
        (lambda d: d["findings"][1].update(basis="naming"), "rests on naming, no test on photos"),
        (lambda d: d["findings"][2].update(basis=None), "suspected and rests on no test"),
        (lambda d: d["findings"][2].update(grade="confirmed"), "no test on photos speaks for it"),
        (lambda d: evidence(d, 1, 1)["effect"].update(value=-0.1, low=-1.0, high=0.5),
         "corroborated and no test on photos"),
        (lambda d: d["findings"][0]["evidence"].append(evidence(d, 0, 0)), "a test stands twice"),
        (lambda d: d["findings"][0].update(concept="unheard of"), "is not in the bank"),
        (lambda d: d["findings"][1].update(class_index=0, concept="Chinese watermark"),
         "a class and concept stands twice"),
        (lambda d: d["findings"][0].update(id=""), "findings.0.id"),
        (lambda d: d["concepts"][1].update(name="graffiti"), "a concept stands twice"),
        (lambda d: d["verdict"].update(reasons=[]), "not_met without a criterion or reason"),
        (lambda d: d["verdict"]["reasons"][0].update(params={}), "code text needs text"),
        (lambda d: d["verdict"]["reasons"][0].update(params={"text": " "}), "which is empty"),
        (lambda d: d["coverage"]["not_tested"][0].update(reason=""), "not_tested.0.reason"),
        (lambda d: d["coverage"]["not_tested"][0].update(class_index=77), "was not audited"),
        (lambda d: d["coverage"]["not_tested"][1].update(concept=None), "names a concept or"),
        (lambda d: d["classes"][0].update(n_concepts=3), "3 concepts are said to be scored"),
        (lambda d: d.update(created="yesterday"), "created is no time"),
        (lambda d: d["provenance"].update(finished=""), "finished is no time"),
    ],
)  # fmt: skip
def test_what_cannot_be_true_at_once_is_refused(edit: Edit, where: str, tmp_path: Path) -> None:
    data = plain(audit(self_test=True))
    edit(data)
    (tmp_path / "audit.json").write_text(json.dumps(data))
    told = refusal(tmp_path / "audit.json")
    assert "is not a valid audit: " in told
    assert where in told


def test_a_name_that_stands_twice_in_an_object_is_told(tmp_path: Path) -> None:
    text = audit().to_json().replace('"title":', '"title": "another", "title":', 1)
    (tmp_path / "audit.json").write_text(text)
    assert "a name stands twice" in refusal(tmp_path / "audit.json")


def test_a_record_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "audit.json")
    assert "it is no regular file" in refusal(tmp_path / "audit.json")


@pytest.mark.parametrize(
    "version", ["1", "1.x", "1.7.3", "01.7", " 1.7", "1.-1", "0.9", 1.7, [1], None]
)
def test_a_version_that_is_none_is_told(version: object, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(json.dumps(plain(audit()) | {"schema_version": version}))
    assert "has schema version" in refusal(tmp_path / "audit.json")


def test_a_later_record_that_does_not_fit_names_its_version(tmp_path: Path) -> None:
    data = plain(audit()) | {"schema_version": "2.99", "classes": {}}
    (tmp_path / "audit.json").write_text(json.dumps(data))
    told = refusal(tmp_path / "audit.json")
    assert "classes" in told
    assert "its schema version 2.99 is later than" in told


def test_what_a_later_minor_version_adds_is_left_out_and_told(tmp_path: Path) -> None:
    data = plain(audit()) | {"schema_version": "2.7", "criteria": []}
    data["findings"][0]["severity"] = "high"
    data["findings"][0]["pictures"].append({"file": "x.png", "kind": "heatmap"})
    data["findings"][1]["caveats"] = [{"code": "few_cameras", "params": {"cameras": 2}}]
    data["coverage"]["not_tested"][0]["what"] = "texture"
    data["spec"]["prototypes"]["sharpness"] = 2
    (tmp_path / "audit.json").write_text(json.dumps(data))
    read = Audit.read(tmp_path / "audit.json")
    assert read.schema_version == "2.7"
    assert read.findings[0] == audit().findings[0]
    (caveat,) = read.findings[1].caveats
    assert caveat.params == {"text": 'few_cameras {"cameras": 2}'}
    assert read.coverage.not_tested[0].what == "text"
    assert read.coverage.not_tested[0].reason.text("what") == "texture"
    assert read.settings() == audit().settings()
    kept = read.spec["prototypes"]
    assert isinstance(kept, dict)
    assert kept["sharpness"] == 2, "a setting is kept, though nobody reads it"
    (remark,) = read.coverage.remarks
    assert remark.code == "record_later"
    for left_out in ("criteria", "findings.severity", "findings.pictures", "findings.caveats.code"):
        assert left_out in remark.text
    same = plain(audit()) | {"criteria": []}
    (tmp_path / "audit.json").write_text(json.dumps(same))
    assert "criteria" in refusal(tmp_path / "audit.json"), "of this version nothing is unknown"


def test_the_record_of_the_sample_report_is_read() -> None:
    read = Audit.read(Path(__file__).parents[2] / "sample_reports" / "example" / "audit.json")
    assert len(read.classes) == read.coverage.classes == 12


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize(
    "place",
    [
        ("classes", 0, "accuracy", "value"),
        ("classes", 0, "divergence", "layers", 0, "l1"),
        ("classes", 0, "concepts", 0, "score"),
        ("classes", 0, "concepts", 0, "channels", "bridge"),
        ("clusters", 0, "score"),
        ("provenance", "seconds", "probe"),
        ("spec", "model", "mean", 0),
    ],
)
def test_numbers_that_are_none_are_not_read(
    number: str, place: tuple[str | int, ...], tmp_path: Path
) -> None:
    data: Any = plain(audit())
    data["spec"]["model"]["mean"] = [0.5]
    inner = data
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = 987654.25
    text = json.dumps(data)
    assert text.count("987654.25") == 1
    (tmp_path / "audit.json").write_text(text.replace("987654.25", number))
    assert ".".join(map(str, place)) in refusal(tmp_path / "audit.json")


def test_nan_is_never_written(tmp_path: Path) -> None:
    audit().write(tmp_path / "audit.json")
    before = (tmp_path / "audit.json").read_bytes()
    saved = audit()
    unchecked = saved.provenance.model_copy(update={"seconds": {"probe": float("nan")}})
    with pytest.raises(ValueError, match="not JSON compliant"):
        saved.model_copy(update={"provenance": unchecked}).write(tmp_path / "audit.json")
    assert (tmp_path / "audit.json").read_bytes() == before
    assert b"NaN" not in before


def test_a_saved_value_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        audit().title = "another"


# --- files that hold no audit -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is not valid JSON"),
        (audit().to_json().encode()[:-500], "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"schema_version": ' + b"1" * 5000 + b"}", "is not valid JSON"),
        (b'{"title": "\xe9"}', "Cannot read the audit"),
        (b"[]", "has schema version None"),
        (b'{"schema_version": "3.0"}', "has schema version '3.0', this program reads 1.0 to 2.x"),
        (b'{"schema_version": "1.0"}', "is not a valid audit"),
        (b'{"schema_version": "2.0"}', "is not a valid audit"),
    ],
    ids=["empty", "cut", "deep", "long number", "latin", "list", "later", "older", "bare"],
)
def test_what_is_no_audit_is_told(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_bytes(content)
    assert told in refusal(tmp_path / "audit.json")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert refusal(tmp_path / "audit.json").startswith("Cannot read the audit ")
    assert refusal(tmp_path).startswith("Cannot read the audit ")


def test_a_later_minor_version_that_fits_is_read(tmp_path: Path) -> None:
    data = plain(audit())
    data["schema_version"] = SCHEMA_VERSION.split(".")[0] + ".7"
    (tmp_path / "audit.json").write_text(json.dumps(data))
    assert Audit.read(tmp_path / "audit.json").schema_version.endswith(".7")


# --- the published schema ---------------------------------------------------------------------


def test_the_published_schema_is_the_one_that_is_printed() -> None:
    printed = CliRunner().invoke(commands.app, ["schema"])
    assert printed.exit_code == 0
    assert printed.stdout == SCHEMA.read_text(encoding="utf-8")
    assert json.loads(printed.stdout) == json_schema()


@pytest.mark.parametrize("hostile", [False, True])
def test_a_written_audit_fits_the_published_schema(hostile: bool, tmp_path: Path) -> None:
    audit(hostile=hostile, self_test=True).write(tmp_path / "audit.json")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    data = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    jsonschema.validate(data, schema)


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d["findings"][0].update(grade="certain"),
        lambda d: d["classes"][0]["prototypes"][0].update(probability=1.5),
        lambda d: d["classes"][0]["accuracy"].update(n=-1),
        lambda d: d["classes"][0].update(extra=1),
        lambda d: d.pop("coverage"),
    ],
)
def test_the_published_schema_refuses_too(edit: Edit) -> None:
    data = plain(audit())
    edit(data)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_a_record_is_read_without_pytorch(tmp_path: Path) -> None:
    audit().write(tmp_path / "audit.json")
    script = (
        "import sys; from pathlib import Path; from auditor.record.schema import Audit; "
        "print(Audit.read(Path(sys.argv[1])).title, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "audit.json")],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == f"{audit().title} False\n"
