"""What a training on a chip leaves beside its accuracies: pulses, energy, the chip."""

import json
import math
from typing import Any

from torch import Tensor

from neurosim_ep.config import Recipe
from neurosim_ep.crossbar import CrossbarMatrix, cost
from neurosim_ep.exchange import hdf5
from neurosim_ep.experiments.on_chip.coarseness import coarse_pulses
from neurosim_ep.experiments.run_folder import RunFolder
from neurosim_ep.figures.onchip import pulse_histograms
from neurosim_ep.learning import Training, write_text
from neurosim_ep.onchip import LineUse, OnChipUpdates, Target, TikiTaka
from neurosim_ep.onchip.recording import PulseRecorder
from neurosim_ep.onchip.statistics import array_statistics, pulse_statistics, symmetry_offsets


class OnChipRecords:
    """Follows a training on a chip, and writes its records into the run folder.

    Made before the training's checkpoint is restored: devices are then where they start.

    Args:
        recipe: with a table [on_chip].
        updates: of the training.
        files: of the run.

    Attributes:
        warnings: one line each, to be shown at the start.
    """

    def __init__(self, recipe: Recipe, updates: OnChipUpdates, files: RunFolder) -> None:
        assert recipe.on_chip is not None
        self.recipe, self.updates, self.files = recipe, updates, files
        self.chip = updates.method.model
        self.fast = _fast_matrices(updates)
        self.start = symmetry_offsets(self.chip)
        self.fast_start = symmetry_offsets(self.fast) if self.fast else {}
        self.recorder: PulseRecorder | None = None
        coarse = coarse_pulses(recipe, updates)
        self.warnings = [] if coarse is None else [coarse]

    def begin(self, started: bool) -> None:
        """Open the file of pulses, where the recipe asks for one.

        Args:
            started: whether the training goes on from a checkpoint, or from its beginning again.

        Raises:
            ValueError: if the file to go on with is missing or damaged.
        """
        assert self.recipe.on_chip is not None
        every = self.recipe.on_chip.record_pulses_every
        if every:
            done = self.updates.updates if started else None
            self.recorder = PulseRecorder(self.files.pulses, self.chip, every=every, updates=done)
            self.updates.on_pulses = self.recorder.record

    def on_batch(self, training: Training) -> None:
        """Close the update of the batch that was just learned."""
        if self.recorder is not None:
            rates = self.updates.target_rates()
            self.recorder.end_update(training.epoch, training.batch - 1, rates)

    def close(self) -> None:
        """Close the file of pulses."""
        if self.recorder is not None:
            self.recorder.close()

    def write(self, images: Tensor) -> None:
        """Write ``on-chip.json``, the histograms and the chip.

        Args:
            images: to measure on what the arrays are driven with (B, *input shape).
        """
        record = self._record(images)
        write_text(self.files.on_chip, json.dumps(record, indent=2) + "\n")
        hdf5.save(self.chip, self.files.chip, self.recipe)
        if self.chip.device_card.pulse_response is not None:
            found = pulse_statistics(self.chip, images=self.updates.images, start=self.start)
            pulse_histograms(found, self.files.pulse_plot, title=self.recipe.name)

    def _record(self, images: Tensor) -> dict[str, Any]:
        updates, total = self.updates, self.updates.images
        assert self.recipe.on_chip is not None
        record: dict[str, Any] = {
            "device": self.chip.device_card.name,
            "array": self.chip.array_card.name,
            "rule": self.recipe.on_chip.rule,
            "images": total,
            "warnings": self.warnings,
            **updates.record(),
            "statistics": pulse_statistics(
                self.chip, images=total, start=self.start or None
            ).as_record(),
        }
        if self.fast:
            record["fast_statistics"] = array_statistics(
                self.fast,
                images=total,
                start=self.fast_start or None,
                pulses_before=_pulses_before(updates),
            ).as_record()
        if self.chip.array_card.cost is not None:
            record["cost"] = training_image_cost(updates, images)
        return record


