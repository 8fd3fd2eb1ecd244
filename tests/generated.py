"""Prototypes of tiny networks, and what they are held to."""

import torch
from torch import nn

from auditor.models import activations
from auditor.models.layers import find_layers
from auditor.prototypes import expectations
from auditor.prototypes.generation import Recipe, generate


def made(model, items, steps=40, **options):
    layers = find_layers(model)
    given = {key: options.pop(key) for key in list(options) if hasattr(Recipe(), key)}
    return generate(model, layers, items, Recipe(steps=steps, **given), **options)


def soft_photos(n, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 8, 8, generator=generator)
    return nn.functional.interpolate(coarse, size, mode="bilinear")


def expectation_of(model, classes, n=64):
    layers = find_layers(model)
    photos = soft_photos(n, model.preprocess.size[0])
    seen = activations.collect(model, layers, photos.split(16))
    return expectations.expected(seen, layers, classes)
