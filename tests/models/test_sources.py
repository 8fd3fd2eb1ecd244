"""Every documented kind of model source, audited from end to end on tiny networks."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from tiny import Stripes
from torch import nn

from auditor.config import AuditConfig
from auditor.errors import ModelError
from auditor.models import loading
from auditor.models.layers import find_layers
from auditor.pipeline import runner

SIDE = 64
FACTORY = """
import torch
from tiny import Stripes

def plain():
    return Stripes()

def half():
    return Stripes().half()

def quantised():
    return torch.ao.quantization.quantize_dynamic(Stripes(), {torch.nn.Linear})
"""


@pytest.fixture
def audited(project):
    """An audit of a model in the user's folder."""
    project.filled(factory=FACTORY, n=6, side=SIDE)

    def run(spec, **options):
        stated = {"size": SIDE, "mean": [0.5] * 3, "std": [0.5] * 3, "class_names": "names.json"}
        settings = project.settings(model={"spec": spec, **stated, **options}, anyway=True, batch=4)
        return runner.run(AuditConfig.model_validate(settings))

    return run


def script(how, path="m.pt", net=None):
    net = Stripes().eval() if net is None else net
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.rand(2, 3, SIDE, SIDE)
        if how == "traced":
            saved = torch.jit.trace(net, example, check_trace=False)
        else:
            saved = torch.jit.script(net)
        torch.jit.save(saved, path)
    return f"file:{path}"


def exported():
    batch = torch.export.Dim("batch", min=1, max=256)
    example = torch.rand(2, 3, SIDE, SIDE)
    program = torch.export.export(Stripes().eval(), (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, "m.pt2")
    return "file:m.pt2"


def of_library(library):
    torch.manual_seed(0)
    if library == "timm":
        net, name = timm.create_model("test_resnet", num_classes=2), "test_resnet"
    else:
        import torchvision

        net = torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=2)
        name = "shufflenet_v2_x0_5"
    safetensors.torch.save_file(net.state_dict(), "w.safetensors")
    return f"{library}:{name}"


def of_transformers(kind):
    import transformers

    two: dict[str, Any] = {"num_labels": 2}
    net: transformers.PreTrainedModel
    torch.manual_seed(0)
    if kind == "vit":
        vit = transformers.ViTConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
            image_size=SIDE, patch_size=16, **two,
        )  # fmt: skip
        net = transformers.ViTForImageClassification(vit)
    else:
        convnext = transformers.ConvNextConfig(
            hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, **two
        )
        net = transformers.ConvNextForImageClassification(convnext).half()
    net.eval().save_pretrained("folder")
    return "hf:folder"


def mlflow_model():
    mlflow = pytest.importorskip("mlflow")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pytorch.save_model(
            Stripes().eval(), "logged", serialization_format="pickle",
            input_example=torch.rand(2, 3, SIDE, SIDE).numpy(), pip_requirements=["torch"],
        )  # fmt: skip
    return "mlflow:logged"


SOURCES: dict[str, tuple[Callable[[], str], dict[str, Any]]] = {
    "python": (lambda: "python:mine:plain", {}),
    "half precision": (lambda: "python:mine:half", {}),
    "traced": (lambda: script("traced"), {}),
    "scripted": (lambda: script("scripted"), {}),
    "exported": (exported, {}),
    "timm": (lambda: of_library("timm"), {"weights": "w.safetensors"}),
    "torchvision": (lambda: of_library("torchvision"), {"weights": "w.safetensors"}),
    "vit": (lambda: of_transformers("vit"), {}),
    "convnext in half precision": (lambda: of_transformers("convnext"), {}),
    "mlflow": (mlflow_model, {"trust_code": True}),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_is_audited_from_end_to_end(audited, source):
    make, options = SOURCES[source]
    done = audited(make(), **options)
    assert len(done.classes) == 2
    codes = [remark.code for remark in done.coverage.remarks]
    assert ("weights-in-another-precision" in codes) == ("half" in source)
    assert done.provenance.model_input.output == "logits"
    saved = json.loads(Path("audit/audit.json").read_text())
    assert all(row["prototypes"] for row in saved["classes"])


def test_quantised_models_are_refused_before_work(audited):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ModelError, match=r"^python:mine:quantised gives no gradient to its"):
            audited("python:mine:quantised")
    assert not list(Path("audit").rglob("*.safetensors"))


def test_a_script_that_was_traced_while_training_is_refused(audited):
    net = nn.Sequential(Stripes(), nn.Dropout(0.5)).train()
    with pytest.raises(ModelError, match="answers differently to the same photo"):
        audited(script("traced", net=net))


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(1)])
@pytest.mark.parametrize("kind", ["traced", "scripted", "exported"])
def test_the_end_of_a_graph_is_a_module_that_can_be_taken_off(tmp_path, end, kind):
    from auditor.config import ModelConfig
    from auditor.models import activations, outputs

    net = nn.Sequential(Stripes(), end).eval()
    example = torch.rand(2, 3, SIDE, SIDE)
    path = tmp_path / ("m.pt2" if kind == "exported" else "m.pt")
    if kind == "exported":
        batch = torch.export.Dim("batch", min=1, max=256)
        program = torch.export.export(net, (example,), dynamic_shapes=({0: batch},))
        torch.export.save(program, path)
    else:
        script(kind, path, net)
    (tmp_path / "names.txt").write_text("across\nalong\n")
    config = ModelConfig(
        spec=f"file:{path}", size=(SIDE, SIDE), mean=(0.5,) * 3, std=(0.5,) * 3,
        class_names=str(tmp_path / "names.txt"),
    )  # fmt: skip
    model = loading.load(config, device=torch.device("cpu"))
    reading = outputs.read(model.net, lambda m: m(example), stated="auto", spec="mine")
    assert "was taken off" in reading.remarks[0].text
    with torch.no_grad():
        torch.testing.assert_close(reading.net(example), net[0](example))
    layers = find_layers(model)
    assert layers.linear
    torch.testing.assert_close(
        torch.from_numpy(activations.head_weights(model, layers, example)),
        net.get_parameter("0.head.weight").data,
    )
