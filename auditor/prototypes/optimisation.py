"""The optimisation of prototypes on one device: a batch that images enter and leave.

Each image has its own start, views, optimiser and clock. Nothing is read back from the device but
the probabilities, once in a block of steps.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.core import seeds
from auditor.errors import ModelError
from auditor.models import hardware
from auditor.models.activations import recorded
from auditor.models.layers import Layers
from auditor.models.loading import Classifier
from auditor.prototypes.objectives import Objective
from auditor.prototypes.parameterisations import Parameterisation, parameterisation, pink_noise
from auditor.prototypes.recipes import Recipe
from auditor.prototypes.views import View, patched, transformed

__all__ = ["BLOCK", "Item", "Loop", "Made"]

LEARNING_RATE = 0.1  # Adam, on the parameters of the image
BETAS = (0.9, 0.999)
BLOCK = 16  # steps between two looks at the results: the only waits for the device
CONVERGED = 0.95  # probability on random views from which an image begins to cool down
COOLING = 0.5  # share of the steps in which the learning rate falls to a tenth
BASELINE_STEPS = 64


Item = tuple[int, int]


@dataclass(frozen=True)
class Made:
    """An image (H, W, 3) that is done, with the probability seen after each block of its steps."""

    image: NDArray[np.uint8]
    trace: list[float]
    steps: int


class _Image:
    """One image on its way: its clock, its views and what was seen of it."""

    def __init__(self, item: Item, recipe: Recipe, aspect: float) -> None:
        self.item = item
        generator = seeds.stream(item[1], "prototype", item[0])
        self.start_seed = generator.integers(2**31)
        self.views = View.random(
            recipe.steps, generator, aspect=aspect, patch=recipe.mode == "patch"
        )
        self.step = 0
        self.cooling = max(1, round(COOLING * recipe.steps))
        self.last = recipe.steps
        self.trace: list[float] = []
        self.sum, self.since = 0.0, 0

    def rate(self, step: int) -> float:
        """Learning rate over its maximum: full, then a cosine to a tenth."""
        progress = (step - (self.last - self.cooling)) / self.cooling
        return 1.0 if progress <= 0 else 0.1 + 0.45 * (1 + math.cos(math.pi * min(progress, 1)))

    def until(self) -> int:
        """Steps to its next look, which is by its own clock and not by that of its neighbours."""
        return min(self.last, (self.step // BLOCK + 1) * BLOCK) - self.step

    def advance(self, steps: int, probability: float, *, early: bool) -> None:
        """Count steps with the mean probability seen in them, and look where it is time."""
        self.step += steps
        self.sum, self.since = self.sum + probability * steps, self.since + steps
        if self.step % BLOCK == 0 or self.step >= self.last:
            self.seen(self.sum / self.since, early=early)
            self.sum, self.since = 0.0, 0

    def seen(self, probability: float, *, early: bool) -> None:
        """Begin to cool down where the class is sure, half of the full rate's time gone."""
        self.trace.append(probability)
        full = self.last - self.cooling
        if early and probability >= CONVERGED and full / 2 <= self.step < full:
            self.last = self.step + self.cooling


