"""Where aihwkit is missing, broken or asked for what it cannot do, one line says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from neurosim_ep.exchange import AihwkitStorage, aihwkit_problem, aihwkit_tile, map_to_aihwkit
from neurosim_ep.models import Dense, mlp

REASON = aihwkit_problem()
needs_aihwkit = pytest.mark.skipif(REASON is not None, reason=REASON or "")


@pytest.fixture
def unknown() -> Iterator[None]:
    """Whether aihwkit works is asked anew, before and after."""
    aihwkit_tile._configurations.cache_clear()
    yield
    aihwkit_tile._configurations.cache_clear()


class ForAnotherTorch:
    """An array as of a wheel built for another torch: it is made, and refuses every tensor."""

    construction_seed = 0

    def create_array(self, *arguments: Any) -> ForAnotherTorch:
        return self

    def set_shared_weights(self, weights: torch.Tensor) -> None:
        raise TypeError("set_weights(): incompatible function arguments.\n    1. (self, Tensor)")


class WrongSums(ForAnotherTorch):
    """An array whose reads are wrong."""

    def set_shared_weights(self, weights: torch.Tensor) -> None:
        pass

    set_weights = set_shared_weights

    def forward(self, vectors: torch.Tensor, *switches: bool) -> torch.Tensor:
        return vectors * 3.0


def pretend(monkeypatch: pytest.MonkeyPatch, array: ForAnotherTorch) -> None:
    """Put an aihwkit in place whose arrays are like this one."""
    precision = SimpleNamespace(as_torch=lambda: torch.float32)

    class Configuration:
        forward = SimpleNamespace(is_perfect=False)
        runtime = SimpleNamespace(data_type=precision)
        device = SimpleNamespace(as_bindings=lambda data_type: array)

        def as_bindings(self) -> ForAnotherTorch:
            return array

    package, configs = ModuleType("aihwkit"), ModuleType("aihwkit.simulator.configs")
    package.__version__ = "1.1.0"  # type: ignore[attr-defined]
    for name in aihwkit_tile.CONFIGURATIONS:
        setattr(configs, name, Configuration)
    monkeypatch.setitem(sys.modules, "aihwkit", package)
    monkeypatch.setitem(sys.modules, "aihwkit.simulator.configs", configs)


@pytest.mark.usefixtures("unknown")
def test_a_missing_aihwkit_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aihwkit.simulator.configs", None)
    reason = aihwkit_problem()
    assert reason is not None
    assert reason.startswith("aihwkit: ")
    assert "missing" in reason
    assert "docs/aihwkit.md" in reason
    assert "\n" not in reason
    with pytest.raises(ValueError, match=r"missing") as caught:
        map_to_aihwkit(mlp((1, 2, 2), 2, (3,)), object())
    assert str(caught.value) == reason


@pytest.mark.usefixtures("unknown")
@pytest.mark.parametrize(
    ("array", "said"),
    [
        (ForAnotherTorch(), "TypeError: set_weights(): incompatible function arguments."),
        (WrongSums(), "RuntimeError: 0.25 x 2 read as 6"),
    ],
)
def test_a_failed_smoke_test_is_one_line(
    monkeypatch: pytest.MonkeyPatch, array: ForAnotherTorch, said: str
) -> None:
    pretend(monkeypatch, array)
    reason = aihwkit_problem()
    assert reason == (
        f'aihwkit: "1.1.0 with torch {torch.__version__} ({said})" is not allowed; must be '
        "installed for this torch, see docs/aihwkit.md"
    )
    with pytest.raises(ValueError, match=r"1\.1\.0 with torch"):
        AihwkitStorage(Dense((2,), (2,)), object(), seed=0)


def test_importing_needs_no_aihwkit() -> None:
    code = "import sys, neurosim_ep.exchange; assert not [m for m in sys.modules if 'aihwk' in m]"
    code = code.replace("'aihwk' in m", "m.split('.')[0] == 'aihwkit'")
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_aihwkit
def test_only_pulsed_configurations_are_allowed() -> None:
    from aihwkit.simulator.configs import FloatingPointRPUConfig, InferenceRPUConfig

    network = mlp((1, 2, 2), 2, (3,))
    for config in (FloatingPointRPUConfig(), InferenceRPUConfig(), None):
        name = type(config).__name__
        with pytest.raises(ValueError, match=f'^rpu_config: "{name}" is not allowed; must be Sin'):
            map_to_aihwkit(network, config)


@needs_aihwkit
def test_arguments_out_of_range() -> None:
    from aihwkit.simulator.configs import SingleRPUConfig

    config = SingleRPUConfig()
    network = mlp((1, 2, 2), 2, (3,))
    for fraction in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"^window_fraction: "):
            map_to_aihwkit(network, config, window_fraction=fraction)
    storage = AihwkitStorage(Dense((2,), (3,)), config, seed=0)
    before = storage.tile.matrix
    pairs = [(torch.ones(1, 2), torch.ones(1, 3))]
    for rate in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"^learning_rate: "):
            storage.pulse_products(pairs, rate)
    with pytest.raises(ValueError, match=r"^products: .* at least one"):
        storage.pulse_products([], 0.1)
    with pytest.raises(ValueError, match=r"^products: NaN or infinity"):
        storage.pulse_products([(torch.ones(1, 2), torch.full((1, 3), float("nan")))], 0.1)
    with torch.no_grad():
        storage.weight[0, 0] = float("inf")
    with pytest.raises(ValueError, match=r"^weight: NaN or infinity"):
        storage.program()
    assert torch.equal(storage.tile.matrix, before)


@needs_aihwkit
def test_devices_without_room_in_one_direction_are_refused() -> None:
    from aihwkit.simulator.configs import ConstantStepDevice, SingleRPUConfig

    config = SingleRPUConfig(device=ConstantStepDevice(w_min=0.0, w_min_dtod=0.0))
    with pytest.raises(ValueError, match=r"^rpu_config.device: .* must be one with room in both"):
        map_to_aihwkit(mlp((1, 2, 2), 2, (3,)), config)
