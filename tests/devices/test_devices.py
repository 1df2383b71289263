"""Populations of devices: order of what happens to them, seeds, time, saving."""

import copy

import pytest
import torch

from neurosim_ep.cards import card_from_mapping
from neurosim_ep.devices import DeviceCard, Devices, load_device_card, shipped_device_cards

SHAPE = (40, 50)
LOW, HIGH = 2e-6, 25e-6
TABLES = {
    "window": {"g_min_siemens": LOW, "g_max_siemens": HIGH},
    "spread": {"g_min_sigma_relative": 0.2, "g_max_sigma_relative": 0.1},
    "programming": {"coefficients_siemens": [0.3e-6, 1e-6], "reference_siemens": 25e-6},
    "write_verify": {"tolerance_siemens": 0.4e-6, "max_pulses": 5, "on_failure": "keep_best"},
    "faults": {
        "stuck_at_min_fraction": 0.02,
        "stuck_at_max_fraction": 0.02,
        "stuck_at_random_fraction": 0.05,
    },
    "read_noise": [
        {"model": "telegraph", "amplitude_relative": 0.1, "device_fraction": 0.3},
        {"model": "lumped", "sigma_relative": 0.01},
    ],
    "drift": {
        "model": "power_law",
        "start_s": 20.0,
        "reference_siemens": 25e-6,
        "mean_intercept": 0.06,
        "mean_low": 0.0,
        "mean_high": 1.0,
        "sigma_intercept": 0.02,
        "sigma_high": 1.0,
    },
}


def card(*names, **changes):
    """A card with the named tables beside the window; changes replace whole tables."""
    data = {"name": "test"}
    for name, table in ({n: TABLES[n] for n in ("window", *names)} | changes).items():
        sourced = [{"source": "a test", **t} for t in (table if type(table) is list else [table])]
        data[name] = sourced if type(table) is list else sourced[0]
    return card_from_mapping(DeviceCard, data)


FULL = card(*list(TABLES)[1:])


