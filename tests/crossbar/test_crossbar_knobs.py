"""Every knob acts: the more of a nonideality, the further reads are from the weights'."""

import itertools

import pytest
import torch

from neurosim_ep.crossbar import map_to_crossbar
from neurosim_ep.models import Dense, mlp
from neurosim_ep.settling import settle

DENSE = Dense((40,), (30,))
DIRECTIONS = ("forward", "transposed")
PROGRAMMING = {"coefficients_siemens": [4e-6], "reference_siemens": 1e-4}
POWER_LAW = {
    "model": "power_law",
    "start_s": 20.0,
    "reference_siemens": 1e-4,
    "mean_intercept": 0.06,
    "mean_low": 0.0,
    "mean_high": 1.0,
}
FLICKER = {"exponent": 0.65, "maximum": 0.5}
FLICKER |= {"reference_siemens": 1e-4, "read_time_s": 250e-9}
LOGARITHMIC = {"reference_siemens": 1e-6, "read_time_s": 250e-9}


def programming(siemens):
    return {"programming": PROGRAMMING | {"coefficients_siemens": [siemens]}}


def verify(siemens):
    table = {"tolerance_siemens": siemens, "max_pulses": 100_000}
    return {"programming": PROGRAMMING, "write_verify": table}


def noise(model, field, **others):
    return lambda value: {"read_noise": [{"model": model, field: value} | others]}


def wires(field):
    return lambda ohm: {"wires": {field: ohm}}


def converters(field, **others):
    return lambda value: {
        direction: {field: value} | others for direction in ("forward", "transposed")
    }


# Tables of the card for a value, and values from little to much; the first of them is nearly ideal
# where it says so.
OF_THE_DEVICE = {
    "levels": (lambda n: {"window": {"levels": n}}, [10_000, 64, 16, 4, 2], True),
    "programming": (programming, [1e-9, 1e-7, 1e-6, 5e-6, 2e-5], True),
    "tolerance": (verify, [1e-8, 2e-7, 1e-6, 3e-6, 1e-5], True),
    "spread of g_max": (
        lambda s: {"spread": {"g_max_sigma_relative": s}}, [1e-6, 0.2, 0.4, 0.8], True
    ),
    "spread of g_min": (
        lambda s: {"spread": {"g_min_sigma_relative": s}}, [1e-6, 10.0, 30.0, 100.0], True
    ),
    "stuck at min": (
        lambda f: {"faults": {"stuck_at_min_fraction": f}}, [0.002, 0.01, 0.05, 0.2], False
    ),
    "stuck at max": (
        lambda f: {"faults": {"stuck_at_max_fraction": f}}, [0.002, 0.01, 0.05, 0.2], False
    ),
    "stuck anywhere": (
        lambda f: {"faults": {"stuck_at_random_fraction": f}}, [0.002, 0.01, 0.05, 0.2], False
    ),
    "thermal": (noise("thermal", "bandwidth_hz"), [1e3, 1e9, 1e10, 1e12], True),
    "shot": (noise("shot", "bandwidth_hz"), [1e3, 1e9, 1e10, 1e12], True),
    "flicker": (noise("flicker", "coefficient", **FLICKER), [1e-5, 0.005, 0.02, 0.1], True),
    "logarithmic": (
        noise("logarithmic", "coefficient_siemens", **LOGARITHMIC), [1e-10, 1e-7, 1e-6, 4e-6], True
    ),
    "telegraph": (noise("telegraph", "amplitude_relative"), [1e-4, 0.02, 0.1, 0.5], True),
    "telegraph's devices": (
        noise("telegraph", "device_fraction", amplitude_relative=0.3), [1e-3, 0.1, 0.5, 1.0], False
    ),
    "lumped": (noise("lumped", "sigma_relative"), [1e-4, 0.01, 0.05, 0.2], True),
    "lumped of range": (noise("lumped", "sigma_of_range_relative"), [1e-5, 0.01, 0.05, 0.2], True),
}  # fmt: skip
OF_THE_ARRAY = {
    "word line": (wires("word_line_ohm"), [0.0, 0.3, 3.0, 30.0], True),
    "bit line": (wires("bit_line_ohm"), [0.0, 0.3, 3.0, 30.0], True),
    "driver": (wires("driver_ohm"), [0.0, 3.0, 30.0, 300.0], True),
    "sense": (wires("sense_ohm"), [0.0, 3.0, 30.0, 300.0], True),
    "dac": (converters("dac_bits"), [14, 8, 6, 4, 2], True),
    "adc": (converters("adc_bits", adc_range="ideal"), [14, 8, 6, 4, 2], True),
    "adc range": (
        # From enough to so little that currents saturate.
        converters("adc_range_ampere", adc_range="fixed", adc_bits=12),
        [1e-4, 1e-5, 3e-6, 3e-7],
        True,
    ),
    "adc noise": (converters("adc_noise_ampere"), [1e-10, 1e-7, 5e-7, 5e-6], True),
    "clipping": (lambda q: {"quantile": q}, [1.0, 0.99, 0.9, 0.6], True),
}  # fmt: skip
KNOBS = {name: (True, *knob) for name, knob in OF_THE_DEVICE.items()}
KNOBS |= {name: (False, *knob) for name, knob in OF_THE_ARRAY.items()}


