"""Settings and command lines that cannot be used."""

from __future__ import annotations

from typing import Any

from miniature import called
from table import Called, Fault, Place, rows


def _settings(place: Place, changes: dict[str, Any]) -> Called:
    return place.audit(**changes)


def _file(place: Place, file: tuple[str, str | bytes]) -> Called:
    return called("audit", place.write(*file))


def _line(place: Place, line: list[str]) -> Called:
    place.settled()
    return called(*line)


AUDIT = ["audit", "conf.yaml"]
HEAD = "model: x\nimages: y\n"
BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)
MERGES = "a0: &a0 {k: v}\n" + "".join(
    f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)

SETTINGS_AND_LINES: tuple[Fault, ...] = (
    *rows(
        "setting",
        _settings,
        {
            "a seed of 19 digits": ({"seed": 10**19}, "seed = 10000000000000000000 cannot be used"),
            "a seed below 0": ({"seed": -1}, "seed = -1 cannot be used"),
            "a seed that is no whole number": ({"seed": 1.5}, "seed = 1.5 cannot be used"),
            "batch 0": ({"batch": 0}, "batch = 0 cannot be used"),
            "batch 10**9": ({"batch": 10**9}, "batch = 1000000000 cannot be used"),
            "std 0": ({"model__std": [0.0, 1.0, 1.0]}, "model.std.0 = 0.0 cannot be used"),
            "std of two channels": (
                {"model__std": [1.0, 1.0]},
                "The preprocessing of python:nets:make cannot be used: mean (0.5, 0.5, 0.5) and std (1.0",
            ),
            "std empty": (
                {"model__std": [], "model__mean": [0.0]},
                "The preprocessing of python:nets:make cannot be used: mean (0.0,) and std (0.25, 0.25",
            ),
            "std 1e-300": (
                {"model__std": [1e-300] * 3},
                "The preprocessing of python:nets:make cannot be used: std (1e-300, 1e-300, 1e-300) leaves",
            ),
            "mean 1e300": (
                {"model__mean": [1e300, 0.0, 0.0]},
                "The preprocessing of python:nets:make cannot be used: mean 1e+300,0,0 and std",
            ),
            "mean of two channels": (
                {"model__mean": [0.5, 0.5]},
                "The preprocessing of python:nets:make cannot be used: mean (0.5, 0.5) and std (0.25",
            ),
            "size 7": ({"model__size": 7}, "model.size = 7 cannot be used"),
            "size 10**9": ({"model__size": 10**9}, "model.size = 1000000000 cannot be used"),
            "size of three numbers": (
                {"model__size": [32, 32, 3]},
                "model.size = [32, 32, 3] cannot be used",
            ),
            "aspect unknown": (
                {"model__aspect": "squash"},
                "model.aspect = 'squash' cannot be used",
            ),
            "interpolation unknown": (
                {"model__interpolation": "magic"},
                "model.interpolation = 'magic' cannot be used",
            ),
            "channels unknown": (
                {"model__channels": "gbr"},
                "model.channels = 'gbr' cannot be used",
            ),
            "pixel range unknown": (
                {"model__pixel_range": "-1-1"},
                "model.pixel_range = '-1-1' cannot be used",
            ),
            "background that is no colour": (
                {"model__background": "#12"},
                "model.background = '#12' cannot be used: String should match pattern",
            ),
            "bit depth 7": ({"model__bit_depth": 7}, "model.bit_depth = 7 cannot be used"),
            "bit depth 17": ({"model__bit_depth": 17}, "model.bit_depth = 17 cannot be used"),
            "orientation unknown": (
                {"model__orientation": "upright"},
                "model.orientation = 'upright' cannot be used",
            ),
            "output unknown": (
                {"model__output": "softmax"},
                "model.output = 'softmax' cannot be used",
            ),
            "labels unknown": ({"labels": "number"}, "labels = 'number' cannot be used"),
            "a layer that is not there": (
                {"model__layers": ["nope"]},
                "The model has no layer 'nope'; its layers are called conv, norm, conv2, act, pool, head",
            ),
            "no layers": (
                {"model__layers": []},
                "No layers were found in the model; name some with --layers",
            ),
            "a layer with a NUL": (
                {"model__layers": ["a\0"]},
                "The model has no layer 'a\\x00'; its layers are called conv, norm, conv2, act, pool, head",
            ),
            "an unknown setting": (
                {"nonsense": 1},
                "There is no setting nonsense; check its spelling",
            ),
            "an unknown inner setting": (
                {"prototypes__steeps": 3},
                "There is no setting prototypes.steeps; check its spelling",
            ),
            "images a number": ({"images": 7}, "images = 7 cannot be used"),
            "images a list": ({"images": ["a"]}, "images = ['a'] cannot be used"),
            "images with a NUL": (
                {"images": "a\0b"},
                "There is no folder or manifest a b; check the path",
            ),
            "pool with a NUL": (
                {"pool": "a\0b"},
                "There is no folder or manifest a b; check the path",
            ),
            "out with a NUL": (
                {"out": "a\0b"},
                "Cannot use a b as run folder: embedded null byte; choose another --out",
            ),
            "concepts with a NUL": (
                {"concepts": "a\0b"},
                "Cannot read the concepts 'a\\x00b': embedded null byte",
            ),
            "planted with a NUL": (
                {"planted": "a\0b"},
                "planted = a b cannot be used: embedded null byte",
            ),
            "probe with a NUL": (
                {"probe": "open_clip:ViT-B-32/a\0b"},
                "--probe 'open_clip:ViT-B-32/a\\x00b': 'a\\x00b' is neither a file nor published weights of",
            ),
            "probe folder with a NUL": (
                {"probe": "open_clip:a\0b"},
                "--probe 'open_clip:a\\x00b': 'a\\x00b' is neither a folder nor a model that OpenCLIP knows",
            ),
            "weights with a NUL": (
                {"model__spec": "torchvision:resnet18", "model__weights": "a\0b"},
                "There is no weights file a b; check the path",
            ),
            "class names with a NUL": (
                {"model__class_names": "a\0"},
                "Cannot read the class names a : embedded null byte",
            ),
            "model with a NUL": (
                {"model__spec": "file:a\0"},
                "There is no model file a ; check the path",
            ),
            "hf with a NUL": (
                {"model__spec": "hf:a\0"},
                "hf:a  cannot be loaded as an image classifier with safetensors, from its config.json and",
            ),
            "python with a NUL": (
                {"model__spec": "python:a\0:b"},
                "or PYTHONPATH: ModuleNotFoundError: No module named 'a\\x00'",
            ),
            "prototypes a number": ({"prototypes": 3}, "prototypes = 3 cannot be used"),
            "model a number": ({"model": 3}, "model = 3 cannot be used"),
            "model a list": ({"model": [1]}, "model = [1] cannot be used"),
            "classes a text": ({"classes": "x"}, "classes = 'x' cannot be used"),
            "classes empty": ({"classes": []}, "classes = [] cannot be used"),
            "a class that is not there": (
                {"classes": ["zebra"]},
                "The model has no class 'zebra'; give classes an index from 0 to 2, a folder id or a name",
            ),
            "steps 0": ({"prototypes__steps": 0}, "prototypes.steps = 0 cannot be used"),
            "a million prototypes of a class": (
                {"prototypes__per_class": 10**6},
                "prototypes.per_class = 1000000 cannot be used",
            ),
            "probability 1": (
                {"prototypes__probability": 1.0},
                "prototypes.probability = 1.0 cannot be used",
            ),
            "mode unknown": (
                {"prototypes__mode": "magic"},
                "prototypes.mode = 'magic' cannot be used",
            ),
            "diversity below 0": (
                {"prototypes__diversity": -1.0},
                "prototypes.diversity = -1.0 cannot be used",
            ),
            "10**9 permutations": (
                {"statistics__permutations": 10**9},
                "statistics.permutations = 1000000000 cannot be used",
            ),
            "expected of no class": (
                {"expected": {"zebra": ["sky"]}},
                "The model has no class 'zebra'; give expected an index from 0 to 2, a folder id or a name",
            ),
            "expected no concept": (
                {"expected": {"0": ["zzz"]}},
                "expected['0'] names the concept 'zzz', which is not among the 2 of the bank; check its",
            ),
            "expected a text": ({"expected": {"0": "sky"}}, "expected.0 = 'sky' cannot be used"),
            "self-test of 10**9": (
                {"self_test__planted": 10**9},
                "self_test.planted = 1000000000 cannot be used",
            ),
            "device unknown": (
                {"device": "tpu"},
                "Device 'tpu' cannot be used on this machine; choose auto, cpu, cuda or mps",
            ),
            "device meta": (
                {"device": "meta"},
                "Device 'meta' cannot be used on this machine; choose auto, cpu, cuda or mps",
            ),
            "probe empty": (
                {"probe": ""},
                "--probe '' is unknown: give offline or open_clip:MODEL/PRETRAINED, such as",
            ),
            "probe unknown": (
                {"probe": "clip"},
                "--probe 'clip' is unknown: give offline or open_clip:MODEL/PRETRAINED, such as",
            ),
            "probe without a model": (
                {"probe": "open_clip:"},
                "--probe 'open_clip:' is unknown: give offline or open_clip:MODEL/PRETRAINED, such as",
            ),
            "probe of an unknown tag": (
                {"probe": "open_clip:ViT-B-32/nope"},
                "--probe 'open_clip:ViT-B-32/nope': 'nope' is neither a file nor published weights of",
            ),
            "probe weights that are none": (
                {"probe": "open_clip:ViT-B-32/bank.toml"},
                "--probe 'open_clip:ViT-B-32/bank.toml': give the checkpoint as a .safetensors file",
            ),
            "the audited model as second": (
                {"second_model": {"spec": "python:nets:make"}},
                "second_model = python:nets:make has the weights of the audited model; a model that took",
            ),
            "a second model that is missing": (
                {"second_model": {"spec": "file:nowhere.pt"}},
                "There is no model file nowhere.pt; check the path",
            ),
            "a second model without a name": (
                {"second_model": {}},
                "second_model.spec is missing: give --second-model or set it in the file",
            ),
            "planted that is missing": (
                {"planted": "nowhere.json"},
                "planted = nowhere.json cannot be used: No such file or directory",
            ),
            "planted that is no list": (
                {"planted": "nets.py"},
                "planted = nets.py cannot be used: Expecting value: line 2 column 1 (char 1)",
            ),
        },
    ),
    *rows(
        "settings file",
        _file,
        {
            "NaN": (
                ("c.toml", "images = 'x'\n[model]\nspec = 'x'\nmean = [nan, 0.0, 0.0]\n"),
                "model.mean.0 = nan cannot be used",
            ),
            "infinity": (
                ("c.toml", "images = 'x'\n[model]\nspec = 'x'\nstd = [inf, 1.0]\n"),
                "model.std.0 = inf cannot be used",
            ),
            "a key twice": (
                ("c.toml", "seed = 1\nseed = 2\n"),
                "cannot be parsed: Cannot overwrite a value (at line 2, column 9)",
            ),
            "TOML 100,000 deep": (
                ("c.toml", "a = " + "[" * 10**5 + "\n"),
                "cannot be parsed: maximum recursion depth exceeded",
            ),
            "a key 100,000 deep": (
                ("c.toml", "a" + ".a" * 10**5 + " = 1\n"),
                "cannot be parsed: the key in line 1 has more than 100 dots",
            ),
            "a number of 5,000 digits": (
                ("c.toml", "seed = " + "1" * 5000 + "\n"),
                "cannot be parsed: Exceeds the limit (4300 digits) for integer string conversion: value",
            ),
            "a date": (
                ("c.toml", "images = 1979-05-27\n[model]\nspec = 'x'\n"),
                "images = datetime.date(1979, 5, 27) cannot be used",
            ),
            "no UTF-8": (
                ("c.toml", b"images = '\xff'\n"),
                "'utf-8' codec can't decode byte 0xff in position 10: invalid start byte",
            ),
            "UTF-16": (
                ("c.toml", "images = 'x'\n".encode("utf-16")),
                "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
            ),
            "broken YAML": (
                ("c.yaml", "a: [b\n"),
                'cannot be parsed: while parsing a flow sequence in "<unicode string>", line 1, column 4',
            ),
            "a YAML list": (("c.yaml", "- 1\n"), "holds no table of settings"),
            "a YAML text": (("c.yaml", "hello\n"), "holds no table of settings"),
            "an empty file": (("c.yaml", ""), "holds no table of settings"),
            "two YAML documents": (
                ("c.yaml", "a: 1\n---\nb: 2\n"),
                'cannot be parsed: expected a single document in the stream in "<unicode string>", line 1',
            ),
            "YAML that holds itself": (
                ("c.yaml", "model: x\nimages: &a [*a]\n"),
                'cannot be parsed: aliases (*) are not read; write the value out in "<unicode string>"',
            ),
            "YAML 10,000 deep": (
                ("c.yaml", HEAD + "pool: " + "[" * 10**4 + "]" * 10**4),
                "cannot be parsed: maximum recursion depth exceeded",
            ),
            "YAML infinity": (("c.yaml", HEAD + "seed: .inf\n"), "seed = inf cannot be used"),
            "a day that is none": (
                ("c.yaml", "model: x\nimages: 2020-02-31\n"),
                "cannot be parsed: day is out of range for month",
            ),
            "YAML of 5,000 digits": (
                ("c.yaml", HEAD + "seed: " + "1" * 5000),
                "cannot be parsed: Exceeds the limit (4300 digits) for integer string conversion: value",
            ),
            "YAML keys of lists": (
                ("c.yaml", "? [a, b]\n: 1\n" + HEAD),
                'cannot be parsed: while constructing a mapping in "<unicode string>", line 1, column 1: ?',
            ),
            "YAML keys of numbers": (
                ("c.yaml", "1: 2\n" + HEAD),
                "1 = 1 cannot be used: Keys should be strings",
            ),
            "no model": (("c.yaml", "model: null\nimages: y\n"), "model = None cannot be used"),
            "YAML of 10**9 values": (
                ("c.yaml", BOMB + HEAD + "classes: *a8\n"),
                'cannot be parsed: aliases (*) are not read; write the value out in "<unicode string>"',
            ),
            "YAML of 10**9 merged keys": (
                ("c.yaml", MERGES + HEAD),
                'cannot be parsed: aliases (*) are not read; write the value out in "<unicode string>"',
            ),
            "JSON": (("c.json", "{}"), "is neither .toml nor .yaml; rename it or convert it"),
            "no suffix": (
                ("c", "images = 'x'\n"),
                "c is neither .toml nor .yaml",
            ),
        },
    ),
    *rows(
        "line",
        _line,
        {
            "no settings": (["audit"], "model is missing: give --model or set it in the file"),
            "no such command": (["nonsense"], "No such command 'nonsense'"),
            "no such option": (["audit", "--nonsense"], "No such option: --nonsense"),
            "mean that is no number": (
                [*AUDIT, "--mean", "x"],
                "--mean 'x' is no list of numbers such as 0.5,0.5,0.5",
            ),
            "mean of a comma": (
                [*AUDIT, "--mean", ","],
                "--mean ',' is no list of numbers such as 0.5,0.5,0.5",
            ),
            "mean NaN": ([*AUDIT, "--mean", "nan,0,0"], "model.mean.0 = nan cannot be used"),
            "mean infinite": ([*AUDIT, "--mean", "1e999,0,0"], "model.mean.0 = inf cannot be used"),
            "std 0": ([*AUDIT, "--std", "0,0,0"], "model.std.0 = 0.0 cannot be used"),
            "std empty": (
                [*AUDIT, "--std", ""],
                "--std '' is no list of numbers such as 0.5,0.5,0.5",
            ),
            "size a word": (
                [*AUDIT, "--size", "abc"],
                "--size 'abc' is neither a side nor HEIGHTxWIDTH, such as 256x128",
            ),
            "size below 0": (
                [*AUDIT, "--size=-1"],
                "--size '-1' is neither a side nor HEIGHTxWIDTH, such as 256x128",
            ),
            "size of 400 digits": (
                [*AUDIT, "--size", "9" * 400],
                "' is neither a side nor HEIGHTxWIDTH, such as 256x128",
            ),
            "size of three sides": (
                [*AUDIT, "--size", "32x32x3"],
                "--size '32x32x3' is neither a side nor HEIGHTxWIDTH, such as 256x128",
            ),
            "size with a side missing": (
                [*AUDIT, "--size", "32x"],
                "--size '32x' is neither a side nor HEIGHTxWIDTH, such as 256x128",
            ),
            "seed 1e5": ([*AUDIT, "--seed", "1e5"], "Invalid value for '--seed'"),
            "seed of 5,000 digits": ([*AUDIT, "--seed", "9" * 5000], "Invalid value for '--seed'"),
            "classes empty": ([*AUDIT, "--classes", ""], "classes = () cannot be used"),
            "a class that is not there": (
                [*AUDIT, "--classes", "zebra"],
                "The model has no class 'zebra'; give classes an index from 0 to 2, a folder id or a name",
            ),
            "a class of 100,000 letters": (
                [*AUDIT, "--classes", "x" * 100_000],
                "'; give classes an index from 0 to 2, a folder id or a name",
            ),
            "layers of a comma": (
                [*AUDIT, "--layers", ","],
                "No layers were found in the model; name some with --layers",
            ),
            "65 prototypes of a class": (
                [*AUDIT, "--per-class", "65"],
                "prototypes.per_class = 65 cannot be used",
            ),
            "a self-test of -1": (
                [*AUDIT, "--self-test", "-1"],
                "self_test.planted = -1 cannot be used",
            ),
            "no device": (
                [*AUDIT, "--device", ""],
                "Device '' cannot be used on this machine; choose auto, cpu, cuda or mps",
            ),
            "device 9999999999": (
                [*AUDIT, "--device", "cuda:9999999999"],
                "Device 'cuda:9999999999' cannot be used on this machine; choose auto, cpu, cuda or mps",
            ),
            "no model": (
                [*AUDIT, "--model", ""],
                "The model '' starts with none of torchvision:, timm:, hf:, mlflow:, file:, python",
            ),
            "file without a path": (
                [*AUDIT, "--model", "file:"],
                "The model 'file:' starts with none of torchvision:, timm:, hf:, mlflow:, file:, python",
            ),
            "a device as model": (
                [*AUDIT, "--model", "file:/dev/zero"],
                "/dev/zero is no regular file; give a file that can be read to its end",
            ),
            "a folder as model": (
                [*AUDIT, "--model", "file:/"],
                "/ is no regular file; give a file that can be read to its end",
            ),
            "python without a module": (
                [*AUDIT, "--model", "python:"],
                "The model 'python:' starts with none of torchvision:, timm:, hf:, mlflow:, file",
            ),
            "python without a factory": (
                [*AUDIT, "--model", "python:nets"],
                "python:nets is not of the form python:PACKAGE.MODULE:FACTORY",
            ),
            "a factory that is not there": (
                [*AUDIT, "--model", "python:nets:nope"],
                "nets has no function nope; check --model",
            ),
            "a module that is not there": (
                [*AUDIT, "--model", "python:nope:make"],
                "or PYTHONPATH: ModuleNotFoundError: No module named 'nope'",
            ),
            "a module that is a path": (
                [*AUDIT, "--model", "python:../x:make"],
                "or PYTHONPATH: TypeError: the 'package' argument is required to perform a relative import",
            ),
            "a factory that gives a text": (
                [*AUDIT, "--model", "python:os:getcwd"],
                "python:os:getcwd gives a str, not a torch.nn.Module",
            ),
            "a factory that is none": (
                [*AUDIT, "--model", "python:nets:NETS"],
                "nets has no function NETS; check --model",
            ),
            "no torchvision model": (
                [*AUDIT, "--model", "torchvision:nope"],
                "torchvision has no classifier 'nope'; check the name",
            ),
            "no torchvision weights": (
                [*AUDIT, "--model", "torchvision:resnet18/NOPE"],
                "torchvision has no weights 'NOPE' for resnet18; it has IMAGENET1K_V1",
            ),
            "no timm model": (
                [*AUDIT, "--model", "timm:nope"],
                "timm has no model 'nope'; check the name",
            ),
            "no timm weights": (
                [*AUDIT, "--model", "timm:resnet18.nope"],
                "timm cannot build 'resnet18.nope': Invalid pretrained tag (nope) for resnet18",
            ),
            "an address as model": (
                [*AUDIT, "--model", "http://127.0.0.1/x.pt"],
                "The model 'http://127.0.0.1/x.pt' starts with none of torchvision:, timm:, hf:, mlflow",
            ),
            "weights that are missing": (
                [*AUDIT, "--model", "torchvision:resnet18", "--weights", "nowhere"],
                "There is no weights file nowhere; check the path",
            ),
            "a device as weights": (
                [*AUDIT, "--model", "torchvision:resnet18", "--weights", "/dev/zero"],
                "/dev/zero is no regular file; give a file that can be read to its end",
            ),
            "a second model without a scheme": (
                [*AUDIT, "--second-model", "x"],
                "The model 'x' starts with none of torchvision:, timm:, hf:, mlflow:, file:, python",
            ),
            "no such mode": ([*AUDIT, "--mode", "x"], "prototypes.mode = 'x' cannot be used"),
            "a file as run folder": (
                [*AUDIT, "--out", "nets.py"],
                "Cannot use nets.py as run folder: File exists; choose another --out",
            ),
            "a run folder in /proc": (
                [*AUDIT, "--out", "/proc/x"],
                "Cannot use /proc/x as run folder: No such file or directory; choose another --out",
            ),
            "a device as run folder": (
                [*AUDIT, "--out", "/dev/null"],
                "Cannot use /dev/null as run folder: File exists; choose another --out",
            ),
            "a run folder of 300 letters": (
                [*AUDIT, "--out", "x" * 300],
                "as run folder: File name too long; choose another --out",
            ),
            "a run folder 3,000 deep": (
                [*AUDIT, "--out", "a/" * 3000],
                "as run folder: File name too long; choose another --out",
            ),
            "a report of nothing": (
                ["report", "nowhere"],
                "Cannot read the audit nowhere/audit.json: [Errno 2] No such file or directory",
            ),
            "a report of a file": (
                ["report", "nets.py"],
                "Cannot read the audit nets.py/audit.json: [Errno 20] Not a directory",
            ),
            "a report of another folder": (
                ["report", "."],
                "Cannot read the audit audit.json: [Errno 2] No such file or directory: 'audit.json'",
            ),
            "a report without a folder": (["report"], "Missing argument 'folder'"),
            "a self-test of nothing": (
                ["selftest", "nowhere"],
                "Cannot read the configuration nowhere: No such file or directory",
            ),
            "a self-test of another folder": (
                ["selftest", "."],
                "Cannot read the audit audit.json: [Errno 2] No such file or directory: 'audit.json'",
            ),
            "a self-test of a program": (
                ["selftest", "nets.py"],
                "nets.py is neither .toml nor .yaml; rename it or convert it",
            ),
            "a self-test of no models": (
                ["selftest", "--planted", "0", "--clean", "0"],
                "A self-test of 0 planted and 0 clean models tests nothing; ask for one or more",
            ),
            "a self-test below 0": (
                ["selftest", "--planted", "-1"],
                "A self-test of -1 planted and 2 clean models tests nothing; ask for one or more",
            ),
            "a self-test without photos": (
                ["selftest", "--photos", "0"],
                "Invalid value for '--photos'",
            ),
            "a demo in a file": (
                ["demo", "--out", "nets.py"],
                "Cannot use nets.py as example: File exists; choose another --out",
            ),
            "a demo of no seed": (["demo", "--seed", "x"], "Invalid value for '--seed'"),
            "a demo in /proc": (
                ["demo", "--out", "/proc/x"],
                "Cannot use /proc/x as example: No such file or directory; choose another --out",
            ),
        },
    ),
)
