"""The command ``neurosim-ep fidelity``."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from neurosim_ep.cli.errors import one_line_errors


def fidelity(
    recipe_or_run: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE_OR_RUN",
            help="An EP recipe, measured as initialised, or a run folder of `train`, measured with "
            "its best weights.",
        ),
    ],
    device: Annotated[str, typer.Option(help="Device card: a shipped name or a TOML file.")],
    array: Annotated[
        str, typer.Option(help="Array card: a shipped name or a TOML file.")
    ] = "default",
    images: Annotated[
        int, typer.Option(help="Images of one gradient, from the training set.")
    ] = 32,
    seed: Annotated[int, typer.Option(help="Of the images, the hardware and the noise.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer values, for convolutional networks.")
    ] = False,
    hardware: Annotated[
        int | None, typer.Option(help="Pieces of hardware; 2 by default, 1 with --quick.")
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(help="Gradients on each where reads are noisy; 2 by default, 1 with --quick."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a recipe's field; may be given repeatedly."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder; runs/fidelity-<recipe>-<device>-<array> by default."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="As in `train`.")] = None,
) -> None:
    """Measure how close the contrastive gradient on arrays is to the true one.

    Prints the cosine to the linear response over beta, iterations, reads,
    converters and read noise, and at the end the setting to train with.
    """
    from neurosim_ep.experiments.fidelity.command import fidelity_of
    from neurosim_ep.experiments.fidelity.records import (
        recommendation_line,
        reference_warnings,
        report_tables,
        save_report,
        weights_line,
    )

    with one_line_errors():
        if out is not None and out.exists() and not out.is_dir():
            raise ValueError(f"out: {str(out)!r} is not allowed; must be a folder, or a new one")
        with Console(stderr=True).status("") as status:
            report = fidelity_of(
                recipe_or_run,
                device,
                array,
                images=images,
                seed=seed,
                quick=quick,
                hardware=hardware,
                repeats=repeats,
                overrides=set_ or (),
                data_dir=data_dir,
                progress=lambda what: status.update(f"fidelity: {what}"),
            )
        name = f"fidelity-{report.title}-{report.device.name}-{report.array.name}"
        folder = out or Path("runs") / name
        save_report(report, folder)
        console = Console(width=None if sys.stdout.isatty() else 160)
        for table in report_tables(report):
            console.print(table)
        for line in reference_warnings(report):
            print(f"warning: {line}")
        print(weights_line(report))
        print(f"records: {folder}")
        print(recommendation_line(report))
