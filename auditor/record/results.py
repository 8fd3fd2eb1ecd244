"""Saved values of what an audit measured and found."""

from __future__ import annotations

from typing import Literal

from auditor.core.estimates import Count, Estimate, Finite
from auditor.record.codes import Grade, PictureKind, TestName, Unit
from auditor.record.notes import Caveat, Material, Reason
from auditor.record.values import Correlated, Positive, Probability, Rank, Record, Seed, Text

__all__ = [
    "AuditedClass",
    "Channels",
    "Cluster",
    "ClusterClass",
    "Concept",
    "ConceptScore",
    "Correlation",
    "Divergence",
    "Evidence",
    "Finding",
    "LayerDivergence",
    "OtherClass",
    "Picture",
    "Planted",
    "Prototype",
    "Prototyping",
    "Rate",
    "Region",
    "SelfTest",
    "ToldApart",
    "Transfer",
]


class Concept(Record):
    """A concept of the bank as this audit used it.

    `source` says where its direction came from: `named` (pool photos that the probe scored
    highest), `drawn` (the same photos with and without it) or `shown` (the user's examples).
    `n_photos` counts the photos behind the direction; `reason` says why it was not tested.
    """

    name: str
    category: str
    extrinsic: bool
    source: Literal["named", "drawn", "shown"]
    n_photos: Count
    reason: Reason | None


class Region(Record):
    """The part of a prototype that carries its class.

    `probability` is the model's probability of the class with all else blurred, `control` the mean
    for the same region moved half the image away, across, down and both.
    """

    file: str
    area: Probability
    probability: Probability
    control: Probability


class Prototype(Record):
    """One prototype: its file in the run folder, and how far the optimisation got.

    `probability` is the model's probability of the class for the saved PNG; `trace` holds the
    probability at evenly spaced steps of the optimisation; `region` is there where it was isolated.
    """

    file: str
    seed: Seed
    probability: Probability
    steps: Count
    reached: bool
    trace: tuple[Probability, ...]
    region: Region | None = None


class LayerDivergence(Record):
    """Path similarity of a class's prototypes in one layer (method: divergence).

    `normalised` is 0 where prototypes resemble the class's photos as photos of other classes do
    and 1 where they do as photos of the class do among themselves. `class_specific` counts only
    what exceeds the prototypes' own resemblance to photos of other classes. A layer that was `used`
    was held to photos by the optimisation, and does not count towards the class's score.
    """

    name: str
    used: bool = False
    normalised: Finite | None
    class_specific: Finite | None
    spearman: Correlated | None
    l1: Positive | None


class Divergence(Record):
    """Divergence of a class, 1 - mean normalised similarity, and its place among the classes."""

    score: Estimate | None
    class_specific: Estimate | None
    rank: Rank | None
    rank_low: Rank | None
    rank_high: Rank | None
    reason: Reason | None
    layers: tuple[LayerDivergence, ...]


class Channels(Record):
    """Each line of evidence for one concept and class, standardised; `None` where it cannot be."""

    bridge: Finite | None
    textcav: Finite | None
    direct: Finite | None
    head: Finite | None
    association: Finite | None
    prevalence: Finite | None = None


class ConceptScore(Record):
    """One concept for one class: combined score, rank, p and q, and the channels behind it.

    `p_model` is p of the score without what is known of the class's photos alone: where it is high,
    photos show the concept and the model may not care. The score alone raises no suspicion then,
    and does not stand in for a prevalence that few photos leave unsure; tests on photos still may.
    """

    concept: str
    category: str
    core: bool
    score: Finite | None
    rank: Rank | None
    p: Probability | None
    q: Probability | None
    p_model: Probability | None = None
    channels: Channels


class AuditedClass(Record):
    """Everything measured for one class.

    Of the `n_concepts` that were scored, `concepts` are the first, best first, and those that are
    findings or were planted; all of them stand in `scores.parquet`. `n_hypotheses` counts those
    that were tested and can be a finding.
    """

    index: Count
    name: str
    id: str | None
    n_images: Count
    accuracy: Estimate | None
    prototypes: tuple[Prototype, ...]
    divergence: Divergence
    n_concepts: Count
    n_hypotheses: Count
    concepts: tuple[ConceptScore, ...]


class OtherClass(Record):
    """A class that was not audited, of which a picture or a cluster shows photos."""

    index: Count
    name: str


