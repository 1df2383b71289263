"""Digital accumulation: exact weights in memory, written into the devices now and then."""

from typing import Any

from neurosim_ep.onchip.rule import Rule, Update


class Digital(Rule):
    """The contrast is summed digitally and the weights are written by the card's programming.

    The upper bound of what a device allows: only its programming noise counts.  It needs a memory
    for every weight, and a full programming of every device at every writing.

    Args:
        write_interval: write after every so many updates; between, the devices hold older weights.
        rescale: choose the window's scale anew from the weights at every writing.

    Raises:
        ValueError: for an interval below 1.
    """

    digital_gradient = True
    pulsed = False
    bytes_per_weight = 8.0  # gradient and weight, 4 bytes each

    def __init__(self, write_interval: int = 1, *, rescale: bool = True) -> None:
        if write_interval < 1:
            raise ValueError(
                f"write_interval_updates: {write_interval} is not allowed; must be at least 1"
            )
        self.write_interval, self.rescale = write_interval, rescale
        self.writes = self.attempts = self.failed = 0

    def apply(self, update: Update) -> None:
        """Write where it is time."""
        if (update.number + 1) % self.write_interval:
            return
        report = update.chip.program(rescale=self.rescale)
        self.writes += 1
        self.attempts += report.attempts
        self.failed = report.failed

    def record(self) -> dict[str, Any]:
        """Writings of the whole chip, programming pulses of all devices, failures of the last."""
        return {"writes": self.writes, "write_pulses": self.attempts, "write_failed": self.failed}

    def state_dict(self) -> dict[str, Any]:
        """The counters."""
        return {"writes": self.writes, "attempts": self.attempts, "failed": self.failed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the counters."""
        self.writes, self.attempts = state["writes"], state["attempts"]
        self.failed = state["failed"]
