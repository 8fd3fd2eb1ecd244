"""Prototypes: images optimised so that the model puts them in a class.

After Tagade and Rumbelow, "Prototype Generation" (arXiv 2309.17144). Modes (docs/prototypes.md has
the measurements behind each):

- `natural`: cross-entropy in place of the raw logit, which overshoots or stalls; a start from noise
  with the spectrum of photographs; random views; and a hinge that keeps the channel statistics of
  the *early* layers near what generic photos lead to expect of the class (`auditor.expectations`).
  What lies deeper is left to the class, so its naturalness is held out by construction.
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
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from auditor import compute
from auditor.activations import Layers, recorded
from auditor.expectations import Expectation
from auditor.models import Classifier
from auditor.objectives import Objective
from auditor.parameterisations import Name, Parameterisation, parameterisation, pink_noise
from auditor.views import View, patched, transformed

__all__ = ["MODES", "Mode", "Prototypes", "Recipe", "generate"]

Mode = Literal["natural", "data-free", "reference", "paper", "patch"]
MODES: tuple[Mode, ...] = ("natural", "data-free", "reference", "paper", "patch")

LEARNING_RATE = 0.1  # Adam, on the parameters of the image
BETAS = (0.9, 0.999)
BLOCK = 16  # steps between two looks at the results: the only waits for the device
CONVERGED = 0.95  # probability on random views from which an image begins to cool down
COOLING = 0.5  # share of the steps in which the learning rate falls to a tenth
BASELINE_STEPS = 64


@dataclass(frozen=True)
class Recipe:
    """How prototypes are made.

    Attributes:
        mode: see the module.
        parameterisation: of the image.
        steps: at most.
        early: whether an image that is sure of its class cools down before its last steps.
        diversity: weight of a penalty on likeness between the seeds of a class; 0 leaves it out.
        patch: side of the patch over that of the image, for mode `patch`.
        compile: compile the network (`torch.compile`), which pays on a GPU and for many classes.
    """

    mode: Mode = "natural"
    parameterisation: Name = "fourier"
    steps: int = 256
    early: bool = False
    diversity: float = 0.0
    patch: float = 0.3
    compile: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.patch <= 1 or self.diversity < 0:
            raise ValueError(f"{self} is out of range")


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

    def tensor(self) -> Tensor:
        """The images as float tensor of shape (n, 3, H, W) in [0, 1]."""
        return torch.from_numpy(self.images).permute(0, 3, 1, 2).float() / 255


Item = tuple[int, int]


def generate(
    classifier: Classifier,
    layers: Layers,
    items: Sequence[Item],
    recipe: Recipe = Recipe(),
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
        devices: the network is copied to each, and each takes its share; by default the
            network's own device, or all GPUs where that is one.
        on_step: called with the number of image steps done.
    """
    if recipe.mode == "patch" and (photos is None or not len(photos)):
        raise ValueError("patches need photos that they are put on")
    if recipe.mode == "reference" and not references:
        raise ValueError("the mode reference needs photos of the classes")
    groups = _groups(items, together=recipe.diversity > 0)
    home = next(iter(classifier.net.parameters())).device
    places = list(devices or compute.peers(home))
    done = _Counter(on_step)

    def work(device: torch.device, share: list[list[Item]]) -> dict[Item, _Made]:
        net = (
            classifier.net if device == home and len(places) == 1 else copy.deepcopy(classifier.net)
        )
        here = compute.folded(dataclasses.replace(classifier, net=net.to(device)), layers.path)
        objective = Objective.build(
            here, layers, recipe.mode, expectation, references, diversity=recipe.diversity
        )
        size = batch or compute.images_at_once(here)
        while True:
            loop = _Loop(here, layers, recipe, objective, photos, size, done)
            try:
                return loop.run(share)
            except RuntimeError as error:
                if size == 1 or not compute.out_of_memory(error):
                    raise
            done.forget(loop)
            size = max(1, size // 2)

    shares = [groups[k :: len(places)] for k in range(len(places))]
    with ThreadPoolExecutor(len(places)) as pool:
        made: dict[Item, _Made] = {}
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


@dataclass(frozen=True)
class _Made:
    image: NDArray[np.uint8]
    trace: list[float]
    steps: int


class _Counter:
    """Image steps done, over all devices; an attempt that is given up is taken back."""

    def __init__(self, tell: Callable[[int], None] | None) -> None:
        self.tell = tell
        self.steps: dict[int, int] = {}

    def add(self, loop: _Loop, steps: int) -> None:
        self.steps[id(loop)] = self.steps.get(id(loop), 0) + steps
        if self.tell is not None:
            self.tell(sum(self.steps.values()))

    def forget(self, loop: _Loop) -> None:
        self.steps.pop(id(loop), None)


class _Image:
    """One image on its way: its clock, its views and what was seen of it."""

    def __init__(self, item: Item, recipe: Recipe) -> None:
        self.item = item
        generator = np.random.default_rng((item[1], item[0], 0x9E37))
        self.start_seed = generator.integers(2**31)
        self.views = View.random(recipe.steps, generator, patch=recipe.mode == "patch")
        self.step = 0
        self.cooling = max(1, round(COOLING * recipe.steps))
        self.last = recipe.steps
        self.trace: list[float] = []

    def rate(self, step: int) -> float:
        """Learning rate over its maximum: full, then a cosine to a tenth."""
        progress = (step - (self.last - self.cooling)) / self.cooling
        return 1.0 if progress <= 0 else 0.1 + 0.45 * (1 + math.cos(math.pi * min(progress, 1)))

    def seen(self, probability: float, *, early: bool) -> None:
        """Begin to cool down where the class is sure, half of the full rate's time gone."""
        self.trace.append(probability)
        full = self.last - self.cooling
        if early and probability >= CONVERGED and full / 2 <= self.step < full:
            self.last = self.step + self.cooling


class _Loop:
    """The optimisation of a share of the images on one device."""

    def __init__(
        self,
        classifier: Classifier,
        layers: Layers,
        recipe: Recipe,
        objective: Objective,
        photos: Tensor | None,
        size: int,
        done: _Counter,
    ) -> None:
        self.classifier, self.layers, self.recipe = classifier, layers, recipe
        self.objective, self.size, self.done = objective, size, done
        self.device = next(iter(classifier.net.parameters())).device
        self.height, self.width = classifier.preprocess.size
        self.patch = recipe.mode == "patch"
        side = (self.height, self.width)
        if self.patch:
            side = tuple(max(4, round(recipe.patch * edge)) for edge in side)  # type: ignore[assignment]
        self.side = side
        self.coding: Parameterisation = parameterisation(
            recipe.parameterisation, *side, self.device
        )
        self.backgrounds = photos
        self.autocast = torch.autocast(
            self.device.type,
            torch.bfloat16,
            enabled=compute.bfloat16_pays(classifier.net, self.device),
        )
        self.net = torch.compile(classifier.net) if recipe.compile else classifier.net

    def run(self, groups: Sequence[list[Item]]) -> dict[Item, _Made]:
        waiting = deque(groups)
        active: list[_Image] = []
        made: dict[Item, _Made] = {}
        state: list[Tensor] = []  # parameters and Adam's two moments
        with recorded(self.classifier.net, self.layers) as values:
            while waiting or active:
                entering: list[_Image] = []
                while waiting and (
                    not active + entering
                    or len(active) + len(entering) + len(waiting[0]) <= self.size
                ):
                    entering += [_Image(item, self.recipe) for item in waiting.popleft()]
                if entering:
                    fresh = self.coding.encode(self._start(entering))
                    new = [fresh, torch.zeros_like(fresh), torch.zeros_like(fresh)]
                    state = (
                        [torch.cat(pair) for pair in zip(state, new, strict=True)] if state else new
                    )
                    active += entering
                steps = min(BLOCK, *(image.last - image.step for image in active))
                seen = self._block(active, state, values, steps)
                for image, probability in zip(active, seen, strict=True):
                    image.step += steps
                    image.seen(probability, early=self.recipe.early)
                self.done.add(self, steps * len(active))
                stay = self._staying(active)
                if len(stay) < len(active):
                    self._collect(active, stay, state[0], made)
                    state = [part[stay] for part in state]
                    active = [active[k] for k in stay]
        return made

    def _staying(self, active: Sequence[_Image]) -> list[int]:
        """Places of images that have steps left, or whose seed-mates do."""
        busy = {image.item[0] for image in active if image.step < image.last}
        together = self.recipe.diversity > 0
        for image in active if together else ():
            if image.item[0] in busy and image.step >= image.last:
                image.last = min(self.recipe.steps, image.step + 1)  # keeps its mates company
        return [k for k, image in enumerate(active) if image.step < image.last]

    def _collect(
        self,
        active: Sequence[_Image],
        stay: Sequence[int],
        parameters: Tensor,
        made: dict[Item, _Made],
    ) -> None:
        gone = [k for k in range(len(active)) if k not in set(stay)]
        with torch.inference_mode():
            images = self.coding.decode(parameters[gone])
            if self.patch:
                images = patched(
                    images, self._canvas(len(gone)), View.centred(len(gone)), self.side
                )
            saved = images.mul(255).round().clamp(0, 255).to(torch.uint8)
        for k, image in zip(gone, saved.permute(0, 2, 3, 1).cpu().numpy(), strict=True):
            made[active[k].item] = _Made(image, active[k].trace, active[k].step)
            self.done.add(self, self.recipe.steps - active[k].step)

    def _block(
        self,
        active: Sequence[_Image],
        state: list[Tensor],
        values: Mapping[str, Tensor],
        steps: int,
    ) -> list[float]:
        """Some steps of all images, with nothing read back before the end."""
        clocks = np.array([[image.step + k for image in active] for k in range(steps)])
        rates = np.array([[image.rate(image.step + k) for image in active] for k in range(steps)])
        first, second = (1 - beta ** (clocks + 1.0) for beta in BETAS)
        scale = self._sent(LEARNING_RATE * rates * np.sqrt(second) / first)
        views = [View.stacked([image.views for image in active], clocks[k]) for k in range(steps)]
        matrices = self._sent(np.stack([view.matrices for view in views]))
        targets = self.objective.of([image.item[0] for image in active])
        parameters, mean, square = state
        total = torch.zeros(len(active), device=self.device)
        for k in range(steps):
            parameters.requires_grad_()
            images = self.coding.decode(parameters)
            shown = transformed(images, matrices[k])
            if self.patch:
                shown = patched(images, self._photos(views[k]), views[k], self.side)
            with self.autocast:
                logits = self.net(self.classifier.preprocess.normalise(shown)).float()
            loss, probability = self.objective.loss(targets, images, logits, values)
            (gradient,) = torch.autograd.grad(loss, parameters)
            parameters = parameters.detach()
            mean.lerp_(gradient, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            per_image = scale[k].view(-1, *(1,) * (parameters.ndim - 1))
            parameters -= per_image * mean / (square.sqrt() + 1e-8)
            total += probability
        state[0] = parameters
        return [float(p) for p in (total / steps).tolist()]

    def _start(self, entering: Sequence[_Image]) -> Tensor:
        noise = [
            pink_noise(*self.side, np.random.default_rng(image.start_seed)) for image in entering
        ]
        start = torch.from_numpy(np.stack(noise)).to(self.device)
        if self.recipe.mode != "paper":
            return start
        return _baseline(self.classifier, 0.5 + 0.1 * (start - 0.5))

    def _sent(self, values: NDArray[np.floating]) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float32)).to(self.device)

    def _photos(self, view: View) -> Tensor:
        assert self.backgrounds is not None
        chosen = (view.picks * len(self.backgrounds)).astype(int)
        return self.backgrounds[torch.from_numpy(chosen)].to(self.device)

    def _canvas(self, n: int) -> Tensor:
        """The mean photo, which patches are shown on."""
        assert self.backgrounds is not None
        return self.backgrounds.mean(0).to(self.device).expand(n, -1, -1, -1)


def _groups(items: Sequence[Item], *, together: bool) -> list[list[Item]]:
    """Items that must be optimised side by side: the seeds of a class, or each by itself."""
    if not together:
        return [[item] for item in dict.fromkeys(items)]
    by_class: dict[int, list[Item]] = {}
    for item in dict.fromkeys(items):
        by_class.setdefault(item[0], []).append(item)
    return list(by_class.values())


def _baseline(classifier: Classifier, start: Tensor) -> Tensor:
    """Images whose class probabilities are near equal: their variance over classes minimised."""
    pixels = torch.logit(start).requires_grad_()
    optimiser = torch.optim.Adam([pixels], lr=0.05)
    n_classes = len(classifier.class_names)
    for _ in range(BASELINE_STEPS):
        probabilities = classifier.logits(torch.sigmoid(pixels)).float().softmax(1)
        loss = (probabilities * n_classes).var(1).sum()
        (pixels.grad,) = torch.autograd.grad(loss, pixels)
        optimiser.step()
    return torch.sigmoid(pixels.detach())


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
