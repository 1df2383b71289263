"""The command ``neurosim-ep export``."""

from pathlib import Path
from typing import Annotated

import typer

from neurosim_ep.cli.errors import one_line_errors


def export(
    run: Annotated[Path, typer.Argument(help="Run folder of `train`.")],
    out: Annotated[
        Path,
        typer.Argument(
            help="File or folder to write, which must not be there; the suffixes .h5 and .npz say "
            "the format."
        ),
    ],
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="hdf5 (everything, loads again), numpy (.npz), csv (a folder: conductances per "
            "tile), neurosim (a folder: weights as NeuroSim reads them), spice (a folder: a "
            "netlist per array and direction).",
            show_default="by the suffix",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="CARD",
            help="Device card (name or TOML file) of an exact run's hardware; a run on a chip has "
            "its own.",
        ),
    ] = None,
    array: Annotated[
        str | None,
        typer.Option(
            metavar="CARD",
            help="Array card (name or TOML file), likewise.",
            show_default="the card 'default'",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of the hardware: one seed is one chip.", show_default="0"),
    ] = None,
    advance: Annotated[
        str, typer.Option(metavar="TIME", help="Time that passes first: 90, 1h, 1d, 1y.")
    ] = "0",
    weights: Annotated[str, typer.Option(help="best (by validation) or last.")] = "best",
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder with one folder of Parquet files per data set; else $NEUROSIM_EP_DATA, "
            "else a download from the Hugging Face hub."
        ),
    ] = None,
) -> None:
    """Write a trained chip for other programs.

    An exact run is put on the hardware of the cards, its converters calibrated
    on training images; a run on a chip is written with the chip that it
    trained. A file in HDF5 holds everything (docs/hdf5-format.md): `evaluate`
    takes it, and exchange.hdf5.load in Python. The other formats hold what
    stands on the arrays (docs/arrays.md, docs/spice.md).
    """
    from neurosim_ep.experiments.exporting import export_run

    with one_line_errors():
        chip = export_run(
            run,
            out,
            format_name=format_,
            device=device,
            array=array,
            seed=seed,
            advance=advance,
            weights=weights,
            data_dir=data_dir,
        )
        report = chip.report
        print(
            f"{report.weights} weights and {report.biases} biases on {report.devices} devices "
            f"({chip.device_card.name}) in {report.arrays} arrays ({chip.array_card.name}), "
            f"{chip.elapsed_s:g} s after the last write: {out}"
        )
