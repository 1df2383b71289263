"""Cards, programmed storages, and an array of noisy devices simulated one draw per device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.cards import card_from_mapping
from neurosim_ep.crossbar import ArrayCard, CrossbarStorage, load_array_card
from neurosim_ep.devices import DeviceCard
from neurosim_ep.models import Geometry

KELVIN = 300.0
BOLTZMANN = 1.380649e-23
CHARGE = 1.602176634e-19
VOLT = 0.2


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors here are tiny: more threads than one only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --- cards -------------------------------------------------------------------------------------


def _sourced(value: Any) -> Any:
    """Tables with a source in each of them."""
    if isinstance(value, dict):
        return {"source": "a test"} | {key: _sourced(item) for key, item in value.items()}
    return [_sourced(item) for item in value] if isinstance(value, list) else value


def _device(g_min: float = 1e-6, g_max: float = 1e-4, **tables: Any) -> DeviceCard:
    window = {"g_min_siemens": g_min, "g_max_siemens": g_max} | tables.pop("window", {})
    tables = {"window": window} | tables
    return card_from_mapping(
        DeviceCard, {"name": "test"} | {name: _sourced(table) for name, table in tables.items()}
    )


def _array(
    rows: int,
    columns: int,
    mapping: str = "differential_pair",
    scale: str = "layer",
    *,
    quantile: float = 1.0,
    **tables: Any,
) -> ArrayCard:
    layout = {"rows": rows, "columns": columns, "mapping": mapping, "scale": scale}
    layout["scale_quantile"] = quantile
    tables = {"layout": layout, "drive": {"read_voltage_volt": VOLT}} | tables
    return card_from_mapping(
        ArrayCard, {"name": "test"} | {name: _sourced(table) for name, table in tables.items()}
    )


def _storage(
    geometry: Geometry,
    device: DeviceCard,
    array: ArrayCard,
    *,
    seed: int = 0,
    bounds: tuple[float | None, float | None] = (2.0, 2.0),
    weight: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
) -> CrossbarStorage:
    storage = CrossbarStorage(geometry, device, array, seed=seed, bounds=bounds, dtype=dtype)
    if weight is None:
        generator = torch.Generator().manual_seed(1)
        weight = torch.randn(storage.weight.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        storage.weight.copy_(weight)
    storage.program(rescale=True)
    return storage


def _costly(
    rows: int,
    columns: int,
    *,
    cost: dict[str, Any] | None = None,
    bits: tuple[int | None, int | None] = (8, 8),
    **options: Any,
) -> ArrayCard:
    default = load_array_card("default").cost
    assert default is not None
    constants = default.model_dump(exclude={"source"}) | (cost or {})
    named = zip(("dac_bits", "adc_bits"), bits, strict=True)
    converters = {name: value for name, value in named if value is not None}
    tables = {"forward": converters, "transposed": converters} | options
    return _array(rows, columns, cost=constants, **tables)


@pytest.fixture(scope="session")
def costly() -> Callable[..., ArrayCard]:
    """An array card with the default's costs, some changed: (rows, columns, *, cost, bits, ...)."""
    return _costly


@pytest.fixture(scope="session")
def device() -> Callable[..., DeviceCard]:
    """A device card: (g_min, g_max, **tables); the source of every table is filled in."""
    return _device


@pytest.fixture(scope="session")
def array() -> Callable[..., ArrayCard]:
    """An array card: (rows, columns, mapping, scale, *, quantile, **tables), read at 0.2 V."""
    return _array


@pytest.fixture(scope="session")
def storage() -> Callable[..., CrossbarStorage]:
    """A programmed storage in float64: (geometry, device, array, *, seed, bounds, weight)."""
    return _storage


# --- one draw per device -----------------------------------------------------------------------


