"""One pulsed update of an array against a plain outer product and, where installed, aihwkit's.

512 x 512 devices, batch 128, float32; the same factors, pulses per unit of them and response of the
devices for both; trains at most 31 slots long.  The factors are like those of centered EP: in the
Hebbian form two products of whole states, which nearly cancel; in the difference form products of a
mean with a small difference.  Each update is made in turns with the others and with its own
reverse, so that devices stay about mid-window; ratios are medians (least to most) of repetitions in
one run.  Our update is also shown for differential pairs with all that reads need afterwards, and
for these what they hold in memory.

    python benchmarks/on_chip_update.py --threads 1
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from neurosim_ep.cards import card_from_mapping
from neurosim_ep.crossbar import ArrayCard, CrossbarArray
from neurosim_ep.devices import DeviceCard, Devices, load_device_card
from neurosim_ep.models import Dense
from neurosim_ep.onchip.trains import Trains, summed_counts

Products = list[tuple[Tensor, Tensor]]
GOKMEN_VLASOV = {
    "name": "gokmen-vlasov",
    "window": {"g_min_siemens": 1e-6, "g_max_siemens": 1e-4, "source": "assumed"},
    "pulse_response": {
        "model": "constant",
        "step_relative": 0.0016,
        "step_spread_relative": 0.3,
        "up_down_spread": 0.01,
        "cycle_spread_relative": 0.3,
        "w_max_spread_relative": 0.3,
        "w_min_spread_relative": 0.3,
        "source": "Gokmen & Vlasov 2016, as in aihwkit 1.2",
    },
}
# Ours, and aihwkit's device of the same response.
PRESETS = {
    "constant": (None, "GokmenVlasovPresetDevice"),
    "linear": ("li-ecram", "EcRamPresetDevice"),
    "soft bounds": ("reram-array-om", "ReRamArrayOMPresetDevice"),
    "exponential": ("hfo2-reram", "ReRamESPresetDevice"),
}
# Form, and pulses that one update asks of a device on average: the first two are those of the
# digits network in training, the third is what a learning rate asks that is much too high.
LOADS = (("difference", 0.6), ("hebbian", 4.0), ("hebbian", 100.0))


def card_of(preset: str) -> DeviceCard:
    name = PRESETS[preset][0]
    return load_device_card(name) if name else card_from_mapping(DeviceCard, GOKMEN_VLASOV)


def products_of(form: str, asked: float, side: int, batch: int) -> Products:
    """Factors whose products are in pulses; a third of the states is silent."""
    generator = torch.Generator().manual_seed(0)

    def normal() -> Tensor:
        return torch.randn(batch, side, generator=generator)

    pre, post = (0.4 + normal()).clamp(0.0, 1.0), (0.4 + normal()).clamp(0.0, 1.0)
    # Most images are nearly right: few nudges are large.
    size = 0.1 * torch.rand(batch, 1, generator=generator) ** 4
    up, down = ((a + size * normal()).clamp(0.0, 1.0) for a in (pre, pre))
    right, left = ((b + size * normal()).clamp(0.0, 1.0) for b in (post, post))
    products = (
        [(up, right), (down, -left)]
        if form == "hebbian"
        else [(0.5 * (up + down), right - left), (up - down, 0.5 * (right + left))]
    )
    scale = asked / sum((a.abs().T @ b.abs()).mean() for a, b in products)
    return [(a, b * scale) for a, b in products]


def our_update(card: DeviceCard, products: Products, trains: Trains, *, pairs: bool) -> Callable:
    (side,), generator = products[0][0].shape[1:], torch.Generator().manual_seed(1)
    geometry, forward = Dense((side,), (side,)), True
    if pairs:
        array = CrossbarArray(side, side, device=card, array=array_card(side))
        array.program(torch.zeros(side, side))
        pulse = array.pulse
    else:
        devices = Devices(card, (side, side), seed=0)
        middle = 0.5 * (card.window.g_min_siemens + card.window.g_max_siemens)
        devices.program(torch.full((side, side), middle))
        pulse = devices.pulse

    def update() -> None:
        nonlocal forward
        counts = summed_counts(geometry, products, trains, generator)
        pulse(counts.up, counts.down) if forward else pulse(counts.down, counts.up)
        forward = not forward

    return update


def array_card(side: int) -> ArrayCard:
    layout = {"rows": side, "columns": side, "pair_baseline": "middle", "source": "assumed"}
    drive = {"read_voltage_volt": 0.2, "source": "assumed"}
    return card_from_mapping(ArrayCard, {"name": "bench", "layout": layout, "drive": drive})


def aihwkit_update(preset: str, products: Products) -> Callable | None:
    try:
        from aihwkit.simulator import presets
        from aihwkit.simulator.configs import SingleRPUConfig
        from aihwkit.simulator.tiles import AnalogTile
    except ImportError:
        return None
    (side,), forward = products[0][0].shape[1:], True
    device = getattr(presets, PRESETS[preset][1])()
    tile = AnalogTile(side, side, SingleRPUConfig(device=device))
    # In units of the step by which it counts pulses.
    tile.set_learning_rate(float(tile.tile.dump_extra()["rpu.rpu_device.weight_granularity"][0]))
    tile.set_weights(torch.zeros(side, side))
    before = tile.get_weights()[0].clone()

    def update() -> None:
        nonlocal forward
        for a, b in products:
            tile.update(a, -b if forward else b)
        forward = not forward

    update()
    # An import proves nothing: the weights must have moved.
    assert (tile.get_weights()[0] != before).float().mean() > 0.1
    return update


def plain_update(products: Products) -> Callable:
    side = products[0][0].shape[1]
    weight = torch.zeros(side, side)

    def update() -> None:
        for a, b in products:
            weight.addmm_(a.T, b, alpha=0.001)

    return update


def milliseconds(calls: dict[str, Callable], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU time of every repetition, a forward update and its reverse each."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for call in calls.values():
        call()
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            call()
            spent = time.perf_counter() - wall, time.process_time() - cpu
            times[name].append((500.0 * spent[0], 500.0 * spent[1]))
    return times


def memory(card: DeviceCard, side: int) -> str:
    """Bytes that an array of differential pairs holds per weight."""
    array = CrossbarArray(side, side, device=card, array=array_card(side))
    array.program(torch.zeros(side, side))
    x = torch.rand(1, side)
    held = []
    for pulses in (0.0, 1.0):
        if pulses:
            array.pulse(*torch.full((2, side, side), pulses))
        array.read(x)
        array.read_transposed(x)
        held.append(tensor_bytes(array) / side**2)
    return f"{card.name}: {held[0]:.0f} bytes per weight mapped, {held[1]:.0f} once pulsed"


def tensor_bytes(root: object) -> int:
    """Memory of all tensors that an object leads to."""
    found: dict[int, int] = {}
    seen, rest = set(), [root]
    while rest:
        item = rest.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            memory = item.untyped_storage()
            found[memory.data_ptr()] = memory.nbytes()
        elif isinstance(item, dict):
            rest += item.values()
        elif isinstance(item, list | tuple):
            rest += item
        elif type(item).__module__.startswith(("neurosim_ep", "torch.nn.modules.container")):
            rest += vars(item).values()
    return sum(found.values())


def ratio(of: list[tuple[float, float]], to: list[tuple[float, float]], clock: int) -> str:
    ratios = [a[clock] / b[clock] for a, b in zip(of, to, strict=True)]
    return f"{statistics.median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--presets", nargs="*", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument(
        "--pulses", nargs="*", type=float, default=[], help="more loads, in the Hebbian form"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{options.side} x {options.side}, batch {options.batch}, float32, {options.threads} "
        f"threads, {options.repeats} repetitions, torch {torch.__version__}; times in ms"
    )
    for preset in options.presets:
        print(memory(card_of(preset), options.side))
    for form, asked in (*LOADS, *(("hebbian", pulses) for pulses in options.pulses)):
        products = products_of(form, asked, options.side, options.batch)
        print(f"\n{form}: {asked} pulses per device asked for")
        for preset in options.presets:
            card = card_of(preset)
            calls = {"plain outer product": plain_update(products)}
            for kind in ("mean_field", "stochastic"):
                trains = Trains(kind)
                calls[kind] = our_update(card, products, trains, pairs=False)
                calls[f"{kind}, pairs"] = our_update(card, products, trains, pairs=True)
            theirs = aihwkit_update(preset, products)
            if theirs is not None:
                calls["aihwkit"] = theirs
            times = milliseconds(calls, options.repeats)
            for name, spent in times.items():
                wall, cpu = (statistics.median(t[clock] for t in spent) for clock in (0, 1))
                line = f"{preset:12s} {name:20s} {wall:8.1f} wall {cpu:8.1f} CPU"
                if name == "plain outer product":
                    print(line)
                    continue
                plain = times["plain outer product"]
                line += f"  {ratio(spent, plain, 1)} x plain"
                if theirs is not None and name != "aihwkit":
                    line += f"  aihwkit takes {ratio(times['aihwkit'], spent, 0)} x as long,"
                    line += f" in CPU time {ratio(times['aihwkit'], spent, 1)}"
                print(line)
            if theirs is None:
                print("aihwkit is not installed: the plain outer product is the only baseline")


if __name__ == "__main__":
    main()
