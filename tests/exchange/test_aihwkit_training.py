"""The example in docs/aihwkit.md runs, and its network learns the digits."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from neurosim_ep.exchange import aihwkit_problem, learning_step, map_to_aihwkit
from neurosim_ep.learning import CenteredEP, Phases, weighted_equilibria
from neurosim_ep.models import mlp

REASON = aihwkit_problem()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")

DOCUMENT = Path(__file__).parents[2] / "docs" / "aihwkit.md"


def test_the_documented_example_learns_digits(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    start = time.process_time()
    for block in blocks:
        exec(block, names)
    assert time.process_time() - start < 20.0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "None"
    # The problem, eight epochs, then what moves weights to and from layers.
    assert shown[9:] == ["torch.Size([5, 32])", "(0.0, 0.0)"]
    assert names["accuracy_percent"] > 85.0
    assert all(report.saturated_fraction < 0.01 for report in names["trains"])


# How much of the first cost may be left.  Buffered transfers take their time.
PRESETS = {
    "ReRamESPreset": 0.3,
    "PCMPreset": 0.3,
    "TikiTakaEcRamPreset": 0.4,
    "TTv2EcRamPreset": 0.9,
    "MixedPrecisionEcRamPreset": 0.1,
}


@pytest.mark.parametrize("name", PRESETS)
def test_any_kind_of_preset_learns(name: str) -> None:
    """Two images of two classes, one edge: the cost falls."""
    from aihwkit.simulator import presets

    config = getattr(presets, name)()
    # How well a preset reads is its own affair, and not asked here.
    config.forward.is_perfect = config.backward.is_perfect = True
    images = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    chip = map_to_aihwkit(mlp((1, 4, 4), 2, ()), config, window_fraction=0.2)
    phases = Phases(free_iterations=2, nudged_iterations=20)
    costs = []
    for _ in range(200):
        found = weighted_equilibria(
            chip, images, torch.tensor([0, 1]), CenteredEP(0.3), phases=phases
        )
        costs.append(float(found.cost.mean()))
        learning_step(chip, found.nudged, found.terms, 0.05, bias_learning_rate=0.0)
    assert sum(costs[-50:]) / 50 < PRESETS[name] * costs[0]
