"""Transfer conductances of crossbars with resistive wires, by merging blocks of the array.

A block is a multiport whose ports are the ends of its lines. Driven by a voltage at the near end
of each line (towards driver or sensing) and by a current at the far end, it differs from ideal
wires by a symmetric positive matrix Q: it vanishes with the devices and has a finite limit for
every resistance that vanishes. Small blocks are solved directly; two neighbours merge by
eliminating the ports they share. This is nested dissection: about n^3 operations for an n x n
array, on batches of equally sized blocks. Nothing is approximated and no conductance of a wire is
ever formed, so that wires of 1 mOhm lose no digits beside devices of 1 MOhm.

Signs, for word lines, with x the currents of a line's devices:

    near current - far current                      = sum of x              = (Q u) at near
    near voltage - far voltage - wire * far current = sum of x * path       = (Q u) at far
    u = (near voltage, -far current), path = the wire from the near end to the device

Bit lines obey the same with all voltages negated, so that one function merges along either. The
ports of a Q have the order word near, word far, bit near, bit far; open far ends are left out.
"""

import math

import torch
from torch import Tensor

_BLOCK_LINES = 6  # at most so many rows and columns of a block are solved directly


def merged_transfer_matrix(
    conductance: Tensor,
    word_line_ohm: float,
    bit_line_ohm: float,
    driver_ohm: float,
    sense_ohm: float,
) -> Tensor:
    """Transfer conductances (arrays, rows, cols) of conductances (arrays, rows, cols), float64.

    Arguments as `neurosim_ep.crossbar.wires.transfer_matrix`, which checks them.
    """
    rows, columns = conductance.shape[-2:]
    down, high = _split(rows)
    across, wide = _split(columns)
    # Bottom row first, so that near comes first on both axes; devices of no conductance at the
    # open ends change nothing.
    padding = (0, wide * across - columns, 0, high * down - rows)
    devices = torch.nn.functional.pad(conductance.flip(-2), padding)
    word_path = _paths(across, wide, word_line_ohm, driver_ohm, conductance)
    bit_path = _paths(down, high, bit_line_ohm, sense_ohm, conductance)
    blocks = _solve(devices, word_path, bit_path)
    word_wire, bit_wire = word_path[:, -1], bit_path[:, -1]
    while down > 1 or across > 1:
        ports = blocks.shape[-1]
        word_ports = high if across == 1 else 2 * high
        if down == 1 or (across > 1 and wide <= high):
            near, far, wire = blocks[:, :, 0::2], blocks[:, :, 1::2], word_wire[0::2, None, None]
            blocks = _merge(near, far, wire, slice(0, word_ports), wide, across > 2)
            word_wire = word_wire[0::2] + word_wire[1::2]
            across, wide = across // 2, wide * 2
        else:
            near, far, wire = blocks[:, 0::2], blocks[:, 1::2], bit_wire[0::2, None, None, None]
            blocks = _merge(near, far, wire, slice(word_ports, ports), high, down > 2)
            bit_wire = bit_wire[0::2] + bit_wire[1::2]
            down, high = down // 2, high * 2
    transfer = blocks[:, 0, 0, high : high + columns, :rows]
    return transfer.mT.flip(-2)


def _split(lines: int) -> tuple[int, int]:
    """A power of two of blocks, and the lines of each."""
    blocks = 1 << max(0, math.ceil(math.log2(lines / _BLOCK_LINES)))
    return blocks, math.ceil(lines / blocks)


def _paths(blocks: int, length: int, segment_ohm: float, end_ohm: float, like: Tensor) -> Tensor:
    """Resistances (blocks, length) from a block's near end to each device of a line.

    The termination belongs to the first segment.
    """
    segments = like.new_full((blocks, length), segment_ohm)
    segments[0, 0] += end_ohm
    return segments.cumsum(-1)


def _solve(devices: Tensor, word_path: Tensor, bit_path: Tensor) -> Tensor:
    """The Q (arrays, down, across, ports, ports) of all smallest blocks.

    The devices' currents x obey ``x = g * (drive - paths x)``, where two devices of a line share
    the path of the nearer one; with ``x = sqrt(g) y`` the matrix is the identity plus a positive
    one, whatever the resistances.
    """
    down, high = bit_path.shape
    across, wide = word_path.shape
    arrays = len(devices)
    tiles = devices.view(arrays, down, high, across, wide).transpose(2, 3)
    root = tiles.reshape(arrays, down, across, high * wide, 1).sqrt()
    row = torch.arange(high, device=devices.device).repeat_interleave(wide)
    column = torch.arange(wide, device=devices.device).repeat(high)
    word_shared = word_path[:, torch.minimum(column[:, None], column)]  # (across, hw, hw)
    bit_shared = bit_path[:, torch.minimum(row[:, None], row)]
    same_row, same_column = row[:, None] == row, column[:, None] == column
    paths = word_shared * same_row + (bit_shared * same_column).unsqueeze(1)
    system = root * paths * root.mT
    system.diagonal(dim1=-2, dim2=-1).add_(1.0)

    on_row = (row[:, None] == torch.arange(high, device=devices.device)).to(devices)
    on_column = (column[:, None] == torch.arange(wide, device=devices.device)).to(devices)
    grid = (down, across, -1, -1)
    drives = [on_row.expand(grid)]
    if across > 1:
        drives.append((word_path[:, column, None] * on_row).expand(grid))
    drives.append(on_column.expand(grid))
    if down > 1:
        drives.append((bit_path[:, row, None] * on_column).unsqueeze(1).expand(grid))
    drive = root * torch.cat(drives, -1)
    factor = torch.linalg.cholesky_ex(system).L
    half: Tensor = torch.linalg.solve_triangular(factor, drive, upper=False)
    return half.mT @ half


