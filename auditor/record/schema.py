"""The saved audit: everything that `audit.json` holds, as frozen pydantic models.

The report, and whatever compares or gates audits, reads these values and nothing else. Missing is
`None` beside a reason, never 0 and never NaN. This module needs no PyTorch.
"""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from auditor.config import AuditConfig, SelfTestConfig
from auditor.core.estimates import Count, Estimate, Finite
from auditor.core.storage import write_atomically
from auditor.errors import RunError
from auditor.record.consistency import contradictions

__all__ = [
    "PREVALENT",
    "SCHEMA_VERSION",
    "STRICTER",
    "Audit",
    "AuditedClass",
    "Channels",
    "Cluster",
    "ClusterClass",
    "Concept",
    "ConceptScore",
    "Correlation",
    "Coverage",
    "Divergence",
    "Evidence",
    "Finding",
    "Grade",
    "LayerDivergence",
    "ModelInput",
    "NotTested",
    "Output",
    "Picture",
    "Planted",
    "Probe",
    "ProbeQuality",
    "Prototype",
    "Prototyping",
    "Provenance",
    "Quarantined",
    "Rate",
    "Region",
    "Remark",
    "SelfTest",
    "ToldApart",
    "Tool",
    "Transfer",
    "Verdict",
    "json_schema",
]

