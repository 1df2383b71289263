"""Programming a tensor of devices: which targets are admitted, and where the devices land."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.devices.programming import Programming
from neurosim_ep.devices.window import Window
from neurosim_ep.devices.write_verify import WriteVerify


@dataclass(frozen=True)
class Programmed:
    """What programming a tensor of devices came to.

    Attributes:
        clipped: targets outside the nominal window by more than rounding.
        failed: devices, stuck ones among them, that write-verify gave up on; 0 without it.
        attempts: programming pulses over all programmed devices; one per device without
            write-verify.
    """

    clipped: int
    failed: int
    attempts: int


def checked_shape(name: str, tensor: Tensor, shape: torch.Size) -> None:
    """Refuse a tensor that does not have the devices' shape.

    Raises:
        ValueError: in one line.
    """
    if tensor.shape != shape:
        allowed = f"{list(shape)}, the shape of the devices"
        raise ValueError(problem(f"{name}: shape", list(tensor.shape), allowed))


def admitted(
    target: Tensor, where: Tensor | None, window: Window, like: Tensor
) -> tuple[Tensor, int]:
    """Targets within the window, on its levels, and how many were outside.

    Args:
        target: conductances in siemens as asked for.
        where: mask of the targets that count; all where None.
        window: the nominal one.
        like: a tensor of the devices.

    Raises:
        ValueError: for a target or a mask that is not allowed, in one line.
    """
    if where is not None:
        if where.dtype != torch.bool:
            raise ValueError(problem("where: dtype", str(where.dtype), "torch.bool"))
        checked_shape("where", where, like.shape)
    checked_shape("target_siemens", target, like.shape)
    if not target.is_floating_point():
        raise ValueError(problem("target_siemens: dtype", str(target.dtype), "floating-point"))
    coarser = max(torch.finfo(d.dtype).eps for d in (target, like))
    target = target.detach().to(like)
    if where is not None:
        target = torch.where(where, target, window.g_min_siemens)
    if not bool(torch.isfinite(target).all()):
        first = float(target[~torch.isfinite(target)][0])
        raise ValueError(problem("target_siemens", first, "finite"))
    slack = 8.0 * coarser * window.g_max_siemens
    low, high = window.g_min_siemens - slack, window.g_max_siemens + slack
    clipped = int(((target < low) | (target > high)).sum())
    return window.round(target.clamp(window.g_min_siemens, window.g_max_siemens)), clipped


def write(
    target: Tensor,
    bounds: tuple[Tensor, Tensor],
    programming: Programming | None,
    verify: WriteVerify | None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Where devices land, which of them write-verify gave up on, and how many pulses each took.

    Args:
        target: of `admitted`.
        bounds: what each device stays between; the same number twice for a stuck one.
        programming: noise.
        verify: write-verify.
        generator: a CPU generator.

    Returns:
        conductances in siemens; failures and attempts, None without write-verify.
    """
    lower, upper = bounds
    if verify:
        sigma = programming.sigma(target) if programming else torch.zeros_like(target)
        written = verify.write(target, sigma, lower, upper, generator)
        return written.conductance, written.failed, written.attempts
    if programming:
        normal = torch.randn(target.shape, generator=generator, dtype=target.dtype)
        target = target + programming.sigma(target) * normal.to(target.device)
    return torch.minimum(torch.maximum(target, lower), upper), None, None
