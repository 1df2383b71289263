"""What learning on a chip costs: an epoch of the digits network on it against the exact epoch.

64-128-10, batch 32, centered EP, 20 + 10 iterations; plain SGD at the same learning rate.  The same
epochs in turns, in one run; ratios are of the same epoch, as median (least to most).  Of the chip's
epochs it is shown what settling (reads, with their noise and converters), calibrating converters
and the update take, in units of the exact epoch.

    python benchmarks/on_chip_epoch.py --epochs 10
"""

import argparse
import statistics
import time
from contextlib import contextmanager

import torch

from neurosim_ep.config import load_recipe
from neurosim_ep.experiments.build import build
from neurosim_ep.experiments.on_chip.building import Cards, load_cards
from neurosim_ep.onchip import OnChipLearning

PLAIN = ["learning.momentum=0", "learning.nesterov=false", "learning.learning_rate=0.1"]


class Clocks:
    """Wall and CPU seconds of an epoch's parts."""

    def __init__(self):
        self.seconds = {}

    @contextmanager
    def part(self, name):
        """Add the time inside to a part."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            before = self.seconds.get(name, (0.0, 0.0))
            spent = time.perf_counter() - wall, time.process_time() - cpu
            self.seconds[name] = before[0] + spent[0], before[1] + spent[1]

    def around(self, name, function):
        """A function whose time is added to a part."""

        def timed(*args, **kwargs):
            with self.part(name):
                return function(*args, **kwargs)

        return timed


def training_of(overrides, device, *, noisy=True):
    """A recipe's training, with clocks around its parts."""
    recipe = load_recipe("digits", [*PLAIN, *overrides])
    cards = load_cards(recipe.on_chip) if recipe.on_chip else None
    if cards is not None and not noisy:
        cards = Cards(cards.device.model_copy(update={"read_noise": ()}), cards.array)
    recipe = recipe.model_copy(update={"run": recipe.run.model_copy(update={"device": device})})
    training, clocks = build(recipe, cards=cards, progress=False).training, Clocks()
    method, updates = training.method, training.optimiser
    method.step = clocks.around("method", method.step)
    updates.step = clocks.around("update", updates.step)
    if isinstance(method, OnChipLearning):
        calibrating = method.model.calibrating

        @contextmanager
        def timed():
            with clocks.part("calibration"), calibrating():
                yield

        method.model.calibrating = timed
    return training, clocks


def run_epoch(training, clocks):
    """Seconds (wall, CPU) of an epoch by part."""
    clocks.seconds.clear()
    with clocks.part("epoch"):
        training.run_epoch()
        if training.method.model.biases[0].is_cuda:
            torch.cuda.synchronize()
    zero = (0.0, 0.0)
    spent = {name: clocks.seconds.get(name, zero) for name in ("epoch", "calibration", "update")}
    settling = zip(clocks.seconds["method"], spent["calibration"], strict=True)
    return spent | {"settling": tuple(whole - part for whole, part in settling)}


def spread(values):
    return f"{statistics.median(values):5.2f} ({min(values):.2f} to {max(values):.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device-card", default="li-ecram")
    parser.add_argument("--rule", default="pulsed")
    parser.add_argument("--set", action="append", default=[], help="of the recipes on a chip")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    card, rule = options.device_card, options.rule
    chip = [f"on_chip.device_card={card}", f"on_chip.rule={rule}", *options.set]
    ideal, default = "on_chip.array_card=ideal", "on_chip.array_card=default"
    cases = {
        "exact": ([], True),
        "ideal array, no read noise": ([*chip, ideal], False),
        "ideal array": ([*chip, ideal], True),
        "default array": ([*chip, default], True),
    }
    trainings = {
        name: training_of(overrides, options.device, noisy=noisy)
        for name, (overrides, noisy) in cases.items()
    }
    # The first epoch allocates, loads and calibrates most often: it is not counted.
    for training, clocks in trainings.values():
        run_epoch(training, clocks)
    spent = {name: [] for name in trainings}
    for _ in range(options.epochs):
        for name, (training, clocks) in trainings.items():
            spent[name].append(run_epoch(training, clocks))
    print(
        f"digits 64-128-10, batch 32, {card}, {rule}, {options.epochs} epochs, float32, "
        f"{options.threads} threads, {options.device}, torch {torch.__version__}"
    )
    exact = [s["epoch"] for s in spent["exact"]]
    print(f"exact epoch: {1e3 * statistics.median(e[0] for e in exact):.0f} ms")
    print(f"{'in exact epochs':27s} {'wall':22s} {'CPU time':22s} settling calibr. update (CPU)")
    for name, epochs in list(spent.items())[1:]:
        wall, cpu = (
            [e["epoch"][k] / x[k] for e, x in zip(epochs, exact, strict=True)] for k in (0, 1)
        )
        parts = [
            statistics.median(e[part][1] / x[1] for e, x in zip(epochs, exact, strict=True))
            for part in ("settling", "calibration", "update")
        ]
        split = "".join(f"{part:8.2f} " for part in parts)
        print(f"{name:27s} {spread(wall):22s} {spread(cpu):22s}{split}")


if __name__ == "__main__":
    main()
