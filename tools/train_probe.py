"""Train the heads of the embedded probe, and write them with their card.

    python tools/train_probe.py DATA [--out auditor/data/probe] [--cache FILE]

DATA holds `imagenet-ccby/<wnid>/*.jpg` (CC-BY photos of ImageNet classes), `coco-mini` (`images/`,
`captions.csv` with the licence of each image) and `imagenet_class_index.json`. Only photos under
CC-BY or CC-BY-SA are learned from; the other COCO photos are held out and measure the probe.

Locked-image tuning (Zhai et al., arXiv 2111.07991) with three losses on frozen features:

- each view of a photo against the captions and tags of all, in both directions, where views that
  share a text are all right;
- the same for what was drawn on it (`auditor.drawing.drawings`), so that overlays have names;
- the softmax of the image tower's own ImageNet classifier over its 1,000 class names, which the
  similarities to the texts of these names are to reproduce: knowledge of 1.2 million photos.

Lab scenes with other objects and seeds than the embedded example's are among the views.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, normalize
from torchvision.transforms import functional as tv

from auditor.concepts import banks
from auditor.concepts.embedded_probe import (
    DIMENSIONS,
    FEATURES,
    FINAL,
    FOLDER,
    IMAGE_TOWER,
    TEXT_TOWER,
    Card,
    Quality,
    assemble,
    read_classifier,
)  # fmt: skip
from auditor.concepts.lexicon import keys
from auditor.core.storage import digest_bytes, digest_file, write_atomically
from auditor.drawing import drawings, scenes
from auditor.images import decoding
from auditor.lab import training
from auditor.models.hardware import keep_freed_memory

FREE = {"Attribution License", "Attribution-ShareAlike License"}
BICUBIC = tv.InterpolationMode.BICUBIC
SIDE = 224
VIEWS = 8  # of each photo: as it is, squeezed, and six cropped or drawn on
SCENES = 1500
FOLDS = 5
EPOCHS = 25
BATCH = 1024
RATE, TEXT_RATE = 1e-3, 3e-4
DROPOUT = 0.6
CLASSES_WEIGHT = 0.5  # of the loss on the tower's own classes
NEAR = 0.75  # cosine of two sentence embeddings from which neither is a wrong answer for the other
MOST_SCALE = 4.0  # logarithm
LEAST = 5  # photos that show a concept, for its quality to be known


Texts = tuple[str, ...]


@dataclass(frozen=True)
class Photo:
    """A photo, and what is said of it: whole sentences and single things."""

    path: Path
    captions: tuple[str, ...]
    tags: tuple[str, ...]
    free: bool = True


@dataclass
class Views:
    """Features (n_views, FEATURES) of photos and scenes as they are, cropped and drawn on.

    `owner` is the place of a view's photo, scenes come after the photos; `said` is what is true of
    a scene.
    """

    features: Tensor = field(default_factory=lambda: torch.zeros(0, FEATURES))
    owner: list[int] = field(default_factory=list)
    plain: list[bool] = field(default_factory=list)
    drawn: list[tuple[str, ...]] = field(default_factory=list)
    said: list[tuple[str, ...]] = field(default_factory=list)


def read_photos(data: Path) -> list[Photo]:
    """The photos under free licences, then the others of COCO."""
    index = json.loads((data / "imagenet_class_index.json").read_text())
    names = {row["wnid"]: row["name"] for row in index}
    found = []
    with (FOLDER / "captions.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            path = data / "imagenet-ccby" / row["path"]
            tags = (names[path.parent.name], *filter(None, row["tags"].split(";")))
            found.append(Photo(path, (row["caption"],), tags))
    said: dict[str, list[dict[str, str]]] = defaultdict(list)
    with (data / "coco-mini/captions.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            said[row["image"]].append(row)
    for name, rows in said.items():
        found.append(
            Photo(
                data / "coco-mini/images" / name,
                tuple(row["caption"] for row in rows),
                tuple(filter(None, rows[0]["objects"].split(";"))),
                free=rows[0]["image_licence"] in FREE,
            )
        )
    return sorted(found, key=lambda photo: not photo.free)


# --- views and their features --------------------------------------------------------------------


class Tower:
    """The probe's frozen halves: features of images and embeddings of texts."""

    def __init__(self) -> None:
        heads = {
            "logit_scale": torch.tensor(1.0),
            "text.proj.weight": torch.eye(DIMENSIONS),
            "visual.head.proj.bias": torch.zeros(DIMENSIONS),
            "visual.head.proj.weight": torch.zeros(DIMENSIONS, FEATURES),
        }
        net, self.tokenize, self.preprocess = assemble(heads)
        self.net = net.eval()

    @torch.no_grad()
    def images(self, batch: Sequence[Tensor]) -> Tensor:
        """Features (n, FEATURES) of images (3, 224, 224) in [0, 1]."""
        shape = (1, 3, 1, 1)
        mean, std = (
            torch.tensor(v).view(shape) for v in (self.preprocess.mean, self.preprocess.std)
        )
        stacked = ((torch.stack(list(batch)) - mean) / std).to(memory_format=torch.channels_last)
        return self.net.visual.trunk(stacked)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Sentence embeddings (n, DIMENSIONS), unit rows; the text head is the identity here."""
        rows = [
            self.net.encode_text(self.tokenize(texts[i : i + 64])) for i in range(0, len(texts), 64)
        ]
        return normalize(torch.cat(rows).float(), dim=-1)


def views(photo: Photo, rng: np.random.Generator) -> Iterator[tuple[Tensor, tuple[str, ...], bool]]:
    """Images of a photo, with the names of what was drawn on them; the photo as it is first."""
    image = decoding.decode(photo.path.read_bytes())
    whole = tv.to_tensor(
        tv.center_crop(tv.resize(image, SIDE, interpolation=BICUBIC, antialias=True), SIDE)
    )
    yield whole, (), True
    squeezed = tv.to_tensor(tv.resize(image, [SIDE, SIDE], antialias=True, interpolation=BICUBIC))
    yield squeezed.flip(2), (), False
    names = list(drawings.DRAWINGS)
    for number in range(VIEWS - 2):
        view = _crop(image, rng) if number % 2 else whole
        chosen: tuple[str, ...] = ()
        if number:
            chosen = tuple(rng.choice(names, 1 + (rng.random() < 0.2), replace=False).tolist())
        for name in chosen:
            view = drawings.draw(name, view, seed=int(rng.integers(2**31)))
        yield view, chosen, False


def _crop(image: Image.Image, rng: np.random.Generator) -> Tensor:
    width, height = image.size
    side = int(min(width, height) * rng.uniform(0.65, 1))
    left, top = (int(rng.integers(0, edge - side + 1)) for edge in (width, height))
    view = tv.resized_crop(
        image, top, left, side, side, [SIDE, SIDE], antialias=True, interpolation=BICUBIC
    )
    return tv.to_tensor(tv.hflip(view) if rng.random() < 0.5 else view)


def observe(found: Sequence[Photo], tower: Tower) -> Views:
    """Features of all views of all photos, then of the lab's scenes."""
    seen = Views()
    waiting: list[Tensor] = []
    features: list[Tensor] = []

    def flush() -> None:
        features.append(tower.images(waiting))
        waiting.clear()

    def add(image: Tensor, owner: int, plain: bool, drawn: Texts = (), said: Texts = ()) -> None:
        waiting.append(image)
        seen.owner.append(owner)
        seen.plain.append(plain)
        seen.drawn.append(drawn)
        seen.said.append(said)
        if len(waiting) == 64:
            flush()

    for owner, photo in enumerate(found):
        rng = np.random.default_rng([owner, 0x9807])
        for image, drawn, plain in views(photo, rng):
            add(image, owner, plain, drawn)
        if owner % 100 == 0:
            print(f"photo {owner} of {len(found)}", file=sys.stderr)
    rng = np.random.default_rng(0x5CE)
    others = [name for name in scenes.OBJECTS if name not in training.DEMO.classes]
    for number in range(SCENES):
        scene = scenes.sample(rng, objects=others, drawing_rate=0.02)
        image = scenes.render(scene, size=training.DEMO.size)
        image = tv.resize(image, [SIDE, SIDE], antialias=True, interpolation=BICUBIC).clamp(0, 1)
        said = scenes.describe(scene)[: 2 + len(scene.companions)]
        add(image, len(found) + number, True, scene.drawings, said)
    if waiting:
        flush()
    seen.features = torch.cat(features)
    return seen


