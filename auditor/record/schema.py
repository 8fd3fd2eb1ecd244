"""The saved audit: everything that `audit.json` holds, as frozen pydantic models.

The report is made from these values alone, and so is every comparison of audits. Where a program
must tell cases apart, the record holds a code with its numbers (`auditor.record.codes`), and no
sentence. A missing value is `None`, never 0 or NaN, and a reason stands beside it. This module
works without PyTorch.

The parts of an audit are defined in other modules of `auditor.record` and imported here, so that
all of them can be imported from this one.
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

SCHEMA_VERSION = "2.0"  # major.minor; an older program can read a later minor version


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
        """Refuse an audit whose parts contradict each other, with the first contradiction."""
        for contradiction in contradictions(self):
            raise ValueError(contradiction)
        return self

    def settings(self) -> AuditConfig:
        """The settings that the audit was made with.

        Settings that only a later version of the program knows are left out.
        """
        return resolved(self.spec)

    def to_json(self) -> str:
        """Canonical JSON: the same audit gives the same text, byte for byte."""
        data = self.model_dump(mode="json")
        return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n"

    def encoded(self) -> bytes:
        """The bytes of `audit.json`."""
        # UTF-8 cannot hold half a surrogate pair; "backslashreplace" writes it as a JSON escape
        return self.to_json().encode(errors="backslashreplace")

    def write(self, path: Path) -> None:
        """Write the audit to a file. If that fails, the old file stays as it was."""
        write_atomically(path, self.encoded())

    def same_result(self, other: Audit) -> bool:
        """Whether two audits are equal, apart from times, places, reports and self-test."""
        return self._without_run_details() == other._without_run_details()

    def _without_run_details(self) -> Audit:
        """The audit without what may differ when the same audit is run again."""
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
        """Read a saved audit of this schema version, an older one, or a later minor one.

        Raises:
            RunError: the file is missing, is not JSON, or does not fit the schema.
        """
        from auditor.record.reading import read  # not at the top: that module imports this one

        return read(path)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `audit.json`."""
    schema = Audit.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
