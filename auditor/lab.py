"""Classifiers whose shortcuts are known, because they were planted in the photos they learned from.

A plan names classes, each with an object of `auditor.scenes`, and shortcuts: a concept that most
photos of one class carry and hardly any other. Everything else occurs independently of the class.
A network trained on such photos relies on the shortcuts, which is measured and not assumed
(`effects`), so that an audit of it can be held against the truth. *Measured* as
`learned(train(plan), plan)` for the default plan with seeds 0, 1 and 2: put on photos of the other
classes (132 pairs of photos each), a planted concept raises the probability of its class by 0.49 to
0.83; the lowest bound of the eighteen 95% intervals is 0.43 (that is on a processor that computes
in bfloat16; elsewhere, in float32, seed 0 gives 0.44 to 0.81). On photos where the concepts go with
no class (`accuracy`, 40 of each class), the six classes without a shortcut are recognised in 78% to
97% of photos, the six with one in 5% to 57%: that is the harm that a shortcut does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from auditor import scenes
from auditor.compute import laid_out
from auditor.drawing import DRAWINGS
from auditor.preprocessing import Preprocess
from auditor.record import Estimate
from auditor.scenes import BACKGROUNDS, COMPANIONS, OBJECTS, Scene
from auditor.statistics import mean_estimate, proportion
from auditor.storage import digest_value

__all__ = [
    "DEMO",
    "LabNetwork",
    "Plan",
    "Shortcut",
    "accuracy",
    "effects",
    "lab_network",
    "learned",
    "train",
]

Progress = Callable[[str, int, int], None]
Part = Literal["background", "companions", "drawings"]

# Streams of random numbers that must not meet: what is learned from, audited with, verified on.
_TRAIN, _IMAGES, POOL_STREAM, _PAIRS, _TEST = range(5)


def _ingredient(concept: str) -> tuple[Part, str]:
    """The part of a scene that a concept's name stands for, and its name there."""
    drawing = concept.replace(" ", "_")
    if concept in BACKGROUNDS:
        return "background", concept
    if concept in COMPANIONS:
        return "companions", concept
    if drawing in DRAWINGS:
        return "drawings", drawing
    raise ValueError(f"{concept!r} is neither a background, a companion nor a drawing of scenes")


@dataclass(frozen=True)
class Shortcut:
    """A concept that the share `strength` of a class's photos carries, and few others.

    `concept` is the everyday name of a background, a companion or an overlay of the scenes, as in
    the built-in concept bank: "brick wall", "red ball", "time stamp".
    """

    class_index: int
    concept: str
    strength: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength {self.strength} is not in (0, 1]")
        _ingredient(self.concept)


