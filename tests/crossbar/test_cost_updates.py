"""Cost of learning, by hand and slot by slot; area; and that no constant is without effect."""

import pathlib

import pytest
import torch

from neurosim_ep.cards import CardError, card_from_mapping
from neurosim_ep.crossbar import (
    ArrayCard,
    CostTable,
    load_array_card,
    map_to_crossbar,
    shipped_array_cards,
)
from neurosim_ep.crossbar.cost import (
    Writes,
    area_lines,
    area_summary,
    digital_comparison,
    half_selected,
    network_area,
    settling_cost,
    update_cost,
)
from neurosim_ep.models import mlp, vgg5

DOC = pathlib.Path(__file__).parents[2] / "docs" / "cost-model.md"
CONSTANTS = [name for name in CostTable.model_fields if name != "source"]


def chip_of(card, device, network=None):
    """Arrays whose devices all have 10 uS."""
    network = network or mlp((1, 8, 8), 10, (128,))
    with torch.no_grad():
        for weight in network.weights:
            weight.zero_()
    return map_to_crossbar(network, device(1e-5, 1e-4), card)


def writes_of(chip, number, **counts):
    edge = chip.edge_list()[number]
    return Writes(f"edge {number}", edge.storage.matrix, edge.geometry, **counts)


def test_in_place_pulses_by_hand(device):
    chip = chip_of(load_array_card("default"), device)
    counts = {"pulses": 200.0, "half_selected": 5000.0, "slots": 62.0}
    report = update_cost(chip, [writes_of(chip, 0, **counts), writes_of(chip, 1, slots=31.0)])
    one = 1.5**2 * 1e-5 * 5e-9
    assert report.energy_joule == pytest.approx(200 * one + 5000 * one / 4, rel=1e-6)
    assert report.total.write_energy_joule == report.energy_joule
    # Edges are pulsed side by side.
    assert report.time_s == pytest.approx(62 * 5e-9)
    assert report.unpriced == ()


def test_write_verify_by_hand(device):
    chip = chip_of(load_array_card("default"), device)
    report = update_cost(chip, [writes_of(chip, 0, attempts=3000.0, macs=8192.0)])
    dac, adc = 1.14e-15 * 256, 1.96e-13 * 8 + 4.1e-16 * 256
    attempt = 1.5**2 * 1e-5 * 50e-9 + 0.2**2 * 1e-5 * 10e-9 + dac + adc + 0.1e-12
    assert report.energy_joule == pytest.approx(3000 * attempt + 8192 * 0.3e-12, rel=1e-6)
    # One tile, one ADC for its 128 columns: one device after another; then the gradient.
    each = 50e-9 + 10e-9 + 8 * 0.104e-9
    assert report.time_s == pytest.approx(3000 * each + 8192 / 2.56e11)
    assert [span.what for span in report.spans] == ["update: arrays", "update: digital"]


def test_attempts_run_on_all_tiles_and_adcs_at_once(device, costly):
    card = costly(32, 64, cost={"lines_per_adc": 16})
    chip = chip_of(card, device)
    report = update_cost(chip, [writes_of(chip, 0, attempts=64.0)])
    # 64 x 128 weights: two tiles above one another, two side by side, four ADCs each.
    assert report.time_s == pytest.approx(64 / 16 * (60e-9 + 8 * 0.104e-9))


def test_transfer_reads_by_hand(device, costly):
    chip = chip_of(costly(32, 64, cost={"lines_per_adc": 16}), device)
    dac, adc = 1.14e-15 * 256, 1.96e-13 * 8 + 4.1e-16 * 256
    conversion_s = 8 * 0.104e-9
    # A row crosses 128 columns in two tiles, two devices each; a column 64 rows in two tiles.
    for kind, lines, driven in (("row_reads", 128, 2), ("column_reads", 64, 2)):
        report = update_cost(chip, [writes_of(chip, 0, **{kind: 5.0})])
        one = 0.2**2 * 2 * lines * 1e-5 * 10e-9 + driven * dac + lines * (adc + 0.1e-12)
        assert report.energy_joule == pytest.approx(5 * one, rel=1e-6)
        assert report.time_s == pytest.approx(5 * (10e-9 + 16 * conversion_s))
        assert report.total.adc_conversions == 5 * lines


