"""Saved graphs, exported and scripted: they equal the eager network and can be hooked."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from saved import check_same, export, images, load, resnet, said, script, squeezenet, vit
from torch import Tensor, nn

from auditor.errors import ModelError
from auditor.models import loading

NETWORKS = {"resnet": resnet, "vit": vit, "squeezenet": squeezenet}
GRAPHS = ["export", "trace", "script", "frozen-trace"]


GraphFile = Callable[[str, str], tuple[Path, nn.Module]]


@pytest.fixture(scope="module")
def graph_file(tmp_path_factory: pytest.TempPathFactory) -> GraphFile:
    """The file of a network saved in a way, made once, and the network itself."""

    @functools.cache
    def make(network: str, kind: str) -> tuple[Path, nn.Module]:
        folder = tmp_path_factory.mktemp("graph")
        net = NETWORKS[network]()
        if kind == "export":
            return export(net, folder / "m.pt2"), net
        return script(copy.deepcopy(net), folder / "m.pt", kind), net

    return make


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", GRAPHS)
def test_graphs_equal_the_eager_model_and_can_be_hooked(
    graph_file: GraphFile, tmp_path: Path, network: str, kind: str
) -> None:
    path, net = graph_file(network, kind)
    n = 7 if network == "squeezenet" else 5
    classifier = load(f"file:{path}", **said(tmp_path, n))
    x = images().requires_grad_()
    expected = net(classifier.preprocess.normalise(x))
    (gradient,) = torch.autograd.grad(expected[:, 1].sum(), x)

    seen: dict[str, Tensor] = {}
    modules = dict(classifier.net.named_modules())
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
        for name, module in modules.items()
        if name
    ]
    logits = classifier.logits(x)
    (found,) = torch.autograd.grad(logits[:, 1].sum(), x, retain_graph=True)
    assert torch.allclose(logits, expected, atol=1e-5)
    assert torch.allclose(found, gradient, atol=1e-5 * float(gradient.abs().max()) + 1e-7)

    deep = [value for value in seen.values() if value.ndim > 2]
    assert len(deep) >= 6
    for name, value in seen.items():
        assert value.shape[0] == 3, name
        (inner,) = torch.autograd.grad(logits.sum(), value, retain_graph=True, allow_unused=True)
        assert inner is not None, f"{name} is cut off from the logits"
    for hook in hooks:
        hook.remove()
    assert next(classifier.net.parameters()) is not None
    assert not any(parameter.requires_grad for parameter in classifier.net.parameters())


@pytest.mark.parametrize("network", NETWORKS)
def test_exported_layers_have_the_names_and_values_of_the_eager_model(
    graph_file: GraphFile, tmp_path: Path, network: str
) -> None:
    path, net = graph_file(network, "export")
    n = 7 if network == "squeezenet" else 5
    classifier = load(f"file:{path}", **said(tmp_path, n))

    def recorded(model: nn.Module) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        hooks = [
            module.register_forward_hook(
                lambda _m, _i, out, name=name: values.update({name: out.clone()})
            )
            for name, module in model.named_modules()
            if name
        ]
        with torch.no_grad():
            model(classifier.preprocess.normalise(images()))
        for hook in hooks:
            hook.remove()
        return values

    eager, tapped = recorded(net), recorded(classifier.net)
    shared = set(eager) & set(tapped)
    blocks = {"resnet": "layer2.0", "vit": "blocks.3", "squeezenet": "features.6"}
    assert {blocks[network]} <= shared
    assert len(shared) > 10
    differing = [
        name for name in shared if not torch.allclose(eager[name], tapped[name], atol=1e-5)
    ]
    assert not differing
    assert set(tapped) - set(eager) <= {"head_input"}


@pytest.mark.parametrize("kind", GRAPHS)
def test_linear_heads_are_linear_layers_and_others_have_a_tap(
    graph_file: GraphFile, tmp_path: Path, kind: str
) -> None:
    path, net = graph_file("resnet", kind)
    classifier = load(f"file:{path}", **said(tmp_path, 5))
    linear = [m for m in classifier.net.modules() if isinstance(m, nn.Linear)]
    assert len(linear) == 1
    assert torch.equal(linear[0].weight, net.get_parameter("fc.weight"))
    given: list[Tensor] = []
    linear[0].register_forward_pre_hook(lambda _m, inputs: given.append(inputs[0]))
    classifier.logits(images(2))
    assert given[0].shape == (2, net.get_submodule("fc").in_features)

    path, _ = graph_file("squeezenet", kind)
    convolutional = load(f"file:{path}", **said(tmp_path, 7))
    features: list[Tensor] = []
    tap = dict(convolutional.net.named_modules())["head_input"]
    tap.register_forward_hook(lambda _m, _i, out: features.append(out))
    convolutional.logits(images(2))
    assert features[0].shape[:2] == (2, 512)


def test_scripted_layers_are_named_after_their_weights(
    graph_file: GraphFile, tmp_path: Path
) -> None:
    path, _ = graph_file("resnet", "script")
    classifier = load(f"file:{path}", **said(tmp_path, 5))
    names = {name for name, m in classifier.net.named_modules() if isinstance(m, nn.Identity)}
    assert any(name.startswith("layer2.0.") for name in names)
    assert not any(name.startswith("input") for name in names)


def test_other_sizes_and_batches_pass_through_graphs(graph_file: GraphFile, tmp_path: Path) -> None:
    for kind in ("trace", "script"):
        path, net = graph_file("resnet", kind)
        classifier = load(f"file:{path}", **said(tmp_path, 5))
        for n, side in [(1, 160), (5, 96)]:
            x = images(n, side)
            expected = net(classifier.preprocess.normalise(x))
            assert torch.allclose(classifier.logits(x), expected, atol=1e-5)


def test_graphs_carry_their_description(tmp_path: Path) -> None:
    described = {
        "size": 160,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "class_names": list("abcde"),
        "class_ids": list("vwxyz"),
    }
    extra = {"auditor": json.dumps(described)}
    exported = export(resnet(), tmp_path / "m.pt2", extra_files=extra)
    scripted = script(resnet(), tmp_path / "m.pt", "trace", _extra_files=extra)
    for path in (exported, scripted):
        classifier = load(f"file:{path}")
        assert classifier.class_names == tuple("abcde")
        assert classifier.class_ids == tuple("vwxyz")
        assert classifier.preprocess.mean == (0.5,) * 3


def test_digest_of_graphs(graph_file: GraphFile, tmp_path: Path) -> None:
    digests = {}
    for kind in GRAPHS:
        path, net = graph_file("resnet", kind)
        digests[kind] = load(f"file:{path}", **said(tmp_path, 5)).digest
    expected = loading.weights_digest(net.state_dict())
    assert digests["export"] == digests["trace"] == digests["script"] == expected
    assert digests["frozen-trace"] != expected


def test_script_that_cannot_be_opened_is_used_whole(
    graph_file: GraphFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path, net = graph_file("resnet", "trace")
    monkeypatch.delattr(torch._C, "_create_function_from_graph")
    classifier = load(f"file:{path}", **said(tmp_path, 5))
    check_same(classifier, net)
    assert "cannot be opened" in caplog.text
    assert [n for n, m in classifier.net.named_modules() if isinstance(m, nn.Identity)] == [
        "logits"
    ]


def test_programs_for_one_batch_size_or_for_training_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    torch.export.save(torch.export.export(vit(), (images(1),)), path)
    with pytest.raises(ModelError, match="fails on a batch of two images"):
        load(f"file:{path}", **said(tmp_path, 5))
    torch.export.save(torch.export.export(resnet().train(), (images(2),)), path)
    with pytest.raises(ModelError, match="exported in training mode; call eval"):
        load(f"file:{path}", **said(tmp_path, 5))
