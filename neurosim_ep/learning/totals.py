"""Sums over the batches of an epoch, kept on the device, and the means that are reported."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosim_ep.learning.methods import Report


@dataclass(frozen=True)
class Summary:
    """Means over the images of an epoch or an evaluation.

    Attributes:
        images: how many.
        cost: mean C.
        accuracy_percent: share of right answers.
        residual_mean, residual_max: of the free phase; None without settling.
        unsettled_fraction: share of images whose residual is above the tolerance, 0 to 1.
        departure_mean: see `neurosim_ep.learning.departure`; None where not defined.
    """

    images: int
    cost: float
    accuracy_percent: float
    residual_mean: float | None = None
    residual_max: float | None = None
    unsettled_fraction: float | None = None
    departure_mean: float | None = None


class Totals:
    """Running sums; adding a batch does not wait for the device."""

    def __init__(self) -> None:
        self.images = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, report: Report) -> None:
        """Add one batch."""
        self.images += len(report.cost)
        self._add("cost", report.cost)
        self._add("wrong", report.wrong)
        if report.residual is not None and report.settled is not None:
            self._add("residual", report.residual)
            self._add("unsettled", ~report.settled)
            highest = report.residual.max().double()
            held = self._sums.get("residual_max", highest)
            self._sums["residual_max"] = torch.maximum(held, highest)
        if report.departure is not None:
            self._add("departure", report.departure)

    def _add(self, name: str, values: Tensor) -> None:
        total = values.detach().double().sum()
        self._sums[name] = self._sums[name] + total if name in self._sums else total

    def summary(self) -> Summary:
        """The means so far.

        Raises:
            ValueError: if no image was added, or the cost is not finite.
        """
        if self.images == 0:
            raise ValueError("images: 0 is not allowed; a summary needs at least 1")
        mean = {name: float(total) / self.images for name, total in self._sums.items()}
        if not mean["cost"] - mean["cost"] == 0.0:
            raise ValueError(
                f"cost: {mean['cost']} is not finite; the training diverges (a lower learning rate "
                "or gradient clipping helps)"
            )
        highest = self._sums.get("residual_max")
        return Summary(
            self.images,
            mean["cost"],
            100.0 * (1.0 - mean["wrong"]),
            mean.get("residual"),
            None if highest is None else float(highest),
            mean.get("unsettled"),
            mean.get("departure"),
        )

    @classmethod
    def merged(cls, states: Sequence[dict[str, float]]) -> "Totals":
        """The totals of several processes, given as their ``state_dict``s, as one on the CPU."""
        whole: dict[str, float] = {"images": 0}
        for state in states:
            for name, value in state.items():
                held = whole.get(name)
                if held is None:
                    whole[name] = value
                else:
                    whole[name] = max(held, value) if name == "residual_max" else held + value
        totals = cls()
        totals.load_state_dict(whole, torch.device("cpu"))
        return totals

    def state_dict(self) -> dict[str, float]:
        """The sums as plain numbers; exact, since they are float64."""
        return {"images": self.images} | {name: float(t) for name, t in self._sums.items()}

    def load_state_dict(self, state: dict[str, float], device: torch.device) -> None:
        """Restore the sums."""
        state = dict(state)
        self.images = int(state.pop("images"))
        self._sums = {
            name: torch.tensor(total, dtype=torch.float64, device=device)
            for name, total in state.items()
        }
