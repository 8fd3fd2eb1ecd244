"""The first stage: everything that an audit looks at, loaded and tried before any work."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.concepts import banks, probes
from auditor.concepts.banks import ConceptBank
from auditor.concepts.probes import ProbeModel
from auditor.config import AuditConfig
from auditor.errors import ConfigError, ImagesError
from auditor.evidence import credibility
from auditor.images import image_set
from auditor.images.image_set import ImageSet
from auditor.images.sources.objects import Photos
from auditor.models import hardware, loading
from auditor.models.layers import Layers
from auditor.models.loading import Classifier
from auditor.models.sources import GivenModel
from auditor.pipeline import model_check, planted
from auditor.pipeline.engine import Worker
from auditor.pipeline.progress import Watch
from auditor.pipeline.selection import select_classes, settle_expected
from auditor.record.schema import Remark

__all__ = ["Given", "Inputs", "load", "load_classifier", "now"]

LEAST_POOL = 2  # different photos: no direction is learned from one


@dataclass(frozen=True)
class Inputs:
    """What an audit looks at.

    Attributes:
        config: with what is expected of classes under their names.
        bank: the concepts.
        worker: the model, the probe and the photos.
        classes: indices of the audited classes.
        second: the model that judges the prototypes, or `None`.
        remarks: what models and photos turned out to be.
        started: the time, in ISO 8601.
    """

    config: AuditConfig
    bank: ConceptBank
    worker: Worker
    classes: tuple[int, ...]
    second: Classifier | None
    remarks: tuple[Remark, ...]
    started: str

    @property
    def classifier(self) -> Classifier:
        """The audited model."""
        return self.worker.classifier

    @property
    def layers(self) -> Layers:
        """Its layers."""
        return self.worker.layers

    @property
    def probe(self) -> ProbeModel:
        """The CLIP probe."""
        return self.worker.probe

    @property
    def images(self) -> ImageSet:
        """The audited photos."""
        return self.worker.photos["images"]

    @property
    def pool(self) -> ImageSet:
        """The photos that concepts are learned from: others, or the audited ones."""
        return self.worker.photos["pool"]

    @property
    def labels(self) -> NDArray[np.int64]:
        """Classes of the audited photos, int array of shape (n,)."""
        return np.array(self.images.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all classes of the model."""
        return self.classifier.class_names


@dataclass(frozen=True)
class Given:
    """What is at hand in Python, in place of what the configuration names.

    Attributes:
        model: the audited classifier.
        images: the photos with their labels.
        pool: the photos that concepts are learned from.
    """

    model: GivenModel | Classifier | None = None
    images: Photos | None = None
    pool: Photos | None = None


def load(config: AuditConfig, watch: Watch, given: Given | None = None) -> Inputs:
    """Load the models, the probe, the concepts and the photos, and try them.

    Args:
        config: names all of them.
        watch: told of the stage.
        given: what is used in place of what the configuration names.

    Raises:
        AuditorError: whatever the user can mend, in one sentence.
    """
    if sys.flags.optimize > 1:
        raise ConfigError(
            "Python runs with -OO or PYTHONOPTIMIZE=2, which takes texts from the code that the "
            "library transformers reads; run it without."
        )
    started, given = now(), given or Given()
    device = hardware.choose_device(config.device)
    with watch.stage("load", 4) as step:
        planted.read(config.planted)  # what is wrong with it is told before the work
        bank = banks.load(config.concepts)
        classifier = load_classifier(config, given, device)
        classes = select_classes(config.classes, classifier)
        expected = settle_expected(config.expected, classifier, bank)
        config = config.model_copy(update={"expected": expected})
        step(1)
        probe = probes.load(config.probe, device=device, trust_code=config.trust_code)
        step(2)
        photos = _photos(config, given, classifier, bank)
        step(3)
        few = model_check.sampled(photos["images"])
        classifier, layers = model_check.tried(classifier, config.model, few, batch=config.batch)
        second = _second(config, classifier, classes, few, device)
    images, pool = photos["images"], photos["pool"]
    if images.labels is None or not len(images):
        raise ImagesError(f"{config.images} holds no photo that could be read.")
    if len(pool) < LEAST_POOL:
        raise ImagesError(
            f"The pool {config.pool or config.images} holds fewer than {LEAST_POOL} different "
            "photos that can be read, and concepts are learned from their differences; give "
            "more."
        )
    remarks = [*classifier.remarks, *probe.remarks]
    if second is not None:
        remarks += _said_of("the second model", second.remarks)
    for name, listed in photos.items():
        remarks += listed.remarks if name in ("images", "pool") else _said_of(name, listed.remarks)
    worker = Worker(classifier, layers, probe, photos, config.batch, config.seed)
    return Inputs(config, bank, worker, classes, second, tuple(dict.fromkeys(remarks)), started)


def now() -> str:
    """The time, in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def load_classifier(config: AuditConfig, given: Given, device: torch.device) -> Classifier:
    """The audited model on a device, not yet tried on photos.

    Raises:
        ModelError: it cannot be loaded, does not fit, or does not say what is needed.
    """
    if isinstance(given.model, Classifier):
        net = copy.deepcopy(given.model.net).to(device)
        classifier = dataclasses.replace(given.model, net=net)
    else:
        classifier = loading.load(config.model, device=device, given=given.model)
    hardware.laid_out(classifier.net)
    return classifier


def _photos(
    config: AuditConfig, given: Given, classifier: Classifier, bank: ConceptBank
) -> dict[str, ImageSet]:
    """All photos, by the names under which a `Worker` holds them."""
    decoding = classifier.preprocess.decoding

    def of_config(spec: str | Photos, *, labelled: bool) -> ImageSet:
        return image_set.load(
            spec,
            class_names=classifier.class_names,
            class_ids=classifier.class_ids,
            labelled=labelled,
            labels=config.labels,
            label_column=config.label_column,
            decoding=decoding,
        )

    images = of_config(config.images if given.images is None else given.images, labelled=True)
    pool = images
    named_pool = config.pool if given.pool is None else given.pool
    if named_pool is not None:
        pool = image_set.recognised(of_config(named_pool, labelled=False), images)
    examples = {
        f"concept {concept.name}": image_set.load(
            str(concept.photos), class_names=(), class_ids=None, labelled=False, decoding=decoding
        )
        for concept in bank.concepts
        if concept.photos is not None
    }
    return {"images": images, "pool": pool, **examples}


def _second(
    config: AuditConfig,
    classifier: Classifier,
    classes: Sequence[int],
    few: ImageSet,
    device: torch.device,
) -> Classifier | None:
    """The model that judges the prototypes, before anything is spent on them."""
    if config.second_model is None:
        return None
    second = loading.load(config.second_model, device=device)
    if second.digest == classifier.digest:
        raise ConfigError(
            f"second_model = {second.name} has the weights of the audited model; a model that "
            "took no part is needed."
        )
    if not set(classes) & set(credibility.match_classes(classifier, second)):
        raise ConfigError(
            f"second_model = {second.name} has none of the audited classes; give a model with "
            "the same ids or names of classes."
        )
    return model_check.settled(second, few, stated=config.second_model.output)


def _said_of(whose: str, remarks: Sequence[Remark]) -> list[Remark]:
    """Remarks that do not say themselves what they are about."""
    return [r.model_copy(update={"text": f"Of {whose}: {r.text}"}) for r in remarks]
