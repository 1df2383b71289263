"""The command ``neurosim-ep sweep``."""

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from neurosim_ep.cli.errors import one_line_errors


def sweep(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SWEEP.toml|RECIPE",
            help="A sweep's file, or a shipped recipe's name or the path of its TOML file.",
        ),
    ],
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=V1,V2,...",
            help="A key and its values; up to three: horizontal axis, lines, panels. In place of "
            "all that the file varies.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A field of the recipe or of a card, for all cells; may be given repeatedly.",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Trainings of each combination: the recipe's seed and the next.", show_default="3"
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="CARD", help="Device card (name or TOML file): learn on a chip."),
    ] = None,
    array: Annotated[
        str | None,
        typer.Option(metavar="CARD", help="Array card (name or TOML file) of that chip."),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=PERCENT", help="A horizontal line; may be given repeatedly."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Cells that train at a time; if several, in processes of one thread each.",
            show_default="1",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Dask scheduler (tcp://HOST:8786) whose workers train the cells.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder.", show_default="runs/sweep-<recipe's name>")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="As in `train`.")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Keep finished cells and go on with the others; values and seeds may be added.",
        ),
    ] = False,
) -> None:
    """Train a recipe at every combination of up to three varied keys.

    What is trained stands in a file (docs/sweeps.md) or in options; options
    win over the file. Keys are the recipe's fields (learning.beta), device
    and array (cards), and fields of the cards
    (device.pulse_response.up_down, device.read_noise[0].sigma_relative); in
    short device.states (step is 2 / states), device.read_noise_relative (one
    lumped term, a share of the window), array.adc_bits and array.dac_bits
    (of all converters). The value none removes a field, or a table of a card
    (device.drift=none).

    Values are separated by semicolons where there are any, else by commas
    outside of brackets: --vary "network.widths=[96];[96,96]". Keys that
    vary together are joined by +, and so are their values:
    --vary on_chip.rule+learning_rate=pulsed+0.1,sign+0.01.

    The folder gets sweep.toml (to run it again), sweep.json, results.csv and
    results.parquet (one row per training), accuracy.png, and the run folder
    of every training.
    """
    from neurosim_ep.experiments import sweep as run_sweep
    from neurosim_ep.experiments.sweeps.display import told
    from neurosim_ep.experiments.sweeps.file import sweep_or_recipe

    with one_line_errors():
        plan = sweep_or_recipe(source)
        if jobs is None and scheduler is None:
            jobs, scheduler = plan.jobs, plan.scheduler
        result = run_sweep(
            plan.recipe,
            vary or plan.vary,
            plan.seeds if seeds is None else seeds,
            out or (None if plan.out is None else Path(plan.out)),
            overrides=[*plan.overrides, *(set_ or ())],
            device=device or plan.device,
            array=array or plan.array,
            references=plan.references | dict(map(_reference, reference or ())),
            data_dir=data_dir,
            resume=resume,
            jobs=1 if jobs is None else jobs,
            scheduler=scheduler,
            command=sys.argv,
        )
        Console(width=None if sys.stdout.isatty() else 160).print(result.table())
        told_of = Counter(cell.message for cell in result.failed)
        for message, count in told_of.items():
            first = next(cell for cell in result.failed if cell.message == message)
            where = f"{told(first.values)}, seed {first.seed}"
            print(f"failed: {count} of {len(result.cells)} cells, the first at {where}: {message}")
        print(f"records: {result.folder}")
        if len(result.failed) == len(result.cells):
            raise typer.Exit(1)


def _reference(text: str) -> tuple[str, float]:
    label, equals, percent = text.rpartition("=")
    try:
        if not (equals and label.strip()):
            raise ValueError
        return label.strip(), float(percent)
    except ValueError:
        raise ValueError(
            f'reference: "{text}" is not allowed; must be LABEL=PERCENT, as in "exact EP=97.2"'
        ) from None
