"""Many pulses at once, up and down in random order, in a time that does not grow with their number.

Up to `FEW` pulses of a device are applied one by one, which is exact.  A longer train is cut into a
few parts of equal length and its last few pulses; how many of its up pulses fall into each is
drawn, and within a part one normal number stands for all pulses, with the mean and variance of
`neurosim_ep.devices.pulse_moments`.  Trains of one direction whose steps are affine in the state
are one part.

Against loops over single pulses, what the parts leave of error in mean and standard deviation, were
they used from five pulses on, for cycle-to-cycle noise up to a third of a step: a tenth of a step
for constant, linear, soft-bounds and power steps, from 4 to 2000 states, near and far from the
bounds; for exponential steps 3 % of the way that a train goes, or two tenths of a step, and with 4
states, whose steps vanish within one step, up to three quarters of a step.  Noise of twice the step
adds half a step for 20 states; of the shipped cards, whose noise is larger where their steps are
finer, trains of up to 30 pulses are within 10 %, those of hundreds of pulses within 15 % of the
standard deviation.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from neurosim_ep.devices.pulse_devices import PulseDevices
from neurosim_ep.devices.pulse_moments import Steps, mean_shift, moments, stopped

FEW = 32
"""Up to this many pulses of a device are applied one by one: about as many as cost what one longer
train does, on a CPU and on a GPU."""
LAST = 4
"""So many of a longer train as well, its last ones."""
PARTS = 4
"""In how many parts a longer train is cut, where it is mixed or its steps are not affine."""


class Response(Protocol):
    """What trains need to know of a pulse response."""

    @property
    def affine(self) -> bool:
        """Whether steps are affine in the state."""

    @property
    def noisy(self) -> bool:
        """Whether pulses have noise of their own."""

    def pulse(
        self, w: Tensor, direction: Tensor, devices: PulseDevices, generator: torch.Generator
    ) -> Tensor:
        """States after one pulse of the direction's sign."""

    def moved(
        self, w: Tensor, upward: Tensor, devices: PulseDevices, generator: torch.Generator
    ) -> Tensor:
        """States after one pulse on every device, up where the mask says so, else down."""

    def around(self, w: Tensor, devices: PulseDevices) -> Steps:
        """The steps around the states, linearised."""

    def across(self, steps: Steps, w: Tensor, end: Tensor, devices: PulseDevices) -> Steps:
        """The same steps with their mean slopes between two states."""


def pulse_train(
    response: Response,
    w: Tensor,
    up: Tensor,
    down: Tensor,
    devices: PulseDevices,
    generator: torch.Generator,
) -> Tensor:
    """States after trains of pulses; see `PulseTable.pulses` for the arguments."""
    total = up + down
    if not total.numel():
        return w.clone()
    most, most_mixed = torch.stack([total.max(), torch.minimum(up, down).max()]).tolist()
    mixed = most_mixed > 0.0
    if most <= 1.0:
        return response.pulse(w, up - down, devices, generator)
    # Sorted by length, the trains that still have pulses are one slice; few bits sort fast.
    length = total.flatten().clamp(max=FEW + 1).to(torch.uint8)
    places = length.argsort(stable=True)
    none, *ends = length.bincount(minlength=FEW + 2).cumsum(0).tolist()
    places, begins = places[none:], [0, *(end - none for end in ends)]
    devices = devices.select(places)
    state, up, down = (tensor.reshape(-1).index_select(0, places) for tensor in (w, up, down))
    few, many = slice(begins[FEW]), slice(begins[FEW], None)
    short, long = devices.parts([few, many])
    numbers = up[few], down[few], begins[:FEW]
    _few(response, state[few], *numbers, short, generator, mixed=mixed)
    if most > FEW:
        state[many] = _many(
            response, state[many], up[many], down[many], long, generator, mixed=mixed
        )
    moved = w.clone(memory_format=torch.contiguous_format)
    moved.view(-1).scatter_(0, places, state)
    return moved


def _few(
    response: Response,
    state: Tensor,
    up: Tensor,
    down: Tensor,
    begins: list[int],
    devices: PulseDevices,
    generator: torch.Generator,
    *,
    mixed: bool,
) -> None:
    """Pulse by pulse, in place: exact.

    Args:
        state: sorted by the trains' length.
        begins: where the trains of more than 0, 1, ... pulses begin.
    """
    left, total = up.clone(), up + down
    rests = [slice(begin, None) for begin in begins if begin < state.numel()]
    for done, (rest, chosen) in enumerate(zip(rests, devices.parts(rests), strict=True)):
        w, ups = state[rest], left[rest]
        if mixed:
            upward = uniform_like(ups, generator) * (total[rest] - done) < ups
            ups -= upward.to(ups.dtype)
        else:
            upward = ups > 0.0
        w.copy_(response.moved(w, upward, chosen, generator))


def _many(
    response: Response,
    state: Tensor,
    up: Tensor,
    down: Tensor,
    devices: PulseDevices,
    generator: torch.Generator,
    *,
    mixed: bool,
) -> Tensor:
    """Part by part, the last few pulses one by one; each has more than these."""
    parts, last = (PARTS, LAST) if mixed or not response.affine else (1, 0)
    for left in range(parts, 0, -1):
        count = torch.floor((up + down - last) / left + 0.5)
        ups = torch.minimum(count, up)
        if mixed:
            ups = first_ups(up, down, count, _inside_like(state, generator))
        downs = count - ups
        up, down = up - ups, down - downs
        low, high = devices.w_min - state, devices.w_max - state
        steps = response.around(state, devices)
        if not response.affine:
            way = mean_shift(steps, ups, downs, low, high, mixed=mixed)
            steps = response.across(steps, state, devices.clip(state + way), devices)
        part = moments(steps, ups, downs, low, high, mixed=mixed)
        shift = part.shift
        if mixed or response.noisy:
            sigma = (part.noise + part.order).sqrt()
            shift = shift + sigma * normal_like(state, generator)
            place = _inside_like(state, generator)
            shift = stopped(shift, place, steps, part.noise, ups, downs, low, high)
        state = torch.where(count > 0, devices.clip(state + shift), state)
    _few(response, state, up, down, [0] * last, devices, generator, mixed=mixed)
    return state


def first_ups(up: Tensor, down: Tensor, count: Tensor, place: Tensor) -> Tensor:
    """How many up pulses are among the first ones of a train in random order.

    Hypergeometric: a rounded normal number of its mean and variance.

    Args:
        up, down: pulses of the train.
        count: how many come first.
        place: uniform in (0, 1).
    """
    total = (up + down).clamp(min=1.0)
    mean = count * up / total
    variance = mean * (down / total) * ((total - count) / (total - 1.0).clamp(min=1.0))
    # Rounding adds the variance of a uniform number.
    sigma = (variance - 1.0 / 12.0).clamp(min=0.0).sqrt()
    drawn = torch.floor(mean + sigma * torch.special.ndtri(place) + 0.5)
    return torch.minimum(torch.maximum(drawn, (count - down).clamp(min=0.0)), count.minimum(up))


def normal_like(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of a tensor's shape, dtype and device from a generator on any."""
    drawn = torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype)
    return drawn.to(like.device)


def uniform_like(like: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1), likewise."""
    drawn = torch.rand(like.shape, generator=generator, device=generator.device, dtype=like.dtype)
    return drawn.to(like.device)


def _inside_like(like: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform numbers inside (0, 1), likewise."""
    return uniform_like(like, generator).clamp_(min=torch.finfo(like.dtype).eps / 4.0)
