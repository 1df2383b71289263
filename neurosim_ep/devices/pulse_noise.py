"""Parting the noise of pulse trains: what moves the state, and what is only seen of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosim_ep.devices.pulse_candidates import Array
from neurosim_ep.devices.pulse_prediction import Parts, Solution

SMALLEST = 1e-6
"""Standard deviation that any measurement has, as a share of half the range: rounding."""
CYCLE_GRID = np.concatenate([[0.0], np.geomspace(1e-3, 30.0, 13)])
WRITE_GRID = np.concatenate([[0.0], np.geomspace(1e-2, 300.0, 13)])
REFINEMENTS = 6
SHORTEST = 0.25
"""Below this share of the mean step, a step's own noise is as small as the model's error."""
MODEL_ERROR = 0.02
"""That error, as a share of the mean step."""


@dataclass(frozen=True)
class Noise:
    """The most likely noise of a fitted model.

    Attributes:
        cycle: cycle-to-cycle sigma, as a share of the step.
        write: sigma of what is seen of the state, in the data's coordinate.
        cost: twice the negative log-likelihood, up to a constant.
    """

    cycle: float
    write: float
    cost: float


def likeliest_noise(solution: Solution, parts: Parts, noisy_length: Array | None = None) -> Noise:
    """The most likely pair of noises, with the model of the mean step held fixed.

    A Kalman filter of every pair on a grid, which is then made finer around the best one.  Steps
    that a bound stops say nothing of the noise and are left out.

    Args:
        solution: of `solve`.
        parts: the data.
        noisy_length: length that cycle-to-cycle noise is a share of, (2, devices) for up and down
            pulses; None where it is the step itself.
    """
    step = float(np.exp(solution.own[:2]).max(axis=0).mean())
    steps = int(parts.real.sum())
    numbers = solution.own.size + len(solution.shape) + 1
    # The fit has taken its own numbers' share of the noise away.
    missing = np.sqrt(steps / max(1, steps - numbers))
    cycles, writes = CYCLE_GRID, WRITE_GRID
    for _ in range(1 + REFINEMENTS):
        pairs = np.stack(np.meshgrid(cycles, writes * step, indexing="ij"), -1).reshape(-1, 2)
        costs = _costs(solution, parts, pairs, noisy_length)
        index = int(costs.argmin())
        row, column = divmod(index, writes.size)
        cycle, write = missing * cycles[row], missing * writes[column] * step
        best = Noise(float(cycle), float(write), float(costs[index]))
        cycles, writes = _finer(cycles, row), _finer(writes, column)
    return best


def _finer(grid: Array, best: int) -> Array:
    """None, and seven values between the neighbours of the best one."""
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
    finer: Array = np.unique(np.concatenate([[0.0], np.linspace(low, high, 7)]))
    return finer


def _costs(solution: Solution, parts: Parts, pairs: Array, noisy_length: Array | None) -> Array:
    """Twice the negative log-likelihood of each pair (cycle, write), (P,)."""
    cycle, seen = pairs[:, :1] ** 2, pairs[:, 1:] ** 2 + SMALLEST**2
    mine = solution.own[:, parts.device]
    scale = np.exp(mine[:2])
    low, high = mine[2], mine[3]
    shape = tuple(np.array(solution.shape).reshape(-1, 1, 1))
    columns = parts.device.size

    def length(x: Array, up: Array) -> Array:
        relative = solution.candidate.length(x, up.astype(bool), low, high, shape)
        found: Array = np.where(up, scale[0], scale[1]) * relative
        return found

    x = np.broadcast_to(parts.v[0], (pairs.shape[0], columns))
    variance = np.broadcast_to(seen, x.shape)
    cost = np.zeros(pairs.shape[0])
    for row in range(1, parts.v.shape[0]):
        up, sign = parts.up[row], np.where(parts.up[row], 1.0, -1.0)
        x = np.minimum(np.maximum(x, low), high)
        step = length(x, up)
        slope = 1.0 + sign * (length(x + 1e-5, up) - step) / 1e-5
        noisy = step
        if noisy_length is not None:
            noisy = np.where(up, noisy_length[0, parts.device], noisy_length[1, parts.device])
        free = x + sign * step
        kept = np.minimum(np.maximum(free, low), high)
        variance = np.where(kept == free, slope**2 * variance + cycle * noisy**2, 0.0)
        mean = np.where(up, scale[0], scale[1])
        doubt = np.where(step > SHORTEST * mean, 0.0, (MODEL_ERROR * mean) ** 2)
        error, total = parts.v[row] - kept, variance + seen + doubt
        counted = parts.real[row] & (kept == free)
        cost += np.where(counted, np.log(total) + error**2 / total, 0.0).sum(axis=1)
        gain = variance / (variance + seen)
        x, variance = kept + gain * error, (1.0 - gain) * variance
    return cost


def weights(solution: Solution, parts: Parts) -> Array:
    """One over the standard deviation of each error under the likeliest noise, (L, B).

    Noise that is a share of the step makes long steps the less certain ones.  The mean square of
    the weights is 1.
    """
    noise = likeliest_noise(solution, parts)
    scale = np.exp(solution.own[:2, parts.device])
    shortest = SHORTEST * np.where(parts.up, scale[0], scale[1])
    moved = noise.cycle * np.maximum(solution.prediction.length[0], shortest)
    weight: Array = 1.0 / np.sqrt(moved**2 + noise.write**2 + SMALLEST**2)
    weight /= np.sqrt(np.mean(weight[parts.real] ** 2))
    return weight
