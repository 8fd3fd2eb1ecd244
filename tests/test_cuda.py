"""What only a GPU can show; without one these tests are skipped."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from generated import expectation_of, made
from tiny import timm_model

from auditor.config import AuditConfig
from auditor.models import hardware
from auditor.models.activations import collect
from auditor.models.layers import find_layers
from auditor.pipeline import runner

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
CUDA = torch.device("cuda")


def on_gpu(model):
    return dataclasses.replace(model, net=copy.deepcopy(model.net).to(CUDA))


def test_auto_takes_the_gpu_and_names_it():
    assert hardware.choose_device("auto") == CUDA
    assert hardware.describe(CUDA).startswith("cuda: ")
    assert hardware.peers(torch.device("cuda", 0)) == [torch.device("cuda", 0)]


def test_activations_are_those_of_the_processor():
    model = timm_model("test_resnet", 64)
    images = torch.rand((6, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    layers = find_layers(model)
    seen = [collect(each, layers, [images]) for each in (model, on_gpu(model))]
    np.testing.assert_allclose(seen[0].logits, seen[1].logits, rtol=0.02, atol=0.02)
    for name in layers.path:
        own, other = (s.path[name] for s in seen)
        np.testing.assert_allclose(own, other, atol=0.02 * np.abs(own).max())


@pytest.mark.parametrize("compiled", [False, True])
def test_prototypes_become_their_classes(compiled):
    model = timm_model("test_resnet", 64)
    model.net.get_parameter("fc.weight").data *= 30
    items = [(k, seed) for k in range(3) for seed in range(2)]
    expectation = expectation_of(model, range(3))
    far = made(model, items, steps=48, expectation=expectation)
    near = made(on_gpu(model), items, steps=48, expectation=expectation, compile=compiled)
    assert near.probabilities.min() > far.probabilities.min() - 0.1
    assert near.images.dtype == np.uint8
    assert near.seeds == far.seeds


def test_neither_neighbours_nor_batch_size_decide_an_image():
    model = on_gpu(timm_model("test_resnet", 64))
    items = [(k, 0) for k in range(4)]
    together, alone = (made(model, items, steps=24, batch=n).images.astype(int) for n in (4, 1))
    assert np.mean(np.abs(together - alone) <= 8) > 0.9


def test_a_small_share_of_the_card_suffices():
    model = on_gpu(timm_model("test_resnet", 64))
    items = [(k % 5, k) for k in range(8)]
    made(model, items, steps=2, batch=1)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    made(model, items, steps=2, batch=8)
    needed = torch.cuda.max_memory_allocated()
    before = torch.cuda.memory_allocated()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(CUDA).total_memory
    told: list[int] = []
    torch.cuda.set_per_process_memory_fraction((before + 0.7 * (needed - before)) / total)
    try:
        result = made(model, items, steps=2, batch=8, on_step=told.append)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(result.images) == 8
    assert told[-1] == 16


def test_a_whole_audit_runs_on_the_gpu(user):
    done = runner.run(AuditConfig.model_validate(user | {"device": "cuda"}))
    assert done.provenance.device.startswith("cuda: ")
    own = runner.run(AuditConfig.model_validate(user | {"device": "cpu", "out": "other"}))
    for near, far in zip(done.classes, own.classes, strict=True):
        assert near.accuracy == far.accuracy
        assert near.n_images == far.n_images
