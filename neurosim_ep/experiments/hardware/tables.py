"""What a comparison on hardware prints: accuracies, programming, attributions."""

from rich.table import Table

from neurosim_ep.experiments.hardware.attribution import Attribution, attribution_rows
from neurosim_ep.experiments.hardware.comparison import (
    HardwareComparison,
    Level,
    accuracies,
    gaps,
)
from neurosim_ep.experiments.hardware.ways import way_label, ways
from neurosim_ep.figures.hardware import duration, label, signed


def hardware_tables(comparison: HardwareComparison) -> list[Table]:
    """What is printed: accuracies, how the hardware was programmed, and the attributions.

    Where devices learn by themselves, accuracies are one row per way of learning.
    """
    learned = comparison.on_chip
    first = _accuracy_table(comparison) if learned is None else _ways_table(comparison)
    tables = [first, _mapping_table(comparison)]
    tables += [_attribution_table(attribution) for attribution in comparison.attributions]
    if learned is not None:
        tables += [_attribution_table(attribution) for attribution in learned.attributions]
    return [*tables, _fidelity_table(comparison)] if comparison.fidelity else tables


def _accuracy_table(comparison: HardwareComparison) -> Table:
    options, ideal = comparison.options, list(comparison.ideal.values())
    chips = len(ideal) * len(options.device_seeds)
    table = Table(
        title=f"{comparison.recipe.name} on {comparison.data}, array {options.array.name}: test "
        f"accuracy of {ideal[0].images} images, mean +- spread"
    )
    table.add_column("device")
    for heading in (
        "after", "chips", "accuracy (%)", "below ideal (points)", "residual", "not settled (%)",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    table.add_row(
        "ideal (exact)",
        "",
        str(len(ideal)),
        _shown(Level.of([m.accuracy_percent for m in ideal])),
        "",
        f"{Level.of([m.residual_mean for m in ideal]).mean:.1e}",
        f"{100 * Level.of([m.unsettled_fraction for m in ideal]).mean:.1f}",
        end_section=True,
    )
    for device in options.devices:
        for time_s in options.times_of(device):
            points = comparison.of(device.name, time_s)
            table.add_row(
                device.name,
                duration(time_s),
                str(chips),
                _shown(Level.of(accuracies(points))),
                _shown(Level.of(gaps(points))),
                f"{Level.of([p.measured.residual_mean for p in points]).mean:.1e}",
                f"{100 * Level.of([p.measured.unsettled_fraction for p in points]).mean:.1f}",
                end_section=time_s == options.times_of(device)[-1],
            )
    return table


def _ways_table(comparison: HardwareComparison) -> Table:
    table = Table(
        title=f"{comparison.recipe.name} on {comparison.data}, array "
        f"{comparison.options.array.name}: test accuracy, mean +- spread"
    )
    table.add_column("device")
    table.add_column("how")
    for heading in (
        "runs", "images", "accuracy (%)", "below exact EP (points)", "pulses per device", "most",
        "nJ per image",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    every = ways(comparison)
    for way, following in zip(every, [*every[1:], None], strict=True):
        mean, most = way.pulses or (None, None)
        fast_mean, fast_most = way.fast_pulses or (None, None)
        energy = way.image_energy_joule
        table.add_row(
            way.device,
            way_label(way),
            f"{len(way.accuracies)}" + (f" ({way.failed} failed)" if way.failed else ""),
            str(way.images),
            _shown(Level.of(way.accuracies)) if way.accuracies else "failed",
            _shown(Level.of(way.gaps)) if way.gaps else "",
            _count(mean, fast_mean),
            _count(most, fast_most),
            "" if energy is None else f"{1e9 * energy:.3g}",
            end_section=following is None or following.device != way.device,
        )
    table.caption = "pulses and energy: mean over the trainings on chips, energy per training image"
    if any(way.fast_pulses for way in every):
        table.caption += "; pulses of slow / of fast arrays while learning"
    return table


def _count(slow: float | None, fast: float | None) -> str:
    counts = [count for count in (slow, fast) if count is not None]
    return " / ".join(f"{n:,.0f}" if n >= 100.0 else f"{n:.3g}" for n in counts)


def _mapping_table(comparison: HardwareComparison) -> Table:
    table = Table(title="how the hardware was programmed, mean over the chips")
    table.add_column("device")
    for heading in (
        "weights", "devices", "arrays", "in use (%)", "clipped", "failed write-verify", "pulses",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for device in comparison.options.devices:
        points = comparison.of(device.name, comparison.options.times_of(device)[0])
        reports = [p.measured.mapping for p in points if p.measured.mapping]
        table.add_row(
            device.name,
            *(f"{Level.of([getattr(r, n) for r in reports]).mean:,.0f}"
              for n in ("weights", "devices", "arrays")),
            f"{100 * reports[0].utilisation_fraction:.1f}",
            *(f"{Level.of([getattr(r, n) for r in reports]).mean:,.0f}"
              for n in ("clipped", "failed", "attempts")),
        )  # fmt: skip
    return table


def _attribution_table(attribution: Attribution) -> Table:
    table = Table(
        title=f"{attribution.title}: test accuracy of {attribution.images} images, mean over "
        f"{len(attribution.ideal)} chips"
    )
    table.add_column("nonideality")
    for heading in (
        "added (%)", "step (points)", "alone (%)", "costs alone (points)", "all but it (%)",
        "wins back (points)",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for row in attribution_rows(attribution):
        table.add_row(
            label(row["nonideality"]),
            f"{row['added_accuracy_percent']:.2f}",
            "" if row["step_points"] is None else signed(-row["step_points"]),
            _number(row["alone_accuracy_percent"]),
            _number(row["alone_cost_points"], row["alone_cost_spread_points"]),
            _number(row["off_accuracy_percent"]),
            _number(row["off_recovered_points"], row["off_recovered_spread_points"]),
        )
    return table


def _fidelity_table(comparison: HardwareComparison) -> Table:
    table = Table(title="gradients against the linear response (see fidelity-<device>)")
    table.add_column("device")
    table.add_column("settings to train with", overflow="fold")
    for device, lines in comparison.fidelity.items():
        table.add_row(device, "\n".join(lines))
    return table


def _shown(level: Level) -> str:
    return _number(level.mean, level.spread)


def _number(value: float | None, deviation: float | None = None) -> str:
    if value is None:
        return ""
    value = round(value, 2) + 0.0  # no negative zero
    return f"{value:.2f}" if deviation is None else f"{value:.2f} +- {deviation:.2f}"
