"""What simulated arrays cost: settling of a Hopfield-Resnet13 on them against the exact path.

Ratios of times per iteration in one run; the baseline is the exact path with the same batch,
precision and threads.  Modes:

- effective weights: faults and wire resistance, no noise;
- uniform noise: read noise relative to the window, equal in all devices;
- device noise: read noise relative to each device's conductance, with faults and wires;
- converters: 8-bit DAC and ADC per tile, with faults and wires;
- converters and noise: all of it.

    python benchmarks/crossbar_settling.py --width-divisor 4 --batch 32 --threads 1
"""

import argparse
import resource
import statistics
import time

import torch

from neurosim_ep.cards import card_from_mapping
from neurosim_ep.crossbar import ArrayCard, map_to_crossbar
from neurosim_ep.devices import DeviceCard
from neurosim_ep.models import HopfieldNetwork, hopfield_resnet13
from neurosim_ep.settling import settle

WINDOW = {"g_min_siemens": 1e-6, "g_max_siemens": 1e-4, "source": "assumed"}
FAULTS = {
    "stuck_at_min_fraction": 0.005,
    "stuck_at_max_fraction": 0.005,
    "source": "assumed",
}
WIRES = {"word_line_ohm": 0.35, "bit_line_ohm": 0.35, "source": "assumed"}
CONVERTERS = {"dac_bits": 8, "adc_bits": 8, "source": "assumed"}


def device(**noise):
    terms = [{"model": "lumped", "source": "assumed"} | noise] if noise else []
    card = {"name": "bench", "window": WINDOW, "faults": FAULTS, "read_noise": terms}
    return card_from_mapping(DeviceCard, card)


def array(side, converters, wires=True):
    card = {
        "name": "bench",
        "layout": {"rows": side, "columns": side, "source": "assumed"},
        "drive": {"read_voltage_volt": 0.2, "source": "assumed"},
    }
    if wires:
        card["wires"] = WIRES
    if converters:
        card |= {"forward": CONVERTERS, "transposed": CONVERTERS}
    return card_from_mapping(ArrayCard, card)


def seconds_per_iteration(networks, images, iterations, repeats):
    """Median over repeats of each network's time per iteration, taken in turns."""
    times = {name: [] for name in networks}
    for network in networks.values():
        settle(network, images, iterations=1)
    for _ in range(repeats):
        for name, network in networks.items():
            start = time.perf_counter()
            settle(network, images, iterations=iterations)
            times[name].append((time.perf_counter() - start) / iterations)
    return {name: statistics.median(t) for name, t in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width-divisor", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--array-side", type=int, default=512)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    widths = tuple(w // options.width_divisor for w in (128, 256, 512, 512))
    generator = torch.Generator().manual_seed(0)
    exact = hopfield_resnet13(3, 10, widths, generator=generator).to(options.device)
    images = torch.randn(options.batch, 3, 32, 32, generator=generator).to(options.device)
    side = options.array_side
    networks: dict[str, HopfieldNetwork] = {"exact": exact}
    for name, card, surroundings in (
        ("effective weights", device(), array(side, False)),
        (
            "uniform noise",
            device(sigma_of_range_relative=0.005),
            array(side, False, wires=False),
        ),
        ("device noise", device(sigma_relative=0.005), array(side, False)),
        ("converters", device(), array(side, True)),
        ("converters and noise", device(sigma_relative=0.005), array(side, True)),
    ):
        start = time.perf_counter()
        chip = map_to_crossbar(exact, card, surroundings, seed=0)
        mapped = time.perf_counter() - start
        with chip.calibrating():
            settle(chip, images[:4], iterations=4)
        networks[name] = chip
        print(f"{name}: mapped to {chip.report.arrays} arrays in {mapped:.1f} s")
    times = seconds_per_iteration(networks, images, options.iterations, options.repeats)
    print(
        f"Hopfield-Resnet13 {widths}, batch {options.batch}, float32, {options.threads} threads, "
        f"{options.device}"
    )
    for name, seconds in times.items():
        print(f"{name:22s} {1e3 * seconds:8.1f} ms/iteration  {seconds / times['exact']:5.2f} x")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"largest resident memory {peak:.0f} MiB")


if __name__ == "__main__":
    main()
