"""Judging prototypes of many classes: by the model, by photos, by other models, by naming."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.concepts import banks
from auditor.concepts.presence import own_photos
from auditor.concepts.probes import ProbeModel
from auditor.config import StatisticsConfig
from auditor.core.estimates import Estimate
from auditor.core.statistics import proportion
from auditor.evidence import credibility
from auditor.evidence.learning import Drawings, Evidence, SeenPool, learn
from auditor.images import image_set
from auditor.models.activations import Activations, collect, head_weights
from auditor.models.layers import Layers
from auditor.models.loading import Classifier, weights_digest
from benchmarks.observing import Observer
from benchmarks.published import Published, first_five, place
from benchmarks.similarity import Similarity, ceiling_and_floor, similarity

__all__ = ["Bridge", "Judge", "Photos"]

BATCH = 32
REPLICATES = 999
Json = dict[str, object]


@dataclass(frozen=True)
class Photos:
    """Photos in a model's path: pixels are not kept.

    Attributes:
        path: layer -> float array of shape (n, channels).
        classes: int array of shape (n,).
    """

    path: Mapping[str, NDArray[np.float32]]
    classes: NDArray[np.int64]


class Judge:
    """One model with its photos, the same network without learning, and the other models.

    Args:
        classifier, layers: the model.
        observer: runs and keeps activations.
        table: manifest of the measured photos, of classes with several.
        generic: pixels of a few generic photos, for the statistics of the random network.
        others: by name, models that took no part.
    """

    def __init__(
        self,
        classifier: Classifier,
        layers: Layers,
        observer: Observer,
        table: str,
        generic: Tensor,
        others: Mapping[str, Classifier],
    ) -> None:
        self.classifier, self.layers, self.others = classifier, layers, others
        self.images = image_set.load(
            table,
            class_names=classifier.class_names,
            class_ids=classifier.class_ids,
            labelled=True,
        )
        labels = np.array(self.images.labels)
        seen = observer.photos(self.images, np.ones(len(labels), bool))
        self.seen = seen
        self.photos = Photos(seen.path, labels)
        blank = credibility.randomised(
            classifier.net, 0, images=classifier.preprocess.normalise(generic)
        )
        self.blank = dataclasses.replace(
            classifier,
            net=blank,
            digest=weights_digest(blank.state_dict()),
            name="random weights",
        )
        of_blank = dataclasses.replace(observer, classifier=self.blank)
        self.blank_photos = Photos(
            of_blank.photos(self.images, np.ones(len(labels), bool)).path, labels
        )

    def judged(
        self,
        images: NDArray[np.uint8],
        classes: Sequence[int],
        *,
        used: frozenset[str],
        left_out: frozenset[str],
    ) -> tuple[Json, Activations]:
        """Everything about images of these classes but their names and seconds.

        Args:
            images: uint8 array of shape (n, H, W, 3).
            classes: n class indices, each once.
            used: layers whose statistics the optimisation used.
            left_out: layers that the second mean leaves out; the same for methods that are to be
                compared, whether they used any or not.
        """
        pixels = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() / 255
        made = collect(self.classifier, self.layers, torch.split(pixels, BATCH))
        measured = [i for i, c in enumerate(classes) if (self.photos.classes == c).any()]
        owners = np.array([classes[i] for i in measured], np.int64)
        path = {name: values[measured] for name, values in made.path.items()}
        alike = similarity(path, owners, self.photos.path, self.photos.classes)
        blank = collect(self.blank, self.layers, torch.split(pixels[measured], BATCH))
        controlled = similarity(
            blank.path, owners, self.blank_photos.path, self.blank_photos.classes
        )
        apart = credibility.told_apart(
            path, owners, self.photos.path, self.photos.classes, replicates=REPLICATES, seed=0
        )
        probability = _softmax(made.logits)[np.arange(len(classes)), list(classes)]
        found: Json = {
            "n": len(classes),
            "measured": len(measured),
            "probability": {
                "median": float(np.median(probability)), "mean": float(probability.mean()),
                "first": _proportion(made.logits.argmax(1) == np.array(classes)),
            },
            "similarity": summary(alike, used, left_out),
            "random_weights": summary(controlled, used, left_out),
            "told_apart": {
                "reason": apart.reason,
                "mean": float(np.mean([e.value for e in apart.auc.values()]))
                if apart.auc else None,
                "layers": {name: _plain(e) for name, e in apart.auc.items()},
            },
            "transfer": {
                name: self._transferred(other, pixels[measured], owners.tolist())
                for name, other in self.others.items()
            },
        }  # fmt: skip
        return found, made

    def references(self, left_out: frozenset[str]) -> dict[str, Json]:
        """What photos get in the prototypes' place: of the class, and of another class."""
        found: dict[str, Json] = {}
        pairs = zip(
            ceiling_and_floor(self.photos.path, self.photos.classes),
            ceiling_and_floor(self.blank_photos.path, self.blank_photos.classes),
            strict=True,
        )
        for name, (alike, controlled) in zip(("same class", "other class"), pairs, strict=True):
            found[name] = {
                "similarity": summary(alike, frozenset(), left_out),
                "random_weights": summary(controlled, frozenset(), left_out),
            }
        labels = self.photos.classes
        probability = _softmax(self.seen.logits)[np.arange(len(labels)), labels]
        pixels = torch.cat(list(self.images.batches(self.classifier.preprocess.fit, size=BATCH)))
        found["same class"] |= {
            "n": len(labels),
            "probability": {
                "median": float(np.median(probability)), "mean": float(probability.mean()),
                "first": _proportion(self.seen.logits.argmax(1) == labels),
            },
            "transfer": {
                name: self._transferred(other, pixels, labels.tolist())
                for name, other in self.others.items()
            },
        }  # fmt: skip
        return found

    def _transferred(self, other: Classifier, pixels: Tensor, classes: Sequence[int]) -> Json:
        if not len(classes):
            return {"reason": "no image"}
        moved = credibility.transfer(self.classifier, other, pixels, classes)
        return {
            "median": moved.median,
            "shares": {str(k): _plain(share) for k, share in moved.shares.items()},
            "unmatched": len(moved.unmatched),
        }


