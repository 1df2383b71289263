"""The fresh process in which memory is measured: a recipe comes in, a line of JSON goes out."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import torch

from neurosim_ep.config import Recipe, recipe_from_mapping
from neurosim_ep.data import spec_for
from neurosim_ep.experiments.build import build_method, build_optimiser, device_of

STEPS = 2
_STATUS = Path("/proc/self/status")


def main() -> None:
    """Measure the recipe on the standard input."""
    recipe = recipe_from_mapping(tomllib.loads(sys.stdin.read()))
    print(json.dumps(probe(recipe)))


def probe(recipe: Recipe) -> dict[str, float | None]:
    """Train two batches of random images, and say the largest memory in MiB.

    The second batch comes when the optimiser and the carried states have taken their places.

    Raises:
        ValueError: if a CPU's memory is asked for where the system does not tell it.
    """
    device = device_of(recipe)
    on_gpu = device.type == "cuda"
    bare = None if on_gpu else _resident_mib("VmRSS")
    if recipe.run.threads is not None:
        torch.set_num_threads(recipe.run.threads)
    _train(recipe, device)
    if on_gpu:
        torch.cuda.synchronize(device)
        return {
            # Of this process alone, and since its start.
            "peak_mib": torch.cuda.max_memory_allocated(device) / 2**20,
            "reserved_mib": torch.cuda.max_memory_reserved(device) / 2**20,
            "bare_mib": None,
        }
    return {"peak_mib": _resident_mib("VmHWM"), "reserved_mib": None, "bare_mib": bare}


def _train(recipe: Recipe, device: torch.device) -> None:
    method = build_method(recipe, device)
    optimiser = build_optimiser(method.model, recipe.learning)
    parameters = list(method.model.parameters())
    spec, count = spec_for(recipe.data.name), recipe.learning.batch_size
    size = recipe.data.image_size or spec.image_size
    generator = torch.Generator().manual_seed(recipe.seed)
    for _ in range(STEPS):
        images = torch.rand(count, spec.channels, size, size, generator=generator)
        labels = torch.randint(spec.classes, (count,), generator=generator)
        images = images.to(device, parameters[0].dtype) - 0.5
        method.step(images, labels.to(device), generator)
        if recipe.learning.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, recipe.learning.clip_norm)
        optimiser.step()


def _resident_mib(field: str) -> float:
    """A line of the process's status; getrusage would count the parent's memory before exec."""
    if not _STATUS.exists():
        raise ValueError(f"{_STATUS}: not there; a CPU's memory is measured on Linux only")
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
    return int(lines[field].split()[0]) / 2**10
