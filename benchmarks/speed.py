"""Where the time of prototypes goes: share of the machine's peak, profile, cost by number and size.

    python -m benchmarks.speed [--device cpu] [--threads 2] [--compile] [--out out/speed.json]

Random weights serve, for speed does not depend on them. Every figure is the least of several
repetitions in one run, so that other work on the machine disturbs it least; compare ratios, not
seconds. Flops are counted for one forward pass; a step is taken as three of them less the gradient
of the weights, which is not computed: two.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from auditor.concepts import embedded_probe, probes
from auditor.models import hardware
from auditor.models.activations import collect
from auditor.models.layers import find_layers
from auditor.models.loading import Classifier
from auditor.models.preprocessing import Preprocess
from auditor.prototypes import expectations, generation
from auditor.prototypes.collages import collages
from auditor.prototypes.generation import Recipe
from auditor.prototypes.parameterisations import parameterisation
from auditor.prototypes.views import View, transformed

MODELS = ("resnet18", "mobilenetv2_100")
REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="measure prototypes.compile too")
    parser.add_argument("--out", type=Path, default=Path("out/speed.json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    hardware.keep_freed_memory()
    device = hardware.choose_device(given.device)
    found: dict[str, object] = {
        "machine": platform.processor() or platform.machine(),
        "device": hardware.describe(device),
        "threads": given.threads,
        "torch": torch.__version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "peak_gflops": {
            kind: peak(dtype, device)
            for kind, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32))
        },
    }
    print("peak, GFLOP/s:", found["peak_gflops"])
    for name in MODELS:
        found[name] = one(name, found["peak_gflops"], device, compiled=given.compile)  # type: ignore[arg-type]
    found["probe"] = probe(device)
    found["classes"] = by_classes(device)
    found["sizes"] = by_size(device)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    print(given.out)


def least(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Seconds of the fastest of several repetitions, after one to warm up."""
    finished(work)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        finished(work)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def finished(work: Callable[[], object]) -> None:
    """Work to its end: a GPU is still busy when its kernels are sent."""
    work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def peak(dtype: torch.dtype, device: torch.device) -> float:
    """GFLOP/s of a square matrix product."""
    n = 2048 if device.type == "cpu" else 8192
    a, b = (torch.rand(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / least(lambda: a @ b) / 1e9


def network(name: str, device: torch.device, size: int = 224, n_classes: int = 1000) -> Classifier:
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=n_classes).eval().requires_grad_(False)
    net.to(device)
    fitted = Preprocess((size, size), (0.5,) * 3, (0.5,) * 3, size)
    names = tuple(map(str, range(n_classes)))
    return Classifier(hardware.laid_out(net), fitted, names, None, "0" * 64, name)


def one(
    name: str, peaks: dict[str, float], device: torch.device, *, compiled: bool
) -> dict[str, float | str]:
    """A step of one network, taken apart, per image."""
    model = network(name, device)
    layers = find_layers(model)
    n = hardware.images_at_once(model)
    seen = collect(model, layers, torch.split(collages(32, 224, 224), 16))
    expectation = expectations.expected(seen, layers, tuple(range(n)))
    items = [(k, 0) for k in range(n)]
    steps = 4 * generation.BLOCK  # or setting up would count

    def whole(compiled: bool = False, **more: object) -> Callable[[], object]:
        recipe = Recipe(steps=steps, compile=compiled)
        return lambda: generation.generate(model, layers, items, recipe, **more)  # type: ignore[arg-type]

    whole_seconds = least(whole(expectation=expectation), 2) / n / steps
    free_seconds = least(whole(), 2) / n / steps
    folded = hardware.folded(model, layers.path)
    fast = hardware.bfloat16_pays(folded.net, device)
    images = torch.rand(n, 3, 224, 224, device=device).contiguous(memory_format=torch.channels_last)

    def network_alone(net: nn.Module) -> Callable[[], object]:
        net = hardware.in_bfloat16(net) if fast else net

        def work() -> None:
            given = images.clone().requires_grad_()
            with torch.autocast(device.type, torch.bfloat16, enabled=fast):
                logits = net(given)
            torch.autograd.grad(logits.float().logsumexp(1).sum(), given)

        return work

    coding = parameterisation("fourier", 224, 224, device)
    matrices = torch.from_numpy(View.random(n, np.random.default_rng(0)).matrices).to(device)

    start = coding.encode(images)

    def image_alone() -> None:
        parameters = start.detach().requires_grad_()
        view = transformed(coding.decode(parameters), matrices)
        torch.autograd.grad(view.sum(), parameters)

    alone = least(network_alone(folded.net)) / n
    unfolded = least(network_alone(model.net)) / n
    image = least(image_alone) / n
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        folded.net(images[:1])
    work = 2 * counter.get_total_flops() / 1e9
    kind = "bfloat16" if fast else "float32"
    row: dict[str, float | str] = {
        "computed_in": kind,
        "images_at_once": n,
        "gflop_a_step": work,
        "ms_whole": 1000 * whole_seconds,
        "ms_without_expectation": 1000 * free_seconds,
        "ms_network": 1000 * alone,
        "ms_network_not_folded": 1000 * unfolded,
        "ms_image_and_view": 1000 * image,
        "share_of_peak_network": work / alone / peaks[kind],
        "share_of_peak_whole": work / whole_seconds / peaks[kind],
    }
    if compiled:
        together = whole(compiled=True, expectation=expectation)
        row["ms_whole_compiled"] = 1000 * least(together, 2) / n / steps
    print(name, {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})
    return row


def probe(device: torch.device, n: int = 32) -> dict[str, float]:
    """Milliseconds per photo of the embedded probe, and of its network as it was assembled."""
    loaded = probes.load("offline", device=device)
    assembled, _, _ = embedded_probe.assemble(embedded_probe.read_heads(embedded_probe.FOLDER)[1])
    assembled.requires_grad_(False).eval().to(device)
    images = torch.rand(n, 3, *loaded.size, device=device)

    @torch.inference_mode()
    def plain() -> object:
        return assembled.encode_image(images)

    found = {
        "loaded_ms": 1000 * least(lambda: loaded.encode_images(images)) / n,
        "assembled_ms": 1000 * least(plain) / n,
    }
    print("probe:", found)
    return found


def by_classes(device: torch.device) -> list[dict[str, float]]:
    """Seconds and peak memory for one prototype of each of 10, 100 and 1000 classes, 64 pixels."""
    rows = []
    for n in (10, 100, 1000):
        model = network("test_resnet", device, 64, 1000)
        layers = find_layers(model)
        items = [(k, 0) for k in range(n)]
        recipe = Recipe(steps=generation.BLOCK)
        start = time.perf_counter()
        finished(lambda: generation.generate(model, layers, items, recipe))  # noqa: B023
        seconds = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append({"classes": n, "ms_each_step": 1000 * seconds / n / generation.BLOCK,
                     "peak_memory_of_process_mb": memory})  # fmt: skip
        print(rows[-1])
    return rows


def by_size(device: torch.device) -> list[dict[str, float]]:
    """Milliseconds per image and step of ResNet-18 by the side of its input."""
    rows = []
    for size in (64, 128, 224, 384):
        model = network("resnet18", device, size)
        layers = find_layers(model)
        n = hardware.images_at_once(model)
        items = [(k, 0) for k in range(n)]
        recipe = Recipe(steps=8)
        seconds = least(lambda: generation.generate(model, layers, items, recipe), 1)  # noqa: B023
        rows.append({"side": size, "images_at_once": n, "ms": 1000 * seconds / n / 8})
        print(rows[-1])
    return rows


if __name__ == "__main__":
    main()