class Bridge:
    """Published features of a model's classes, named from the activations of prototypes.

    Args:
        classifier, layers, observer: the model.
        probe: reads the features' names.
        pool: manifest of the photos that directions are learned from.
        published: the features; all of its classes must have prototypes to be named.
        work: folder for the vocabulary.
    """

    def __init__(
        self,
        classifier: Classifier,
        layers: Layers,
        observer: Observer,
        probe: ProbeModel,
        pool: str,
        published: Published,
        work: Path,
    ) -> None:
        self.published, self.probe = published, probe
        work.mkdir(parents=True, exist_ok=True)
        names = work / "names.txt"
        names.write_text("\n".join(published.vocabulary) + "\n")
        photos = image_set.load(pool, class_names=(), class_ids=None, labelled=False)
        pooled = observer.photos(photos, np.zeros(len(photos), bool))
        classes = published.indices
        rows = observer.rows(photos)
        own = own_photos(probe, rows, None, classes, classifier.class_names)
        seen = SeenPool(pooled.features, pooled.logits, rows, own, None)
        nothing_drawn = Drawings({}, np.zeros(0, np.int64), {})
        self.vocabulary = learn(
            banks.load(str(names)), probe, Evidence(seen, nothing_drawn, {}), classes,
            StatisticsConfig(), seed=0,
        )  # fmt: skip
        grey = torch.full((2, 3, *classifier.preprocess.size), 0.5)
        weights = head_weights(classifier, layers, grey)
        self.weights = (weights - weights.mean(0))[list(classes)]

    def hits(self, features: NDArray[np.float32], images: NDArray[np.uint8]) -> Json:
        """Share of published features among the first five, and their median place.

        Args:
            features: float array of shape (C, d), of each published class's prototype, in order.
            images: uint8 array of shape (C, H, W, 3).
        """
        pixels = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() / 255
        rows = self.probe.encode_images(pixels).cpu().numpy()
        named = self.vocabulary.name(features, self.weights, rows, None)
        own = [concept.name.casefold() for concept in self.vocabulary.concepts]
        found: Json = {"n": len(features)}
        for channel, scores in (("bridge", named.channels["bridge"]), ("score", named.score)):
            places = [
                place(
                    {
                        name: float(value) if np.isfinite(value) else None
                        for name, value in zip(own, row, strict=True)
                    },
                    feature.casefold(),
                )
                for row, feature in zip(scores, self.published.features, strict=True)
            ]
            found[channel] = {
                "first_5": _proportion(np.array(places) <= 5),
                "share": first_five(places),
                "median": float(np.median(places)),
            }
        return found


def summary(alike: Similarity, used: frozenset[str], left_out: frozenset[str]) -> Json:
    """Per layer and on the mean over all layers, and over those that are not left out."""
    kinds = ("normalised", "specific")
    means = {
        kind: {
            "mean": _plain(alike.mean(kind)),
            "held_out": _plain(alike.mean(kind, lambda name: name not in left_out)),
            "worst": _number(float(np.nanmin(alike.by_layer(kind), initial=np.inf))),
            "pooled": _number(alike.pooled(kind)),
        }
        for kind in kinds
        if len(alike.classes)
    }
    columns = {kind: alike.by_layer(kind) for kind in kinds}
    separation = alike.separation.mean(0)
    return {
        **means,
        "layers": [
            {
                "name": name,
                "used": name in used,
                "left_out": name in left_out,
                **{kind: _number(columns[kind][i]) for kind in kinds},
                "separation": _number(separation[i]),
            }
            for i, name in enumerate(alike.layers)
        ],
    }


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    rows = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return np.asarray(rows / rows.sum(1, keepdims=True))


def _proportion(hits: NDArray[np.bool_]) -> Json | None:
    return _plain(proportion(int(hits.sum()), len(hits)))


def _plain(estimate: Estimate | None) -> Json | None:
    return None if estimate is None else estimate.model_dump()


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
