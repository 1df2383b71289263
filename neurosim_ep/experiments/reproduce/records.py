"""The files that a reproduced table leaves: everything in JSON, one row per training in CSV."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neurosim_ep.experiments.reproduce.outcomes import Outcome, Row
from neurosim_ep.experiments.reproduce.plans import Planned
from neurosim_ep.learning import write_text


def earlier_calls(path: Path) -> list[dict[str, Any]]:
    """The calls that a record tells of; none where there is no record.

    Raises:
        ValueError: if the record is damaged.
    """
    if not path.exists():
        return []
    try:
        calls = json.loads(path.read_text(encoding="utf-8"))["calls"]
        assert isinstance(calls, list)
    except (AssertionError, KeyError, TypeError, ValueError):
        raise ValueError(
            f"{path}: damaged or foreign; must be the record of a reproduction"
        ) from None
    return calls


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Replace a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record, indent=2) + "\n")


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Replace a table by these rows; units in the names, empty where there is nothing."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def json_row(row: Row, *, comparable: bool) -> dict[str, Any]:
    """A row with the paper's numbers, the means of ours, and every training."""
    planned, entry = row.planned, row.entry
    return {
        "row": entry.key,
        "learned_by": entry.learned_by,
        "paper_percent": entry.paper_percent,
        "prior_best_percent": entry.prior_best_percent,
        "last_percent": row.mean("last"),
        "best_by_validation_percent": row.mean("best_by_validation"),
        "best_by_test_percent": row.mean("best_by_test"),
        "difference_points": row.difference if comparable else None,
        "recipe": planned.source,
        "overrides": list(planned.overrides),
        "trainings": [
            csv_row(row, outcome, comparable=comparable)
            | {"folder": outcome.folder.name, "command": _command(planned, outcome.seed)}
            for outcome in row.outcomes
        ],
    }


def csv_row(row: Row, outcome: Outcome, *, comparable: bool) -> dict[str, Any]:
    """One training."""
    entry, done, history = row.entry, outcome.result, outcome.history
    paper, best = entry.paper_percent, done and done.best_by_test
    known = comparable and paper is not None and best is not None
    return {
        "row": entry.key,
        "seed": outcome.seed,
        "status": outcome.status,
        "data": outcome.data,
        "epochs_done": len(history),
        "epochs": outcome.epochs,
        "comparable": comparable,
        "paper_percent": paper,
        "last_percent": done and done.last,
        "best_by_validation_percent": done and done.best_by_validation,
        "best_epoch": done and done.best_epoch,
        "best_by_test_percent": best,
        "difference_points": (best or 0.0) - (paper or 0.0) if known else None,
        "first_test_cost": history[0]["test_cost"] if history else None,
        "last_test_cost": history[-1]["test_cost"] if history else None,
        "message": outcome.message or None,
    }


def _command(planned: Planned, seed: int) -> str:
    """What trains the same by itself."""
    sets = [
        part for text in (*planned.overrides, f"recipe.seed={seed}") for part in ("--set", text)
    ]
    return shlex.join(["neurosim-ep", "train", planned.source, *sets])
