"""Making prototypes with this engine and with other tools, in turns, kept file by file.

Each image lies under OUT/<model>/<method>/<setting>/<class id>.png, as it is judged: 8 bits, at the
network's input size. Beside it stand the seconds that it took and when. What is there is not made
again, unless the engine's source has changed since, so that a run that was killed goes on.

Other tools run in a process of their own, so that neither their settings nor this engine's
(allocator, memory layout, warnings) reach the other, on as many threads.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import io
import json
import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from auditor.config import ModelConfig
from auditor.core.storage import write_atomically
from auditor.models import hardware, loading
from auditor.models.activations import Activations, collect
from auditor.models.layers import Layers
from auditor.models.loading import Classifier
from auditor.prototypes import (
    collages,
    expectations,
    generation,
    objectives,
    optimisation,
    parameterisations,
    recipes,
    views,
)
from auditor.prototypes.constraints import COLLAGES
from auditor.prototypes.expectations import ChannelStatistics, Expectation
from benchmarks import peers

__all__ = ["MODES", "Kept", "Maker", "Ours", "load", "ours"]

# plain: pixels, held to nothing; generic: held to the mean of generic photos, whatever the class;
# pixel: natural, but by pixels
MODES = ("natural", "data-free", "paper", "plain", "generic", "pixel")
ENGINE = (
    collages,
    generation,
    expectations,
    objectives,
    optimisation,
    parameterisations,
    recipes,
    views,
)  # the modules whose source decides this engine's images
Floats = NDArray[np.float32]
SPEC = "python:benchmarks.mobilenet_v2:"


@dataclass(frozen=True)
class Ours:
    """Images of this engine: uint8 array of shape (n, H, W, 3), made together.

    `layers` are those whose statistics the optimisation used.
    """

    images: NDArray[np.uint8]
    seconds: float
    layers: frozenset[str]


def ours(
    classifier: Classifier,
    layers: Layers,
    generic: Activations,
    classes: Sequence[int],
    *,
    mode: str,
    steps: int,
    seed: int,
) -> Ours:
    """One prototype of each class by this engine, in one batch.

    Args:
        classifier: the model.
        layers: its layers.
        generic: activations of photos of none of these classes.
        classes: to make, together.
        mode: one of `MODES`.
        steps: of the optimisation.
        seed: of each prototype.
    """
    if mode not in MODES:
        raise ValueError(f"no mode {mode!r}")
    recipe = generation.Recipe(
        mode="paper" if mode == "paper" else "natural",
        parameterisation="pixel" if mode in ("plain", "paper", "pixel") else "fourier",
        steps=steps,
    )
    start = time.perf_counter()
    expectation = None
    if mode in ("natural", "pixel", "generic"):
        expectation = expectations.expected(generic, layers, classes)
    elif mode == "data-free":
        made_up = collages.collages(COLLAGES, *classifier.preprocess.size)
        seen = collect(classifier, layers, torch.split(made_up, 32))
        expectation = expectations.with_batch_norm(
            classifier, layers, expectations.expected(seen, layers, classes), made_up
        )
    if expectation is not None and mode == "generic":
        expectation = _without_class(expectation, generic)
    made = generation.generate(
        classifier, layers, [(c, seed) for c in classes], recipe, expectation=expectation
    )
    used = frozenset(expectation.layers) if expectation is not None else frozenset[str]()
    return Ours(made.images, time.perf_counter() - start, used)


def _without_class(expectation: Expectation, generic: Activations) -> Expectation:
    """The plain mean of the photos in place of what goes with each class."""
    rows = len(expectation.classes)

    def plain(given: ChannelStatistics, means: Floats, spreads: Floats) -> ChannelStatistics:
        mean, spread = (np.tile(values.mean(0), (rows, 1)) for values in (means, spreads))
        return dataclasses.replace(given, mean=mean, spread=spread)

    layers = {
        name: plain(given, generic.path[name], generic.spread[name])
        for name, given in expectation.layers.items()
    }
    pixels = plain(expectation.pixels, generic.pixels[:, :3], generic.pixels[:, 3:])
    return dataclasses.replace(expectation, layers=layers, pixels=pixels)


@dataclass(frozen=True)
class Kept:
    """One image that was made, and its record."""

    image: NDArray[np.uint8]
    record: dict[str, Any]


@dataclass
class Maker:
    """Makes and keeps the images of one model.

    Attributes:
        model: factory in `benchmarks.mobilenet_v2`.
        classifier, layers: the model, as this engine has it.
        generic: activations of photos of none of the classes that are made.
        out: folder of the model.
        data: the evaluation data.
        folder: where the other tools are, or `None` to use only what was kept.
        threads: of each process.
        seed: of every image.
        run: names this run, so that times from one run can be told.
    """

    model: str
    classifier: Classifier
    layers: Layers
    generic: Activations
    out: Path
    data: Path
    folder: Path | None
    threads: int
    seed: int
    run: str

    def by_ours(self, mode: str, classes: Sequence[int], steps: int) -> None:
        """Make what is missing of the classes; they are one batch, and share its seconds."""
        place = self.out / f"ours-{mode}" / f"steps-{steps}"
        source = _source()
        kept = [self.kept(place, c) for c in classes]
        if all(item is not None and item.record["source"] == source for item in kept):
            return
        made = ours(
            self.classifier, self.layers, self.generic, classes,
            mode=mode, steps=steps, seed=self.seed,
        )  # fmt: skip
        for c, image in zip(classes, made.images, strict=True):
            self._keep(
                place, c, image,
                {"seconds": made.seconds / len(classes), "steps": steps, "source": source,
                 "together": len(classes), "layers": sorted(made.layers)},
            )  # fmt: skip

    def by_peer(
        self, name: str, class_index: int, steps: int | None, worker: ProcessPoolExecutor
    ) -> None:
        """Make one class's image with another tool, unless it was kept."""
        peer = peers.PEERS[name]
        setting = "defaults" if steps is None else f"steps-{steps}"
        place = self.out / name / setting
        if self.kept(place, class_index) is not None or self.folder is None:
            return
        made = worker.submit(
            _render, name, self.model, str(self.data), str(self.folder), class_index, steps,
            self.seed, self.threads,
        ).result()  # fmt: skip
        record = {"seconds": made.seconds, "steps": steps or peer.steps,
                  "images_per_step": peer.images_per_step}  # fmt: skip
        size = self.classifier.preprocess.size
        if peer.window < 1:
            middle = _middle(made.image, peer.window)
            self._keep(self.out / f"{name}-window" / setting, class_index,
                       _resized(middle, size), record)  # fmt: skip
        self._keep(place, class_index, _resized(made.image, size), record)

    def kept(self, place: Path, class_index: int) -> Kept | None:
        """The image of a class below a method's folder, if it was finished."""
        name = self.name_of(class_index)
        try:
            record = json.loads((place / f"{name}.json").read_text())
            with Image.open(place / f"{name}.png") as image:
                return Kept(np.asarray(image.convert("RGB")), record)
        except FileNotFoundError:
            return None

    def name_of(self, class_index: int) -> str:
        ids = self.classifier.class_ids
        return str(class_index) if ids is None else ids[class_index]

    def _keep(
        self, place: Path, class_index: int, image: NDArray[np.uint8], record: Mapping[str, object]
    ) -> None:
        name = self.name_of(class_index)
        file = io.BytesIO()
        Image.fromarray(image).save(file, "png")
        write_atomically(place / f"{name}.png", file.getvalue())
        record = {**record, "seed": self.seed, "run": self.run, "load": os.getloadavg()[0],
                  "threads": self.threads}  # fmt: skip
        # the record comes last: it says that the image is whole
        write_atomically(place / f"{name}.json", json.dumps(record).encode())