def test_half_selected_devices_are_those_of_the_slots(device):
    """Against pulses drawn line by line, on both arrays of the pairs."""
    chip = chip_of(load_array_card("default"), device)
    generator = torch.Generator().manual_seed(5)
    rows = torch.rand(31, 64, generator=generator) < 0.1
    columns = torch.rand(31, 128, generator=generator) < 0.2
    both = (rows[:, :, None] & columns[:, None, :]).sum()
    one = (rows[:, :, None] ^ columns[:, None, :]).sum()
    matrix = chip.storages[0].matrix
    found = half_selected(matrix, float(rows.sum()), float(columns.sum()), 2.0 * float(both))
    assert found == 2.0 * float(one)


def test_copies_are_all_written(device, costly):
    network = vgg5(1, 3, (2, 2, 2, 2), image_size=16)
    counts = {"pulses": 10.0, "half_selected": 7.0, "attempts": 5.0, "slots": 3.0}
    energies, times = [], []
    for copies in (1, 4):
        chip = chip_of(costly(64, 64, cost={"parallel_copies": copies}), device, network)
        report = update_cost(chip, [writes_of(chip, 1, **counts), writes_of(chip, 4, **counts)])
        energies.append([row.total.energy_joule for row in report.rows])
        times.append(report.time_s)
    # The first three rows are the convolution's.
    wanted = [4 * e if n < 3 else e for n, e in enumerate(energies[0])]
    assert energies[1] == pytest.approx(wanted)
    assert times[0] == times[1]


def test_reports_add_up(device):
    chip = chip_of(load_array_card("default"), device)
    settling = settling_cost(chip, free_iterations=20, nudged_iterations=10, phases=2)
    update = update_cost(chip, [writes_of(chip, 0, pulses=9.0, slots=4.0)])
    both = settling + update
    assert both.energy_joule == pytest.approx(settling.energy_joule + update.energy_joule)
    assert both.time_s == pytest.approx(settling.time_s + update.time_s)
    record = both.summary()
    rows = sum(row["count"] * row["each_energy_joule"] for row in record["rows"])
    assert record["energy_joule"] == pytest.approx(rows)
    assert record["time_s"] == pytest.approx(sum(s["count"] * s["each_s"] for s in record["spans"]))
    parts = [value for name, value in record.items() if name.endswith("_energy_joule")]
    assert sum(parts) == pytest.approx(record["energy_joule"])
    assert sum("read" in line for line in both.lines()) == 3


@pytest.mark.parametrize("field", ["pulses", "slots", "attempts", "macs"])
def test_negative_counts_are_refused(field, device):
    chip = chip_of(load_array_card("default"), device)
    with pytest.raises(ValueError, match=r"edge 0: -1.0 is not allowed for .*; must be at least 0"):
        update_cost(chip, [writes_of(chip, 0, **{field: -1.0})])


# --- area --------------------------------------------------------------------------------------


def test_area_by_hand(device):
    chip = chip_of(load_array_card("default"), device)
    first, second = network_area(chip)
    # One tile: two arrays; a DAC per line and two ADCs per side, for either direction.
    assert (first.arrays, first.crossings, first.dacs, first.adcs) == (2, 131_072, 512, 4)
    assert first.device_square_metre == pytest.approx(131_072 * 16 * 40e-9**2)
    assert first.dac_square_metre == pytest.approx(512 * 1.71e-12 * 256)
    assert first.adc_square_metre == pytest.approx(4 * (8.17e-11 * 8 + 2.13e-12 * 256))
    assert second.square_metre == first.square_metre
    record = area_summary([first, second])
    assert record["square_metre"] == pytest.approx(2 * first.square_metre)
    assert len(area_lines([first, second])) == 4
    assert network_area(chip, matrices=2)[0].square_metre == pytest.approx(2 * first.square_metre)


def test_area_of_offset_columns_tiles_and_copies(device, costly):
    network = vgg5(2, 3, (3, 4, 2, 2), image_size=16)
    card = costly(9, 3, mapping="offset_column", cost={"parallel_copies": 5, "lines_per_adc": 2})
    area = network_area(chip_of(card, device, network))[1]
    # 27 x 4 weights: three tiles above one another, two side by side, five copies of each.
    tiles = 5 * 6
    assert (area.arrays, area.crossings) == (tiles, tiles * 9 * 4)
    assert area.dacs == tiles * (9 + 4)
    assert area.adcs == tiles * (2 + 5)
    ideal = chip_of(costly(9, 3, bits=(None, None)), device, network)
    assert [(a.dacs, a.adcs, a.adc_square_metre) for a in network_area(ideal)] == [(0, 0, 0.0)] * 5


# --- constants ---------------------------------------------------------------------------------


