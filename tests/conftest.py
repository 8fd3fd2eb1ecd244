"""Shared set-up: fixtures, and evaluation data where it is there."""

from pathlib import Path

import pytest
import torch
from miniature import drawn_once, project, user  # noqa: F401
from pages import document, folder, page, written  # noqa: F401

from auditor.models.hardware import keep_freed_memory

keep_freed_memory()
torch.set_num_threads(1)  # tiny networks: threads would only wait for each other
for module in ("auditor.prototypes.constraints", "auditor.pipeline.model_check"):
    pytest.MonkeyPatch().setattr(f"{module}.collages", drawn_once)  # for good

DATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items):
    if DATA.is_dir():
        return
    for item in items:
        if "shared" in item.keywords:
            item.add_marker(
                pytest.mark.skip(reason="the evaluation data is not beside the checkout")
            )