# --- training ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lesson:
    """What training reads, in numbers.

    Attributes:
        features: (n_views, FEATURES).
        texts: (n_texts, DIMENSIONS), unit rows.
        true: bool (n_views, n_texts); `near`: the same for texts that mean nearly what is true.
        posterior: (n_views, 1000), of the tower's own classifier.
        classes: (1000, DIMENSIONS), unit rows of its class names.
    """

    features: Tensor
    texts: Tensor
    true: Tensor
    near: Tensor
    posterior: Tensor
    classes: Tensor


def prepare(found: Sequence[Photo], seen: Views, tower: Tower, class_names: list[str]) -> Lesson:
    """Embed everything that is said of any view, and note what is true of which."""
    drawn = {c.drawing: (c.name, *c.prompts) for c in banks.load(None).concepts if c.drawing}
    said = []
    for own, photo, overlays in zip(seen.said, seen.owner, seen.drawn, strict=True):
        known = found[photo].captions + found[photo].tags if photo < len(found) else own
        said.append(known + tuple(text for name in overlays for text in drawn[name]))
    places = {text: i for i, text in enumerate(dict.fromkeys(t for row in said for t in row))}
    true = torch.zeros(len(said), len(places), dtype=torch.bool)
    for i, row in enumerate(said):
        true[i, [places[text] for text in row]] = True
    texts = tower.texts(list(places))
    near = true.float() @ (texts @ texts.T > NEAR).float() > 0
    weight, bias = read_classifier()
    posterior = (seen.features[:, :FINAL] @ weight.T + bias).softmax(1)
    return Lesson(seen.features, texts, true, near, posterior, tower.texts(class_names))


