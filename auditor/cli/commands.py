"""The command line: `auditor audit`, `demo`, `selftest`, `report` and `schema`.

How a command may end, with the exit codes, stands in `auditor.cli.process`.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from auditor.cli.process import told
from auditor.cli.terminal import Bars, console, summary
from auditor.config import AuditConfig
from auditor.core.storage import read_text
from auditor.errors import ConfigError, RunError
from auditor.pipeline.run_folder import RECORD, amend
from auditor.record.schema import Audit, json_schema

__all__ = ["app", "main"]


class Commands(TyperGroup):
    """The commands, none of which exits by itself."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; code that it ran, such as a model's, must not decide the exit code."""
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        logging.getLogger("auditor").setLevel(logging.INFO)
        try:
            return super().invoke(ctx)
        except SystemExit as ended:
            raise RunError(
                f"Something that the program ran, such as the model's own code, called exit "
                f"({ended.code!r:.80}), so that the work is not done; remove that call."
            ) from None


app = typer.Typer(
    cls=Commands,
    help="Audit an image classifier for the spurious concepts that it relies on.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
MOST_BYTES = 4 * 2**20  # of a list of classes
MOST_SEED = 2**31 - 1


@app.command()
def audit(
    config: Annotated[
        Path | None, typer.Argument(help="A TOML or YAML file; options go over it.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="torchvision:, timm:, hf:, mlflow:, file: or python: specification."),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="Labelled photos: class folders, a manifest, a data set, or .tar files."),
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="Any photos, unlabelled, that concepts are learned from.")
    ] = None,
    probe: Annotated[
        str | None, typer.Option(help="offline, or open_clip:MODEL/TAG, MODEL/TAG=FILE, FOLDER.")
    ] = None,
    concepts: Annotated[
        str | None, typer.Option(help="One concept a line, or a TOML bank.")
    ] = None,
    representative: Annotated[
        bool | None,
        typer.Option(help="Whether the labelled photos are like those the model learned from."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Indices, folder ids or names, separated by commas; or a file of them."),
    ] = None,
    out: Annotated[str | None, typer.Option(help="The run folder.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides every random number.")] = None,
    arch: Annotated[
        str | None,
        typer.Option(help="Architecture of a weights file, such as torchvision:resnet50."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Local weights of a named model; FILE#KEY where it holds several."),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Model's input in pixels: one side, or HEIGHTxWIDTH.")
    ] = None,
    resize: Annotated[
        int | None, typer.Option(help="Shorter side in pixels before the centre crop.")
    ] = None,
    aspect: Annotated[
        str | None, typer.Option(help="crop, or stretch: photos squeezed to the input's shape.")
    ] = None,
    interpolation: Annotated[
        str | None, typer.Option(help="nearest, bilinear, bicubic or lanczos.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Per channel, such as 0.485,0.456,0.406.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Per channel, such as 0.229,0.224,0.225.")] = None,
    pixel_range: Annotated[
        str | None, typer.Option(help="Of the pixels that are normalised: 0-1 or 0-255.")
    ] = None,
    channels: Annotated[str | None, typer.Option(help="Order of the input: rgb or bgr.")] = None,
    background: Annotated[
        str | None,
        typer.Option(help="Under transparency: drop (as stored), white, black, #rrggbb."),
    ] = None,
    bit_depth: Annotated[
        int | None, typer.Option(help="Bits that pictures of 16 bits use, such as 12.")
    ] = None,
    orientation: Annotated[
        str | None, typer.Option(help="exif turns photos upright, stored leaves them.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(help="auto, logits, probabilities, log-probabilities or sigmoid."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Meaning of numbers that label photos: auto, index, id, name, folder-order."
        ),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="The manifest's column of labels.")
    ] = None,
    anyway: Annotated[
        bool | None,
        typer.Option(help="Go on where accuracy says that labels or preprocessing are wrong."),
    ] = None,
    class_names: Annotated[
        str | None, typer.Option(help="One name a line, or CSV or JSON with index, id and name.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Layers of the activation path, separated by commas.")
    ] = None,
    per_class: Annotated[int | None, typer.Option(help="Prototypes of each class.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimisation steps of a prototype.")] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="Of prototypes: auto, natural, data-free, reference, paper or patch."),
    ] = None,
    isolate: Annotated[
        bool | None, typer.Option(help="Find the region of each prototype that carries its class.")
    ] = None,
    second_model: Annotated[
        str | None,
        typer.Option(help="A model of the same classes that judges the prototypes, as --model."),
    ] = None,
    trust_code: Annotated[
        bool | None,
        typer.Option(help="Run code that comes with the model or the probe, such as pickles."),
    ] = None,
    trust_pickle: Annotated[
        bool | None, typer.Option(help="The older name of --trust-code.", hidden=True)
    ] = None,
    self_test: Annotated[
        int | None,
        typer.Option(help="Try the settings on so many planted, and as many clean, lab models."),
    ] = None,
    pdf: Annotated[bool | None, typer.Option(help="Write the PDF too.")] = None,
) -> None:
    """Audit a classifier: writes audit.json, report.html and report.pdf."""
    trusted = trust_pickle if trust_code is None else trust_code
    settings = AuditConfig.load(
        config,
        {
            "model.spec": model, "model.arch": arch, "model.weights": weights,
            "model.size": _sides(size),
            "model.resize": resize, "model.aspect": aspect, "model.interpolation": interpolation,
            "model.pixel_range": pixel_range, "model.channels": channels,
            "model.background": background, "model.bit_depth": bit_depth,
            "model.orientation": orientation, "model.output": output,
            "labels": labels, "label_column": label_column, "anyway": anyway,
            "model.mean": _numbers("--mean", mean), "model.std": _numbers("--std", std),
            "model.class_names": class_names, "model.layers": _list(layers),
            "model.trust_code": trusted, "trust_code": trusted,
            "images": images, "pool": pool, "probe": probe, "concepts": concepts,
            "representative": representative,
            "classes": _classes(classes), "out": out, "device": device, "seed": seed,
            "prototypes.per_class": per_class, "prototypes.steps": steps,
            "prototypes.mode": mode, "prototypes.isolate": isolate,
            "second_model.spec": second_model,
            "self_test.planted": self_test, "self_test.clean": self_test,
            "pdf": None if pdf is None else "auto" if pdf else "no",
        },
    )  # fmt: skip
    run(settings)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the example and its audit go.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Decides the example.")] = 0,
) -> None:
    """Train a small classifier with planted shortcuts and audit it."""
    from auditor.lab import example

    bars = Bars()
    config = example.prepare(out, seed=seed, progress=bars)
    run(config)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder with audit.json.")],
    pdf: Annotated[bool, typer.Option(help="Write the PDF too.")] = True,
) -> None:
    """Render the report of a saved audit again."""
    from auditor import report as rendering

    for path in rendering.write(folder, pdf=pdf):
        print(path)