def load(model: str) -> Classifier:
    """A model of `benchmarks.mobilenet_v2` on the processor."""
    return loading.load(ModelConfig(spec=SPEC + model), device=torch.device("cpu"))


def prepared(model: str) -> Classifier:
    """The model as this engine's audits have it."""
    classifier = load(model)
    hardware.laid_out(classifier.net)
    return classifier


def worker() -> ProcessPoolExecutor:
    """A process for the other tools."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _render(
    name: str, model: str, data: str, folder: str, class_index: int, steps: int | None,
    seed: int, threads: int,
) -> peers.Rendered:  # fmt: skip
    torch.set_num_threads(threads)
    os.environ["AUDITOR_DATA"] = data
    peers.add_path(Path(folder))
    return peers.PEERS[name].render(_loaded(model), class_index, steps=steps, seed=seed)


@functools.lru_cache(maxsize=1)
def _loaded(model: str) -> Classifier:
    return load(model)


@functools.cache
def _source() -> str:
    """Digest of this engine's source."""
    content = b"".join(Path(inspect.getfile(module)).read_bytes() for module in ENGINE)
    return hashlib.sha256(content).hexdigest()[:16]


def _middle(image: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    height, width = (round(side * share) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The image at the network's input size; Pillow's filter averages when it shrinks."""
    made = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(made)
