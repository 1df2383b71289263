"""The files of a comparison on hardware."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from neurosim_ep.devices import DeviceCard
from neurosim_ep.experiments.hardware.analog import DAY_S
from neurosim_ep.experiments.hardware.attribution import Attribution, attribution_rows, spread
from neurosim_ep.experiments.hardware.comparison import (
    HardwareComparison,
    Level,
    Point,
    accuracies,
    gaps,
)
from neurosim_ep.experiments.hardware.ways import way_label, ways
from neurosim_ep.experiments.on_chip.comparison import ChipRun, OnChipComparison
from neurosim_ep.experiments.run_folder import describe_environment
from neurosim_ep.figures.hardware import accuracy_bars, accuracy_over_time, after, waterfall
from neurosim_ep.learning import write_text

CHIP_NUMBERS = (
    "updates",
    "pairs_renewed",
    "statistics.total.pulses.mean",
    "statistics.total.pulses.median",
    "statistics.total.pulses.maximum",
    "statistics.total.endurance.maximum_fraction",
    "statistics.total.at_lower_fraction",
    "statistics.total.at_upper_fraction",
    "statistics.total.symmetry.now.distance",
    "fast_statistics.total.pulses.mean",
    "fast_statistics.total.pulses.maximum",
    "fast_statistics.pulses_before",
    "cost.training_image.energy_joule",
    "cost.training_image.time_s",
)
"""What ``on-chip.csv`` takes from a run's ``on-chip.json``; ``comparison.json`` has all of it."""


