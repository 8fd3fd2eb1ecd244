"""Prototypes of this engine beside those of lucent, horama (MACO) and torch-dreams.

    python -m benchmarks.prototypes DATA --peers FOLDER --out OUT

DATA as for `benchmarks.naming`; FOLDER as `benchmarks.peers` says. For the real MobileNetV2,
SqueezeNet and EfficientNet-Lite0: one prototype of each class by each tool at its defaults and at
as many steps as this engine's, made in turns (seconds, as ratio to this engine's in the same
turn), and judged as 8-bit images at the network's input size: class probability, normalised and
class-specific path similarity per layer (docs/notes/method.md), the same in a network with random
weights, how well prototypes are told from photos, where the other two models put the class, and how
often the published spurious feature is named. ResNet-18 with random weights is for speed alone.

Measured classes have at least five photos; the classes with published features come first. Their
photos are never among the generic photos whose statistics this engine uses, so every measured photo
is held out. Layers whose statistics it uses are marked, and a second mean leaves them out, for the
other tools as well, which use none. Photos in the prototypes' place give the ceiling and, of
another class, the floor.

A run that was killed goes on from what lies under OUT. Left there: `prototypes.json`, `table.txt`
and one contact sheet for each model.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from auditor.concepts import probes
from auditor.core.storage import write_atomically
from auditor.images import image_set
from auditor.images.image_set import ImageSet
from auditor.models import hardware
from auditor.models.layers import find_layers
from auditor.models.loading import Classifier
from auditor.pipeline.observing import GENERIC_PHOTOS
from benchmarks import making
from benchmarks.judging import BATCH, Bridge, Judge
from benchmarks.making import MODES, Kept, Maker
from benchmarks.observing import Observer
from benchmarks.peers import PEERS
from benchmarks.published import Published, control, first_five, labelled_photos, scenes
from benchmarks.published import write_table as write_manifest
from benchmarks.tables import sheet, table

REAL = ("mobilenet_v2", "squeezenet1_0", "efficientnet_lite0")
SPEED_ONLY = ("resnet18",)
MIN_PHOTOS = 5
MAX_PHOTOS = 10  # of a class; a few have fifty, which would weigh more than the rest together
SPEED_CLASSES = 10
TOGETHER = 10  # classes of one turn: this engine's batch, then each of them by each other tool
CALIBRATION = 64  # generic photos behind the batch statistics of the random network
Json = dict[str, Any]


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    os.environ["AUDITOR_DATA"] = str(given.data.resolve())
    hardware.keep_freed_memory()
    given.out.mkdir(parents=True, exist_ok=True)
    run = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    result: Json = {"created": run, **circumstances(given), "models": {}}
    chosen = Choice(given)
    for model in given.models:
        print(f"{model}: making", flush=True)
        found = one_model(model, given, chosen, run)
        result["models"][model] = found
        write_atomically(
            given.out / "prototypes.json", json.dumps(result, indent=1, allow_nan=False).encode()
        )
    text = table(result)
    write_atomically(given.out / "table.txt", text.encode())
    print(text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/prototypes"))
    parser.add_argument("--peers", type=Path, help="where the other tools are; without, none runs")
    parser.add_argument("--models", nargs="+", default=[*REAL, *SPEED_ONLY],
                        choices=[*REAL, *SPEED_ONLY])  # fmt: skip
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--peers-list", nargs="*", default=["lucent", "maco", "torch-dreams"],
                        choices=list(PEERS))  # fmt: skip
    parser.add_argument("--settings", nargs="+", default=["defaults", "equal"],
                        choices=["defaults", "equal"])  # fmt: skip
    parser.add_argument("--steps", type=int, default=256, help="of this engine")
    parser.add_argument("--classes", type=int, default=40, help="measured, with enough photos")
    parser.add_argument("--published", type=int, default=50, help="with published features")
    parser.add_argument("--bridge", nargs="*", default=["mobilenet_v2"], choices=REAL,
                        help="models whose published features are named")  # fmt: skip
    parser.add_argument("--limit", nargs="*", default=[], metavar="MODE=N or PEER[:SETTING]=N",
                        help="make only the first N classes")  # fmt: skip
    parser.add_argument("--default-steps", type=int,
                        help="stands in for the other tools' defaults, to try the run")  # fmt: skip
    parser.add_argument("--pool", type=int, help="photos that directions of names are learned from")
    parser.add_argument("--probe", default="offline")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.limits = {key: int(n) for key, _, n in (text.partition("=") for text in given.limit)}
    return given


class Choice:
    """Which classes and photos a run is about.

    Attributes:
        measured: classes with enough photos, the published ones first.
        published: classes with published features.
        order: all of them, in the order they are made.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        rows = json.loads((given.data / "imagenet_class_index.json").read_text())
        ids = {row["wnid"]: int(row["index"]) for row in rows}
        photos = labelled_photos(given.data)
        by_class: dict[int, list[tuple[Path, str]]] = {}
        for path, wnid in photos:
            by_class.setdefault(ids[wnid], []).append((path, wnid))
        everything = Published.read(given.data)
        n = given.published
        self.published = Published(
            everything.indices[:n], everything.names[:n], everything.features[:n]
        )
        enough = sorted(c for c, own in by_class.items() if len(own) >= MIN_PHOTOS)
        mixed = np.random.default_rng(given.seed).permutation(enough).tolist()
        first = [c for c in self.published.indices if c in set(enough)]
        self.measured = [*first, *(c for c in mixed if c not in set(first))][: given.classes]
        if len(self.measured) < 2:
            raise SystemExit(f"Fewer than two classes have {MIN_PHOTOS} photos in {given.data}.")
        self.order = [
            *self.measured, *(c for c in self.published.indices if c not in set(self.measured))
        ]  # fmt: skip
        rng = np.random.default_rng((given.seed, 1))
        rest = [row for c, own in by_class.items() if c not in set(self.order) for row in own]
        rest += scenes(given.data)
        taken = rng.permutation(len(rest))[:GENERIC_PHOTOS]
        folder = given.out / "photos"
        self.measured_table = write_manifest(
            folder / "measured.csv",
            [row for c in self.measured for row in by_class[c][:MAX_PHOTOS]], labelled=True,
        )  # fmt: skip
        self.generic_table = write_manifest(
            folder / "generic.csv", [rest[i] for i in sorted(taken)], labelled=False
        )
        pool = photos + scenes(given.data)
        places = np.sort(rng.permutation(len(pool))[: given.pool])
        self.pool_table = write_manifest(
            folder / "pool.csv", [pool[i] for i in places], labelled=False
        )

    def classes(self, model: str, bridge: Sequence[str]) -> list[int]:
        """The classes to make for a model, in order."""
        if model in SPEED_ONLY:
            return self.measured[:SPEED_CLASSES]
        return self.order if model in bridge else self.measured


