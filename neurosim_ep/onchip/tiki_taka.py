"""Tiki-Taka: gradients gather on a fast array, which is read now and then into the weights.

A device whose up and down steps differ is driven to its symmetry point by cancelling pulses.  On a
fast array of its own, whose symmetry point stands for zero, that only makes it forget, and the
weights get few pulses in one direction (Gokmen & Haensch, Front. Neurosci. 14:103, 2020).
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from neurosim_ep.crossbar import CrossbarMatrix, read_rows
from neurosim_ep.learning import Form
from neurosim_ep.onchip.pulsed import product_counts
from neurosim_ep.onchip.rule import Rule, Update
from neurosim_ep.onchip.tally import LineUse, read_use
from neurosim_ep.onchip.targets import Target, target_products
from neurosim_ep.onchip.trains import Counts, Trains
from neurosim_ep.seeds import derive_seed

Variant = Literal["v1", "v2", "agad"]


@dataclass(eq=False)
class _Fast:
    """What the rule keeps of one target.

    Attributes:
        matrix: the fast array (rows, columns), at the target's scale.
        reference: what of a reading counts as zero (rows, columns).
        buffer: digital, what was read and not yet passed on (rows, columns).
        chopper: sign with which each row is driven at present (rows, 1).
        use: of the fast array's lines so far.
    """

    matrix: CrossbarMatrix
    reference: Tensor
    buffer: Tensor
    chopper: Tensor
    use: LineUse


class TikiTaka(Rule):
    """The products are pulsed on a fast array; its rows are read in turn and move the weights.

    A reading, less its reference, is taken for the gradient of as many updates as lie between two
    readings of its row, so it is passed on times ``learning rate / fast learning rate``.  That is
    exact for ``agad``.  With ``v1`` and ``v2`` the fast array holds as many updates as its devices
    remember: more than that ask for a smaller ``transfer_gain``, and devices without any asymmetry,
    which never forget, make the weights swing.

    Args:
        variant: ``v1`` passes readings on at once, by as many pulses as they ask for, rounded
            stochastically; ``v2`` adds them to a digital buffer and pulses by its full steps
            (Gokmen, Front. Artif. Intell. 4:699148, 2021); ``agad`` takes each row's last reading
            for the reference of the next and turns the sign of the row's input now and then, so
            that no static reference is needed and the fast array does not fill up (after Rasch et
            al., Nat. Commun. 15:7133, 2024, which averages its reference and chops at random).
        form, trains: as in `Pulsed`.
        sweep_updates: updates in which all rows are read once.
        chop_sweeps: readings of a row by ``agad`` between turns of its sign; what stays below one
            code of the converter, or in its noise, is lost at each turn.
        transfer_gain: what readings are passed on times, beside the ratio of the rates.
        fast_learning_rate: of the fast array; None takes each target's first learning rate.
        symmetrising_pulses: up and down pulses, in random order, that bring the fast devices to
            their symmetry points at the start; what is read then is the static reference.
        seed: of the fast arrays' devices.

    Raises:
        ValueError: for an interval below 1.
    """

    def __init__(
        self,
        variant: Variant = "agad",
        form: Form = "difference",
        trains: Trains | None = None,
        *,
        sweep_updates: int = 1,
        chop_sweeps: int = 10,
        transfer_gain: float = 1.0,
        fast_learning_rate: float | None = None,
        symmetrising_pulses: int = 500,
        seed: int = 0,
    ) -> None:
        if sweep_updates < 1:
            raise ValueError(
                f"transfer_sweep_updates: {sweep_updates} is not allowed; must be at least 1"
            )
        if chop_sweeps < 1:
            raise ValueError(f"chop_sweeps: {chop_sweeps} is not allowed; must be at least 1")
        self.variant, self.form, self.trains = variant, form, trains or Trains()
        self.sweep_updates, self.chop_sweeps = sweep_updates, chop_sweeps
        self.transfer_gain, self.fast_learning_rate = transfer_gain, fast_learning_rate
        self.symmetrising_pulses, self.seed = symmetrising_pulses, seed
        self.fast: list[_Fast] = []
        self.fast_rates: list[float] = []

    def attach(self, targets: list[Target]) -> None:
        """Fabricate the fast arrays, bring them to their symmetry points, and read them.

        Raises:
            ValueError: for devices that can only be pulsed up, which have no symmetry point.
        """
        self.fast = [self._fabricate(target, place) for place, target in enumerate(targets)]

    @torch.no_grad()
    def _fabricate(self, target: Target, place: int) -> _Fast:
        slow = target.storage.matrix
        if slow.one_sided:
            raise ValueError(
                f"rule: 'tiki_taka' is not allowed with {slow.devices.card.name!r}, whose devices "
                "can only be pulsed up; must be 'digital', 'mixed_precision', 'pulsed' or 'sign'"
            )
        like = slow.forward_matrix
        matrix = CrossbarMatrix(
            slow.tiling,
            slow.devices.card,
            slow.array,
            seed=derive_seed(self.seed, "fast", place),
            dtype=like.dtype,
            where=like.device,
        )
        zeros = torch.zeros_like(like)
        matrix.program(zeros, rescale=False, units=slow.units)
        if self.symmetrising_pulses:
            count = torch.full_like(like, float(self.symmetrising_pulses))
            matrix.pulse(count, count)
        generator = torch.Generator(like.device)
        generator.manual_seed(derive_seed(self.seed, "reference", place))
        everything = torch.arange(len(like), device=like.device)
        reference = read_rows(matrix, everything, generator)
        chopper, use = torch.ones_like(like[:, :1]), LineUse.none(like.device)
        return _Fast(matrix, reference, zeros.clone(), chopper, use)

    @torch.no_grad()
    def apply(self, update: Update) -> None:
        """Pulse the fast arrays, read their next rows, move the weights."""
        held, given = self.fast_rates or update.rates, self.fast_learning_rate
        self.fast_rates = [
            given or old or rate for old, rate in zip(held, update.rates, strict=True)
        ]
        products = target_products(update.chip, update.contrast, self.form)
        for place, (target, pairs) in enumerate(zip(update.targets, products, strict=True)):
            fast, rate = self.fast[place], self.fast_rates[place]
            # Compensated drift makes a step of either array worth something else.
            generator = update.generator("trains", place)
            counts = product_counts(target, pairs, rate, self.trains, generator, fast.matrix)
            fast.matrix.pulse(*_chopped(target, counts, fast.chopper))
            fast.use = fast.use + counts.use
            increments = self._transfer(fast, target, update, place)
            update.pulse_by(place, target.geometry.from_matrix(increments))

    def _transfer(self, fast: _Fast, target: Target, update: Update, place: int) -> Tensor:
        """Increments (rows, columns) that this update's readings ask for."""
        total, generator = len(fast.buffer), update.generator("transfer", place)
        # As many rows per update as bring the whole round in its time, one more here and there.
        first, end = (n * total // self.sweep_updates for n in (update.number, update.number + 1))
        readings = torch.arange(first, end, device=fast.buffer.device)
        rows, sweeps = readings % total, readings // total
        read = read_rows(fast.matrix, rows, generator)
        fast.use = fast.use + read_use(len(rows), rows.device)
        rate, fast_rate = update.rates[place], self.fast_rates[place]
        gain = self.transfer_gain * rate / fast_rate if fast_rate else 0.0
        value = gain * fast.chopper[rows] * (read - fast.reference[rows])
        step = target.storage.matrix.weight_step
        increments = torch.zeros_like(fast.buffer)
        if self.variant == "v1":
            dither = torch.rand(
                value.shape, generator=generator, dtype=value.dtype, device=value.device
            )
            increments[rows] = (value / step + dither).floor()
            return increments
        held = fast.buffer[rows] + value
        increments[rows] = (held / step).trunc()
        fast.buffer[rows] = held - increments[rows] * step
        if self.variant == "agad":
            fast.reference[rows] = read
            turn = (sweeps + 1) % self.chop_sweeps == 0
            fast.chopper[rows[turn]] *= -1.0
        return increments

    def advance_time(self, seconds: float) -> None:
        """Let the fast arrays age."""
        for fast in self.fast:
            fast.matrix.advance_time(seconds, solve_wires=False)

    @property
    def pulses_before(self) -> int:
        """Pulses that every fast device got before learning, up and down together."""
        return 2 * self.symmetrising_pulses

    def record(self) -> dict[str, Any]:
        """Pulses on the fast arrays' devices, the symmetrising ones by themselves."""
        counts = [(f.matrix.devices.pulse_count, f.matrix.tiling.columns) for f in self.fast]
        # With offset columns, the reference devices come last.
        moved = [count[..., :columns].double() for count, columns in counts if count is not None]
        total = sum(count.numel() for count in moved)
        start = self.pulses_before
        return {
            "symmetrising_pulses_per_device": start,
            "fast_pulses_mean": sum(float(count.sum()) for count in moved) / max(total, 1) - start,
            "fast_pulses_max": max((float(count.max()) for count in moved), default=0.0) - start,
            "fast_learning_rates": self.fast_rates,
            "rows_read_per_update": sum(len(f.buffer) for f in self.fast) / self.sweep_updates,
        }

    def state_dict(self) -> dict[str, Any]:
        """The fast arrays, and what is known of them."""
        return {
            "rates": self.fast_rates,
            "fast": [
                {
                    "matrix": fast.matrix.state_dict(),
                    "reference": fast.reference,
                    "buffer": fast.buffer,
                    "chopper": fast.chopper,
                    "use": fast.use.numbers(),
                }
                for fast in self.fast
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the fast arrays."""
        self.fast_rates = list(state["rates"])
        for fast, saved in zip(self.fast, state["fast"], strict=True):
            fast.matrix.load_state_dict(saved["matrix"])
            for name in ("reference", "buffer", "chopper"):
                getattr(fast, name).copy_(saved[name])
            fast.use = LineUse.of_numbers(saved["use"], fast.buffer.device)


def _chopped(target: Target, counts: Counts, chopper: Tensor) -> tuple[Tensor, Tensor]:
    """Counts as a matrix (rows, columns), with rows of a negative sign turned round."""
    up, down = target.geometry.matrix(counts.up), target.geometry.matrix(counts.down)
    straight = chopper > 0.0
    return torch.where(straight, up, down), torch.where(straight, down, up)