class Heads(nn.Module):
    """Linear maps of standardised features and of sentence embeddings into the common space."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.mean, self.std = features.mean(0), features.std(0) + 1e-3
        self.image = nn.Linear(FEATURES, DIMENSIONS)
        nn.init.normal_(self.image.weight, std=0.5 / FEATURES**0.5)
        self.text = nn.Linear(DIMENSIONS, DIMENSIONS, bias=False)
        nn.init.eye_(self.text.weight)
        self.scale = nn.Parameter(torch.tensor(20.0).log())
        self.class_scale = nn.Parameter(torch.tensor(30.0).log())

    def rows(self, features: Tensor) -> Tensor:
        """Unit rows of features."""
        standard = (features - self.mean) / self.std
        return normalize(self.image(dropout(standard, DROPOUT, self.training)), dim=-1)

    def words(self, texts: Tensor) -> Tensor:
        """Unit rows of sentence embeddings."""
        return normalize(self.text(texts), dim=-1)

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """The tensors that the embedded probe is assembled from, the standardisation in them."""
        weight = self.image.weight / self.std
        return {
            "logit_scale": self.scale.clone(),
            "text.proj.weight": self.text.weight.clone(),
            "visual.head.proj.bias": self.image.bias - weight @ self.mean,
            "visual.head.proj.weight": weight,
        }


def train(lesson: Lesson, chosen: Tensor) -> Heads:
    """Heads from the chosen views, by their places."""
    torch.manual_seed(0)
    features, true, near = lesson.features[chosen], lesson.true[chosen], lesson.near[chosen]
    posterior = lesson.posterior[chosen]
    heads = Heads(features).train()
    free = [heads.image.bias, heads.scale, heads.class_scale]
    optimiser = torch.optim.AdamW(
        [
            {"params": [heads.image.weight], "weight_decay": 0.1},
            {"params": [heads.text.weight], "weight_decay": 0.0},
            {"params": free, "weight_decay": 0.0},
        ],
        lr=RATE,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        [RATE, TEXT_RATE, RATE],
        total_steps=EPOCHS * (len(chosen) // BATCH),
        pct_start=0.1,
    )
    for _ in range(EPOCHS):
        order = torch.randperm(len(chosen))
        for batch in order[: len(order) // BATCH * BATCH].split(BATCH):
            rows, right = heads.rows(features[batch]), true[batch]
            logits = heads.scale.exp() * rows @ heads.words(lesson.texts).T
            logits = logits.masked_fill(near[batch] & ~right, -1e4)
            used = right.any(0)
            classes = heads.class_scale.exp() * rows @ heads.words(lesson.classes).T
            loss = (
                _several(logits, right)
                + _several(logits.T[used], right.T[used])
                + CLASSES_WEIGHT * cross_entropy(classes, posterior[batch])
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                heads.scale.clamp_(max=MOST_SCALE)
    return heads.eval()


def _several(logits: Tensor, right: Tensor) -> Tensor:
    """Cross-entropy in which every right answer is equally likely."""
    target = right.float()
    return cross_entropy(logits, target / target.sum(1, keepdim=True).clamp_min(1))


# --- quality -------------------------------------------------------------------------------------


@torch.no_grad()
def retrieval(
    heads: Heads, lesson: Lesson, places: Sequence[int], captions: Tensor
) -> dict[str, float]:
    """How often a photo's own caption is the first, or among the first 5, of the captions."""
    scores = heads.rows(lesson.features[list(places)]) @ heads.words(captions).T
    better = (scores > scores.diag()[:, None]).sum(1)
    return {
        "coco_image_to_text_recall_at_1": round(float((better < 1).float().mean()), 4),
        "coco_image_to_text_recall_at_5": round(float((better < 5).float().mean()), 4),
    }


