"""Layouts of checkpoints: which weights are taken, and what is said of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from auditor.config import ModelConfig
from auditor.errors import ModelError
from auditor.models import loading
from auditor.models.description import Description
from auditor.models.fitting import Architecture, Fitted, fit
from auditor.models.weights import choice, read_weights, weights_digest

State = dict[str, Tensor]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)


class Net(nn.Module):
    """A network with the usual parts: nested blocks, a buffer of its own making, a head."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = Block()
        self.layers = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.register_buffer("positions", torch.arange(6.0), persistent=False)
        self.fc = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layers(self.stem.norm(self.stem.conv(x))).mean((2, 3)))


def trained(seed: int = 1) -> State:
    torch.manual_seed(seed)
    return {name: value.clone() for name, value in Net().state_dict().items()}


def behind(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def build(classes: int | None) -> nn.Module:
    return Net() if classes is None else Net(classes)


ARCHITECTURE = Architecture("net", build, Description(), training_only=("aux.",))


def fitted(folder: Path, data: object, place: str = "", **options: Any) -> Fitted:
    path = folder / "c.pt"
    torch.save(data, path)
    weights = read_weights(path, trust_code=options.pop("trust_code", False), chosen=place)
    return fit(ARCHITECTURE, weights, path)


def digest(done: Fitted) -> str:
    return weights_digest(done.net.state_dict())


def said(done: Fitted) -> dict[str, str]:
    return {remark.code: remark.text for remark in done.remarks}


def averaged(state: State) -> State:
    net = Net()
    net.load_state_dict(state)
    return torch.optim.swa_utils.AveragedModel(net).state_dict()


def inside(state: State, wrapper: str) -> State:
    """As FSDP and activation checkpointing wrap parts of a network."""
    return {
        f"{wrapper}.{name}".replace("stem.", f"stem.{wrapper}."): value
        for name, value in state.items()
    }


S = trained()
LAYOUTS: dict[str, tuple[object, str]] = {
    "under state_dict, DDP": ({"epoch": 3, "state_dict": behind("module.", S)}, "'module.'"),
    "under model_state_dict": ({"model_state_dict": S, "loss": 0.1}, "'model_state_dict'"),
    "torchvision's": ({"model": S, "optimizer": {"state": {0: {"m": S["fc.bias"]}}}}, "'model'"),
    "under net": ({"net": S, "acc": 93.1}, "'net'"),
    "under weights": ({"weights": S}, "'weights'"),
    "in a list": ([behind("module.", S), {"lr": 0.1}], "under '0' and"),
    "under any key": ({"my_network": {"params": S}}, "'my_network.params'"),
    "fastai's": ({"model": S, "opt": {"state": [{"grad_avg": S["fc.bias"]}]}}, "'model'"),
    "compiled, then DDP": (behind("_orig_mod.module.", S), "'module.'"),
    "DDP, then compiled": (behind("module._orig_mod.", S), "'module.'"),
    "Lightning, compiled": ({"state_dict": behind("model._orig_mod.", S)}, "'model.'"),
    "Lightning, backbone": ({"state_dict": behind("backbone.net.", S)}, "'backbone.net.'"),
    "Lightning beside a loss": (
        {"state_dict": behind("net.", S) | {"criterion.weight": torch.ones(4)}}, "'net.'"
    ),
    "a compiled part": ({n.replace("stem.", "stem._orig_mod."): v for n, v in S.items()}, ""),
    "FSDP": (inside(S, "_fsdp_wrapped_module"), ""),
    "activation checkpointing": (inside(S, "_checkpoint_wrapped_module"), ""),
    "SWA": (averaged(S), "'module.'"),
    "SWA of DDP": ({"swa": averaged(S)}, "'swa'"),
    "DINO's teacher alone": ({"teacher": behind("module.backbone.", S)}, "'module.backbone.'"),
    "only an average": ({"ema_state_dict": S}, "'ema_state_dict'"),
    "thop's counts": (S | {"total_ops": torch.ones(1), "stem.total_params": torch.ones(1)}, ""),
    "heads of training": (S | {"aux.fc.weight": torch.ones(4, 4)}, ""),
    "a buffer made by the network": (S | {"positions": torch.arange(6.0)}, ""),
    "without counters": ({n: v for n, v in S.items() if "num_batches" not in n}, ""),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_training_programs(tmp_path: Path, layout: str) -> None:
    data, told = LAYOUTS[layout]
    done = fitted(tmp_path, data)
    for name, value in S.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(done.net.state_dict()[name], value)
    assert told in said(done).get("weights-taken", "")
    assert ("weights-taken" in said(done)) == bool(told)
    assert not any(remark.serious for remark in done.remarks)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    data = behind("net.", S) | {"criterion.weight": torch.ones(4), "val_acc.correct": torch.ones(2)}
    told = said(fitted(tmp_path, {"state_dict": data, "best": torch.tensor(71.3)}))
    assert told["weights-taken"] == (
        "c.pt: the weights under 'state_dict' and behind the prefix 'net.' were taken."
    )
    assert told["weights-left-out"].endswith("such as 'criterion.weight', 'val_acc.correct'.")


@pytest.mark.parametrize(
    "data",
    [
        behind("net.", S) | {"head.weight": torch.ones(2, 4), "head.bias": torch.ones(2)},
        {"model": S, "classifier": {"weight": torch.ones(2, 4)}},
        behind("backbone.", S) | {"temperature": torch.tensor(2.0)},
    ],
)
def test_what_may_be_of_the_model_stands_on_page_one(tmp_path: Path, data: State) -> None:
    (serious,) = [remark for remark in fitted(tmp_path, data).remarks if remark.serious]
    assert serious.code == "weights-without-a-place"
    assert serious.text.endswith("If they are part of the model, another one was audited.")


def test_simulated_quantisation_is_said(tmp_path: Path) -> None:
    extra = {
        "fc.weight_fake_quant.scale": torch.ones(1),
        "fc.activation_post_process.min": S["fc.bias"],
    }
    done = fitted(tmp_path, S | extra)
    (serious,) = [remark for remark in done.remarks if remark.serious]
    assert "trained with simulated quantisation" in serious.text


T = trained(2)
PAIRS = {
    "timm": ({"state_dict": T, "state_dict_ema": S}, "state_dict_ema", "state_dict"),
    "torchvision": ({"model": T, "model_ema": averaged(S)}, "model_ema.module", "model"),
    "plain": ({"ema": S, "model": T}, "ema", "model"),
    "ema-pytorch": (
        behind("online_model.", T) | behind("ema_model.", S) | {"initted": torch.tensor(True)},
        "ema_model",
        "online_model",
    ),
    "Lightning": ({"state_dict": behind("model.", T) | behind("ema.module.", S)},
                  "state_dict.ema.module", "state_dict.model"),
}  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
def test_averages_are_taken_and_the_others_can_be_chosen(tmp_path: Path, pair: str) -> None:
    data, average, other = PAIRS[pair]
    done = fitted(tmp_path, data)
    assert digest(done) == digest(fitted(tmp_path, S))
    assert said(done)["averaged-weights-taken"] == (
        f"c.pt holds other weights at {other}. The averaged ones (EMA) at {average} were taken, as "
        f"timm does. To audit the others, give c.pt#{other}."
    )
    assert not any(remark.serious for remark in done.remarks)
    assert digest(fitted(tmp_path, data, other)) == digest(fitted(tmp_path, T))
    assert "averaged-weights-taken" not in said(fitted(tmp_path, data, average))


@pytest.mark.parametrize(
    ("data", "places"),
    [
        ({"student": S, "teacher": T}, "'student', 'teacher'"),
        ({"best": S, "last": T}, "'best', 'last'"),
        ({"ema_0": S, "ema_1": T, "model": trained(3)}, "'ema_0', 'ema_1', 'model'"),
    ],
)
def test_copies_that_differ_are_asked_about(
    tmp_path: Path, data: dict[str, State], places: str
) -> None:
    first, second, *_ = data
    with pytest.raises(ModelError, match=f"different copies of the weights, under {places}; say"):
        fitted(tmp_path, data)
    assert digest(fitted(tmp_path, data, second)) == digest(fitted(tmp_path, T))
    assert said(fitted(tmp_path, {first: S, second: copy.deepcopy(S)}))["weights-taken"]


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="names of the network under 'ema', which are"):
        fitted(tmp_path, {"model": S, "opt": T}, "ema")


def test_a_path_with_a_place(tmp_path: Path) -> None:
    (tmp_path / "a#b.pt").touch()
    assert choice(str(tmp_path / "a#b.pt")) == (tmp_path / "a#b.pt", "")
    assert choice(str(tmp_path / "a#b.pt#x.y")) == (tmp_path / "a#b.pt", "x.y")
    assert choice("c.pt") == (Path("c.pt"), "")


def without(name: str) -> State:
    return {key: value for key, value in S.items() if key != name}


def renamed(old: str, new: str) -> State:
    return {key.replace(old, new): value for key, value in S.items()}


MISFITS: dict[str, tuple[object, str]] = {
    "a name": (
        {"state_dict": behind("module.", renamed("fc.", "classifier."))},
        r"under 'state_dict' and behind the prefix 'module\.', 'fc\.weight'.*, 'fc\.bias'.* are "
        "missing",
    ),
    "nearest": (renamed("layers.0.", "layer.0."), r"'layers\.0\.weight' \(the nearest there is "
                r"'layer\.0\.weight'\)"),
    "many": (renamed("stem.", "body."), r"and 3 more are missing in the file"),
    "another network": (dict(nn.Linear(2, 2).state_dict()), "holds none of the names"),
    "a head alone": ({"fc.weight": S["fc.weight"]}, "missing in the file"),
    "no head": (without("fc.weight"), r"'fc\.weight' is missing in the file"),
    "more inside": (behind("m.", S) | {"m.x": torch.ones(1)}, r"'m\.x' has no place"),
    "another buffer": (S | {"positions": torch.zeros(6)}, "'positions' has no place"),
    "shape": (S | {"fc.weight": torch.ones(4, 5)}, r"'fc.weight' has the shape \(4, 5\), not"),
    "MMPretrain": ({"state_dict": behind("backbone.", renamed("stem", "s"))}, "MMPretrain saves"),
    "fastai": ({"model": {"0.0.weight": torch.ones(2), "1.8.bias": torch.ones(2)}}, "fastai saves"),
    "transformers": ({"vit.embeddings.cls_token": torch.ones(2)}, "transformers, for hf:FOLDER"),
    "long names": (S | {"x" * 10_000: torch.ones(1)}, r"'x{60}\.\.\.x{15}' has no place"),
    "escapes": (S | {"\x1b[2J": torch.ones(1)}, r"'\\x1b\[2J' has no place"),
}  # fmt: skip


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_is_named(tmp_path: Path, misfit: str) -> None:
    data, told = MISFITS[misfit]
    with pytest.raises(ModelError, match=rf"c\.pt do not fit net: .*{told}") as error:
        fitted(tmp_path, data)
    assert len(str(error.value)) < 600


def test_the_number_of_classes_is_that_of_the_weights(tmp_path: Path) -> None:
    state = S | {"fc.weight": torch.rand(7, 4), "fc.bias": torch.rand(7)}
    done = fitted(tmp_path, {"state_dict": behind("module.", state)})
    assert torch.equal(done.net.get_parameter("fc.weight"), state["fc.weight"])
    claimed = {
        "fc.weight": torch.ones(1, 4).expand(10**9, 4),
        "fc.bias": torch.ones(1).expand(10**9),
    }
    with pytest.raises(ModelError, match="claims more numbers than the file holds"):
        fitted(tmp_path, S | claimed)


ODD: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "complex": (lambda t: t.to(torch.complex64), "holds complex64 numbers"),
    "int8": (lambda t: t.to(torch.int8), "holds int8 numbers"),
    "bool": (lambda t: t.bool(), "holds bool numbers"),
    "float8": (lambda t: t.to(torch.float8_e4m3fn), "holds float8_e4m3fn numbers"),
    "sparse": (lambda t: t.to_sparse(), "is no dense tensor"),
    "meta": (lambda t: t.to("meta"), "is a tensor without data"),
    "quantised": (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "is a quantised"),
}


