"""A miniature project: a tiny network, its photos and a bank, as a user has them in a folder."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FACTORY = """
import torch
import sys
sys.path.insert(0, {tests!r})
from tiny import Stripes

def net():
    return Stripes()
"""


BANK = """
[[concept]]
name = "black border"
category = "frame"
drawing = "black_border"
prompts = ["a photo with a black border"]

[[concept]]
name = "sky"
category = "background"
prompts = ["a blue sky"]
"""


@pytest.fixture
def user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("mine", None)
    Path("mine.py").write_text(FACTORY.format(tests=str(Path(__file__).parent)))
    Path("names.txt").write_text("across\n<script>alert(1)</script>\n")
    Path("bank.toml").write_text(BANK)
    rng = np.random.default_rng(0)
    for label in range(2):
        folder = Path("photos") / str(label)
        folder.mkdir(parents=True)
        for n in range(12):
            wave = 127 + 100 * np.sin(np.arange(32) * rng.uniform(1, 2))
            pixels = np.broadcast_to(
                wave[None, :, None] if label else wave[:, None, None], (32, 32, 3)
            )
            noisy = np.clip(pixels + rng.normal(0, 20, (32, 32, 3)), 0, 255)
            Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{n}.png")
    (Path("photos") / "0" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return {
        "model": {"spec": "python:mine:net", "size": 32, "class_names": "names.txt"},
        "images": "photos",
        "concepts": "bank.toml",
        "prototypes": {"per_class": 2, "steps": 6},
        "statistics": {"permutations": 99, "bootstrap": 99},
    }