def error(arrays, direction):
    """Relative error of reads of the digital weights."""
    generator = torch.Generator().manual_seed(4)
    weight = arrays.weight.detach()
    forward = direction == "forward"
    shape = (200, 40 if forward else 30)
    driven = 2.0 * torch.rand(shape, generator=generator, dtype=torch.float64)
    exact = driven @ (weight if forward else weight.T)
    found = (arrays.forward_read if forward else arrays.transposed_read)(driven)
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("mapping", ["differential_pair", "offset_column"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("knob", KNOBS)
def test_more_of_it_is_worse(knob, direction, mapping, device, array, storage):
    of_the_device, tables, values, starts_ideal = KNOBS[knob]
    errors = []
    for value in values:
        cards = (
            device(**(tables(value) if of_the_device else {})),
            array(64, 64, mapping, **({} if of_the_device else tables(value))),
        )
        arrays = storage(DENSE, *cards)
        if knob in ("flicker", "logarithmic"):
            arrays.advance_time(1.0)
        errors.append(error(arrays, direction))
    for less, more in itertools.pairwise(errors):
        assert more > 1.1 * less
    assert errors[-1] > 0.02
    assert errors[0] < (0.01 if starts_ideal else 0.5)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_longer_the_worse(direction, device, array, storage):
    models = {
        "power law": (POWER_LAW, 1e-4),
        "logarithmic": (
            {"model": "logarithmic", "mean_slope_siemens": -1e-7}
            | {"sigma_slope_siemens": 1e-7, "sigma_offset_siemens": 1e-7},
            1e-4,
        ),
        "retention": ({"model": "retention", "rest_siemens": 1e-6, "time_constant_s": 1e4}, 1e-4),
        "relaxation": (
            {"model": "relaxation", "times_s": [1.0, 1e7], "reference_siemens": 1e-4}
            | {"coefficients_siemens": [[1e-6], [1e-5]]},
            1e-4,
        ),
    }
    for drift, least in models.values():
        arrays = storage(DENSE, device(drift=drift), array(64, 64))
        errors = [error(arrays, direction)]
        assert errors[0] < 1e-12
        for seconds in (10.0, 1e3, 1e5):
            arrays.advance_time(seconds)
            errors.append(error(arrays, direction))
            assert errors[-1] > errors[-2] + least


def test_what_a_network_settles_to_gets_worse_too(device, array):
    network = mlp((1, 3, 3), 3, (8, 6)).double()
    images = torch.linspace(-1.0, 1.0, 90, dtype=torch.float64).view(10, 1, 3, 3)
    exact = settle(network, images).output
    errors = []
    for sigma in (0.0, 0.01, 0.1):
        terms = [{"model": "lumped", "sigma_relative": sigma}]
        chip = map_to_crossbar(network, device(read_noise=terms), array(8, 8))
        errors.append(float((settle(chip, images).output - exact).norm() / exact.norm()))
    assert errors[0] < 1e-12
    assert 1e-4 < errors[1] < 0.3 * errors[2]
