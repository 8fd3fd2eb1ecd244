"""Batches that a device lacks memory for."""

import dataclasses
import io
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import stripes

from auditor.concepts import probes
from auditor.core.storage import digest_bytes
from auditor.evidence import credibility, insertion, surroundings
from auditor.images.image_set import ImageSet
from auditor.models import activations
from auditor.models.hardware import Parts
from auditor.models.layers import find_layers
from auditor.prototypes import generation
from auditor.prototypes.isolation import isolate

SIZE = 48
IMAGES = torch.rand(7, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
BYTES = (IMAGES * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
CLASSES = (0, 1, 0, 1, 0, 1, 1)


def collected(model):
    found = activations.collect(model, find_layers(model), IMAGES.split(6), names="abcdefg")
    return {**found.path, **found.spread, "logits": found.logits, "pixels": found.pixels}


def answered(model):
    layers = find_layers(model)
    return dict(enumerate(insertion.answer(model, layers, IMAGES, batch=7)))


def transplanted(model):
    files = []
    for pixels in BYTES:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        files.append(file.getvalue())
    donors = ImageSet(
        tuple("abcdefg"), None, tuple(map(digest_bytes, files)), (), files.__getitem__
    )
    labels = np.array([0, 1, 1])
    return vars(surroundings.transplant(model, IMAGES[:3], labels, donors, (0, 1), batch=9))


def isolated(model):
    found = isolate(model, BYTES, CLASSES)  # masks differ in a pixel, by rounding
    return {"areas": found.areas, "probabilities": found.probabilities}


def judged(model):
    return {"probabilities": generation._probabilities(model, BYTES, CLASSES)}


def transferred(model):
    found = credibility.transfer(model, model, IMAGES, CLASSES)
    return {"places": found.places}


@pytest.mark.parametrize(
    "work",
    [collected, answered, transplanted, isolated, judged, transferred],
    ids=lambda w: w.__name__,
)
def test_a_batch_that_memory_does_not_suffice_for_is_halved(work, monkeypatch, caplog):
    model = stripes(SIZE)
    wanted = work(model)
    normalise = type(model.preprocess).normalise
    largest = []

    def limited(self, images):
        if len(images) > 2:
            raise torch.OutOfMemoryError("the test's card is full")
        largest.append(len(images))
        return normalise(self, images)

    layers = find_layers(model)
    monkeypatch.setattr(f"{__name__}.find_layers", lambda _model: layers)
    monkeypatch.setattr(type(model.preprocess), "normalise", limited)
    with caplog.at_level(logging.WARNING):
        found = work(model)
    assert max(largest) <= 2
    assert "images at once now" in caplog.text
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, atol=0.01, err_msg=str(name))


def test_the_probe_halves_its_batches_too():
    probe = probes.load("offline", device=torch.device("cpu"))

    def limited(images):
        if len(images) > 2:
            raise torch.OutOfMemoryError("the test's card is full")
        return probe._normalise(images)

    found = dataclasses.replace(probe, _normalise=limited).encode_images(IMAGES)
    torch.testing.assert_close(found, probe.encode_images(IMAGES), atol=1e-4, rtol=0)


def test_parts_stay_as_small_as_they_became():
    sizes = []

    def run(images):
        sizes.append(len(images))
        if len(images) > 3:
            raise MemoryError

    parts = Parts(8)
    for _ in range(2):
        list(parts(run, range(8)))
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]


def test_one_image_that_needs_too_much_is_told():
    def run(images):
        raise MemoryError

    with pytest.raises(MemoryError):
        list(Parts(4)(run, range(4)))


def test_another_error_is_not_tried_again():
    tried = []

    def run(images):
        tried.append(len(images))
        raise RuntimeError("sizes do not match")

    with pytest.raises(RuntimeError, match="sizes"):
        list(Parts(4)(run, range(4)))
    assert tried == [4]
