"""What a model is tried for on photos before any work, and how its output is read."""

import io
import re
import signal
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import classifier
from torch import nn
from torch.nn import functional as F

from auditor.config import ModelConfig
from auditor.core.storage import digest_bytes
from auditor.errors import ModelError
from auditor.images.image_set import ImageSet
from auditor.models import activations, foreign, hardware, outputs
from auditor.models.layers import find_layers
from auditor.pipeline import model_check

SIDE = 16


class Plain(nn.Module):
    """A convolution, an activation, a mean and a linear layer."""

    def __init__(self, classes=3, tail=None):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, 2)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, classes)
        self.tail = tail if tail is not None else nn.Identity()
        with torch.no_grad():
            self.fc.weight.mul_(20)

    def features(self, x):
        return self.norm(self.conv(x)).relu().mean((2, 3))

    def forward(self, x):
        return self.tail(self.fc(self.features(x)))


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    data = []
    for _ in range(12):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(file, "PNG")
        data.append(file.getvalue())
    return ImageSet(
        ids=tuple(f"p{k}.png" for k in range(12)),
        labels=(0, 1, 2) * 4,
        digests=tuple(map(digest_bytes, data)),
        quarantined=(),
        read=data.__getitem__,
    )


def tried(net, photos, n_classes=3, output="auto", **options):
    model = classifier(net, SIDE, n_classes)
    config = ModelConfig(spec="python:mine:net", output=output, **options)
    return model_check.tried(model, config, model_check.sampled(photos), batch=8)


def logits_of(model, photos):
    batch = torch.cat(list(photos.batches(model.preprocess.fit, size=len(photos))))
    with torch.no_grad():
        return model.logits(batch)


def test_photos_are_spread_over_classes(photos):
    assert {photos.labels[photos.ids.index(k)] for k in model_check.sampled(photos).ids} == {
        0,
        1,
        2,
    }
    assert len(model_check.sampled(photos.subset([3]))) == 1


def test_an_ordinary_model_passes_as_it_is(photos):
    net = Plain()
    model, layers = tried(net, photos)
    assert model.net is net
    assert (model.output, model.shortcuts, model.remarks) == ("logits", True, ())
    assert layers.linear
    assert not layers.overwritten


class Changed(Plain):
    """A model whose forward pass does something odd to the logits."""

    def __init__(self, what):
        super().__init__()
        self.what, self.calls = what, 0

    def forward(self, x):
        self.calls += 1
        return ODD[self.what](self, x, super().forward(x))


def raised(error):
    raise error


ODD = {
    "noise": lambda m, x, y: y + torch.randn_like(y),
    "dropout": lambda m, x, y: F.dropout(y, 0.5, training=True),
    "weights": lambda m, x, y: (m.fc.bias.data.add_(torch.tensor([1.0, 0, 0])), y)[1],
    "later": lambda m, x, y: y if m.calls < 9 else y + torch.tensor([1.0, 0, 0]),
    "statistics": lambda m, x, y: y - y.mean(0),
    "batch softmax": lambda m, x, y: y.softmax(0),
    "order": lambda m, x, y: y + torch.arange(len(y))[:, None] * torch.tensor([1.0, 0, 0]),
    "large batches": lambda m, x, y: y if len(y) < 7 else y.flip(1),
    "squeezed": lambda m, x, y: y.squeeze(),
    "short": lambda m, x, y: y[:-1] if len(y) > 1 else y,
    "wide": lambda m, x, y: y if len(y) > 1 else torch.cat([y, y], 1),
    "complex": lambda m, x, y: y.to(torch.complex64),
    "integers": lambda m, x, y: y.long(),
    "nan": lambda m, x, y: torch.where(torch.arange(len(y))[:, None] == 2, torch.nan, y),
    "raises": lambda m, x, y: y if len(y) > 1 else raised(ValueError("one")),
    "exits": lambda m, x, y: y if m.calls < 4 else sys.exit(0),
    "stops": lambda m, x, y: y if m.calls < 4 else raised(KeyboardInterrupt()),
    "detached": lambda m, x, y: y.detach() + 0 * x.sum(),
    "rounded": lambda m, x, y: y.detach().mul(4).round() + 0 * x.sum(),
}


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("noise", "differently to the same photo when it is asked again"),
        ("dropout", "differently to the same photo when it is asked again"),
        ("weights", "differently to the same photo when it is asked again"),
        ("later", "differently to the same photo"),
        ("statistics", "differently to the same photo alone and in a batch"),
        ("batch softmax", "differently to the same photo alone|between 0 and 1"),
        ("order", "differently to the same photo (alone|in another order)"),
        ("large batches", "differently to the same photo in a batch of 8"),
        ("squeezed", r"shape \(3,\) for a batch of shape \(1, 3, 16, 16\)"),
        ("short", r"shape \(5, 3\) for a batch of shape \(6"),
        ("wide", r"shape \(1, 6\)"),
        ("complex", r"output of torch\.complex64, not a tensor of real numbers"),
        ("integers", r"output of torch\.int64"),
        ("nan", r"not finite \(NaN or infinite\) for 1 of a batch of 6; the first is p[0-9]+"),
        ("raises", "fails on a batch of 1: ValueError: one"),
        ("exits", "ends the program with exit code 0"),
        ("detached", "gradient to its input that is zero everywhere"),
        ("rounded", "gradient to its input that is zero everywhere"),
    ],
)
def test_models_that_cannot_be_audited_are_told_on_the_first_photos(photos, what, told):
    with pytest.raises(ModelError, match=told):
        tried(Changed(what), photos)


