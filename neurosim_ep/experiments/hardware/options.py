"""What a comparison on hardware is asked for, checked before anything is trained."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neurosim_ep._toml_text import problem
from neurosim_ep.config import Recipe
from neurosim_ep.crossbar import ArrayCard, load_array_card, map_to_crossbar
from neurosim_ep.devices import DeviceCard, load_device_card
from neurosim_ep.experiments.build import build_network, device_of
from neurosim_ep.experiments.evaluating import load_run
from neurosim_ep.experiments.hardware.analog import DAY_S, DEFAULT_TIMES_S
from neurosim_ep.experiments.hardware.mapped import settling_method
from neurosim_ep.experiments.on_chip.rules import RuleChoice, rule_choices

MOST_SEEDS = 1000
MOST_JOBS = 256
ATTRIBUTION_EPOCHS = 5
ATTRIBUTION_TRAINING_IMAGES = 2000
_UNITS_S = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0, "d": DAY_S, "y": 365 * DAY_S}
_TIME = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?) *([a-z]*)")


@dataclass(frozen=True)
class OnChipOptions:
    """How devices learn by themselves.

    Attributes:
        rules: by the device card's name; None or absent takes that of the recipe's table [on_chip],
            without one that of `neurosim_ep.experiments.on_chip.rules.default_rule`.
        jobs: how many trainings run at a time.
        attribution_epochs: of the trainings that find out which nonideality costs how much, at most
            those of the recipe.
        attribution_images: they learn from, likewise.
    """

    rules: Mapping[str, RuleChoice | None] = field(default_factory=dict)
    jobs: int = 1
    attribution_epochs: int = ATTRIBUTION_EPOCHS
    attribution_images: int = ATTRIBUTION_TRAINING_IMAGES


@dataclass(frozen=True)
class HardwareOptions:
    """What is compared.

    Attributes:
        devices: cards of different names.
        array: card that all are used with.
        seeds: of the training; of no account with a trained run.
        device_seeds: of the hardware, the same for all devices and networks.
        times_s: since programming, ascending; devices without drift are tried at the first alone.
        images: how many test images; None for all.
        run: folder of a trained run to take; None to train.
        attribution: whether to find out which nonideality costs how much.
        attribution_time_s: since programming, for devices that drift; others take time 0.
        fidelity: whether to compare gradients as well, see `fidelity_report`.
        on_chip: how devices learn by themselves; None where they do not.
    """

    devices: tuple[DeviceCard, ...]
    array: ArrayCard
    seeds: tuple[int, ...] = (0,)
    device_seeds: tuple[int, ...] = (0, 1, 2)
    times_s: tuple[float, ...] = DEFAULT_TIMES_S
    images: int | None = None
    run: Path | None = None
    attribution: bool = True
    attribution_time_s: float = DAY_S
    fidelity: bool = False
    on_chip: OnChipOptions | None = None

    def times_of(self, device: DeviceCard) -> tuple[float, ...]:
        """Times at which a device is tried."""
        return self.times_s if device.drift else self.times_s[:1]

    def attribution_time_of(self, device: DeviceCard) -> float:
        """Time at which a device's losses are attributed."""
        return self.attribution_time_s if device.drift else 0.0


