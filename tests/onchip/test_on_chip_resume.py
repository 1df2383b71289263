"""Trainings on noisy chips, stopped and resumed: everything bit for bit as without the stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch

from neurosim_ep.config import Recipe, load_recipe
from neurosim_ep.experiments import RunFolder, build, run
from neurosim_ep.learning import Training, load_checkpoint, save_checkpoint
from neurosim_ep.onchip import MixedPrecision, OnChipUpdates, TikiTaka

SMALL = (
    "train_images=96",
    "epochs=2",
    "learning.batch_size=16",
    "free_iterations=6",
    "nudged_iterations=3",
    "widths=[16]",
    "threads=1",
    "run.device=cpu",
    "on_chip.calibration_interval_updates=4",
    "on_chip.wire_refresh_interval_updates=5",
)
PLAIN = ("momentum=0", "nesterov=false")
RULES: dict[str, tuple[str, ...]] = {
    "digital": ("device_card=hfo2-reram", "write_interval_updates=2"),
    "mixed_precision": (
        "device_card=pcm",
        "array_card=default-compensated",
        "renew_interval_updates=2",
        "renew_fraction=0.5",
        "weight_headroom=1.5",
        "image_time_s=10",
        "learning.optimiser=adam",
        "learning.learning_rate=0.01",
    ),
    "pulsed": (
        *PLAIN,
        "device_card=li-ecram",
        "bias=row",
        "image_time_s=1000",
        "warm_start=true",
        "estimator=random_sign",
    ),
    "tiki_taka": (
        *PLAIN,
        "device_card=hfo2-reram",
        "transfer_sweep_updates=5",
        "chop_sweeps=1",
        "bias=row",
    ),
    "sign": (
        *PLAIN,
        "device_card=pcm",
        "renew_interval_updates=3",
        "renew_fraction=0.5",
        "weight_headroom=1.5",
        "threshold_steps=0.01",
    ),
}
OF_CHIP = (
    "device_card",
    "array_card",
    "renew",
    "image_time",
    "bias",
    "write",
    "transfer",
    "thresh",
)


def recipe_of(rule: str, *overrides: str) -> Recipe:
    fields = [
        f"on_chip.{field}" if field.startswith(OF_CHIP) else field
        for field in (*RULES[rule], *overrides)
    ]
    return load_recipe("digits", [*SMALL, f"on_chip.rule={rule}", *fields])


def same(found: Any, wanted: Any, where: str = "") -> None:
    """All tensors and numbers of two nested states are equal, NaN to NaN."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key, value in wanted.items():
            same(found[key], value, f"{where}.{key}")
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted), where
        for place, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
            same(mine, theirs, f"{where}[{place}]")
    elif isinstance(wanted, torch.Tensor):
        assert found.dtype == wanted.dtype, where
        torch.testing.assert_close(
            found, wanted, rtol=0.0, atol=0.0, equal_nan=True, msg=lambda text: f"{where}: {text}"
        )
    else:
        assert found == wanted, where


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_goes_on_bit_for_bit(rule: str, tmp_path: Path) -> None:
    recipe = recipe_of(rule)
    whole = build(recipe).training
    path, saved = tmp_path / "checkpoint.pt", 0

    def save(training: Training) -> None:
        nonlocal saved
        # In the middle of the first epoch: seven of twelve updates are still to come.
        if (training.epoch, training.batch) == (0, 5):
            save_checkpoint(path, training.state_dict())
            saved += 1

    summaries = [whole.run_epoch(save), whole.run_epoch(save)]
    assert saved == 1
    resumed = build(recipe).training
    resumed.load_state_dict(load_checkpoint(path))
    assert [resumed.run_epoch(), resumed.run_epoch()] == summaries
    same(resumed.state_dict(), whole.state_dict())
    images, labels = next(iter(whole.batches.epoch(3)))
    reports = [training.method.evaluate(images, labels) for training in (whole, resumed)]
    same(reports[0].cost, reports[1].cost)
    _has_what_it_promises(rule, whole, load_checkpoint(path))


