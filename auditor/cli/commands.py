"""The command line: `auditor audit`, `demo`, `selftest`, `report` and `schema`.

How a command may end, with the exit codes, stands in `auditor.cli.process`.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from auditor.cli.options import overrides, with_settings
from auditor.cli.process import told
from auditor.cli.terminal import Bars, console, summary
from auditor.config import AuditConfig
from auditor.errors import RunError
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
MOST_SEED = 2**31 - 1


@app.command()
@with_settings
def audit(
    config: Annotated[
        Path | None, typer.Argument(help="A TOML or YAML file; options go over it.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="Compute a share, such as 3/8, for auditor merge."),
    ] = None,
    **given: Any,
) -> None:
    """Audit a classifier: writes audit.json, report.html and report.pdf."""
    settings = AuditConfig.load(config, overrides(given))
    if shard is None:
        run(settings)
        return
    from auditor.models import hardware
    from auditor.pipeline import sharding

    hardware.keep_freed_memory()
    print(sharding.compute(settings, sharding.Shard.parse(shard), progress=Bars()))


@app.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(help="The run folders of all shards.")],
    out: Annotated[
        Path | None, typer.Option(help="The run folder of the audit; needed for several folders.")
    ] = None,
    trust_code: Annotated[
        bool, typer.Option(help="Run code that comes with the model, as the shards did.")
    ] = False,
) -> None:
    """Make one audit of the shards that auditor audit --shard computed."""
    from auditor.pipeline import sharding

    run(sharding.merge(folders, out, trust_code=trust_code))


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


if __name__ == "__main__":
    main()
