"""What ``neurosim-ep compare`` does where devices are given."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from neurosim_ep.config import load_recipe
from neurosim_ep.experiments.hardware.comparison import compare_on_hardware
from neurosim_ep.experiments.hardware.options import hardware_options
from neurosim_ep.experiments.hardware.records import write_records
from neurosim_ep.experiments.hardware.tables import hardware_tables


def compare_hardware(
    recipe: str,
    overrides: Sequence[str],
    devices: Sequence[str],
    asked: Mapping[str, Any],
    out: Path | None = None,
    *,
    data_dir: Path | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> tuple[list[Table], Path]:
    """Compare ideal with analog accuracy, and write all files.

    Devices learn by themselves as well where that is asked for, or the recipe learns on a chip.

    Args:
        recipe: name or path.
        overrides: of the recipe.
        devices: names or paths of device cards.
        asked: arguments of `hardware_options` that a user gave.
        out: folder; ``runs/compare-<recipe>`` by default.
        data_dir, resume, console: as in `neurosim_ep.experiments.run`.

    Returns:
        The tables to print, and the folder of the files.

    Raises:
        ValueError: one line per problem, before anything is trained where it can be known then.
    """
    if asked.get("run") is not None:
        for name, given in (("set", overrides), ("seeds", asked.get("seeds") is not None)):
            if given:
                raise ValueError(f"{name}: is not allowed with a trained run")
    resolved = load_recipe(recipe, overrides)
    learns = resolved.on_chip is not None
    options = hardware_options(devices, **({"on_chip": learns} | dict(asked)))
    folder = out or Path("runs") / f"compare-{resolved.name}"
    comparison = compare_on_hardware(
        resolved,
        options,
        folder,
        overrides=overrides,
        data_dir=data_dir,
        resume=resume,
        console=console,
    )
    write_records(comparison, folder)
    return hardware_tables(comparison), folder
