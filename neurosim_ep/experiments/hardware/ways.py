"""The ways of learning of a comparison side by side: rows of its one table."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neurosim_ep.experiments.hardware.attribution import spread
from neurosim_ep.experiments.hardware.comparison import HardwareComparison, accuracies, gaps
from neurosim_ep.experiments.on_chip.comparison import ChipRun
from neurosim_ep.figures.hardware import duration

BACKPROPAGATION, EXACT, MAPPED, ON_CHIP = (
    "backpropagation",
    "exact EP",
    "exact EP, mapped",
    "trained on chip",
)
_TOTAL, _FAST = "statistics.total.", "fast_statistics.total."


@dataclass(frozen=True)
class Way:
    """One way of learning, on one device at one time where that matters.

    Attributes:
        trained: ``backpropagation``, ``exact EP``, ``exact EP, mapped`` or ``trained on
            chip``.
        device: name of the card; empty without hardware.
        rule: of a training on a chip.
        time_s: since programming; None where that does not matter.
        images: test images.
        accuracies: of networks or chips, in percent.
        gaps: how far each is below the exact network of its training seed, in points.
        pulses: per device and training: mean and most over all devices, mean over the chips; None
            without pulses.
        fast_pulses: likewise of the fast arrays of Tiki-Taka, without the symmetrising ones.
        image_energy_joule: of one training image; None where the array card has no costs.
        failed: trainings without an accuracy.
    """

    trained: str
    device: str
    rule: str
    time_s: float | None
    images: int
    accuracies: list[float]
    gaps: list[float]
    pulses: tuple[float, float] | None = None
    fast_pulses: tuple[float, float] | None = None
    image_energy_joule: float | None = None
    failed: int = 0

    @property
    def row(self) -> dict[str, Any]:
        """One row of ``accuracy.csv``; units in the names, empty where there is nothing."""
        mean, most = self.pulses or (None, None)
        fast_mean, fast_most = self.fast_pulses or (None, None)
        return {
            "trained": self.trained,
            "device": self.device,
            "rule": self.rule,
            "time_s": self.time_s,
            "images": self.images,
            "runs": len(self.accuracies),
            "failed": self.failed,
            "accuracy_percent": _mean(self.accuracies),
            "accuracy_spread_percent": spread(self.accuracies),
            "below_exact_points": _mean(self.gaps),
            "below_exact_spread_points": spread(self.gaps),
            "pulses_per_device_mean": mean,
            "pulses_per_device_maximum": most,
            "fast_pulses_per_device_mean": fast_mean,
            "fast_pulses_per_device_maximum": fast_most,
            "training_image_energy_joule": self.image_energy_joule,
        }


def ways(comparison: HardwareComparison) -> list[Way]:
    """Every way of learning: backpropagation, exact EP, then each device mapped and on its own."""
    learned, options = comparison.on_chip, comparison.options
    ideal = comparison.ideal
    images = next(iter(ideal.values())).images
    found = []
    if learned is not None and learned.backpropagation:
        by_bp, exact = learned.backpropagation, learned.exact
        below = [exact[seed] - percent for seed, percent in by_bp.items()]
        found.append(
            Way(BACKPROPAGATION, "", "", None, comparison.test_images, [*by_bp.values()], below)
        )
    percents = [measured.accuracy_percent for measured in ideal.values()]
    found.append(Way(EXACT, "", "", None, images, percents, []))
    for device in options.devices:
        for time_s in options.times_of(device):
            points = comparison.of(device.name, time_s)
            found.append(
                Way(MAPPED, device.name, "", time_s, images, accuracies(points), gaps(points))
            )
        if learned is not None:
            found.append(_on_chip(learned.of(device.name), comparison.test_images))
    return found


def way_label(way: Way) -> str:
    """How a table calls it."""
    if way.trained == MAPPED and way.time_s:
        return f"{way.trained}, {duration(way.time_s)} later"
    return f"{way.trained}: {way.rule}" if way.rule else way.trained


def _on_chip(chips: Sequence[ChipRun], images: int) -> Way:
    done = [chip for chip in chips if chip.accuracy_percent is not None]
    percents = [chip.accuracy_percent for chip in done if chip.accuracy_percent is not None]
    below = [chip.exact_percent - p for chip, p in zip(done, percents, strict=True)]
    return Way(
        ON_CHIP,
        chips[0].device,
        chips[0].rule,
        None,
        images,
        percents,
        below,
        _pulses(done, _TOTAL),
        _pulses(done, _FAST),
        _mean(_numbers(done, "cost.training_image.energy_joule")),
        len(chips) - len(done),
    )


def _pulses(chips: Sequence[ChipRun], prefix: str) -> tuple[float, float] | None:
    mean, most = (_mean(_numbers(chips, f"{prefix}pulses.{name}")) for name in ("mean", "maximum"))
    return None if mean is None or most is None else (mean, most)


def _numbers(chips: Sequence[ChipRun], name: str) -> list[float]:
    return [chip.numbers[name] for chip in chips if name in chip.numbers]


def _mean(values: Sequence[float]) -> float | None:
    return statistics.mean(values) if values else None
