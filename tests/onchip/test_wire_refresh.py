"""Wires of a chip that ages while it learns: how often they are solved, and when exactly."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

import neurosim_ep.crossbar.matrix as matrix_module
from neurosim_ep.config import load_recipe
from neurosim_ep.crossbar import CrossbarMatrix
from neurosim_ep.crossbar.lines import transfer_conductances
from neurosim_ep.crossbar.mapping import signed
from neurosim_ep.experiments import build
from neurosim_ep.onchip import OnChipUpdates, TikiTaka

RECIPE = (
    "train_images=128",
    "learning.batch_size=16",
    "free_iterations=4",
    "nudged_iterations=2",
    "widths=[8]",
    "threads=1",
    "run.device=cpu",
    "momentum=0",
    "nesterov=false",
    "on_chip.device_card=hfo2-reram",
    "on_chip.image_time_s=100",
)


@pytest.mark.parametrize("rule", ["pulsed", "tiki_taka"])
@pytest.mark.parametrize("interval", [1, 4])
def test_time_in_a_training_leaves_wires_to_their_interval(
    rule: str, interval: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved: Counter[str] = Counter()

    def counting(*arguments: object) -> object:
        solved["all"] += 1
        return transfer_conductances(*arguments)  # type: ignore[arg-type]

    fields = (f"on_chip.rule={rule}", f"on_chip.wire_refresh_interval_updates={interval}")
    training = build(load_recipe("digits", [*RECIPE, *fields])).training
    monkeypatch.setattr(matrix_module, "transfer_conductances", counting)
    training.run_epoch()
    updates = training.optimiser
    assert isinstance(updates, OnChipUpdates)
    found = [target.storage.matrix for target in updates.targets]
    if isinstance(updates.rule, TikiTaka):
        found += [fast.matrix for fast in updates.rule.fast]
    assert all(isinstance(matrix, CrossbarMatrix) for matrix in found)
    assert all(matrix.devices.elapsed_s > 0.0 for matrix in found)
    # Eight updates: with an interval of 1, each by its pulses and by the time that follows; else
    # by the pulses of every fourth (a fast array's symmetrising was its first).
    assert solved["all"] == len(found) * (16 if interval == 1 else 2)
    # Asked for by a user, time brings exact wires.
    updates.method.model.advance_time(1000.0)
    for storage in updates.method.model.storages:
        matrix = storage.matrix
        wires = matrix.array.wires
        assert wires is not None
        conductance = matrix.devices.conductance
        seen = transfer_conductances(conductance, matrix.tiling, matrix.mapping, wires)[0]
        wanted = signed(seen, matrix.mapping, matrix.tiling) * matrix.units * matrix.compensation
        scale = float(wanted.abs().max())
        torch.testing.assert_close(matrix.forward_matrix, wanted, rtol=0.0, atol=1e-5 * scale)
