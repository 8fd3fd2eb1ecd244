"""Whether wrong preprocessing and labels are noticed on real ImageNet networks.

    python -m benchmarks.readings [--every 3] [--out FILE] [NETWORK ...]

Each network of `benchmarks.mobilenet_v2` is given photos as it wants them, and then in ways that
users get wrong; `auditor.pipeline.agreement.check` says what it makes of
each. One JSON line for each way:
accuracy, what was said, and seconds. Of the photos every third is taken, in the order of paths.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from auditor.errors import ImagesError
from auditor.images import image_set
from auditor.images.image_set import ImageSet
from auditor.models.loading import Classifier
from auditor.models.preprocessing import Preprocess
from auditor.pipeline import agreement
from benchmarks import mobilenet_v2

NETWORKS = ("mobilenet_v2", "efficientnet_lite0", "squeezenet1_0")
DATA = Path(__file__).parents[1].parent / "shared" / "data"


class Turned(nn.Module):
    """A network that wants blue first."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.flip(1))


class Whole(nn.Module):
    """A network that normalises by itself and wants pixels of 0 to 255."""

    def __init__(self, net: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.net, self.preprocess = net, preprocess

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.preprocess.normalise(x / 255))


def ways(right: Classifier) -> Iterator[tuple[str, Classifier, int]]:
    """Each way's name, the classifier as it is given, and by how much class names are shifted."""
    preprocess = right.preprocess
    plain = dataclasses.replace(preprocess, mean=(0.0,) * 3, std=(1.0,) * 3)

    def with_net(net: nn.Module, given: Preprocess = preprocess) -> Classifier:
        return dataclasses.replace(right, net=net.eval(), preprocess=given)

    yield "right", right, 0
    yield "channels swapped", with_net(Turned(right.net)), 0
    yield "pixels of 0 to 1 as they are", with_net(right.net, plain), 0
    yield (
        "pixels of 0 to 1 to a network of 0 to 255",
        with_net(Whole(right.net, preprocess), plain),
        0,
    )
    squeezed = dataclasses.replace(preprocess, aspect="stretch")
    yield "squeezed instead of cropped", with_net(right.net, squeezed), 0
    yield "class names shifted by one", right, 1


def photos(every: int, names: list[str], ids: list[str]) -> ImageSet:
    """Every so many of the photos, with their classes."""
    files = sorted((DATA / "imagenet-ccby").rglob("*.jpg"))[::every]
    with tempfile.NamedTemporaryFile("w", suffix=".csv", newline="") as table:
        rows = csv.writer(table)
        rows.writerows([("path", "wnid"), *((str(path), path.parent.name) for path in files)])
        table.flush()
        return image_set.load(table.name, class_names=names, class_ids=ids, labelled=True)


def tried(classifier: Classifier, images: ImageSet) -> dict[str, object]:
    """Accuracy on the photos, what is said of it, and the seconds that took."""
    with torch.inference_mode():
        parts = [
            classifier.logits(batch).float().numpy()
            for batch in images.batches(classifier.preprocess.fit, size=32)
        ]
    logits, start = np.concatenate(parts), time.perf_counter()
    try:
        classes = range(len(classifier.class_names))
        remarks = agreement.check(
            classifier, images, logits, classes, seed=0, batch=32, anyway=False
        )
        said = "; ".join(remark.text for remark in remarks) or "goes on"
    except ImagesError as error:
        said = f"stops: {error}"
    right = logits.argmax(1) == np.array(images.labels)
    seconds = round(time.perf_counter() - start, 1)
    return {"n": len(right), "accuracy": round(float(right.mean()), 3), "said": said,
            "seconds": seconds}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--ways", nargs="*", help="only ways that begin so")
    parser.add_argument("--out", type=Path, default=Path("/dev/stdout"))
    given = parser.parse_args()
    rows = json.loads((DATA / "imagenet_class_index.json").read_text())
    names, ids = [row["name"] for row in rows], [row["wnid"] for row in rows]
    images = photos(given.every, names, ids)
    for network in given.networks:
        net = getattr(mobilenet_v2, network)().eval().requires_grad_(False)
        said = net.auditor
        preprocess = Preprocess((224, 224), tuple(said["mean"]), tuple(said["std"]), 224, "bicubic")
        right = Classifier(net, preprocess, tuple(names), tuple(ids), "0" * 64, network)
        for way, classifier, shift in ways(right):
            if given.ways and not way.startswith(tuple(given.ways)):
                continue
            labels = tuple((label + shift) % len(names) for label in images.labels or ())
            shown = dataclasses.replace(images, labels=labels, identities=())
            row = {"network": network, "way": way, **tried(classifier, shown)}
            with given.out.open("a") as out:
                out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
