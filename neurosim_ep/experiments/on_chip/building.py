"""From a recipe with a table [on_chip] to the chip, the rule and the updates that it names."""

from dataclasses import dataclass

from torch.optim import Optimizer

from neurosim_ep._recipe.on_chip import RULES
from neurosim_ep._toml_text import problem
from neurosim_ep.config import OnChipRecipe, Recipe
from neurosim_ep.crossbar import ArrayCard, CrossbarNetwork, load_array_card, map_to_crossbar
from neurosim_ep.crossbar.mapping import PAIR
from neurosim_ep.devices import DeviceCard, load_device_card
from neurosim_ep.learning import EquilibriumPropagation
from neurosim_ep.models import HopfieldNetwork
from neurosim_ep.onchip import (
    Digital,
    MixedPrecision,
    OnChipLearning,
    OnChipUpdates,
    OnPulses,
    Pulsed,
    Rule,
    Sign,
    TikiTaka,
    Trains,
)
from neurosim_ep.seeds import derive_seed


@dataclass(frozen=True)
class Cards:
    """The hardware of a recipe.

    Attributes:
        device: card of the devices.
        array: card of the arrays, as it was loaded.
    """

    device: DeviceCard
    array: ArrayCard


def load_cards(chip: OnChipRecipe) -> Cards:
    """The cards that a recipe names.

    Raises:
        ValueError: if one is missing or not valid.
    """
    return Cards(load_device_card(chip.device_card), load_array_card(chip.array_card))


RECIPE_FIELDS = ("on_chip.rule", "on_chip.device_card", "on_chip.array_card")
OPTIONS = ("rule", "device", "array")


def check_fit(rule: str, cards: Cards, names: tuple[str, str, str] = RECIPE_FIELDS) -> None:
    """Refuse cards whose devices or arrays a rule cannot use.

    Args:
        rule: as in a recipe.
        cards: of the hardware.
        names: of the fields, or options, that give the rule, the device card and the array card.

    Raises:
        ValueError: naming the one to change.
    """
    of_rule, of_device, of_array = names
    response, name = cards.device.pulse_response, cards.device.name
    with_rule = f'with {of_rule} = "{rule}"'
    if rule == "digital":
        return
    if response is None:
        raise ValueError(
            problem(of_device, name, f"a card with a table [pulse_response] {with_rule}")
        )
    if not response.one_sided:
        return
    only_up = f'with {of_device} = "{name}", whose devices can only be pulsed up'
    if rule == "tiki_taka":
        allowed = ", ".join(other for other in RULES if other != rule)
        raise ValueError(problem(of_rule, rule, f"one of {allowed} {only_up}"))
    if cards.array.layout.mapping != PAIR:
        allowed = f'a card with layout.mapping = "{PAIR}" {only_up}'
        raise ValueError(problem(of_array, cards.array.name, allowed))


def build_rule(chip: OnChipRecipe) -> Rule:
    """The recipe's update rule."""
    trains = Trains(chip.trains, chip.longest_train)
    if chip.rule == "digital":
        return Digital(chip.write_interval_updates)
    if chip.rule == "mixed_precision":
        return MixedPrecision()
    if chip.rule == "sign":
        return Sign(chip.threshold_steps)
    if chip.rule == "pulsed":
        return Pulsed(chip.form, trains)
    return TikiTaka(
        chip.variant,
        chip.form,
        trains,
        sweep_updates=chip.transfer_sweep_updates,
        chop_sweeps=chip.chop_sweeps,
        transfer_gain=chip.transfer_gain,
        fast_learning_rate=chip.fast_learning_rate,
        symmetrising_pulses=chip.symmetrising_pulses,
        seed=derive_seed(chip.device_seed, "tiki-taka"),
    )


def build_chip(
    network: HopfieldNetwork, chip: OnChipRecipe, cards: Cards, *, pulsed: bool
) -> CrossbarNetwork:
    """The network on the recipe's hardware, laid out for the rule.

    Devices that pulses move either way start about mid-window, with room for weights that grow;
    those that a rule only writes, or that can only be pulsed up, start from its bottom.

    Args:
        network: with the initial weights.
        chip, cards: of the recipe.
        pulsed: whether single pulses move the devices.

    Raises:
        ValueError: if a card does not go with the rule or with the network.
    """
    check_fit(chip.rule, cards)
    device, array = cards.device, cards.array
    response, layout = device.pulse_response, array.layout
    changes: dict[str, object] = {}
    if pulsed:
        one_sided = response is not None and response.one_sided
        baseline = "bottom" if one_sided else "middle"
        headroom = chip.weight_headroom * layout.scale_headroom
        changes["layout"] = layout.model_copy(
            update={"pair_baseline": baseline, "scale_headroom": headroom}
        )
    if array.wires is not None:
        changes["wires"] = array.wires.model_copy(
            update={"refresh_interval_programmings": chip.wire_refresh_interval_updates}
        )
    return map_to_crossbar(
        network,
        device,
        array.model_copy(update=changes),
        seed=chip.device_seed,
        bias_rows=chip.bias == "row",
    )


def on_chip_method(recipe: Recipe, exact: EquilibriumPropagation, cards: Cards) -> OnChipLearning:
    """The recipe's way of learning on its chip.

    Args:
        recipe: with a table [on_chip].
        exact: the method with the initial network, before it is put on the chip.
        cards: of the recipe.

    Raises:
        ValueError: if a card does not go with the rule or with the network.
    """
    assert recipe.on_chip is not None
    rule = build_rule(recipe.on_chip)
    chip = build_chip(exact.model, recipe.on_chip, cards, pulsed=rule.pulsed)
    return OnChipLearning(
        chip,
        rule,
        exact.estimator,
        exact.cost,
        exact.phases,
        warm_start=exact.warm_start,
        calibration_interval=recipe.on_chip.calibration_interval_updates,
    )


def on_chip_updates(
    recipe: Recipe,
    method: OnChipLearning,
    optimiser: Optimizer,
    *,
    on_pulses: OnPulses | None = None,
) -> OnChipUpdates:
    """What the training loop steps for a recipe on a chip.

    Args:
        recipe: with a table [on_chip].
        method: of `on_chip_method`.
        optimiser: over `on_chip_groups`.
        on_pulses: is told the pulses of every target.

    Raises:
        ValueError: if the rule cannot move the card's devices.
    """
    chip = recipe.on_chip
    assert chip is not None
    return OnChipUpdates(
        method,
        optimiser,
        seed=derive_seed(recipe.seed, chip.device_seed, "on-chip updates"),
        image_time_s=chip.image_time_s,
        renew_interval=chip.renew_interval_updates,
        renew_fraction=chip.renew_fraction,
        on_pulses=on_pulses,
    )
