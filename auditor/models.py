"""The audited classifier: its network, its preprocessing and its class names."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from auditor.config import ModelConfig
from auditor.errors import ModelError
from auditor.preprocessing import Preprocess

__all__ = ["Classifier", "Preprocess", "load", "weights_digest"]


@dataclass(frozen=True)
class Classifier:
    """A classifier that is ready to be audited.

    Attributes:
        net: the network, in evaluation mode, with frozen parameters; gives logits of shape (n, K).
        preprocess: how a photo becomes the network's input.
        class_names: K names; two classes may share one, so the index is the key.
        class_ids: K names of folders such as WordNet ids, or `None`.
        digest: SHA-256 of the weights.
        name: the spec that the model came from.
    """

    net: nn.Module
    preprocess: Preprocess
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...] | None
    digest: str
    name: str

    def logits(self, images: Tensor) -> Tensor:
        """Logits of shape (n, K) for images of shape (n, 3, height, width) in [0, 1]."""
        logits: Tensor = self.net(self.preprocess.normalise(images))
        return logits


def load(config: ModelConfig, *, device: torch.device) -> Classifier:
    """Being written."""
    raise ModelError(f"{config.spec} cannot be loaded yet.")


def weights_digest(net: nn.Module) -> str:
    """Being written."""
    raise NotImplementedError