def hardware_options(
    devices: Sequence[str],
    array: str = "default",
    *,
    seeds: int = 1,
    device_seeds: int = 3,
    times: str | None = None,
    images: int | None = None,
    run: Path | None = None,
    attribution: bool = True,
    attribution_time: str = "1d",
    fidelity: bool = False,
    on_chip: bool = False,
    rule: Sequence[str] = (),
    jobs: int | None = None,
    attribution_epochs: int | None = None,
    attribution_images: int | None = None,
) -> HardwareOptions:
    """Options from what a user writes.

    Args:
        devices: names or paths of device cards.
        array: name or path of an array card.
        seeds: how many trainings, with seeds 0, 1, ...
        device_seeds: how many pieces of hardware, likewise.
        times: since programming, separated by commas, such as ``0,1h,1d``; seconds without a unit.
        images, run, attribution, fidelity: as in `HardwareOptions`.
        attribution_time: one time.
        on_chip: whether devices learn by themselves as well.
        rule: ``RULE`` or ``CARD=RULE``, see `neurosim_ep.experiments.on_chip.rules.rule_choices`.
        jobs, attribution_epochs, attribution_images: as in `OnChipOptions`.

    Raises:
        ValueError: naming what is not allowed.
    """
    cards = tuple(load_device_card(name) for name in devices)
    for position, card in enumerate(cards):
        if card.name in [other.name for other in cards[:position]]:
            raise ValueError(problem("device", card.name, "given once"))
    if images is not None and images < 1:
        raise ValueError(problem("images", images, "at least 1"))
    learning = None
    given = {
        "jobs": jobs,
        "attribution_epochs": attribution_epochs,
        "attribution_images": attribution_images,
    }
    numbers = {name: value for name, value in given.items() if value is not None}
    if on_chip:
        for name, value in numbers.items():
            allowed, most = "at least 1", MOST_JOBS if name == "jobs" else None
            allowed += f" and at most {most}" if most else ""
            if value < 1 or (most is not None and value > most):
                raise ValueError(problem(name.replace("_", "-"), value, allowed))
        called = dict(zip(devices, cards, strict=True))
        learning = OnChipOptions(rule_choices(rule, called), **numbers)
    elif rule or numbers:
        name = "rule" if rule else next(iter(numbers)).replace("_", "-")
        raise ValueError(f"{name}: is not allowed without --on-chip")
    listed = DEFAULT_TIMES_S if times is None else tuple(sorted(set(_times("times", times))))
    return HardwareOptions(
        cards,
        load_array_card(array),
        seed_range("seeds", seeds),
        seed_range("device-seeds", device_seeds),
        listed,
        images,
        run,
        attribution,
        time_seconds("attribution-time", attribution_time),
        fidelity,
        learning,
    )


def seed_range(name: str, count: int) -> tuple[int, ...]:
    """Seeds 0, 1, ...

    Raises:
        ValueError: for a count below 1 or above `MOST_SEEDS`.
    """
    if not 1 <= count <= MOST_SEEDS:
        raise ValueError(problem(name, count, f"at least 1 and at most {MOST_SEEDS}"))
    return tuple(range(count))


def check_recipe(recipe: Recipe, options: HardwareOptions) -> Recipe:
    """Whether the recipe's network settles, fits on the arrays, and is the trained run's.

    Returns:
        The recipe, or that of the trained run.

    Raises:
        ValueError: if not.
    """
    if recipe.learning.algorithm != "equilibrium_propagation":
        raise ValueError(
            problem(
                "learning.algorithm",
                recipe.learning.algorithm,
                "'equilibrium_propagation' for a network on hardware",
            )
        )
    device_of(recipe)
    if options.run is not None:
        trained, method = load_run(options.run)
        settling_method(trained, method)
        if trained.on_chip is not None:
            raise ValueError(f"run: {options.run} was trained on a chip; must be an exact run")
        if trained.name != recipe.name:
            raise ValueError(
                f"run: {options.run} holds a run of {trained.name!r}, not of {recipe.name!r}"
            )
        recipe = trained
    bare = options.array.model_copy(update={"wires": None})
    map_to_crossbar(build_network(recipe), "ideal", bare)
    return recipe


def _times(name: str, text: str) -> list[float]:
    """Seconds of times that are separated by commas."""
    return [time_seconds(name, part) for part in text.split(",")]


def time_seconds(name: str, text: str) -> float:
    """Seconds of a time such as ``0``, ``90``, ``1h``, ``1d`` or ``1y``.

    Args:
        name: of the option, for the message.
        text: as a user writes it; seconds without a unit.

    Raises:
        ValueError: for anything else.
    """
    match = _TIME.fullmatch(text.strip())
    try:
        time_s = float(match[1]) * _UNITS_S[match[2]] if match else math.nan
    except (KeyError, ValueError):
        time_s = math.nan
    if not math.isfinite(time_s):
        allowed = "a time of at least 0, in seconds or with a unit such as 1h (s, min, h, d, y)"
        raise ValueError(problem(name, text, allowed))
    return time_s