@pytest.mark.filterwarnings("ignore")  # of PyTorch, about kinds of tensors that it calls unfinished
@pytest.mark.parametrize("kind", ODD)
def test_tensors_of_odd_kinds_are_refused(tmp_path: Path, kind: str) -> None:
    change, told = ODD[kind]
    with pytest.raises(ModelError, match=f"'fc.weight' {told}"):
        fitted(tmp_path, S | {"fc.weight": change(S["fc.weight"])})


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_other_precisions_are_audited_in_single(
    tmp_path: Path, kind: torch.dtype, form: str
) -> None:
    path = tmp_path / f"c.{form}"
    state = {n: v.to(kind) if v.is_floating_point() else v for n, v in S.items()}
    if form == "pt":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    done = fit(ARCHITECTURE, read_weights(path, trust_code=False), path)
    assert {v.dtype for v in done.net.parameters()} == {torch.float32}
    assert torch.equal(done.net.get_parameter("fc.weight"), S["fc.weight"].to(kind).float())
    name = str(kind).removeprefix("torch.")
    assert said(done)["weights-in-another-precision"] == (
        f"c.{form} holds weights in {name}. They were audited in float32."
    )


def test_a_network_of_half_precision_takes_full_weights(tmp_path: Path) -> None:
    torch.save(S, tmp_path / "c.pt")
    half = Architecture("half", lambda _: Net().half(), Description())
    done = fit(half, read_weights(tmp_path / "c.pt", trust_code=False), tmp_path / "c.pt")
    assert torch.equal(done.net.get_parameter("fc.weight"), S["fc.weight"])


