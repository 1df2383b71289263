"""Counts and times of the cost model against what the settling engine does."""

import pytest
import torch

from neurosim_ep.crossbar import map_to_crossbar
from neurosim_ep.crossbar.cost import read_cost, settling_cost, settling_reads
from neurosim_ep.models import (
    Convolution,
    Dense,
    Edge,
    HopfieldNetwork,
    Identity,
    Layer,
    PooledConvolution,
    ReLUAlpha,
    SquaredError,
    Storage,
    hopfield_resnet13,
    mlp,
    vgg5,
)
from neurosim_ep.settling import ORDERS, settle, settle_nudged, update_groups
from neurosim_ep.settling.engine import Settling

FREE, NUDGED, BETAS, BATCH = 5, 4, [0.1, 0.0, -0.1], 2
CLASSES = 3


def inward():
    """A graph with an edge into the input, a pooled edge that the order takes backwards, a skip."""
    shapes = [(2, 6, 6), (2, 6, 6), (3, 3, 3), (CLASSES,)]
    edges = [
        Edge(0, 1, Convolution(shapes[0], 2, 3, padding=1)),
        Edge(1, 0, Convolution(shapes[1], 2, 3, padding=1)),
        Edge(1, 2, PooledConvolution(shapes[1], 3, 3, padding=1)),
        Edge(0, 2, PooledConvolution(shapes[0], 3, 1)),
        Edge(2, 3, Dense(shapes[2], shapes[3])),
        Edge(1, 3, Dense(shapes[1], shapes[3])),
    ]
    hidden = [Layer(shape, ReLUAlpha(1.0)) for shape in shapes[1:-1]]
    return HopfieldNetwork([Layer(shapes[0]), *hidden, Layer(shapes[-1])], edges)


NETWORKS = {
    "mlp": lambda: mlp((2, 3, 3), CLASSES, (7, 6)),
    "vgg5": lambda: vgg5(2, CLASSES, (3, 2, 3, 2), image_size=16),
    "resnet13": lambda: hopfield_resnet13(2, CLASSES, (3, 2, 3, 2), image_size=16),
    "identity": lambda: hopfield_resnet13(2, CLASSES, (3, 2, 3, 2), image_size=16, skip="identity"),
    "inward": inward,
}


class Counting(Storage):
    """Notes every read of an edge."""

    def __init__(self, inner, number, log):
        super().__init__(inner.geometry)
        self.inner, self.number, self.log = inner, number, log

    def forward_read(self, pre, *, delta=False, noise=None):
        self.log.append((self.number, "forward", delta, len(pre)))
        return self.inner.forward_read(pre)

    def transposed_read(self, currents, *, delta=False, noise=None):
        self.log.append((self.number, "transposed", delta, len(currents)))
        return self.inner.transposed_read(currents)


def counted(network):
    """A network whose reads are noted in a list."""
    log = []
    for number, edge in enumerate(network.edge_list()):
        edge.storage = Counting(edge.storage, number, log)
    return log


def run(network, order, reads):
    """Free and nudged phases of a batch."""
    images = torch.rand((BATCH, *network.layers[0].shape), generator=torch.Generator())
    free = settle(network, images, iterations=FREE, order=order)
    settle_nudged(
        network,
        free,
        torch.ones(BATCH, CLASSES),
        BETAS,
        SquaredError(),
        iterations=NUDGED,
        order=order,
        reads=reads,
    )


