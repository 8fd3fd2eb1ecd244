"""Prototypes: images that are optimised until the model puts them in a class.

After Tagade and Rumbelow, "Prototype Generation" (arXiv 2309.17144). There are five modes;
docs/prototypes.md has the measurements behind each.

- `natural`: minimises cross-entropy. A small weight on the class's logit keeps pulling when the
  model is already sure, so that the class becomes clear to other networks too. The image starts
  from noise with the spectrum of photographs and is seen through random views. A hinge loss keeps
  the statistics of its pixels and of the channels in the *early* layers near what generic photos
  lead to expect of the class (`auditor.prototypes.expectations`). Deeper layers are not
  constrained, so they can measure how natural the image is.
- `data-free`: like `natural`, but without photos. Collages take their place and, where the model
  has batch normalisation, the statistics that it has stored.
- `reference`: like `natural`, and the sorted activations are also matched to photos of the class
  (VITAL, arXiv 2503.22399). This copies the photos, and can hide what is wrong with a model.
- `paper`: the published method, as far as it is public. The image starts from a baseline with equal
  probability for all classes. The logit is maximised, under a penalty on differences between
  neighbouring pixels, in random affine views.
- `patch`: optimises a small patch so that the model sees the class in any photo that it is put on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from auditor.errors import lacks_memory
from auditor.models import hardware
from auditor.models.layers import Layers
from auditor.models.loading import Classifier
from auditor.prototypes.expectations import Expectation
from auditor.prototypes.objectives import Objective
from auditor.prototypes.optimisation import BLOCK, Item, Loop, Made
from auditor.prototypes.recipes import MODES, Mode, Recipe

__all__ = ["MODES", "Mode", "Prototypes", "Recipe", "generate"]

MEASURED_AT_ONCE = 32  # finished images in one forward pass that measures their probabilities


@dataclass(frozen=True)
class Prototypes:
    """Prototypes of one or more classes, in the order in which they were asked for.

    Attributes:
        images: uint8 array of shape (n, H, W, 3).
        class_indices: the class index of each image.
        seeds: the seed of each image.
        probabilities: float array of shape (n,) in [0, 1]: the probability that the model gives
            each image of its class.
        traces: float array of shape (n, points) in [0, 1]: the same on random views during the
            optimisation, as a mean over each `BLOCK` steps. The last value is repeated for images
            that needed fewer steps than others.
        steps: number of optimisation steps of each image.
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
        """The images in batches: float tensors of shape (at most `size`, 3, H, W) in [0, 1]."""
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
    on_step: Callable[[int], None] | None = None,
) -> Prototypes:
    """Generate one prototype for each pair of class index and seed.

    The model's parameters are frozen: only the gradient with respect to the images is computed.
    Images are optimised in batches, and a finished image makes room for a waiting one. Each image
    has its own optimiser, its own count of steps, and its own random numbers, drawn from its class
    and seed. So its result does not depend on the other images or on the size of the batch, apart
    from rounding errors, which differ between batch sizes (docs/prototypes.md says by how much).

    Args:
        classifier: the audited model.
        layers: where its activations are read.
        items: pairs of class index and seed.
        recipe: the mode and its settings.
        expectation: what the images of the classes are held to, in the modes `natural`,
            `data-free` and `reference`; without it, images are not constrained.
        photos: float tensor of shape (n, 3, H, W) in [0, 1], that patches are put on. Only for the
            mode `patch`, which needs it.
        references: class index -> photos of the class, in the same form. Only for the mode
            `reference`, which needs it.
        batch: images that are optimised at once; by default a number that suits the memory. It is
            halved for as long as memory does not suffice.
        on_step: called with the number of steps done, counted over all images.
    """
    if recipe.mode == "patch" and (photos is None or not len(photos)):
        raise ValueError("patches need photos that they are put on")
    if recipe.mode == "reference" and not references:
        raise ValueError("the mode reference needs photos of the classes")
    groups = _groups(items, together=recipe.diversity > 0)
    folded = hardware.folded(classifier, layers.path)
    objective = Objective.build(folded, layers, recipe, expectation, references)
    size = batch or hardware.images_at_once(folded)
    made: dict[Item, Made] | None = None
    while made is None:
        loop = Loop(folded, layers, recipe, objective, photos=photos, size=size, on_step=on_step)
        try:
            made = loop.run(groups)
        except RuntimeError as error:
            if size == 1 or not lacks_memory(error):
                raise
            size = max(1, size // 2)  # its steps are done again
    ordered = [made[item] for item in items]
    images = np.stack([one.image for one in ordered])
    points = -(-recipe.steps // BLOCK)  # rounded up
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
    """Divide pairs into groups that must be in one batch, and drop duplicates.

    If `together`, all seeds of a class are one group; otherwise each pair is a group of its own.
    """
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
    """The probability that the model gives each image (n, H, W, 3) of its class, of shape (n,)."""
    device = next(iter(classifier.net.parameters())).device

    def run(part: NDArray[np.uint8], wanted: Sequence[int]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(part).to(device).permute(0, 3, 1, 2).float() / 255
        logits = classifier.logits(pixels).float()
        target = torch.tensor(wanted, device=device)[:, None]
        found: NDArray[np.float32] = F.softmax(logits, 1).gather(1, target)[:, 0].cpu().numpy()
        return found

    return np.concatenate(list(hardware.Parts(MEASURED_AT_ONCE)(run, images, classes)))
