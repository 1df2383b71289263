"""RandAugment (Cubuk et al., 2020) with kornia's operations and torchvision's strengths."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch

from neurosim_ep.seeds import derive_seed

MAX_MAGNITUDE = 30
# kornia multiplies a signed range by m / 30; with m fixed at 15 the range is twice the strength.
_KORNIA_M = 15
_Step = tuple[str, float, float]
_Variant = tuple[_Step, ...]


def _factor(name: str, value: float) -> _Variant:
    """Return the kornia steps (name, low, high) that change an image by a factor ``value``."""
    if name == "brightness":  # kornia's contrast is the plain product
        return (("contrast", value, value),)
    if name != "contrast":
        return ((name, value, value),)
    # value * (x - 1/2) + 1/2; the step that moves the range inwards comes first, as each clips.
    if value <= 1:
        shift = 1 + (1 - value) / 2
        return (("contrast", value, value), ("brightness", shift, shift))
    shift = 1 + (1 - value) / (2 * value)
    return (("brightness", shift, shift), ("contrast", value, value))


def operations(magnitude: int, size: int) -> list[list[_Variant]]:
    """Return torchvision's 14 RandAugment operations as kornia policy entries.

    An operation is a list of equally likely variants: none for the identity, two for a factor that
    goes down or up, one otherwise (kornia draws the sign of a shift, a shear or a rotation for
    each image). A variant is one or two kornia operations (name, low, high), applied in order.
    The strengths are torchvision's at ``magnitude`` of 0..30: rotation ``30 m/30`` degrees, shear
    ``0.3 m/30``, translation ``150/331 m/30`` of the side in whole pixels, colour, contrast,
    brightness and sharpness ``1 +- 0.9 m/30``, posterise to ``8 - round(m / 7.5)`` bits, solarise
    from ``1 - m/30``. kornia's default table is another augmentation at the same number (solarise
    from m/30, a shear of ``54 m/30`` degrees, inversion, factors that only go down below m = 15),
    and is not used.

    What differs from torchvision: contrast turns about mid-grey instead of the image's mean grey,
    colour scales the HSV saturation, and geometric operations interpolate bilinearly about the
    image's centre.

    Args:
        magnitude: 0 to 30.
        size: side of the images in pixels.
    """
    part = magnitude / MAX_MAGNITUDE
    factor = 0.9 * part
    shear = 2 * math.degrees(math.atan(0.3 * part)) / 180
    shift = 2 * int(150 / 331 * size * part) / size
    turn = 2 * 30.0 * part
    bits = float(8 - round(magnitude / (MAX_MAGNITUDE / 4)))
    table: list[list[_Variant]] = [[]]
    table += [[((f"shear_{axis}", -shear, shear),)] for axis in "xy"]
    table += [[((f"translate_{axis}", -shift, shift),)] for axis in "xy"]
    table += [[(("rotate", -turn, turn),)]]
    for name in ("brightness", "color", "contrast", "sharpness"):
        table.append([_factor(name, 1 - factor), _factor(name, 1 + factor)])
    table += [[(("posterize", bits, bits),)], [(("solarize", 1 - part, 1 - part),)]]
    table += [[(("auto_contrast", 0.0, 1.0),)], [(("equalize", 0.0, 1.0),)]]
    return table


@lru_cache(maxsize=8)
def _modules(magnitude: int, size: int) -> list[list[list[Any]]]:
    """Build one kornia RandAugment for each step (kornia is imported here, at first use)."""
    from kornia.augmentation.auto import RandAugment

    def build(step: _Step) -> Any:
        return RandAugment(1, _KORNIA_M, policy=[[step]], transformation_matrix_mode="skip")

    return [
        [[build(step) for step in variant] for variant in variants]
        for variants in operations(magnitude, size)
    ]


def rand_augment(
    images: torch.Tensor, *, operation_count: int, magnitude: int, seed: int
) -> torch.Tensor:
    """Apply ``operation_count`` randomly drawn operations to each image.

    kornia's RandAugment draws its operations once for a whole batch; torchvision's, which the
    paper used, draws them for each image, with replacement. Here each image draws its own: in each
    of the rounds the images that drew the same operation form a group, and a kornia RandAugment
    holding that one operation is called on the group. The number of kornia calls is thus at most
    19 for each round, whatever the batch size.

    kornia draws from torch's global generators; they are forked, seeded and put back, so a call
    leaves them as they were (other threads must not draw meanwhile) and equal seeds give equal
    batches bit for bit. One-channel images are repeated to three channels and one is taken back
    (the colour operation then changes nothing, as on a grey image in torchvision).

    Args:
        images: float32 or float64 (B, C, S, S) in [0, 1], C = 1 or 3, any device.
        operation_count: operations for each image, 0 or more.
        magnitude: 0 to 30.
        seed: 0 to 2**63 - 1.

    Returns:
        (B, C, S, S) in [0, 1], same dtype and device.
    """
    if operation_count == 0 or images.shape[0] == 0:
        return images
    count, channels = images.shape[:2]
    table = _modules(magnitude, images.shape[-1])
    # Drawn on the CPU, so that the choice needs no read-back from an accelerator.
    generator = torch.Generator().manual_seed(derive_seed(seed, "operations"))
    drawn = torch.randint(len(table), (operation_count, count), generator=generator)
    signs = torch.randint(2, (operation_count, count), generator=generator)
    out = images.expand(-1, 3, -1, -1).clone() if channels == 1 else images.clone()
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(images.device):
                torch.cuda.manual_seed(seed)
        for round_drawn, round_signs in zip(drawn, signs, strict=True):
            for index, variants in enumerate(table):
                for sign, steps in enumerate(variants):
                    chosen = round_drawn == index
                    if len(variants) == 2:
                        chosen &= round_signs == sign
                    rows = torch.nonzero(chosen).flatten()
                    if rows.numel():
                        rows = rows.to(images.device)
                        group = out[rows]
                        for module in steps:
                            group = module(group)
                        out[rows] = group
    return out[:, :channels].clamp(0, 1)