@pytest.mark.parametrize("reads", ["full", "delta"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_counts_are_the_engines(name, order, reads):
    network = NETWORKS[name]()
    log = counted(network)
    run(network, order, reads)
    found = settling_reads(
        network,
        free_iterations=FREE,
        nudged_iterations=NUDGED,
        phases=len(BETAS),
        order=order,
        reads=reads,
    )
    for number, edge in enumerate(found):
        for field in ("forward", "transposed", "forward_delta", "transposed_delta"):
            direction, _, delta = field.partition("_")
            images = sum(n for m, d, k, n in log if (m, d, k) == (number, direction, bool(delta)))
            assert getattr(edge, field) == images / BATCH, (number, field)


@pytest.mark.parametrize("order", ORDERS)
def test_free_phase_alone(order):
    network = inward()
    log = counted(network)
    settle(network, torch.rand(1, 2, 6, 6), iterations=FREE, order=order)
    found = settling_reads(network, free_iterations=FREE, order=order)
    for number, edge in enumerate(found):
        assert edge.forward == sum(entry[:2] == (number, "forward") for entry in log)
        assert edge.transposed == sum(entry[:2] == (number, "transposed") for entry in log)
        assert (edge.forward_delta, edge.transposed_delta) == (0.0, 0.0)


# --- time --------------------------------------------------------------------------------------


def elapsed(network, log, groups, times, neuron_s):
    """Time of what was noted, group by group: edges at once, reads of one edge in turn."""

    def longest(entries):
        busy = {}
        for number, direction, _, _ in entries:
            busy[number] = busy.get(number, 0.0) + times[number][direction]
        return max(busy.values(), default=0.0)

    # Cut where a layer's update begins; a group is all its layers' updates.
    stretches, present = [[]], None
    for entry in log:
        if entry[0] == "update":
            group = next(n for n, layers in enumerate(groups) if entry[1] in layers)
            if group != present or entry[1] == groups[group][0]:
                stretches.append([])
            present = group
        elif entry[0] == "end":
            stretches.append([])
        else:
            stretches[-1].append(entry)
    head, *updates, tail = stretches
    inputs = [e for e in head if 0 in ends(network, e[0])]
    others = [e for e in head if 0 not in ends(network, e[0])]
    once = longest(inputs) + longest(others)
    return once, sum(longest(s) + neuron_s for s in updates) + longest(tail)


def ends(network, number):
    edge = network.edge_list()[number]
    return (edge.pre, edge.post)


@pytest.mark.parametrize("reads", ["full", "delta"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["vgg5", "resnet13", "inward"])
def test_time_is_that_of_the_engines_reads(name, order, reads, monkeypatch, costly):
    network = NETWORKS[name]()
    chip = map_to_crossbar(network, "ideal", costly(16, 4))
    report = settling_cost(
        chip,
        free_iterations=FREE,
        nudged_iterations=NUDGED,
        phases=len(BETAS),
        order=order,
        reads=reads,
    )
    times = [
        {way: read_cost(e.storage, way).busy_time_s for way in ("forward", "transposed")}
        for e in chip.edge_list()
    ]
    log = counted(network)
    update, winners = Settling._update, Settling.winners

    def noted(settling, layer):
        log.append(("update", layer, None, 0))
        return update(settling, layer)

    def ended(settling):
        log.append(("end", None, None, 0))
        return winners(settling)

    monkeypatch.setattr(Settling, "_update", noted)
    monkeypatch.setattr(Settling, "winners", ended)
    images, groups = torch.rand(BATCH, *network.layers[0].shape), update_groups(network, order)
    neuron_s = chip.array_card.cost.neuron_time_s
    free = settle(network, images, iterations=FREE, order=order)
    log.append(("end", None, None, 0))
    total = sum(elapsed(network, log, groups, times, neuron_s))
    log.clear()
    targets, cost = torch.ones(BATCH, CLASSES), SquaredError()
    settle_nudged(network, free, targets, BETAS, cost, iterations=NUDGED, order=order, reads=reads)
    once, each = elapsed(network, log, groups, times, neuron_s)
    assert report.time_s == pytest.approx(total + once + len(BETAS) * each, rel=1e-12)


# --- conversions -------------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", ["differential_pair", "offset_column"])
def test_conversions_are_those_of_the_arrays(mapping, monkeypatch, costly):
    from neurosim_ep.crossbar import storage as module

    chip = map_to_crossbar(NETWORKS["vgg5"](), "ideal", costly(20, 2, mapping=mapping))
    images = torch.rand(BATCH, 2, 16, 16)
    with chip.calibrating():
        free = settle(chip, images, iterations=1)
        settle_nudged(chip, free, torch.ones(BATCH, CLASSES), [0.1], SquaredError(), iterations=1)
    digitise, converted = module.digitise, []

    def counting(partial, *others):
        converted.append(partial.numel())
        return digitise(partial, *others)

    monkeypatch.setattr(module, "digitise", counting)
    run(chip, "coloured", "delta")
    report = settling_cost(
        chip, free_iterations=FREE, nudged_iterations=NUDGED, phases=len(BETAS), reads="delta"
    )
    assert report.total.adc_conversions == sum(converted) / BATCH


def test_bad_numbers_are_refused(costly):
    chip = map_to_crossbar(NETWORKS["mlp"](), "ideal", costly(16, 4))
    for options, message in (
        ({"free_iterations": 0}, "free_iterations: 0 is not allowed; must be at least 1"),
        ({"phases": 2}, "nudged_iterations: 0.0 is not allowed; must be at least 1"),
        ({"phases": -1}, "phases: -1 is not allowed"),
        ({"reads": "half"}, "reads: 'half' is not allowed; must be one of full, delta"),
        ({"order": "no"}, "order: 'no' is not allowed"),
        ({"drive": -0.1}, "drive: -0.1 is not allowed"),
        ({"drive": []}, "drive: 0 are not allowed; must be 3, one per storage"),
    ):
        with pytest.raises(ValueError, match=message.replace(".", r"\.")):
            settling_cost(chip, **({"free_iterations": 5} | options))
    with pytest.raises(ValueError, match="cost: absent is not allowed; must be a table of the"):
        settling_cost(map_to_crossbar(NETWORKS["mlp"](), "ideal", "ideal"), free_iterations=5)


# --- whole networks by hand --------------------------------------------------------------------


def test_digits_network_by_hand(device):
    """64-128-10 on the default card, all devices at 10 uS, 20 free and 2 x 10 nudged iterations."""
    network = mlp((1, 8, 8), 10, (128,))
    with torch.no_grad():
        for weight in network.weights:
            weight.zero_()
    chip = map_to_crossbar(network, device(1e-5, 1e-4), "default")
    report = settling_cost(chip, free_iterations=20, nudged_iterations=10, phases=2, drive=0.25)
    dac, adc = 1.14e-15 * 256, 1.96e-13 * 8 + 4.1e-16 * 256
    siemens = {64: 2 * 64 * 128 * 1e-5, 10: 2 * 128 * 10 * 1e-5}
    ohmic = {n: 0.04 * 0.25 * g * 1e-8 for n, g in siemens.items()}
    found = report.total
    assert found.array_energy_joule == pytest.approx(2 * ohmic[64] + 80 * ohmic[10])
    assert found.dac_energy_joule == pytest.approx((2 * 64 + 40 * 128 + 40 * 10) * dac)
    conversions = 2 * 128 + 40 * 10 + 40 * 128
    assert found.adc_energy_joule == pytest.approx(conversions * adc)
    # One addition per conversion, two per update of a unit, two per nudge of an output.
    operations = conversions + 40 * 2 * 138 + 20 * 2 * 10
    assert found.digital_operations == operations
    assert found.digital_energy_joule == pytest.approx(operations * 1e-13)
    # Every driven value read, every new state written.
    assert found.memory_bytes == 2 * 64 + 40 * 128 + 40 * 10 + 40 * 138
    assert found.memory_energy_joule == pytest.approx(found.memory_bytes * 1.25e-12)
    parts = ("array", "dac", "adc", "digital", "memory")
    whole = sum(getattr(found, f"{part}_energy_joule") for part in parts)
    assert report.energy_joule == pytest.approx(whole)
    # Hidden layer: the transposed read; output: the forward read; each with the neurons' time.
    conversion_s = 8 * 1.04e-10
    iteration = 2e-8 + (128 + 10) * conversion_s + 2 * 2e-9
    assert report.time_s == pytest.approx(2 * (1e-8 + 128 * conversion_s) + 40 * iteration)


def test_identity_edges_cost_one_addition_per_pair_of_units(costly):
    """Three channels into two, every second place: one addition per unit that gets something."""
    shapes = [(1, 4, 4), (3, 4, 4), (2, 2, 2), (2,)]
    skip = Identity(shapes[1], shapes[2])
    edges = [
        Edge(0, 1, Convolution(shapes[0], 3, 1)),
        Edge(1, 2, skip),
        Edge(2, 3, Dense(shapes[2], shapes[3])),
    ]
    chip = map_to_crossbar(
        HopfieldNetwork([Layer(shape) for shape in shapes], edges), "ideal", costly(16, 16)
    )
    report = settling_cost(chip, free_iterations=5)
    rows = [row for row in report.rows if row.where == "1 -> 2"]
    units = torch.eye(3 * 4 * 4).view(-1, *shapes[1])
    joined = int(skip.linear(units).count_nonzero())
    assert [row.what for row in rows] == ["forward read", "transposed read"]
    assert [row.each.digital_operations for row in rows] == [joined, joined]
    assert all(row.total.energy_joule == pytest.approx(5 * joined * 1e-13) for row in rows)


def test_only_one_edge_into_a_layer_drives_its_bias_row(costly):
    """Layers with two edges into them have one row, driven with the first, at every position."""
    network = inward()
    plain = map_to_crossbar(network, "symmetric-1000", costly(64, 64))
    chip = map_to_crossbar(network, "symmetric-1000", costly(64, 64), bias_rows=True)
    found = [settling_cost(c, free_iterations=FREE).total.array_energy_joule for c in (plain, chip)]
    sums = {n: float(r.matrix.devices.conductance.sum()) for n, r in chip.bias_rows.items()}
    # The first edges: 0 -> 1 once at 36 positions, 1 -> 2 (pooled) at 36, 2 -> 3 at one.
    reads = settling_reads(network, free_iterations=FREE)
    wanted = 36 * sums[1] + reads[2].forward * 36 * sums[2] + FREE * sums[3]
    assert found[1] - found[0] == pytest.approx(0.04 * 1e-8 * wanted, rel=1e-4)