def test_features_that_are_not_finite_are_told_with_the_photo(photos):
    class Masked(Plain):
        def forward(self, x):
            z = self.features(x)
            z = torch.where(torch.arange(len(x))[:, None] == 1, torch.inf, z)
            return self.fc(z).nan_to_num(0, 0, 0)

    model = classifier(Masked(), SIDE, 3)
    layers = find_layers(model)
    images = photos.batches(model.preprocess.fit, size=4)
    with pytest.raises(ModelError, match=r"features that are not finite .* the first is p1\.png"):
        activations.collect(model, layers, images, names=photos.ids)


def test_later_batches_that_fail_are_one_sentence(photos):
    model, layers = tried(Plain(), photos)
    model.net.forward = lambda x: raised(RuntimeError("boom"))
    with pytest.raises(ModelError, match=r"tiny fails on a batch of 4: RuntimeError: boom\.$"):
        activations.collect(model, layers, photos.batches(model.preprocess.fit, size=4))


def test_what_a_model_changes_for_all_is_put_back(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Rude(Plain):
        def forward(self, x):
            y = super().forward(x)
            torch.set_default_dtype(torch.float64)
            torch.set_grad_enabled(not torch.is_grad_enabled())
            monkeypatch.chdir("/")
            return y

    tried(Rude(), photos)
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert tmp_path.samefile(".")


def test_an_interrupt_by_foreign_code_is_no_ctrl_c():
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), foreign.ForeignCode():
            raise KeyboardInterrupt  # which Ctrl-C raises too
        signal.signal(signal.SIGINT, lambda *_: None)
        with pytest.raises(foreign.StrangeEnd, match="KeyboardInterrupt"), foreign.ForeignCode():
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("fault", ["raises", "nan", "zero"])
def test_a_model_that_fails_in_bfloat16_is_optimised_in_float32(photos, monkeypatch, fault):
    class Picky(Plain):
        def forward(self, x):
            y = super().forward(x)
            if not torch.is_autocast_enabled("cpu"):
                return y
            if fault == "raises":
                raise RuntimeError("no kernel for bfloat16")
            return y * torch.nan if fault == "nan" else y * 0

    monkeypatch.setattr(hardware, "bfloat16_pays", lambda net, device: True)
    model, _ = tried(Plain(), photos)
    assert model.shortcuts
    model, _ = tried(Picky(), photos)
    assert not model.shortcuts
    assert [remark.code for remark in model.remarks] == ["prototypes-in-float32"]
    assert "made in float32" in model.remarks[0].text
    run, autocast = hardware.for_gradients(model)
    assert run.net is model.net
    assert not autocast._enabled


