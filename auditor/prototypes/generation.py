"""Prototypes: images optimised so that the model puts them in a class.

After Tagade and Rumbelow, "Prototype Generation" (arXiv 2309.17144). Modes (docs/prototypes.md has
the measurements behind each):

- `natural`: cross-entropy, with a gentle pull on the logit that goes on once the model is sure, so
  that the class is drawn out and other networks see it too; a start from noise with the spectrum of
  photographs; random views; and a hinge that keeps the channel statistics of the pixels and of the
  *early* layers near what generic photos lead to expect of the class
  (`auditor.prototypes.expectations`). What lies deeper is left to the class, so its naturalness is
  held out by construction.
- `data-free`: the same, with collages in place of photos and, where the model has it, what
  batch normalisation recorded.
- `reference`: `natural`, with sorted activations matched to photos of the class as well (VITAL,
  arXiv 2503.22399). It copies the class's photos and can hide what is wrong with a model.
- `paper`: the published recipe, as far as it is public: a baseline image with even class
  probabilities, then the raw logit, a penalty on differences between pixels, and random affine
  views.
- `patch`: a small patch that makes the model see the class on whatever photo it is put.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from auditor.errors import lacks_memory
from auditor.models import hardware
from auditor.models.activations import Layers
from auditor.models.loading import Classifier
from auditor.prototypes.expectations import Expectation
from auditor.prototypes.objectives import Objective
from auditor.prototypes.optimisation import BLOCK, Counter, Item, Loop, Made
from auditor.prototypes.recipes import MODES, Mode, Recipe

__all__ = ["MODES", "Mode", "Prototypes", "Recipe", "generate"]


@dataclass(frozen=True)
class Prototypes:
    """Prototypes of several classes, in the order they were asked for.

    Attributes:
        images: uint8 array of shape (n, H, W, 3): what is saved and measured.
        class_indices: the class of each.
        seeds: the seed of each.
        probabilities: float array of shape (n,): of the class, for `images`.
        traces: float array of shape (n, points): probability on random views, every `BLOCK` steps;
            the last value is repeated where an image needed fewer steps than the limit.
        steps: optimisation steps of each.
    """

    images: NDArray[np.uint8]
    class_indices: tuple[int, ...]
    seeds: tuple[int, ...]
    probabilities: NDArray[np.float32]
    traces: NDArray[np.float32]
    steps: tuple[int, ...]

    def __post_init__(self) -> None:
        n = len(self.class_indices)
        if self.images.ndim != 4 or self.images.shape[3] != 3 or len(self.images) != n:
            raise ValueError(f"images have shape {self.images.shape}, expected ({n}, H, W, 3)")
        rest = (self.seeds, self.probabilities, self.traces, self.steps)
        if any(len(values) != n for values in rest):
            raise ValueError("seeds, probabilities, traces and steps must match the images")

    def batches(self, size: int) -> Iterator[Tensor]:
        """The images as float tensors of shape (up to `size`, 3, H, W) in [0, 1], one by one."""
        for start in range(0, len(self.images), size):
            part = torch.from_numpy(self.images[start : start + size])
            yield part.permute(0, 3, 1, 2).float() / 255


def generate(
    classifier: Classifier,
    layers: Layers,
    items: Sequence[Item],
    recipe: Recipe,
    *,
    expectation: Expectation | None = None,
    photos: Tensor | None = None,
    references: Mapping[int, Tensor] | None = None,
    batch: int | None = None,
    devices: Sequence[torch.device] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Prototypes:
    """Generate one prototype for each (class index, seed).

    Parameters stay frozen: only the gradient by the images is computed. Each image has its own
    random numbers, drawn from its class and seed, its own optimiser and its own clock, so that
    neither its neighbours nor the batch's size decide what it becomes; what is left is the rounding
    of the device's kernels for different batch sizes (docs/prototypes.md gives the tolerance).
    Images that are sure of their class leave, and waiting ones take their place.

    Args:
        classifier: the audited model.
        layers: its layers.
        items: pairs of class index and seed.
        recipe: the mode and its settings.
        expectation: what images of the classes are held to, for `natural`, `data-free` and
            `reference`; without it nothing is.
        photos: float tensor of shape (n, 3, H, W) in [0, 1], what patches are put on.
        references: photos of each class, likewise, for `reference`.
        batch: images at once, by default as many as the device's memory serves best; halved where
            it does not suffice.
        devices: the network is copied to each, and each takes its share; by default the network's
            own alone.
        on_step: called with the number of image steps done.
    """
    if recipe.mode == "patch" and (photos is None or not len(photos)):
        raise ValueError("patches need photos that they are put on")
    if recipe.mode == "reference" and not references:
        raise ValueError("the mode reference needs photos of the classes")
    groups = _groups(items, together=recipe.diversity > 0)
    home = next(iter(classifier.net.parameters())).device
    places = list(devices or [home])
    done = Counter(on_step)

    def work(device: torch.device, share: list[list[Item]]) -> dict[Item, Made]:
        net = (
            classifier.net if device == home and len(places) == 1 else copy.deepcopy(classifier.net)
        )
        here = hardware.folded(dataclasses.replace(classifier, net=net.to(device)), layers.path)
        objective = Objective.build(here, layers, recipe, expectation, references)
        size = batch or hardware.images_at_once(here)
        while True:
            loop = Loop(here, layers, recipe, objective, photos=photos, size=size, done=done)
            try:
                return loop.run(share)
            except RuntimeError as error:
                if size == 1 or not lacks_memory(error):
                    raise
            done.forget(loop)
            size = max(1, size // 2)

    shares = [groups[k :: len(places)] for k in range(len(places))]
    made: dict[Item, Made] = {}
    if len(places) == 1:  # here and not in a thread, whose memory glibc hands back at each step
        made = work(places[0], shares[0])
    else:
        with ThreadPoolExecutor(len(places)) as pool:
            for part in pool.map(work, places, shares):
                made |= part
    ordered = [made[item] for item in items]
    images = np.stack([one.image for one in ordered])
    points = -(-recipe.steps // BLOCK)
    return Prototypes(
        images=images,
        class_indices=tuple(index for index, _ in items),
        seeds=tuple(seed for _, seed in items),
        probabilities=_probabilities(classifier, images, [index for index, _ in items]),
        traces=np.array(
            [one.trace + one.trace[-1:] * (points - len(one.trace)) for one in ordered], np.float32
        ),
        steps=tuple(one.steps for one in ordered),
    )


def _groups(items: Sequence[Item], *, together: bool) -> list[list[Item]]:
    """Items that must be optimised side by side: the seeds of a class, or each by itself."""
    if not together:
        return [[item] for item in dict.fromkeys(items)]
    by_class: dict[int, list[Item]] = {}
    for item in dict.fromkeys(items):
        by_class.setdefault(item[0], []).append(item)
    return list(by_class.values())


@torch.inference_mode()
def _probabilities(
    classifier: Classifier, images: NDArray[np.uint8], classes: Sequence[int]
) -> NDArray[np.float32]:
    device = next(iter(classifier.net.parameters())).device
    found = []
    for part, wanted in zip(
        np.array_split(images, -(-len(images) // 32)),
        np.array_split(np.array(classes), -(-len(images) // 32)),
        strict=True,
    ):
        pixels = torch.from_numpy(part).to(device).permute(0, 3, 1, 2).float() / 255
        logits = classifier.logits(pixels).float()
        target = torch.from_numpy(wanted).to(device)[:, None]
        found.append(F.softmax(logits, 1).gather(1, target)[:, 0].cpu().numpy())
    return np.concatenate(found)
