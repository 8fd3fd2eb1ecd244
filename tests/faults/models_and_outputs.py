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
            "gives nothing": ("return None", ""),
            "gives a function": ("return lambda x: x", ""),
            "gives meta tensors": ("return Net().to('meta')", ""),
            "exits": ("import sys; sys.exit(0)", ""),
            "exits with a text": ("raise SystemExit('bye')", ""),
            "fails with a text of 1 MB": ("raise ValueError('x' * 10**6)", ""),
            "fails without a text": ("raise ValueError", ""),
            "fails with escapes": ("raise ValueError('\\x1b[2J\\n[red]')", ""),
            "calls itself": ("return make()", ""),
            "gives NaN weights": (
                "net = Net()\nnet.head.weight.data.fill_(float('nan'))\nreturn net",
                "",
            ),
            "gives infinite weights": (
                "net = Net()\nnet.head.bias.data.fill_(float('inf'))\nreturn net",
                "",
            ),
            "gives a network of four channels": ("return Net(c=4)", ""),
            "gives four classes for three names": ("return Net(k=4)", ""),
            "gives a network without parameters": (
                "net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
                "net.auditor = Net.auditor\nreturn net",
                "",
            ),
            "describes itself with a text": ("net = Net()\nnet.auditor = 'x'\nreturn net", ""),
            "describes an unknown setting": (
                "net = Net()\nnet.auditor = {**net.auditor, 'x': 1}\nreturn net",
                "",
            ),
        },
    ),
    *rows(
        "network",
        _forward,
        {
            "fails": ("raise RuntimeError('boom')", ""),
            "fails from the fifth batch on": (
                COUNTED + "if self.n > 4: raise RuntimeError('boom')\nreturn self.logits(x)",
                "",
            ),
            "fails on a batch of other than two": (
                "assert len(x) == 2, 'batches of two only'\nreturn self.logits(x)",
                "",
            ),
            "fails on one image": (
                "if len(x) == 1: raise ValueError('one')\nreturn self.logits(x)",
                "",
            ),
            "exits after three batches": (
                COUNTED + "if self.n > 3: raise SystemExit(0)\nreturn self.logits(x)",
                "",
            ),
            "gives nothing": ("return None", ""),
            "gives whole numbers": ("return self.logits(x).long()", ""),
            "gives complex numbers": ("return self.logits(x).to(torch.complex64)", ""),
            "gives four axes": ("return self.logits(x)[:, :, None, None]", ""),
            "gives a row too few": ("return self.logits(x)[1:]", ""),
            "gives a row too few later": (
                COUNTED + "return self.logits(x)[: None if self.n < 12 else -1]",
                "",
            ),
            "gives more classes for dark photos": (
                "y = self.logits(x)\nreturn y if x.mean() < -.9 else torch.cat([y, y], 1)",
                "",
            ),
            "gives NaN for blue photos": (
                "blue = torch.where(x[:, 2].mean([1, 2]) > .5, float('nan'), 1.)\n"
                "return self.logits(x) * blue[:, None]",
                "",
            ),
            "gives infinity for blue photos": (
                "blue = torch.where(x[:, 2].mean([1, 2]) > .5, float('inf'), 0.)\n"
                "return self.logits(x) + blue[:, None]",
                "",
            ),
            "gives no gradient": ("with torch.no_grad(): return self.logits(x)", ""),
            "gives a gradient of zero": ("return self.logits(x * 0)", ""),
            "adds noise": ("y = self.logits(x)\nreturn y + torch.randn_like(y)", ""),
            "drops at random": ("return self.logits(nn.functional.dropout(x, .5, True))", ""),
            "changes its weights": ("self.head.bias.data += .1\nreturn self.logits(x)", ""),
            "normalises by the batch": (
                "return self.logits(x - x.mean((0, 2, 3), keepdim=True))",
                "",
            ),
            "gives labels of their own": ("return self.logits(x).sigmoid()", ""),
        },
    ),
    *rows(
        "output",
        _stated,
        {
            "logits said to be probabilities": (("return self.logits(x)", "probabilities"), ""),
            "logits said to be logs": (("return self.logits(x)", "log-probabilities"), ""),
            "logits said to be labels": (("return self.logits(x)", "sigmoid"), ""),
            "probabilities said to be logs": (
                ("return self.logits(x).softmax(1)", "log-probabilities"),
                "",
            ),
            "one output said to be logits": (("return self.logits(x)[:, :1]", "logits"), ""),
        },
    ),
)
