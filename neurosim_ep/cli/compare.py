"""The command ``neurosim-ep compare``."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from neurosim_ep.cli.errors import one_line_errors


def compare(
    recipe: Annotated[
        str,
        typer.Argument(help="A shipped EP recipe's name; with --device also a TOML file's path."),
    ],
    seeds: Annotated[
        int | None,
        typer.Option(help="Seeds of the training: 0, 1, ...", show_default="3, or 1 with --device"),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CARD", help="Device card (name or TOML file); may be given repeatedly."
        ),
    ] = None,
    array: Annotated[
        str | None,
        typer.Option(
            metavar="CARD",
            help="Array card (name or TOML file).",
            show_default="the card 'default'",
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Run folder of `train`: take its network, train none.")
    ] = None,
    device_seeds: Annotated[
        int | None,
        typer.Option(help="Pieces of hardware per device card: seeds 0, 1, ...", show_default="3"),
    ] = None,
    times: Annotated[
        str | None,
        typer.Option(
            help="Times since programming, for devices that drift.", show_default="0,1h,1d,30d,1y"
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            help="How many test images, spread evenly over all.",
            show_default="all, the attribution at most 2000",
        ),
    ] = None,
    attribution: Annotated[
        bool | None,
        typer.Option(
            "--attribution/--no-attribution",
            help="Find out which nonideality costs how much.",
            show_default="on",
        ),
    ] = None,
    attribution_time: Annotated[
        str | None,
        typer.Option(
            help="Time since programming of the attribution, for devices that drift.",
            show_default="1d",
        ),
    ] = None,
    fidelity: Annotated[
        bool | None,
        typer.Option(
            "--fidelity/--no-fidelity",
            help="Compare the gradients as well, as `fidelity --quick` does.",
            show_default="off",
        ),
    ] = None,
    on_chip: Annotated[
        bool | None,
        typer.Option(
            "--on-chip/--no-on-chip",
            help="Let devices learn by themselves as well, beside backpropagation.",
            show_default="off, or on for a recipe with a table on_chip",
        ),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[CARD=]RULE",
            help="Update rule of all devices, or of one: digital, mixed_precision, "
            "pulsed[:hebbian], tiki_taka[:v1|:v2|:agad], sign; may be given repeatedly.",
            show_default="auto, by the card",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="With --on-chip, trainings at a time; if several, in one thread each.",
            show_default="1",
        ),
    ] = None,
    attribution_epochs: Annotated[
        int | None,
        typer.Option(help="Epochs of each training of the on-chip attribution.", show_default="5"),
    ] = None,
    attribution_images: Annotated[
        int | None,
        typer.Option(help="Training images of the on-chip attribution.", show_default="2000"),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a field; may be given repeatedly."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the runs.", show_default="runs/compare-<recipe>"),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="As in `train`.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what is finished, go on with the rest.")
    ] = False,
) -> None:
    """Compare ways to learn, or with --device ideal with analog accuracy.

    Trains a recipe by backpropagation and by EP, and prints both.  With
    --device, trains it by EP, puts the network on arrays of each device, and
    prints what that costs, over time and by nonideality; with --on-chip each
    device also learns by itself, and backpropagation, exact EP, mapped and
    on-chip accuracies stand in one table and one figure.  The folder keeps
    numbers, figures and the trained chips.
    """
    from neurosim_ep.config import load_recipe
    from neurosim_ep.experiments import compare as run_all
    from neurosim_ep.experiments import compare_hardware, comparison_table, counterpart, seed_range

    hardware = {
        "array": array,
        "run": run,
        "device_seeds": device_seeds,
        "times": times,
        "images": images,
        "attribution": attribution,
        "attribution_time": attribution_time,
        "fidelity": fidelity,
        "on_chip": on_chip,
        "rule": rule,
        "jobs": jobs,
        "attribution_epochs": attribution_epochs,
        "attribution_images": attribution_images,
    }
    asked = {name: value for name, value in hardware.items() if value is not None}
    place: dict[str, Any] = {"data_dir": data_dir, "resume": resume}
    with one_line_errors():
        if device:
            asked |= {} if seeds is None else {"seeds": seeds}
            tables, folder = compare_hardware(recipe, set_ or (), device, asked, out, **place)
            console = Console(width=None if sys.stdout.isatty() else 160)
            for table in tables:
                console.print(table)
            print(f"records: {folder}, figure: {folder / 'accuracy.png'}")
            return
        for name in asked:
            raise ValueError(f"{name.replace('_', '-')}: is not allowed without --device")
        by_ep = load_recipe(recipe, set_ or ())
        by_bp = counterpart(recipe, set_ or ())
        estimator = by_ep.learning.estimator.replace("_", "-")
        rows = run_all(
            [("backpropagation", by_bp), (f"{estimator} EP", by_ep)],
            seed_range("seeds", 3 if seeds is None else seeds),
            out or Path("runs") / f"compare-{by_ep.name}",
            **place,
        )
        Console().print(comparison_table(rows, f"{by_ep.name}: test accuracy, mean +- spread"))