class ClusterClass(Record):
    """The share of one class in a cluster."""

    index: Count
    n_images: Count
    n_prototypes: Count


class Picture(Record):
    """An image file of the run folder, re-encoded from pixels, with what it shows.

    `probability` is the model's, of the class `class_index`; `owner` is the class of the photo or
    prototype. Where the photo is the middle one of several that show the same, it stands for
    `alike` of so many `photos`. `caption` has the words of an older record that say more.
    """

    file: str
    kind: PictureKind
    class_index: Count | None = None
    probability: Probability | None = None
    owner: Count | None = None
    alike: Count | None = None
    photos: Count | None = None
    caption: str | None = None


class Cluster(Record):
    """A group of photos and prototypes that lie together in the model's feature space.

    `name` is the concept the probe found in it, or `None` for "unnamed".
    """

    id: str
    name: str | None
    score: Finite | None
    n_images: Count
    n_prototypes: Count
    classes: tuple[ClusterClass, ...]
    shared: bool
    pictures: tuple[Picture, ...]


class Evidence(Record):
    """One test behind a finding, with its null and its control."""

    test: TestName
    effect: Estimate
    control: Estimate | None
    p: Probability | None
    q: Probability | None
    n: Count
    unit: Unit


class Finding(Record):
    """A concept that a class is suspected, or was shown, to rely on.

    `id` is the same for the same class and concept in every audit. `basis` names the test that the
    grade rests on. `alike` lists concepts of the bank that this audit cannot tell from it, best
    first; `explains` lists lesser suspects of the class, of which its photos show no more than this
    one lets expect.
    """

    id: Text
    class_index: Count
    concept: str
    category: str
    grade: Grade
    basis: TestName | None
    evidence: tuple[Evidence, ...]
    caveats: tuple[Caveat, ...]
    pictures: tuple[Picture, ...]
    alike: tuple[str, ...] = ()
    explains: tuple[str, ...] = ()

    @property
    def lead(self) -> Evidence | None:
        """The evidence that the grade rests on; `None` where it rests on none."""
        return next((each for each in self.evidence if each.test == self.basis), None)


class Planted(Record):
    """A shortcut known to be in the model, because it was planted there."""

    class_index: Count
    concept: str
    strength: Probability
    learned: Estimate | None
    found_rank: Rank | None
    found_grade: Grade | None


class Rate(Record):
    """A rate over repeated audits of models with known shortcuts."""

    name: str
    rate: Estimate


class SelfTest(Record):
    """Detection power of this configuration on planted and clean models.

    `digest` is of everything that decided it. Of `shortcuts` that were planted, each in `strength`
    of its class's photos, `learned` were learned, by experiment; `families` are theirs. The
    audits had `photos_per_class` of each class and `pool` others, `None` where there were none.
    """

    digest: str
    planted_models: Count
    clean_models: Count
    rates: tuple[Rate, ...]
    shortcuts: Count | None = None
    learned: Count | None = None
    families: tuple[str, ...] = ()
    strength: Probability | None = None
    photos_per_class: Count | None = None
    pool: Count | None = None


class Correlation(Record):
    """Rank correlation of divergence with harm (1 - accuracy) over the classes."""

    rho: Estimate | None
    reason: Reason | None


class Transfer(Record):
    """Where a second model, which took no part, puts the classes of the prototypes.

    `first` and `first_five` are shares of the prototypes with the highest probability, one of each
    class that the second model has too; `unmatched` counts the classes that it has not.
    """

    model: str
    weights_sha256: str
    first: Estimate
    first_five: Estimate
    median_place: Positive
    classes_of_model: Count
    unmatched: Count


class ToldApart(Record):
    """How well a classifier tells prototypes from photos by one layer's activations.

    `auc` is 0.5 where it cannot and 1 where it always can, on classes that it did not learn from.
    """

    layer: str
    auc: Estimate


class Prototyping(Record):
    """How the prototypes were made: the mode, and all that was used beside the model.

    `transfer` and `told_apart` say how far the prototypes can be believed; where they are missing,
    the coverage gives the reason.
    """

    mode: Literal["natural", "data-free", "reference", "paper", "patch"]
    parameterisation: Literal["fourier", "pixel", "phase"]
    used: Material
    layers_used: tuple[str, ...]
    photos_copied: Count
    transfer: Transfer | None = None
    told_apart: tuple[ToldApart, ...] = ()
