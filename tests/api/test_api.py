"""Audits from Python: models and photos that are at hand, what a run gives, and what it leaves."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniature import BANK, at_home
from PIL import Image
from tiny import Stripes, probe

import auditor
from auditor.concepts import probes
from auditor.config import AuditConfig
from auditor.errors import AuditorError, ConfigError, ImagesError, ModelError
from auditor.pipeline import runner

HALF = (0.5, 0.5, 0.5)


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, int]]:
    """Striped pictures with their classes."""
    monkeypatch.setattr(probes, "load", lambda *_, **__: probe())
    rng = np.random.default_rng(0)
    made = []
    for label in (0, 1):
        for _ in range(12):
            wave = 127 + 100 * np.sin(np.arange(32) * rng.uniform(1, 2))
            plain = np.broadcast_to(
                wave[None, :, None] if label else wave[:, None, None], (32, 32, 3)
            )
            noisy = np.clip(plain + rng.normal(0, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
            made.append((Image.fromarray(noisy), label))
    return made


def audited(folder: Path, photos: Any, model: Any = None, **settings: Any) -> auditor.AuditRun:
    (folder / "bank.toml").write_text(BANK)
    given: dict[str, Any] = {
        "size": 32, "mean": HALF, "std": HALF, "class_names": ["across", "along"],
        "concepts": folder / "bank.toml", "out": folder / "out",
        "prototypes": {"per_class": 1, "steps": 4},
        "statistics": {"permutations": 99, "bootstrap": 99},
    }  # fmt: skip
    return auditor.audit(Stripes() if model is None else model, photos, **{**given, **settings})


def test_a_network_and_pictures_give_what_a_folder_and_a_factory_give(
    tmp_path: Path, pairs: list[tuple[Any, int]]
) -> None:
    run = audited(tmp_path, pairs)
    assert [c.n_images for c in run.audit.classes] == [12, 12]
    assert [c.name for c in run.audit.classes] == ["across", "along"]
    assert run.audit.settings().images == "24 photos given in Python as list"
    assert auditor.load(tmp_path / "out").audit == run.audit
    for row, (picture, label) in enumerate(pairs):
        place = tmp_path / "photos" / str(label) / f"{row:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture.save(place)
    (tmp_path / "names.txt").write_text("across\nalong\n")
    (tmp_path / "mine.py").write_text(
        "from tiny import Stripes\n\ndef net():\n    return Stripes()\n"
    )
    settings = run.audit.settings()
    spec = settings.model_copy(
        update={
            "images": "photos", "out": "named",
            "model": settings.model.model_copy(
                update={"spec": "python:mine:net", "class_names": "names.txt"}
            ),
        }
    )  # fmt: skip
    with at_home(tmp_path):
        named = runner.run(AuditConfig.model_validate(spec.model_dump()))
    assert named.findings == run.audit.findings
    assert [c.accuracy for c in named.classes] == [c.accuracy for c in run.audit.classes]
    assert [c.concepts for c in named.classes] == [c.concepts for c in run.audit.classes]


@pytest.mark.parametrize("form", ["array", "channels first", "float tensor", "path"])
def test_pictures_of_every_form_are_the_same_photos(
    tmp_path: Path, pairs: list[tuple[Any, int]], form: str
) -> None:
    def made(picture: Image.Image, row: int) -> Any:
        pixels = np.asarray(picture)
        if form == "path":
            picture.save(tmp_path / f"{row}.png")
            return tmp_path / f"{row}.png"
        if form == "array":
            return pixels
        first = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
        return first if form == "channels first" else first.float() / 255

    first = audited(tmp_path, pairs, out=tmp_path / "first").audit
    again = audited(tmp_path, [(made(p, k), label) for k, (p, label) in enumerate(pairs)]).audit
    assert again.classes == first.classes


def test_a_data_set_of_torchvision_gives_its_files_and_its_names(
    tmp_path: Path, pairs: list[tuple[Any, int]]
) -> None:
    import torchvision

    for row, (picture, label) in enumerate(pairs):
        place = tmp_path / "set" / ("along" if label else "across") / f"{row}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture.save(place)
    normalise = torchvision.transforms.Normalize(HALF, HALF)  # which is not applied to files
    data = torchvision.datasets.ImageFolder(str(tmp_path / "set"), transform=normalise)
    names = ["along", "across"]  # in another order than the set's: which is meant is asked
    with pytest.raises(ImagesError, match="--labels name or --labels index"):
        audited(tmp_path, data, class_names=names)
    run = audited(tmp_path, data, class_names=names, labels="name", anyway=True)
    assert {c.name: c.n_images for c in run.audit.classes} == {"across": 12, "along": 12}
    assert all(c.accuracy is not None and c.accuracy.value == 0 for c in run.audit.classes)


def test_yours_stays_as_it_is(tmp_path: Path, pairs: list[tuple[Any, int]]) -> None:
    net = Stripes().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(7)
    np.random.seed(7)
    drawn = np.random.get_state(legacy=False)["state"]["key"].copy()
    state = torch.random.get_rng_state()
    paths, level = list(sys.path), logging.root.manager.disable
    audited(tmp_path, pairs, net)
    assert net.training
    assert all(value.requires_grad for value in net.parameters())
    assert not net._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], drawn)
    assert (list(sys.path), logging.root.manager.disable) == (paths, level)


class Turned(Stripes):
    """The weights of `Stripes` in other code, which takes the one class for the other."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).flip(1)