def targets(seed=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(SHAPE, generator=generator, dtype=dtype) * (HIGH - LOW) + LOW


def aged(of=FULL, seed=3, dtype=torch.float32):
    devices = Devices(of, SHAPE, seed=seed, dtype=dtype)
    devices.program(targets(dtype=dtype))
    devices.advance_time(1e4)
    return devices


# --- Programming ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ideal_devices_take_their_targets(dtype):
    devices = Devices(card(), SHAPE, seed=0, dtype=dtype)
    assert (devices.conductance == torch.tensor(LOW, dtype=dtype)).all()
    report = devices.program(targets(dtype=dtype))
    assert torch.equal(devices.conductance, targets(dtype=dtype))
    assert devices.conductance.dtype == dtype
    assert (report.clipped, report.failed, report.attempts) == (0, 0, 2000)
    devices.advance_time(1e9)
    assert torch.equal(devices.conductance, targets(dtype=dtype))


def test_targets_outside_the_window_are_clipped_and_counted():
    devices = Devices(card(), (6,), seed=0)
    beyond = torch.tensor([-1.0, LOW * 0.99, LOW, HIGH, HIGH * 1.01, 1.0])
    assert devices.program(beyond).clipped == 4
    low, high = torch.tensor([LOW, HIGH])
    assert torch.equal(devices.conductance, torch.stack([low] * 3 + [high] * 3))


def test_rounding_in_another_precision_is_not_clipping():
    for dtype in (torch.float32, torch.float64):
        for given in (torch.float32, torch.float64):
            devices = Devices(card(), (2,), seed=0, dtype=dtype)
            scale = torch.tensor([1.0], dtype=given)
            bounds = torch.cat([LOW + 0.0 * scale, (HIGH - LOW) * scale + LOW])
            assert devices.program(bounds).clipped == 0


def test_programming_aims_at_the_levels():
    devices = Devices(card(window={**TABLES["window"], "levels": 5}), SHAPE, seed=0)
    devices.program(targets())
    expected = torch.linspace(LOW, HIGH, 5)
    torch.testing.assert_close(devices.conductance.unique(), expected, rtol=1e-6, atol=0.0)


def test_devices_stay_between_their_own_bounds():
    devices = Devices(card("spread", "programming"), SHAPE, seed=1)
    assert torch.equal(devices.conductance, devices.lower)
    for target, bound in ((0.0, devices.lower), (1.0, devices.upper)):
        devices.program(torch.full(SHAPE, target))
        nominal = torch.full(SHAPE, LOW if target == 0.0 else HIGH)
        out_of_reach = (bound > nominal + 3e-6) if target == 0.0 else (bound < nominal - 5e-6)
        assert torch.equal(devices.conductance[out_of_reach], bound[out_of_reach])
    assert out_of_reach.any()
    assert (devices.conductance >= devices.lower).all()
    assert (devices.conductance <= devices.upper).all()


@pytest.mark.parametrize("tables", [("faults",), ("faults", "spread"), tuple(TABLES)[1:]])
def test_stuck_devices_keep_their_conductance(tables):
    devices = Devices(card(*tables), SHAPE, seed=2)
    stuck, before = devices.stuck, devices.conductance[devices.stuck].clone()
    assert 0.04 < stuck.double().mean() < 0.15
    assert (before >= 0.0).all()
    for seed in (1, 2):
        devices.program(targets(seed))
        devices.advance_time(1e6)
        assert torch.equal(devices.conductance[stuck], before)
        assert (devices.conductance[~stuck] != devices.lower[~stuck]).any() if tables[1:] else True
    lower = LOW if devices.lower is None else devices.lower[stuck]
    upper = HIGH if devices.upper is None else devices.upper[stuck]
    ends = (before == lower) | (before == upper)
    assert 0.25 < ends.double().mean() < 0.65  # 4 of 9 stuck devices


def test_write_verify_reports_what_it_spent():
    open_loop = Devices(card("programming"), SHAPE, seed=4)
    verified = Devices(card("programming", "write_verify"), SHAPE, seed=4)
    assert open_loop.program(targets()).attempts == 2000
    report = verified.program(targets())
    error = (verified.conductance - targets()).abs()
    assert report.attempts > 2000
    assert report.failed == int((error > 0.4e-6 * (1 + 1e-5)).sum())
    assert 0 < report.failed < 600
    assert error.mean() < 0.5 * (open_loop.conductance - targets()).abs().mean()


def test_write_verify_gives_up_on_stuck_devices():
    # Without noise everything else succeeds at once.
    devices = Devices(card("faults", "write_verify"), SHAPE, seed=5)
    off = (devices.conductance - targets()).abs() > 0.4e-6
    stuck_off = int((off & devices.stuck).sum())
    report = devices.program(targets())
    assert report.failed == stuck_off > 50
    assert report.attempts == 2000 + 4 * stuck_off


def test_failed_devices_can_be_reset():
    table = {"tolerance_siemens": 1e-9, "max_pulses": 1, "on_failure": "reset"}
    devices = Devices(card("spread", "programming", write_verify=table), SHAPE, seed=6)
    report = devices.program(torch.full(SHAPE, 15e-6))
    assert report.failed > 1900
    assert int((devices.conductance == devices.lower).sum()) == report.failed


# --- Seeds ---------------------------------------------------------------------------------------


def test_a_seed_fixes_everything():
    one, same, other = aged(seed=3), aged(seed=3), aged(seed=4)
    assert torch.equal(one.conductance, same.conductance)
    for key, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[key])
        assert not torch.equal(value, other.state_dict()[key])


def test_programming_again_draws_again_and_leaves_fabrication_alone():
    devices = aged()
    first, stuck, lower = devices.programmed, devices.stuck, devices.lower
    coefficient = devices.drift_coefficient
    devices.program(targets())
    assert devices.elapsed_s == 0.0
    assert (devices.programmed != first)[~stuck].double().mean() > 0.9
    assert (devices.drift_coefficient != coefficient).all()
    assert devices.stuck is stuck
    assert devices.lower is lower


def test_the_global_generator_is_neither_used_nor_moved():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = aged()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(aged().conductance, one.conductance)


