"""Numbers as SPICE reads them, and lines that a person can read."""

from collections.abc import Iterable


def number(value: float) -> str:
    """A float with 17 significant digits, which read back as the same float."""
    return f"{value:.17g}"


def comment(*lines: str) -> list[str]:
    """Lines that SPICE passes over."""
    return [f"* {line}".rstrip() for line in lines]


def print_commands(vectors: Iterable[str], at_once: int = 8) -> list[str]:
    """Commands that print scalars, a few to a line of the netlist."""
    names = list(vectors)
    starts = range(0, len(names), at_once)
    return ["print " + " ".join(names[start : start + at_once]) for start in starts]


def control(commands: Iterable[str]) -> list[str]:
    """A control block: ngspice runs it in batch mode, prints all digits and ends."""
    return [".control", "set numdgt=17", *commands, "quit", ".endc", ".end"]