def _device_noise(
    terms: list[dict[str, Any]],
    at: dict[str, Any],
    g: Tensor,
    volt: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """What the current of every device is off by in one read, anew for every element.

    Args:
        terms: read noise as a device card has it.
        at: elapsed_s, range_siemens, programmed and fluctuating, of the devices.
        g: conductances (planes, rows, columns).
        volt: voltages (draws, positions, planes, rows, columns).
        generator: of the draws.
    """

    def normal() -> Tensor:
        return torch.randn(volt.shape, generator=generator, dtype=volt.dtype)

    total = torch.zeros_like(volt)
    for term in terms:
        model = term["model"]
        if model == "thermal":
            total += (4.0 * BOLTZMANN * KELVIN * g * term["bandwidth_hz"]).sqrt() * normal()
        elif model == "shot":
            total += (2.0 * CHARGE * g * volt.abs() * term["bandwidth_hz"]).sqrt() * normal()
        elif model == "flicker":
            x = at["programmed"] / term["reference_siemens"]
            q = (term["coefficient"] / x ** term["exponent"]).clamp(max=term["maximum"])
            total += g * q * _since(term, at) * volt * normal()
        elif model == "logarithmic":
            decades = torch.log10(g / term["reference_siemens"]).clamp(min=0.0)
            total += term["coefficient_siemens"] * decades * _since(term, at) * volt * normal()
        elif model == "telegraph":
            high = torch.rand(volt.shape, generator=generator) < term["high_probability"]
            swing = torch.where(high, 1.0, 0.0) - term["high_probability"]
            total += g * term["amplitude_relative"] * swing * at["fluctuating"] * volt
        else:
            total += term.get("sigma_relative", 0.0) * g * volt * normal()
            floor = term.get("sigma_of_range_relative", 0.0) * at["range_siemens"]
            total += floor * volt * normal()
    return total


def _since(term: dict[str, Any], at: dict[str, Any]) -> float:
    t_read = term["read_time_s"]
    return math.sqrt(math.log((at["elapsed_s"] + t_read) / (2.0 * t_read)))


def _simulate(
    storage: CrossbarStorage,
    terms: list[dict[str, Any]],
    driven: Tensor,
    direction: str,
    *,
    draws: int,
    full_scale: float = 2.0,
    seed: int = 9,
) -> Tensor:
    """Reads of one image by arrays whose every device has a current of its own.

    Every array's columns or rows are summed, the sign is made (a pair's other plane, or the tile's
    reference column), currents become numbers, and tiles and patches are added.

    Returns:
        (draws, *shape of the currents).
    """
    generator = torch.Generator().manual_seed(seed)
    geometry, matrix = storage.geometry, storage.matrix
    devices, tiling = matrix.devices, matrix.tiling
    pair = storage.array.layout.mapping == "differential_pair"
    g, units = devices.conductance, matrix.units
    fluctuating = 1.0 if devices.fluctuating is None else devices.fluctuating.to(g)
    at = {
        "programmed": devices.programmed,
        "elapsed_s": devices.elapsed_s,
        "range_siemens": devices.card.window.range_siemens,
        "fluctuating": fluctuating,
    }
    number = full_scale / VOLT
    if direction == "forward":
        rows = geometry.unroll(driven)[0]
        volt = (rows / number)[None, :, None, :, None].expand(draws, -1, *g.shape)
        current = g * volt + _device_noise(terms, at, g, volt, generator)
        total = current.new_zeros(draws, len(rows), tiling.columns)
        for tile in tiling.row_ranges:
            sums = current[:, :, :, tile].sum(3)
            for index, reach in enumerate(tiling.column_ranges):
                reference = tiling.columns + index
                minus = sums[:, :, 1, reach] if pair else sums[:, :, 0, reference, None]
                total[:, :, reach] += sums[:, :, 0, reach] - minus
        return geometry.from_columns(total * units * number)
    columns = geometry.to_columns(driven)[0] * (units / units.max()) / number
    if not pair:
        references = [-columns[:, reach].sum(1, keepdim=True) for reach in tiling.column_ranges]
        columns = torch.cat([columns, *references], dim=1)
    volt = columns[None, :, None, None, :].expand(draws, -1, *g.shape)
    current = (g * volt + _device_noise(terms, at, g, volt, generator)).sum(4)
    total = current[:, :, 0] - current[:, :, 1] if pair else current[:, :, 0]
    return geometry.fold(total * units.max() * number)


def _same_statistics(found: Tensor, wanted: Tensor) -> None:
    """Two samples (draws, ...) of about normal vectors have one mean and one covariance matrix.

    In coordinates where the wanted covariance is the identity, every element of the found one, and
    of the mean, is off by an independent number of known standard error.
    """
    found, wanted = found.flatten(1), wanted.flatten(1)
    one_draw = 1.0 / len(found) + 1.0 / len(wanted)
    mean = wanted.mean(0)
    whiten = torch.linalg.inv(torch.linalg.cholesky(torch.atleast_2d(wanted.T.cov())))
    white = (found - mean) @ whiten.T
    shift = white.mean(0) / one_draw**0.5
    eye = torch.eye(white.shape[1], dtype=white.dtype)
    spread = (torch.atleast_2d(white.T.cov()) - eye) / (one_draw * (1.0 + eye)).sqrt()
    for deviation in (shift, spread[torch.ones_like(spread).triu().bool()]):
        assert float(deviation.abs().max()) < 4.8
        assert float(deviation.square().mean()) < 1.0 + 5.0 * (2.0 / len(deviation)) ** 0.5


@pytest.fixture(scope="session")
def simulate() -> Callable[..., Tensor]:
    """Reads with one draw per device: (storage, terms, driven, direction, *, draws)."""
    return _simulate


@pytest.fixture(scope="session")
def same_statistics() -> Callable[[Tensor, Tensor], None]:
    """Assert that two samples (draws, ...) have the same mean and covariance."""
    return _same_statistics