@pytest.mark.parametrize("off", ["spread", "programming", "faults", "read_noise", "drift"])
def test_switching_a_phenomenon_off_leaves_the_draws_of_the_others(off):
    names = [n for n in TABLES if n not in ("window", "write_verify")]
    whole, part = aged(card(*names)), aged(card(*(n for n in names if n != off)))
    for buffer, owner in (
        ("lower", "spread"),
        ("upper", "spread"),
        ("stuck", "faults"),
        ("fluctuating", "read_noise"),
    ):
        kept = getattr(part, buffer)
        if owner == off:
            assert kept is None
        else:
            assert torch.equal(kept, getattr(whole, buffer))
    # Programming and drift: their standard normal numbers, where nothing else interferes.
    free = ~whole.stuck & (whole.programmed > whole.lower) & (whole.programmed < whole.upper)
    if part.lower is not None:
        free &= (part.programmed > part.lower) & (part.programmed < part.upper)
    else:
        low, high = part.programmed.min(), part.programmed.max()
        free &= (part.programmed > low) & (part.programmed < high)
    assert free.double().mean() > 0.7
    if off != "programming":
        assert torch.equal(part.programmed[free], whole.programmed[free])
    if off != "drift":
        torch.testing.assert_close(part.drift_coefficient[free], whole.drift_coefficient[free])


def test_phenomena_are_drawn_independently():
    table = {"stuck_at_random_fraction": 0.5}
    noise = {"model": "telegraph", "amplitude_relative": 0.1, "device_fraction": 0.5}
    names = ("spread", "programming", "drift")
    devices = Devices(card(*names, faults=table, read_noise=[noise]), (20_000,), seed=8)
    devices.program(torch.full((20_000,), 14e-6))
    drawn = torch.stack(
        [
            devices.lower.double(),
            devices.upper.double(),
            devices.stuck.double(),
            devices.fluctuating.double(),
            devices.programmed.double().masked_fill(devices.stuck, 14e-6),
            devices.drift_coefficient.double(),
        ]
    )
    correlation = drawn.corrcoef() - torch.eye(6, dtype=torch.float64)
    assert correlation.abs().max() < 4.0 / 20_000**0.5


# --- Time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", shipped_device_cards())
def test_ageing_twice_is_ageing_for_the_sum(name, dtype):
    devices = Devices(load_device_card(name), (500,), seed=7, dtype=dtype)
    window = devices.card.window
    devices.program(torch.linspace(window.g_min_siemens, window.g_max_siemens, 500, dtype=dtype))
    once, start = copy.deepcopy(devices), devices.conductance.clone()
    devices.advance_time(0.0)
    assert torch.equal(devices.conductance, start)
    for seconds in (0.25, 4096.0, 0.5):
        devices.advance_time(seconds)
    once.advance_time(4096.75)
    assert devices.elapsed_s == once.elapsed_s == 4096.75
    assert torch.equal(devices.conductance, once.conductance)
    assert torch.equal(devices.conductance, start) == (devices.card.drift is None)


def test_programming_restarts_time():
    devices = aged()
    devices.program(targets())
    assert torch.equal(devices.conductance, devices.programmed)
    devices.advance_time(10.0)
    assert devices.elapsed_s == 10.0


def test_devices_that_were_never_programmed_do_not_drift():
    leak = {"model": "retention", "rest_siemens": 9e-6, "time_constant_s": 10.0}
    devices = Devices(card("spread", "faults", drift=leak), SHAPE, seed=1)
    before = devices.conductance.clone()
    devices.advance_time(1e6)
    assert torch.equal(devices.conductance, before)
    devices.program(targets())
    devices.advance_time(1e6)
    torch.testing.assert_close(
        devices.conductance[~devices.stuck] / 9e-6, torch.ones(int((~devices.stuck).sum()))
    )


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), -5e-324])
def test_time_only_runs_forward(seconds):
    devices = aged()
    with pytest.raises(ValueError, match=r"^seconds: .* is not allowed; must be a finite number"):
        devices.advance_time(seconds)
    assert devices.elapsed_s == 1e4


def test_time_does_not_overflow():
    devices = aged()
    devices.advance_time(1.7e308)
    with pytest.raises(ValueError, match=r"^seconds: .* stays finite$"):
        devices.advance_time(1.7e308)
    assert torch.isfinite(devices.conductance).all()


