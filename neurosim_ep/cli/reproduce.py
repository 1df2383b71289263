"""The command ``neurosim-ep reproduce``."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from neurosim_ep.cli.errors import one_line_errors


def reproduce(
    target: Annotated[str, typer.Argument(help="table1, table2, fig2, fig3, fig4 or memory.")],
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORD/WORD",
            help="Rows with these words, as in cifar10/vgg5 or bp; may be given repeatedly.",
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            help="Stop after about so long, to be carried on by the same call; 0 only shows.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of records and runs.", show_default="runs/reproduce"),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="As in `train`.")] = None,
    seeds: Annotated[
        int, typer.Option(help="Trainings of each row: the recipe's seed and the next.")
    ] = 1,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a field of all recipes; may be given repeatedly.",
        ),
    ] = None,
    scale: Annotated[
        str,
        typer.Option(
            help="full, or to exercise it on a CPU, not comparable with the paper: small, tiny."
        ),
    ] = "full",
    schedule: Annotated[
        str, typer.Option(help="faithful (the paper's settings) or fast.")
    ] = "faithful",
) -> None:
    """Train what a table or figure of arXiv 2509.26003 needs and print it beside the paper's.

    Trainings are resumed from their checkpoints and shared by all targets
    of a folder. --budget is shared equally by what is not finished, in the
    order of the rows; what one leaves over goes to the next.

    The folder gets TARGET.json (the paper's numbers and ours, commands,
    seeds, machine), TARGET.csv (one row per training), and for the figures
    TARGET.png and TARGET.pdf.
    """
    from neurosim_ep.experiments.reproduce import reproduce as run_reproduction

    with one_line_errors():
        result = run_reproduction(
            target,
            only=only or (),
            budget_min=budget,
            out=out,
            data_dir=data_dir,
            seeds=seeds,
            overrides=set_ or (),
            scale=scale,
            schedule=schedule,
            command=sys.argv,
        )
        console = Console(width=None if sys.stdout.isatty() else 200)
        for table in result.tables:
            console.print(table)
        for note in result.notes:
            print(note)
        for path in result.files:
            print(f"written: {path}")
        if result.failed:
            raise typer.Exit(1)
