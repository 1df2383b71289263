"""One array's read against a plain matrix product and, where it is installed, an aihwkit tile.

512 x 512, batch 128, float32, 8-bit DAC and ADC with fixed ranges, forward and transposed, without
noise, with noise of the converters, and with read noise of the devices as well; times in turns,
ratios in one run.  aihwkit's noise and bound management are off.

    python benchmarks/crossbar_read.py --threads 1
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from neurosim_ep.cards import card_from_mapping
from neurosim_ep.crossbar import ArrayCard, CrossbarArray
from neurosim_ep.devices import DeviceCard

DEVICE_NOISE, ADC_NOISE, FULL_SCALE_AMPERE = 0.01, 0.005, 2e-4
CASES = {
    "no noise": (0.0, 0.0),
    "converter noise": (0.0, ADC_NOISE),
    "both noises": (DEVICE_NOISE, ADC_NOISE),
}


def our_array(side: int, noise: float, adc_noise: float, weights: torch.Tensor) -> CrossbarArray:
    terms = [{"model": "lumped", "sigma_of_range_relative": noise, "source": "assumed"}]
    device = {
        "name": "bench",
        "window": {"g_min_siemens": 1e-6, "g_max_siemens": 1e-4, "source": "assumed"},
        "read_noise": terms if noise else [],
    }
    converters = {
        "dac_bits": 8,
        "dac_range": "fixed",
        "dac_range_state": 1.0,
        "adc_bits": 8,
        "adc_range": "fixed",
        "adc_range_ampere": FULL_SCALE_AMPERE,
        "adc_noise_ampere": adc_noise * FULL_SCALE_AMPERE,
        "source": "assumed",
    }
    array = {
        "name": "bench",
        "layout": {"rows": side, "columns": side, "source": "assumed"},
        "drive": {"read_voltage_volt": 0.2, "source": "assumed"},
        "forward": converters,
        "transposed": converters,
    }
    crossbar = CrossbarArray(
        side,
        side,
        device=card_from_mapping(DeviceCard, device),
        array=card_from_mapping(ArrayCard, array),
    )
    crossbar.program(weights)
    return crossbar


def aihwkit_reads(
    side: int, noise: float, adc_noise: float, weights: torch.Tensor
) -> dict[str, Callable] | None:
    try:
        from aihwkit.simulator.configs import SingleRPUConfig
        from aihwkit.simulator.configs.devices import IdealDevice
        from aihwkit.simulator.parameters.enums import (
            BoundManagementType,
            NoiseManagementType,
            WeightNoiseType,
        )
        from aihwkit.simulator.parameters.io import IOParameters
        from aihwkit.simulator.tiles import AnalogTile
    except ImportError:
        return None
    io = IOParameters(
        inp_bound=1.0,
        inp_res=1.0 / (2**8 - 2),
        inp_sto_round=False,
        out_bound=10.0,
        out_res=1.0 / (2**8 - 2),
        out_noise=10.0 * adc_noise,
        w_noise=noise,
        w_noise_type=(WeightNoiseType.ADDITIVE_CONSTANT if noise else WeightNoiseType.NONE),
        bound_management=BoundManagementType.NONE,
        noise_management=NoiseManagementType.NONE,
    )
    tile = AnalogTile(side, side, SingleRPUConfig(device=IdealDevice(), forward=io, backward=io))
    tile.set_weights(weights.T.contiguous())
    # An import proves nothing: the read has to be near the product.
    x = torch.rand(4, side)
    error = (tile.forward(x) - x @ weights).norm() / (x @ weights).norm()
    assert error < 0.5, error
    return {"forward": tile.forward, "transposed": tile.backward}


def microseconds(calls: dict[str, Callable], repeats: int, inner: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    with torch.no_grad():
        for call in calls.values():
            call()
        for _ in range(repeats):
            for name, call in calls.items():
                start = time.perf_counter()
                for _ in range(inner):
                    call()
                times[name].append((time.perf_counter() - start) / inner * 1e6)
    return {name: statistics.median(t) for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--inner", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    side = options.side
    weights = 0.1 * torch.randn(side, side, generator=generator).clamp(-3, 3)
    x = torch.rand(options.batch, side, generator=generator)
    calls: dict[str, Callable] = {"plain product": lambda: x @ weights}
    for label, (noise, adc_noise) in CASES.items():
        ours = our_array(side, noise, adc_noise, weights)
        calls[f"ours, forward, {label}"] = lambda a=ours: a.read(x)
        calls[f"ours, transposed, {label}"] = lambda a=ours: a.read_transposed(x)
        theirs = aihwkit_reads(side, noise, adc_noise, weights)
        for direction, read in (theirs or {}).items():
            calls[f"aihwkit, {direction}, {label}"] = lambda read=read: read(x)
    times = microseconds(calls, options.repeats, options.inner)
    print(f"{side} x {side}, batch {options.batch}, float32, {options.threads} threads")
    for name, value in times.items():
        line = f"{name:34s} {value:9.0f} us  {value / times['plain product']:6.2f} x plain"
        partner = name.replace("ours", "aihwkit")
        if name.startswith("ours") and partner in times:
            line += f"  aihwkit takes {times[partner] / value:5.1f} x as long"
        print(line)
    if not any(name.startswith("aihwkit") for name in times):
        print("aihwkit is not installed: no comparison with it")


if __name__ == "__main__":
    main()
