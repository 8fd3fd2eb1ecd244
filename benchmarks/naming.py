"""Naming of published spurious features: 50 ImageNet classes of the real MobileNetV2.

    python -m benchmarks.naming DATA --out OUT

DATA holds `imagenet-ccby`, `imagenet-extra`, `coco-mini`, `spurious-imagenet-dev/features.json` and
`imagenet_class_index.json`. Audits the 50 classes with the published features' own names as
vocabulary, and prints for each channel and the combined score how often the published feature is
among the first 5, its median place, and the same for the control: the similarity of a concept's
text to the class's name, which knows nothing of the model. The photos that show only the feature
are not used.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from pathlib import Path

import numpy as np
import torch

from auditor import pipeline, probes
from auditor.cli import Bars
from auditor.config import AuditConfig, ModelConfig, PrototypeConfig

CHANNELS = ("score", "bridge", "head", "association", "textcav", "direct")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/naming"))
    parser.add_argument("--probe", default="offline")
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--per-class", type=int, default=3)
    given = parser.parse_args()
    os.environ["AUDITOR_DATA"] = str(given.data.resolve())
    published = json.loads((given.data / "spurious-imagenet-dev/features.json").read_text())
    names = list(dict.fromkeys(row["spurious_feature"] for row in published))
    given.out.mkdir(parents=True, exist_ok=True)
    vocabulary, images, pool = (given.out / n for n in ("names.txt", "images.csv", "pool.csv"))
    vocabulary.write_text("\n".join(names) + "\n")
    photos = [
        (path.resolve(), path.parent.name)
        for folder in ("imagenet-ccby", "imagenet-extra")
        for path in sorted((given.data / folder).glob("*/*.jpg"))
    ]
    scenes = [(path.resolve(), "") for path in sorted((given.data / "coco-mini/images").iterdir())]
    for table, rows in ((images, photos), (pool, photos + scenes)):
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label"] if table == images else ["path"])
            writer.writerows(row if table == images else row[:1] for row in rows)
    audit = pipeline.run(
        AuditConfig(
            model=ModelConfig(spec="python:benchmarks.mobilenet_v2:mobilenet_v2"),
            images=str(images),
            pool=str(pool),
            probe=given.probe,
            concepts=str(vocabulary),
            classes=tuple(str(row["index"]) for row in published),
            out=str(given.out / "audit"),
            prototypes=PrototypeConfig(per_class=given.per_class, steps=given.steps),
        ),
        progress=Bars(),
    )
    wanted = {row["index"]: row["spurious_feature"].casefold() for row in published}
    print(f"{len(published)} classes, {len(names)} names, probe {audit.provenance.probe.name}")
    for channel in CHANNELS:
        places = []
        for audited in audit.classes:
            values = {
                c.concept.casefold(): c.score
                if channel == "score"
                else getattr(c.channels, channel)
                for c in audited.concepts
            }
            places.append(place(values, wanted[audited.index]))
        report(channel, places)
    probe = probes.load(given.probe, device=torch.device("cpu"))
    texts = probe.encode_texts(names).numpy()
    classes = probe.encode_texts([f"a photo of a {row['name']}" for row in published]).numpy()
    control = classes @ texts.T
    lower = [name.casefold() for name in names]
    report(
        "control: class name",
        [
            place(dict(zip(lower, row, strict=True)), wanted[published[i]["index"]])
            for i, row in enumerate(control)
        ],
    )


def place(values: dict[str, float | None], wanted: str) -> int:
    """Place of a concept among those that have a value; behind all where it has none."""
    own = values[wanted]
    known = [value for value in values.values() if value is not None]
    return len(values) if own is None else 1 + sum(value > own for value in known)


def report(name: str, places: list[int]) -> None:
    first = np.mean(np.array(places) <= 5)
    print(f"{name:<22} first 5: {first:.2f}   median place: {np.median(places):.1f}")


if __name__ == "__main__":
    main()