class Loop:
    """The optimisation of a share of the images on one device."""

    def __init__(
        self,
        classifier: Classifier,
        layers: Layers,
        recipe: Recipe,
        objective: Objective,
        *,
        photos: Tensor | None,
        size: int,
        on_step: Callable[[int], None] | None,
    ) -> None:
        """Prepare the network.

        Args:
            classifier, layers, recipe, objective: what is optimised, and towards what.
            photos: float tensor of shape (n, 3, H, W) in [0, 1] that patches are put on.
            size: images at once.
            on_step: called with the number of steps done, of all images.
        """
        self.classifier, self.layers, self.recipe = classifier, layers, recipe
        self.objective, self.size, self.on_step = objective, size, on_step
        self.steps = 0
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
        self.backgrounds = None if photos is None else photos.to(self.device)
        self.run_on, self.autocast = hardware.for_gradients(classifier)
        self.net = self.run_on.net
        if recipe.compile:
            compiled: Any = torch.compile(self.net)
            self.run_on = dataclasses.replace(self.run_on, net=compiled)

    def run(self, groups: Sequence[list[Item]]) -> dict[Item, Made]:
        """Optimise all images; those of one group enter and stay together."""
        waiting = deque(groups)
        active: list[_Image] = []
        made: dict[Item, Made] = {}
        state: list[Tensor] = []  # parameters and Adam's two moments
        with recorded(self.net, self.layers) as values:
            while waiting or active:
                entering: list[_Image] = []
                while waiting and (
                    not active + entering
                    or len(active) + len(entering) + len(waiting[0]) <= self.size
                ):
                    entering += [
                        _Image(item, self.recipe, self.width / self.height)
                        for item in waiting.popleft()
                    ]
                if entering:
                    fresh = self.coding.encode(self._start(entering))
                    new = [fresh, torch.zeros_like(fresh), torch.zeros_like(fresh)]
                    state = (
                        [torch.cat(pair) for pair in zip(state, new, strict=True)] if state else new
                    )
                    active += entering
                steps = min(image.until() for image in active)
                seen = self._block(active, state, values, steps)
                for image, probability in zip(active, seen, strict=True):
                    image.advance(steps, probability, early=self.recipe.early)
                self._count(steps * len(active))
                stay = self._staying(active)
                if len(stay) < len(active):
                    self._collect(active, stay, state[0], made)
                    state = [part[stay] for part in state]
                    active = [active[k] for k in stay]
        return made

    def _count(self, steps: int) -> None:
        self.steps += steps
        if self.on_step is not None:
            self.on_step(self.steps)

    def _staying(self, active: Sequence[_Image]) -> list[int]:
        """Places of images that have steps left, or whose seed-mates do."""
        busy = {image.item[0] for image in active if image.step < image.last}
        together = self.recipe.diversity > 0
        for image in active if together else ():
            if image.item[0] in busy and image.step >= image.last:
                # it keeps its mates company until the next look
                image.last = min(self.recipe.steps, (image.step // BLOCK + 1) * BLOCK)
        return [k for k, image in enumerate(active) if image.step < image.last]

    def _collect(
        self,
        active: Sequence[_Image],
        stay: Sequence[int],
        parameters: Tensor,
        made: dict[Item, Made],
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
            made[active[k].item] = Made(image, active[k].trace, active[k].step)
            self._count(self.recipe.steps - active[k].step)

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
            if self.patch:
                shown = patched(images, self._photos(views[k]), views[k], self.side)
            else:
                shown = transformed(images, matrices[k])
            with self.autocast:
                logits = self.run_on.logits(shown).float()
            loss, probability = self.objective.loss(targets, images, logits, values)
            (gradient,) = torch.autograd.grad(loss, parameters)
            parameters = parameters.detach()
            mean.lerp_(gradient, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            per_image = scale[k].view(-1, *(1,) * (parameters.ndim - 1))
            parameters -= per_image * mean / (square.sqrt() + 1e-8)
            total += probability
        state[0] = parameters
        seen = [float(p) for p in (total / steps).tolist()]
        if not all(map(math.isfinite, seen)):
            raise ModelError(
                f"{self.classifier.name} gives logits that are not finite while prototypes are "
                "made; they cannot be trusted, so the audit stops here."
            )
        return seen

    def _start(self, entering: Sequence[_Image]) -> Tensor:
        def noise(image: _Image) -> NDArray[np.float32]:
            return pink_noise(*self.side, np.random.default_rng(image.start_seed))

        with ThreadPoolExecutor() as pool:  # one after another, they take as long as a GPU computes
            start = torch.from_numpy(np.stack(list(pool.map(noise, entering)))).to(self.device)
        if self.recipe.mode != "paper":
            return start
        return _baseline(self.classifier, 0.5 + 0.1 * (start - 0.5))

    def _sent(self, values: NDArray[np.floating]) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float32)).to(self.device)

    def _photos(self, view: View) -> Tensor:
        assert self.backgrounds is not None
        chosen = (view.picks * len(self.backgrounds)).astype(int)
        return self.backgrounds[torch.from_numpy(chosen).to(self.device)]

    def _canvas(self, n: int) -> Tensor:
        """The mean photo, which patches are shown on."""
        assert self.backgrounds is not None
        return self.backgrounds.mean(0).expand(n, -1, -1, -1)


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