def test_mappings_that_hold_themselves_end(tmp_path: Path) -> None:
    data: dict[str, Any] = {"model": S}
    data["self"] = data
    level: dict[str, Any] = {}
    for _ in range(40):
        level = {f"k{i}": level for i in range(40)}
    done = fitted(tmp_path, data | {"levels": level, (1, 2): S["fc.bias"]})
    assert said(done)["weights-taken"] == "c.pt: the weights under 'model' were taken."


def test_trusted_modules_in_a_checkpoint(tmp_path: Path) -> None:
    net = Net()
    net.load_state_dict(S)
    data = {"epoch": 3, "model": net, "ema": None}
    with pytest.raises(ModelError, match="--trust-code"):
        fitted(tmp_path, data)
    done = fitted(tmp_path, data, trust_code=True)
    assert digest(done) == digest(fitted(tmp_path, S))
    assert said(done)["weights-taken"] == "c.pt: the weights under 'model' were taken."


# --- libraries' own architectures ----------------------------------------------------------------


def load(spec: str, folder: Path, classes: int, **options: Any) -> loading.Classifier:
    names = folder / "names.txt"
    names.write_text("\n".join(f"class {k}" for k in range(classes)))
    config = ModelConfig(spec=spec, class_names=str(names), **options)
    return loading.load(config, device=torch.device("cpu"))