def training_image_cost(updates: OnChipUpdates, images: Tensor) -> dict[str, Any]:
    """Energy, time and area of one training image on a chip (docs/cost-model.md).

    Args:
        updates: of a training with at least one batch.
        images: to measure on what the arrays are driven with (B, *input shape).
    """
    method = updates.method
    chip, phases = method.model, method.phases
    drive = cost.measure_drive(chip, method.free_phase(images))
    settling = cost.settling_cost(
        chip,
        free_iterations=phases.free_iterations,
        nudged_iterations=phases.nudged_iterations,
        phases=len(method.estimator.terms()),
        order=phases.order,
        reads=phases.nudged_reads,
        drive=drive,
    )
    update = cost.update_cost(chip, _writes(updates))
    fast = isinstance(updates.rule, TikiTaka)
    return {
        "settling": settling.summary(),
        "update": update.summary(),
        "training_image": (settling + update).summary(),
        "area": cost.area_summary(cost.network_area(chip, matrices=2 if fast else 1)),
    }


def _writes(updates: OnChipUpdates) -> list[cost.Writes]:
    """What one image does to the devices, on average over the training."""
    rule, images, batch = updates.rule, updates.images, updates.images / max(updates.updates, 1)
    writes = []
    for target, use in zip(updates.targets, updates.uses, strict=True):
        weights, positions = target.parameter.numel(), _positions(target)
        devices = target.storage.matrix.devices
        attempts = 0.0
        if not rule.pulsed:
            # Programming moves all devices alike: the chip's attempts in proportion.
            share = devices.programmed.numel() / sum(
                t.storage.matrix.devices.programmed.numel() for t in updates.targets
            )
            attempts = float(rule.record()["write_pulses"]) * share / images
        writes.append(
            _of_matrix(
                target,
                target.storage.matrix,
                use,
                images,
                attempts=attempts,
                # Two products per weight and position, summed before anything is written.
                macs=2.0 * weights * positions if rule.digital_gradient else 0.0,
                memory_bytes=2.0 * rule.bytes_per_weight * weights / batch,
            )
        )
    if isinstance(rule, TikiTaka):
        for target, fast in zip(updates.targets, rule.fast, strict=True):
            before = _pulses_before(updates)
            each = _of_matrix(target, fast.matrix, fast.use, images, name="fast ", before=before)
            writes.append(each)
    return writes


def _pulses_before(updates: OnChipUpdates) -> int:
    """Pulses of each fast device before learning; 0 without fast arrays."""
    return updates.rule.pulses_before if isinstance(updates.rule, TikiTaka) else 0


def _of_matrix(
    target: Target,
    matrix: CrossbarMatrix,
    use: LineUse,
    images: int,
    *,
    name: str = "",
    before: int = 0,
    attempts: float = 0.0,
    macs: float = 0.0,
    memory_bytes: float = 0.0,
) -> cost.Writes:
    count = matrix.devices.pulse_count
    pulses = 0.0
    if count is not None:
        # The devices of reference columns come last, and get no pulses.
        pulses = float((count[..., : matrix.tiling.columns] - before).sum()) / images
    slots, rows, columns, reads = (number / images for number in use.numbers())
    return cost.Writes(
        name + target.name,
        matrix,
        target.geometry,
        pulses=pulses,
        half_selected=cost.half_selected(matrix, rows, columns, pulses),
        slots=slots,
        attempts=attempts,
        row_reads=reads,
        macs=macs,
        memory_bytes=memory_bytes,
    )


def _positions(target: Target) -> int:
    return math.prod(target.geometry.linear_shape) // target.storage.matrix.tiling.columns


def _fast_matrices(updates: OnChipUpdates) -> dict[str, CrossbarMatrix]:
    rule = updates.rule
    if not isinstance(rule, TikiTaka):
        return {}
    pairs = zip(updates.targets, rule.fast, strict=True)
    return {f"fast {target.name}": fast.matrix for target, fast in pairs}
