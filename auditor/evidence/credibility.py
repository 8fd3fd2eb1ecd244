"""How far prototypes can be believed, beyond the similarity of their activation paths.

Path similarity can be raised without an image that looks like anything (docs/method.md). Three
questions that matching statistics of one model does not answer:

- `transfer`: does a second model, which took no part, see the same class in the prototype?
- `told_apart`: can a classifier tell prototypes from photos by the audited model's activations?
- `randomised`: what path similarity have the same prototypes in a network that has learned nothing?
  What is left there is due to the architecture and to the pixels, and is no evidence.
"""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from auditor.core import seeds
from auditor.core.estimates import Estimate
from auditor.core.statistics import bootstrap_weights, interval, proportion
from auditor.errors import ModelError
from auditor.images.label_meaning import plain
from auditor.models.hardware import Parts
from auditor.models.loading import Classifier
from auditor.record.notes import Reason

__all__ = ["ToldApart", "Transfer", "match_classes", "randomised", "told_apart", "transfer"]

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]

PLACES = (1, 5)
BATCH = 32
FOLDS = 5
MOST_CLASSES = 1000  # on which prototypes are told from photos: of more, so many at random


@dataclass(frozen=True)
class Transfer:
    """Where a second model puts the classes of prototypes among its own.

    Attributes:
        places: int array of shape (n,): 1 = first; 0 where the class has no counterpart.
        shares: k -> share of prototypes whose class is among the first k, with Wilson interval.
            It takes prototypes as independent, so give one for each class.
        median: median place of those that have a counterpart.
        n_classes: classes of the second model: the place of chance is half of it.
        unmatched: indices of the first model's classes, among those of the prototypes, that have no
            counterpart.
    """

    places: Labels
    shares: Mapping[int, Estimate]
    median: float
    n_classes: int
    unmatched: tuple[int, ...]


@dataclass(frozen=True)
class ToldApart:
    """How well prototypes are told from photos, per layer.

    Attributes:
        auc: layer -> chance that a prototype scores above a photo, of classes that the classifier
            was not trained on: 0.5 where they cannot be told apart, 1 where they always can. The
            interval is a bootstrap over classes with the fitted classifiers as they are; `n` is the
            number of classes. Empty where there is a reason.
        reason: why it was not tested, or `None`.
    """

    auc: Mapping[str, Estimate]
    reason: Reason | None


def match_classes(first: Classifier, second: Classifier) -> dict[int, int]:
    """Index of a class in the first model -> index of the same class in the second.

    By id where both models have ids, else by name, compared as `auditor.images.label_meaning.plain`
    gives it. A name that stands for several classes of either model is matched with none: which is
    meant is not known.
    """
    if first.class_ids is not None and second.class_ids is not None:
        own, other = first.class_ids, second.class_ids
    else:
        own, other = (tuple(plain(name) for name in model.class_names) for model in (first, second))
    single = {name for name, count in Counter(own).items() if count == 1}
    single &= {name for name, count in Counter(other).items() if count == 1}
    index = {name: i for i, name in enumerate(other) if name in single}
    return {i: index[name] for i, name in enumerate(own) if name in single}


def transfer(
    first: Classifier,
    second: Classifier,
    images: Tensor,
    class_indices: Sequence[int],
    *,
    places: Sequence[int] = PLACES,
) -> Transfer:
    """Where a model that took no part puts the prototypes' classes among its own.

    Images are brought to the second model's input size by antialiased bilinear interpolation. Ties
    and logits that are not numbers count against the prototype.

    Args:
        first: the model that the prototypes were made for.
        second: the model that judges them.
        images: float tensor of shape (n, 3, H, W) in [0, 1].
        class_indices: n classes of the first model.
        places: of each of these, the share of prototypes whose class is at least so far in front.

    Raises:
        ModelError: the second model has none of the prototypes' classes.
    """
    if len(images) != len(class_indices):
        raise ValueError(f"{len(images)} images for {len(class_indices)} classes")
    counterpart = match_classes(first, second)
    wanted = tuple(dict.fromkeys(class_indices))
    unmatched = tuple(c for c in wanted if c not in counterpart)
    if len(unmatched) == len(wanted):
        names = ", ".join(first.class_names[c] for c in wanted[:3])
        raise ModelError(
            f"{second.name} has none of the {len(wanted)} classes of these prototypes ({names}"
            f"{', ...' if len(wanted) > 3 else ''}); give a second model with the same ids or "
            "names of classes."
        )
    device = next(iter(second.net.parameters())).device
    found = np.zeros(len(images), np.int64)
    rows = [i for i, c in enumerate(class_indices) if c in counterpart]
    with torch.inference_mode():

        def run(part: list[int]) -> None:
            batch = images[part].to(device)
            if tuple(batch.shape[2:]) != second.preprocess.size:
                size = second.preprocess.size
                batch = F.interpolate(batch, size, mode="bilinear", antialias=True)
            logits = second.logits(batch).float().cpu().numpy()
            own = logits[np.arange(len(part)), [counterpart[class_indices[i]] for i in part]]
            found[part] = (~(own[:, None] > logits)).sum(1)  # its own logit is the one

        list(Parts(BATCH)(run, rows))
    seen = found[rows]
    return Transfer(
        places=found,
        shares={k: proportion(int((seen <= k).sum()), len(seen)) for k in places},
        median=float(np.median(seen)),
        n_classes=len(second.class_names),
        unmatched=unmatched,
    )