def test_remarks_reach_the_classifier_and_a_place_can_be_given(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = timm.create_model("test_resnet", num_classes=4).state_dict()
    zero = {name: torch.zeros_like(value) for name, value in state.items()}
    path = tmp_path / "with-ema.pth.tar"
    torch.save({"state_dict": zero, "state_dict_ema": behind("module.", state)}, path)
    loaded = load("timm:test_resnet", tmp_path, 4, weights=str(path))
    assert loaded.digest == weights_digest(state)
    codes = [remark.code for remark in loaded.remarks]
    assert codes[:2] == ["weights-taken", "averaged-weights-taken"]
    for options in ({"weights": f"{path}#state_dict"}, {"arch": "timm:test_resnet"}):
        spec = "timm:test_resnet" if "weights" in options else f"file:{path}#state_dict"
        assert load(spec, tmp_path, 4, **options).digest == weights_digest(zero)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_heads_of_training_are_left_out(tmp_path: Path, name: str) -> None:
    full = torchvision.models.get_model(name, weights=None, init_weights=False, num_classes=4)
    torch.save(full.state_dict(), tmp_path / "c.pt")
    loaded = load(f"torchvision:{name}", tmp_path, 4, weights=str(tmp_path / "c.pt"))
    own = loaded.net.state_dict()
    assert loaded.digest == weights_digest({k: v for k, v in full.state_dict().items() if k in own})
    assert [remark.code for remark in loaded.remarks][:1] == ["weights-left-out"]


@pytest.mark.parametrize("spec", ["timm:test_resnet", "torchvision:resnet18"])
@pytest.mark.parametrize("as_arch", [False, True])
def test_the_input_of_a_library_is_said_where_nothing_states_it(
    tmp_path: Path, spec: str, as_arch: bool
) -> None:
    library, _, name = spec.partition(":")
    make = timm.create_model if library == "timm" else torchvision.models.get_model
    path = tmp_path / "c.pt"
    torch.save(make(name, num_classes=4).state_dict(), path)

    def remarks(**options: Any) -> list[str]:
        given = {"arch": spec} if as_arch else {"weights": str(path)}
        found = load(f"file:{path}" if as_arch else spec, tmp_path, 4, **given, **options).remarks
        return [remark.text for remark in found if remark.code == "input-of-the-library"]

    (said,) = remarks()
    assert "c.pt" in said
    assert spec in said
    assert "--mean" in said
    assert remarks(mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5)) == []


