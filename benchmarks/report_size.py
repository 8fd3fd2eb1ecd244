"""How large a report gets with the number of classes, and what making it takes.

    python -m benchmarks.report_size [--classes 10 100 1000] [--html-only 21000] [--work out/size]

Records are synthetic (see `benchmarks.large_record`): a prototype a class, 445 concepts, 100
findings, a cluster a class, pictures. Each report is made in a process of its own: once the HTML
with its pages alone, once all with the PDF. Seconds are of the clock; in brackets those of the
processor, which other work on the machine disturbs less. Memory is the process's peak.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import large_record

HEAD = (
    "classes", "`audit.json`, MB", "`report.html`, MB", "files beside it", "their MB",
    "the largest, MB", "HTML: seconds", "peak MB", "PDF: pages", "MB", "HTML and PDF: seconds",
    "peak MB",
)  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--html-only", type=int, nargs="*", default=[])
    parser.add_argument("--work", type=Path, default=Path("out/size"))
    parser.add_argument("--make", type=int, help="only make the record and pictures")
    parser.add_argument("--render", choices=("html", "all"), help="only make the report in WORK")
    given = parser.parse_args()
    if given.make:
        large_record.run_folder(given.work, large_record.record(given.make))
    elif given.render:
        print(json.dumps(rendered(given.work, pdf=given.render == "all")))
    else:
        print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD), flush=True)
        for n in given.classes:
            print(row(n, given.work / str(n), pdf=True), flush=True)
        for n in given.html_only:
            print(row(n, given.work / str(n), pdf=False), flush=True)


def row(n_classes: int, folder: Path, *, pdf: bool) -> str:
    """A line of the table."""
    shutil.rmtree(folder, ignore_errors=True)
    alone("--make", str(n_classes), "--work", str(folder))
    html = json.loads(alone("--render", "html", "--work", str(folder)))
    whole = json.loads(alone("--render", "all", "--work", str(folder))) if pdf else None
    beside = [path.stat().st_size for path in folder.glob("report/*")]
    cells = [
        f"{n_classes:,}",
        megabytes((folder / "audit.json").stat().st_size),
        megabytes((folder / "report.html").stat().st_size),
        f"{len(beside):,}",
        megabytes(sum(beside)),
        megabytes(max(beside, default=0)),
        took(html),
        f"{html['peak']:,.0f}",
        *("", "", "", ""),
    ]
    if whole is not None:
        pages, size = whole["pages"], (folder / "report.pdf").stat().st_size
        cells[-4:] = [f"{pages}", megabytes(size), took(whole), f"{whole['peak']:,.0f}"]
    return "| " + " | ".join(cells) + " |"


def rendered(folder: Path, *, pdf: bool) -> dict[str, Any]:
    """What making the report took in this process."""
    start = time.perf_counter()
    from auditor import report

    report.write(folder, pdf=pdf)
    seconds, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    pages = None
    if pdf:
        import pikepdf

        with pikepdf.open(folder / "report.pdf") as document:
            pages = len(document.pages)
    processor = used.ru_utime + used.ru_stime
    return {"seconds": seconds, "cpu": processor, "peak": used.ru_maxrss / 1e3, "pages": pages}


def alone(*arguments: str) -> str:
    """What a process of its own prints."""
    line = [sys.executable, "-m", "benchmarks.report_size", *arguments]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


def took(measured: dict[str, Any]) -> str:
    return f"{measured['seconds']:.0f} ({measured['cpu']:.0f})"


if __name__ == "__main__":
    main()
