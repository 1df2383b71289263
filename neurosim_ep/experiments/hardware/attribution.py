"""Which nonideality costs how much accuracy.

Three answers, since nonidealities do not simply add: what each one costs alone, what is won back
when it alone is made ideal, and a waterfall that adds one after another in the order of
`neurosim_ep.crossbar.NONIDEALITIES`, whose steps sum to the whole gap.
"""

import itertools
import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from neurosim_ep.crossbar import ArrayCard, present, without
from neurosim_ep.devices import DeviceCard
from neurosim_ep.experiments.hardware.analog import Measurement, Trial
from neurosim_ep.experiments.hardware.mapped import Trained
from neurosim_ep.figures.hardware import after

ATTRIBUTION_IMAGES = 2000
MAPPING, UPDATE_RULE = "mapping", "update_rule"
# Of a chip that has none of these nothing is drawn: all seeds give the same one.
_DRAWN = {"programming", "spread", "faults", "read_noise", "drift", "adc_noise"}

Measure = Callable[[Trial, Sequence[float]], list[Measurement]]


@dataclass(frozen=True)
class Share:
    """Accuracies of one nonideality, in percent, one number per chip.

    Attributes:
        name: of the nonideality.
        alone: with it alone.
        off: with all but it.
        added: with it and all that come before it.
    """

    name: str
    alone: list[float]
    off: list[float]
    added: list[float]


@dataclass(frozen=True)
class Attribution:
    """Where a device card's accuracy goes.

    A chip is one trained network on one piece of hardware; all lists run over the same chips.

    Attributes:
        device, array: names of the cards.
        time_s: since programming.
        images: test images.
        ideal: accuracy of the chip's network by itself, in percent.
        mapped: with all nonidealities made ideal; differs from ``ideal`` by what mapping clips, or
            by what the update rule costs.
        shares: of each nonideality that the cards have.
        base: what ``mapped`` loses, ``mapping`` or ``update_rule``.
        trained: how the networks were trained on chips; empty where they were mapped.
    """

    device: str
    array: str
    time_s: float
    images: int
    ideal: list[float]
    mapped: list[float]
    shares: list[Share]
    base: str = MAPPING
    trained: str = ""

    @property
    def title(self) -> str:
        """What was measured when."""
        return f"{self.device} on array {self.array}, {self.trained or after(self.time_s)}"

    @property
    def analog(self) -> list[float]:
        """With all nonidealities, in percent."""
        return self.shares[-1].added if self.shares else self.mapped

    @property
    def steps(self) -> list[tuple[str, float]]:
        """Points of accuracy that each step of the waterfall loses; they sum to the whole gap."""
        levels = [self.ideal, self.mapped, *(share.added for share in self.shares)]
        means = [statistics.mean(level) for level in levels]
        names = [self.base, *(share.name for share in self.shares)]
        lost = [before - after for before, after in itertools.pairwise(means)]
        return list(zip(names, lost, strict=True))


def attribute(
    trained: Sequence[Trained],
    device: DeviceCard,
    array: ArrayCard,
    *,
    seeds: Sequence[int],
    time_s: float,
    images: int | None,
    measure: Measure,
) -> Attribution:
    """Measure every trained network on every piece of hardware, with parts of its nonidealities.

    Args:
        trained: at least one network.
        device, array: cards with everything.
        seeds: of the hardware, at least one.
        time_s: since programming, at which all is measured.
        images: how many test images are used; None for all.
        measure: as `neurosim_ep.experiments.hardware.analog.Measurements` does.

    Raises:
        ValueError: as ``measure``.
    """
    names = present(device, array)

    def accuracies(kept: Collection[str]) -> list[float]:
        cards = without(device, array, [name for name in names if name not in kept])
        drawn = seeds if _DRAWN & set(kept) else seeds[:1]
        found = []
        for network in trained:
            trials = [Trial(network, images, *cards, seed) for seed in drawn]
            percent = [measure(trial, (time_s,))[0].accuracy_percent for trial in trials]
            found += percent if len(drawn) == len(seeds) else percent * len(seeds)
        return found

    exact = [measure(Trial(network, images), (0.0,))[0] for network in trained]
    mapped = accuracies(())
    shares = shares_of(names, accuracies)
    ideal = [measurement.accuracy_percent for measurement in exact for _ in seeds]
    return Attribution(device.name, array.name, time_s, exact[0].images, ideal, mapped, shares)


def shares_of(
    names: Sequence[str], accuracies: Callable[[Collection[str]], list[float]]
) -> list[Share]:
    """Every nonideality alone, all but it, and one after another.

    Args:
        names: of the nonidealities, in order.
        accuracies: of all chips that have kept these nonidealities, in percent.
    """
    return [
        Share(
            name,
            accuracies((name,)),
            accuracies([other for other in names if other != name]),
            accuracies(names[: position + 1]),
        )
        for position, name in enumerate(names)
    ]


def kept_sets(names: Sequence[str]) -> list[frozenset[str]]:
    """Sets of nonidealities that `shares_of` asks for, and the empty one; some come twice."""
    kept = [frozenset[str](), *(frozenset({name}) for name in names)]
    kept += [frozenset(names) - {name} for name in names]
    kept += [frozenset(names[: position + 1]) for position in range(len(names))]
    return kept


def trials_of(device: DeviceCard, array: ArrayCard, seeds: int) -> int:
    """How many trials `attribute` asks for per trained network, beside the exact one."""
    kept = kept_sets(present(device, array))
    return sum(seeds if _DRAWN & each else 1 for each in kept)


def attribution_rows(attribution: Attribution) -> list[dict[str, Any]]:
    """One row per step of the waterfall, from ideal to analog.

    Accuracies in percent, costs in points of them; a spread is the sample standard deviation over
    the chips, each against itself.
    """
    ideal, analog = attribution.ideal, attribution.analog
    common = {
        "device": attribution.device,
        "array": attribution.array,
        "time_s": attribution.time_s,
        "images": attribution.images,
        "chips": len(ideal),
    }
    steps = dict(attribution.steps)
    mapped = Share(attribution.base, attribution.mapped, [], attribution.mapped)
    rows = [common | _row("ideal", ideal, None, ideal, [])]
    for share in (mapped, *attribution.shares):
        rows.append(common | _row(share.name, share.added, steps[share.name], ideal, share.alone))
        if share.off:
            rows[-1] |= _off(share.off, analog)
    return rows


def _row(
    name: str, added: list[float], step: float | None, ideal: list[float], alone: list[float]
) -> dict[str, Any]:
    cost = [a - b for a, b in zip(ideal, alone, strict=True)] if alone else []
    return {
        "nonideality": name,
        "added_accuracy_percent": statistics.mean(added),
        "step_points": step,
        "alone_accuracy_percent": statistics.mean(alone) if alone else None,
        "alone_cost_points": statistics.mean(cost) if cost else None,
        "alone_cost_spread_points": spread(cost),
        "off_accuracy_percent": None,
        "off_recovered_points": None,
        "off_recovered_spread_points": None,
    }


def _off(off: list[float], analog: list[float]) -> dict[str, Any]:
    recovered = [a - b for a, b in zip(off, analog, strict=True)]
    return {
        "off_accuracy_percent": statistics.mean(off),
        "off_recovered_points": statistics.mean(recovered),
        "off_recovered_spread_points": spread(recovered),
    }


def spread(values: Sequence[float]) -> float | None:
    """Sample standard deviation; None of fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None