def everything(card, device):
    """Energies, times and areas of one convolutional network with one set of constants."""
    chip = chip_of(card, device, vgg5(1, 3, (2, 3, 2, 2), image_size=16))
    counts = {"pulses": 1e3, "half_selected": 1e3, "slots": 40.0, "attempts": 1e3}
    counts |= {"row_reads": 4.0, "column_reads": 4.0, "macs": 1e5, "memory_bytes": 1e4}
    settling = settling_cost(chip, free_iterations=5, nudged_iterations=3, phases=2)
    update = update_cost(chip, [writes_of(chip, 1, **counts)])
    compared = digital_comparison(chip, settling)
    return {
        "energy": settling.energy_joule + update.energy_joule,
        "time": settling.time_s + update.time_s,
        "area": sum(area.square_metre for area in network_area(chip)),
        "digital": compared.from_dram_joule + compared.from_sram_joule,
    }


# What doubling a constant does: more (1) or less (-1) of what; nothing to all else.
EFFECTS = {
    "read_time_s": {"energy": 1, "time": 1},
    "dac_energy_per_level_joule": {"energy": 1},
    "dac_area_per_level_square_metre": {"area": 1},
    "adc_energy_per_bit_joule": {"energy": 1},
    "adc_energy_per_level_joule": {"energy": 1},
    "adc_time_per_bit_s": {"time": 1},
    "adc_area_per_bit_square_metre": {"area": 1},
    "adc_area_per_level_square_metre": {"area": 1},
    "lines_per_adc": {"time": 1, "area": -1},
    "parallel_copies": {"energy": 1, "time": -1, "area": 1},
    "neuron_time_s": {"time": 1},
    "add_energy_joule": {"energy": 1, "digital": 1},
    "multiply_energy_joule": {"energy": 1, "digital": 1},
    "state_bytes": {"energy": 1},
    "sram_energy_per_byte_joule": {"energy": 1, "digital": 1},
    "digital_operations_per_s": {"time": -1},
    "pulse_voltage_volt": {"energy": 1},
    "pulse_time_s": {"energy": 1, "time": 1},
    "write_voltage_volt": {"energy": 1},
    "write_time_s": {"energy": 1, "time": 1},
    "device_area_square_metre": {"area": 1},
    "dram_energy_per_byte_joule": {"digital": 1},
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_no_constant_is_without_effect(name, device, costly):
    base = costly(18, 3, cost={"lines_per_adc": 2})
    value = getattr(base.cost, name)
    changed = costly(18, 3, cost={"lines_per_adc": 2} | {name: 2 * value})
    before, after = everything(base, device), everything(changed, device)
    # Copies are written in proportion: in this network there are enough positions for two.
    for quantity, old in before.items():
        sign = EFFECTS[name].get(quantity, 0)
        assert (after[quantity] > old) - (after[quantity] < old) == sign, quantity


def test_resolution_and_read_voltage_cost(device, costly):
    base = everything(costly(18, 3), device)
    for card in (costly(18, 3, bits=(9, 8)), costly(18, 3, bits=(8, 9))):
        found = everything(card, device)
        assert found["energy"] > base["energy"]
        assert found["area"] > base["area"]
    louder = costly(18, 3, drive={"read_voltage_volt": 0.4})
    assert everything(louder, device)["energy"] > base["energy"]


@pytest.mark.parametrize("name", [n for n in shipped_array_cards() if n != "ideal"])
def test_shipped_constants_are_those_of_the_document(name):
    """One set for all cards, every number with its source, and in the document's table."""
    cost = shipped_array_cards()[name].cost
    assert cost == load_array_card("default").cost
    text = DOC.read_text(encoding="utf-8")
    for constant in CONSTANTS:
        assert f"| `{constant}` | {getattr(cost, constant):g} |" in text
        assert cost.source[constant]


def test_bad_constants_are_refused():
    card = load_array_card("default").model_dump(exclude_none=True, exclude_unset=True)
    for name, value, allowed in (
        ("read_time_s", 0.0, "must be"),
        ("lines_per_adc", 0, "must be a whole number at least 1"),
        ("parallel_copies", 1.5, "must be a whole number at least 1"),
        ("add_energy_joule", -1e-15, "must be"),
        ("pulse_voltage_volt", float("nan"), "must be"),
    ):
        cost = card["cost"] | {name: value}
        with pytest.raises(CardError, match=rf"^cost\.{name}: .* is not allowed; {allowed}"):
            card_from_mapping(ArrayCard, card | {"cost": cost})
    missing = {key: value for key, value in card["cost"].items() if key != "write_time_s"}
    with pytest.raises(CardError, match=r"^cost\.write_time_s: absent is not allowed"):
        card_from_mapping(ArrayCard, card | {"cost": missing})
