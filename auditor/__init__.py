"""Bias auditor for image classifiers: prototypes, divergence, concept probes and a report.

`audit` audits a classifier, `load` reads a finished audit; both give an `AuditRun`. Importing this
package loads no PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from auditor.api import AuditRun, audit, load

__version__ = "0.1.0"

__all__ = ["AuditRun", "__version__", "audit", "load"]


def __getattr__(name: str) -> object:
    if name in ("AuditRun", "audit", "load"):
        return getattr(importlib.import_module("auditor.api"), name)
    raise AttributeError(f"module 'auditor' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