def _merge(
    near: Tensor, far: Tensor, wire: Tensor, joined: slice, crossing: int, keep_far: bool
) -> Tensor:
    """The Q of neighbours, joined by lines from the far ends of `near` to the near ends of `far`.

    Args:
        near: Q of the blocks on the near side, (..., ports, ports).
        far: Q of the blocks on the far side, likewise.
        wire: resistance of the joined lines within `near`, broadcastable to Q.
        joined: the joined lines' ports, either the first or the last; near ends before far ends.
        crossing: how many lines of each block cross the joined ones.
        keep_far: whether the far ends of `far` stay ports; otherwise they are open and dropped.

    Returns:
        Q of the pairs, (..., ports, ports), its ports in the order of `near` and `far`.
    """
    ports = near.shape[-1]
    lines = (joined.stop - joined.start) // 2
    first = slice(joined.start, joined.start + lines)
    second = slice(first.stop, joined.stop)
    own = joined if keep_far else first
    cross = slice(joined.stop, ports) if joined.start == 0 else slice(0, joined.start)
    y = far[..., first, first]
    z = -near[..., second, second]
    z.diagonal(dim1=-2, dim2=-1).add_(wire[..., 0])
    seen = far[..., own]
    if keep_far:
        # What the far ends draw passes the near block's wire too.
        seen = far[..., joined].clone()
        seen[..., lines:] += wire * seen[..., :lines]
        seen[..., second, :] += wire * seen[..., first, :]
    # At the joint, with a and b what the drives of the pair's ports contribute: the current p into
    # far's devices is b - y t, the voltage t lost on its way is a + z p.
    a, a_cross = near[..., second, own], near[..., second, cross]
    b, b_cross = seen[..., first, :], far[..., first, cross]
    loop = y @ z
    loop.diagonal(dim1=-2, dim2=-1).add_(1.0)  # its eigenvalues are at least 1
    drives = torch.cat([b - y @ a, -(y @ a_cross), b_cross], -1)
    currents = torch.linalg.solve_ex(loop, drives).result
    p, p_near, p_far = torch.split(currents, [b.shape[-1], *[b_cross.shape[-1]] * 2], -1)
    t, t_far = a + z @ p, z @ p_far
    own_own = near[..., own, own] + seen[..., own, :] - a.mT @ p - b.mT @ t
    near_own = near[..., cross, own] - a_cross.mT @ p
    far_own = seen[..., cross, :] - b_cross.mT @ t
    near_near = near[..., cross, cross] - a_cross.mT @ p_near
    near_far = -(a_cross.mT @ p_far)
    far_far = far[..., cross, cross] - b_cross.mT @ t_far
    cross_cross = ((near_near, near_far), (near_far.mT, far_far))
    return _assemble(own_own, (near_own, far_own), cross_cross, crossing, joined.start == 0)


def _assemble(
    own_own: Tensor,
    cross_own: tuple[Tensor, Tensor],
    cross_cross: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]],
    crossing: int,
    own_first: bool,
) -> Tensor:
    """One Q of the parts that concern the joined lines and the crossing lines of two blocks.

    Crossing ports have the order end, line in the parts, and end, block, line in the whole.
    """
    own, cross = own_own.shape[-1], cross_own[0].shape[-2]
    ends = cross // crossing
    at_own, at_cross = slice(0, own), slice(own, None)
    if not own_first:
        at_own, at_cross = slice(2 * cross, None), slice(0, 2 * cross)
    batch = own_own.shape[:-2]
    merged = own_own.new_empty(*batch, own + 2 * cross, own + 2 * cross)
    merged[..., at_own, at_own] = own_own
    whole, part = (ends, 2, crossing), (ends, crossing)
    rows = torch.unflatten(merged[..., at_cross, at_own], -2, whole)
    columns = torch.unflatten(merged[..., at_own, at_cross], -1, whole)
    square = torch.unflatten(merged[..., at_cross, at_cross], -1, whole)
    square = torch.unflatten(square, -4, whole)
    for row in range(2):
        rows[..., row, :, :] = cross_own[row].reshape(*batch, *part, own)
        columns[..., row, :] = cross_own[row].mT.reshape(*batch, own, *part)
        for column in range(2):
            square[..., row, :, :, column, :] = cross_cross[row][column].reshape(
                *batch, *part, *part
            )
    return merged
