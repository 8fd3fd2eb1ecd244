"""Networks and factories that fail, lie or change while they are audited."""

from __future__ import annotations

from table import Called, Fault, Place, rows


def _forward(place: Place, body: str) -> Called:
    return place.audit("--anyway", "--model", place.network(forward=body))


def _make(place: Place, body: str) -> Called:
    return place.audit("--anyway", "--model", place.network(make=body))


def _stated(place: Place, stated: tuple[str, str]) -> Called:
    forward, output = stated
    return place.audit("--anyway", "--model", place.network(forward=forward), "--output", output)


COUNTED = "self.n = getattr(self, 'n', 0) + 1\n"

MODELS_AND_OUTPUTS: tuple[Fault, ...] = (
    *rows(
        "factory",
        _make,
        {
            "gives nothing": (
                "return None",
                "python:hostile:make gives a NoneType, not a torch.nn.Module",
            ),
            "gives a function": (
                "return lambda x: x",
                "python:hostile:make gives a function, not a torch.nn.Module",
            ),
            "gives meta tensors": (
                "return Net().to('meta')",
                "gives weights without data (on the device meta)",
            ),
            "exits": ("import sys; sys.exit(0)", "fails: it ends the program with exit code 0"),
            "exits with a text": (
                "raise SystemExit('bye')",
                "fails: it ends the program with exit code 'bye'",
            ),
            "fails with a text of 1 MB": (
                "raise ValueError('x' * 10**6)",
                "called without arguments, fails: ValueError: xxx",
            ),
            "fails without a text": (
                "raise ValueError",
                "called without arguments, fails: ValueError.",
            ),
            "fails with escapes": (
                "raise ValueError('\\x1b[2J\\n[red]')",
                "The factory python:hostile:make, called without arguments, fails: ValueError:  [2J",
            ),
            "calls itself": (
                "return make()",
                "The factory python:hostile:make, called without arguments, fails: RecursionError: maximum",
            ),
            "gives NaN weights": (
                "net = Net()\nnet.head.weight.data.fill_(float('nan'))\nreturn net",
                "python:hostile:make gives logits that are not finite on a black image",
            ),
            "gives infinite weights": (
                "net = Net()\nnet.head.bias.data.fill_(float('inf'))\nreturn net",
                "python:hostile:make gives logits that are not finite on a black image",
            ),
            "gives a network of four channels": (
                "return Net(c=4)",
                "python:hostile:make fails on a batch of two images of 32 x 32 pixels with 3 channels: Given",
            ),
            "gives four classes for three names": (
                "return Net(k=4)",
                "python:hostile:make has 4 classes and there are 3 class names; give a file with one for each",
            ),
            "gives a network without parameters": (
                "net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
                "net.auditor = Net.auditor\nreturn net",
                "python:hostile:make has no parameters, by which its device and layers are told; make its",
            ),
            "describes itself with a text": (
                "net = Net()\nnet.auditor = 'x'\nreturn net",
                "The description that python:hostile:make carries cannot be used: Expecting value: line 1",
            ),
            "describes an unknown setting": (
                "net = Net()\nnet.auditor = {**net.auditor, 'x': 1}\nreturn net",
                "The description that python:hostile:make carries cannot be used: x: Extra inputs are not",
            ),
        },
    ),
    *rows(
        "network",
        _forward,
        {
            "fails": (
                "raise RuntimeError('boom')",
                "python:hostile:make fails on a batch of two images of 32 x 32 pixels with 3 channels: boom",
            ),
            "fails from the fifth batch on": (
                COUNTED + "if self.n > 4: raise RuntimeError('boom')\nreturn self.logits(x)",
                "python:hostile:make fails on a batch of 1: RuntimeError: boom",
            ),
            "fails on a batch of other than two": (
                "assert len(x) == 2, 'batches of two only'\nreturn self.logits(x)",
                "python:hostile:make fails on a batch of 6: AssertionError: batches of two only",
            ),
            "fails on one image": (
                "if len(x) == 1: raise ValueError('one')\nreturn self.logits(x)",
                "python:hostile:make fails on a batch of 1: ValueError: one",
            ),
            "exits after three batches": (
                COUNTED + "if self.n > 3: raise SystemExit(0)\nreturn self.logits(x)",
                "fails on a batch of 6: it ends the program with exit code 0",
            ),
            "gives nothing": (
                "return None",
                "python:hostile:make gives a NoneType, not a tensor of logits",
            ),
            "gives whole numbers": (
                "return self.logits(x).long()",
                "python:hostile:make gives an output of torch.int64, not a tensor of real numbers",
            ),
            "gives complex numbers": (
                "return self.logits(x).to(torch.complex64)",
                "python:hostile:make gives an output of torch.complex64, not a tensor of real numbers",
            ),
            "gives four axes": (
                "return self.logits(x)[:, :, None, None]",
                "python:hostile:make gives an output of shape (2, 3, 1, 1) for two images; logits of shape",
            ),
            "gives a row too few": (
                "return self.logits(x)[1:]",
                "python:hostile:make gives an output of shape (1, 3) for two images; logits of shape (2",
            ),
            "gives a row too few later": (
                COUNTED + "return self.logits(x)[: None if self.n < 12 else -1]",
                "python:hostile:make gives no gradient to its input (python:hostile:make gives an output of",
            ),
            "gives more classes for dark photos": (
                "y = self.logits(x)\nreturn y if x.mean() < -.9 else torch.cat([y, y], 1)",
                "python:hostile:make gives an output of shape (6, 6) for a batch of shape (6, 3, 32, 32); it",
            ),
            "gives NaN for blue photos": (
                "blue = torch.where(x[:, 2].mean([1, 2]) > .5, float('nan'), 1.)\n"
                "return self.logits(x) * blue[:, None]",
                "python:hostile:make gives logits that are not finite (NaN or infinite) for 2 of a batch of",
            ),
            "gives infinity for blue photos": (
                "blue = torch.where(x[:, 2].mean([1, 2]) > .5, float('inf'), 0.)\n"
                "return self.logits(x) + blue[:, None]",
                "python:hostile:make gives logits that are not finite (NaN or infinite) for 2 of a batch of",
            ),
            "gives no gradient": (
                "with torch.no_grad(): return self.logits(x)",
                "python:hostile:make gives no gradient to its input, which prototypes need",
            ),
            "gives a gradient of zero": (
                "return self.logits(x * 0)",
                "python:hostile:make gives a gradient to its input that is zero everywhere, and prototypes",
            ),
            "adds noise": (
                "y = self.logits(x)\nreturn y + torch.randn_like(y)",
                "python:hostile:make answers differently to the same photo when it is asked again: its logits",
            ),
            "drops at random": (
                "return self.logits(nn.functional.dropout(x, .5, True))",
                "python:hostile:make answers differently to the same photo when it is asked again: its logits",
            ),
            "changes its weights": (
                "self.head.bias.data += .1\nreturn self.logits(x)",
                "python:hostile:make answers differently to the same photo when it is asked again: its logits",
            ),
            "normalises by the batch": (
                "return self.logits(x - x.mean((0, 2, 3), keepdim=True))",
                "python:hostile:make answers differently to the same photo alone and in a batch, as a model",
            ),
            "gives labels of their own": (
                "return self.logits(x).sigmoid()",
                "python:hostile:make gives a sigmoid for each of 3 labels, so that a photo can have several",
            ),
        },
    ),
    *rows(
        "output",
        _stated,
        {
            "logits said to be probabilities": (
                ("return self.logits(x)", "probabilities"),
                "--output probabilities is said of python:hostile:make, and its outputs for photos are",
            ),
            "logits said to be logs": (
                ("return self.logits(x)", "log-probabilities"),
                "--output log-probabilities is said of python:hostile:make, and its outputs for photos are",
            ),
            "logits said to be labels": (
                ("return self.logits(x)", "sigmoid"),
                "python:hostile:make gives a sigmoid for each of 3 labels, so that a photo can have several",
            ),
            "probabilities said to be logs": (
                ("return self.logits(x).softmax(1)", "log-probabilities"),
                "--output log-probabilities is said of python:hostile:make, and its outputs for photos are",
            ),
            "one output said to be logits": (
                ("return self.logits(x)[:, :1]", "logits"),
                "python:hostile:make gives an output of shape (2, 1) for two images, one number for each; if",
            ),
        },
    ),
)
