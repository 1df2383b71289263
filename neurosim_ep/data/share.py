"""Which images of a batch are one process's, where several train one model together."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """One of several parts of every batch: consecutive images, and as even as can be.

    Attributes:
        rank: which part, from 0.
        count: how many parts there are; one is the whole.

    Raises:
        ValueError: if there is no such part.
    """

    rank: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.count:
            raise ValueError(
                f"rank: {self.rank} is not allowed; must be at least 0 and below {self.count}"
            )

    def rows(self, size: int) -> slice:
        """This part's rows of a batch of ``size`` images, perhaps none.

        The parts in order make the batch, and their sizes differ by one at most.
        """
        return slice(size * self.rank // self.count, size * (self.rank + 1) // self.count)


WHOLE = Share()
"""Everything: what one process alone takes."""
