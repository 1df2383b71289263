"""Wire resistance against an independent public program, where it is installed.

badcrossbar (D. Joksas and A. Mehonic, SoftwareX 12, 100617, 2020) solves the nodal equations of
one array with a sparse LU.
"""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from neurosim_ep.crossbar.wires import transfer_matrix

badcrossbar = pytest.importorskip(
    "badcrossbar", reason="badcrossbar is not installed; it is no dependency of neurosim_ep"
)
logging.getLogger("badcrossbar").setLevel(logging.WARNING)


@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (20, 1), (16, 16), (24, 9), (17, 40)])
@pytest.mark.parametrize("word_line_ohm", [0.0, 1e-3, 1.0, 100.0])
@pytest.mark.parametrize("bit_line_ohm", [0.0, 1e-3, 0.35, 100.0])
def test_badcrossbar(shape: tuple[int, int], word_line_ohm: float, bit_line_ohm: float) -> None:
    if word_line_ohm == bit_line_ohm == 0:
        pytest.skip("ideal wires have their own test")
    conductance = 10 ** np.random.default_rng(0).uniform(-6, -4, shape)
    solution = badcrossbar.compute(
        np.eye(shape[0]),
        1 / conductance,
        r_i_word_line=word_line_ohm,
        r_i_bit_line=bit_line_ohm,
        node_voltages=False,
        all_currents=False,
    )
    expected = torch.from_numpy(np.asarray(solution.currents.output))
    value = transfer_matrix(torch.from_numpy(conductance), word_line_ohm, bit_line_ohm)
    assert ((value - expected).abs() <= 1e-9 * expected).all()
