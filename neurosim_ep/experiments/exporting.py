"""Trained chips to files of other programs: a run is mapped, or has a chip of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from neurosim_ep._toml_text import problem
from neurosim_ep.config import Recipe
from neurosim_ep.crossbar import CrossbarNetwork, load_array_card
from neurosim_ep.devices import load_device_card
from neurosim_ep.exchange import csv_tiles, hdf5, neurosim_csv, numpy_arrays, spice
from neurosim_ep.experiments.evaluating import load_run
from neurosim_ep.experiments.hardware.mapped import load_trained
from neurosim_ep.experiments.hardware.options import time_seconds
from neurosim_ep.experiments.images import load_images
from neurosim_ep.experiments.run_folder import RunFolder
from neurosim_ep.seeds import MAX_SEED

MAX_NETLIST_DEVICES = 2_000_000
"""Each is a line in two netlists, of about a hundred bytes."""

Write = Callable[[CrossbarNetwork, Path, Recipe], None]


@dataclass(frozen=True)
class Format:
    """A kind of file or folder that a chip is written to.

    Attributes:
        write: what writes it.
        suffix: of the file; empty for a folder.
    """

    write: Write
    suffix: str = ""


FORMATS: Mapping[str, Format] = {
    "hdf5": Format(hdf5.save, ".h5"),
    "numpy": Format(lambda chip, out, _: numpy_arrays.save(chip, out), ".npz"),
    "csv": Format(lambda chip, out, _: csv_tiles.save(chip, out)),
    "neurosim": Format(lambda chip, out, _: neurosim_csv.save(chip, out)),
    "spice": Format(lambda chip, out, _: _netlists(chip, out)),
}
"""What a chip can be exported to, by name."""


def export_run(
    folder: Path,
    out: Path,
    *,
    format_name: str | None = None,
    device: str | None = None,
    array: str | None = None,
    seed: int | None = None,
    advance: str = "0",
    weights: str = "best",
    data_dir: Path | None = None,
) -> CrossbarNetwork:
    """Write a run's chip into a file.

    The network of an exact run is put on the cards' hardware, and its converters are calibrated on
    training images; a run on a chip has a chip, and takes no cards.

    Args:
        folder: of a run by equilibrium propagation with at least one finished epoch.
        out: a path that is free.
        format_name: of `FORMATS`; None where the suffix of ``out`` says it.
        device, array: names or paths of cards; the array card ``default`` where None.
        seed: of the hardware; 0 where None.
        advance: time that passes before the chip is written, such as ``1d``.
        weights: ``best`` (by validation) or ``last``.
        data_dir: folder with the data sets; see `neurosim_ep.data.load`.

    Returns:
        The chip, as it was written.

    Raises:
        ValueError: in one line, if an argument is not allowed, the path is taken, or the run, its
            weights or the data are missing or damaged; nothing is written then.
    """
    write = _writer(out, format_name)
    if out.exists():
        raise ValueError(f"{out}: there is a file or a folder already; choose another path")
    advance_s = time_seconds("advance", advance)
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise ValueError(problem("seed", seed, f"from 0 to {MAX_SEED}"))
    recipe = RunFolder(folder).load_recipe()
    if recipe.on_chip is None:
        chip = _mapped(folder, recipe, device, array, seed or 0, weights, data_dir)
    else:
        for name, value in (("device", device), ("array", array), ("seed", seed)):
            if value is not None:
                raise ValueError(f"{name}: {value} is not allowed; {folder} has a chip of its own")
        _, method = load_run(folder, weights=weights)
        assert isinstance(method.model, CrossbarNetwork)
        chip = method.model
    if advance_s:
        # Wires that are kept for several writes would be solved, even if no time passed.
        chip.advance_time(advance_s)
    out.parent.mkdir(parents=True, exist_ok=True)
    write(chip, out, recipe)
    return chip


def _mapped(
    folder: Path,
    recipe: Recipe,
    device: str | None,
    array: str | None,
    seed: int,
    weights: str,
    data_dir: Path | None,
) -> CrossbarNetwork:
    """The network of an exact run on hardware, calibrated."""
    if device is None:
        raise ValueError(problem("device", None, "a device card for a run that has no chip"))
    cards = load_device_card(device), load_array_card(array or "default")
    if recipe.learning.algorithm != "equilibrium_propagation":
        allowed = "'equilibrium_propagation' for a network on hardware"
        raise ValueError(problem("learning.algorithm", recipe.learning.algorithm, allowed))
    trained = load_trained(folder, load_images(recipe, data_dir), weights=weights)
    return trained.chip(*cards, seed=seed)


def _writer(out: Path, name: str | None) -> Write:
    if name is None:
        by_suffix = {kind.suffix: kind for kind in FORMATS.values() if kind.suffix}
        if out.suffix not in by_suffix:
            folders = ", ".join(name for name, kind in FORMATS.items() if not kind.suffix)
            allowed = f"{' or '.join(by_suffix)}, or a folder with the format {folders}"
            raise ValueError(problem("OUT: suffix", out.suffix, allowed))
        return by_suffix[out.suffix].write
    if name not in FORMATS:
        raise ValueError(problem("format", name, f"one of {', '.join(FORMATS)}"))
    kind = FORMATS[name]
    if kind.suffix and out.suffix != kind.suffix:
        raise ValueError(problem("OUT: suffix", out.suffix, f"{kind.suffix} with {name}"))
    return kind.write


def _netlists(chip: CrossbarNetwork, out: Path) -> None:
    if (devices := chip.report.devices) > MAX_NETLIST_DEVICES:
        allowed = f"at most {MAX_NETLIST_DEVICES} with spice; spice.save takes a single matrix"
        raise ValueError(problem("devices", devices, allowed))
    spice.save(chip, out)
