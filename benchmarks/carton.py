"""The shortcut that real ImageNet classifiers have: a Chinese watermark and "carton" (ImageNet-W).

    python -m benchmarks.carton insertion DATA
    python -m benchmarks.carton audit DATA --out OUT

DATA holds `imagenet-ccby`, `imagenet-extra` and `weights`. `insertion` draws each concept, and its
matched control, on photos of other classes and prints carton's place among the 1,000 classes by the
mean change of the log-probability, and how often carton is among the first ten. `audit` audits
carton with fifteen other classes, with the built-in bank, and prints carton's first extrinsic
concepts and its findings. The watermarks are drawn by this project's own code.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import numpy as np
import torch

from auditor.cli.terminal import Bars
from auditor.config import AuditConfig, ModelConfig, PrototypeConfig
from auditor.drawing import drawings
from auditor.evidence.insertion import photo_seed
from auditor.images import image_set
from auditor.lab import scoring
from auditor.models import hardware, loading
from auditor.pipeline import runner
from auditor.record import tables

MODELS = ("mobilenet_v2", "efficientnet_lite0")
CONCEPTS = ("chinese_watermark", "chinese_caption", "latin_watermark", "black_border")
CARTON = 478
BESIDE = (1, 84, 207, 281, 340, 407, 483, 504, 555, 609, 671, 717, 779, 817, 920)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["insertion", "audit"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/carton"))
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--model", choices=MODELS, action="append")
    given = parser.parse_args()
    os.environ["AUDITOR_DATA"] = str(given.data.resolve())
    for name in given.model or MODELS:
        if given.what == "insertion":
            insertion(name, given.data, given.photos)
        else:
            audit(name, given.data, given.out / name)


def insertion(name: str, data: Path, count: int) -> None:
    spec = ModelConfig(spec=f"python:benchmarks.mobilenet_v2:{name}")
    classifier = loading.load(spec, device=torch.device("cpu"))
    hardware.laid_out(classifier.net)
    photos = image_set.load(
        str(data / "imagenet-ccby"),
        class_names=classifier.class_names,
        class_ids=classifier.class_ids,
        labelled=True,
    )
    others = np.flatnonzero(np.array(photos.labels) != CARTON)
    chosen = np.sort(np.random.default_rng(0).permutation(others)[:count])
    images = list(photos.subset(chosen.tolist()).batches(classifier.preprocess.fit, size=32))

    @torch.inference_mode()
    def logs(edit: str | None, control: bool) -> torch.Tensor:
        parts, place = [], 0
        for batch in images:
            edited = []
            for photo in batch:
                seed = photo_seed(0, place)
                made = (photo,) if edit is None else drawings.draw_pair(edit, photo, seed=seed)
                edited.append(made[control])
                place += 1
            parts.append(classifier.logits(torch.stack(edited)).double().log_softmax(1))
        return torch.cat(parts)

    def told(what: str, after: torch.Tensor) -> None:
        change = (after - plain).mean(0)
        place = int((change > change[CARTON]).sum()) + 1
        ten = int((after.topk(10).indices == CARTON).any(1).sum())
        rise = float((after.exp() - plain.exp()).mean(0)[CARTON])
        print(
            f"{name:<20} {what:<28} carton's place {place:>4} of {len(change)}, "
            f"in the first ten on {ten} of {len(after)}, p + {rise:.4f}",
            flush=True,
        )

    plain = logs(None, False)
    told("as they are", plain)
    for concept in CONCEPTS:
        told(concept, logs(concept, False))
        told(f"{concept}, control", logs(concept, True))


def audit(name: str, data: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    images, pool = out / "images.csv", out / "pool.csv"
    listed = ((images, "imagenet-ccby"), (pool, "imagenet-extra"))
    for table, folder in listed:
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label"] if table == images else ["path"])
            for path in sorted((data / folder).glob("*/*.jpg")):
                row = [path.resolve(), path.parent.name]
                writer.writerow(row if table == images else row[:1])
    config = AuditConfig(
        model=ModelConfig(spec=f"python:benchmarks.mobilenet_v2:{name}"),
        images=str(images),
        pool=str(pool),
        classes=tuple(str(index) for index in (CARTON, *BESIDE)),
        out=str(out / "audit"),
        prototypes=PrototypeConfig(per_class=2, steps=192),
    )
    done = runner.run(config, progress=Bars())
    carton = next(c for c in done.classes if c.index == CARTON)
    every = tables.scores(Path(config.out), done)[CARTON]
    extrinsic = {concept.name for concept in done.concepts if concept.extrinsic}
    first = [c for c in every if c.rank is not None and not c.core]
    first = [c for c in first if c.concept in extrinsic][:10]
    print(f"{name}: carton has {carton.n_images} photos; its first extrinsic concepts:")
    for place, c in enumerate(first, start=1):
        print(f"  {place:>2} {c.concept:<24} score {c.score:.2f} p {c.p:.4f} q {c.q:.3f}")
    for finding in done.findings:
        if finding.grade in scoring.GRADES:
            print(f"  {finding.grade}: {finding.class_index} {finding.concept}")


if __name__ == "__main__":
    main()
