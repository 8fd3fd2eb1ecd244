"""Other tools that make images of a class, run as their own documentation runs them.

They and what they need go into a folder of their own, beside the project's packages and after them
on the path, so that torch, torchvision, NumPy and Pillow stay the project's:

    pip install --no-deps --target FOLDER torch-lucent==0.1.8 horama==0.3.0 torch-dreams==4.0.0 \\
        xplique==2.0.2 kornia==0.4.1 einops==0.8.2 opencv-python-headless==5.0.0.93 \\
        matplotlib contourpy cycler fonttools kiwisolver packaging pyparsing python-dateutil six \\
        ipython ipython-pygments-lexers decorator traitlets matplotlib-inline pygments stack_data \\
        executing asttokens pure_eval prompt_toolkit wcwidth pexpect ptyprocess jedi parso

`--no-deps` leaves out what they declare and do not need here (other versions of torch, mkl, pytest,
coverage). Each function takes a classifier and a class and gives the image with the seconds that
the tool's own call took. The objective is the class's logit; optimiser, parameterisation,
transforms, size and steps are the tool's defaults unless `steps` or `size` is given. The network is
a fresh copy as a user of these tools has it: parameters ask for gradients, memory is laid out
plainly, no hooks are left from before. Random numbers of all three libraries are seeded and put
back.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import importlib.util
import random
import sys
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn

from auditor.models.loading import Classifier

__all__ = ["PEERS", "Peer", "Rendered", "add_path", "fourier", "lucent", "maco", "torch_dreams"]

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Rendered:
    """What a tool made: a uint8 array of shape (H, W, 3), in this many seconds."""

    image: NDArray[np.uint8]
    seconds: float


def add_path(folder: Path) -> None:
    """Let the tools be imported from this folder; packages of the environment come first."""
    if not (folder / "lucent").is_dir():
        raise SystemExit(f"{folder} does not hold the other tools; see benchmarks/peers.py.")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def lucent(
    classifier: Classifier,
    class_index: int,
    *,
    steps: int | None = None,
    seed: int = 0,
    size: int | None = None,
) -> Rendered:
    """torch-lucent 0.1.8: `render_vis(model, "labels:CLASS")`.

    Defaults: Fourier parameterisation of 128 x 128 pixels with decorrelated colours, Adam 0.05, 512
    steps, pad, jitter, scale, rotate and jitter again, enlarged to 224 pixels for the network.

    It normalises as torchvision's models expect. A network that expects something else is given
    with its normalisation inside and `preprocess=False`, the tool's option for that. "labels" is
    the last module of the network, which gives the logits in all networks here.
    Nothing had to be changed for it to run, with the kornia that it declares (at most 0.4.1).
    """
    render = _module("lucent.optvis.render")
    param = _module("lucent.optvis.param")
    own = _expects_imagenet(classifier)
    net = _plain(classifier)
    if not own:
        net = nn.Sequential(OrderedDict(normalise=_normalisation(classifier), net=net))
    net.to(_device(classifier)).eval()

    def call() -> NDArray[np.uint8]:
        (image,) = render.render_vis(
            net,
            f"labels:{class_index}",
            **({} if size is None else {"param_f": lambda: param.image(size)}),
            **({} if steps is None else {"thresholds": (steps,)}),
            preprocess=own,
            progress=False,
            show_image=False,
        )
        return _bytes(image[0])

    return _timed(call, seed)


def maco(
    classifier: Classifier,
    class_index: int,
    *,
    steps: int | None = None,
    seed: int = 0,
    size: int | None = None,
) -> Rendered:
    """horama 0.3: `maco(objective)`, of the authors of MACO (NeurIPS 2023).

    Defaults: phases of 1280 x 1280 pixels under a fixed magnitude, NAdam 1.0, 1000 steps, each on 6
    random crops of a quarter of the side or a little more with noise of 0.05.

    The network gets `values_range` without normalisation: the default of -2.5 to 2.5 where it
    expects ImageNet's mean and deviation, else its own range, as the tool's notes ask. The image is
    brought back to pixels by undoing the network's normalisation.

    Changed so that it runs: the template of magnitudes, which it downloads, is read from
    the package xplique, where the same authors ship it; the progress bar is off. It needs
    einops beside what it declares.
    """
    horama = _module("horama")
    module = _module("horama.maco_fv")
    found = importlib.util.find_spec("xplique")
    places = found.submodule_search_locations if found is not None else None
    if not places:
        raise SystemExit("The package xplique, which holds MACO's spectrum, is not installed.")
    spectrum = Path(places[0]) / "features_visualizations" / "spectrum_decorrelated.npy"
    with mock.patch.object(module, "MACO_SPECTRUM_FILENAME", str(spectrum)):
        return _horama(horama.maco, module, classifier, class_index, steps, seed, size)


def fourier(
    classifier: Classifier,
    class_index: int,
    *,
    steps: int | None = None,
    seed: int = 0,
    size: int | None = None,
) -> Rendered:
    """horama 0.3: `fourier(objective)`; as `maco`, with free magnitudes that decay as f^-1.5."""
    horama, module = _module("horama"), _module("horama.fourier_fv")
    return _horama(horama.fourier, module, classifier, class_index, steps, seed, size)


def torch_dreams(
    classifier: Classifier,
    class_index: int,
    *,
    steps: int | None = None,
    seed: int = 0,
    size: int | None = None,
) -> Rendered:
    """torch-dreams 4.0: `Dreamer(model).render(layers=[...], custom_func=...)`.

    Defaults: Fourier parameterisation of 256 x 256 pixels with decorrelated colours, AdamW 0.009
    without decay, gradients clipped at norm 1, 120 steps, each rotated by up to 15 degrees and
    stretched by 0.5 to 1.2 in height and width; the network gets images of that size.

    The layer is the network itself, whose output is the logits. A network that does not expect
    ImageNet's mean and deviation is announced by `set_custom_normalization`, the tool's way.
    Changed so that it runs well beside others: importing it turns all warnings off; that is undone.
    OpenCV is the headless build.
    """
    dreams = _module("torch_dreams")
    net = _plain(classifier)
    device = _device(classifier)
    dreamer = dreams.Dreamer(net, quiet=True, device=str(device))
    if not _expects_imagenet(classifier):
        fitted = classifier.preprocess
        dreamer.set_custom_normalization(
            torchvision.transforms.Normalize(mean=fitted.mean, std=fitted.std)
        )

    def objective(layer_outputs: list[Tensor]) -> Tensor:
        return -layer_outputs[0][:, class_index].mean()

    def call() -> NDArray[np.uint8]:
        made = dreamer.render(
            layers=[net],
            custom_func=objective,
            **({} if size is None else {"width": size, "height": size}),
            **({} if steps is None else {"iters": steps}),
        )
        return _bytes(made.to_hwc_tensor(device=str(device)).cpu().numpy())

    return _timed(call, seed)


@dataclass(frozen=True)
class Peer:
    """A tool with its defaults.

    Attributes:
        render: makes an image of a class.
        package: name on PyPI.
        steps: its default.
        size: of its image, by default.
        images_per_step: that go through the network.
        window: share of the image's side that the network sees at once. Where it is below 1, the
            middle part of that size is judged beside the whole image.
    """

    render: Callable[..., Rendered]
    package: str
    steps: int
    size: int
    images_per_step: int = 1
    window: float = 1.0


PEERS: Mapping[str, Peer] = {
    "lucent": Peer(lucent, "torch-lucent", 512, 128),
    # box_size (0.20, 0.25) gives sides of 0.25 to 0.30: the code starts from the upper end
    "maco": Peer(maco, "horama", 1000, 1280, 6, 0.275),
    "fourier": Peer(fourier, "horama", 1000, 1280, 6, 0.275),
    "torch-dreams": Peer(torch_dreams, "torch-dreams", 120, 256),
}


def _horama(
    method: Callable[..., tuple[Tensor, Tensor]],
    module: object,
    classifier: Classifier,
    class_index: int,
    steps: int | None,
    seed: int,
    size: int | None,
) -> Rendered:
    net = _plain(classifier)
    mean = np.array(classifier.preprocess.mean, np.float32)
    std = np.array(classifier.preprocess.std, np.float32)
    own = {} if _expects_imagenet(classifier) else {
        "values_range": (float((-mean / std).min()), float(((1 - mean) / std).max()))
    }  # fmt: skip

    def call() -> NDArray[np.uint8]:
        image, _ = method(
            lambda images: torch.mean(net(images)[:, class_index]),
            model_input_size=classifier.preprocess.size[0],
            device=str(_device(classifier)),
            **own,
            **({} if size is None else {"image_size": size}),
            **({} if steps is None else {"total_steps": steps}),
        )
        return _bytes(image.detach().cpu().permute(1, 2, 0).numpy() * std + mean)

    tqdm = getattr(module, "tqdm")  # noqa: B009 a module without types
    with mock.patch.object(module, "tqdm", functools.partial(tqdm, disable=True)):
        return _timed(call, seed)


def _module(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old packages on a new torch
        return importlib.import_module(name)


def _plain(classifier: Classifier) -> nn.Module:
    net = copy.deepcopy(classifier.net).to(memory_format=torch.contiguous_format)
    return net.eval().requires_grad_(True)


def _normalisation(classifier: Classifier) -> nn.Module:
    fitted = classifier.preprocess
    return torchvision.transforms.Normalize(mean=fitted.mean, std=fitted.std)


def _expects_imagenet(classifier: Classifier) -> bool:
    fitted = classifier.preprocess
    return bool(np.allclose([fitted.mean, fitted.std], IMAGENET, atol=1e-3))


def _device(classifier: Classifier) -> torch.device:
    return next(iter(classifier.net.parameters())).device


def _bytes(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _timed(call: Callable[[], NDArray[np.uint8]], seed: int) -> Rendered:
    with _seeded(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        image = call()  # the image on the host, so that work on any device has ended
        seconds = time.perf_counter() - start
    return Rendered(image, seconds)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
