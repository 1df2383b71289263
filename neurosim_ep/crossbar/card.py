"""Array cards: the array around the devices, its wires, its drivers and its converters."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from neurosim_ep._toml_text import problem
from neurosim_ep.cards import Card, CardTable, NonNegative, Positive, load_card
from neurosim_ep.cards import shipped_cards as _shipped_cards
from neurosim_ep.crossbar.cost_table import CostTable

_FOLDER = "neurosim_ep.crossbar.cards"

Side = Annotated[int, Field(ge=1, le=65_536)]
Bits = Annotated[int, Field(ge=2, le=24)]


class Layout(CardTable):
    """Size of one array and how signed weights sit on it.

    Attributes:
        rows: word lines of one array.
        columns: bit lines of one array that carry weights; an offset column comes on top.
        mapping: ``differential_pair`` puts each weight on two devices in two arrays, whose column
            currents are subtracted before the converter; ``offset_column`` puts it on one device
            and subtracts the current of a reference column at mid-window.
        pair_baseline: where a differential pair's devices are programmed: ``bottom`` leaves the one
            that the sign does not need at g_min; ``middle`` puts both about mid-window, from where
            pulses can move them either way.
        scale: one weight per siemens for the whole ``layer``, or one per ``column``.
        scale_quantile: quantile of the absolute weights that reaches the end of the window; what is
            beyond is clipped.  1 clips nothing when the weights are first mapped.
        scale_headroom: the window's end stands for this many times that quantile: room for weights
            that grow while learning.
    """

    rows: Side
    columns: Side
    mapping: Literal["differential_pair", "offset_column"] = "differential_pair"
    pair_baseline: Literal["bottom", "middle"] = "bottom"
    scale: Literal["layer", "column"] = "layer"
    scale_quantile: Annotated[float, Field(gt=0, le=1)] = 1.0
    scale_headroom: Annotated[float, Field(ge=1)] = 1.0


class Wires(CardTable):
    """Resistances between the drivers, the devices and the sense amplifiers.

    The driver's resistance stands at the driven end and the sense amplifier's at the sensed end, in
    either direction: the transposed read uses the transpose of the forward read's matrix exactly
    when both are equal (reciprocity).

    Attributes:
        word_line_ohm, bit_line_ohm: of one segment, between neighbouring devices.
        driver_ohm, sense_ohm: at the ends of the lines.
        refresh_interval_programmings: solve the nodal equations at every n-th programming, and at
            every n-th update by pulses; between, each device keeps the share of its conductance
            that it had at the last solution, also while time passes in a training.
    """

    word_line_ohm: NonNegative = 0.0
    bit_line_ohm: NonNegative = 0.0
    driver_ohm: NonNegative = 0.0
    sense_ohm: NonNegative = 0.0
    refresh_interval_programmings: Annotated[int, Field(ge=1)] = 1


class Drive(CardTable):
    """The drivers.

    Attributes:
        read_voltage_volt: voltage at the driven line's full-scale input.
    """

    read_voltage_volt: Positive


class Converters(CardTable):
    """DAC at the driven side and ADC at the sensed side of every array, for one kind of read.

    Attributes:
        dac_bits: resolution of the driven value; absent is ideal.
        dac_range: ``known`` takes the bound of the driven layer's activation where it has one and
            the calibrated range elsewhere; ``calibrated`` always takes data; ``ideal`` the largest
            value of each read; ``fixed`` takes ``dac_range_state``.
        dac_range_state: full scale in units of the state.
        adc_bits: resolution of the sensed current; absent is ideal.
        adc_range: ``ideal`` takes the largest current of each read and array, ``calibrated`` the
            array's quantile on data, ``fixed`` takes ``adc_range_ampere``.
        adc_range_ampere: full scale, either sign.
        adc_noise_ampere: root mean square of the noise added before conversion.
        calibration_quantile: quantile of the absolute values on data that full scale takes in.
    """

    dac_bits: Bits | None = None
    dac_range: Literal["known", "calibrated", "ideal", "fixed"] = "known"
    dac_range_state: Positive | None = None
    adc_bits: Bits | None = None
    adc_range: Literal["ideal", "calibrated", "fixed"] = "calibrated"
    adc_range_ampere: Positive | None = None
    adc_noise_ampere: NonNegative = 0.0
    calibration_quantile: Annotated[float, Field(gt=0, le=1)] = 0.9995

    @model_validator(mode="after")
    def _fixed_ranges_have_a_value(self) -> "Converters":
        for field, kind, value in (
            ("dac_range_state", self.dac_range, self.dac_range_state),
            ("adc_range_ampere", self.adc_range, self.adc_range_ampere),
        ):
            name = field.rsplit("_", 1)[0]
            if (kind == "fixed") != (value is not None):
                allowed = f"a number where {name} is fixed, and absent elsewhere"
                raise ValueError(problem(field, value, allowed))
        return self


class Compensation(CardTable):
    """Digital correction of the mean drift.

    Attributes:
        global_drift: after every step in time, scale each edge's currents so that the sum of all
            column currents at equal inputs is what it was when programmed (Joshi et al. 2020).
        reads: how many reads the estimate of that sum is averaged over.
    """

    global_drift: bool = False
    reads: Annotated[int, Field(ge=1)] = 1


class ArrayCard(Card):
    """Everything around the devices; absent tables are ideal.

    Without a delta table, delta reads go through the converters of the full reads, with their
    ranges: there is no second range then.
    """

    layout: Layout
    wires: Wires | None = None
    drive: Drive
    forward: Converters | None = None
    transposed: Converters | None = None
    forward_delta: Converters | None = None
    transposed_delta: Converters | None = None
    compensation: Compensation | None = None
    cost: CostTable | None = None

    @model_validator(mode="after")
    def _delta_converters_come_second(self) -> "ArrayCard":
        for name in ("forward", "transposed"):
            if getattr(self, f"{name}_delta") is not None and getattr(self, name) is None:
                raise ValueError(problem(f"{name}_delta", {}, f"absent without [{name}]"))
        return self

    def converters(self, direction: str, delta: bool) -> Converters | None:
        """Converters of a ``forward`` or ``transposed`` read, full or delta; None if ideal."""
        second: Converters | None = getattr(self, f"{direction}_delta") if delta else None
        first: Converters | None = getattr(self, direction)
        return second or first


def load_array_card(name_or_path: str | Path) -> ArrayCard:
    """A shipped array card by name, or the card of a TOML file.

    Raises:
        CardError: one line per problem.
    """
    return load_card(ArrayCard, _FOLDER, name_or_path, "array card")


def shipped_array_cards() -> dict[str, ArrayCard]:
    """All shipped array cards by name."""
    return _shipped_cards(ArrayCard, _FOLDER)