SCHEMA_VERSION = "1.7"
VERSION = re.compile(rf"{SCHEMA_VERSION.split('.')[0]}\.[0-9]{{1,4}}")  # that may be read
MOST_BYTES = 2**30  # of a record that is read

Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Correlated = Annotated[float, Field(ge=-1.00001, le=1.00001, allow_inf_nan=False)]  # rounding
Rank = Annotated[int, Field(ge=1, le=2**53)]  # what other readers of JSON keep exactly
Seed = Annotated[int, Field(ge=0, lt=2**64)]
Text = Annotated[str, Field(min_length=1)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Output = Literal["logits", "probabilities", "log-probabilities", "sigmoid"]
Grade = Literal["suspected", "corroborated", "confirmed", "not_tested"]


class Record(BaseModel):
    """Base of all saved values: frozen, and no unknown field is accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Verdict(Record):
    """The outcome against the reader's own criteria; `not_assessed` where none were set."""

    status: Literal["met", "not_met", "inconclusive", "not_assessed"]
    reasons: tuple[str, ...]


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


class Quarantined(Record):
    """A photo that could not be used, and why."""

    id: str
    reason: str


class NotTested(Record):
    """Something that was not assessed, and why. `kind` is a class, a concept or a stage."""

    what: Text
    kind: Literal["class", "concept", "stage"]
    reason: Text


class Remark(Record):
    """What an input turned out to be, and what was done about it.

    `code` is for programs, `text` for people. A `serious` one stands on the report's first page,
    for it says that the whole audit may rest on a wrong reading.
    """

    code: Text
    text: Text
    serious: bool = False


class Coverage(Record):
    """What was looked at, and what was not."""

    classes: Count
    classes_of_model: Count
    images: Count
    pool: Count
    hypotheses: Count
    quarantined: tuple[Quarantined, ...]
    not_tested: tuple[NotTested, ...]
    smallest_effect: str | None
    remarks: tuple[Remark, ...] = ()


class Concept(Record):
    """A concept of the bank as this audit used it.

    `source` says where its direction came from: `named` (pool photos that the probe scored
    highest), `drawn` (the same photos with and without it) or `shown` (the user's examples).
    `n_photos` counts the photos behind the direction; `reason` says why it was not tested.
    """

    name: str
    category: str
    extrinsic: bool
    source: Literal["named", "drawn", "shown"]
    n_photos: Count
    reason: str | None


class Region(Record):
    """The part of a prototype that carries its class.

    `probability` is the model's probability of the class with all else blurred, `control` the mean
    for the same region moved half the image away, across, down and both.
    """

    file: str
    area: Probability
    probability: Probability
    control: Probability


class Prototype(Record):
    """One prototype: its file in the run folder, and how far the optimisation got.

    `probability` is the model's probability of the class for the saved PNG; `trace` holds the
    probability at evenly spaced steps of the optimisation; `region` is there where it was isolated.
    """

    file: str
    seed: Seed
    probability: Probability
    steps: Count
    reached: bool
    trace: tuple[Probability, ...]
    region: Region | None = None


class LayerDivergence(Record):
    """Path similarity of a class's prototypes in one layer (method: divergence).

    `normalised` is 0 where prototypes resemble the class's photos as photos of other classes do
    and 1 where they do as photos of the class do among themselves. `class_specific` counts only
    what exceeds the prototypes' own resemblance to photos of other classes. A layer that was `used`
    was held to photos by the optimisation, and does not count towards the class's score.
    """

    name: str
    used: bool = False
    normalised: Finite | None
    class_specific: Finite | None
    spearman: Correlated | None
    l1: Positive | None


class Divergence(Record):
    """Divergence of a class, 1 - mean normalised similarity, and its place among the classes."""

    score: Estimate | None
    class_specific: Estimate | None
    rank: Rank | None
    rank_low: Rank | None
    rank_high: Rank | None
    reason: str | None
    layers: tuple[LayerDivergence, ...]


class Channels(Record):
    """Each line of evidence for one concept and class, standardised; `None` where it cannot be."""

    bridge: Finite | None
    textcav: Finite | None
    direct: Finite | None
    head: Finite | None
    association: Finite | None
    prevalence: Finite | None = None


class ConceptScore(Record):
    """One concept for one class: combined score, rank, p and q, and the channels behind it.

    `p_model` is p of the score without what is known of the class's photos alone: where it is high,
    photos show the concept and the model may not care. The score alone raises no suspicion then,
    and does not stand in for a prevalence that few photos leave unsure; tests on photos still may.
    """

    concept: str
    category: str
    core: bool
    score: Finite | None
    rank: Rank | None
    p: Probability | None
    q: Probability | None
    p_model: Probability | None = None
    channels: Channels


class AuditedClass(Record):
    """Everything measured for one class."""

    index: Count
    name: str
    id: str | None
    n_images: Count
    accuracy: Estimate | None
    prototypes: tuple[Prototype, ...]
    divergence: Divergence
    concepts: tuple[ConceptScore, ...]


class ClusterClass(Record):
    """The share of one class in a cluster."""

    index: Count
    n_images: Count
    n_prototypes: Count


class Picture(Record):
    """An image file of the run folder, re-encoded from pixels, with what it shows.

    Of the middle of one photo, `surrounded` has surroundings that show the concept by the probe,
    `unsurrounded` has some that do not.
    """

    file: str
    kind: Literal[
        "prototype", "photo", "with", "without", "edited", "control", "surrounded", "unsurrounded"
    ]
    caption: str


class Cluster(Record):
    """A group of photos and prototypes that lie together in the model's feature space.

    `name` is the concept the probe found in it, or `None` for "unnamed".
    """

    id: str
    name: str | None
    score: Finite | None
    n_images: Count
    n_prototypes: Count
    classes: tuple[ClusterClass, ...]
    shared: bool
    pictures: tuple[Picture, ...]


class Evidence(Record):
    """One test behind a finding, with its null and its control."""

    test: str
    effect: Estimate
    control: Estimate | None
    p: Probability | None
    q: Probability | None
    n: Count
    unit: str


PREVALENT = 0.75
"""Area under the ROC curve from which photos of a class are held to show a concept."""

STRICTER = 0.01
"""The share of the q level that is asked for where little else upholds a test.

Of surroundings, since whose object is left in them is known through the probe alone; of an
association where surroundings exclude a material effect; and of the score, where it stands in for a
prevalence that few photos leave unsure.
"""


class Finding(Record):
    """A concept that a class is suspected, or was shown, to rely on.

    `id` is the same for the same class and concept in every audit. `alike` lists concepts of the
    bank that this audit cannot tell from it, best first; `explains` lists lesser suspects of the
    class, of which its photos show no more than this one lets expect.
    """

    id: Text
    class_index: Count
    concept: str
    category: str
    grade: Grade
    evidence: tuple[Evidence, ...]
    caveats: tuple[str, ...]
    pictures: tuple[Picture, ...]
    alike: tuple[str, ...] = ()
    explains: tuple[str, ...] = ()


class Planted(Record):
    """A shortcut known to be in the model, because it was planted there."""

    class_index: Count
    concept: str
    strength: Probability
    learned: Estimate | None
    found_rank: Rank | None
    found_grade: Grade | None


class Rate(Record):
    """A rate over repeated audits of models with known shortcuts."""

    name: str
    rate: Estimate


class SelfTest(Record):
    """Detection power of this configuration on planted and clean models.

    `digest` is of everything that decided it. Of `shortcuts` that were planted, each in `strength`
    of its class's photos, `learned` were learned, by experiment; `families` are theirs. The
    audits had `photos_per_class` of each class and `pool` others, `None` where there were none.
    """

    digest: str
    planted_models: Count
    clean_models: Count
    rates: tuple[Rate, ...]
    shortcuts: Count | None = None
    learned: Count | None = None
    families: tuple[str, ...] = ()
    strength: Probability | None = None
    photos_per_class: Count | None = None
    pool: Count | None = None


class Correlation(Record):
    """Rank correlation of divergence with harm (1 - accuracy) over the classes."""

    rho: Estimate | None
    reason: str | None


class Transfer(Record):
    """Where a second model, which took no part, puts the classes of the prototypes.

    `first` and `first_five` are shares of the prototypes with the highest probability, one of each
    class that the second model has too; `unmatched` counts the classes that it has not.
    """

    model: str
    weights_sha256: str
    first: Estimate
    first_five: Estimate
    median_place: Positive
    classes_of_model: Count
    unmatched: Count


class ToldApart(Record):
    """How well a classifier tells prototypes from photos by one layer's activations.

    `auc` is 0.5 where it cannot and 1 where it always can, on classes that it did not learn from.
    """

    layer: str
    auc: Estimate


class Prototyping(Record):
    """How the prototypes were made: the mode, and all that was used beside the model.

    `transfer` and `told_apart` say how far the prototypes can be believed; where they are missing,
    the coverage gives the reason.
    """

    mode: Literal["natural", "data-free", "reference", "paper", "patch"]
    parameterisation: Literal["fourier", "pixel", "phase"]
    used: str
    layers_used: tuple[str, ...]
    photos_copied: Count
    transfer: Transfer | None = None
    told_apart: tuple[ToldApart, ...] = ()


class Tool(Record):
    """The program that wrote the audit; `source` is the SHA-256 of its own Python files."""

    name: str
    version: str
    source: str | None = None


class Audit(Record):
    """The whole audit, the content of `audit.json`."""

    schema_version: str
    tool: Tool
    created: str
    title: str
    verdict: Verdict
    spec: AuditConfig
    provenance: Provenance
    coverage: Coverage
    divergence_and_harm: Correlation
    prototyping: Prototyping | None = None
    concepts: tuple[Concept, ...]
    classes: tuple[AuditedClass, ...]
    clusters: tuple[Cluster, ...]
    findings: tuple[Finding, ...]
    planted: tuple[Planted, ...] | None
    self_test: SelfTest | None

    @model_validator(mode="after")
    def _consistent(self) -> Audit:
        for contradiction in contradictions(self):
            raise ValueError(contradiction)
        return self

    def to_json(self) -> str:
        """Canonical JSON: the same audit gives the same text, byte for byte."""
        data = self.model_dump(mode="json")
        return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n"

    def encoded(self) -> bytes:
        """The bytes of `audit.json`."""
        # what UTF-8 cannot hold, such as a half of a surrogate pair, becomes its JSON escape
        return self.to_json().encode(errors="backslashreplace")

    def write(self, path: Path) -> None:
        """Write the audit whole or not at all."""
        write_atomically(path, self.encoded())

    def same_result(self, other: Audit) -> bool:
        """Whether two audits are equal but for times, run folder, reports and self-test."""
        return self._of_its_run() == other._of_its_run()

    def _of_its_run(self) -> Audit:
        """The audit without what another run of the same audit may change."""
        times: dict[str, Any] = {"started": "", "finished": "", "seconds": {}}
        settings: dict[str, Any] = {"out": "", "pdf": "no", "self_test": SelfTestConfig()}
        return self.model_copy(
            update={
                "created": "",
                "self_test": None,
                "spec": self.spec.model_copy(update=settings),
                "provenance": self.provenance.model_copy(update=times),
            }
        )

    @staticmethod
    def read(path: Path) -> Audit:
        """Read a saved audit.

        Raises:
            RunError: the file is missing, is not JSON, or does not fit the schema.
        """
        data = _parsed(path)
        version = data.get("schema_version") if isinstance(data, dict) else None
        if not isinstance(version, str) or not VERSION.fullmatch(version):
            raise RunError(
                f"{path} has schema version {version!r:.40}, this program reads {SCHEMA_VERSION}; "
                "render it with the version that wrote it."
            )
        try:
            return Audit.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part)[:40] for part in first["loc"])
            what = first["msg"].removeprefix("Value error, ")
            later = (
                f" (its schema version {version} is later than {SCHEMA_VERSION}; a later version "
                "of this program may read it)"
                if int(version.split(".")[1]) > int(SCHEMA_VERSION.split(".")[1])
                else ""
            )
            raise RunError(
                f"{path} is not a valid audit: {where + ': ' if where else ''}{what}{later}."
            ) from None


def _parsed(path: Path) -> Any:
    """The file's JSON; a link to a device, or a file that no audit can be, is not read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise RunError(f"Cannot read the audit {path}: it is no regular file.")
        if status.st_size > MOST_BYTES:
            raise RunError(f"Cannot read the audit {path}: it has more than {MOST_BYTES:,} bytes.")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"Cannot read the audit {path}: {error}.") from None
    try:
        return json.loads(text, object_pairs_hook=_told_once)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is not valid JSON ({error}); run the audit again.") from None


def _told_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are different: of two values readers would take one each."""
    told = dict(pairs)
    if len(told) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return told


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of `audit.json`."""
    schema = Audit.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
