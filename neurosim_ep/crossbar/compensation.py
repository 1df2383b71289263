"""What the digital correction of the mean drift measures."""

import torch
from torch import Tensor

from neurosim_ep.crossbar.noise import conductance_variance
from neurosim_ep.devices import Devices
from neurosim_ep.seeds import derive_seed


def measured_sum(devices: Devices, present: Tensor, volt: float, reads: int) -> Tensor:
    """The sum of all conductances as reads give it, with their noise.

    One draw per write and age of the devices: measuring again at once gives the same.

    Args:
        devices: that are read.
        present: their true sum, through the wires, 0-dimensional.
        volt: read voltage.
        reads: that the measurement is the mean of.
    """
    total = conductance_variance(devices.read_variance(), devices.conductance, volt).sum()
    # Devices that are only programmed draw as they always did.
    writes = [devices.program_count, devices.update_count][: 2 if devices.update_count else 1]
    seed = derive_seed(devices.seed, "compensation", *writes, str(devices.elapsed_s))
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn((), generator=generator, dtype=torch.float64).to(present)
    return present + draw * (total / reads).sqrt()
