"""One crossbar by itself."""

import re

import pytest
import torch

from neurosim_ep.crossbar import CrossbarArray
from neurosim_ep.crossbar.card import load_array_card
from neurosim_ep.devices import load_device_card, shipped_device_cards


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("leading", [(), (1,), (4,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("delta", [False, True])
def test_products_in_both_directions(leading, delta):
    array = CrossbarArray(7, 5, dtype=torch.float64)
    weights = draw(7, 5, dtype=torch.float64)
    report = array.program(weights)
    assert (report.clipped, report.failed, report.attempts) == (0, 0, 70)
    x, y = draw(*leading, 7, dtype=torch.float64), draw(*leading, 5, dtype=torch.float64)
    torch.testing.assert_close(array.read(x, delta=delta), x @ weights)
    torch.testing.assert_close(array.read_transposed(y, delta=delta), y @ weights.T)
    assert array.read(x).shape == (*leading, 5)
    assert array.read_transposed(y).shape == (*leading, 7)


def test_inputs_that_are_not_contiguous():
    array, weights = CrossbarArray(7, 5), draw(7, 5)
    array.program(weights)
    x = draw(7, 2, 3).permute(1, 2, 0)
    torch.testing.assert_close(array.read(x), x @ weights)


def test_complex_inputs():
    array, weights = CrossbarArray(7, 5, dtype=torch.float64), draw(7, 5, dtype=torch.float64)
    array.program(weights)
    x = torch.complex(draw(3, 7, dtype=torch.float64), draw(3, 7, seed=1, dtype=torch.float64))
    torch.testing.assert_close(array.read(x), x @ weights.to(x.dtype))


def test_reading_leaves_no_trace():
    array = CrossbarArray(7, 5)
    array.program(draw(7, 5))
    x = draw(3, 7)
    kept = x.clone()
    found = array.read(x)
    assert not found.requires_grad
    assert torch.equal(x, kept)
    assert torch.equal(array.read(x), found)


@pytest.mark.parametrize("device", ["ideal", "reram-array-hfo2", "cmo-hfox-reram"])
@pytest.mark.parametrize("array", ["ideal"])
def test_devices_at_rest_can_be_read(device, array):
    crossbar = CrossbarArray(7, 5, device=device, array=array)
    assert crossbar.read(draw(2, 7)).shape == (2, 5)
    if device == "ideal":
        # All of them at the lower bound: pairs cancel.
        assert bool((crossbar.read(draw(2, 7)) == 0.0).all())
    assert bool(crossbar.read_transposed(draw(2, 5)).isfinite().all())


def test_programming_by_name_path_and_card(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(
        'name = "small"\n[layout]\nrows = 8\ncolumns = 6\nsource = "a test"\n'
        '[drive]\nread_voltage_volt = 0.1\nsource = "a test"\n'
    )
    weights = draw(7, 5)
    for array in ("ideal", str(file), load_array_card(file)):
        crossbar = CrossbarArray(7, 5, device=load_device_card("ideal"), array=array)
        crossbar.program(weights)
        torch.testing.assert_close(crossbar.read(torch.eye(7)), weights)


def test_programming_again():
    array, weights = CrossbarArray(7, 5), draw(7, 5)
    array.program(weights)
    array.program(2.0 * weights)
    torch.testing.assert_close(array.read(torch.eye(7)), 2.0 * weights)
    # Without a new scale, what is beyond the old one is clipped.
    report = array.program(3.0 * weights, rescale=False)
    end = 2.0 * weights.abs().max()
    assert report.clipped == int((3.0 * weights.abs() > end).sum()) > 0
    wanted = (3.0 * weights).clamp(-end, end)
    torch.testing.assert_close(array.read(torch.eye(7)), wanted, rtol=1e-4, atol=1e-5)
    # None writes the present weights again, and time starts again.
    array.advance_time(5.0)
    assert array.matrix.devices.elapsed_s == 5.0
    assert array.program().clipped == 0
    assert array.matrix.devices.elapsed_s == 0.0
    torch.testing.assert_close(array.read(torch.eye(7)), 3.0 * weights)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((0, 5), "rows: 0 is not allowed; must be at least 1 and at most 512, the array's"),
        ((513, 5), "rows: 513 is not allowed; must be at least 1 and at most 512, the array's"),
        ((5, -1), "columns: -1 is not allowed; must be at least 1 and at most 512, the array's"),
        ((5, 513), "columns: 513 is not allowed; must be at least 1 and at most 512, the array's"),
    ],
)
def test_sizes_that_are_not_allowed(size, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        CrossbarArray(*size)


@pytest.mark.parametrize("which", ["device", "array"])
def test_cards_that_there_are_not(which):
    with pytest.raises(ValueError, match=f"neither a shipped {which} card nor a file") as error:
        CrossbarArray(4, 4, **{which: "nothing"})
    assert "\n" not in str(error.value)


def test_inputs_that_are_not_allowed():
    array, weights = CrossbarArray(7, 5), draw(7, 5)
    array.program(weights)
    for read, name, right in ((array.read, "x", 7), (array.read_transposed, "y", 5)):
        for shape in ((3, 6), (7, 3), (right, 0), ()):
            message = f"{name}: shape {shape} is not allowed; must end with {right}"
            with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
                read(torch.zeros(shape))
    for bad in (draw(5, 7), draw(7), draw(7, 5, 1)):
        with pytest.raises(
            ValueError, match=r"^weights: shape .* is not allowed; must be \(7, 5\)$"
        ):
            array.program(bad)
    for value in (float("nan"), float("inf")):
        bad = weights.clone()
        bad[3, 3] = value
        with pytest.raises(ValueError, match=r"^weights: NaN or infinity is not allowed"):
            array.program(bad)
    # None of these changed anything.
    torch.testing.assert_close(array.weight.detach(), weights)
    torch.testing.assert_close(array.read(torch.eye(7)), weights)


def test_a_seed_is_one_piece_of_hardware():
    def product(seed):
        array = CrossbarArray(7, 5, device="reram-array-hfo2", seed=seed)
        array.program(draw(7, 5))
        return array.read(torch.eye(7))

    assert torch.equal(product(1), product(1))
    assert not torch.equal(product(1), product(2))


@pytest.mark.parametrize("mapping", ["differential_pair", "offset_column"])
@pytest.mark.parametrize("device", sorted(shipped_device_cards()))
def test_every_shipped_device_holds_weights(device, mapping):
    card = load_array_card("ideal")
    card = card.model_copy(update={"layout": card.layout.model_copy(update={"mapping": mapping})})
    array, weights = CrossbarArray(60, 50, device=device, array=card), draw(60, 50)
    array.program(weights)
    x, y = draw(200, 60), draw(200, 50)
    for found, wanted in (
        (array.read(x), x @ weights),
        (array.read_transposed(y), y @ weights.T),
    ):
        likeness = torch.cosine_similarity(found.flatten(), wanted.flatten(), 0)
        assert float(likeness) > 0.3
    array.advance_time(1e6)
    assert bool(array.read(x).isfinite().all() and array.read_transposed(y).isfinite().all())


def test_converters_are_calibrated_on_what_is_read():
    array = CrossbarArray(64, 32, array="default-one-range")
    array.program(0.1 * draw(64, 32))
    x = draw(200, 64, seed=1)
    with pytest.raises(ValueError, match="before the converters are calibrated on data"):
        array.read(x)
    with array.calibrating():
        exact = array.read(x)
        array.read_transposed(exact)
    error = (array.read(x) - exact).norm() / exact.norm()
    assert 1e-4 < error < 0.02  # of 8 bits
    ranges = {name: value.clone() for name, value in array.state_dict().items()}
    with pytest.raises(ValueError, match="must end with 64"), array.calibrating():
        array.read(torch.cat([100.0 * x, x], 1))
    for name, value in array.state_dict().items():
        assert torch.equal(value, ranges[name]) or bool(value.isnan().any()), name
    with array.calibrating():
        array.read(100.0 * x)
    coarse = (array.read(x) - exact).norm() / exact.norm()
    assert coarse > 10 * error
