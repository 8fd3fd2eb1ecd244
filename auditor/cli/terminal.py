"""What the terminal shows of an audit: a bar for each stage, and the findings at the end.

All of it goes to the standard error; the standard output is for the paths of what was written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from auditor.cli.process import printable
from auditor.record.schema import Audit

__all__ = ["STAGES", "Bars", "console", "summary"]

console = Console(stderr=True)

STAGES = {
    "load": "Loading model, probe and photos",
    "photos": "Running the photos through the model",
    "agreement": "Comparing accuracy with chance",
    "pool": "Running the pool through the model",
    "constraints": "Gathering what prototypes are held to",
    "seen prototypes": "Running prototypes through the model",
    "examples": "Running example photos through the model",
    "probe": "Showing photos to the CLIP probe",
    "prototypes": "Generating prototypes",
    "isolation": "Isolating regions of prototypes",
    "divergence": "Comparing activation paths",
    "drawings": "Drawing concepts on photos",
    "naming": "Naming concepts",
    "clusters": "Clustering",
    "surroundings": "Transplanting surroundings",
    "findings": "Testing candidates on photos",
    "pictures": "Writing pictures of evidence",
    "shard": "Computing a share of the tasks",
    "train": "Training a lab classifier",
    "scenes": "Drawing its scenes",
}


class Bars:
    """One progress bar per stage, with the time left; plain lines where there is no terminal."""

    @contextlib.contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar while the block runs."""
        title = STAGES.get(name, name)
        if not console.is_terminal:
            console.print(title, highlight=False)
            yield lambda done: None
            return
        columns = (
            TextColumn("{task.description:<38}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=console) as bars:
            task = bars.add_task(title, total=total)
            yield lambda done: bars.update(task, completed=done)
            bars.update(task, completed=total)


def summary(done: Audit) -> None:
    """The findings above `suspected`, and what stands beside them, on the terminal."""
    names = {c.index: c.name for c in done.classes}
    table = Table(title="Findings, each with the test that it rests on", title_justify="left")
    for column in ("class", "concept", "grade", "test", "q"):
        table.add_column(column)
    strong = [f for f in done.findings if f.grade != "suspected"]
    for finding in strong[:20]:
        best = finding.lead
        table.add_row(
            Text(printable(names[finding.class_index])), Text(printable(finding.concept)),
            finding.grade, best.test if best else "",
            f"{best.q:.2g}" if best and best.q is not None else "",
        )  # fmt: skip
    if strong:
        console.print(table)
    rest = len(done.findings) - len(strong)
    console.print(
        f"{len(strong)} findings on photos, {rest} suspected only, among "
        f"{done.coverage.hypotheses} pairs of class and concept; "
        f"{len(done.coverage.not_tested)} things were not tested.",
        highlight=False,
    )
    serious = [remark for remark in done.coverage.remarks if remark.serious]
    for remark in serious:
        console.print(Text(f"Read this first: {printable(remark.text)}"), soft_wrap=True)
    others = len(done.coverage.remarks) - len(serious)
    if others:
        words = (
            "1 remark on the inputs stands"
            if others == 1
            else f"{others} remarks on the inputs stand"
        )
        console.print(f"{words} under Data in the report.", highlight=False)
    for planted in done.planted or ():
        found = "not ranked" if planted.found_rank is None else f"rank {planted.found_rank}"
        name = names.get(planted.class_index, f"class {planted.class_index}")  # not audited
        line = f"planted: {name} / {planted.concept}: {found}"
        console.print(Text(printable(f"{line}, {planted.found_grade or 'no finding'}")))
