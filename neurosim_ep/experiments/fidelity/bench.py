"""Where gradients are measured: chips, references, images, and what was measured already."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from neurosim_ep.crossbar import ArrayCard, CrossbarNetwork, map_to_crossbar
from neurosim_ep.crossbar.noise import NormalSource
from neurosim_ep.devices import DeviceCard
from neurosim_ep.experiments.fidelity.gradients import Fidelity, calibrate, measure, response
from neurosim_ep.experiments.fidelity.hardware import (
    with_cards,
    with_converters,
    with_read_noise,
)
from neurosim_ep.experiments.fidelity.settings import (
    READS,
    REFERENCES,
    SWEEPS,
    Point,
    Setting,
    Sweep,
)
from neurosim_ep.learning import Estimator, Phases
from neurosim_ep.models import Cost, HopfieldNetwork
from neurosim_ep.seeds import derive_seed


class Bench:
    """One network on several pieces of hardware.

    Args:
        network: exact; stays as it is.
        device, array: cards.
        measured: images and labels.
        calibration: others, for the converters' ranges.
        estimator, phases, cost: the own setting.
        seed: of the hardware and of the read noise, which is the same at every setting.
        hardware: pieces of hardware.
        repeats: gradients on each.
        progress: told what is measured.

    Attributes:
        layers: names of the edges with weights.
        own: the own setting.
        intended: linear response of the digital weights.
        programmed: linear response of the weights as programmed, per piece of hardware.
    """

    def __init__(
        self,
        network: HopfieldNetwork,
        device: DeviceCard,
        array: ArrayCard,
        measured: tuple[Tensor, Tensor],
        calibration: tuple[Tensor, Tensor],
        estimator: Estimator,
        phases: Phases,
        cost: Cost,
        seed: int,
        hardware: int,
        repeats: int,
        progress: Callable[[str], None],
    ) -> None:
        # A copy: measuring leaves gradients behind.
        self.network = copy.deepcopy(network)
        self.device, self.array = device, array
        self.measured, self.calibration = measured, calibration
        self.estimator, self.phases, self.cost = estimator, phases, cost
        self.seed, self.repeats, self.progress = seed, repeats, progress
        self.layers = tuple(
            f"{edge.pre} -> {edge.post}"
            for edge in network.edge_list()
            if edge.geometry.weight_shape is not None
        )
        self.own = Setting(
            estimator.beta, phases.free_iterations, phases.nudged_iterations, phases.nudged_reads
        )
        progress("linear response")
        self.intended = response(network, *measured, cost)
        self.chips, self.programmed = [], []
        for number in range(hardware):
            progress(f"programming, hardware {number + 1} of {hardware}")
            chip = map_to_crossbar(
                network, device, array, seed=derive_seed(seed, "hardware", number)
            )
            self.chips.append(chip)
            self.programmed.append(response(chip, *measured, cost, as_programmed=True))
        self._held: dict[Setting, Point] = {}

    def sweep(self, name: str, values: Iterable[float], own: float | None) -> Sweep:
        """All values of one knob, by both kinds of reads."""
        values = tuple(sorted({*values, *([] if own is None else [own])}))
        knob: list[dict[str, Any]] = [{} if value == own else {name: value} for value in values]
        changed = {
            reads: [replace(self.own, reads=reads, **turned) for turned in knob] for reads in READS
        }
        points = {reads: tuple(map(self.on_chip, s)) for reads, s in changed.items()}
        exact: tuple[Point, ...] = ()
        if name in SWEEPS[:3]:
            exact = tuple(map(self.exactly, changed["full"]))
        return Sweep(name, values, own, points, exact)

    def on_chip(self, setting: Setting) -> Point:
        """Measure on all pieces of hardware, or remember."""
        if setting not in self._held:
            self.progress(", ".join(f"{k} {v}" for k, v in vars(setting).items() if v is not None))
            draws: dict[str, list[Fidelity]] = {name: [] for name in REFERENCES}
            for number, chip in enumerate(self.chips):
                found = self._measure(self._for(chip, setting), setting, number)
                for name in REFERENCES:
                    draws[name] += found[name]
            complete = len(draws["intended"]) == len(self.chips) * self.repeats
            self._held[setting] = Point(
                setting, {name: tuple(found) if complete else () for name, found in draws.items()}
            )
        return self._held[setting]

    def exactly(self, setting: Setting) -> Point:
        """Measure with exact reads."""
        found = self._measure(self.network, setting, None)
        return Point(setting, {"intended": tuple(found["intended"])})

    def _for(self, chip: CrossbarNetwork, setting: Setting) -> CrossbarNetwork:
        """The chip with the setting's cards."""
        bits = {
            name: value
            for name in ("adc_bits", "dac_bits")
            if (value := getattr(setting, name)) is not None
        }
        if bits or setting.read_noise_scale != 1.0:
            device = with_read_noise(self.device, setting.read_noise_scale)
            chip = with_cards(chip, device, with_converters(self.array, **bits))
        return chip

    def _measure(
        self, network: HopfieldNetwork, setting: Setting, number: int | None
    ) -> dict[str, list[Fidelity]]:
        """One network at one setting; nothing where it diverges."""
        references = {"intended": self.intended.gradients}
        if isinstance(network, CrossbarNetwork) and number is not None:
            references["programmed"] = self.programmed[number].gradients
            # The same noise at every setting: what differs between settings is the setting.
            for edge, storage in enumerate(network.storages):
                seed = derive_seed(self.seed, "noise", number, edge)
                storage.source = NormalSource(seed)
        phases = replace(
            self.phases,
            free_iterations=setting.free_iterations,
            nudged_iterations=setting.nudged_iterations,
            nudged_reads=setting.reads,
        )
        options: dict[str, Any] = {
            "cost": self.cost,
            "phases": phases,
            "generator": torch.Generator().manual_seed(derive_seed(self.seed, "sign")),
        }
        estimator = replace(self.estimator, beta=setting.beta)
        try:
            calibrate(network, *self.calibration, estimator, **options)
            return measure(
                network,
                *self.measured,
                estimator,
                references=references,
                repeats=1 if number is None else self.repeats,
                **options,
            )
        except ValueError as error:
            if not str(error).startswith("settling:"):
                raise
            return {name: [] for name in references}
