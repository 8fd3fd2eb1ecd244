"""The configuration: its two file formats, flags over the file, and one sentence per mistake."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from auditor.config import AuditConfig
from auditor.errors import ConfigError

TOML = """
images = "photos"
classes = ["husky", "7"]
seed = 3

[model]
spec = "timm:resnet18"
mean = [0.5, 0.5, 0.5]

[prototypes]
steps = 10

[expected]
husky = ["snow"]
"""
YAML = """
images: photos
classes: [husky, "7"]
seed: 3
model:
  spec: timm:resnet18
  mean: [0.5, 0.5, 0.5]
prototypes: {steps: 10}
expected:
  husky: [snow]
"""
FLAGS = {"model.spec": "timm:resnet18", "images": "photos"}


def load(tmp_path: Path, text: str, *, name: str = "audit.toml", **flags: Any) -> AuditConfig:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return AuditConfig.load(path, {**FLAGS, **flags})


def refusal(path: Path | None, flags: dict[str, Any]) -> str:
    """What the user is told: one sentence on one line."""
    with pytest.raises(ConfigError) as refused:
        AuditConfig.load(path, flags)
    told = str(refused.value)
    assert "\n" not in told
    assert told.endswith(".")
    assert not told.endswith("..")
    return told


# --- what is read -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["audit.yaml", "audit.yml"])
def test_both_formats_say_the_same(name: str, tmp_path: Path) -> None:
    (tmp_path / "audit.toml").write_text(TOML)
    (tmp_path / name).write_text(YAML)
    read = AuditConfig.load(tmp_path / "audit.toml", {})
    assert read == AuditConfig.load(tmp_path / name, {})
    assert read.model.spec == "timm:resnet18"
    assert read.model.mean == (0.5, 0.5, 0.5)
    assert read.classes == ("husky", "7")
    assert read.prototypes.steps == 10
    assert read.expected == {"husky": ("snow",)}
    assert read.seed == 3


def test_what_is_not_said_is_the_default(tmp_path: Path) -> None:
    read = load(tmp_path, "[prototypes]\nsteps = 10\n")
    plain = AuditConfig.load(None, FLAGS)
    assert read.prototypes.per_class == plain.prototypes.per_class
    assert read.model_copy(update={"prototypes": plain.prototypes}) == plain


def test_the_model_may_be_a_bare_specification(tmp_path: Path) -> None:
    (tmp_path / "audit.toml").write_text('model = "timm:vit"\nimages = "photos"\n')
    assert AuditConfig.load(tmp_path / "audit.toml", {"model.size": 64}).model.spec == "timm:vit"


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeffseed = 9\n").seed == 9


def test_flags_go_over_the_file_and_leave_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "audit.toml"
    path.write_text(TOML)
    read = AuditConfig.load(path, {"seed": 8, "model.size": 64, "images": None, "classes": None})
    assert read.seed == 8
    assert read.model.size == (64, 64)
    assert read.model.mean == (0.5, 0.5, 0.5)
    assert read.images == "photos"
    assert read.classes == ("husky", "7")


def test_a_false_or_zero_flag_is_a_flag(tmp_path: Path) -> None:
    flags: dict[str, Any] = {"seed": 0, "model.trust_code": False}
    read = load(tmp_path, "seed = 3\n[model]\ntrust_code = true\n", **flags)
    assert read.seed == 0
    assert read.model.trust_code is False


def test_a_configuration_cannot_be_changed() -> None:
    read = AuditConfig.load(None, FLAGS)
    with pytest.raises(ValidationError, match="frozen"):
        read.seed = 4


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({}, "model is missing: give --model or set it in the file."),
        (
            {"model.size": 32, "images": "p"},
            "model.spec is missing: give --model or set it in the file.",
        ),
        ({"model.spec": "m"}, "images is missing: give --images or set it in the file."),
    ],
)
def test_what_is_missing_is_asked_for_by_its_flag(flags: dict[str, Any], told: str) -> None:
    assert refusal(None, flags) == told


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('imagse = "photos"', "imagse"),
        ("[prototypes]\nstep = 3", "prototypes.step"),
        ('[model]\nspecs = "m"', "model.specs"),
    ],
)
def test_a_misspelt_name_is_named_before_what_it_leaves_missing(
    text: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "audit.toml"
    path.write_text(text)
    assert refusal(path, {}) == f"There is no setting {name}; check its spelling."


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("seed = -1", "seed = -1 "),
        ("seed = 2147483648", "seed = 2147483648 "),
        ("batch = 0", "batch = 0 "),
        ("classes = []", "classes = [] "),
        ("classes = [3]", "classes.0 = 3 "),
        ('pdf = "maybe"', "pdf = 'maybe' "),
        ("[model]\nsize = 7", "model.size = 7 "),
        ("[model]\nstd = [0.1, 0, 0.1]", "model.std.1 = 0 "),
        ("[model]\nmean = [nan, 0, 0]", "model.mean.0 = nan "),
        ("[model]\nmean = [inf, 0, 0]", "model.mean.0 = inf "),
        ("[prototypes]\nprobability = 1.0", "prototypes.probability = 1.0 "),
        ("[prototypes]\nprobability = nan", "prototypes.probability = nan "),
        ("[prototypes]\nper_class = 65", "prototypes.per_class = 65 "),
        ("[statistics]\nq_level = 0", "statistics.q_level = 0 "),
        ("[statistics]\nmin_photos = 1", "statistics.min_photos = 1 "),
        ("[statistics]\npermutations = 98", "statistics.permutations = 98 "),
        ("[statistics]\npermutations = 1000001", "statistics.permutations = 1000001 "),
        ("[statistics]\nbootstrap = 1000001", "statistics.bootstrap = 1000001 "),
        ("batch = 4097", "batch = 4097 "),
        ("[prototypes]\nbatch = 4097", "prototypes.batch = 4097 "),
        ("expected = 3", "expected = 3 "),
    ],
)
def test_a_value_out_of_range_is_shown(text: str, setting: str, tmp_path: Path) -> None:
    (tmp_path / "audit.toml").write_text(text)
    told = refusal(tmp_path / "audit.toml", FLAGS)
    assert told.startswith(setting)
    assert "cannot be used: " in told


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("seed = 0", 0), ("seed = 2147483647", 2147483647), ("seed = 3", 3),
    ],
)  # fmt: skip
def test_the_ends_of_a_range_belong_to_it(text: str, setting: int, tmp_path: Path) -> None:
    assert load(tmp_path, text).seed == setting


def test_a_long_value_is_cut(tmp_path: Path) -> None:
    (tmp_path / "audit.toml").write_text(f'seed = "{"x" * 10_000}"')
    assert len(refusal(tmp_path / "audit.toml", FLAGS)) < 200


ALIASED = {
    "lists in lists": "seed:\n  - &a0 [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"  - &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20)),
    "tables merged into tables": "a0: &a0 {k: v}\n"
    + "".join(f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)),
    "one list many times": "x: &x [" + "x, " * 1000 + "]\nexpected:\n"
    + "".join(f"  c{n}: *x\n" for n in range(1000)),
    "a list that holds itself": "images: &a [*a]\n",
}  # fmt: skip


@pytest.mark.parametrize("what", ALIASED)
def test_aliases_which_let_a_few_lines_stand_for_millions_are_refused(
    what: str, tmp_path: Path
) -> None:
    path = tmp_path / "audit.yaml"
    path.write_text(ALIASED[what])
    told = refusal(path, FLAGS)
    assert told.startswith(f"{path} cannot be parsed: aliases (*) are not read; write the value")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("seed: 1\nimages: x\nseed: 2\n", "seed"),
        ("model: {spec: x, size: 32, spec: y}\n", "spec"),
        ("expected:\n  cat: [sky]\n  'cat': [grass]\n", "cat"),
    ],
)
def test_a_setting_that_is_made_twice_is_refused(text: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "audit.yaml"
    path.write_text(text)
    assert f"cannot be parsed: '{key}' is set twice" in refusal(path, FLAGS)


@pytest.mark.parametrize("what", ["fifo", "/dev/zero", "folder", "300 MiB of zeros"])
def test_what_never_ends_is_no_file_of_settings(what: str, tmp_path: Path) -> None:
    path = tmp_path / "audit.toml"
    match what:
        case "fifo":
            os.mkfifo(path)
        case "/dev/zero":
            path.symlink_to(what)
        case "folder":
            path.mkdir()
        case _:
            with path.open("wb") as file:
                file.truncate(300 * 2**20)
    told = refusal(path, FLAGS)
    assert told.startswith(f"Cannot read the configuration {path}: ")
    assert told.endswith(("Not a regular file.", "Larger than 1,048,576 bytes.", "directory."))


def test_a_value_where_a_table_belongs_is_told(tmp_path: Path) -> None:
    (tmp_path / "audit.toml").write_text("model = 3")
    told = refusal(tmp_path / "audit.toml", {"model.size": 32, "images": "p"})
    assert told == "model = 3 is no table of settings."


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("audit.toml", "seed = ", "cannot be parsed"),
        ("audit.toml", "seed = 1\nseed = 2", "cannot be parsed"),
        ("audit.toml", "a = " + "[" * 5000, "cannot be parsed"),
        ("audit.toml", "seed = " + "1" * 5000, "cannot be parsed"),
        ("audit.toml", "a" + ".a" * 100_000 + " = 1", "the key in line 1 has more than 100 dots"),
        ("audit.toml", "\n[" + "a." * 100_000 + "a]", "the key in line 2 has more than 100 dots"),
        ("audit.yaml", "seed: [", "cannot be parsed"),
        ("audit.yaml", "seed: 2001-99-99", "cannot be parsed"),
        ("audit.yaml", "[" * 5000, "cannot be parsed"),
        ("audit.yaml", "a: 1\n---\nb: 2", "cannot be parsed"),
        ("audit.yaml", "seed: !!int ''", "cannot be parsed"),
        ("audit.yaml", "seed: !!float ''", "cannot be parsed"),
        ("audit.yaml", "seed: !!bool 'zz'", "cannot be parsed"),
        ("audit.yaml", "seed: !!timestamp 'zz'", "cannot be parsed"),
        ("audit.yaml", "- model\n- images", "holds no table of settings"),
        ("audit.yaml", "", "holds no table of settings"),
        ("audit.yaml", "1: 2", "cannot be used"),
        ("audit.json", "{}", "neither .toml nor .yaml"),
        ("audit", "seed = 1", "neither .toml nor .yaml"),
    ],
)
def test_a_file_that_cannot_be_parsed(name: str, text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert told in refusal(tmp_path / name, FLAGS)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'images = "caf\xe9"')
    for path in (tmp_path / "nowhere.toml", tmp_path, tmp_path / "latin.toml"):
        assert refusal(path, FLAGS).startswith(f"Cannot read the configuration {path}: ")


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    made = tmp_path / "made"
    (tmp_path / "audit.yaml").write_text(f"images: !!python/object/apply:os.mkdir ['{made}']")
    assert "cannot be parsed" in refusal(tmp_path / "audit.yaml", FLAGS)
    assert not made.exists()


# --- anything at all --------------------------------------------------------------------------

names = st.sampled_from([*AuditConfig.model_fields, "spec", "steps", "q_level", "title", "nowhere"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=100,
    deadline=None,
)
@given(data=st.dictionaries(names, values, max_size=4), flags=st.booleans())
def test_any_yaml_is_a_configuration_or_one_sentence(
    data: dict[str, Any], flags: bool, tmp_path: Path
) -> None:
    path = tmp_path / "audit.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    try:
        read = AuditConfig.load(path, dict(FLAGS) if flags else {})
    except ConfigError as error:
        told = str(error)
    else:
        told = "nothing"
        assert set(data) <= set(AuditConfig.model_fields)
        assert AuditConfig.model_validate(read.model_dump()) == read
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(("name", "most"), [("title", 200), ("intended_use", 20_000)])
def test_a_text_that_no_report_can_show_is_told(name: str, most: int, tmp_path: Path) -> None:
    settings = {"model.spec": "m", "images": "p"}
    assert AuditConfig.load(None, settings | {f"scope.{name}": "t" * most})
    with pytest.raises(ConfigError, match=rf"scope\.{name} has 1,000,000 characters, at most"):
        AuditConfig.load(None, settings | {f"scope.{name}": "t" * 10**6})
