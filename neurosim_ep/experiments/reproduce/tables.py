"""How a reproduced table is printed, and what must be said beside it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise

from rich.table import Table

from neurosim_ep.experiments.reproduce.outcomes import Row
from neurosim_ep.experiments.reproduce.paper import EPOCHS
from neurosim_ep.experiments.reproduce.plans import SCALE_NOTES
from neurosim_ep.experiments.reproduce.targets import TITLES

DASH = "-"
NOT_COMPARABLE = "not comparable"


def accuracy_table(target: str, rows: Sequence[Row], scale: str, schedule: str) -> Table:
    """Paper's accuracies beside ours; a dash where nothing has been trained.

    Args:
        target: table or figure.
        rows: in its order.
        scale, schedule: of the trainings.
    """
    told = f", schedule {schedule}" + ("" if scale == "full" else f", scale {scale}")
    table = Table(title=TITLES[target] + told)
    table.add_column("row", min_width=max(len(row.entry.key) for row in rows))
    headings = ["data"]
    if target == "table1":
        headings.append("prior best (%)")
    headings += ["paper (%)", "last epoch (%)", "by validation (%)", "by test (%)"]
    headings += ["difference"]
    if target == "fig2":
        headings.append("test loss, first to last")
    for heading in [*headings, "epochs", "seeds"]:
        table.add_column(heading, justify="left" if heading == "data" else "right")
    for row in rows:
        cells = [row.entry.key, _data(row)]
        if target == "table1":
            cells.append(_number(row.entry.prior_best_percent))
        cells += [_number(row.entry.paper_percent)]
        cells += [_shown(row.values(n)) for n in ("last", "best_by_validation", "best_by_test")]
        cells.append(_difference(row, scale))
        if target == "fig2":
            cells.append(_losses(row))
        table.add_row(*cells, _epochs(row), _seeds(row))
    return table


def notes_of(
    target: str, rows: Sequence[Row], scale: str, schedule: str, overrides: Sequence[str]
) -> list[str]:
    """What a reader of the table must know, one line each."""
    notes = []
    if scale != "full":
        notes.append(f"NOT comparable with the paper: {SCALE_NOTES[scale]}")
    if schedule == "fast":
        notes.append("schedule fast: fewer epochs and iterations than the paper's")
    if overrides:
        notes.append(f"changed by --set: {', '.join(overrides)}; not the paper's settings")
    notes.append(
        "by validation, by test: of the best epoch; by test is chosen on what it measures, as "
        "the paper does, and the difference is of it"
    )
    outcomes = {outcome.folder: outcome for row in rows for outcome in row.outcomes}.values()
    open_ones = [o for o in outcomes if o.status in ("not started", "under way")]
    if open_ones:
        notes.append(
            f"{len(open_ones)} of {len(outcomes)} trainings are not finished; the same call goes on"
        )
        if any(o.history for o in open_ones):
            notes.append(
                "an unfinished training has not annealed its learning rate: it can still gain much"
            )
    if target == "table2":
        notes += _gaps(rows, comparable=scale == "full")
    for row in rows:
        for outcome in row.outcomes:
            if outcome.status == "failed":
                notes.append(f"failed: {row.entry.key}, seed {outcome.seed}: {outcome.message}")
    return notes


def _gaps(rows: Sequence[Row], *, comparable: bool) -> list[str]:
    """What EP gains on backpropagation, network by network."""
    lines = []
    for bp, ep in pairwise(rows):
        if (bp.entry.learned_by, ep.entry.learned_by) != ("bp", "ep"):
            continue
        if bp.entry.words[:2] != ep.entry.words[:2]:
            continue
        mine = (ep.mean("best_by_test"), bp.mean("best_by_test"))
        if mine[0] is None or mine[1] is None:
            continue
        paper = (ep.entry.paper_percent or 0.0) - (bp.entry.paper_percent or 0.0)
        beside = f"the paper {paper:+.2f}" if comparable else f"the paper's is {NOT_COMPARABLE}"
        where = "/".join(ep.entry.words[:2])
        lines.append(f"{where}: EP less BP, points: ours {mine[0] - mine[1]:+.2f}, {beside}")
    return lines


def _number(value: float | None) -> str:
    return DASH if value is None else f"{value:.2f}"


def _shown(values: Sequence[float]) -> str:
    if len(values) < 2:
        return _number(values[0] if values else None)
    return f"{statistics.mean(values):.2f} +- {statistics.stdev(values):.2f}"


def _difference(row: Row, scale: str) -> str:
    if row.difference is None:
        return DASH
    return NOT_COMPARABLE if scale != "full" else f"{round(row.difference, 2) + 0.0:+.2f}"


def _data(row: Row) -> str:
    found = dict.fromkeys(o.data for o in row.outcomes if o.data is not None)
    return ", ".join(found) or DASH


def _losses(row: Row) -> str:
    ends = [(o.history[0]["test_cost"], o.history[-1]["test_cost"]) for o in row.outcomes
            if o.history]  # fmt: skip
    if not ends:
        return DASH
    first, last = (statistics.mean(values) for values in zip(*ends, strict=True))
    return f"{first:.4f} to {last:.4f}"


def _epochs(row: Row) -> str:
    done = sorted({len(outcome.history) for outcome in row.outcomes})
    told = f"{done[0]}" if len(done) == 1 else f"{done[0]}-{done[-1]}"
    asked = row.outcomes[0].epochs
    paper = f" (paper {EPOCHS})" if asked != EPOCHS else ""
    return f"{told} of {asked}{paper}"


def _seeds(row: Row) -> str:
    return ", ".join(str(o.seed) for o in row.outcomes if o.history) or DASH
