"""Shards: together they give the audit of one run, and nothing else is merged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from miniature import Project

from auditor.config import AuditConfig
from auditor.core.storage import Work
from auditor.errors import ConfigError, RunError
from auditor.evidence import insertion
from auditor.pipeline import runner, sharding
from auditor.pipeline.sharding import Shard

TOTAL = 3


def settings(project: Project, **changes: Any) -> AuditConfig:
    return AuditConfig.model_validate(
        project.settings(prototypes__per_class=2, prototypes__steps=6, pool="pool") | changes
    )


@pytest.fixture
def config(project: Project) -> AuditConfig:
    project.filled()
    project.photos("pool", seed=1)
    return settings(project)


def shards(config: AuditConfig, *, together: bool, total: int = TOTAL) -> list[Path]:
    """The run folders of all shards."""
    folders = []
    for number in range(1, total + 1):
        folder = Path("all" if together else f"shard-{number}")
        own = config.model_copy(update={"out": str(folder)})
        sharding.compute(own, Shard(number, total))
        folders.append(folder)
    return folders[:1] if together else folders


def without_times(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text())
    del data["created"], data["spec"]["out"]
    for key in ("started", "finished", "seconds"):
        del data["provenance"][key]
    return data


@pytest.mark.parametrize("together", [True, False])
def test_shards_give_what_one_run_gives(
    config: AuditConfig, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.run(config.model_copy(update={"out": "whole"}))
    folders = shards(config, together=together, total=8)
    merged = sharding.merge(folders, None if together else Path("merged"))
    computed, arrays = [], Work.arrays

    def counted(self: Work, stage: str, key: Any, compute: Any, **options: Any) -> Any:
        def once() -> Any:
            computed.append(stage)
            return compute()

        return arrays(self, stage, key, once, **options)

    monkeypatch.setattr(Work, "arrays", counted)
    runner.run(merged)
    assert computed == ([] if together else ["answers"])  # by which the model is known again
    assert without_times(Path(merged.out) / "audit.json") == without_times(Path("whole/audit.json"))


def test_every_shard_has_work_and_none_does_another_s(config: AuditConfig) -> None:
    results = []
    for folder in shards(config, together=False):
        (note,) = (folder / "shards").iterdir()
        results.append(set(json.loads(note.read_text())["results"]))
    shared = set.intersection(*results)
    assert {name.partition("/")[0] for name in shared} == {"photos"}, "of the pool"
    assert all(own - shared for own in results)
    assert len(set.union(*results) - shared) == sum(len(own - shared) for own in results)


def test_only_all_shards_of_one_audit_are_merged(config: AuditConfig, project: Project) -> None:
    first, second, third = shards(config, together=False)
    out = Path("merged")
    with pytest.raises(RunError, match=r"1 of 3 shards are missing: 2/3; compute them"):
        sharding.merge([first, third], out)
    with pytest.raises(ConfigError, match="name the run folder with --out"):
        sharding.merge([first, second, third])
    with pytest.raises(RunError, match="photos holds no shard of an audit"):
        sharding.merge([first, Path("photos")], out)
    other = settings(project, seed=5, out="other")
    sharding.compute(other, Shard(2, TOTAL))
    with pytest.raises(RunError, match=r"for they differ in: settings\. Remove the one"):
        sharding.merge([first, Path("other"), third], out)
    assert not out.exists()
    place = second / "shards" / "2-of-3.json"
    note = json.loads(place.read_text())
    for change, told in (
        ({"program": "0" * 64}, "differ in: version of the program"),
        ({"inputs": note["inputs"] | {"photos": "0"}}, "differ in: photos"),
        ({"answers": [[-x for x in row] for row in note["answers"]]}, "in: code of the model"),
        ({"answers": []}, "is no note of a shard"),
        ({"answers": [[1.0], [1.0, 2.0]]}, "is no note of a shard"),
        ({"results": ["../../x"]}, "names no result"),
        ({"results": ["photos/" + "0" * 32 + ".safetensors"]}, "cannot be taken over"),
        ({"extra": 1}, "is no note of a shard"),
    ):
        place.write_text(json.dumps(note | change))
        with pytest.raises(RunError, match=told):
            sharding.merge([first, second, third], out)
        shutil.rmtree(out, ignore_errors=True)
    place.write_text(json.dumps(note))
    result = second / "work" / note["results"][-1]
    result.unlink()
    result.symlink_to("/dev/zero")
    with pytest.raises(RunError, match="cannot be taken over: it is no file; compute that shard"):
        sharding.merge([first, second, third], out)


@pytest.mark.parametrize("where", ["probe", "model", "second model"])
def test_no_code_runs_because_a_note_says_so(project: Project, where: str) -> None:
    project.filled()
    config = settings(project, pool=None)
    sharding.compute(config, Shard(1, 1))
    (place,) = Path(config.out, "shards").iterdir()
    note = json.loads(place.read_text())
    given = note["settings"]
    if where == "probe":
        given["trust_code"] = True
    elif where == "model":
        given["model"]["trust_code"] = True
    else:
        given["second_model"] = given["model"] | {"trust_code": True}
    place.write_text(json.dumps(note))
    with pytest.raises(ConfigError, match="were computed with --trust-code; give it to the merge"):
        sharding.merge([Path(config.out)])
    assert sharding.merge([Path(config.out)], trust_code=True).out == config.out


def test_shards_of_another_version_are_refused(
    config: AuditConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    sharding.compute(config, Shard(1, 1))
    monkeypatch.setattr(sharding, "digest_package", lambda: "another")
    with pytest.raises(RunError, match="of another version of the program; merge with that"):
        sharding.merge([Path(config.out)])


@pytest.mark.parametrize("text", ["", "3", "0/8", "9/8", "3/0", "a/b", "3/8/1", "-1/8", "1/999999"])
def test_what_is_no_share_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="is no share such as 3/8"):
        Shard.parse(text)


def test_a_shard_computes_both_tasks_of_a_drawing_and_so_draws_once(
    config: AuditConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    for function in ("draw", "draw_pairs"):
        real = getattr(insertion, function)

        def counted(name: str, *given: Any, real: Any = real, **options: Any) -> Any:
            drawn.append(name)
            return real(name, *given, **options)

        monkeypatch.setattr(insertion, function, counted)
    for number in (1, 2):
        sharding.compute(config.model_copy(update={"out": f"half-{number}"}), Shard(number, 2))
    assert drawn
    assert len(drawn) == len(set(drawn))


def test_an_audit_is_divided_in_one_way(config: AuditConfig) -> None:
    with pytest.raises(ConfigError, match="engine = ray and --shard both divide the audit"):
        sharding.compute(config.model_copy(update={"engine": "ray"}), Shard(1, 2))