@torch.no_grad()
def measure(
    found: Sequence[Photo], seen: Views, lesson: Lesson, tower: Tower, bank: banks.ConceptBank
) -> dict[str, Quality]:
    """AUC of every concept that held-out photos are known to show, by cross-validation over photos.

    A named concept is shown by a photo whose tags include its name, or one of the alternatives in
    it; a drawn one where it was drawn. Folds are averaged by how many photos show the concept.
    """
    prompts = [prompt for concept in bank.concepts for prompt in concept.prompts]
    rows = tower.texts(prompts)
    owner, plain = torch.tensor(seen.owner), torch.tensor(seen.plain)
    fold = owner % FOLDS
    photo = owner < len(found)
    free = torch.tensor([p.free for p in found] + [True] * SCENES)[owner]
    tags = [keys(p.tags) for p in found]
    sums: dict[str, list[tuple[float, int, int]]] = defaultdict(list)
    for held in range(FOLDS):
        with torch.enable_grad():
            heads = train(lesson, torch.nonzero(free & (~photo | (fold != held)))[:, 0])
        test = torch.nonzero(photo & (fold == held))[:, 0]
        scores = heads.rows(lesson.features[test])
        start = 0
        for concept in bank.concepts:
            own = rows[start : start + len(concept.prompts)]
            start += len(concept.prompts)
            if concept.drawing is not None:
                used = ~plain[test]
                shown = [concept.drawing in seen.drawn[i] for i in test[used].tolist()]
            else:
                used = plain[test]
                wanted = keys((concept.name, *concept.name.split(" or ")))
                shown = [bool(wanted & tags[seen.owner[i]]) for i in test[used].tolist()]
            if 0 < sum(shown) < len(shown):
                fit = scores[used] @ heads.words(own).mean(0)
                auc = float(roc_auc_score(shown, fit.numpy()))
                sums[concept.name].append((auc, sum(shown), len(shown) - sum(shown)))
    quality = {}
    for name, folds in sums.items():
        n_with, n_without = (sum(row[k] for row in folds) for k in (1, 2))
        if n_with >= LEAST:
            auc = sum(value * n for value, n, _ in folds) / n_with
            quality[name] = Quality(auc=round(auc, 3), n_with=n_with, n_without=n_without)
    return quality


