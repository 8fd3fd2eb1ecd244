"""Every row of the corpus ends with the exit code and the sentence that are right."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from banks_and_names import BANKS_AND_NAMES
from models_and_outputs import MODELS_AND_OUTPUTS
from photos_and_manifests import PHOTOS_AND_MANIFESTS
from records import RECORDS
from settings_and_lines import SETTINGS_AND_LINES
from table import BANK, NETS, Fault, Place
from weights_and_archives import WEIGHTS_AND_ARCHIVES

from auditor.cli import terminal
from auditor.concepts import probes

FAULTS: tuple[Fault, ...] = (
    *SETTINGS_AND_LINES,
    *BANKS_AND_NAMES,
    *MODELS_AND_OUTPUTS,
    *WEIGHTS_AND_ARCHIVES,
    *PHOTOS_AND_MANIFESTS,
    *RECORDS,
)


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_probe: probes.ProbeModel
) -> Iterator[Place]:
    """A folder with a network, photos, a pool and a bank that can be audited."""
    load = probes.load

    def chosen(spec: str, **options: object) -> probes.ProbeModel:
        return small_probe if spec == "offline" else load(spec, **options)

    monkeypatch.setattr(probes, "load", chosen)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = Place(tmp_path, monkeypatch)
    made.write("bank.toml", BANK)
    made.write("names.txt", "alpha\nbeta\ngamma\n")
    made.write("nets.py", NETS)
    made.photos()
    made.photos("pool", labels=("a", "b", "c"))
    yield made
    for name in ("nets", "hostile"):  # each case imports its own
        sys.modules.pop(name, None)


def test_what_the_faults_change_can_be_audited(place: Place) -> None:
    done = place.audit("--anyway")
    assert (done.code, "Traceback" in done.err) == (0, False), done.err
    assert (place.folder / "out" / "report.html").is_file()


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_ends_with_its_code_and_sentence(fault: Fault, place: Place) -> None:
    done = fault.attempt(place)
    assert done.code == fault.code, done.err
    assert "Traceback" not in done.err
    assert fault.told, "the sentence that is right has to be said"
    if "Usage:" in done.err:  # an error of the command line has a frame around it
        assert fault.told in " ".join(re.sub("[│╭╮╰╯─]", " ", done.err).split())
    else:
        assert fault.told in done.told
        *stages, told = done.err.splitlines()
        assert set(stages) <= set(terminal.STAGES.values()), done.err
        assert told.startswith("auditor: ")
        assert told.endswith(".")
        assert len(told) < 7000  # a path of the user's may be long
        assert told.isprintable()


def test_rows_have_names_of_their_own_and_are_many() -> None:
    names = Counter(map(str, FAULTS))
    assert max(names.values()) == 1
    assert len(names) >= 200


def test_the_documentation_counts_the_rows_of_each_group() -> None:
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    told = {name: int(n) for name, n in re.findall(r"^\| ([\w ]+) \| (\d+) \|$", text, re.M)}
    counted = Counter(fault.group for fault in FAULTS)
    assert told == {**counted, "all": len(FAULTS)}
