"""Tiny real networks and photos, made from seeds."""

from __future__ import annotations

from collections.abc import Sequence

import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from auditor.concepts import probes
from auditor.models.loading import Classifier, Preprocess


class Stripes(nn.Module):
    """A network whose second class is, by construction, the strength of vertical stripes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4, 2)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.get_parameter("bias").zero_()
            self.conv.weight[0, :, :, 0] = -1.0
            self.conv.weight[0, :, :, 2] = 1.0
            self.conv.weight[1, :, 0] = -1.0
            self.conv.weight[1, :, 2] = 1.0
            self.conv.weight[2, :, 1, 1] = 1.0
            self.head.weight.zero_()
            self.head.bias.zero_()
            self.head.weight[1, 0] = 4.0
            self.head.weight[0, 1] = 4.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.norm(self.conv(x)).abs()).flatten(1))


def classifier(net: nn.Module, size: int, n_classes: int) -> Classifier:
    net.eval().requires_grad_(False)
    return Classifier(
        net=net,
        preprocess=Preprocess((size, size), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), size),
        class_names=tuple(f"class {k}" for k in range(n_classes)),
        class_ids=None,
        digest="0" * 64,
        name="tiny",
    )


def stripes(size: int = 32) -> Classifier:
    return classifier(Stripes(), size, 2)


def timm_model(name: str, size: int, n_classes: int = 5) -> Classifier:
    torch.manual_seed(0)
    return classifier(timm.create_model(name, num_classes=n_classes), size, n_classes)


class Letters(nn.Module):
    """A dual encoder whose images are four mean colours and whose texts are sines of letters."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def encode_image(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images, 2).flatten(1) * self.weight

    def encode_text(self, tokens: Tensor) -> Tensor:
        return torch.sin(tokens.float() @ torch.arange(1.0, 13.0)[None].repeat(16, 1))


def probe(spec: str = "offline", **_: object) -> probes.ProbeModel:
    def tokenize(texts: Sequence[str]) -> Tensor:
        return torch.tensor([list(text.encode().ljust(16)[:16]) for text in texts])

    def fit(image: Image.Image) -> Tensor:
        return pil_to_tensor(image.resize((16, 16))).float() / 255

    return probes.ProbeModel(
        name=spec, digest="0" * 64, note="A probe of letters.", quality={}, size=(16, 16),
        logit_scale=1.0, _net=Letters(), _fit=fit, _normalise=nn.Identity(), _tokenize=tokenize,
    )  # fmt: skip