def main() -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--cache", type=Path, help="keep the views' features here")
    given = parser.parse_args()
    keep_freed_memory()
    found = read_photos(given.data)
    index = json.loads((given.data / "imagenet_class_index.json").read_text())
    tower, bank = Tower(), banks.load(None)
    seen = _cached(given.cache, lambda: observe(found, tower))
    lesson = prepare(found, seen, tower, [row["name"] for row in index])
    owner, plain = np.array(seen.owner), np.array(seen.plain)
    free = np.array([photo.free for photo in found] + [True] * SCENES)
    heads = train(lesson, torch.from_numpy(np.flatnonzero(free[owner])))
    held = [i for i, photo in enumerate(found) if not photo.free]
    figures = retrieval(
        heads,
        lesson,
        [int(np.flatnonzero((owner == i) & plain)[0]) for i in held],
        tower.texts([found[i].captions[0] for i in held]),
    )
    quality = measure(found, seen, lesson, tower, bank)
    for kind, names in (
        ("named", [c.name for c in bank.concepts if c.drawing is None]),
        ("drawn", [c.name for c in bank.concepts if c.drawing is not None]),
    ):
        known = [quality[name].auc for name in names if name in quality]
        figures[f"{kind}_concepts_measured"] = float(len(known))
        figures[f"{kind}_concepts_mean_auc"] = round(float(np.mean(known)), 4)
    data = safetensors.torch.save({k: v.contiguous() for k, v in heads.folded().items()})
    card = Card(
        heads_sha256=digest_bytes(data),
        captions_sha256=digest_file(FOLDER / "captions.csv"),
        image_tower=IMAGE_TOWER.sha256,
        text_tower=TEXT_TOWER.sha256,
        command="python tools/train_probe.py DATA",
        data=(
            f"{sum(p.free for p in found) - len(_coco(found, free=True))} photos of ImageNet "
            "classes under CC-BY 2.0 (NIPS 2017 development set)",
            f"{len(_coco(found, free=True))} COCO photos under CC-BY or CC-BY-SA 2.0",
            f"{SCENES} drawn scenes with objects and seeds that the embedded example does not use",
        ),
        captions="COCO's own; for the others a sentence and tags written by a machine that was "
        "shown the photo (captions.csv), and the class name; the names and prompts of what was "
        "drawn on a view; the softmax of the image tower's own classifier over its class names",
        photos=sum(p.free for p in found),
        protocol=f"heads from all free photos; recall on {len(held)} COCO photos under other "
        f"licences, which took no part; AUC of concepts by {FOLDS}-fold cross-validation over "
        "photos, tags as the truth (a photo without the tag may still show the concept)",
        held_out=figures,
        quality=quality,
        packages={
            name: importlib.metadata.version(name) for name in ("torch", "open_clip_torch", "timm")
        },
    )
    given.out.mkdir(parents=True, exist_ok=True)
    write_atomically(given.out / "heads.safetensors", data)
    write_atomically(given.out / "card.json", (card.model_dump_json(indent=1) + "\n").encode())
    print(json.dumps(figures, indent=1))


def _coco(found: Sequence[Photo], *, free: bool) -> list[Photo]:
    return [p for p in found if p.free == free and "coco-mini" in p.path.parts]


def _cached(path: Path | None, make: Callable[[], Views]) -> Views:
    """Views from a file of an earlier run; the file is the user's own."""
    if path is None:
        return make()
    if not path.exists():
        made = make()
        torch.save(vars(made), path)
        return made
    return Views(**torch.load(path, weights_only=True))


if __name__ == "__main__":
    main()
