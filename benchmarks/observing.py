"""What a model and the probe see on photos, kept in a folder: for benchmarks without an audit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auditor.concepts.probes import ProbeModel
from auditor.core.storage import Work
from auditor.images.image_set import ImageSet
from auditor.models.activations import Activations
from auditor.models.layers import Layers
from auditor.models.loading import Classifier
from auditor.pipeline.engine import InProcess, Worker
from auditor.pipeline.observing import encode_photos, observe_photos
from auditor.pipeline.progress import Silent, Watch


@dataclass(frozen=True)
class Observer:
    """A model and the probe, with the folder that keeps what they see."""

    classifier: Classifier
    layers: Layers
    probe: ProbeModel
    folder: Path
    batch: int

    def photos(self, photos: ImageSet, on_path: NDArray[np.bool_]) -> Activations:
        """Activations of photos; in every layer where `on_path` says so."""
        engine = self._engine(photos)
        return observe_photos(engine, engine.worker, "photos", "photos", on_path)

    def rows(self, photos: ImageSet) -> NDArray[np.float32]:
        """The probe's unit rows of photos, of shape (n, e)."""
        engine = self._engine(photos)
        return encode_photos(engine, engine.worker, "probe", "photos")

    def _engine(self, photos: ImageSet) -> InProcess:
        listed = {"photos": photos}
        worker = Worker(self.classifier, self.layers, self.probe, listed, self.batch, 0)
        return InProcess(worker, Work(self.folder), Watch(Silent()))
