"""Largest memory of one training, each in a fresh process (section IV-C)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.table import Table

from neurosim_ep.config import Recipe, dump_recipe
from neurosim_ep.experiments.build import device_of
from neurosim_ep.experiments.reproduce.paper import MEMORY_MIB
from neurosim_ep.experiments.reproduce.plans import SCALE_NOTES, Planned
from neurosim_ep.experiments.reproduce.tables import DASH, NOT_COMPARABLE
from neurosim_ep.experiments.reproduce.targets import TITLES

BATCH_SIZE = 128
CPU_ITERATIONS = 2
"""Iterations of each phase on a CPU, where the paper's would take a quarter of an hour."""
_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; "
    "from neurosim_ep.experiments.reproduce.memory_probe import main; main()"
)


@dataclass(frozen=True)
class Memory:
    """Memory of one way of learning; None where it could not be measured.

    Attributes:
        row: what the row is.
        learned_by: ``ep`` or ``bp``.
        device: name of the GPU, or "CPU".
        peak_mib: largest memory: allocated by PyTorch on a GPU, resident set of the whole process
            on a CPU.
        reserved_mib: what PyTorch took from a GPU, beside no context; None on a CPU.
        bare_mib: resident set before the network was built; None on a GPU.
        message: why it was not measured.
    """

    row: str
    learned_by: str
    device: str
    peak_mib: float | None
    reserved_mib: float | None
    bare_mib: float | None
    message: str

    @property
    def paper_mib(self) -> float:
        """The paper's."""
        return MEMORY_MIB[self.learned_by]


def measured_recipe(recipe: Recipe) -> Recipe:
    """What is measured of a recipe: on a CPU fewer iterations, which hold no more at a time."""
    if device_of(recipe).type != "cpu":
        return recipe
    fewer = {"free_iterations": CPU_ITERATIONS, "nudged_iterations": CPU_ITERATIONS}
    settling = recipe.settling.model_copy(update={**fewer, "tolerance": None})
    return recipe.model_copy(update={"settling": settling})


def measure_memory(planned: Planned) -> Memory:
    """Train two batches of a row in a fresh process, and take the largest memory."""
    recipe = measured_recipe(planned.recipes[0])
    device = device_of(recipe)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    about = (planned.entry.key, planned.entry.learned_by, name)
    done = subprocess.run(
        # With -P the present folder does not hide modules; the path is that of this process.
        [sys.executable, "-P", "-c", _PROGRAM.format(path=sys.path)],
        input=dump_recipe(recipe),
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Memory(*about, None, None, None, f"exit code {done.returncode}: {last}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return Memory(*about, found["peak_mib"], found["reserved_mib"], found["bare_mib"], "")


def memory_table(found: Sequence[Memory], scale: str, schedule: str) -> Table:
    """The paper's memory beside ours."""
    told = f", schedule {schedule}" + ("" if scale == "full" else f", scale {scale}")
    table = Table(title=TITLES["memory"] + told)
    table.add_column("row", min_width=max(len(one.row) for one in found))
    headings = [
        "paper (MiB)",
        "ours (MiB)",
        "difference",
        "reserved",
        "bare process",
        "measured on",
    ]
    for heading in headings:
        table.add_column(heading, justify="right")
    for one in found:
        table.add_row(
            one.row,
            _mib(one.paper_mib),
            _mib(one.peak_mib),
            difference(one, scale),
            _mib(one.reserved_mib),
            _mib(one.bare_mib),
            one.device,
        )
    return table


def difference(one: Memory, scale: str) -> str:
    """Ours less the paper's, where both are of a GPU and of the same network."""
    if one.peak_mib is None:
        return DASH
    if scale != "full" or one.reserved_mib is None:
        return NOT_COMPARABLE
    return f"{one.peak_mib - one.paper_mib:+,.0f}"


def memory_notes(found: Sequence[Memory], scale: str, overrides: Sequence[str]) -> list[str]:
    """What a reader of the table must know, one line each."""
    notes = []
    if scale != "full":
        notes.append(f"NOT comparable with the paper: {SCALE_NOTES[scale]}")
    if overrides:
        notes.append(f"changed by --set: {', '.join(overrides)}; not the paper's settings")
    if any(one.device == "CPU" for one in found):
        notes.append(
            "CPU: largest resident set of a fresh process, code and libraries included (bare "
            f"process: before the network is built), with {CPU_ITERATIONS} + 2 x {CPU_ITERATIONS} "
            "iterations; NOT comparable with the paper's GPU memory"
        )
    if any(one.device != "CPU" for one in found):
        notes.append(
            "GPU: torch.cuda.max_memory_allocated of two training steps in a fresh process; "
            "reserved: what PyTorch held, without CUDA's context. The paper does not say how it did"
        )
    notes.append("images of the data set, which stay on the device while training, are not counted")
    notes += [f"not measured: {one.row}: {one.message}" for one in found if one.message]
    return notes


def plain(one: Memory) -> dict[str, Any]:
    """For the record."""
    return asdict(one) | {"paper_mib": one.paper_mib, "batch_size": BATCH_SIZE}


def _mib(value: float | None) -> str:
    return DASH if value is None else f"{value:,.0f}"
