"""The constants of the cost model, a table of the array card; see `neurosim_ep.crossbar.cost`."""

from typing import Annotated

from pydantic import Field

from neurosim_ep.cards import CardTable, NonNegative, Positive

Count = Annotated[int, Field(ge=1)]


class CostTable(CardTable):
    """What one read, one conversion, one digital operation, one pulse and one device cost.

    The equations are in ``docs/cost-model.md``; b is the resolution of a converter on this card.

    Attributes:
        read_time_s: how long the driven lines stay at their voltage in a read.
        dac_energy_per_level_joule: a conversion costs 2^b times this.
        dac_area_per_level_square_metre: a DAC takes 2^b times this.
        adc_energy_per_bit_joule, adc_energy_per_level_joule: a conversion costs b times the first
            (comparator, logic) plus 2^b times the second (capacitors).
        adc_time_per_bit_s: a conversion takes b times this.
        adc_area_per_bit_square_metre, adc_area_per_level_square_metre: likewise.
        lines_per_adc: neighbouring lines of a tile that one ADC serves, one after another.
        parallel_copies: how many times a convolution's weights are there, so that as many output
            positions are read at once; every copy has to be written.
        neuron_time_s: from the last conversion of a layer to its new state at the DACs.
        add_energy_joule, multiply_energy_joule: of one digital addition (or comparison), one
            multiplication.
        state_bytes: of one unit's state or current in memory.
        sram_energy_per_byte_joule: of one access to the memory beside the arrays.
        digital_operations_per_s: multiply-adds of the digital part, for gradients formed there.
        pulse_voltage_volt, pulse_time_s: of an in-place update pulse; a device of which only one
            line is pulsed sees half the voltage.
        write_voltage_volt, write_time_s: of one attempt of write-verify.
        device_area_square_metre: of one crossing with its selector.
        dram_energy_per_byte_joule: of the memory that a digital machine fetches weights from.
    """

    read_time_s: Positive
    dac_energy_per_level_joule: NonNegative
    dac_area_per_level_square_metre: NonNegative
    adc_energy_per_bit_joule: NonNegative
    adc_energy_per_level_joule: NonNegative
    adc_time_per_bit_s: NonNegative
    adc_area_per_bit_square_metre: NonNegative
    adc_area_per_level_square_metre: NonNegative
    lines_per_adc: Count
    parallel_copies: Count = 1
    neuron_time_s: NonNegative
    add_energy_joule: NonNegative
    multiply_energy_joule: NonNegative
    state_bytes: Positive
    sram_energy_per_byte_joule: NonNegative
    digital_operations_per_s: Positive
    pulse_voltage_volt: Positive
    pulse_time_s: Positive
    write_voltage_volt: Positive
    write_time_s: Positive
    device_area_square_metre: Positive
    dram_energy_per_byte_joule: NonNegative

    def dac_energy_joule(self, bits: int | None) -> float:
        """One conversion; an ideal DAC is not priced."""
        return 0.0 if bits is None else self.dac_energy_per_level_joule * 2.0**bits

    def dac_area_square_metre(self, bits: int | None) -> float:
        """One DAC; an ideal one is not priced."""
        return 0.0 if bits is None else self.dac_area_per_level_square_metre * 2.0**bits

    def adc_energy_joule(self, bits: int | None) -> float:
        """One conversion; an ideal ADC is not priced."""
        if bits is None:
            return 0.0
        return self.adc_energy_per_bit_joule * bits + self.adc_energy_per_level_joule * 2.0**bits

    def adc_area_square_metre(self, bits: int | None) -> float:
        """One ADC; an ideal one is not priced."""
        if bits is None:
            return 0.0
        per_bit, per_level = (
            self.adc_area_per_bit_square_metre,
            self.adc_area_per_level_square_metre,
        )
        return per_bit * bits + per_level * 2.0**bits

    def adc_time_s(self, bits: int | None) -> float:
        """One conversion; an ideal ADC takes no time."""
        return 0.0 if bits is None else self.adc_time_per_bit_s * bits
