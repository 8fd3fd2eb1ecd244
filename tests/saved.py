"""Models saved to files in every way that users save them, and loaded as the program does."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

from auditor.config import ModelConfig
from auditor.models import loading
from auditor.models.loading import Classifier, Preprocess

CPU = torch.device("cpu")
PREPROCESS = Preprocess((160, 160), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 176, "bicubic")


def names_file(folder: Path, n: int) -> str:
    path = folder / "names.txt"
    path.write_text("".join(f"class {i}\n" for i in range(n)), encoding="utf-8")
    return str(path)


def images(n: int = 3, side: int = 160) -> Tensor:
    return torch.rand((n, 3, side, side), generator=torch.Generator().manual_seed(1))


def hugging_face_folder(folder: Path, kind: str, **changes: Any) -> nn.Module:
    """A tiny classifier of transformers, saved as users find them on the hub."""
    import transformers

    labels = {i: f"label {'abc'[i]}" for i in range(3)}
    options: dict[str, Any] = {"id2label": labels, "label2id": {v: k for k, v in labels.items()}}
    net: transformers.PreTrainedModel
    processor: transformers.BaseImageProcessor
    torch.manual_seed(0)
    if kind == "resnet":
        small = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **options
        )
        net = transformers.ResNetForImageClassification(small)
        processor = transformers.ConvNextImageProcessor(
            size={"shortest_edge": 64}, crop_pct=0.875, resample=3, **changes
        )
    else:
        tiny = transformers.ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=64,
            patch_size=16,
            **options,
        )
        net = transformers.ViTForImageClassification(tiny)
        processor = transformers.ViTImageProcessor(size={"height": 64, "width": 64}, **changes)
    net.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return net


def export(net: nn.Module, path: Path, **options: Any) -> Path:
    batch = torch.export.Dim("batch", min=1, max=256)
    program = torch.export.export(net, (images(2),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path, **options)
    return path


def script(net: nn.Module, path: Path, kind: str, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved = torch.jit.trace(net, images(2)) if "trace" in kind else torch.jit.script(net)
        if "frozen" in kind:
            saved = torch.jit.freeze(saved)
        torch.jit.save(saved, path, **options)
    return path


def load(spec: str, **options: Any) -> Classifier:
    return loading.load(ModelConfig(spec=spec, **options), device=CPU)


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """A network with random weights and batch statistics, so that no layer is dead."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build().eval()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.get_buffer("running_mean"), 0, 0.1)
                nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
    return net


def resnet() -> nn.Module:
    return seeded(lambda: timm.create_model("test_resnet", num_classes=5))


def vit() -> nn.Module:
    return seeded(lambda: timm.create_model("test_vit", num_classes=5))


def squeezenet() -> nn.Module:
    return seeded(lambda: torchvision.models.squeezenet1_1(num_classes=7))


def said(folder: Path, n: int) -> dict[str, Any]:
    """All that a bare graph does not say."""
    return {
        "size": 160,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.4),
        "class_names": names_file(folder, n),
    }


def check_same(classifier: Classifier, net: nn.Module) -> None:
    """The classifier gives the network's logits on its own preprocessing, frozen and in eval."""
    x = images()
    with torch.no_grad():
        expected = net(classifier.preprocess.normalise(x))
        assert torch.allclose(classifier.logits(x), expected, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in classifier.net.parameters())
    assert not any(module.training for module in classifier.net.modules())
    assert len(classifier.class_names) == expected.shape[1]


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)
