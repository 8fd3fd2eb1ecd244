"""Audits from Python: `auditor.audit` and `auditor.load`.

>>> import auditor
>>> run = auditor.load("audit")  # doctest: +SKIP
>>> run.findings()[["class", "concept", "grade"]]  # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.config import AuditConfig, ModelConfig
from auditor.errors import ConfigError
from auditor.record.schema import Audit

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from auditor.images.sources.objects import Photos
    from auditor.models.loading import Classifier
    from auditor.pipeline.progress import Progress

__all__ = ["AuditRun", "audit", "load"]

RECORD = "audit.json"
SHOWN = 10  # findings that a notebook shows at most
FINDING_COLUMNS = (
    "id", "class_index", "class", "concept", "category", "grade", "basis", "effect", "low",
    "high", "unit", "n", "q",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class AuditRun:
    """A finished audit.

    Attributes:
        audit: the record, which is the content of `audit.json`.
        folder: the run folder. It holds the record, the tables and the pictures.
    """

    audit: Audit
    folder: Path

    def findings(self) -> pd.DataFrame:
        """One row for each finding, the one with the strongest evidence first.

        Columns: id, class_index, class, concept, category, grade, basis (the test that the grade
        rests on), and what that test gave: effect, low and high (the ends of its 95 % interval),
        unit, n (number of photos) and q.
        """
        names = {c.index: c.name for c in self.audit.classes}
        rows = []
        for finding in self.audit.findings:
            lead = finding.lead
            rows.append(
                {
                    "id": finding.id,
                    "class_index": finding.class_index,
                    "class": names[finding.class_index],
                    "concept": finding.concept,
                    "category": finding.category,
                    "grade": finding.grade,
                    "basis": finding.basis,
                    "effect": lead and lead.effect.value,
                    "low": lead and lead.effect.low,
                    "high": lead and lead.effect.high,
                    "unit": lead and lead.unit,
                    "n": lead and lead.n,
                    "q": lead and lead.q,
                }
            )
        return _frame(rows, FINDING_COLUMNS)

    def scores(self) -> pd.DataFrame:
        """One row for each class and concept. Within a class, the highest score is first.

        Columns: class_index, class, and those of `auditor.record.tables.SCORES`.

        Raises:
            RunError: `scores.parquet` is not the file that was written with this record.
        """
        from auditor.record import tables

        names = {c.index: c.name for c in self.audit.classes}
        rows = [
            {
                "class_index": index,
                "class": names[index],
                **score.model_dump(exclude={"channels"}),
                **score.channels.model_dump(),
            }
            for index, scores in tables.scores(self.folder, self.audit).items()
            for score in scores
        ]
        return _frame(rows, ("class_index", "class", *list(tables.SCORES)[1:]))

    def tests(self) -> pd.DataFrame:
        """One row for each photo that a test of a finding used.

        Columns: those of `auditor.record.tables.TESTS`.

        Raises:
            RunError: the record comes from an older version, which wrote no such table, or
                `tests.parquet` is not the file that was written with this record.
        """
        from auditor.record import tables

        columns = tables.read(self.folder, self.audit, "tests")
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return _frame(rows, tuple(tables.TESTS))

    def report(self, *, pdf: bool = True) -> list[Path]:
        """Write `report.html` and, unless `pdf` is false, `report.pdf` into the run folder.

        For many classes or findings, the folder `report` has a page for each class.

        Raises:
            RunError: a file cannot be written, or the PDF cannot be made.
        """
        from auditor import report

        return report.write(self.folder, pdf=pdf)

    def _repr_html_(self) -> str:
        """What a notebook shows: the findings, each with its first picture."""
        from auditor.report.notebook import render

        return render(self.audit, self.folder, most=SHOWN)


def load(folder: str | os.PathLike[str]) -> AuditRun:
    """Read a finished audit from its run folder.

    Raises:
        RunError: the folder holds no audit, or the audit cannot be read.
    """
    place = Path(folder)
    return AuditRun(Audit.read(place / RECORD), place)


def audit(
    model: str | nn.Module | Classifier,
    images: str | os.PathLike[str] | Photos,
    *,
    pool: str | os.PathLike[str] | Photos | None = None,
    probe: str = "offline",
    concepts: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] = "audit",
    class_names: Sequence[str] | str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> AuditRun:
    """Audit a classifier, and write the record and its pictures to a run folder.

    The audit works on a copy of the network, so yours does not change. The random numbers, import
    paths and logging of the process do not change either.

    Args:
        model: one of three things. A specification, such as `torchvision:resnet18`. Or a network
            that gives logits of shape (n, K) for images of shape (n, 3, H, W); it also needs
            `class_names`, and `size`, `mean` and `std` among the settings. Or a `Classifier`.
        images: the audited photos, with labels: a path, as on the command line; a data set of
            torchvision; or a sequence of pairs (picture, label), as in
            `auditor.images.sources.objects`.
        pool: other photos, from which concepts are learned. It takes the same forms as `images`,
            and needs no labels.
        probe: the CLIP model that looks for concepts in photos.
        concepts: a file of concepts, used instead of the built-in bank.
        out: the run folder.
        class_names: names of the model's classes, in the order of its outputs, or a file of them.
            Needed only where the model does not hold the names itself.
        progress: is told of each stage; by default no progress is shown.
        settings: any other setting: a field of `auditor.config.AuditConfig`, a field of its
            section `model` (`size`, `mean`, ...), or a mapping for another section
            (`prototypes={"per_class": 2}`).

    Raises:
        AuditorError: anything that the user can put right. The message says how, in one sentence.
    """
    from auditor.pipeline import runner
    from auditor.pipeline.inputs import Given

    names, file = _class_names(class_names)
    given = Given(_given_model(model, names), _given_photos(images), _given_photos(pool))
    data = _settings(settings)
    data["model"] |= {"spec": model if isinstance(model, str) else f"python:{_type_name(model)}"}
    data["model"] |= {"class_names": file}
    data |= {"images": _described(images), "probe": probe, "out": os.fspath(out)}
    data |= {"pool": None if pool is None else _described(pool)}
    data |= {"concepts": None if concepts is None else os.fspath(concepts)}
    config = AuditConfig.load(None, data)
    return AuditRun(runner.run(config, progress=progress, given=given), Path(config.out))


def _class_names(
    given: Sequence[str] | str | os.PathLike[str] | None,
) -> tuple[tuple[str, ...] | None, str | None]:
    """The class names where they are given, else `None`; and the file of them, else `None`."""
    if given is None:
        return None, None
    if isinstance(given, str | os.PathLike):
        return None, os.fspath(given)
    return tuple(map(str, given)), None


def _given_model(model: Any, names: tuple[str, ...] | None) -> Any:
    """The model, if it is given as a Python object; `None` if it is given by name."""
    if isinstance(model, str):
        if names is not None:
            raise ConfigError("class_names is a list, which needs a network; give a file of names.")
        return None
    from torch import nn

    from auditor.models.loading import Classifier
    from auditor.models.sources import GivenModel

    if isinstance(model, Classifier):
        return model
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"model is a {type(model).__name__}; give a specification such as "
            "torchvision:resnet18, a torch.nn.Module or a Classifier."
        )
    return GivenModel(model, names)


def _given_photos(photos: Any) -> Any:
    """The photos, if they are given as Python objects; `None` if they are given by a path."""
    return None if photos is None or isinstance(photos, str | os.PathLike) else photos


def _described(photos: Any) -> str:
    """What the record says of where the photos came from: their path or their type."""
    if isinstance(photos, str | os.PathLike):
        return os.fspath(photos)
    return f"{len(photos)} photos given in Python as {type(photos).__name__}"


def _type_name(model: Any) -> str:
    """Module and class of an object, such as `torchvision.models.resnet:ResNet`."""
    kind = type(model)
    return f"{kind.__module__}:{kind.__qualname__}"


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in the form of `AuditConfig`: those of the model are moved to its section `model`.

    `trust_code` is in both places.
    """
    of_model = set(ModelConfig.model_fields) - {"spec", "class_names"}
    known = set(AuditConfig.model_fields)
    data: dict[str, Any] = {"model": {}}
    for name, value in settings.items():
        if name in of_model and name not in known:
            data["model"][name] = value
        elif name == "trust_code":
            data["model"][name] = data[name] = value
        else:
            data[name] = value
    return data


def _frame(rows: list[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    try:
        import pandas as pd
    except ImportError:
        raise ConfigError("Data frames need the package pandas: install auditor[pandas].") from None
    return pd.DataFrame(rows, columns=list(columns))
