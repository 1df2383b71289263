"""What the command says and draws of device cards, and cards fitted to measurements."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.table import Table

from neurosim_ep._toml_text import problem, show
from neurosim_ep.cards import Card, card_from_mapping, dump_card
from neurosim_ep.devices import DeviceCard
from neurosim_ep.devices.curves import drift_after, programming_sigma, read_noise_curve
from neurosim_ep.devices.fitting import PulseFit, fit_pulse_response, read_pulse_csv
from neurosim_ep.figures.device import device_curves, fit_curves
from neurosim_ep.learning import write_text
from neurosim_ep.seeds import MAX_SEED

FIGURES = (".png", ".pdf", ".svg")
SECONDS_PER_DAY = 86_400.0
ABSENT = "ideal"


def cards_table(cards: Iterable[DeviceCard]) -> Table:
    """One row per card: window, states and the size of every phenomenon."""
    table = Table(
        caption="all in % of the window: noise in its middle, drift from nine tenths of it"
    )
    table.add_column("card", no_wrap=True)
    for title in ("window (µS)", "states", "programming (%)", "read (%)", "drift in a day (%)"):
        table.add_column(title, justify="right")
    table.add_column("what it is")
    for card in cards:
        table.add_row(card.name, *_row(card), card.description)
    return table


def _row(card: DeviceCard) -> list[str]:
    window = card.window
    programming, reads, drift = ABSENT, ABSENT, ABSENT
    if card.programming or card.write_verify:
        programming = f"{100 * programming_sigma(card, 0) / window.range_siemens:.2g}"
    noise = read_noise_curve(card, 0)
    if noise is not None:
        middle = float(noise.total_siemens[noise.total_siemens.numel() // 2])
        reads = f"{100 * middle / window.range_siemens:.2g}"
    change = drift_after(card, SECONDS_PER_DAY, 0)
    if change is not None:
        mean, sigma = (100 * value / window.range_siemens for value in change)
        drift = f"{mean:+.1f} +- {sigma:.1f}"
    bounds = f"{1e6 * window.g_min_siemens:g} to {1e6 * window.g_max_siemens:g}"
    return [bounds, _states(card), programming, reads, drift]


def _states(card: DeviceCard) -> str:
    """Levels where programming has them, otherwise steps of a pulse in the window."""
    if card.window.levels:
        return f"{card.window.levels:,}"
    if card.pulse_response:
        # The asymmetry shortens one of the two directions.
        step = card.pulse_response.step_relative * (1.0 - abs(card.pulse_response.up_down) / 2.0)
        return f"{round(2.0 / step):,}"
    return "-"


def numbers_table(card: DeviceCard) -> Table:
    """Every number that a card gives, with its source."""
    table = Table(title=f"{card.name}: {card.description}" if card.description else card.name)
    table.add_column("field", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("source", overflow="fold")
    for name in type(card).model_fields:
        value = getattr(card, name)
        if name not in card.model_fields_set:
            continue
        if isinstance(value, BaseModel):
            _add_numbers(table, name, value)
        elif isinstance(value, tuple):
            for index, part in enumerate(value):
                _add_numbers(table, f"{name}[{index}]", part)
    return table


def _add_numbers(table: Table, prefix: str, part: Any) -> None:
    """Rows of one table of a card; a source is not repeated below itself."""
    before = None
    fields = [f for f in type(part).model_fields if f in part.model_fields_set and f != "source"]
    for field in sorted(fields, key=lambda f: f != "model"):
        source = part.source.get(field, "") if isinstance(part.source, Mapping) else part.source
        told = source if source != before else ""
        table.add_row(f"{prefix}.{field}", show(getattr(part, field)), told)
        before = source or before
    table.add_section()


def draw_card(card: DeviceCard, path: Path | None, seed: int) -> Path:
    """Draw a card's curves.

    Args:
        card: the kind of device.
        path: the figure; ``<name>.png`` in the present folder where None.
        seed: of the devices that are drawn.

    Returns:
        the figure's path.

    Raises:
        ValueError: for a seed or path that is not allowed; nothing is written then.
    """
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(problem("seed", seed, f"a whole number from 0 to {MAX_SEED}"))
    figure = _checked("out", path or Path(f"{card.name}.png"), FIGURES)
    device_curves(card, figure, seed=seed)
    return figure


def fit_card(
    data: Path, name: str | None, out: Path | None, plot: Path | None
) -> tuple[PulseFit, Path, Path]:
    """Fit measured pulse trains and write the card and a figure of the fit.

    Args:
        data: CSV file, see `read_pulse_csv`.
        name: of the card; from the file's name where None.
        out: the card; ``<name>.toml`` in the present folder where None.
        plot: the figure; the card's path with ``.png`` where None.

    Returns:
        the fit, the card's path, the figure's path.

    Raises:
        ValueError: one line per problem; nothing is written then.
    """
    name = name if name is not None else re.sub(r"[^\w.+-]+", "-", data.stem) or "fitted"
    card_from_mapping(Card, {"name": name})
    trains = read_pulse_csv(data)
    out = _checked("out", out or Path(f"{name}.toml"), (".toml",))
    plot = _checked("plot", plot or out.with_suffix(".png"), FIGURES)
    fit = fit_pulse_response(trains)
    text = dump_card(fit.card(name))
    fit_curves(fit, plot)
    write_text(out, text)
    return fit, out, plot


def fit_table(fit: PulseFit) -> Table:
    """The models that were compared; the best one first."""
    table = Table(caption="BIC above that of the best model")
    table.add_column("model")
    table.add_column("BIC", justify="right")
    best = fit.bic[fit.model]
    for model, bic in sorted(fit.bic.items(), key=lambda item: item[1]):
        table.add_row(model, f"{bic - best:+.1f}")
    return table


def _checked(option: str, path: Path, suffixes: tuple[str, ...]) -> Path:
    """The path, if a file with one of these suffixes can be put there."""
    if path.suffix.lower() not in suffixes:
        allowed = f"a file that ends in {' or '.join(suffixes)}"
        raise ValueError(problem(option, str(path), allowed))
    if not path.parent.is_dir() or path.is_dir():
        raise ValueError(problem(option, str(path), "a file in a folder that exists"))
    return path
