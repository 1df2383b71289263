"""Time of solving arrays with resistive wires against sparse nodal analysis, as ratios in one run.

Every program gives all transfer conductances of every array: `blocks` is the method of
neurosim_ep, `sparse` its reference (one sparse LU of the nodal equations, SciPy), `badcrossbar`
the public program of that name, where it is installed. The last two are timed on the first array
only, and their largest difference from `blocks`, relative to the largest element, is printed.
With --network, the time for all differential pairs of a Hopfield-Resnet13 of full width, in tiles
of at most 512 x 512.

    python benchmarks/wire_resistance.py [--shapes 32x32 64x64 128x128] [--arrays 8]
        [--word-line-ohm 1] [--bit-line-ohm 1] [--rounds 3] [--threads 1] [--network]
"""

import argparse
import collections
import functools
import importlib
import logging
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from neurosim_ep.crossbar.wires import transfer_matrix
from neurosim_ep.models import hopfield_resnet13

TILE = 512


def badcrossbar_solver() -> Callable[[Tensor, float, float], Tensor] | None:
    try:
        program = importlib.import_module("badcrossbar")
    except ImportError:
        return None
    logging.getLogger("badcrossbar").setLevel(logging.WARNING)

    def solve(conductance: Tensor, word_line_ohm: float, bit_line_ohm: float) -> Tensor:
        solution = program.compute(
            np.eye(len(conductance)),
            1 / conductance.numpy(),
            r_i_word_line=word_line_ohm,
            r_i_bit_line=bit_line_ohm,
            node_voltages=False,
            all_currents=False,
        )
        return torch.from_numpy(np.asarray(solution.currents.output))

    return solve


def random_devices(*shape: int) -> Tensor:
    """Conductances from 1 to 100 uS, spread evenly in their logarithm."""
    generator = torch.Generator().manual_seed(0)
    return 10 ** (torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 6)


def seconds(solve: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.perf_counter()
    solved = solve()
    return time.perf_counter() - start, solved


def compare(rows: int, columns: int, options: argparse.Namespace) -> None:
    ohm = options.word_line_ohm, options.bit_line_ohm
    arrays = random_devices(options.arrays, rows, columns)
    first = arrays[0]
    others = {"sparse": lambda: transfer_matrix(first, *ohm, method="sparse")}
    if solve := badcrossbar_solver():
        others["badcrossbar"] = lambda: solve(first, *ohm)
    blocks: list[float] = []
    ratios = collections.defaultdict(list)
    differences = {}
    for _ in range(options.rounds + 1):  # the first round warms up
        taken, solved = seconds(lambda: transfer_matrix(arrays, *ohm))
        blocks.append(taken / options.arrays)
        for name, other in others.items():
            taken, expected = seconds(other)
            ratios[name].append(taken / blocks[-1])
            error = (solved[0] - expected).abs().max() / expected.max()
            differences[name] = error.item()
    line = (
        f"{rows:>4} x {columns:<4} blocks {1e3 * statistics.median(blocks[1:]):8.1f} ms per array"
    )
    for name, values in ratios.items():
        line += f"; {name} takes {statistics.median(values[1:]):6.1f} times as long"
        line += f" (differs by {differences[name]:.0e})"
    print(line, flush=True)


def solve_network(options: argparse.Namespace) -> None:
    counts: collections.Counter[tuple[int, int]] = collections.Counter()
    for weight in hopfield_resnet13(widths=(128, 256, 512, 512)).weights:
        columns, channels = weight.shape[:2]
        area = weight[0, 0].numel()
        per_tile = TILE // area
        for column in range(0, columns, TILE):
            for channel in range(0, channels, per_tile):
                rows = min(per_tile, channels - channel) * area
                counts[rows, min(TILE, columns - column)] += 2
    total, ohm = 0.0, (options.word_line_ohm, options.bit_line_ohm)
    for (rows, columns), count in sorted(counts.items()):
        arrays = random_devices(count, rows, columns).float()
        taken, _ = seconds(functools.partial(transfer_matrix, arrays, *ohm))
        total += taken
        print(f"{count:4} arrays of {rows:>3} x {columns:<3} {taken:7.2f} s", flush=True)
    print(f"Hopfield-Resnet13: {counts.total()} arrays in {total:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="*", default=["32x32", "64x64", "128x128"])
    parser.add_argument("--arrays", type=int, default=8, help="arrays of each shape in one batch")
    parser.add_argument("--word-line-ohm", type=float, default=1.0, help="of one segment")
    parser.add_argument("--bit-line-ohm", type=float, default=1.0, help="of one segment")
    parser.add_argument("--rounds", type=int, default=3, help="timings, of which the median counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--network", action="store_true", help="all arrays of a Hopfield-Resnet13")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"wires of {options.word_line_ohm:g} and {options.bit_line_ohm:g} ohm per segment, "
        f"batches of {options.arrays}, {options.threads} threads"
    )
    for shape in options.shapes:
        rows, columns = map(int, shape.split("x"))
        compare(rows, columns, options)
    if options.network:
        solve_network(options)


if __name__ == "__main__":
    main()