def _has_what_it_promises(rule: str, training: Training, early: dict[str, Any]) -> None:
    """The state holds what the rule and its card need, and all of it was at work."""
    state, updates = training.state_dict(), training.optimiser
    assert isinstance(updates, OnChipUpdates)
    names = state["model"].keys()
    assert updates.updates == updates.method.batches == 12
    ranges = [state["model"][n] for n in names if n.endswith("forward_full.adc_full_scale_ampere")]
    assert len(ranges) == 2
    assert all(bool(scale.isfinite().all()) for scale in ranges)
    if rule != "digital":
        moved = [n for n in names if n.endswith("_pulse_count")]
        assert len(moved) == len(updates.targets)
        assert all(int(state["model"][n].sum()) > 0 for n in moved)
        assert any(not torch.equal(state["model"][n], early["model"][n]) for n in moved)
        share = [n for n in names if n.endswith("._share")]
        assert len(share) == 2
        assert all(bool((state["model"][n] < 1.0).any()) for n in share)
    aged = {name.rsplit(".", 1)[-1] for name in names if name.endswith("._ages")}
    # The devices drift by clocks of their own while images take time.
    assert aged == ({"_ages"} if rule in ("mixed_precision", "pulsed") else set())
    if rule == "digital":
        assert updates.rule.record()["writes"] == 6
    if rule in ("mixed_precision", "sign"):
        assert updates.renewed > 0
    if isinstance(updates.rule, MixedPrecision):
        assert all(bool(chi.any()) for chi in updates.rule.accumulators)
        assert any(float(state["model"][n]) != 1.0 for n in names if n.endswith(".compensation"))
    if isinstance(updates.rule, TikiTaka):
        assert any(name.endswith("devices._hidden") for name in names)
        for fast in updates.rule.fast:
            assert bool(fast.buffer.any())
            assert set(fast.chopper.flatten().tolist()) <= {1.0, -1.0}
        assert any(bool((fast.chopper < 0.0).any()) for fast in updates.rule.fast)
    if rule == "pulsed":
        assert training.method.carried() is None
        assert early["carried"] is not None
        assert sum(".matrix.devices.drift_coefficient" in name for name in names) == 4


def stopped(recipe: Recipe, folder: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run until the checkpoint after so many batches, as if killed there."""
    step, batches = Training.run_epoch, 0

    def stopping(training: Training, on_batch: Callable[[Training], None]) -> object:
        def counted(present: Training) -> None:
            nonlocal batches
            on_batch(present)
            batches += 1
            if batches == after:
                raise KeyboardInterrupt

        return step(training, counted)

    monkeypatch.setattr(Training, "run_epoch", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, folder)
    monkeypatch.setattr(Training, "run_epoch", step)


def test_a_stopped_run_leaves_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of("tiki_taka", "checkpoint_interval_s=1e-9", "on_chip.record_pulses_every=2")
    whole, folder = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "stopped")
    run(recipe, whole.path)
    stopped(recipe, folder.path, 5, monkeypatch)
    assert folder.checkpoint.exists()
    assert not folder.on_chip.exists()
    run(recipe, folder.path, resume=True)
    for name in ("last", "best"):
        same(load_checkpoint(getattr(folder, name)), load_checkpoint(getattr(whole, name)))
    one, other = (load_checkpoint(files.checkpoint) for files in (folder, whole))
    same(one["training"], other["training"])
    # The epochs' seconds are the clock's.
    for history in (one["history"], other["history"]):
        for row in history:
            del row["seconds"]
    same(one["history"], other["history"])
    records = [json.loads(files.on_chip.read_text()) for files in (folder, whole)]
    assert records[0] == records[1]
    assert records[0]["updates"] == 12
    with h5py.File(folder.pulses, "r") as mine, h5py.File(whole.pulses, "r") as theirs:
        assert mine["update"][:].tolist() == [0, 2, 4, 6, 8, 10]
        assert (mine["pulses/edge_0/up"][:] == theirs["pulses/edge_0/up"][:]).all()
        assert int(mine["pulses/edge_0/up"][:].sum()) > 0