def test_mmpretrain_names_are_translated_where_all_else_fits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = torchvision.models.resnet18(num_classes=4).state_dict()
    theirs = {("head." if n.startswith("fc.") else "backbone.") + n: v for n, v in state.items()}
    torch.save({"meta": {"epoch": 1}, "state_dict": theirs}, tmp_path / "c.pt")
    loaded = load("torchvision:resnet18", tmp_path, 4, weights=str(tmp_path / "c.pt"))
    assert loaded.digest == weights_digest(state)
    codes = {remark.code: remark.serious for remark in loaded.remarks}
    assert codes.pop("input-of-the-library") is False
    assert codes == {"weights-taken": False, "weights-of-mmpretrain": True}


def test_arrays_of_numpy_in_half_precision(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    arrays: dict[str, Any] = {name: value.half().numpy() for name, value in S.items()}
    np.savez(path, **arrays)
    done = fit(ARCHITECTURE, read_weights(path, trust_code=False), path)
    assert torch.equal(done.net.get_parameter("fc.weight"), S["fc.weight"].half().float())


def test_a_module_of_half_precision_is_audited_in_single(tmp_path: Path) -> None:
    net = Net()
    net.load_state_dict(S)
    torch.save(net.half(), tmp_path / "m.pt")
    half = (0.5,) * 3
    given = {"size": 8, "mean": half, "std": half, "trust_code": True}
    loaded = load(f"file:{tmp_path / 'm.pt'}", tmp_path, 4, **given)
    assert {value.dtype for value in loaded.net.parameters()} == {torch.float32}
    assert "weights-in-another-precision" in [remark.code for remark in loaded.remarks]
