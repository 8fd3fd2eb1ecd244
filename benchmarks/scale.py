"""Seconds and peak memory of each stage of an audit, by the number of classes.

    python -m benchmarks.scale DATA [--classes 10 100 1000] [--photos 5000] [--steps N]
    python -m benchmarks.scale --small 21000 [--classes 1000 21000] [--photos 50000] [--steps 16]

DATA has folders of photos, and the weights of MobileNetV2, which has 1,000 outputs. Where there are
too few photos, others are made of them, cropped, turned and mirrored, so that none is a copy. They
are dealt out to all classes: nothing is learned of the model here, only what its audit costs. Each
audit runs in a process of its own, from nothing to the PDF. Of the machine's own limits, taken in
the same run, are shown: the matrix product (for stages that run a network), decoding (for photos)
and writing (for the run folder).

With `--small` a network of four layers with so many outputs takes MobileNetV2's place, and blurred
noise of 224 pixels the photos'.

Memory is the most within the stage: what belongs to the process alone, and in brackets also what
lies in files that it has mapped, which the machine takes back where another needs it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from auditor import report
from auditor.concepts import probes
from auditor.config import AuditConfig, ModelConfig
from auditor.models import hardware, loading
from auditor.pipeline import runner
from auditor.pipeline.progress import Step
from auditor.record.schema import Audit
from benchmarks.speed import peak

MODEL = "python:benchmarks.mobilenet_v2:mobilenet_v2"
SMALL = "python:benchmarks.small_network:small"
OUTPUTS = "AUDITOR_OUTPUTS"  # environment variable that the small network reads
SETS = ("imagenet-ccby", "imagenet-extra", "pacs-mini", "coco-mini")
DECODED = 200  # photos that the limit of decoding is measured on
CPU = torch.device("cpu")
WRITTEN = 256 * 2**20  # bytes that the limit of writing is measured with


class Memory:
    """Progress that notes the seconds and the peak memory of each stage, in MB.

    Memory is `RssAnon` and `VmRSS`, asked for many times a second.
    """

    def __init__(self) -> None:
        self.stages: dict[str, tuple[float, float, float]] = {}
        self.most = (0.0, 0.0)
        threading.Thread(target=self._watch, daemon=True).start()

    @contextlib.contextmanager
    def stage(self, name: str, total: int) -> Iterator[Step]:
        """Note a stage; a second one of the same name is added."""
        started = self.begin()
        yield lambda done: None
        self.note(name, started)

    def begin(self) -> float:
        """Begin to measure memory anew; returns the time."""
        self.most = (0.0, 0.0)
        return time.perf_counter()

    def note(self, name: str, started: float) -> None:
        """Note what has been done since a time."""
        seconds, own, mapped = self.stages.get(name, (0.0, 0.0, 0.0))
        now = time.perf_counter() - started
        self.stages[name] = seconds + now, max(own, self.most[0]), max(mapped, self.most[1])

    def _watch(self) -> None:
        while True:
            lines = Path("/proc/self/status").read_text().splitlines()
            status = dict(line.split(":", 1) for line in lines)
            own, all_of_it = (int(status[key].split()[0]) / 1024 for key in ("RssAnon", "VmRSS"))
            self.most = max(self.most[0], own), max(self.most[1], all_of_it)
            time.sleep(0.02)


def photos(data: Path, folder: Path, n: int) -> None:
    """Make n photos in folders of 1,000 classes, unless they are there."""
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    given = sorted(path for name in SETS for path in (data / name).rglob("*.jpg"))
    names = loading.load(ModelConfig(spec=MODEL, trust_code=True), device=CPU).class_ids
    assert names is not None

    def make(k: int) -> None:
        rng = np.random.default_rng(k)
        with Image.open(given[k % len(given)]) as photo:
            image = photo.convert("RGB")
        if k >= len(given):
            image = varied(image, rng)
        place = folder / "photos" / names[k % len(names)] / f"{k}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        image.save(place, quality=92)

    with ThreadPoolExecutor() as pool:
        list(pool.map(make, range(n)))
    (folder / "done").touch()


def noise(folder: Path, n: int, outputs: int) -> None:
    """Make n pictures of blurred noise in folders of so many classes, unless they are there."""
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    for k in range(n):
        rng = np.random.default_rng(k)
        image = Image.fromarray(rng.integers(0, 256, (7, 7, 3), np.uint8))
        place = folder / "photos" / f"class {k % outputs}" / f"{k}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        image.resize((224, 224), Image.Resampling.BICUBIC).save(place, quality=92)
    (folder / "done").touch()


def varied(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Another photo: a part of one, turned and perhaps mirrored, in the size of the whole."""
    turned = image.rotate(float(rng.uniform(-25, 25)), Image.Resampling.BILINEAR)
    share = rng.uniform(0.5, 0.7)
    size = np.array(image.size) * share
    left, top = rng.uniform(0.15, 0.85 - share, 2) * image.size
    part = turned.crop((int(left), int(top), int(left + size[0]), int(top + size[1])))
    part = part.resize(image.size, Image.Resampling.BICUBIC)
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part


def audited(config: AuditConfig) -> dict[str, Any]:
    """An audit and its report in this process: stages, sizes, and the machine's limits."""
    memory = Memory()
    started = time.perf_counter()
    audit = runner.run(config, progress=memory)
    begun = memory.begin()
    report.write(Path(config.out))
    memory.note("report", begun)
    out = Path(config.out)
    pages = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    return {
        "classes": len(audit.classes),
        "seconds": time.perf_counter() - started,
        "stages": memory.stages,
        "work_mb": sum(p.stat().st_size for p in (out / "work").rglob("*") if p.is_file()) / 1e6,
        "folder_mb": sum(pages) / 1e6,
        "record_mb": (out / "audit.json").stat().st_size / 1e6,
        "shares": shares(audit, config, memory.stages),
    }


