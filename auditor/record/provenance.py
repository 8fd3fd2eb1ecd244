"""Saved values of what an audit was made from, with what, and what it covered."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from auditor.core.estimates import Count, Finite
from auditor.record.codes import GapCode
from auditor.record.notes import Reason
from auditor.record.values import Positive, Probability, Rank, Record, Seed, Text

__all__ = [
    "Coverage",
    "ModelInput",
    "NotTested",
    "Output",
    "Probe",
    "ProbeQuality",
    "Provenance",
    "Quarantined",
    "Remark",
    "SmallestEffect",
    "Table",
    "Tool",
]

Output = Literal["logits", "probabilities", "log-probabilities", "sigmoid"]


class Tool(Record):
    """The program that wrote the audit; `source` is the SHA-256 of its own Python files."""

    name: str
    version: str
    source: str | None = None


class ProbeQuality(Record):
    """How well the probe tells photos with a concept from photos without it, where known."""

    concept: str
    auc: Probability
    n_with: Rank
    n_without: Rank


class Probe(Record):
    """The CLIP model that named the concepts."""

    name: str
    digest: str
    quality: tuple[ProbeQuality, ...]
    note: str


class ModelInput(Record):
    """How a photo became the model's input, and how the model's output was read.

    The fields are those of `auditor.config.ModelConfig`, none of them open any more.
    """

    size: tuple[Rank, Rank]
    resize: Rank
    aspect: Literal["crop", "stretch"]
    interpolation: str
    mean: tuple[Finite, ...]
    std: tuple[Finite, ...]
    channels: Literal["rgb", "bgr"] = "rgb"
    background: str = "drop"
    bit_depth: int = 16
    orientation: Literal["exif", "stored"] = "exif"
    output: Output = "logits"


class Provenance(Record):
    """What the audit was made from and with."""

    weights_sha256: str
    model_input: ModelInput | None = None
    images_digest: str
    pool_digest: str
    concepts_digest: str
    probe: Probe
    packages: dict[str, str]
    device: str
    seeds: tuple[Seed, ...]
    started: str
    finished: str
    seconds: dict[str, Positive]


class Table(Record):
    """A Parquet file beside the record (see `auditor.record.tables`)."""

    name: Literal["scores", "tests"]
    file: Text
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    rows: Count


class Quarantined(Record):
    """A photo that could not be used, and why."""

    id: str
    reason: str


class NotTested(Record):
    """Something that was not assessed, and why.

    `what` says what; `kind` whether of a class (`class_index`), of a concept (`concept`), or of the
    whole audit (a stage).
    """

    what: GapCode
    kind: Literal["class", "concept", "stage"]
    class_index: Count | None = None
    concept: str | None = None
    reason: Reason


class Remark(Record):
    """What an input turned out to be, and what was done about it.

    `code` is for programs, `text` for people. A `serious` one stands on the report's first page,
    for it says that the whole audit may rest on a wrong reading.
    """

    code: Text
    text: Text
    serious: bool = False


class SmallestEffect(Record):
    """The least score that could have been a finding by itself.

    `score` is in standard deviations of the scores of random concepts, `None` where so many
    `random_scores` cannot give a q-value below `q_level` among so many `hypotheses`. Of tests on
    photos no smallest effect is estimated.
    """

    score: Finite | None
    random_scores: Count
    hypotheses: Count
    q_level: Probability


class Coverage(Record):
    """What was looked at, and what was not."""

    classes: Count
    classes_of_model: Count
    images: Count
    pool: Count
    hypotheses: Count
    quarantined: tuple[Quarantined, ...]
    not_tested: tuple[NotTested, ...]
    smallest_effect: SmallestEffect | None
    remarks: tuple[Remark, ...] = ()
