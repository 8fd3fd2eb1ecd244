"""A record of many classes, made from the sample report's by chance with a seed, and its pictures.

It fits the schema and has the sizes of a real one: a prototype and up to 24 layers a class, 20 of
445 concepts a class, clusters, and findings with pictures. What it says is made up.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from auditor.record.schema import Audit

__all__ = ["SAMPLE", "record", "run_folder"]

SAMPLE = Path(__file__).parents[1] / "sample_reports" / "example" / "audit.json"
LAYERS = 24
LISTED = 20  # concepts of a class
FINDINGS = 100
PICTURES = 64  # that are different; their files are links to them
SIDE = 224
SYLLABLES = ("ba", "co", "der", "fin", "gra", "hul", "is", "jo", "ka", "lun", "mer", "no")


def record(n_classes: int, *, findings: int = FINDINGS, seed: int = 0) -> Audit:
    """An audit of so many classes; the same numbers give the same audit."""
    rng = random.Random(seed)
    data: dict[str, Any] = json.loads(SAMPLE.read_text(encoding="utf-8"))
    samples, clusters = data["findings"], data["clusters"]
    bank = [concept for concept in data["concepts"] if concept["reason"] is None]
    names = _names(n_classes, rng)
    data["classes"] = [_class(i, names[i], bank, rng) for i in range(n_classes)]
    ordered = sorted(data["classes"], key=lambda c: -c["divergence"]["score"]["value"])
    for rank, c in enumerate(ordered, start=1):
        ends = max(1, rank - n_classes // 20), min(n_classes, rank + n_classes // 20)
        c["divergence"].update(rank=rank, rank_low=ends[0], rank_high=ends[1])
    data["other_classes"] = []
    data["planted"] = None
    wanted = {place: rng.choice(bank) for place in range(min(findings, 4 * n_classes))}
    data["findings"] = [
        _finding(samples[place % len(samples)], place, place % n_classes, concept)
        for place, concept in wanted.items()
    ]
    data["findings"].sort(
        key=lambda f: ("confirmed", "corroborated", "suspected").index(f["grade"])
    )
    data["clusters"] = [
        _cluster(clusters[i % len(clusters)], i, n_classes, rng) for i in range(n_classes)
    ]
    spec, coverage = data["spec"], data["coverage"]
    spec["classes"] = names
    coverage["classes"] = coverage["classes_of_model"] = n_classes
    coverage["images"] = 50 * n_classes
    coverage["not_tested"] = [g for g in coverage["not_tested"] if g["class_index"] is None]
    return Audit.model_validate(data)


def run_folder(folder: Path, audit: Audit) -> Path:
    """Write the audit and every picture that it names."""
    folder.mkdir(parents=True, exist_ok=True)
    audit.write(folder / "audit.json")
    shapes = [_picture(place) for place in range(PICTURES)]
    files = [p.file for c in audit.classes for p in c.prototypes]
    files += [p.file for f in audit.findings for p in f.pictures]
    files += [p.file for c in audit.clusters for p in c.pictures]
    first: dict[tuple[int, str], Path] = {}
    for place, file in enumerate(dict.fromkeys(files)):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        key = (place % PICTURES, path.suffix)
        if key in first:
            os.link(first[key], path)
        else:
            shapes[key[0]].save(path)
            first[key] = path
    return folder


def _names(quantity: int, rng: random.Random) -> list[str]:
    names: dict[str, None] = {}
    while len(names) < quantity:
        words = ("".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(2))
        names[" ".join(words)] = None
    return list(names)


def _number(rng: random.Random, low: float, high: float, digits: int = 6) -> float:
    return round(rng.uniform(low, high), digits)


def _estimate(rng: random.Random, low: float, high: float) -> dict[str, Any]:
    value = rng.uniform(low, high)
    return {"value": value, "low": value * 0.9, "high": value + (high - value) * 0.1, "n": 50}


def _class(index: int, name: str, bank: list[dict[str, Any]], rng: random.Random) -> dict[str, Any]:
    layers = [
        {
            "name": f"features.{depth}.block.conv",
            "used": False,
            "normalised": rng.uniform(-0.2, 1.1),
            "class_specific": rng.uniform(-0.2, 1.1),
            "spearman": rng.uniform(0, 1),
            "l1": rng.uniform(0, 1),
        }
        for depth in range(LAYERS)
    ]
    scores = sorted((_number(rng, 0, 5) for _ in range(LISTED)), reverse=True)
    chosen = rng.sample(bank, LISTED)
    return {
        "index": index,
        "name": name,
        "id": f"n{index:08d}",
        "n_images": 50,
        "accuracy": _estimate(rng, 0.3, 1),
        "prototypes": [
            {
                "file": f"prototypes/{index}/0.png",
                "seed": 0,
                "probability": _number(rng, 0.9, 1),
                "steps": 256,
                "reached": True,
                "trace": [_number(rng, 0, 1) for _ in range(12)],
                "region": None,
            }
        ],
        "divergence": {
            "score": _estimate(rng, 0.1, 1),
            "class_specific": _estimate(rng, 0.1, 1),
            "reason": None,
            "layers": layers,
        },
        "n_concepts": 445,
        "n_hypotheses": 300,
        "concepts": [_score(chosen[i], scores[i], i + 1, rng) for i in range(LISTED)],
    }  # fmt: skip


def _score(concept: dict[str, Any], score: float, rank: int, rng: random.Random) -> dict[str, Any]:
    channels = ("bridge", "textcav", "direct", "head", "association", "prevalence")
    return {
        "concept": concept["name"],
        "category": concept["category"],
        "core": rank == 1,
        "score": score,
        "rank": rank,
        "p": _number(rng, 0, 0.4),
        "q": _number(rng, 0.4, 1),
        "p_model": _number(rng, 0, 1),
        "channels": {key: _number(rng, -3, 6) for key in channels},
    }


def _finding(
    sample: dict[str, Any], place: int, index: int, concept: dict[str, Any]
) -> dict[str, Any]:
    """A finding of the sample's, of another class and concept and with pictures of its own."""
    pictures = [
        {
            **picture,
            "file": f"prototypes/{index}/0.png"
            if picture["kind"] == "prototype"
            else f"pictures/{place:06x}{n:018x}.jpg",
            "class_index": None if picture["class_index"] is None else index,
            "owner": None if picture["owner"] is None else index,
        }
        for n, picture in enumerate(sample["pictures"])
    ]
    return {
        **sample,
        "id": f"{place:012x}",
        "class_index": index,
        "concept": concept["name"],
        "category": concept["category"],
        "pictures": pictures,
    }


def _cluster(sample: dict[str, Any], place: int, n: int, rng: random.Random) -> dict[str, Any]:
    """A cluster of one class, or of three where its number says so."""
    members = rng.sample(range(n), 3 if place % 3 == 0 and n > 2 else 1)
    return {
        **sample,
        "id": f"{place:012x}",
        "n_images": 15 * len(members),
        "n_prototypes": len(members),
        "classes": [{"index": i, "n_images": 15, "n_prototypes": 1} for i in members],
        "shared": len(members) > 1,
        "pictures": [
            {**picture, "file": f"pictures/{place:06x}{n:018x}f.jpg", "owner": members[0]}
            for n, picture in enumerate(sample["pictures"])
        ],
    }


def _picture(seed: int) -> Image.Image:
    """Smooth noise with edges in it, which a JPEG file holds in about as much as a photo."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8))
    fine = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    base = coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return Image.blend(base, fine.filter(ImageFilter.GaussianBlur(1.5)), 0.3)
