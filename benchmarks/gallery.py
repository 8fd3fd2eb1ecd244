"""The modes and parameterisations of prototypes side by side, as one picture.

    python -m benchmarks.gallery DATA --out docs/notes/prototypes.jpg

DATA as for `benchmarks.naming`. One prototype of each of a few ImageNet classes by MobileNetV2 in
every mode, from the photos that an audit of these classes would use; a photo of each class on top.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from auditor.images import image_set
from auditor.models import hardware
from auditor.models.activations import collect
from auditor.models.layers import find_layers
from auditor.prototypes.constraints import gather
from auditor.prototypes.generation import MODES, Recipe, generate
from benchmarks import making
from benchmarks.published import labelled_photos, scenes, write_table
from benchmarks.tables import sheet

CLASSES = ("street sign", "cheeseburger", "hummingbird", "sports car", "koala", "daisy")
GENERIC = 512
BATCH = 32


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    os.environ["AUDITOR_DATA"] = str(given.data.resolve())
    hardware.keep_freed_memory()
    classifier = making.prepared("mobilenet_v2")
    layers = find_layers(classifier)
    names = [name.lower() for name in classifier.class_names]
    classes = [names.index(name) for name in given.classes]
    rng = np.random.default_rng(0)
    photos = labelled_photos(given.data)
    rest = photos + scenes(given.data)
    with tempfile.TemporaryDirectory() as folder:
        images, pool = (
            image_set.load(
                write_table(Path(folder) / name, rows, labelled=labelled),
                class_names=classifier.class_names, class_ids=classifier.class_ids,
                labelled=labelled,
            )
            for name, rows, labelled in (
                ("images.csv", photos, True),
                ("pool.csv", [rest[i] for i in rng.permutation(len(rest))[:GENERIC]], False),
            )
        )  # fmt: skip
        rows = {"a photo": _photos(images, classes, classifier)}
        pooled = collect(classifier, layers, pool.batches(classifier.preprocess.fit, size=BATCH))
        recipes = {mode: Recipe(mode=mode, steps=given.steps) for mode in MODES}
        recipes |= {
            f"natural, {name}": Recipe(parameterisation=name, steps=given.steps)
            for name in ("pixel", "phase")
        }
        for name, recipe in recipes.items():
            if recipe.mode == "paper":
                recipe = Recipe(mode="paper", parameterisation="pixel", steps=given.steps)
            held = gather(
                recipe.mode, classifier, layers, classes, images=images, pool=pool, pooled=pooled,
                generic=np.ones(len(pool), bool), batch=BATCH, seed=0,
            )  # fmt: skip

            def pixels(photos: image_set.ImageSet, rows: tuple[int, ...]) -> torch.Tensor:
                parts = photos.subset(rows).batches(classifier.preprocess.fit, size=BATCH)
                return torch.cat(list(parts))

            made = generate(
                classifier, layers, [(c, 0) for c in classes], recipe,
                expectation=held.expectation,
                photos=pixels(pool, held.grounds) if held.grounds else None,
                references={c: pixels(images, rows) for c, rows in held.copied.items()},
            )  # fmt: skip
            rows[name] = dict(zip(classes, made.images, strict=True))
            print(name, made.probabilities.round(3), flush=True)
    sheet(given.out, rows, dict(zip(classes, given.classes, strict=True)))


def _photos(
    images: image_set.ImageSet, classes: list[int], classifier: making.Classifier
) -> dict[int, np.ndarray]:
    labels = list(images.labels)
    first = images.subset([labels.index(c) for c in classes])
    (pixels,) = first.batches(classifier.preprocess.fit, size=len(classes))
    shown = pixels.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return dict(zip(classes, shown, strict=True))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/notes/prototypes.jpg"))
    parser.add_argument("--classes", nargs="+", default=CLASSES)
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
