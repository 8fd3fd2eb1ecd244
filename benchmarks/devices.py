"""The same audit on several devices: does it take less time, and does it say the same?

    python -m benchmarks.devices --devices cpu cuda cuda [--folder demo] [--out out/devices.json]

The embedded example (made in FOLDER where it is not there) is audited from nothing on each of the
devices, one after the other, and every audit is compared with the first. A device named twice shows
how far one audit is from its own repetition.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr

from auditor.lab import example
from auditor.models import hardware
from auditor.pipeline import runner
from auditor.record import tables
from auditor.record.schema import Audit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", nargs="+", default=["cpu", "cuda", "cuda"])
    parser.add_argument("--folder", type=Path, default=Path("demo"))
    parser.add_argument("--out", type=Path, default=Path("out/devices.json"))
    given = parser.parse_args()
    config = example.prepare(given.folder, seed=0, progress=runner.Silent())
    rows: list[dict[str, object]] = []
    audits: list[tuple[Path, Audit]] = []
    for place, name in enumerate(given.devices):
        folder = given.out.parent / f"devices-{place}"
        shutil.rmtree(folder, ignore_errors=True)
        changes = {"device": name, "out": str(folder), "pdf": "no"}
        audit = runner.run(config.model_copy(update=changes), progress=runner.Silent())
        audits.append((folder, audit))
        device = hardware.choose_device(name)
        row: dict[str, object] = {
            "device": hardware.describe(device),
            "seconds": audit.provenance.seconds,
            "seconds_in_all": round(sum(audit.provenance.seconds.values()), 1),
            "findings": sorted(f"{f.class_index} {f.concept}: {f.grade}" for f in audit.findings),
            **compared(audits[0], (folder, audit)),
        }
        if device.type == "cuda":
            row["peak_memory_mb"] = round(torch.cuda.max_memory_allocated(device) / 2**20)
        rows.append(row)
        print(json.dumps(row, indent=1), flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(rows, indent=1) + "\n")


def compared(first: tuple[Path, Audit], second: tuple[Path, Audit]) -> dict[str, float]:
    """How near two audits are: of prototypes, divergence and concept scores."""
    (home, a), (folder, b) = first, second
    scores = [
        [
            {c.concept: c.score for c in concepts if c.score is not None}
            for concepts in tables.scores(place, audit).values()
        ]
        for place, audit in (first, second)
    ]
    pairs = np.array(
        [
            (own[concept], other[concept])
            for own, other in zip(*scores, strict=True)
            for concept in own.keys() & other.keys()
        ]
    )
    divergence = [
        [row.divergence.score.value for row in audit.classes if row.divergence.score]
        for audit in (a, b)
    ]
    pixels = [
        np.abs(read(home / p.file) - read(folder / q.file)).mean()
        for own, other in zip(a.classes, b.classes, strict=True)
        for p, q in zip(own.prototypes, other.prototypes, strict=True)
    ]
    return {
        "score_correlation": float(np.corrcoef(pairs.T)[0, 1]),
        "score_mean_difference": float(np.abs(pairs[:, 0] - pairs[:, 1]).mean()),
        "divergence_rank_correlation": float(spearmanr(*divergence).statistic),
        "prototype_mean_difference_of_255": float(np.mean(pixels)),
        "least_probability": min(p.probability for row in b.classes for p in row.prototypes),
    }


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), float)


if __name__ == "__main__":
    main()
