"""Models saved to files in every way that users save them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


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
    options = {"id2label": labels, "label2id": {v: k for k, v in labels.items()}}
    torch.manual_seed(0)
    if kind == "resnet":
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **options
        )
        net = transformers.ResNetForImageClassification(config)
        processor = transformers.ConvNextImageProcessor(
            size={"shortest_edge": 64}, crop_pct=0.875, resample=3, **changes
        )
    else:
        config = transformers.ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=64,
            patch_size=16,
            **options,
        )
        net = transformers.ViTForImageClassification(config)
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