# --- Saving and moving ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_state_dict_brings_everything_back(dtype, tmp_path):
    original = aged(dtype=dtype)
    original.program(targets(2, dtype))
    original.advance_time(0.1)
    original.advance_time(0.2)  # not a number that float32 holds
    torch.save(original.state_dict(), tmp_path / "devices.pt")
    restored = Devices(FULL, SHAPE, seed=99, dtype=dtype)
    restored.load_state_dict(torch.load(tmp_path / "devices.pt", weights_only=True))
    for devices in (original, restored):
        assert devices.elapsed_s == 0.1 + 0.2
        assert devices.program_count == 2
    for _ in range(2):  # also what happens from now on is the same
        assert torch.equal(restored.conductance, original.conductance)
        assert torch.equal(
            restored.read_variance().per_square_volt, original.read_variance().per_square_volt
        )
        original.advance_time(7.0)
        restored.advance_time(7.0)
        assert original.program(targets(3, dtype)) == restored.program(targets(3, dtype))


def test_absent_phenomena_take_no_memory():
    assert set(Devices(card(), SHAPE, seed=0).state_dict()) == {"programmed", "_extra_state"}


def test_converting_to_double_keeps_the_devices():
    devices = aged()
    before = devices.conductance.clone()
    devices.double()
    assert torch.equal(devices.conductance, before.double())
    devices.advance_time(0.0)
    torch.testing.assert_close(devices.conductance, before.double(), rtol=1e-6, atol=0.0)
    devices.program(targets())
    assert devices.conductance.dtype == torch.float64
    assert devices.read_variance().per_square_volt.dtype == torch.float64


def test_the_target_is_left_alone():
    devices, target = Devices(card(), SHAPE, seed=0), targets()
    before = target.clone()
    devices.program(target)
    target.zero_()
    assert torch.equal(devices.conductance, before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_holds_the_same_devices():
    here, there = aged(), Devices(FULL, SHAPE, seed=3, device="cuda")
    report = there.program(targets().cuda())
    there.advance_time(1e4)
    assert there.conductance.is_cuda
    assert abs(report.attempts - Devices(FULL, SHAPE, seed=3).program(targets()).attempts) <= 2
    close = torch.isclose(there.conductance.cpu(), here.conductance, rtol=1e-4, atol=0.0)
    assert close.double().mean() > 0.999
    assert torch.equal(there.cpu().stuck, here.stuck)


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_targets_must_be_finite(value):
    devices = aged()
    before = devices.conductance.clone()
    target = targets()
    target[3, 4] = value
    with pytest.raises(ValueError, match=r"^target_siemens: -?\w+ is not allowed; must be finite$"):
        devices.program(target)
    assert torch.equal(devices.conductance, before)
    assert (devices.program_count, devices.elapsed_s) == (1, 1e4)


@pytest.mark.parametrize("shape", [(50, 40), (2000,), (1, 40, 50), ()])
def test_targets_must_have_the_devices_shape(shape):
    devices = Devices(card(), SHAPE, seed=0)
    with pytest.raises(ValueError, match=r"^target_siemens: shape: .* must be \[40, 50\]"):
        devices.program(torch.full(shape, 5e-6))


def test_targets_must_be_floating_point():
    with pytest.raises(ValueError, match=r'^target_siemens: dtype: "torch.int64" is not allowed'):
        Devices(card(), (2,), seed=0).program(torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed: -1 is not allowed; must be a whole number from 0"),
        ({"seed": 2**63}, "seed: 9223372036854775808 is not allowed"),
        ({"seed": 1.0}, "seed: 1.0 is not allowed"),
        ({"seed": 0, "dtype": torch.float16}, 'dtype: "torch.float16" is not allowed'),
    ],
)
def test_fabrication_refuses_what_it_cannot_do(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Devices(card(), SHAPE, **arguments)


def test_sizes_are_not_negative():
    with pytest.raises(ValueError, match=r"^shape: \[-1\] is not allowed"):
        Devices(card(), (-1,), seed=0)


def test_no_devices_are_fine():
    devices = Devices(FULL, (0, 5), seed=0)
    assert devices.program(torch.empty(0, 5)).attempts == 0
    devices.advance_time(1.0)
    assert devices.conductance.shape == (0, 5)
