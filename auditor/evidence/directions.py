"""The bank as one audit sees it: each concept's direction, where it came from, and whether it can
be tested at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from auditor.concepts import banks, presence
from auditor.concepts.banks import Concept, ConceptBank
from auditor.concepts.probes import ProbeModel
from auditor.config import AuditConfig
from auditor.core.statistics import bootstrap_weights
from auditor.evidence import scoring
from auditor.evidence.insertion import Insertions
from auditor.evidence.scoring import Directions, Naming
from auditor.images import image_set
from auditor.images.image_set import ImageSet
from auditor.models.activations import Activations
from auditor.pipeline.observations import Observer

__all__ = ["Vocabulary", "own_photos", "prompt_rows"]

Floats = NDArray[np.floating]
Source = Literal["named", "drawn", "shown"]

LEAST_DRAWN = 30  # with fewer drawn concepts their mixtures are little but themselves again
MOST_LIKELY = 10  # classes that a photo without a label may show
MARGIN = 0.25  # of what a drawing changes: the class's own object may do as much


@dataclass(frozen=True)
class _Pool:
    """The photos that directions come from.

    Attributes:
        features: float array of shape (n, d), standardised.
        logits: float array of shape (n, C), centred over the model's classes.
        rows: float array of shape (n, e), the probe's unit rows.
        shown: bool array of shape (n, m), the concepts that each photo shows.
        own: bool array of shape (n, C), photos that may show each audited class itself.
        labelled: whether that is known from labels.
    """

    features: Floats
    logits: Floats
    rows: Floats
    shown: NDArray[np.bool_]
    own: NDArray[np.bool_]
    labelled: bool

    def kept(self, row: int | None) -> NDArray[np.bool_]:
        """The photos that speak for a class's row, of shape (n,); without a row, all."""
        return np.ones(len(self.rows), bool) if row is None else scoring.kept(self.own[:, row])

    def directions(
        self, row: int | None, texts: Floats, counts: NDArray[np.int64], textual: Floats
    ) -> Directions:
        """Named directions, from the photos that speak for a class."""
        return scoring.named(
            self.features, self.logits, self.rows, texts, counts, textual, self.kept(row)
        )


@dataclass(frozen=True)
class _Pairs:
    """A drawn concept: the change of k photos by it.

    Attributes:
        members: float array of shape (k, d), of standardised features.
        shift: float array of shape (C,), of the classes' log-odds.
    """

    members: Floats
    shift: Floats

    def relative(self, pool: _Pool, row: int | None, least: int) -> tuple[Floats, Floats]:
        """Members and shift, which are the same for all classes."""
        return self.members, self.shift


@dataclass(frozen=True)
class _Examples:
    """A concept that k photos of the user's show.

    Attributes:
        features, logits, own: of these photos, as in `_Pool`.
    """

    features: Floats
    logits: Floats
    own: NDArray[np.bool_]

    def relative(self, pool: _Pool, row: int | None, least: int) -> tuple[Floats, Floats]:
        """Members and shift against the pool, both without photos that may show the class."""
        kept = pool.kept(row)
        stay = np.ones(len(self.own), bool) if row is None else ~self.own[:, row]
        stay = stay if stay.sum() >= least else np.ones_like(stay)
        return (
            self.features[stay] - pool.features[kept].mean(0),
            self.logits[stay].mean(0) - pool.logits[kept].mean(0),
        )


