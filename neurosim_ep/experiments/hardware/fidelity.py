"""The gradient's fidelity in a comparison on hardware: one quick report per device card."""

import json
from pathlib import Path

from rich.console import Console

from neurosim_ep.devices import DeviceCard
from neurosim_ep.experiments.fidelity.command import fidelity_images
from neurosim_ep.experiments.fidelity.records import (
    recommendation_line,
    reference_warnings,
    save_report,
)
from neurosim_ep.experiments.fidelity.report import fidelity_report
from neurosim_ep.experiments.hardware.analog import Trial
from neurosim_ep.experiments.hardware.mapped import Trained
from neurosim_ep.experiments.hardware.options import HardwareOptions
from neurosim_ep.learning import write_text

FIDELITY_IMAGES = 32


def fidelity_lines(
    trained: Trained,
    options: HardwareOptions,
    folder: Path,
    *,
    data_dir: Path | None,
    resume: bool,
    console: Console,
) -> dict[str, list[str]]:
    """What each device card's report comes to; its records are in ``fidelity-<device>``.

    Args:
        trained: the network.
        options: its devices and its array.
        folder: of the comparison.
        data_dir: as in `neurosim_ep.experiments.run`.
        resume: keep the reports that are there.
        console: where to show progress.

    Raises:
        ValueError: if there are too few training images, or the exact network diverges.
    """
    found = {}
    for device in options.devices:
        place = folder / f"fidelity-{device.name}"
        key = Trial(trained, None, device, options.array).key(0.0)
        lines = _kept(place / "lines.json", key) if resume else None
        if lines is None:
            lines = _report(trained, device, options, place, data_dir, console)
            text = json.dumps({"key": key, "lines": lines}, indent=1)
            write_text(place / "lines.json", text + "\n")
        found[device.name] = lines
    return found


def _report(
    trained: Trained,
    device: DeviceCard,
    options: HardwareOptions,
    place: Path,
    data_dir: Path | None,
    console: Console,
) -> list[str]:
    method, count = trained.method, min(FIDELITY_IMAGES, len(trained.data.train) // 2)
    measured, calibration = fidelity_images(trained.recipe, count, 0, data_dir)
    with console.status("") as status:
        report = fidelity_report(
            method.model,
            device,
            options.array,
            *measured,
            *calibration,
            estimator=method.estimator,
            phases=method.phases,
            cost=method.cost,
            quick=True,
            title=trained.recipe.name,
            progress=lambda what: status.update(f"{device.name}, fidelity: {what}"),
        )
    save_report(report, place)
    warnings = [f"warning: {line}" for line in reference_warnings(report)]
    return [recommendation_line(report), *warnings]


def _kept(path: Path, key: str) -> list[str] | None:
    """Lines of a finished report of the same network and cards."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return list(held["lines"]) if held["key"] == key else None
    except (OSError, KeyError, TypeError, ValueError):
        return None
