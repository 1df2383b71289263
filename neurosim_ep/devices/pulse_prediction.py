"""One-step predictions of pulse trains by a model with unknown numbers, and their derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.sparse import coo_matrix

from neurosim_ep.devices.pulse_candidates import Array, Candidate
from neurosim_ep.devices.pulse_data import PulseTrain

OWN = 4
"""Numbers of a device's own: log of the scales of up and down steps, lower and upper bound."""
LONGEST_PART = 1000
COARSE_PART = 50
"""Length of the parts from which the best start of a fit is found, where speed counts."""
DIFFERENCE = 1e-6
LARGEST_DENSE = 3e7


@dataclass(frozen=True)
class Parts:
    """Pulse trains in parts of similar length, one column each, in the data's coordinate.

    Attributes:
        v: measured (L, B); the first row is where a part starts, parts are padded at the end.
        up: direction of the pulse before each row, (L, B).
        real: where a row is a measured step, (L, B); False in the first row.
        device: index of each part's device, (B,).
        devices: how many there are.
    """

    v: Array
    up: NDArray[np.bool_]
    real: NDArray[np.bool_]
    device: NDArray[np.intp]
    devices: int


def parts_of(
    trains: Sequence[PulseTrain],
    low_siemens: float,
    high_siemens: float,
    longest_part: int = LONGEST_PART,
) -> Parts:
    """Cut trains into parts, so that a prediction has few steps one after another."""
    names = list(dict.fromkeys(train.device for train in trains))
    cut: list[tuple[int, Array, NDArray[np.bool_]]] = []
    for train in trains:
        v = (2.0 * train.conductance_siemens - low_siemens - high_siemens) / (
            high_siemens - low_siemens
        )
        count = -(-(v.size - 1) // longest_part)
        edges = np.linspace(0, v.size - 1, count + 1).astype(int)
        for start, stop in pairwise(edges):
            # Parts share the row where they meet: it ends one step and starts the next.
            rows = slice(start, stop + 1)
            cut.append((names.index(train.device), v[rows], train.up[rows]))
    longest = max(v.size for _, v, _ in cut)
    shape = (longest, len(cut))
    parts = Parts(
        np.zeros(shape),
        np.zeros(shape, dtype=bool),
        np.zeros(shape, dtype=bool),
        np.array([index for index, _, _ in cut]),
        len(names),
    )
    for column, (_, v, up) in enumerate(cut):
        parts.v[: v.size, column] = v
        parts.up[: v.size, column] = up
        parts.real[1 : v.size, column] = True
    return parts


@dataclass(frozen=True)
class Prediction:
    """What a model says of every measured step; all arrays (P, L, B).

    Attributes:
        error: measured minus predicted state.
        length: the step's predicted length.
        stopped: where a bound stopped the predicted step.
        state: the state as known after the measurement.
    """

    error: Array
    length: Array
    stopped: NDArray[np.bool_]
    state: Array


def predict(
    candidate: Candidate,
    own: Array,
    shape: Array,
    gain: Array | None,
    parts: Parts,
    start: Array | None = None,
) -> Prediction:
    """Predict each measurement from the ones before.

    The known state moves by the model's step and is then corrected by ``gain`` times what the
    measurement differs by: 1 believes the measurement alone, 0 the model alone.

    Args:
        candidate: the model.
        own: (P, OWN, devices), P sets of numbers at once.
        shape: (P, S).
        gain: (P,); None never corrects.
        parts: the data.
        start: states where the parts start, (P, B); the measured ones where None.
    """
    mine = own[:, :, parts.device]
    scale_up, scale_down = np.exp(mine[:, 0]), np.exp(mine[:, 1])
    low, high = mine[:, 2], mine[:, 3]
    shapes = tuple(shape.T[:, :, None])
    sets, (rows, columns) = own.shape[0], parts.v.shape
    found = Prediction(
        np.zeros((sets, rows, columns)),
        np.zeros((sets, rows, columns)),
        np.zeros((sets, rows, columns), dtype=bool),
        np.zeros((sets, rows, columns)),
    )
    first = np.broadcast_to(parts.v[0], (sets, columns)) if start is None else start
    x = np.minimum(np.maximum(first, low), high)
    found.state[:, 0] = x
    for row in range(1, rows):
        up = parts.up[row]
        length = np.where(up, scale_up, scale_down) * candidate.length(x, up, low, high, shapes)
        free = x + np.where(up, length, -length)
        kept = np.minimum(np.maximum(free, low), high)
        error = parts.v[row] - kept
        x = kept
        if gain is not None:
            # The first rows are believed more: only a measurement says where a part starts.
            weight = np.maximum(gain, 1.0 / (row + 1))[:, None]
            x = np.minimum(np.maximum(kept + weight * error, low), high)
        found.error[:, row], found.length[:, row] = error, length
        found.stopped[:, row], found.state[:, row] = kept != free, x
    return found


@dataclass(frozen=True)
class Solution:
    """A least-squares fit of one candidate.

    Attributes:
        candidate: the model.
        own: (OWN, devices).
        shape: the model's own numbers.
        gain: of the correction.
        square_sum: of the weighted one-step errors.
        deviation: standard errors of `own`, with the shape held fixed.
        prediction: at the solution, P = 1.
    """

    candidate: Candidate
    own: Array
    shape: tuple[float, ...]
    gain: float
    square_sum: float
    deviation: Array
    prediction: Prediction


def solve(
    candidate: Candidate, parts: Parts, coarse: Parts, own_start: Array, lowest: float
) -> Solution:
    """Fit a candidate's numbers to all one-step errors, none weighing more than another.

    Args:
        candidate: the model.
        parts: the data.
        coarse: short parts of the first few devices, on which several starts are tried.
        own_start: (OWN, devices), from the data's extremes.
        lowest: the state at a conductance of zero, below which no bound lies.
    """
    few = own_start[:, : coarse.devices]
    tried = [
        _run(candidate, coarse, few, few, (*shape, gain), lowest, evaluations=10)
        for shape in candidate.starts
        for gain in (0.9, 0.1)
    ]
    best = min(tried, key=lambda found: float(found.cost))
    own, shared = _unpacked(best.x, coarse.devices)
    moved = own_start + (own - few).mean(axis=1, keepdims=True)
    moved[:, : coarse.devices] = own
    best = _run(candidate, parts, own_start, moved, tuple(shared), lowest, evaluations=25)
    return _solution(candidate, parts, best, np.ones_like(parts.v))


def solve_again(
    first: Solution, parts: Parts, own_start: Array, lowest: float, weight: Array
) -> Solution:
    """Fit a candidate's numbers once more, from a first solution and with weighted errors.

    Args:
        first: of `solve`.
        parts: the data.
        own_start: as for `solve`.
        lowest: as for `solve`.
        weight: of each error, (L, B); 1 on average.
    """
    shared = (*first.shape, first.gain)
    args = (first.candidate, parts, own_start, first.own, shared, lowest)
    best = _run(*args, evaluations=25, weight=weight)
    return _solution(first.candidate, parts, best, weight)


def _solution(candidate: Candidate, parts: Parts, best: Any, weight: Array) -> Solution:
    own, shared = _unpacked(best.x, parts.devices)
    device = np.broadcast_to(parts.device, parts.v.shape)[parts.real]
    variance = 2.0 * float(best.cost) / max(1, device.size - best.x.size)
    slopes = _slopes(candidate, own, shared, parts)[1] * weight[parts.real][:, None]
    deviation = np.empty_like(own)
    for index in range(parts.devices):
        block = slopes[device == index, :OWN]
        covariance = np.linalg.pinv(block.T @ block) * variance
        deviation[:, index] = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
    return Solution(
        candidate,
        own,
        tuple(float(x) for x in shared[:-1]),
        float(shared[-1]),
        2.0 * float(best.cost),
        deviation,
        predict(candidate, own[None], shared[None, :-1], shared[-1:], parts),
    )


def _run(
    candidate: Candidate,
    parts: Parts,
    own_start: Array,
    own: Array,
    shared: tuple[float, ...],
    lowest: float,
    *,
    evaluations: int,
    weight: Array | None = None,
) -> Any:
    """SciPy's least squares from `own` and `shared`, within limits around `own_start`."""
    width = own_start[3] - own_start[2]
    lower = [own_start[0] - 7.0, own_start[1] - 7.0]
    lower += [np.maximum(own_start[2] - width, lowest), own_start[3] - 0.4 * width]
    upper = [own_start[0] + 4.0, own_start[1] + 4.0]
    upper += [own_start[2] + 0.4 * width, own_start[3] + width]
    limits = (
        np.concatenate([np.stack(lower).T.ravel(), candidate.lower, [0.0]]),
        np.concatenate([np.stack(upper).T.ravel(), candidate.upper, [1.0]]),
    )
    device = np.broadcast_to(parts.device, parts.v.shape)[parts.real]
    weights = np.ones(device.size) if weight is None else weight[parts.real]
    last = OWN * parts.devices + np.arange(len(shared))
    columns = np.hstack(
        [
            OWN * device[:, None] + np.arange(OWN),
            np.broadcast_to(last, (device.size, last.size)),
        ]
    )

    cache: dict[bytes, tuple[Array, Array]] = {}

    def both(theta: Array) -> tuple[Array, Array]:
        # Slopes cost hardly more than errors alone, and SciPy asks for both at the same place.
        key = theta.tobytes()
        if key not in cache:
            cache.clear()
            cache[key] = _slopes(candidate, *_unpacked(theta, parts.devices), parts)
        return cache[key]

    def errors(theta: Array) -> Array:
        return both(theta)[0] * weights

    def jacobian(theta: Array) -> Any:
        slopes = both(theta)[1] * weights[:, None]
        rows = np.broadcast_to(np.arange(device.size)[:, None], slopes.shape)
        entries = (slopes.ravel(), (rows.ravel(), columns.ravel()))
        matrix = coo_matrix(entries, shape=(device.size, theta.size))
        return matrix.toarray() if device.size * theta.size < LARGEST_DENSE else matrix.tocsr()

    start = np.concatenate([own.T.ravel(), shared])
    return least_squares(
        errors,
        np.clip(start, limits[0] + 1e-9, limits[1] - 1e-9),
        jacobian,
        limits,
        max_nfev=evaluations,
        x_scale="jac",
        ftol=1e-7,
        xtol=1e-7,
    )


def _unpacked(theta: Array, devices: int) -> tuple[Array, Array]:
    """The devices' own numbers (OWN, devices); what they share: the shape, then the gain."""
    return theta[: OWN * devices].reshape(devices, OWN).T, theta[OWN * devices :]


def _slopes(candidate: Candidate, own: Array, shared: Array, parts: Parts) -> tuple[Array, Array]:
    """Errors (M,), and their derivatives by their own device's and the shared numbers (M, n)."""
    sets = 1 + OWN + shared.size
    many_own, many_shared = np.repeat(own[None], sets, 0), np.repeat(shared[None], sets, 0)
    # Devices do not meet, so one set moves the same number of all of them.
    for i in range(OWN):
        many_own[1 + i, i] += DIFFERENCE
    for i in range(shared.size):
        many_shared[1 + OWN + i, i] += DIFFERENCE
    found = predict(candidate, many_own, many_shared[:, :-1], many_shared[:, -1], parts)
    errors = found.error[:, parts.real]
    return errors[0], ((errors[1:] - errors[0]) / DIFFERENCE).T
