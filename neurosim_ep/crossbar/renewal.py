"""Pairs of devices that can only be pulsed up: which are to be written anew, and to what."""

import torch
from torch import Tensor

from neurosim_ep.crossbar.noise import conductance_variance
from neurosim_ep.devices import Devices
from neurosim_ep.seeds import derive_seed


def pairs_to_renew(
    devices: Devices, fraction: float, read_voltage_volt: float
) -> tuple[Tensor, Tensor] | None:
    """Pairs in which a device has been pulsed far up.

    Both devices of such a pair are read once, with their read noise, and are to be programmed to
    the difference from the bottom of the window.

    Args:
        devices: pairs (2, rows, columns).
        fraction: of the window, above which a device counts as far up.
        read_voltage_volt: of the read.

    Returns:
        Target conductances in siemens (2, rows, columns), and a mask of the pairs (rows, columns);
        None where there is none.
    """
    window, conductance = devices.card.window, devices.conductance
    high = window.g_min_siemens + fraction * window.range_siemens
    far = (conductance > high).any(0)
    if not bool(far.any()):
        return None
    seed = derive_seed(devices.seed, "renew", devices.program_count, devices.update_count)
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(conductance.shape, generator=generator, dtype=conductance.dtype)
    deviation = conductance_variance(devices.read_variance(), conductance, read_voltage_volt).sqrt()
    read = conductance + normal.to(conductance.device) * deviation
    difference = read[0] - read[1]
    return window.g_min_siemens + torch.stack([difference, -difference]).clamp_min(0.0), far
