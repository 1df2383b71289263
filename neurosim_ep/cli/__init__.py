"""The command ``neurosim-ep``."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from neurosim_ep.cli.compare import compare
from neurosim_ep.cli.devices import devices_app
from neurosim_ep.cli.errors import one_line_errors, one_line_errors_together
from neurosim_ep.cli.export import export
from neurosim_ep.cli.fidelity import fidelity
from neurosim_ep.cli.reproduce import reproduce
from neurosim_ep.cli.sweep import sweep

app = typer.Typer(
    help="Equilibrium propagation on Hopfield networks and simulated memristor crossbars.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(devices_app, name="devices")

_Recipe = Annotated[
    str, typer.Argument(help="A shipped recipe's name, or the path of a TOML file.")
]
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a field; may be given repeatedly."),
]
_DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder with one folder of Parquet files per data set; else $NEUROSIM_EP_DATA, else "
        "a download from the Hugging Face hub."
    ),
]


@app.callback()
def _alone(context: typer.Context) -> None:
    """Only a training is shared: several processes would each do the same, into the same files."""
    if context.invoked_subcommand == "train" or "WORLD_SIZE" not in os.environ:
        return
    from neurosim_ep.learning import process_count

    with one_line_errors():
        if process_count() > 1:
            raise ValueError(
                f"command: {context.invoked_subcommand!r} is not allowed with several processes; "
                "must be 'train' (start the others without torchrun)"
            )


@app.command()
def train(
    recipe: _Recipe,
    set_: _Set = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; runs/<recipe's name> by default.")
    ] = None,
    data_dir: _DataDir = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run folder's last checkpoint.")
    ] = False,
) -> None:
    """Train a recipe; the run folder keeps recipe, metrics, checkpoints and the learning curve.

    Under torchrun, several processes train it together:
    torchrun --nproc-per-node 2 -m neurosim_ep train RECIPE.
    """
    from neurosim_ep.config import load_recipe
    from neurosim_ep.experiments import run

    with one_line_errors_together() as processes:
        with processes.together():
            resolved = load_recipe(recipe, set_ or ())
        folder = out or Path("runs") / resolved.name
        result = run(
            resolved,
            folder,
            data_dir=data_dir,
            resume=resume,
            command=sys.argv,
            processes=processes,
        )
        if not processes.first:
            return
        print(f"test accuracy after the last epoch ({result.epochs}): {result.last:.2f} %")
        if result.best_by_validation is not None:
            print(
                f"test accuracy at the best validation accuracy (epoch {result.best_epoch}): "
                f"{result.best_by_validation:.2f} %"
            )
        print(f"run folder: {folder}")


@app.command()
def evaluate(
    run: Annotated[
        Path, typer.Argument(help="Run folder of `train`, or a chip's file of `export` (.h5).")
    ],
    weights: Annotated[
        str | None,
        typer.Option(help="Of a run: best (by validation) or last.", show_default="best"),
    ] = None,
    data_dir: _DataDir = None,
) -> None:
    """Settle a trained network, or an exported chip, on the test images; print its accuracy."""
    from neurosim_ep.experiments import evaluate_run

    with one_line_errors():
        summary = evaluate_run(run, data_dir=data_dir, weights=weights)
        print(f"test accuracy: {summary.accuracy_percent:.2f} % of {summary.images} images")
        print(f"cost per image: {summary.cost:.6f}")
        if summary.residual_mean is not None:
            print(
                f"residual: mean {summary.residual_mean:.1e}, largest {summary.residual_max:.1e}; "
                f"not settled: {100 * (summary.unsettled_fraction or 0):.2f} %"
            )


app.command()(export)
app.command()(compare)
app.command()(sweep)
app.command()(reproduce)


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="Golden files (HDF5).")],
    tolerance: Annotated[float, typer.Option(help="Largest relative error that passes.")] = 1e-9,
) -> None:
    """Compare this program with golden files in float64; exit code 1 if any error is too large."""
    from neurosim_ep.experiments import validate as validate_file

    with one_line_errors():
        if not tolerance > 0.0:
            raise ValueError(f"tolerance: {tolerance} is not allowed; must be above 0")
        reports = {path: validate_file(path) for path in files}
    table = Table(title=f"worst relative error (tolerance {tolerance:g})")
    table.add_column("file", overflow="fold")
    kinds = list(dict.fromkeys(kind for errors in reports.values() for kind in errors))
    for kind in kinds:
        table.add_column(kind, justify="right")
    for path, errors in reports.items():
        table.add_row(path.name, *(_coloured(errors[kind], tolerance) for kind in kinds))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    failed = [path for path, errors in reports.items() if max(errors.values()) > tolerance]
    if failed:
        print(f"{len(failed)} of {len(files)} files differ by more than {tolerance:g}")
        raise typer.Exit(1)
    print(f"{len(files)} of {len(files)} files agree to {tolerance:g}")


@app.command()
def recipes() -> None:
    """List the shipped recipes."""
    from neurosim_ep.config import shipped_recipes

    table = Table()
    table.add_column("recipe", no_wrap=True)
    table.add_column("what it is")
    for name, description in shipped_recipes().items():
        table.add_row(name, description)
    Console().print(table)


def _coloured(error: float, tolerance: float) -> str:
    return f"[{'green' if error <= tolerance else 'red'}]{error:.1e}[/]"


app.command()(fidelity)

main: Callable[[], None] = app