def told_apart(
    prototypes: Mapping[str, Floats],
    prototype_classes: Labels,
    photos: Mapping[str, Floats],
    photo_classes: Labels,
    *,
    replicates: int,
    seed: int,
) -> ToldApart:
    """How well logistic regression tells prototypes from photos by pooled activations.

    Only classes with both count, at most `MOST_CLASSES` of them, so that what a class looks like
    does not give it away, and no class is in both the training and the test part of a fold.
    Channels are standardised on the training part; both kinds weigh the same; the penalty is as
    strong as the channels are many, so that layers of different width can be compared. Prototypes
    are compared with the photos of their own fold, as the scores of different fits have different
    origins.

    Args:
        prototypes: layer -> float array of shape (n_prototypes, channels).
        prototype_classes: int array of shape (n_prototypes,).
        photos: layer -> float array of shape (n_photos, channels).
        photo_classes: int array of shape (n_photos,).
        replicates: bootstrap replicates.
        seed: of the folds and the bootstrap.
    """
    classes = np.intersect1d(prototype_classes, photo_classes)
    if len(classes) < 2 * FOLDS:
        reason = Reason(code="few_classes", params={"classes": len(classes), "needed": 2 * FOLDS})
        return ToldApart({}, reason)
    rng = seeds.stream(seed, "told apart")
    if len(classes) > MOST_CLASSES:
        classes = np.sort(rng.permutation(classes)[:MOST_CLASSES])
    fold_of_class = rng.permutation(np.arange(len(classes)) % FOLDS)
    weights = np.concatenate(
        [np.ones((1, len(classes))), bootstrap_weights(len(classes), replicates, rng)]
    )
    made, taken = np.isin(prototype_classes, classes), np.isin(photo_classes, classes)
    labels = np.concatenate([prototype_classes[made], photo_classes[taken]])
    owner = np.searchsorted(classes, labels)
    kind = np.repeat([1, 0], [made.sum(), taken.sum()])
    fold = fold_of_class[owner]
    auc: dict[str, Estimate] = {}
    for name, values in photos.items():
        both = np.concatenate([prototypes[name][made], values[taken]]).astype(np.float64)
        wins = np.zeros((len(classes), len(classes)))
        pairs = np.zeros_like(wins)
        for k in range(FOLDS):
            test = fold == k
            scores = _scores(both[~test], kind[~test], both[test])
            won, compared = _comparisons(scores, kind[test], owner[test], len(classes))
            wins += won
            pairs += compared
        ahead, met = (((weights @ m) * weights).sum(1) for m in (wins, pairs))
        curve = np.divide(ahead, met, out=np.full_like(ahead, np.nan), where=met > 0)
        auc[name] = interval(float(curve[0]), curve[1:], len(classes))
    return ToldApart(auc, None)


def randomised(net: nn.Module, seed: int, *, images: Tensor | None = None) -> nn.Module:
    """The same architecture with weights that have learned nothing, in evaluation mode.

    Every module is initialised anew by its own `reset_parameters`; parameters that this does not
    reach (class tokens, positions, scales, modules of other libraries) keep their values in a
    random order, so that their distribution stays. Running statistics of batch normalisation are
    set to mean 0 and variance 1, and to those of `images` if there are any: without, signals of
    deep networks may fade.

    Args:
        net: the trained network, which stays as it is.
        seed: of the new weights; the global random state stays as it is.
        images: float tensor of shape (n, channels, H, W), normalised as the network expects.
    """
    made = copy.deepcopy(net)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for module in made.modules():
            own = dict(module.named_parameters(recurse=False))
            before = {name: value.detach().clone() for name, value in own.items()}
            reset = _reset(module)
            if reset is not None:
                reset()
            for name, value in own.items():
                if torch.equal(value, before[name]):
                    value.copy_(_shuffled(value))
            buffers = dict(module.named_buffers(recurse=False))
            if {"running_mean", "running_var"} <= buffers.keys():
                buffers["running_mean"].zero_()
                buffers["running_var"].fill_(1)
                for name in {"weight", "bias"} & buffers.keys():  # frozen batch normalisation
                    buffers[name].copy_(_shuffled(buffers[name]))
        made.eval().requires_grad_(False)
        if images is not None:
            _calibrate(made, images)
    return made


def _scores(train: Floats, kind: Labels, test: Floats) -> Floats:
    """Scores of the test rows: the higher, the more like the rows of kind 1."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = train.mean(0), train.std(0)
    scale[scale == 0] = 1.0
    fitted = LogisticRegression(C=1 / train.shape[1], class_weight="balanced", max_iter=1000)
    fitted.fit((train - mean) / scale, kind)
    return np.asarray(fitted.decision_function((test - mean) / scale))


def _comparisons(scores: Floats, kind: Labels, owner: Labels, n: int) -> tuple[Floats, Floats]:
    """How often prototypes of class a score above photos of class b, and how often they meet.

    Returns:
        Two float arrays of shape (n, n); a tie is half a win.
    """
    ahead = scores[kind == 1][:, None] - scores[kind == 0][None]
    won = (np.sign(ahead) + 1) / 2
    left = np.eye(n)[owner[kind == 1]]
    right = np.eye(n)[owner[kind == 0]]
    return left.T @ won @ right, np.outer(left.sum(0), right.sum(0))


def _reset(module: nn.Module) -> Callable[[], object] | None:
    """The module's own initialisation, if it has one that needs nothing."""
    reset = getattr(module, "reset_parameters", None)
    if not callable(reset):
        return None
    needed = [
        p
        for p in inspect.signature(reset).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    return None if needed else reset


def _shuffled(values: Tensor) -> Tensor:
    order = torch.randperm(values.numel()).to(values.device)
    return values.flatten()[order].reshape(values.shape)


def _calibrate(net: nn.Module, images: Tensor) -> None:
    """Set the running statistics of batch normalisation to those of the images."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = None  # the plain mean over passes, here one
    net(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