def test_a_head_that_is_no_module_is_its_gradient(photos):
    class Cosine(Plain):
        def __init__(self):
            super().__init__()
            self.text = nn.Parameter(self.fc.weight.detach().clone())
            del self.fc

        def forward(self, x):
            return 20 * F.normalize(self.features(x), dim=1) @ F.normalize(self.text, dim=1).T

    model, layers = tried(Cosine(), photos, output="logits")
    assert not layers.linear
    images = torch.rand(2, 3, SIDE, SIDE)
    assert activations.head_weights(model, layers, images).shape == (3, 8)


def test_a_head_that_is_not_linear_after_all_is_its_gradient(photos):
    class Bent(Plain):
        def forward(self, x):
            return super().forward(x).tanh() * 3

    assert not tried(Bent(), photos)[1].linear


# --- outputs -------------------------------------------------------------------------------------


class Functional(Plain):
    def __init__(self, function, classes=3, scale=1.0):
        super().__init__(classes)
        self.function = function
        self.fc.weight.data.mul_(scale)

    def forward(self, x):
        return self.function(super().forward(x))


def same_but_for_a_shift(one, other):
    torch.testing.assert_close(one.log_softmax(1), other.log_softmax(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classes", [3, 200])
@pytest.mark.parametrize(
    ("net", "output", "exact"),
    [
        (lambda k: Plain(k, nn.Softmax(1)), "probabilities", True),
        (lambda k: nn.Sequential(Plain(k), nn.Softmax(dim=-1)), "probabilities", True),
        (lambda k: Plain(k, nn.LogSoftmax(1)), "log-probabilities", True),
        (lambda k: Functional(lambda y: y.softmax(1), k), "probabilities", False),
        (lambda k: Functional(lambda y: F.log_softmax(y, 1), k), "log-probabilities", False),
    ],
)
def test_probabilities_are_turned_back_into_logits(photos, net, output, exact, classes):
    torch.manual_seed(0)
    model, layers = tried(net(classes), photos, classes)
    assert model.output == output
    (remark,) = model.remarks
    assert remark.code == f"outputs-are-{output}"
    assert not remark.serious
    assert ("was taken off" in remark.text) == exact
    plain = classifier(Plain(classes), SIDE, classes)
    given, wanted = logits_of(model, photos), logits_of(plain, photos)
    same_but_for_a_shift(given, wanted)
    if exact:
        assert torch.equal(given, wanted)
    assert layers.features.endswith("fc")  # the head and its weights are those of the logits
    images = torch.rand(2, 3, SIDE, SIDE)
    weights = activations.head_weights(model, layers, images)
    np.testing.assert_allclose(weights, plain.net.get_parameter("fc.weight").numpy(), atol=1e-4)
    assert layers.linear
    assert tried(net(classes), photos, classes, output=output)[0].output == output


def test_logits_far_apart_survive_a_softmax_that_can_be_taken_off(photos):
    far = nn.Sequential(Functional(lambda y: y * 100), nn.Softmax(1))
    model, _ = tried(far, photos)
    assert float(logits_of(model, photos).log_softmax(1).min()) < -150  # where a float is 0
    with pytest.raises(ModelError, match="zero everywhere"):
        tried(Functional(lambda y: (y * 1000).softmax(1)), photos)
    model, _ = tried(Functional(lambda y: (y * 30).softmax(1)), photos)
    (remark,) = model.remarks
    assert remark.serious == ("ends before its softmax" in remark.text)


def test_a_softmax_that_is_used_inside_is_not_taken_off(photos):
    class Gated(Plain):
        def __init__(self):
            super().__init__()
            self.gate = nn.Softmax(1)

        def forward(self, x):
            return super().forward(x).mul(self.gate(self.features(x)).max()).softmax(1)

    net = Gated()
    images = torch.rand(4, 3, SIDE, SIDE)
    with torch.no_grad():
        before = net.eval()(images)
        reading = outputs.read(net, lambda m: m(images), stated="auto", spec="mine")
        same_but_for_a_shift(reading.net(images), before.log())
    assert isinstance(net.gate, nn.Softmax)


@pytest.mark.parametrize(
    ("net", "output", "told"),
    [
        (Plain, "probabilities", "--output probabilities is said .* are logits: .* lie between"),
        (Plain, "log-probabilities", "--output log-probabilities is said"),
        (lambda: Plain(3, nn.Softmax(1)), "logits", "--output logits .* are probabilities"),
        (lambda: Plain(3, nn.LogSoftmax(1)), "probabilities", "are log-probabilities"),
        (lambda: Plain(3, nn.Sigmoid()), "auto", "a sigmoid for each of 3 labels"),
        (lambda: Plain(3, nn.Sigmoid()), "logits", "a sigmoid for each of 3 labels"),
        (lambda: Functional(torch.sigmoid), "auto", "audit one label at a time"),
        (Plain, "sigmoid", "a sigmoid for each of 3 labels"),
        (lambda: Functional(lambda y: y.tanh() / 2 + 0.5), "auto", "do not add up to 1"),
    ],
)
def test_outputs_that_contradict_or_are_of_several_labels_are_refused(photos, net, output, told):
    with pytest.raises(ModelError, match=told):
        tried(net(), photos, output=output)


def test_logits_between_0_and_1_can_be_stated(photos):
    net = Functional(lambda y: y.tanh() / 2 + 0.5)
    assert tried(net, photos, output="logits")[0].output == "logits"
    small = Plain()
    small.fc.weight.data.mul_(1e-3)
    small.fc.bias.data.fill_(0.5)
    assert tried(small, photos)[0].output == "logits"  # a linear layer gives no probabilities


class Single(Plain):
    def __init__(self, function=lambda y: y, tail=None):
        super().__init__(1, tail)
        self.function = function

    def forward(self, x):
        return self.function(super().forward(x))


@pytest.mark.parametrize(
    ("net", "output"),
    [
        (Single, "sigmoid"),
        (lambda: Single(lambda y: y[:, 0]), "sigmoid"),
        (lambda: Single(tail=nn.Sigmoid()), "auto"),
        (lambda: Single(lambda y: y.squeeze(1), tail=nn.Sigmoid()), "sigmoid"),
        (lambda: Single(torch.sigmoid), "auto"),
        (lambda: Single(torch.sigmoid), "probabilities"),
        (lambda: Single(lambda y: 1 / (1 + (-y).exp())), "probabilities"),
    ],
)
def test_a_single_number_is_audited_as_two_classes(photos, net, output):
    from auditor.models.loading import _tried

    config = ModelConfig(spec="python:mine:net", output=output)
    model = classifier(net(), SIDE, 2)
    wrapped, n_classes = _tried(model.net, model.preprocess, config, torch.device("cpu"))
    assert n_classes == 2
    model, layers = tried(wrapped, photos, 2, output=output)
    assert model.output == "sigmoid"
    assert [remark.code for remark in model.remarks] == ["one-output-for-two-classes"]
    wanted = logits_of(classifier(Plain(1), SIDE, 1), photos)[:, 0]
    given = logits_of(model, photos)
    assert not given[:, 0].any()
    torch.testing.assert_close(given[:, 1], wanted, rtol=1e-4, atol=1e-4)
    weights = activations.head_weights(model, layers, torch.rand(2, 3, SIDE, SIDE))
    assert layers.features.endswith("fc")
    assert not weights[0].any()
    np.testing.assert_allclose(weights[1], Plain(1).fc.weight[0].detach().numpy(), rtol=1e-3)


@pytest.mark.parametrize("output", ["auto", "logits", "log-probabilities"])
def test_a_single_number_that_nothing_is_known_of_is_asked_about(output):
    from auditor.models.loading import _tried

    config = ModelConfig(spec="python:mine:net", output=output)
    model = classifier(Single(), SIDE, 2)
    with pytest.raises(ModelError, match=r"shape \(2, 1\) .* one number for each; .* --output"):
        _tried(model.net, model.preprocess, config, torch.device("cpu"))


def test_a_multi_label_configuration_is_refused():
    net = Plain()
    net.config = type("Config", (), {"problem_type": "multi_label_classification"})()
    with pytest.raises(ModelError, match="problem_type, so that a photo can have several"):
        outputs.refuse_multi_label(nn.Sequential(net), "hf:mine")


# --- layers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", ["relu", "add", "view", "none"])
def test_what_is_overwritten_later_is_copied(overwrite):
    class Over(Plain):
        def forward(self, x):
            y = self.norm(self.conv(x))
            if overwrite == "relu":
                F.relu(y, inplace=True)
            elif overwrite == "add":
                y += 1
            elif overwrite == "view":
                y.flatten(2).mul_(2)
            return self.fc(y.mean((2, 3)))

    net = Over()
    model = classifier(net, SIDE, 3)
    layers = find_layers(model, ("conv", "norm"))
    assert layers.overwritten == (frozenset() if overwrite == "none" else {"norm"})
    images = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        own = net.norm(net.conv(model.preprocess.normalise(images)))
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode(), activations.recorded(model.net, layers) as values:
            model.logits(images.clone().requires_grad_(mode is torch.enable_grad))
        torch.testing.assert_close(values["norm"], own)


def test_features_that_are_overwritten_keep_their_gradient():
    class Over(Plain):
        def forward(self, x):
            y = self.norm(self.conv(x)).mean((2, 3))
            z = self.mark(y)
            z.relu_()
            return z @ self.fc.weight.T.clone()

        def __init__(self):
            super().__init__()
            self.mark = nn.Identity()

    model = classifier(Over(), SIDE, 3)
    layers = find_layers(model, ("conv",))
    assert layers.features == "mark"
    assert "" in layers.overwritten
    images = torch.rand(4, 3, SIDE, SIDE)
    seen = activations.collect(model, layers, [images])
    assert (seen.features < 0).any()
    assert activations.head_weights(model, layers, images).shape == (3, 8)


class Axes(nn.Module):
    """Maps of as many channels as rows or columns, and tokens, in one network."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.norm = nn.LayerNorm(16)  # of channels-last maps, as in Swin and ConvNeXt
        self.mix = nn.Linear(16, 16)
        self.block = nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU())
        self.tokens = nn.Linear(16, 16)
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        x = self.pool(self.stem(x))
        x = self.mix(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        x = self.block(x)
        return self.fc(self.tokens(x.flatten(2).transpose(1, 2)).mean(1))


@pytest.mark.parametrize("size", [(64, 32), (32, 64), (64, 64), (64, 48)])
def test_the_channel_axis_is_that_of_the_operation(size):
    from auditor.models.loading import Preprocess

    model = classifier(Axes(), 64, 4)
    object.__setattr__(model, "preprocess", Preprocess(size, (0.5,) * 3, (0.5,) * 3, min(size)))
    names = ("stem", "pool", "norm", "mix", "block", "tokens")
    layers = find_layers(model, names[:1] + names[2:])
    assert [layers.channel_axis[k] for k in layers.path] == [1, 3, 3, 1, 2]
    assert layers.channel_axis[""] == 1
    seen = activations.collect(model, layers, [torch.rand(2, 3, *size)])
    assert {rows.shape[1] for rows in seen.path.values()} == {16}


@pytest.mark.parametrize(
    ("name", "part", "axis"),
    [
        ("swin", r"^layers", 3),
        ("convnext", "", 1),
        ("test_vit", r"^blocks\.\d+(\.(norm\d|mlp.*))?$", 2),
        ("shufflenet", "", 1),
    ],
)
def test_the_channel_axis_of_known_families(name, part, axis):
    import timm
    import torchvision

    torch.manual_seed(0)
    if name == "shufflenet":
        net = torchvision.models.shufflenet_v2_x0_5(num_classes=4)
    elif name.startswith("swin"):
        net = timm.models.SwinTransformer(
            img_size=64, embed_dim=16, depths=(1, 1), num_heads=(1, 2), window_size=4, num_classes=4
        )
    elif name == "test_vit":
        net = timm.create_model(name, num_classes=4, img_size=64)
    else:
        net = timm.models.ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), num_classes=4)
    model = classifier(net, 64, 4)
    layers = find_layers(model)
    assert {layers.channel_axis[k] for k in layers.path if re.search(part, k)} == {axis}
