"""The saved audit: everything that `audit.json` holds, as frozen pydantic models.

The report, and whatever compares or gates audits, reads these values and nothing else. What a
program must tell apart is a code with its numbers (`auditor.record.codes`), never a sentence.
Missing is `None` beside a reason, never 0 and never NaN. Nothing here needs PyTorch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import model_validator

from auditor.config import PLACES, AuditConfig
from auditor.core.storage import write_atomically
from auditor.record.codes import Grade, Status
from auditor.record.consistency import contradictions
from auditor.record.notes import Caveat, Material, Reason, VerdictReason
from auditor.record.provenance import (
    Coverage,
    ModelInput,
    NotTested,
    Output,
    Probe,
    ProbeQuality,
    Provenance,
    Quarantined,
    Remark,
    SmallestEffect,
    Table,
    Tool,
)
from auditor.record.results import (
    AuditedClass,
    Channels,
    Cluster,
    ClusterClass,
    Concept,
    ConceptScore,
    Correlation,
    Divergence,
    Evidence,
    Finding,
    LayerDivergence,
    OtherClass,
    Picture,
    Planted,
    Prototype,
    Prototyping,
    Rate,
    Region,
    SelfTest,
    ToldApart,
    Transfer,
)
from auditor.record.settings import Settings, resolved
from auditor.record.values import Record

__all__ = [
    "SCHEMA_VERSION",
    "Audit",
    "AuditedClass",
    "Caveat",
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
    "Material",
    "ModelInput",
    "NotTested",
    "OtherClass",
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
    "Reason",
    "Region",
    "Remark",
    "SelfTest",
    "SmallestEffect",
    "Table",
    "ToldApart",
    "Tool",
    "Transfer",
    "Verdict",
    "VerdictReason",
    "json_schema",
]

SCHEMA_VERSION = "2.0"


class Verdict(Record):
    """The outcome against the reader's own criteria; `not_assessed` where none were set."""

    status: Status
    reasons: tuple[VerdictReason, ...]


class Audit(Record):
    """The whole audit, the content of `audit.json`.

    `spec` holds the resolved settings as plain values (see `settings`); `other_classes` name what
    pictures and clusters show beside the audited `classes`; `tables` are the files beside the
    record.
    """

    schema_version: str
    tool: Tool
    created: str
    title: str
    verdict: Verdict
    spec: Settings
    provenance: Provenance
    coverage: Coverage
    divergence_and_harm: Correlation
    prototyping: Prototyping | None = None
    concepts: tuple[Concept, ...]
    classes: tuple[AuditedClass, ...]
    other_classes: tuple[OtherClass, ...] = ()
    clusters: tuple[Cluster, ...]
    findings: tuple[Finding, ...]
    planted: tuple[Planted, ...] | None
    self_test: SelfTest | None
    tables: tuple[Table, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Audit:
        for contradiction in contradictions(self):
            raise ValueError(contradiction)
        return self

    def settings(self) -> AuditConfig:
        """The settings that the audit was made with, but for those of a later version."""
        return resolved(self.spec)

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
        """Whether two audits are equal but for times, run folder, engine, reports and self-test."""
        return self._of_its_run() == other._of_its_run()

    def _of_its_run(self) -> Audit:
        """The audit without what another run of the same audit may change."""
        times: dict[str, Any] = {"started": "", "finished": "", "seconds": {}}
        apart = PLACES | {"pdf", "self_test"}
        settings = {name: value for name, value in self.spec.items() if name not in apart}
        return self.model_copy(
            update={
                "created": "",
                "self_test": None,
                "spec": settings,
                "provenance": self.provenance.model_copy(update=times),
            }
        )

    @staticmethod
    def read(path: Path) -> Audit:
        """Read a saved audit of this version, of an older or of a later minor one.

        Raises:
            RunError: the file is missing, is not JSON, or does not fit the schema.
        """
        from auditor.record.reading import read  # which imports this module

        return read(path)


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of `audit.json`."""
    schema = Audit.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
