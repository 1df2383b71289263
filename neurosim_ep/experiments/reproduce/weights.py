"""How the trained weights of each layer are distributed (Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from neurosim_ep.experiments.evaluating import load_run
from neurosim_ep.experiments.run_folder import RunFolder
from neurosim_ep.models import Edge

NEAR_ZERO = 0.01
"""Absolute weight below which a weight counts as near zero."""
_QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)


@dataclass(frozen=True)
class LayerWeights:
    """Weights of one edge.

    Attributes:
        edge: its number in parameter order, from 1.
        name: layers and kernel.
        skip: whether it is a skip edge.
        count: of weights.
        deviation: standard deviation.
        near_zero_fraction: of weights below `NEAR_ZERO`.
        quantiles: 1, 25, 50, 75 and 99 %.
    """

    edge: int
    name: str
    skip: bool
    count: int
    deviation: float
    near_zero_fraction: float
    quantiles: tuple[float, ...]


def layer_weights(folder: Path) -> list[LayerWeights]:
    """The weights of a run's best epoch by validation; empty before the first epoch's end.

    Raises:
        ValueError: if the run's files are damaged.
    """
    if not RunFolder(folder).best.exists():
        return []
    _, method = load_run(folder)
    edges: Any = method.model.edges
    return [
        _layer(number, edge)
        for number, edge in enumerate((e for e in edges if list(e.storage.parameters())), 1)
    ]


def _layer(number: int, edge: Edge) -> LayerWeights:
    weight = torch.cat([p.detach().reshape(-1).double().cpu() for p in edge.storage.parameters()])
    kernel = getattr(edge.geometry, "kernel", None)
    # In exact order: torch.quantile takes no more than 16 million values.
    ordered = weight.sort().values
    places = [round(share * (len(ordered) - 1)) for share in _QUANTILES]
    return LayerWeights(
        number,
        f"{edge.pre} to {edge.post}, " + ("dense" if kernel is None else f"{kernel}x{kernel}"),
        edge.post - edge.pre > 1,
        len(weight),
        float(weight.std()),
        float((weight.abs() < NEAR_ZERO).double().mean()),
        tuple(float(ordered[place]) for place in places),
    )


def weights_table(bp: Sequence[LayerWeights], ep: Sequence[LayerWeights], title: str) -> Table:
    """Spread and share near zero by layer, both ways of learning side by side."""
    table = Table(title=title)
    table.add_column("edge")
    near = f"|w| < {NEAR_ZERO:g}"
    for heading in ("deviation BP", "deviation EP", f"{near} BP", f"{near} EP"):
        table.add_column(heading, justify="right")
    by_bp, by_ep = ({layer.edge: layer for layer in layers} for layers in (bp, ep))
    for layer in bp or ep:
        both = (by_bp.get(layer.edge), by_ep.get(layer.edge))
        table.add_row(
            f"{layer.edge}: {layer.name}" + (" (skip)" if layer.skip else ""),
            *("-" if one is None else f"{one.deviation:.4f}" for one in both),
            *("-" if one is None else f"{100 * one.near_zero_fraction:.1f} %" for one in both),
        )
    return table


def plain(layers: Sequence[LayerWeights]) -> list[dict[str, Any]]:
    """For the record."""
    return [asdict(layer) for layer in layers]