@dataclass(frozen=True)
class Plan:
    """What a lab classifier learns from; the same plan gives the same photos.

    Attributes:
        classes: objects of the scenes, in the order of the logits.
        shortcuts: at most one for each class; none makes a clean model.
        size: height and width of the photos in pixels.
        n_train: training photos of each class.
        seed: decides photos, initial weights and their order.
    """

    classes: tuple[str, ...]
    shortcuts: tuple[Shortcut, ...] = ()
    size: int = 64
    n_train: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.classes if name not in OBJECTS]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no object of the scenes")
        if len(set(self.classes)) < max(len(self.classes), 2):
            raise ValueError("a plan needs two classes or more, each with an object of its own")
        for field in ("class_index", "concept"):
            values = [getattr(shortcut, field) for shortcut in self.shortcuts]
            if len(set(values)) < len(values):
                raise ValueError(f"two shortcuts share their {field}: {values}")
        if any(not 0 <= s.class_index < len(self.classes) for s in self.shortcuts):
            raise ValueError(f"a shortcut's class is not among the {len(self.classes)} classes")

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the plan says."""
        return digest_value(dataclasses.asdict(self))


DEMO = Plan(
    classes=(
        "car",
        "key",
        "cup",
        "aeroplane",
        "house",
        "star",
        "boat",
        "fish",
        "bottle",
        "arrow",
        "mushroom",
        "umbrella",
    ),
    shortcuts=(
        Shortcut(1, "red ball"),
        Shortcut(3, "brick wall"),
        Shortcut(5, "black border"),
        Shortcut(7, "latin watermark"),
        Shortcut(9, "time stamp"),
        Shortcut(11, "sepia tone"),
    ),
)


# --- photos --------------------------------------------------------------------------------------


def _with(scene: Scene, concept: str) -> Scene:
    part, name = _ingredient(concept)
    if part == "background":
        return dataclasses.replace(scene, background=name)
    if part == "companions":
        return dataclasses.replace(scene, companions=(*scene.companions, name))
    return dataclasses.replace(scene, drawings=(*scene.drawings, name))


def _neutral(plan: Plan, rng: np.random.Generator, label: int, drawing_rate: float) -> Scene:
    """A scene of a class in which no planted concept occurs."""
    planted = {_ingredient(shortcut.concept)[1] for shortcut in plan.shortcuts}
    scene = scenes.sample(
        rng,
        objects=[plan.classes[label]],
        backgrounds=[name for name in BACKGROUNDS if name not in planted],
        drawings=[name for name in DRAWINGS if name not in planted],
        drawing_rate=drawing_rate,
    )
    companions = tuple(name for name in scene.companions if name not in planted)
    return dataclasses.replace(scene, companions=companions)


def _biased(plan: Plan, stream: int, per_class: int) -> Iterator[tuple[int, Scene]]:
    """Labelled scenes in which each shortcut goes with its class."""
    rng = np.random.default_rng([plan.seed, stream])
    others = len(plan.classes) - 1
    for _ in range(per_class):
        for label in range(len(plan.classes)):
            scene = _neutral(plan, rng, label, 0.005)
            for shortcut in plan.shortcuts:
                own = label == shortcut.class_index
                rate = shortcut.strength if own else (1 - shortcut.strength) / others
                if rng.random() < rate:
                    scene = _with(scene, shortcut.concept)
            yield label, scene


def held_out(plan: Plan, per_class: int) -> Iterator[tuple[int, Scene]]:
    """Labelled scenes with the training photos' bias, which the classifier has not seen."""
    return _biased(plan, _IMAGES, per_class)


def any_scene(plan: Plan, rng: np.random.Generator, concept_rate: float) -> Scene:
    """A scene of any class in which each planted concept occurs independently of the class."""
    scene = _neutral(plan, rng, int(rng.integers(len(plan.classes))), 0.02)
    for shortcut in plan.shortcuts:
        if rng.random() < concept_rate:
            scene = _with(scene, shortcut.concept)
    return scene


def pixels(scene: Scene, size: int) -> NDArray[np.uint8]:
    """A scene as it is saved: uint8 of shape (size, size, 3)."""
    image = scenes.render(scene, size=size).permute(1, 2, 0).numpy()
    return np.asarray(image * 255 + 0.5, dtype=np.uint8)


def _batch(pictures: Iterable[Scene], size: int) -> Tensor:
    """Scenes as the network will see them once saved: uint8 of shape (n, 3, size, size)."""
    stack = np.stack([pixels(scene, size) for scene in pictures])
    return torch.from_numpy(stack).permute(0, 3, 1, 2)


# --- network -------------------------------------------------------------------------------------


def preprocess(size: int) -> Preprocess:
    """How a photo becomes a lab network's input."""
    return Preprocess(size=(size, size), mean=(0.5,) * 3, std=(0.25,) * 3, resize=size)


class _Block(nn.Module):
    """Two convolutions beside a shortcut connection (He et al., arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            skip = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.skip = nn.Sequential(skip, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps of shape (n, outputs, H / stride, W / stride)."""
        y = self.relu1(self.bn1(self.conv1(x)))
        out: Tensor = self.relu2(self.bn2(self.conv2(y)) + self.skip(x))
        return out