def test_results_of_other_code_with_the_same_weights_are_not_taken(
    tmp_path: Path, pairs: list[tuple[Any, int]]
) -> None:
    first = audited(tmp_path, pairs).audit
    assert audited(tmp_path, pairs).audit.same_result(first)
    with pytest.raises(ModelError, match=r"answers otherwise: its code was changed\."):
        audited(tmp_path, pairs, Turned(), anyway=True)
    again = audited(tmp_path, pairs, Turned(), anyway=True, out=tmp_path / "turned").audit
    assert again.classes[0].accuracy != first.classes[0].accuracy


def test_a_data_set_that_changes_its_pictures_is_refused(
    tmp_path: Path, pairs: list[tuple[Any, int]]
) -> None:
    rng = np.random.default_rng(0)

    class Augmented:
        """A data set with random transforms, as training has them."""

        def __len__(self) -> int:
            return len(pairs)

        def __getitem__(self, row: int) -> tuple[Any, int]:
            picture, label = pairs[row]
            return picture.rotate(float(rng.uniform(1, 80))), label

    with pytest.raises(AuditorError, match="chang"):
        audited(tmp_path, Augmented())


def test_importing_loads_no_torch() -> None:
    code = (
        "import sys, auditor\n"
        "assert auditor.load and auditor.AuditRun\n"
        "heavy = {'torch', 'torchvision', 'open_clip', 'sklearn', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_gives_tables_a_report_and_what_a_notebook_shows(
    tmp_path: Path, pairs: list[tuple[Any, int]]
) -> None:
    run = audited(tmp_path, pairs)
    scores = run.scores()
    assert len(scores) == 2 * len(run.audit.concepts)
    assert {"class", "concept", "score", "q", "bridge"} <= set(scores.columns)
    found = run.findings()
    assert list(found["id"]) == [finding.id for finding in run.audit.findings]
    assert {"class", "concept", "grade", "effect", "q"} <= set(found.columns)
    assert [path.name for path in run.report(pdf=False)] == ["report.html"]
    shown = run._repr_html_()
    assert "not assessed" in shown
    assert "<script" not in shown


def test_what_a_notebook_shows_is_escaped(tmp_path: Path) -> None:
    from audits import audit

    whole = audit()
    hostile = whole.model_copy(update={"title": "<script>alert(1)</script>"})
    run = auditor.AuditRun(hostile, tmp_path)
    shown = run._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert shown.count("<tr>") == 1 + min(10, len(whole.findings))


@pytest.mark.parametrize(
    ("photos", "told"),
    [
        ([(np.zeros((8, 8, 3), np.float32) - 1, 0)] * 3, "as if they were normalised"),
        ([np.zeros((8, 8, 3), np.uint8)] * 3, "is no pair of a picture and a label"),
        ([(np.zeros((8, 8, 3), np.uint8), 0.5)] * 3, "is a float; give the index"),
        ([(np.zeros((8, 8, 4), np.uint8), 0)] * 3, "has no three channels"),
        ([(np.zeros((8, 8, 3), np.uint8), 7)] * 3, "7"),
        ([], "holds no photos"),
    ],
)
def test_photos_that_cannot_be_used_are_one_sentence(
    tmp_path: Path, pairs: list[tuple[Any, int]], photos: Any, told: str
) -> None:
    with pytest.raises(ImagesError, match=told):
        audited(tmp_path, photos)


@pytest.mark.parametrize(
    ("model", "changes", "kind", "told"),
    [
        (3, {}, ConfigError, "model is a int"),
        ("python:x:y", {}, ConfigError, "class_names is a list"),
        (None, {"mean": None}, ModelError, "does not say"),
        (None, {"sixe": 3}, ConfigError, "There is no setting sixe"),
        (None, {"class_names": ["one"]}, ModelError, "2 classes and there are 1 class names"),
    ],
)
def test_what_is_wrong_with_a_call_is_one_sentence(
    tmp_path: Path, pairs: list[tuple[Any, int]], model: Any, changes: dict[str, Any],
    kind: type[AuditorError], told: str,
) -> None:  # fmt: skip
    with pytest.raises(kind, match=told):
        audited(tmp_path, pairs, model, **changes)