@dataclass(frozen=True)
class Vocabulary:
    """Directions of the bank's m concepts in the audited model, with their null.

    Attributes:
        concepts: the bank, in order.
        sources: where each direction comes from.
        texts: float array of shape (m, e), the probe's unit rows of the prompts.
        looks: float array of shape (m, e), rows by which photos that show a concept are told: its
            text; for a drawn one the discriminant of what the drawing changes.
        margin: float array of shape (m,), by how much a photo must exceed another, in units of its
            look, to show more of a concept. In a labelled pool the discriminant of a drawing goes
            by how photos vary within classes, and what tells one class's object from others may
            lie along it: there it is a quarter of what the drawing changes, else 0.
        n_photos: int array of shape (m,), photos behind each direction.
        reasons: why a concept was not tested, or `None`.
        quarantined: example photos that could not be used, with the reason.
        mean, scale: float arrays of shape (d,), by which features are standardised.
    """

    concepts: tuple[Concept, ...]
    sources: tuple[Source, ...]
    texts: Floats
    looks: Floats
    margin: Floats
    n_photos: NDArray[np.int64]
    reasons: tuple[str | None, ...]
    quarantined: dict[str, str]
    mean: Floats
    scale: Floats
    q_level: float
    _pool: _Pool
    _least: int  # photos that must show a concept
    _counts: NDArray[np.int64]
    _textual: Floats
    _given: Mapping[int, _Pairs | _Examples]
    _null: tuple[Floats, NDArray[np.int64], Floats]  # texts, counts and their map, at random
    _null_drawn: Floats | None  # looks at random for drawn concepts, if there are enough of those
    _at_large: Floats  # texts of the bank, then of concepts beside it

    @property
    def tested(self) -> NDArray[np.bool_]:
        """Which concepts have a direction."""
        return np.array([reason is None for reason in self.reasons], bool)

    def shown(self, rows: Floats) -> NDArray[np.bool_]:
        """Which photos show which concepts, of shape (n, m), for the probe's rows of n photos."""
        return _shown(rows, self._at_large, len(self.concepts))

    def short(self, row: int) -> NDArray[np.bool_]:
        """Concepts, of shape (m,), that too few photos show beside those of a class's row.

        In a labelled pool they cannot be told from the class, and are not tested for it.
        """
        return np.asarray((self._counts > 0) & (self._counts_for(row) == 0))

    @staticmethod
    def build(
        bank: ConceptBank,
        probe: ProbeModel,
        observer: Observer,
        *,
        pool: ImageSet,
        pooled: Activations,
        pool_rows: Floats,
        own: NDArray[np.bool_],
        insertions: Mapping[str, Insertions],
        canvas_labels: NDArray[np.int64],
        changes: Mapping[str, Floats],
        classes: tuple[int, ...],
        names: tuple[str, ...],
        config: AuditConfig,
    ) -> Vocabulary:
        """Give every concept of the bank its direction.

        Args:
            bank: the concepts.
            probe: reads their texts.
            observer: runs the user's example photos through the model.
            pool: the photos that named concepts are learned from.
            pooled: the model's activations of the pool.
            pool_rows: float array of shape (n, e), the probe's unit rows of the pool.
            own: bool array of shape (n, C), from `own_photos`.
            insertions: by drawing, from `counterfactuals.insert`.
            canvas_labels: int array of shape (k,), classes of the photos that were drawn on.
            changes: by drawing, what it changes in the probe's row, float arrays of shape (e,).
            classes: the audited classes.
            names: of all classes.
            config: levels and sizes.
        """
        mean, scale = pooled.features.mean(0), np.maximum(pooled.features.std(0), 1e-6)
        features = (pooled.features - mean) / scale
        logits = _centred(pooled.logits)[:, classes]
        at_large = _at_large(probe, bank)
        texts = at_large[: len(bank.concepts)]
        shown = _shown(pool_rows, at_large, len(texts))
        seen = shown.sum(0)
        textcav = scoring.text_map(pool_rows, features)
        least = config.statistics.min_photos
        counts = np.zeros(len(texts), np.int64)
        n_photos = counts.copy()
        reasons: list[str | None] = [None] * len(texts)
        given: dict[int, _Pairs | _Examples] = {}
        quarantined: dict[str, str] = {}
        for j, concept in enumerate(bank.concepts):
            if concept.drawing is not None:
                insertion = insertions[concept.drawing]
                shift = insertion.shift(canvas_labels)
                # what fades a photo raises every class's log-odds: of which the mean is taken off
                given[j] = _Pairs(insertion.features, (shift - shift.mean())[list(classes)])
                n_photos[j] = len(insertion.features)
            elif concept.photos is not None:
                examples = image_set.load(
                    str(concept.photos), class_names=(), class_ids=None, labelled=False,
                    decoding=pool.decoding,
                )  # fmt: skip
                for file, why in examples.quarantined:
                    quarantined[f"concept {concept.name}: {file}"] = why
                if len(examples) < least:
                    reasons[j] = f"{len(examples)} example photos, {least} are needed"
                    continue
                run = observer.photos(examples, np.zeros(len(examples), bool), lambda _: None)
                rows = observer.probed(examples, probe, lambda _: None)
                given[j] = _Examples(
                    (run.features - mean) / scale,
                    _centred(run.logits)[:, classes],
                    own_photos(probe, rows, None, classes, names),
                )
                n_photos[j] = len(examples)
            elif seen[j] < least:
                reasons[j] = (
                    f"{seen[j]} of {len(pool)} pool photos show it by the probe, {least} are needed"
                )
            else:
                counts[j] = n_photos[j] = scoring.n_photos(int(seen[j]), len(pool))
        rng = np.random.default_rng((config.seed, 0x17))
        typical = counts[counts > 0]
        size = config.statistics.permutations
        null_counts = rng.choice(
            typical if len(typical) else np.array([min(least, len(pool) - 1)]), size
        )
        null_texts = scoring.mixtures(at_large, size, rng)
        looks, null_drawn, margin = texts.copy(), None, np.zeros(len(texts))
        drawn = {j: c.drawing for j, c in enumerate(bank.concepts) if c.drawing is not None}
        if drawn:
            whitening = presence.whitening(pool_rows, pool.labels)
            changed = np.stack([changes[name] for name in drawn.values()])
            whitened = _unit(changed @ whitening)
            looks[list(drawn)] = whitened @ whitening
            if pool.labels is not None:
                margin[list(drawn)] = MARGIN * (changed * looks[list(drawn)]).sum(1)
            if len(drawn) >= LEAST_DRAWN:
                null_drawn = scoring.mixtures(whitened, size, rng) @ whitening
        return Vocabulary(
            bank.concepts, tuple(map(_source, bank.concepts)), texts, looks, margin, n_photos,
            tuple(reasons), quarantined, mean, scale, config.statistics.q_level,
            _Pool(features, logits, pool_rows, shown, own, pool.labels is not None), least, counts,
            scoring.textual(texts, textcav), given,
            (null_texts, null_counts, scoring.textual(null_texts, textcav)), null_drawn, at_large,
        )  # fmt: skip

    def directions(self, row: int | None = None) -> Directions:
        """Directions of all concepts for a class's row, or from all photos; NaN if not tested.

        Without labels the best of the photos that may not show the class are taken, however few
        show the concept: what the probe sees only on photos that it takes for the class mostly
        belongs to the class ("road" to cars).
        """
        made = self._pool.directions(row, self.texts, self._counts_for(row), self._textual)
        for j, given in self._given.items():
            members, made.shift[j] = given.relative(self._pool, row, self._least)
            made.vectors[j] = _unit(members.mean(0))
        return made

    def _counts_for(self, row: int | None) -> NDArray[np.int64]:
        """How many of the photos that speak for a class make each direction; 0 if too few do.

        As many as from all photos, as in the null; in a labelled pool only if half are left.
        """
        if row is None or not self._pool.labelled:
            return self._counts
        seen = self._pool.shown[self._pool.kept(row)].sum(0)
        counts = np.where(2 * seen >= self._counts, self._counts, seen)
        return np.where(seen >= self._least, counts, 0)

    def name(
        self,
        prototypes: Floats,
        weights: Floats,
        prototype_rows: Floats,
        prevalence: Callable[[Floats], Floats] | None,
    ) -> Naming:
        """Score all classes and concepts (see `auditor.evidence.scoring.name`).

        Args:
            prototypes: float array of shape (C, d), mean features of each class's prototypes.
            weights: float array of shape (C, d), from `activations.head_weights`.
            prototype_rows: float array of shape (C, e), the probe's mean rows of the prototypes.
            prevalence: of looks of shape (m, e), from `auditor.concepts.presence`, of shape (C, m);
                `None` where the photos say nothing of what the model learned from.
        """
        return scoring.name(
            lambda row: (self.directions(row), self._pool.directions(row, *self._null)),
            (prototypes - self.mean) / self.scale,
            weights * self.scale,
            prototype_rows,
            self._prevalent(len(prototypes), prevalence),
            q_level=self.q_level,
        )

    def _prevalent(
        self, n_classes: int, prevalence: Callable[[Floats], Floats] | None
    ) -> tuple[Floats, Floats]:
        """Prevalence of the concepts and of the null, in units of the null.

        Drawn concepts go by their looks against the null of such; by their texts as the others do
        where there are too few of them for one.

        Shapes (C, m) and (C, R); NaN where it is not known.
        """
        size = len(self._null[0])
        if prevalence is None:
            return np.full((n_classes, len(self.texts)), np.nan), np.full((n_classes, size), np.nan)
        null = prevalence(self._null[0])
        centre, deviation = scoring.scale_of(null)
        prevalent = (prevalence(self.texts) - centre) / deviation
        if self._null_drawn is not None:
            drawn = np.array([source == "drawn" for source in self.sources])
            own_centre, own_deviation = scoring.scale_of(prevalence(self._null_drawn))
            prevalent[:, drawn] = (prevalence(self.looks[drawn]) - own_centre) / own_deviation
        return prevalent, (null - centre) / deviation

    def resampled(self, row: int, j: int, replicates: int, rng: np.random.Generator) -> Floats:
        """Bootstrap replicates of a class's direction over its photos, of shape (replicates, d)."""
        members = self._members(row, j)
        weights = bootstrap_weights(len(members), replicates, rng) / len(members)
        return _unit(weights @ members)

    def likeness(self) -> Floats:
        """Cosine between the directions of each two concepts, of shape (m, m)."""
        vectors = self.directions().vectors
        return np.asarray(vectors @ vectors.T)

    def _members(self, row: int, j: int) -> Floats:
        """Rows behind a direction, relative to the mean of the photos that are not."""
        if j in self._given:
            return self._given[j].relative(self._pool, row, self._least)[0]
        kept = self._pool.kept(row)
        count = min(int(self._counts_for(row)[j]), int(kept.sum()) - 1)
        features = self._pool.features[kept]
        scores = self._pool.rows[kept] @ self.texts[j]
        best = np.argpartition(scores, -count)[-count:]
        rest = (features.sum(0) - features[best].sum(0)) / (len(features) - count)
        return np.asarray(features[best] - rest)


