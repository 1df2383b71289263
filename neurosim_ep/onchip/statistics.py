"""What learning has cost a chip's devices: pulses, endurance, bounds, symmetry-point drift."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from neurosim_ep._toml_text import problem
from neurosim_ep.crossbar import CrossbarMatrix, CrossbarNetwork
from neurosim_ep.onchip.targets import targets_of
from neurosim_ep.onchip.trained_devices import SymmetryOffset, TrainedDevices, mean_of

POSITION_BINS = 40
"""Bins of a histogram of states, all of one width from a device's lower bound to its upper one."""


@dataclass(frozen=True)
class PulseCounts:
    """Pulses of devices, up and down together; programming is not counted.

    Attributes:
        mean, median, maximum: per device.
        per_image_mean, per_image_maximum: per device and training image.
        never: devices without a pulse.
        counts: devices with 1, 2 to 3, 4 to 7, ... pulses.
        bin_edges: of these bins, one more than there are bins: 1, 2, 4, 8, ...
    """

    mean: float
    median: float
    maximum: int
    per_image_mean: float
    per_image_maximum: float
    never: int
    counts: tuple[int, ...]
    bin_edges: tuple[int, ...]


@dataclass(frozen=True)
class EnduranceUse:
    """What of the devices' endurance is used up.

    Attributes:
        mean_fraction, maximum_fraction: pulses over the card's endurance; above 1 where a device
            has got more than it stands.
        worn_fraction: share of devices that have got as many pulses as they stand, or more.
        before_fraction: part of `mean_fraction` that went before learning.
    """

    mean_fraction: float
    maximum_fraction: float
    worn_fraction: float
    before_fraction: float = 0.0


@dataclass(frozen=True)
class SymmetryDrift:
    """How far devices have gone towards their symmetry points since a start.

    At its symmetry point w_sp a device's mean up and down steps are equal.  Anywhere else an up and
    a down pulse do not cancel but leave a step towards it, so that pulses which should cancel take
    a device there, whatever is to be learned.  Two means show it, and both are needed:

    - the distance falls as devices arrive; but learning spreads them, which raises it, so its fall
      is a lower estimate of the drift;
    - the signed offset goes to zero with them.  Learning raises some devices and lowers others, in
      push-pull pairs as many by as much, so that it cancels in this mean; so do, on the other hand,
      drifts of devices whose points lie on either side of them.

    Where up and down steps are equal at every state there is nothing to drift to; the point is then
    by definition the middle between the bounds.

    Attributes:
        start, now: offsets at the start and at present.
        relative_change: of the distance; -1 where all devices have arrived, above 0 where they have
            gone away; None if they began there.
    """

    start: SymmetryOffset
    now: SymmetryOffset
    relative_change: float | None


@dataclass(frozen=True)
class DeviceStatistics:
    """Devices of one edge or bias row, or of all together.

    Attributes:
        name: ``edge 0``, ``bias 1``, ...; ``all``.
        devices: that are trained; those of reference columns are not.
        pulses: None for a card without pulse response, whose devices are only programmed.
        endurance: None where the card has none, or no pulses.
        at_upper_fraction, at_lower_fraction: working devices within one mean step of a bound of
            their own, as a share of all; None without pulses.  A pair programmed from the bottom of
            the window begins with one of its devices there.
        stuck_fraction: share of devices that nothing moves.
        positions: working devices by where they stand between their bounds, lower bound first, in
            `POSITION_BINS` bins.
        symmetry: None without a start, or for devices that can only be pulsed up.
    """

    name: str
    devices: int
    pulses: PulseCounts | None
    endurance: EnduranceUse | None
    at_upper_fraction: float | None
    at_lower_fraction: float | None
    stuck_fraction: float
    positions: tuple[int, ...]
    symmetry: SymmetryDrift | None


@dataclass(frozen=True)
class ChipStatistics:
    """Statistics of a chip after some training images.

    Attributes:
        images: trained on so far.
        edges: one entry per edge on arrays, then per bias row.
        total: of all their devices.
        pulses_before: that every device got before learning, as Tiki-Taka's fast arrays do; they
            use up endurance, but are not among the `PulseCounts`.
    """

    images: int
    edges: tuple[DeviceStatistics, ...]
    total: DeviceStatistics
    pulses_before: int = 0

    def as_record(self) -> dict[str, Any]:
        """Plain numbers, lists and tables, as they go into JSON."""
        return asdict(self)


def pulse_statistics(
    chip: CrossbarNetwork, *, images: int, start: Mapping[str, SymmetryOffset] | None = None
) -> ChipStatistics:
    """Statistics of a chip's devices.

    Args:
        chip: that learns.
        images: training images so far, at least 1.
        start: of `symmetry_offsets` before the first update; None leaves the drift out.

    Raises:
        ValueError: for less than one image, or a start of other matrices.
    """
    return array_statistics(_matrices(chip), images=images, start=start)


