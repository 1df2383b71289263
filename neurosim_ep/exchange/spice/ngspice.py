"""Starting ngspice on a netlist, and what it prints."""

import math
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor

from neurosim_ep.exchange.spice.array_netlist import SENSE

_PRINTED = re.compile(r"^([^\s\[]+)(?:\[\w+\])? = (\S+)$")
_FAILURE = re.compile(r"error|aborted|fatal|singular|not available", re.IGNORECASE)


def ngspice_problem() -> str | None:
    """Why ngspice cannot be started, in one line; None if it can."""
    if shutil.which("ngspice") is None:
        return "ngspice: not found; must be installed and on PATH (Debian's package ngspice)"
    return None


def run_ngspice(netlist: str, *, timeout_s: float = 120.0) -> dict[str, Tensor]:
    """Run a netlist in batch mode.

    Args:
        netlist: that prints what is asked for, such as `array_netlist`'s.
        timeout_s: after which ngspice is ended.

    Returns:
        What was printed, by name (``i(vsense3)``): the values in the order of printing, float64.

    Raises:
        ValueError: one line, if ngspice is not installed, takes too long or reports an error.
    """
    if (missing := ngspice_problem()) is not None:
        raise ValueError(missing)
    with tempfile.TemporaryDirectory(prefix="neurosim-ep-") as folder:
        (Path(folder) / "netlist.cir").write_text(netlist)
        try:
            # -n: a user's start file could change tolerances and formats.
            done = subprocess.run(
                ["ngspice", "-n", "-b", "netlist.cir"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                # Apart: progress on stderr would be written into the middle of printed lines.
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"ngspice: no result after {timeout_s:g} s; was ended") from None
    return _printed(done.stdout, done.stderr, done.returncode)


def sensed_currents(printed: dict[str, Tensor]) -> Tensor:
    """Currents of an array's sensed lines in ampere (reads, lines), of what `run_ngspice` returns.

    Raises:
        ValueError: one line, if the netlist was not an array's.
    """
    lines = 0
    while f"i({SENSE}{lines})" in printed:
        lines += 1
    if lines == 0:
        raise ValueError(f"netlist: no i({SENSE}0) is not allowed; must print sensed currents")
    return torch.stack([printed[f"i({SENSE}{line})"] for line in range(lines)], dim=1)


def _printed(output: str, errors: str, return_code: int) -> dict[str, Tensor]:
    found: dict[str, list[float]] = defaultdict(list)
    for line in (errors + "\n" + output).splitlines():
        match = _PRINTED.match(line.strip())
        if match is None:
            if _FAILURE.search(line) and not line.startswith("Circuit: "):  # the title
                raise ValueError(f"ngspice: {line.strip()}")
            continue
        value = _float(match[2])
        if not math.isfinite(value):
            raise ValueError(f"ngspice: {match[1]} is {match[2]}; must be a finite number")
        found[match[1]].append(value)
    if return_code != 0 or not found:
        last = (output.strip().splitlines() or ["no output"])[-1].strip()
        raise ValueError(f"ngspice: exit code {return_code}, nothing to read; said last: {last}")
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in found.items()}


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