def write_records(comparison: HardwareComparison, folder: Path) -> None:
    """Write all files and figures of a comparison, each beside its place and renamed there.

    ``comparison.json`` holds all that was found, ``comparison.csv`` one row per chip and time,
    ``attribution-<device>.csv`` one row per step; figures are ``accuracy.png``, ``drift.png`` where
    something drifts, and ``waterfall-<device>.png``.  Where devices learn by themselves,
    ``accuracy.csv`` holds one row per way of learning, ``on-chip.csv`` one per training on a chip,
    and ``attribution-on-chip-<device>.csv`` and ``waterfall-on-chip-<device>.png`` say what these
    cost.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(folder / "comparison.csv", [_point_row(comparison, p) for p in comparison.points])
    text = json.dumps(_summary(comparison), indent=2)
    write_text(folder / "comparison.json", text + "\n")
    _write_attributions(comparison, comparison.attributions, folder, "")
    if comparison.on_chip is not None:
        _write_csv(folder / "accuracy.csv", [way.row for way in ways(comparison)])
        _write_csv(folder / "on-chip.csv", [_chip_row(c) for c in comparison.on_chip.chips])
        _write_attributions(comparison, comparison.on_chip.attributions, folder, "on-chip-")
    name, array = comparison.recipe.name, comparison.options.array.name
    title = f"{name}, array {array}"
    ideal = [measured.accuracy_percent for measured in comparison.ideal.values()]
    devices = {
        device.name: {
            time_s: accuracies(comparison.of(device.name, time_s))
            for time_s in comparison.options.times_of(device)
        }
        for device in comparison.options.devices
    }
    _plot_accuracy(comparison, folder / "accuracy.png", title)
    drifting = {device: by_time for device, by_time in devices.items() if len(by_time) > 1}
    if drifting:
        accuracy_over_time(ideal, drifting, folder / "drift.png", title=title)


def _plot_accuracy(comparison: HardwareComparison, path: Path, title: str) -> None:
    """Every device right after programming; with what it learned by itself also after a day."""
    times, learned = comparison.options.times_s, comparison.on_chip
    shown = [times[0]] if learned is None else [times[0], *(t for t in times[1:] if t == DAY_S)]
    if learned is None:
        title += f", {after(times[0])}"
    lines: dict[str, list[float]] = {}
    devices: dict[str, dict[str, list[float]]] = {d.name: {} for d in comparison.options.devices}
    for way in ways(comparison):
        if not way.device:
            lines[way.trained if learned else "ideal"] = way.accuracies
        elif way.time_s is None or way.time_s in shown:
            devices[way.device][way_label(way).partition(":")[0] if learned else "analog"] = (
                way.accuracies
            )
    named = devices
    if learned is not None:
        named = {
            f"{name}\n({learned.rules[name].replace('_', ' ')})": bars
            for name, bars in devices.items()
        }
    accuracy_bars(lines, named, path, title=title)


def _write_attributions(
    comparison: HardwareComparison, found: Sequence[Attribution], folder: Path, kind: str
) -> None:
    for attribution in found:
        name = f"{kind}{attribution.device}"
        _write_csv(folder / f"attribution-{name}.csv", attribution_rows(attribution))
        title = f"{comparison.recipe.name}, {attribution.title}"
        waterfall_figure(attribution, folder / f"waterfall-{name}.png", title)


def _chip_row(chip: ChipRun) -> dict[str, Any]:
    row = {name: value for name, value in vars(chip).items() if name not in ("numbers", "folder")}
    return row | {"folder": chip.folder.name} | {n: chip.numbers.get(n) for n in CHIP_NUMBERS}


def _on_chip_summary(learned: OnChipComparison) -> dict[str, Any]:
    return {
        "backpropagation_percent": learned.backpropagation,
        "exact_percent": learned.exact,
        "rules": learned.rules,
        "changed_for_the_rule": learned.changes,
        "chips": [_chip_row(chip) | {"numbers": dict(chip.numbers)} for chip in learned.chips],
        "attribution": [row for a in learned.attributions for row in attribution_rows(a)],
    }


def _point_row(comparison: HardwareComparison, point: Point) -> dict[str, Any]:
    measured = asdict(point.measured)
    versions, mapping = measured.pop("versions"), measured.pop("mapping") or {}
    return {
        "recipe": comparison.recipe.name,
        "data": comparison.data,
        "device": point.device,
        "array": comparison.options.array.name,
        "training_seed": point.training_seed,
        "device_seed": point.device_seed,
        "time_s": point.time_s,
        "ideal_accuracy_percent": point.ideal.accuracy_percent,
        **measured,
        **mapping,
        **{f"version_{name.replace('-', '_')}": text for name, text in versions.items()},
    }


def _summary(comparison: HardwareComparison) -> dict[str, Any]:
    options = comparison.options
    return {
        "recipe": comparison.recipe.model_dump(mode="json", exclude_none=True),
        "data": comparison.data,
        "weights": "best",
        "run": str(options.run) if options.run else None,
        "training_seeds": list(comparison.ideal),
        "device_seeds": list(options.device_seeds),
        "array": options.array.model_dump(mode="json", exclude_none=True),
        "ideal": [{"training_seed": s} | asdict(m) for s, m in comparison.ideal.items()],
        "devices": [_device_summary(comparison, device) for device in options.devices],
        **({"on_chip": _on_chip_summary(learned)} if (learned := comparison.on_chip) else {}),
        "environment": describe_environment(),
    }


def _device_summary(comparison: HardwareComparison, device: DeviceCard) -> dict[str, Any]:
    attributed = [a for a in comparison.attributions if a.device == device.name]
    return {
        "card": device.model_dump(mode="json", exclude_none=True),
        "accuracy": [
            _time_summary(time_s, comparison.of(device.name, time_s))
            for time_s in comparison.options.times_of(device)
        ],
        "chips": [_point_row(comparison, p) for p in comparison.points if p.device == device.name],
        "fidelity": comparison.fidelity.get(device.name, []),
        "attribution": [row for a in attributed for row in attribution_rows(a)],
    }


def _time_summary(time_s: float, points: Sequence[Point]) -> dict[str, Any]:
    accuracy, gap = accuracies(points), gaps(points)
    return {
        "time_s": time_s,
        "chips": len(points),
        "accuracy_percent": Level.of(accuracy).mean,
        "accuracy_spread_percent": spread(accuracy),
        "below_ideal_points": Level.of(gap).mean,
        "below_ideal_spread_points": spread(gap),
    }


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def waterfall_figure(attribution: Attribution, path: Path | None = None, title: str = "") -> Figure:
    """`neurosim_ep.figures.hardware.waterfall` of an attribution.

    Args:
        attribution: of `attribute` or of a comparison.
        path: the file to write; None writes none.
        title: above the figure; what was measured when by default.
    """
    steps = attribution.steps
    if steps[0][1] == 0.0 and len(steps) > 1:
        steps = steps[1:]  # a mapping that clips nothing is no news
    return waterfall(
        Level.of(attribution.ideal).mean,
        attribution.analog,
        steps,
        {share.name: Level.of(share.alone).mean for share in attribution.shares},
        {share.name: Level.of(share.off).mean for share in attribution.shares},
        path,
        title=title or attribution.title,
    )
