"""Regenerate sample_reports/ from the embedded example: `make samples`."""

from __future__ import annotations

import shutil
from pathlib import Path

from auditor.cli import commands, terminal
from auditor.lab import example
from auditor.record import tables

SAMPLES = Path("sample_reports/example")
FILES = ("audit.json", *tables.FILES.values(), "report.html", "report.pdf")


def main() -> None:
    """Audit the example in demo/ and copy its record and reports."""
    config = example.prepare(Path("demo"), seed=0, progress=terminal.Bars())
    commands.run(config)
    SAMPLES.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(Path(config.out) / name, SAMPLES / name)


if __name__ == "__main__":
    main()