def one_model(model: str, given: argparse.Namespace, chosen: Choice, run: str) -> Json:
    """Make and judge everything for one model."""
    classifier = making.prepared(model)
    layers = find_layers(classifier)
    probe = probes.load(given.probe, device=torch.device("cpu"))
    observer = Observer(classifier, layers, probe, given.out / "work", BATCH)
    generic = image_set.load(chosen.generic_table, class_names=(), class_ids=None, labelled=False)
    seen = observer.photos(generic, np.ones(len(generic), bool))
    maker = Maker(
        model, classifier, layers, seen, given.out / model, given.data.resolve(), given.peers,
        given.threads, given.seed, run,
    )  # fmt: skip
    classes = chosen.classes(model, given.bridge)
    make(maker, model, given, classes)
    rows = {}
    for name, place in methods(model, given):
        kept = {c: one for c in classes if (one := maker.kept(maker.out / place, c))}
        if kept:
            rows[name] = kept
    first = f"ours {given.modes[0]}"
    for n in sorted({len(kept) for kept in rows.values()} - {len(rows[first])}):
        rows[f"{first}, first {n}"] = dict(list(rows[first].items())[:n])  # beside those with n
    found: Json = {name: {"speed": speed(kept, rows[first])} for name, kept in rows.items()}
    if model in SPEED_ONLY:
        return {"methods": found, "layers": list(layers.path)}
    print(f"{model}: judging", flush=True)
    few = first_pixels(generic, classifier, CALIBRATION)
    others = {name: making.prepared(name) for name in REAL if name != model}
    judge = Judge(classifier, layers, observer, chosen.measured_table, few, others)
    bridge = None
    answer: Json = {"layers": list(layers.path)}
    if model in given.bridge and len(chosen.published.indices) > 1:
        bridge = Bridge(
            classifier, layers, observer, probe, chosen.pool_table, chosen.published,
            given.out / "vocabulary",
        )  # fmt: skip
        answer["name_control"] = first_five(control(probe, chosen.published))
    for name, kept in rows.items():
        images = np.stack([item.image for item in kept.values()])
        used = used_layers(kept)
        judged, made = judge.judged(
            images, list(kept), used=used, left_out=used or used_layers(rows[first])
        )
        found[name] |= judged
        if bridge is not None and set(chosen.published.indices) <= set(kept):
            places = [list(kept).index(c) for c in chosen.published.indices]
            found[name]["naming"] = bridge.hits(made.features[places], images[places])
    shown = chosen.measured[:8]
    sheet(
        given.out / f"{model}.jpg",
        {name: {c: kept[c].image for c in shown if c in kept} for name, kept in rows.items()},
        {c: classifier.class_names[c] for c in shown},
    )
    answer |= {"methods": found, "photos": judge.references(used_layers(rows[first]))}
    return answer


