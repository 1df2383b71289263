"""A device card: everything that is known of one kind of device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from pydantic import BeforeValidator, model_validator
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.cards import Card, CardTable, Positive, as_tuple, load_card, shipped_cards
from neurosim_ep.devices.drift import Drift
from neurosim_ep.devices.endurance import Endurance
from neurosim_ep.devices.faults import Faults
from neurosim_ep.devices.programming import Programming
from neurosim_ep.devices.pulse_response import PulseResponse
from neurosim_ep.devices.read_noise import ReadNoise, Telegraph
from neurosim_ep.devices.spread import Spread, between
from neurosim_ep.devices.window import Window
from neurosim_ep.devices.write_verify import WriteVerify

CARD_FOLDER = "neurosim_ep.devices.cards"


class Operation(CardTable):
    """How devices are kept.

    Attributes:
        temperature_kelvin: of the devices, for thermal noise and for drift.
    """

    temperature_kelvin: Positive = 300.0


class DeviceCard(Card):
    """One kind of device; a phenomenon whose table is absent is ideal.

    Attributes:
        window: between which conductances devices are programmed.
        spread: device-to-device variation of the window.
        programming: noise of programming.
        write_verify: programming again until it fits.
        faults: stuck devices.
        read_noise: what reads vary by, at most one term of each model.
        drift: what happens after programming.
        pulse_response: what one pulse does.
        endurance: how many pulses a device stands; None where that is no limit.
        operation: temperature.
    """

    window: Window
    spread: Spread | None = None
    programming: Programming | None = None
    write_verify: WriteVerify | None = None
    faults: Faults | None = None
    read_noise: Annotated[tuple[ReadNoise, ...], BeforeValidator(as_tuple)] = ()
    drift: Drift | None = None
    pulse_response: PulseResponse | None = None
    endurance: Endurance | None = None
    operation: Operation = Operation(source="assumed: room temperature")

    @model_validator(mode="after")
    def _tables_fit(self) -> DeviceCard:
        models = [term.model for term in self.read_noise]
        for index, model in enumerate(models):
            if model in models[:index]:
                allowed = "a model that no earlier term has"
                raise ValueError(problem(f"read_noise[{index}].model", model, allowed))
        if self.write_verify and self.write_verify.tolerance_siemens > self.window.range_siemens:
            allowed = f"at most the width of the window, {self.window.range_siemens:g}"
            tolerance = self.write_verify.tolerance_siemens
            raise ValueError(problem("write_verify.tolerance_siemens", tolerance, allowed))
        if self.spread and self.pulse_response:
            for name in ("w_max_spread_relative", "w_min_spread_relative"):
                if twice := getattr(self.pulse_response, name):
                    allowed = "absent beside the table spread, which gives the bounds"
                    raise ValueError(problem(f"pulse_response.{name}", twice, allowed))
        return self

    def draw_bounds(
        self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor] | None:
        """Draw the bounds of devices: those of the table spread, else of the pulse response.

        Programming and pulses stop at them.

        Args:
            shape: of the tensor of devices.
            generator: a CPU generator.
            dtype: of the draws.

        Returns:
            lower and upper bounds in siemens, of the shape, on the CPU; None where all devices
            have the nominal ones.
        """
        if self.spread:
            return self.spread.draw(self.window, shape, generator, dtype)
        response = self.pulse_response
        if response is None or not (
            response.w_min_spread_relative or response.w_max_spread_relative
        ):
            return None
        w_min, w_max = response.draw_bounds(shape, generator, dtype)
        lower, upper = between(self.window, self.window.siemens(w_min), self.window.siemens(w_max))
        return lower.expand(shape).contiguous(), upper.expand(shape).contiguous()

    @property
    def telegraph(self) -> Telegraph | None:
        """The telegraph term of the read noise, if there is one."""
        return next((term for term in self.read_noise if isinstance(term, Telegraph)), None)


def load_device_card(name_or_path: str | Path) -> DeviceCard:
    """A shipped device card by name, or the one in a TOML file.

    Raises:
        CardError: with one line per problem.
    """
    return load_card(DeviceCard, CARD_FOLDER, name_or_path, "device card")


def shipped_device_cards() -> dict[str, DeviceCard]:
    """All shipped device cards by name, in alphabetical order."""
    return shipped_cards(DeviceCard, CARD_FOLDER)
