"""The files of a comparison on hardware."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neurosim_ep.devices import DeviceCard
from neurosim_ep.experiments.attribution import Attribution, attribution_rows, spread
from neurosim_ep.experiments.hardware_comparison import (
    HardwareComparison,
    Level,
    Point,
    accuracies,
    gaps,
)
from neurosim_ep.experiments.run_folder import describe_environment
from neurosim_ep.hardware_plots import accuracy_bars, accuracy_over_time, after, waterfall
from neurosim_ep.learning import write_text


def write_records(comparison: HardwareComparison, folder: Path) -> None:
    """Write all files and figures of a comparison, each beside its place and renamed there.

    ``comparison.json`` holds all that was found, ``comparison.csv`` one row per chip and time,
    ``attribution-<device>.csv`` one row per step; figures are ``accuracy.png``, ``drift.png`` where
    something drifts, and ``waterfall-<device>.png``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(folder / "comparison.csv", [_point_row(comparison, p) for p in comparison.points])
    text = json.dumps(_summary(comparison), indent=2)
    write_text(folder / "comparison.json", text + "\n")
    for attribution in comparison.attributions:
        path = folder / f"attribution-{attribution.device}.csv"
        _write_csv(path, attribution_rows(attribution))
        _plot_waterfall(comparison, attribution, folder / f"waterfall-{attribution.device}.png")
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
    programmed = {device: next(iter(by_time.values())) for device, by_time in devices.items()}
    first = f"{title}, {after(comparison.options.times_s[0])}"
    accuracy_bars(ideal, programmed, folder / "accuracy.png", title=first)
    drifting = {device: by_time for device, by_time in devices.items() if len(by_time) > 1}
    if drifting:
        accuracy_over_time(ideal, drifting, folder / "drift.png", title=title)


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


def _plot_waterfall(comparison: HardwareComparison, attribution: Attribution, path: Path) -> None:
    steps = attribution.steps
    if steps[0][1] == 0.0 and len(steps) > 1:
        steps = steps[1:]  # a mapping that clips nothing is no news
    waterfall(
        Level.of(attribution.ideal).mean,
        attribution.analog,
        steps,
        {share.name: Level.of(share.alone).mean for share in attribution.shares},
        {share.name: Level.of(share.off).mean for share in attribution.shares},
        path,
        title=f"{comparison.recipe.name}, {attribution.title}",
    )