def make(maker: Maker, model: str, given: argparse.Namespace, classes: list[int]) -> None:
    """Make all that is missing: in each turn this engine's batch, then the other tools' images."""
    with making.worker() as worker:
        for start in range(0, len(classes), TOGETHER):
            turn = classes[start : start + TOGETHER]
            for mode in given.modes:
                few = turn[: max(0, given.limits.get(mode, len(classes)) - start)]
                if few:
                    maker.by_ours(mode, few, given.steps)
            for c in turn:
                for name, setting, steps in settings(model, given):
                    limit = min(
                        given.limits.get(name, len(classes)),
                        given.limits.get(f"{name}:{setting}", len(classes)),
                    )
                    if classes.index(c) < limit:
                        maker.by_peer(name, c, steps, worker)
            print(f"{model}: {start + len(turn)} of {len(classes)} classes", flush=True)


def settings(model: str, given: argparse.Namespace) -> Iterator[tuple[str, str, int | None]]:
    """Every other tool with each setting and its steps."""
    for name in given.peers_list:
        for setting in given.settings:
            if setting == "equal":
                yield name, setting, given.steps
            elif model not in SPEED_ONLY:
                yield name, setting, given.default_steps


def methods(model: str, given: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Every method with the place of its images, this engine's first."""
    for mode in given.modes:
        yield f"ours {mode}", f"ours-{mode}/steps-{given.steps}"
    for name, setting, steps in settings(model, given):
        folder = "defaults" if steps is None else f"steps-{steps}"
        yield f"{name} {setting}", f"{name}/{folder}"
        if PEERS[name].window < 1:
            yield f"{name} {setting}, middle", f"{name}-window/{folder}"


def used_layers(kept: dict[int, Kept]) -> frozenset[str]:
    """Layers whose statistics the method used; none for other tools."""
    return frozenset(map(str, next(iter(kept.values())).record.get("layers", ())))


def speed(kept: dict[int, Kept], ours: dict[int, Kept]) -> Json:
    """Seconds for each prototype, and their ratio to this engine's in the same turn."""
    seconds = {c: float(item.record["seconds"]) for c, item in kept.items()}
    pairs = [c for c in seconds if c in ours]
    ratios = [seconds[c] / float(ours[c].record["seconds"]) for c in pairs]
    steps = float(next(iter(kept.values())).record["steps"])
    return {
        "seconds": float(np.median(list(seconds.values()))),
        "steps": steps,
        "ratio": float(np.median(ratios)),
        "quartiles": [float(q) for q in np.quantile(ratios, [0.25, 0.75])],
        "n": len(pairs),
        "in_one_run": float(np.mean([kept[c].record["run"] == ours[c].record["run"]
                                     for c in pairs])),
        "load": float(np.median([float(item.record["load"]) for item in kept.values()])),
    }  # fmt: skip


def first_pixels(photos: ImageSet, classifier: Classifier, n: int) -> torch.Tensor:
    """The first photos as one tensor at the model's input size."""
    few = photos.subset(range(min(n, len(photos))))
    return torch.cat(list(few.batches(classifier.preprocess.fit, size=n)))


def circumstances(given: argparse.Namespace) -> Json:
    """Machine, command and versions; paths are left out, they say nothing to others."""
    paths = {str(given.data): "DATA", str(given.out): "OUT", str(given.peers): "FOLDER"}
    packages = ("auditor", "torch", "torchvision", "timm", "numpy", "scikit-learn",
                *sorted({PEERS[name].package for name in given.peers_list}))  # fmt: skip
    versions = {}
    if given.peers is not None:
        found = importlib.metadata.distributions(path=[*sys.path, str(given.peers)])
        known = {d.metadata["Name"].lower(): d.version for d in found if d.metadata["Name"]}
    else:
        known = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    for name in packages:
        versions[name] = known.get(name)
    words = [paths.get(word, word) for word in sys.argv[1:]]
    return {
        "command": " ".join(["python -m benchmarks.prototypes", *words]),
        "machine": {
            "processor": processor(), "cores": os.cpu_count(), "threads": given.threads,
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "system": platform.system(), "python": platform.python_version(),
        },
        "versions": versions,
    }  # fmt: skip


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for row in csv.reader(file, delimiter=":"):
                if row and row[0].strip() == "model name":
                    return row[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
