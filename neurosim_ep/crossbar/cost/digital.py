"""The same multiply-adds done digitally, for comparison."""

from dataclasses import dataclass
from typing import Any

from neurosim_ep.crossbar.cost.reads import cost_table
from neurosim_ep.crossbar.cost.report import CostReport, engineering
from neurosim_ep.crossbar.network import CrossbarNetwork


@dataclass(frozen=True)
class DigitalCost:
    """Energy of a digital machine that makes the same reads, per image.

    Attributes:
        macs: multiply-adds.
        weight_bytes: fetched.
        mac_energy_joule: of the multiply-adds.
        sram_energy_joule, dram_energy_joule: of the fetches, were all weights in that memory.
    """

    macs: float
    weight_bytes: float
    mac_energy_joule: float
    sram_energy_joule: float
    dram_energy_joule: float

    @property
    def from_sram_joule(self) -> float:
        """With all weights in memory on the chip."""
        return self.mac_energy_joule + self.sram_energy_joule

    @property
    def from_dram_joule(self) -> float:
        """With all weights in memory beside it."""
        return self.mac_energy_joule + self.dram_energy_joule

    def summary(self) -> dict[str, Any]:
        """Plain numbers for a record."""
        return {
            "macs": self.macs,
            "weight_bytes": self.weight_bytes,
            "mac_energy_joule": self.mac_energy_joule,
            "from_sram_joule": self.from_sram_joule,
            "from_dram_joule": self.from_dram_joule,
        }

    def lines(self) -> list[str]:
        """Lines to print."""
        return [
            f"digitally, weights on the chip:  {engineering(self.from_sram_joule, 'J')} per image",
            f"digitally, weights in DRAM:      {engineering(self.from_dram_joule, 'J')} per image",
        ]


def digital_comparison(
    network: CrossbarNetwork,
    settling: CostReport,
    *,
    images_per_fetch: int = 1,
    weight_bytes: float = 1.0,
) -> DigitalCost:
    """What a settling's multiply-adds would cost digitally.

    Args:
        network: gives the constants.
        settling: of `settling_cost`.
        images_per_fetch: images that share one fetch of a weight, at most the batch.
        weight_bytes: of one weight.

    Raises:
        ValueError: if the array card has no table of costs, or a number is out of range.
    """
    for name, value in (("images_per_fetch", images_per_fetch), ("weight_bytes", weight_bytes)):
        if not value > 0:
            raise ValueError(f"{name}: {value} is not allowed; must be above 0")
    cost, total = cost_table(network.array_card), settling.total
    fetched = total.weights * weight_bytes / images_per_fetch
    return DigitalCost(
        total.macs,
        fetched,
        total.macs * (cost.multiply_energy_joule + cost.add_energy_joule),
        fetched * cost.sram_energy_per_byte_joule,
        fetched * cost.dram_energy_per_byte_joule,
    )
