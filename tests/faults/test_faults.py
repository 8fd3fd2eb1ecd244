"""Every row of the corpus ends with the exit code and the sentence that are right."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from banks_and_names import BANKS_AND_NAMES
from miniature import BANK, at_home
from models_and_outputs import MODELS_AND_OUTPUTS
from photos_and_manifests import PHOTOS_AND_MANIFESTS
from records import RECORDS
from settings_and_lines import SETTINGS_AND_LINES
from table import NETS, Fault, Place
from weights_and_archives import WEIGHTS_AND_ARCHIVES

from auditor.cli import terminal

FAULTS: tuple[Fault, ...] = (
    *SETTINGS_AND_LINES,
    *BANKS_AND_NAMES,
    *MODELS_AND_OUTPUTS,
    *WEIGHTS_AND_ARCHIVES,
    *PHOTOS_AND_MANIFESTS,
    *RECORDS,
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with at_home(tmp_path):
        made = Place(tmp_path)
        made.write("nets.py", NETS)
        made.write("bank.toml", BANK)
        made.photos(labels=("0", "1", "2"), n=4)
        made.photos("pool", labels=("a", "b", "c"), n=4)
        yield made


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
