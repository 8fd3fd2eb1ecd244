"""Encode the prompts of the built-in concepts with the embedded probe, for `auditor/data/probe`.

    python tools/encode_bank.py

To be run again when the concepts or the probe's heads change; a test says so.
"""

from __future__ import annotations

import dataclasses
import json

import torch
from safetensors.torch import save

from auditor.concepts import banks, probes
from auditor.concepts.embedded_probe import FOLDER, TEXTS, read_heads
from auditor.core.storage import digest_bytes


def main() -> None:
    """Encode the prompts, write their rows, and name them on the card."""
    prompts = [prompt for concept in banks.load(None).concepts for prompt in concept.prompts]
    texts = list(dict.fromkeys(prompts))
    probe = probes.load("offline", device=torch.device("cpu"))
    rows = dataclasses.replace(probe, known={}).encode_texts(texts)
    data = save({"rows": rows}, {"texts": json.dumps(texts)})
    (FOLDER / TEXTS).write_bytes(data)
    card, _ = read_heads(FOLDER)
    card = card.model_copy(update={"texts_sha256": digest_bytes(data)})
    (FOLDER / "card.json").write_text(card.model_dump_json(indent=1) + "\n")
    print(f"{FOLDER / TEXTS}: {len(texts)} texts")


if __name__ == "__main__":
    main()
