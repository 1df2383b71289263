"""Reads of arrays with resistive wires: ngspice against the program's transfer matrix.

Conductances over three decades, all four resistances, one forward read of all rows at 1 V, float64;
CPU seconds of each, and the largest relative difference of the currents.  The transfer matrix holds
every read at once, ngspice's time is of one.

    python benchmarks/spice_arrays.py [--sizes 32 64 96]
"""

import argparse
import resource
import time

import torch

from neurosim_ep.crossbar.wires import transfer_matrix
from neurosim_ep.exchange.spice import array_netlist, ngspice_problem, run_ngspice, sensed_currents

OHM = {"word_line_ohm": 1.0, "bit_line_ohm": 1.0, "driver_ohm": 50.0, "sense_ohm": 20.0}


def spent_by_children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 96], help="rows = columns")
    options = parser.parse_args()
    if (problem := ngspice_problem()) is not None:
        raise SystemExit(problem)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    for size in options.sizes:
        exponent = -7.0 + 3.0 * torch.rand(size, size, generator=generator, dtype=torch.float64)
        conductance = 10.0**exponent
        before = spent_by_children_s()
        found = sensed_currents(run_ngspice(array_netlist(conductance, **OHM), timeout_s=3600.0))[0]
        theirs = spent_by_children_s() - before
        start = time.process_time()
        expected = transfer_matrix(conductance, **OHM).sum(0)
        own = time.process_time() - start
        apart = float((found / expected - 1.0).abs().max())
        print(
            f"{size} x {size}: ngspice {theirs:.2f} s, transfer_matrix {own:.3f} s, ratio "
            f"{theirs / own:.0f}; currents {apart:.1e} apart",
            flush=True,
        )


if __name__ == "__main__":
    main()
