"""What decides a network's input: who states it, and what is taken and said where nobody does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from PIL import Image
from saved import PREPROCESS, images
from torch import nn

from auditor.config import ModelConfig
from auditor.errors import ModelError
from auditor.images.decoding import Decoding
from auditor.models.description import Description, assumptions, complete
from auditor.models.huggingface import _agrees, _described
from auditor.models.libraries import _torchvision_input, timm_description
from auditor.models.preprocessing import Interpolation, Preprocess
from auditor.models.weights import read_weights, save

IMAGENET_255 = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SAID = {"size": 64, "aspect": "crop", "resize": 64, "interpolation": "bilinear"}


def stated(description: dict[str, Any] | None = None, **config: Any) -> Preprocess:
    return complete(Description(**(description or {})), ModelConfig(spec="file:m.pt", **config))


def said_of(description: dict[str, Any] | None = None, **config: Any) -> list[str]:
    asked = ModelConfig(spec="file:m.pt", **config)
    return [each.text for each in assumptions(Description(**(description or {})), asked)]


def picture(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = [np.sin(40 * x + 4 * y), np.cos(7 * y - 30 * x), np.sin(5 * x * y + 1)]
    return Image.fromarray(np.uint8(127.5 + 120 * np.stack(waves, -1)))


def random_images() -> torch.Tensor:
    return torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))


# --- who states it -------------------------------------------------------------------------------

ALL: dict[str, Any] = {
    "size": (40, 48),
    "resize": 50,
    "aspect": "stretch",
    "interpolation": "nearest",
    "mean": (0.1, 0.2, 0.3),
    "std": (0.4, 0.5, 0.6),
    "channels": "bgr",
    "background": "#102030",
    "bit_depth": 12,
    "orientation": "stored",
}
EVERYTHING = Preprocess(
    (40, 48), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 50, "nearest", "stretch", "bgr",
    Decoding("#102030", 12, "stored"),
)  # fmt: skip


def test_the_user_and_the_model_can_state_everything() -> None:
    assert stated(**ALL) == EVERYTHING
    assert stated(ALL) == EVERYTHING
    other = {
        "size": 32, "resize": 32, "aspect": "crop", "interpolation": "bicubic", "mean": (0.5,) * 3,
        "std": (0.5,) * 3, "channels": "rgb", "background": "white", "bit_depth": 16,
        "orientation": "exif",
    }  # fmt: skip
    assert stated(other, **ALL) == EVERYTHING


@pytest.mark.parametrize("name", ALL)
def test_each_setting_of_the_user_is_over_the_models(name: str) -> None:
    if name == "size":  # another size alone changes the margin with it
        assert stated(ALL, size=(20, 24)).resize == 25
        return
    own = {**ALL, name: {"resize": 44, "mean": (0.5,) * 3, "std": (0.7,) * 3}.get(name)}
    assert stated(own, **{name: ALL[name]}) == EVERYTHING


def test_what_a_preprocess_says_goes_through_a_weights_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(path, nn.Linear(2, 2), EVERYTHING, ("a", "b"))
    found = read_weights(path, trust_code=False).description
    assert complete(found, ModelConfig(spec="x")) == EVERYTHING
    metadata = {"auditor": json.dumps({"size": 8, "background": "green"})}
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, metadata)
    with pytest.raises(ModelError, match="cannot be used: background"):
        read_weights(path, trust_code=False)


def test_what_is_missing_is_asked_for_with_its_options() -> None:
    with pytest.raises(ModelError, match=r"--size.*--resize, --aspect and --interpolation"):
        stated(mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(ModelError, match=r"give --mean and --std.*--pixel-range 0-255"):
        stated(size=8)
    with pytest.raises(ModelError, match=r"give --mean and --std"):
        stated(size=8, mean=(0.5,) * 3)


def test_a_resizing_that_nobody_stated_is_said() -> None:
    normal = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    (text,) = said_of(normal, size=64)
    assert "how photos become 64 x 64 pixels (resize, aspect, interpolation)" in text
    assert "give --resize, --aspect, --interpolation if" in text
    assert said_of({**normal, **SAID}) == []
    assert said_of(normal, **SAID) == []
    assert said_of(normal, size=64, aspect="stretch") == []


# --- range of pixels -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "mean", "std"),
    [
        (IMAGENET_255, IMAGENET["mean"], IMAGENET["std"]),
        ({"mean": (127.5,) * 3, "std": (63.75,) * 3}, (0.5,) * 3, (0.25,) * 3),
        # Caffe's models
        (
            {"mean": (104.0, 117.0, 123.0), "std": (1.0,) * 3},
            (104 / 255, 117 / 255, 123 / 255),
            (1 / 255,) * 3,
        ),
        ({"mean": (0.0,) * 3, "std": (255.0,) * 3}, (0.0,) * 3, (1.0,) * 3),
        ({"mean": (128.0,), "std": (128.0,)}, (128 / 255,), (128 / 255,)),
    ],
)
def test_means_of_0_to_255_are_divided_and_it_is_said(
    given: dict[str, Any], mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    for found in (stated(SAID, **given), stated({**SAID, **given})):
        assert found.mean == pytest.approx(mean, abs=1e-6)
        assert found.std == pytest.approx(std, abs=1e-6)
    (text,) = said_of(SAID, **given)
    assert "are of pixels of 0 to 255 and were divided by 255" in text
    assert said_of(SAID, **given, pixel_range="0-255") == []


def test_the_networks_input_is_that_of_raw_pixels_with_the_original_mean() -> None:
    images = random_images()
    found = stated(SAID, **IMAGENET_255).normalise(images)
    mean, std = (torch.tensor(IMAGENET_255[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    torch.testing.assert_close(found, (images * 255 - mean) / std)


@pytest.mark.parametrize(
    "given",
    [
        {"pixel_range": "0-255"},
        {"pixel_range": "0-255", "mean": (0.0,) * 3, "std": (1.0,) * 3},
        {"mean": (0.0,) * 3, "std": (1 / 255,) * 3},
    ],
)
def test_a_network_can_take_raw_pixels(given: dict[str, Any]) -> None:
    images = random_images()
    torch.testing.assert_close(stated(SAID, **given).normalise(images), images * 255)
    factory = {**SAID, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    torch.testing.assert_close(stated(factory, **given).normalise(images), images * 255)


@pytest.mark.parametrize(
    "given",
    [
        IMAGENET,
        {"mean": (0.0,) * 3, "std": (1.0,) * 3},
        {"mean": (0.5,) * 3, "std": (1.0,) * 3},
        {"mean": (0.5,), "std": (0.5,)},
    ],
)
def test_usual_means_stay_as_they_are(given: dict[str, Any]) -> None:
    found = stated(SAID, **given)
    assert (found.mean, found.std) == (given["mean"], given["std"])
    assert said_of(SAID, **given) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({**IMAGENET_255, "pixel_range": "0-1"}, "give --pixel-range 0-255"),
        ({**IMAGENET, "pixel_range": "0-255"}, "give --pixel-range 0-1"),
        ({"mean": (0.5,) * 3, "std": (58.0,) * 3}, "fit neither pixels of 0 to 1 nor"),
        ({"mean": (127.5,) * 3, "std": (0.25,) * 3}, "fit neither"),
        ({"mean": (1e300,) * 3, "std": (1.0,) * 3}, "fit neither"),
        ({"mean": (0.5,) * 3, "std": (1e-300,) * 3}, "leaves nothing"),
        ({"mean": (0.5,) * 3, "std": (1e300,) * 3}, "fit neither"),
        ({"mean": (-9.0,) * 3, "std": (1.0,) * 3}, "is far from all pixels"),
    ],
)  # fmt: skip
def test_contradictions_and_constant_inputs_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words) as raised:
        stated(SAID, **given)
    assert "file:m.pt" in str(raised.value)
    assert "\n" not in str(raised.value)


# --- channels, crops -----------------------------------------------------------------------------


def test_channels_can_be_blue_first() -> None:
    images = random_images()
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)  # of blue, green and red
    found = Preprocess((8, 8), mean, std, 8, channels="bgr").normalise(images)
    for place, channel in enumerate((2, 1, 0)):
        expected = (images[:, channel] - mean[place]) / std[place]
        torch.testing.assert_close(found[:, place], expected)
    grey = [Preprocess((8, 8), (0.5,), (0.5,), 8, channels=each) for each in ("rgb", "bgr")]
    assert torch.equal(grey[0].normalise(images), grey[1].normalise(images))
    with pytest.raises(ValueError, match="neither"):
        Preprocess((8, 8), mean, std, 8, channels="gbr")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (50, 70), (233, 233)])
@pytest.mark.parametrize("resize", [100, 149, 180, 256])
def test_a_crop_beyond_the_resized_photo_is_padded_as_torchvision_does(
    shape: tuple[int, int], resize: int
) -> None:
    from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

    expected = Compose([Resize(resize), CenterCrop(224), ToTensor()])(picture(*shape))
    found = Preprocess((224, 224), (0.5,) * 3, (0.5,) * 3, resize).fit(picture(*shape))
    assert torch.equal(found, expected)
    said = said_of({**SAID, **IMAGENET, "size": 224, "resize": resize})
    assert bool(said) == (resize < 224)
    assert all("padded with black to 224 x 224" in text for text in said)


def test_every_input_of_torchvisions_weights_is_made_as_torchvision_makes_it() -> None:
    seen: dict[str, Any] = {}
    for name in torchvision.models.list_models(module=torchvision.models):
        for member in torchvision.models.get_model_weights(name):
            seen.setdefault(repr(member.transforms()), member)
    assert len(seen) > 20
    for member in seen.values():
        preprocess = complete(_torchvision_input(member), ModelConfig(spec="x"))
        photo = picture(230, 300)
        ours = preprocess.normalise(preprocess.fit(photo)[None])[0]
        torch.testing.assert_close(ours, member.transforms()(photo), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "resnet50.a1_in1k", "volo_d5_448.sail_in1k", "vit_base_patch16_sapiens2.fb",
        "vit_base_patch16_siglip_224.webli", "efficientnet_b0.ra_in1k", "inception_v3.tv_in1k",
    ],
)  # fmt: skip
def test_inputs_of_timms_weights_are_made_as_timm_makes_them(name: str) -> None:
    import timm
    from timm.data import create_transform, resolve_data_config

    published = timm.models.get_pretrained_cfg(name)
    assert published is not None
    config = published.to_dict()
    preprocess = complete(timm_description(config), ModelConfig(spec="x"))
    theirs = create_transform(**resolve_data_config({}, pretrained_cfg=config))
    for photo in (picture(230, 300), picture(400, 90)):
        ours = preprocess.normalise(preprocess.fit(photo)[None])[0]
        torch.testing.assert_close(ours, theirs(photo), rtol=0, atol=1e-5)


# --- image processors of transformers ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "followed"),
    [
        ("ViTImageProcessor", {}, True),
        ("ViTImageProcessor", {"do_pad": True, "pad_size": {"height": 256, "width": 256}}, False),
        ("ViTImageProcessor", {"do_resize": False}, False),
        ("CLIPImageProcessor", {}, True),
        ("BitImageProcessor", {}, True),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}}, True),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}, True),
        ("MobileViTImageProcessor", {}, True),  # blue first
        ("MobileViTImageProcessor", {"do_flip_channel_order": False}, True),
        ("LevitImageProcessor", {}, False),  # resizes to 8/7 of what it says
        ("SegformerImageProcessor", {}, True),
    ],
)
def test_image_processors_are_followed_or_not_believed(
    name: str, options: dict[str, Any], followed: bool
) -> None:
    transformers = pytest.importorskip("transformers")
    processor = getattr(transformers, name)(**options)
    described = _described(processor)
    config = ModelConfig(spec="x")
    assert (described is not None and _agrees(processor, described, config)) == followed
    if followed:
        assert described is not None
        flips = getattr(processor, "do_flip_channel_order", None)
        assert complete(described, config).channels == ("bgr" if flips else "rgb")


# --- fitting and normalising ---------------------------------------------------------------------


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(20, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("shape", [(500, 333), (333, 500), (260, 260), (224, 999), (301, 256)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_fit_equals_torchvision(shape: tuple[int, int], interpolation: Interpolation) -> None:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize, ToTensor

    expected = Compose([Resize(256, InterpolationMode(interpolation)), CenterCrop(224), ToTensor()])
    preprocess = Preprocess((224, 224), (0.5,) * 3, (0.5,) * 3, 256, interpolation)
    image = noise(*shape)
    assert torch.equal(preprocess.fit(image), expected(image))


def test_fit_without_a_margin_and_of_another_shape() -> None:
    wide = Preprocess((64, 96), (0.5,) * 3, (0.5,) * 3, 64)
    for shape in [(300, 100), (100, 300), (40, 40), (96, 64)]:
        out = wide.fit(noise(*shape))
        assert out.shape == (3, 64, 96)
        assert out.min() > 0.05  # nothing is padded with black
    small = Preprocess((64, 64), (0.5,) * 3, (0.5,) * 3, 64)
    exact = noise(64, 64)
    assert torch.equal(small.fit(exact), torchvision.transforms.functional.to_tensor(exact))


def test_fit_can_stretch() -> None:
    halves = Image.new("RGB", (200, 50), "red")
    halves.paste("blue", (100, 0, 200, 50))
    out = Preprocess((40, 40), (0.5,) * 3, (0.5,) * 3, 40, aspect="stretch").fit(halves)
    assert out.shape == (3, 40, 40)
    assert out[0, :, :18].min() == 1
    assert out[2, :, 22:].min() == 1
    margin = Preprocess((40, 40), (0.5,) * 3, (0.5,) * 3, 50, aspect="stretch").fit(halves)
    assert margin.shape == (3, 40, 40)


def test_normalise_is_differentiable_and_takes_any_size() -> None:
    x = images(2, 31).double().requires_grad_()
    out = PREPROCESS.normalise(x)
    expected = (x - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) / torch.tensor(
        [0.2, 0.3, 0.4]
    ).view(1, 3, 1, 1)
    assert torch.allclose(out, expected, atol=1e-6)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.allclose(gradient[:, 0], torch.full_like(gradient[:, 0], 5.0), atol=1e-6)


def test_one_number_makes_the_input_grey_as_pillow_does() -> None:
    grey = Preprocess((32, 32), (0.5,), (0.25,), 32)
    image = noise(32, 32)
    expected = (torchvision.transforms.functional.to_tensor(image.convert("L")) - 0.5) / 0.25
    out = grey.normalise(grey.fit(image)[None])
    assert out.shape == (1, 1, 32, 32)
    assert (out[0] - expected).abs().max() < 4 * 1.01 / 255


@pytest.mark.parametrize(
    "change",
    [
        {"size": (0, 5)},
        {"mean": (0.5, 0.5)},
        {"mean": (0.5,)},
        {"std": (0.5, 0.0, 0.5)},
        {"mean": (float("nan"),) * 3},
        {"resize": 0},
        {"interpolation": "box"},
        {"aspect": "pad"},
    ],
)
def test_impossible_preprocessing(change: dict[str, Any]) -> None:
    fields = {"size": (8, 8), "mean": (0.5,) * 3, "std": (0.5,) * 3, "resize": 8}
    with pytest.raises(ValueError, match=r"must|none of|neither"):
        Preprocess(**{**fields, **change})
