"""What a worker is built from in another process: settings and photo lists, not the networks.

Model and probe are loaded where they compute, so that a model that cannot be pickled can be audited
there too. A worker that is not equal to the one of the run that it computes for is refused.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from auditor.concepts import probes
from auditor.config import AuditConfig
from auditor.core.storage import digest_package
from auditor.errors import ConfigError
from auditor.images.image_set import ImageSet
from auditor.models.layers import Layers
from auditor.pipeline.engine import Worker
from auditor.pipeline.inputs import Given, Inputs, load_classifier
from auditor.pipeline.model_check import same_answers, sample_answers, sampled, settled

__all__ = ["Blueprint", "blueprint"]


@dataclass(frozen=True)
class Blueprint:
    """A small value that can be pickled, of which a `Worker` is built elsewhere.

    Attributes:
        config: of the audit, with the device that the worker computes on.
        model: what is at hand in Python in place of the configuration's model, or nothing.
        photos: the photos of the run's worker, as they were listed.
        layers: those of the run's worker.
        shortcuts: the same of its classifier.
        folder: the run's working folder, which relative paths start from.
        keys: what the run's model and probe are, see `Worker.model_key`.
        answers: logits of the run's model for sample pictures, which its code decides too.
        program: SHA-256 of the program.
    """

    config: AuditConfig
    model: Given
    photos: Mapping[str, ImageSet]
    layers: Layers
    shortcuts: bool
    folder: str
    keys: list[Any]
    answers: Tensor
    program: str

    def build(self) -> Worker:
        """Load the model and the probe, in the run's folder where this machine has it.

        Raises:
            ConfigError: the program, the model or the probe is another one on this machine.
            AuditorError: they cannot be loaded.
        """
        if os.path.isdir(self.folder):
            os.chdir(self.folder)
        if self.program != digest_package():
            raise ConfigError(
                f"{_here()} has another version of the auditor; install the same everywhere."
            )
        device = torch.device(self.config.device)
        classifier = load_classifier(self.config, self.model, device)
        few = sampled(self.photos["images"])
        classifier = settled(classifier, few, stated=self.config.model.output)
        classifier = replace(classifier, shortcuts=self.shortcuts)
        probe = probes.load(self.config.probe, device=device, trust_code=self.config.trust_code)
        worker = Worker(
            classifier, self.layers, probe, self.photos, self.config.batch, self.config.seed
        )
        same = self.keys == _keys(worker)
        if not same or not same_answers(sample_answers(worker), self.answers):
            raise ConfigError(
                f"{_here()} has another model or probe under the same name; give all machines the "
                "same files."
            )
        return worker


def blueprint(inputs: Inputs, given: Given | None, *, device_type: str) -> Blueprint:
    """The blueprint of a run's worker, for machines with another kind of device or the same."""
    worker = replace(inputs.worker, device_type=device_type)
    # looks are for finding copies, which is done; pool and photos may be one
    plain = {id(each): replace(each, looks=None) for each in worker.photos.values()}
    return Blueprint(
        config=inputs.config.model_copy(update={"device": device_type}),
        model=Given(model=None if given is None else given.model),
        photos={name: plain[id(each)] for name, each in worker.photos.items()},
        layers=worker.layers,
        shortcuts=worker.classifier.shortcuts,
        folder=os.getcwd(),
        keys=_keys(worker),
        answers=sample_answers(inputs.worker),
        program=digest_package(),
    )


def _keys(worker: Worker) -> list[Any]:
    return [worker.model_key, worker.probe.digest, list(worker.classifier.class_names)]


def _here() -> str:
    return f"The machine {platform.node()}"
