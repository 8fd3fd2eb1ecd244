"""Seconds of an audit's tasks in this process and on Ray, with the same findings.

    OMP_NUM_THREADS=1 python -m benchmarks.engines CONFIG --out FOLDER [--workers 1 2]

CONFIG is a file of settings. Each engine audits into a folder of its own, which must be new.
Workers have one core each. The first stage of tasks on Ray includes the start of the workers, so it
is left out of the sum. Ratios are to this process: above 1 is faster. They compare engines on one
machine in one run and say nothing of another machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from auditor.config import AuditConfig
from auditor.pipeline import runner
from auditor.record.schema import Audit

FIRST = "photos"  # the first stage of tasks, in which workers start
STAGES = ("pool", "probe", "prototypes", "isolation", "drawings", "surroundings", "examples")


def audited(config: AuditConfig, out: Path, workers: int) -> Audit:
    """An audit by Ray with so many workers, or by this process with none."""
    if out.exists():
        raise SystemExit(f"{out} is there already; what it keeps would not be computed.")
    engine = {"engine": "ray", "ray_workers": workers} if workers else {"engine": "process"}
    return runner.run(config.model_copy(update={"out": str(out), **engine}))


def main() -> None:
    """Audit with each engine and print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()
    config = AuditConfig.load(given.config, {})
    done = {n: audited(config, given.out / f"workers-{n}", n) for n in (0, *given.workers)}
    own = done[0]
    print(f"{'stage':14}" + "".join(f"{f'{n} workers' if n else 'process':>18}" for n in done))
    for stage in (FIRST, *STAGES):
        seconds = {n: audit.provenance.seconds.get(stage, 0.0) for n, audit in done.items()}
        if any(seconds.values()):
            print(f"{stage:14}" + row(seconds))
    sums = {n: sum(a.provenance.seconds.get(s, 0.0) for s in STAGES) for n, a in done.items()}
    print(f"{'without photos':14}" + row(sums))
    for audit in done.values():
        assert audit.findings == own.findings
        assert audit.classes == own.classes


def row(seconds: dict[int, float]) -> str:
    """Seconds of each engine, with the ratio to this process."""
    return "".join(f"{s:9.2f} ({seconds[0] / max(s, 0.01):5.2f})" for s in seconds.values())


if __name__ == "__main__":
    main()