@app.command()
def selftest(
    given: Annotated[
        Path | None,
        typer.Argument(help="A TOML or YAML file, or a run folder; by default usual settings."),
    ] = None,
    planted: Annotated[int, typer.Option(help="Lab models with planted shortcuts.")] = 2,
    clean: Annotated[int, typer.Option(help="Lab models without.")] = 2,
    photos: Annotated[
        int | None,
        typer.Option(min=1, help="Photos of each class, 40 at most; by default as a run folder's."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where models and results are kept.")] = Path(
        "selftest"
    ),
) -> None:
    """Measure how often an audit's settings are right, on models with known shortcuts."""
    from auditor.lab import selftest as testing

    audited, record = None, b""
    if given is not None and given.is_dir():
        audited = Audit.read(given / RECORD)
        record = (given / RECORD).read_bytes()
    if audited is not None:
        config = audited.settings()
    elif given is not None:
        config = AuditConfig.load(given, {})
    else:
        config = AuditConfig.load(None, {"model.spec": "", "images": ""})
    amounts = {} if audited is None else testing.amounts(audited)
    if photos is not None:
        amounts["photos"] = photos
    done = testing.run(config, out, planted=planted, clean=clean, progress=Bars(), **amounts)
    for rate in done.rates:
        value = rate.rate
        print(f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f}, n {value.n})  {rate.name}")
    if given is not None and audited is not None:
        from auditor import report as rendering
        from auditor.core.storage import digest_package

        if audited.tool.source != digest_package() or amounts != testing.amounts(audited):
            print(
                f"Not added to {given}: its audit was made by another version of the program, or "
                "on another number of photos of each class."
            )
            return
        tested = audited.model_copy(update={"self_test": done})
        if not amend(given, record, tested.encoded()):
            print(f"Not added to {given}: another audit took the place of the one that was read.")
            return
        for path in rendering.write(given, pdf=config.pdf != "no"):
            print(path)


@app.command()
def schema() -> None:
    """Print the JSON Schema of audit.json."""
    print(json.dumps(json_schema(), indent=1))


def run(config: AuditConfig) -> Audit:
    """Audit, render and say where the result is."""
    from auditor import report as rendering
    from auditor.lab import selftest
    from auditor.models import hardware
    from auditor.pipeline import runner

    hardware.keep_freed_memory()
    bars = Bars()
    done = selftest.attach(runner.run(config, progress=bars), config, progress=bars)
    console.print("Writing the report", highlight=False)
    paths = rendering.write(Path(config.out), pdf=config.pdf != "no")
    summary(done)
    for path in [Path(config.out) / RECORD, *paths]:
        print(path)
    return done


def main() -> None:
    """Run the command line, as the `auditor` of an earlier installation does."""
    with told():
        app()


def _list(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _sides(text: str | None) -> int | tuple[int, int] | None:
    """A side of a square, or height and width, as in `224` and `256x128`."""
    if text is None:
        return None
    sides = [part for part in text.lower().split("x") if part.isascii() and part.isdigit()]
    if len(sides) != text.lower().count("x") + 1 or len(sides) > 2 or max(map(len, sides)) > 6:
        raise ConfigError(
            f"--size {text[:80]!r} is neither a side nor HEIGHTxWIDTH, such as 256x128."
        )
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def _numbers(flag: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{flag} {text!r} is no list of numbers such as 0.5,0.5,0.5.") from None


def _classes(text: str | None) -> Any:
    if text is None:
        return None
    path = Path(text)
    if os.path.exists(path) and not path.is_dir():  # a list of names may be too long for a path
        try:
            lines = read_text(path, limit=MOST_BYTES).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"Cannot read the classes in {path}: {error}.") from None
        return tuple(line.strip() for line in lines if line.strip())
    return _list(text)


if __name__ == "__main__":
    main()
