"""The command ``neurosim-ep devices``: what device cards say, and cards from measurements."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from neurosim_ep.cli.errors import one_line_errors

POOR_FIT = 0.9
"""Share of the variance below which a fit is warned of."""


class _CardOrCommand(TyperGroup):
    """A group whose first word may be a card: ``devices pcm`` is ``devices show pcm``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``show`` before anything that is not a command of the group."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["show", *args]
        return super().parse_args(ctx, args)


devices_app = typer.Typer(
    cls=_CardOrCommand,
    invoke_without_command=True,
    help="List the device cards, draw one, or fit one to measured pulses.",
    add_completion=False,
)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160)


@devices_app.callback()
def list_cards(context: typer.Context) -> None:
    """List the device cards; `devices NAME` draws one, `devices fit DATA.csv` fits one."""
    if context.invoked_subcommand is not None:
        return
    from neurosim_ep.devices import shipped_device_cards
    from neurosim_ep.experiments.device_cards import cards_table

    with one_line_errors():
        _console().print(cards_table(shipped_device_cards().values()))


@devices_app.command()
def show(
    card: Annotated[str, typer.Argument(help="A shipped card's name, or the path of a TOML file.")],
    out: Annotated[
        Path | None, typer.Option(help="Figure (PNG, PDF or SVG); <name>.png by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the devices that are drawn.")] = 0,
) -> None:
    """Draw what a card's devices do and print its numbers; `devices NAME` is the same."""
    from neurosim_ep.devices import load_device_card
    from neurosim_ep.experiments.device_cards import draw_card, numbers_table

    with one_line_errors():
        loaded = load_device_card(card)
        figure = draw_card(loaded, out, seed)
        _console().print(numbers_table(loaded))
        print(f"figure: {figure}")


@devices_app.command()
def fit(
    data: Annotated[
        Path,
        typer.Argument(
            help="CSV with the columns pulse, direction (up or down), conductance_siemens and, if "
            "there are several, device and cycle."
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="The card's name; the file's name by default.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The card (TOML); <name>.toml by default.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Figure of data and fit; beside the card, with .png, by default."),
    ] = None,
) -> None:
    """Fit window, pulse response and spreads to measured pulse trains, and write a card."""
    from neurosim_ep.experiments.device_cards import fit_card, fit_table, numbers_table

    with one_line_errors():
        found, card, figure = fit_card(data, name, out, plot)
        console = _console()
        console.print(fit_table(found))
        console.print(numbers_table(found.card(card.stem if name is None else name)))
        print(
            f"{found.data.pulses} pulses on {len(found.data.devices)} device(s): the fitted "
            f"{found.model} model explains {100 * found.curve_r_squared:.2f} % of the variance "
            f"from the starts alone (rms {found.curve_rms_siemens:.3g} S; pulse by pulse "
            f"{found.step_rms_siemens:.3g} S)"
        )
        if found.curve_r_squared < POOR_FIT:
            print("warning: no model follows these data well; look at the figure", file=sys.stderr)
        print(f"card: {card}\nfigure: {figure}")
