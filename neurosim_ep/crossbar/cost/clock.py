"""What happens one after another, and what side by side, while a network settles."""

from neurosim_ep.crossbar.cost.counts import places
from neurosim_ep.crossbar.cost.report import Span, UnitCost
from neurosim_ep.models import Edge, HopfieldNetwork


class Clock:
    """Times of a settling, from those of single reads.

    Args:
        network: any.
        order: in which its layers are updated.
        units: cost of one read of each kind, one dictionary per edge.
        neuron_time_s: of every group's update.
    """

    def __init__(
        self,
        network: HopfieldNetwork,
        order: str,
        units: list[dict[str, UnitCost]],
        neuron_time_s: float,
    ) -> None:
        self._place, self._neuron_s = places(network, order), neuron_time_s
        self._groups = 1 + max(self._place.values())
        self._input: list[float] = []
        self._settling: list[tuple[Edge, dict[str, float]]] = []
        for edge, unit in zip(network.edge_list(), units, strict=True):
            times = {name: cost.busy_time_s for name, cost in unit.items()}
            if edge.pre == 0:
                self._input.append(times["forward"])
            elif edge.post == 0:
                self._input.append(times["transposed"])
            else:
                self._settling.append((edge, times))

    def spans(self, free: float, nudged: float, phases: int, reads: str) -> list[Span]:
        """Everything that one image waits for, without what takes no time."""
        fixed = max(self._input, default=0.0)
        found = [
            Span("free: input", 1.0, fixed),
            Span("free: iteration", free, self._iteration("")),
            Span("free: pooling anew", 1.0, self._first("")),
        ]
        if phases:
            kind = "_delta" if reads == "delta" else ""
            anew = self._first(kind) + self._last(kind)
            found += [
                Span("nudged: input", 1.0, fixed),
                Span("nudged: free currents", 1.0, self._both() if kind else 0.0),
                Span("nudged: iteration", phases * nudged, self._iteration(kind)),
                Span("nudged: pooling anew", phases, anew),
            ]
        return [span for span in found if span.each_s > 0.0]

    def _group(self, place: int, kind: str, first: bool) -> float:
        """Reads of one group: edges at once, both directions of an edge in turn."""
        longest = 0.0
        for edge, times in self._settling:
            busy, pre, post = 0.0, self._place[edge.pre], self._place[edge.post]
            if post == place:
                busy += times[f"forward{kind}"]
            if pre == place:
                busy += times[f"transposed{kind}"]
                if first and edge.geometry.pooled and pre < post:
                    busy += times[f"forward{kind}"]
            longest = max(longest, busy)
        return longest

    def _iteration(self, kind: str) -> float:
        """One iteration that is not the first."""
        groups = range(self._groups)
        return sum(self._group(place, kind, False) + self._neuron_s for place in groups)

    def _first(self, kind: str) -> float:
        """What the first iteration takes more: winners that nothing holds yet."""
        groups = range(self._groups)
        return sum(self._group(g, kind, True) - self._group(g, kind, False) for g in groups)

    def _last(self, kind: str) -> float:
        """Winners at the end, where the pre layer went last."""
        return max(
            (
                times[f"forward{kind}"]
                for edge, times in self._settling
                if edge.geometry.pooled and self._place[edge.pre] >= self._place[edge.post]
            ),
            default=0.0,
        )

    def _both(self) -> float:
        """One full read in each direction of every edge."""
        return max((t["forward"] + t["transposed"] for _, t in self._settling), default=0.0)