def symmetry_offsets(
    matrices: CrossbarNetwork | Mapping[str, CrossbarMatrix],
) -> dict[str, SymmetryOffset]:
    """Where devices stand relative to their symmetry points, by name and for ``all``.

    Empty for devices without symmetry point: those that have no pulse response, or no down pulses.
    """
    if isinstance(matrices, CrossbarNetwork):
        matrices = _matrices(matrices)
    found = {name: TrainedDevices.of(matrix) for name, matrix in matrices.items()}
    found["all"] = TrainedDevices.together(list(found.values()))
    offsets = {name: devices.symmetry_offset() for name, devices in found.items()}
    return {name: offset for name, offset in offsets.items() if offset is not None}


def array_statistics(
    matrices: Mapping[str, CrossbarMatrix],
    *,
    images: int,
    start: Mapping[str, SymmetryOffset] | None = None,
    pulses_before: int = 0,
) -> ChipStatistics:
    """Statistics of any matrices of one device card, such as the fast arrays of Tiki-Taka.

    Args:
        matrices: by name, at least one.
        images: training images so far, at least 1.
        start: of `symmetry_offsets` before the first update; None leaves the drift out.
        pulses_before: that every trained device got before learning.

    Raises:
        ValueError: for less than one image, no matrices, or a start of other matrices.
    """
    if type(images) is not int or images < 1:
        raise ValueError(problem("images", images, "a whole number of at least 1"))
    if not matrices:
        raise ValueError(problem("matrices", "none", "at least one"))
    found = {name: TrainedDevices.of(matrix) for name, matrix in matrices.items()}
    names = [*found, "all"]
    if start and set(start) != set(names):
        raise ValueError(problem("start", sorted(start), f"the offsets of {', '.join(names)}"))
    everything = TrainedDevices.together(list(found.values()))
    edges = [
        _statistics(name, devices, images, start[name] if start else None, pulses_before)
        for name, devices in found.items()
    ]
    total = _statistics("all", everything, images, start["all"] if start else None, pulses_before)
    return ChipStatistics(images, tuple(edges), total, pulses_before)


def _matrices(chip: CrossbarNetwork) -> dict[str, CrossbarMatrix]:
    return {target.name: target.storage.matrix for target in targets_of(chip)}


def _statistics(
    name: str, devices: TrainedDevices, images: int, start: SymmetryOffset | None, before: int
) -> DeviceStatistics:
    now = devices.symmetry_offset() if start is not None else None
    at_upper, at_lower = _at_bounds(devices)
    return DeviceStatistics(
        name=name,
        devices=devices.state.numel(),
        pulses=_pulses(devices, images, before),
        endurance=_endurance(devices, before),
        at_upper_fraction=at_upper,
        at_lower_fraction=at_lower,
        stuck_fraction=mean_of(~devices.working),
        positions=_positions(devices),
        symmetry=None if start is None or now is None else _drift(start, now),
    )


def _pulses(devices: TrainedDevices, images: int, before: int) -> PulseCounts | None:
    if devices.pulses is None:
        return None
    pulses = devices.pulses - before
    moved, ordered = pulses[pulses > 0], pulses.sort().values
    middle = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    # frexp is exact for whole numbers, where a logarithm may round across an edge.
    counts = torch.bincount(torch.frexp(moved.double()).exponent.long() - 1).tolist()
    mean, maximum = mean_of(pulses), int(ordered[-1])
    return PulseCounts(
        mean=mean,
        median=0.5 * float(middle[0] + middle[1]),
        maximum=maximum,
        per_image_mean=mean / images,
        per_image_maximum=maximum / images,
        never=int((pulses == 0).sum()),
        counts=tuple(counts),
        bin_edges=tuple(2**place for place in range(len(counts) + 1)),
    )


def _endurance(devices: TrainedDevices, before: int) -> EnduranceUse | None:
    endurance, pulses = devices.card.endurance, devices.pulses
    if endurance is None or pulses is None:
        return None
    used = pulses.double() / endurance.pulses
    earlier = before / endurance.pulses
    return EnduranceUse(mean_of(used), float(used.max()), mean_of(used >= 1.0), earlier)


def _at_bounds(devices: TrainedDevices) -> tuple[float | None, float | None]:
    """Shares of working devices at the upper and at the lower bound."""
    response = devices.card.pulse_response
    if response is None:
        return None, None
    step, working = response.window_step(), devices.working
    upper = (devices.upper - devices.state <= step) & working
    lower = (devices.state - devices.lower <= step) & working
    return mean_of(upper), mean_of(lower)


def _positions(devices: TrainedDevices) -> tuple[int, ...]:
    place = (devices.state - devices.lower) / (devices.upper - devices.lower)
    # A device between equal bounds, if there is one, stands at the lower.
    bins = (place.nan_to_num(0.0)[devices.working] * POSITION_BINS).long()
    bins = bins.clamp(0, POSITION_BINS - 1)
    return tuple(torch.bincount(bins, minlength=POSITION_BINS).tolist())


def _drift(start: SymmetryOffset, now: SymmetryOffset) -> SymmetryDrift:
    change = now.distance / start.distance - 1.0 if start.distance > 0.0 else None
    return SymmetryDrift(start, now, change)
