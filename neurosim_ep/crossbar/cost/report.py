"""What a cost report is made of: rows, each a count times the cost of one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

PARTS = ("array", "dac", "adc", "digital", "memory", "write")
"""Where energy goes; `UnitCost` has a field ``<part>_energy_joule`` for each."""


@dataclass(frozen=True)
class UnitCost:
    """Cost of one thing, or the sum of many.

    Attributes:
        array_energy_joule: ohmic, in the devices, while they are read.
        dac_energy_joule, adc_energy_joule: of the conversions.
        digital_energy_joule: of additions and multiplications.
        memory_energy_joule: of the memory beside the arrays.
        write_energy_joule: ohmic, in the devices, while they are pulsed.
        array_reads: how often a set of tiles is driven and sensed.
        dac_conversions, adc_conversions, digital_operations, memory_bytes: what was counted.
        macs: multiply-adds that arrays did in their place.
        weights: weights that took part, a convolution's once for all positions.
        busy_time_s: how long it keeps its arrays; what runs side by side counts every time.
    """

    array_energy_joule: float = 0.0
    dac_energy_joule: float = 0.0
    adc_energy_joule: float = 0.0
    digital_energy_joule: float = 0.0
    memory_energy_joule: float = 0.0
    write_energy_joule: float = 0.0
    array_reads: float = 0.0
    dac_conversions: float = 0.0
    adc_conversions: float = 0.0
    digital_operations: float = 0.0
    memory_bytes: float = 0.0
    macs: float = 0.0
    weights: float = 0.0
    busy_time_s: float = 0.0

    @property
    def energy_joule(self) -> float:
        """All parts together."""
        return sum(float(getattr(self, f"{part}_energy_joule")) for part in PARTS)

    def __add__(self, other: UnitCost) -> UnitCost:
        names = [field.name for field in fields(self)]
        return UnitCost(**{n: getattr(self, n) + getattr(other, n) for n in names})

    def __mul__(self, times: float) -> UnitCost:
        return UnitCost(**{field.name: times * getattr(self, field.name) for field in fields(self)})


def total_of(costs: Iterable[UnitCost]) -> UnitCost:
    """Sum of costs."""
    total = UnitCost()
    for cost in costs:
        total = total + cost
    return total


@dataclass(frozen=True)
class CostRow:
    """One line of a report.

    Attributes:
        where: the edge (``0 -> 1``), layer or target.
        what: happens there.
        count: how often, per image.
        each: cost of one.
    """

    where: str
    what: str
    count: float
    each: UnitCost

    @property
    def total(self) -> UnitCost:
        """All of them."""
        return self.each * self.count


@dataclass(frozen=True)
class Span:
    """A stretch of time, one after another with all others of a report.

    Attributes:
        what: takes it.
        count: how often.
        each_s: how long.
    """

    what: str
    count: float
    each_s: float


@dataclass(frozen=True)
class CostReport:
    """What one image costs; two reports add up.

    Attributes:
        rows: of energy and counts.
        spans: of time.
        unpriced: fields of the array card that are ideal and therefore cost nothing here.
    """

    rows: tuple[CostRow, ...] = ()
    spans: tuple[Span, ...] = ()
    unpriced: tuple[str, ...] = ()

    @property
    def total(self) -> UnitCost:
        """Sum of all rows."""
        return total_of(row.total for row in self.rows)

    @property
    def energy_joule(self) -> float:
        """Of one image."""
        return self.total.energy_joule

    @property
    def time_s(self) -> float:
        """From an image's first read to its last, one image at a time."""
        return sum(span.count * span.each_s for span in self.spans)

    def __add__(self, other: CostReport) -> CostReport:
        unpriced = dict.fromkeys(self.unpriced + other.unpriced)
        return CostReport(self.rows + other.rows, self.spans + other.spans, tuple(unpriced))

    def summary(self) -> dict[str, Any]:
        """Plain numbers for a record."""
        total = self.total
        sums = {f.name: getattr(total, f.name) for f in fields(total) if f.name != "busy_time_s"}
        return {
            "energy_joule": total.energy_joule,
            "time_s": self.time_s,
            **sums,
            "unpriced": list(self.unpriced),
            "rows": [
                {
                    "where": row.where,
                    "what": row.what,
                    "count": row.count,
                    "each_energy_joule": row.each.energy_joule,
                    "each_busy_time_s": row.each.busy_time_s,
                }
                for row in self.rows
            ],
            "spans": [
                {"what": span.what, "count": span.count, "each_s": span.each_s}
                for span in self.spans
            ],
        }

    def lines(self) -> list[str]:
        """A table to print: rows, the parts' sums, the time."""
        width = max((len(f"{row.where}  {row.what}") for row in self.rows), default=0)
        found = [
            f"{f'{row.where}  {row.what}':<{width}}  {row.count:>10.6g} x "
            f"{engineering(row.each.energy_joule, 'J'):>10} = "
            f"{engineering(row.total.energy_joule, 'J'):>10}"
            for row in self.rows
        ]
        total, whole = self.total, self.energy_joule
        for part in PARTS:
            energy = float(getattr(total, f"{part}_energy_joule"))
            if energy > 0.0:
                percent = 100.0 * energy / whole
                found.append(f"{part:<8} {engineering(energy, 'J'):>10}  {percent:5.1f} %")
        found.append(f"{'energy':<8} {engineering(whole, 'J'):>10}  per image")
        found.append(f"{'time':<8} {engineering(self.time_s, 's'):>10}  per image")
        if self.unpriced:
            found.append(f"ideal and without a cost: {', '.join(self.unpriced)}")
        return found


def engineering(value: float, unit: str) -> str:
    """A number of at least 0 with a prefix: 1.5e-9 J is ``1.5 nJ``."""
    for prefix, size in (("", 1.0), ("m", 1e-3), ("u", 1e-6), ("n", 1e-9), ("p", 1e-12)):
        if value >= size:
            return f"{value / size:.4g} {prefix}{unit}"
    return f"{value / 1e-15:.4g} f{unit}"