def shares(
    audit: Audit, config: AuditConfig, stages: dict[str, tuple[float, float, float]]
) -> dict[str, float]:
    """How much of the machine's own limit a stage reaches."""
    classifier = loading.load(config.model, device=CPU)
    probe = probes.load(config.probe, device=CPU, trust_code=False)
    image = torch.rand(1, 3, *classifier.preprocess.size)
    model, seen = (gflop(lambda: classifier.logits(image)),
                   gflop(lambda: probe.encode_images(torch.rand(1, 3, *probe.size))))  # fmt: skip
    fast = hardware.bfloat16_pays(classifier.net, CPU)
    most = peak(torch.float32, CPU)
    best = peak(torch.bfloat16, CPU) if fast else most
    files = sorted(Path(config.images).rglob("*.jpg"))
    n = len(files)
    steps = sum(prototype.steps for each in audit.classes for prototype in each.prototypes)
    decoding = n / decoded_per_second(files[:DECODED])
    return {
        "photos": n * model / stages["photos"][0] / most,
        "probe": n * seen / stages["probe"][0] / most,
        "prototypes": 2 * steps * model / stages["prototypes"][0] / best,
        "load: decoding": decoding / stages["load"][0],
        "photos: decoding": decoding / stages["photos"][0],
        "peak gflop/s": most,
        "photos decoded a second": n / decoding,
        "MB written a second": written_per_second(Path(config.out)),
    }


def gflop(work: Any) -> float:
    """Billions of operations of a network."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        work()
    return counter.get_total_flops() / 1e9


def decoded_per_second(files: list[Path]) -> float:
    """Photos that all cores decode in a second, and do nothing else."""

    def decode(path: Path) -> None:
        with Image.open(path) as image:
            image.convert("RGB").load()

    started = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, files))
    return len(files) / (time.perf_counter() - started)


def written_per_second(folder: Path) -> float:
    """MB that are written and synced in a second."""
    started = time.perf_counter()
    place = folder / "written"
    with place.open("wb") as file:
        file.write(os.urandom(WRITTEN))
        file.flush()
        os.fsync(file.fileno())
    place.unlink()
    return WRITTEN / 1e6 / (time.perf_counter() - started)


def main() -> None:
    """Print a table: a line a stage, a column for each number of classes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--small", type=int, help="outputs of a small network, for memory alone")
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--photos", type=int, default=5000)
    parser.add_argument("--steps", type=int, help="of each prototype; by default as in any audit")
    parser.add_argument("--work", type=Path, default=Path("out/scale"))
    parser.add_argument("--one", action="store_true", help="only audit, and print its figures")
    given = parser.parse_args()
    if (given.data is None) == (given.small is None):
        parser.error("give DATA or --small")

    def folder(classes: int) -> Path:
        kind = "audit" if given.small is None else f"small-{given.small}"
        return Path(given.work) / f"{kind}-{classes}"

    if given.small is None:
        os.environ["AUDITOR_DATA"] = str(given.data)
        model, source = MODEL, given.work / f"photos-{given.photos}"
    else:
        os.environ[OUTPUTS] = str(given.small)
        model, source = SMALL, given.work / f"noise-{given.small}-{given.photos}"
    if given.one:
        hardware.keep_freed_memory()
        print(json.dumps(audited(AuditConfig.model_validate({
            "model": {"spec": model, "trust_code": True}, "images": str(source / "photos"),
            "classes": list(map(str, range(given.classes[0]))), "anyway": True,
            "out": str(folder(given.classes[0])), "device": "cpu",
            "prototypes": {"per_class": 1, "steps": given.steps},
        }))))  # fmt: skip
        return
    if given.small is None:
        photos(given.data, source, given.photos)
    else:
        noise(source, given.photos, given.small)
    found = []
    for n in given.classes:
        shutil.rmtree(folder(n), ignore_errors=True)
        arguments = [
            sys.executable, "-m", "benchmarks.scale", "--one", "--classes", str(n),
            "--photos", str(given.photos), "--work", str(given.work),
            *(() if given.steps is None else ("--steps", str(given.steps))),
            *((str(given.data),) if given.small is None else ("--small", str(given.small))),
        ]  # fmt: skip
        done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(found[-1]), flush=True)
    table(found)


def table(found: list[dict[str, Any]]) -> None:
    """Print seconds and peak memory of each stage."""
    print("| stage | " + " | ".join(f"{each['classes']:,} classes" for each in found) + " |")
    print("|" + "---|" * (1 + len(found)))
    for name in found[-1]["stages"]:
        cells = [each["stages"].get(name, (0, 0, 0)) for each in found]
        shown = (f"{s:,.1f} s, {own:,.0f} ({whole:,.0f}) MB" for s, own, whole in cells)
        print(f"| {name} | " + " | ".join(shown) + " |")
    for name in ("seconds", "work_mb", "folder_mb", "record_mb"):
        print(f"| {name} | " + " | ".join(f"{each[name]:,.1f}" for each in found) + " |")
    for name in found[-1]["shares"]:
        print(f"| {name} | " + " | ".join(f"{each['shares'][name]:.2f}" for each in found) + " |")


if __name__ == "__main__":
    main()