def own_photos(
    probe: ProbeModel,
    rows: Floats,
    labels: Sequence[int] | None,
    classes: tuple[int, ...],
    names: tuple[str, ...],
    most: int | None = MOST_LIKELY,
) -> NDArray[np.bool_]:
    """Which audited classes each photo may show: by its label or, without one, by the probe.

    All classes of the model compete for a photo, not the audited ones alone: of 50 audited ImageNet
    classes a tenth of the names would take a tenth of any photos away, snow for "dogsled" among
    them. *Measured* on 50 such classes: published spurious features among the first five 0.70 with
    that, 0.74 as it is and where nothing is left out.

    Args:
        probe: reads the names.
        rows: float array of shape (n, e), its unit rows of the photos.
        labels: of the photos, where they are known.
        classes: the audited classes.
        names: of all classes.
        most: classes that a photo without a label may show; `None` for as many as a tenth is.

    Returns:
        Bool array of shape (n, C).
    """
    if labels is not None:
        return np.asarray(np.array(labels)[:, None] == np.array(classes))
    texts = probe.encode_texts([f"a photo of a {name}" for name in names])
    return presence.likely_classes(rows, texts.cpu().numpy(), most)[:, list(classes)]


def _at_large(probe: ProbeModel, bank: ConceptBank) -> Floats:
    """Texts of the bank's concepts, then of built-in ones that are not in it, unit rows.

    A handful of concepts says neither what a photo shows best nor what concepts at random are.
    """
    known = {concept.name.casefold() for concept in bank.concepts}
    beside = [c for c in banks.load(None).concepts if c.name.casefold() not in known]
    return prompt_rows(probe, [*bank.concepts, *beside])


def _shown(rows: Floats, at_large: Floats, m: int) -> NDArray[np.bool_]:
    """Which photos show which of the first m concepts, of shape (n, m)."""
    return presence.shows(presence.presence(rows, at_large))[:, :m]


def prompt_rows(probe: ProbeModel, listed: Sequence[Concept]) -> Floats:
    """The mean of the probe's rows over each concept's prompts, as unit rows of shape (m, e)."""
    prompts = [prompt for concept in listed for prompt in concept.prompts]
    rows = probe.encode_texts(prompts).cpu().numpy()
    edges = np.cumsum([0, *(len(concept.prompts) for concept in listed)])
    return _unit(np.stack([rows[a:b].mean(0) for a, b in pairwise(edges)]))


def _source(concept: Concept) -> Source:
    if concept.drawing is not None:
        return "drawn"
    return "shown" if concept.photos is not None else "named"


def _centred(logits: Floats) -> Floats:
    return np.asarray(logits - logits.mean(1, keepdims=True))


def _unit(rows: Floats) -> Floats:
    norm = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(norm, 1e-12))
