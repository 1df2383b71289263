"""The fidelity report: the gradient over beta, iterations, reads, converters and read noise."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from neurosim_ep.crossbar import ArrayCard, load_array_card
from neurosim_ep.devices import DeviceCard, load_device_card
from neurosim_ep.experiments.fidelity.bench import Bench
from neurosim_ep.experiments.fidelity.gradients import Response
from neurosim_ep.experiments.fidelity.hardware import converter_tables, with_converters
from neurosim_ep.experiments.fidelity.settings import (
    QUICK,
    Grid,
    Point,
    Recommendation,
    Setting,
    Sweep,
    joint_settings,
    recommend,
    scaled,
)
from neurosim_ep.learning import Estimator, Phases
from neurosim_ep.models import Cost, HopfieldNetwork, SquaredError
from neurosim_ep.seeds import derive_seed


@dataclass(frozen=True)
class FidelityReport:
    """Everything a report says.

    Attributes:
        title: of the network.
        layers: names of the edges with weights, such as ``0 -> 1``.
        device, array: cards.
        images: how many were measured.
        seed: of everything drawn.
        hardware: pieces of hardware.
        repeats: gradients on each.
        nudged_phases: of one gradient.
        own: the recipe's setting.
        intended: linear response of the digital weights.
        programmed: linear response of the weights as programmed, one per piece of hardware.
        sweeps: in the order of `SWEEPS`.
        joint: beta x reads x iterations.
        recommendation: chosen from ``joint``.
        about: what else belongs in the records: recipe, command.
    """

    title: str
    layers: tuple[str, ...]
    device: DeviceCard
    array: ArrayCard
    images: int
    seed: int
    hardware: int
    repeats: int
    nudged_phases: int
    own: Setting
    intended: Response
    programmed: tuple[Response, ...]
    sweeps: tuple[Sweep, ...]
    joint: tuple[Point, ...]
    recommendation: Recommendation
    about: Mapping[str, Any] = field(default_factory=dict)


def fidelity_report(
    network: HopfieldNetwork,
    device: DeviceCard | str,
    array: ArrayCard | str,
    images: Tensor,
    labels: Tensor,
    calibration_images: Tensor,
    calibration_labels: Tensor,
    *,
    estimator: Estimator,
    phases: Phases,
    cost: Cost | None = None,
    seed: int = 0,
    hardware: int | None = None,
    repeats: int | None = None,
    quick: bool = False,
    grid: Grid | None = None,
    title: str = "",
    progress: Callable[[str], None] | None = None,
) -> FidelityReport:
    """Measure a network's gradient on arrays over all sweeps and the joint grid.

    Every setting calibrates its converters anew on the calibration images, and sees the same
    programming errors and the same read noise.  Free phases start at rest.

    Args:
        network: exact, as it will be mapped; stays as it is.
        device: device card, or the name or path of one.
        array: array card, or the name or path of one.
        images: measured, (B, *input shape), in the network's dtype and on its device.
        labels: class indices (B,).
        calibration_images, calibration_labels: other ones, for the converters' ranges.
        estimator: its beta is the own one.
        phases: iterations and reads are the own ones.
        cost: squared error by default.
        seed: of everything that is drawn.
        hardware: pieces of hardware; 2 by default, 1 with ``quick``.
        repeats: gradients on each; 2 by default, 1 with ``quick``, and 1 where no read is noisy.
        quick: fewer values, for convolutional networks.
        grid: the values that are tried; by default `Grid`, with ``quick`` `QUICK`.
        title: of the network, for the records.
        progress: told what is measured.

    Raises:
        ValueError: if a card is not valid, an argument is out of range, or the exact network
            diverges.
    """
    device = load_device_card(device) if isinstance(device, str) else device
    array = load_array_card(array) if isinstance(array, str) else array
    tables = converter_tables(array).values()
    noisy = bool(device.read_noise) or any(table.adc_noise_ampere for table in tables)
    hardware = hardware if hardware is not None else (1 if quick else 2)
    repeats = repeats if repeats is not None else (1 if quick else 2)
    for name, value in (("hardware", hardware), ("repeats", repeats)):
        if value < 1:
            raise ValueError(f"{name}: {value} is not allowed; must be at least 1")
    repeats = repeats if noisy else 1
    bench = Bench(
        network,
        device,
        with_converters(array),
        (images, labels),
        (calibration_images, calibration_labels),
        estimator,
        phases,
        cost or SquaredError(),
        derive_seed(seed, "fidelity"),
        hardware,
        repeats,
        progress or (lambda _: None),
    )
    grid = grid or (QUICK if quick else Grid())
    sweeps = tuple(bench.sweep(name, values, own) for name, values, own in _plan(grid, bench))
    joint = tuple(map(bench.on_chip, joint_settings(grid, bench.own)))
    terms = len(estimator.terms(torch.Generator().manual_seed(0)))
    return FidelityReport(
        title,
        bench.layers,
        device,
        array,
        len(images),
        seed,
        hardware,
        repeats,
        terms,
        bench.own,
        bench.intended,
        tuple(bench.programmed),
        sweeps,
        joint,
        recommend(joint, terms),
    )


def _plan(grid: Grid, bench: Bench) -> list[tuple[str, Iterable[float], float | None]]:
    """Name, values and own value of every sweep."""
    own = bench.own
    bits = {
        name: {getattr(table, name) for table in converter_tables(bench.array).values()}
        for name in ("adc_bits", "dac_bits")
    }
    alone = {name: found.pop() if len(found) == 1 else None for name, found in bits.items()}
    plan: list[tuple[str, Iterable[float], float | None]] = [
        ("beta", grid.betas, own.beta),
        (
            "free_iterations",
            [scaled(own.free_iterations, factor) for factor in grid.factors],
            own.free_iterations,
        ),
        (
            "nudged_iterations",
            [scaled(own.nudged_iterations, factor) for factor in grid.factors],
            own.nudged_iterations,
        ),
        ("adc_bits", grid.adc_bits, alone["adc_bits"]),
        ("dac_bits", grid.dac_bits, alone["dac_bits"]),
    ]
    if bench.device.read_noise:
        plan.append(("read_noise_scale", grid.noise_scales, 1.0))
    return plan