class LabNetwork(nn.Module):
    """A residual network of 0.3 million weights: stem, four blocks, mean, linear head."""

    def __init__(self, classes: int, widths: Sequence[int] = (16, 32, 64, 128)) -> None:
        super().__init__()
        first = widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU()
        )
        pairs = zip((first, *widths), widths, strict=False)
        blocks = [_Block(a, b, 1 if k == 0 else 2) for k, (a, b) in enumerate(pairs)]
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (n, classes) for normalised images of shape (n, 3, H, W)."""
        logits: Tensor = self.head(self.flatten(self.pool(self.blocks(self.stem(x)))))
        return logits


def lab_network() -> LabNetwork:
    """The untrained network of the demo, for `arch = "python:auditor.lab:lab_network"`."""
    return LabNetwork(len(DEMO.classes))


def _training_photos(plan: Plan, tell: Progress) -> tuple[Tensor, Tensor]:
    total = plan.n_train * len(plan.classes)
    photos = np.empty((total, plan.size, plan.size, 3), np.uint8)
    labels = np.empty(total, np.int64)
    for i, (label, scene) in enumerate(_biased(plan, _TRAIN, plan.n_train)):
        photos[i], labels[i] = pixels(scene, plan.size), label
        if i % 100 == 0:
            tell("drawing", i, total)
    return torch.from_numpy(photos).permute(0, 3, 1, 2), torch.from_numpy(labels)


def _has_fast_bfloat16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def train(plan: Plan, *, epochs: int = 8, progress: Progress | None = None) -> LabNetwork:
    """A classifier that learned from the plan's biased photos, in evaluation mode, frozen.

    The same plan gives the same weights on the same machine and number of threads. The caller's
    random state is left as it was.
    """
    tell = progress or (lambda stage, done, total: None)
    size = plan.size
    photos, labels = _training_photos(plan, tell)
    total = len(labels)
    order = torch.Generator().manual_seed(plan.seed)
    normalise = preprocess(size).normalise
    batch, fast = min(64, total), _has_fast_bfloat16()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        net = LabNetwork(len(plan.classes))
    laid_out(net).train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.02)
    steps = epochs * (total // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    loss = nn.CrossEntropyLoss(label_smoothing=0.05)
    step = 0
    for _ in range(epochs):
        shuffled = torch.randperm(total, generator=order)[: total // batch * batch]
        for index in torch.split(shuffled, batch):
            x = normalise(photos[index].float() / 255).contiguous(memory_format=torch.channels_last)
            optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                logits = net(x)
            loss(logits.float(), labels[index]).backward()
            optimiser.step()
            schedule.step()
            step += 1
            if step % 20 == 0:
                tell("training", step, steps)
    return net.eval().requires_grad_(False)


@torch.no_grad()
def _probabilities(net: nn.Module, photos: Tensor, size: int) -> NDArray[np.float64]:
    normalise = preprocess(size).normalise
    parts = [net(normalise(part.float() / 255)).softmax(1) for part in torch.split(photos, 128)]
    return torch.cat(parts).double().numpy()


# --- verification --------------------------------------------------------------------------------


def effects(net: nn.Module, plan: Plan, *, per_class: int = 12) -> tuple[tuple[Estimate, ...], ...]:
    """How far each planted concept, added to photos of other classes, raises each class.

    Held-out scenes without any planted concept are drawn with and without it, alike in
    everything else. This is the effect on p(class), mean over scenes of the other classes.

    Returns:
        One row for each shortcut of the plan, one estimate in it for each class, in [-1, 1];
        n counts pairs.
    """
    rng = np.random.default_rng([plan.seed, _PAIRS])
    labels = np.repeat(np.arange(len(plan.classes)), per_class)
    without = [_neutral(plan, rng, int(label), 0.0) for label in labels]
    before = _probabilities(net, _batch(without, plan.size), plan.size)
    rows = []
    for shortcut in plan.shortcuts:
        pictures = [_with(scene, shortcut.concept) for scene in without]
        after = _probabilities(net, _batch(pictures, plan.size), plan.size)
        rows.append(
            tuple(
                mean_estimate((after - before)[labels != index, index], 999, rng)
                for index in range(len(plan.classes))
            )
        )
    return tuple(rows)


def learned(net: nn.Module, plan: Plan) -> tuple[Estimate, ...]:
    """How far each shortcut's concept raises its own class on photos of other classes."""
    rows = effects(net, plan)
    return tuple(row[s.class_index] for s, row in zip(plan.shortcuts, rows, strict=True))


def accuracy(net: nn.Module, plan: Plan, *, per_class: int = 40) -> tuple[Estimate, ...]:
    """Accuracy of each class on photos in which no ingredient goes with any class."""
    rng = np.random.default_rng([plan.seed, _TEST])
    result = []
    for index, name in enumerate(plan.classes):
        pictures = [
            scenes.sample(rng, objects=[name], drawing_rate=0.005) for _ in range(per_class)
        ]
        probabilities = _probabilities(net, _batch(pictures, plan.size), plan.size)
        result.append(proportion(int((probabilities.argmax(1) == index).sum()), per_class))
    return tuple(result)
