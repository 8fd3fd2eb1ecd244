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
import os
from pathlib import Path

import numpy as np
import torch

from auditor.cli.terminal import Bars
from auditor.concepts import probes
from auditor.config import AuditConfig, ModelConfig, PrototypeConfig
from auditor.pipeline import runner
from auditor.record import tables
from benchmarks.published import (
    Published,
    control,
    first_five,
    labelled_photos,
    place,
    scenes,
    write_table,
)

CHANNELS = ("score", "bridge", "head", "association", "prevalence", "textcav", "direct")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/naming"))
    parser.add_argument("--probe", default="offline")
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--per-class", type=int, default=3)
    given = parser.parse_args()
    os.environ["AUDITOR_DATA"] = str(given.data.resolve())
    published = Published.read(given.data)
    given.out.mkdir(parents=True, exist_ok=True)
    vocabulary = given.out / "names.txt"
    vocabulary.write_text("\n".join(published.vocabulary) + "\n")
    photos = labelled_photos(given.data)
    audit = runner.run(
        AuditConfig(
            model=ModelConfig(spec="python:benchmarks.mobilenet_v2:mobilenet_v2"),
            images=write_table(given.out / "images.csv", photos, labelled=True),
            pool=write_table(given.out / "pool.csv", photos + scenes(given.data), labelled=False),
            probe=given.probe,
            concepts=str(vocabulary),
            classes=tuple(map(str, published.indices)),
            out=str(given.out / "audit"),
            prototypes=PrototypeConfig(per_class=given.per_class, steps=given.steps),
        ),
        progress=Bars(),
    )
    wanted = dict(zip(published.indices, published.features, strict=True))
    scored = tables.scores(given.out / "audit", audit)
    print(
        f"{len(wanted)} classes, {len(published.vocabulary)} names, "
        f"probe {audit.provenance.probe.name}"
    )
    for channel in CHANNELS:
        places = []
        for index, concepts in scored.items():
            values = {
                c.concept.casefold(): c.score
                if channel == "score"
                else getattr(c.channels, channel)
                for c in concepts
            }
            places.append(place(values, wanted[index].casefold()))
        report(channel, places)
    probe = probes.load(given.probe, device=torch.device("cpu"))
    report("control: class name", control(probe, published))


def report(name: str, places: list[int]) -> None:
    print(f"{name:<22} first 5: {first_five(places):.2f}   median place: {np.median(places):.1f}")


if __name__ == "__main__":
    main()
