"""Convolutional chips, and learning, go on after loading as they would have without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep import data, learning, onchip
from neurosim_ep.crossbar import CrossbarNetwork, load_array_card, map_to_crossbar
from neurosim_ep.exchange.hdf5 import load, save
from neurosim_ep.models import HopfieldNetwork, hopfield_resnet13, mlp, vgg5

Future = Callable[[CrossbarNetwork], list[Tensor]]
Lived = Callable[[CrossbarNetwork], CrossbarNetwork]


@pytest.mark.parametrize(
    "network",
    [
        lambda: vgg5(1, 3, (3, 2, 3, 2), image_size=16, alpha="random"),
        lambda: hopfield_resnet13(1, 3, (2, 3, 2, 3), image_size=16, skip="identity"),
        lambda: hopfield_resnet13(1, 3, (2, 3, 2, 3), image_size=16, activation="sigmoid"),
    ],
    ids=["pooled convolutions", "identity skips", "1x1 convolutions"],
)
def test_convolutional_networks(
    network: Callable[[], HopfieldNetwork], lived: Lived, future: Future, tmp_path: Path
) -> None:
    card = load_array_card("default-compensated")
    card = card.model_copy(update={"wires": None})
    chip = lived(map_to_crossbar(network(), "li-ecram", card, seed=2))
    save(chip, tmp_path / "chip.h5")
    loaded = load(tmp_path / "chip.h5")
    for found, wanted in zip(future(loaded), future(chip), strict=True):
        assert torch.equal(found, wanted)
    for mine, theirs in zip(chip.layers, loaded.layers, strict=True):
        assert (mine.shape, repr(mine.activation)) == (theirs.shape, repr(theirs.activation))
    pairs = zip(chip.edge_list(), loaded.edge_list(), strict=True)
    assert all(repr(a) == repr(b) and (a.pre, a.post) == (b.pre, b.post) for a, b in pairs)


def digits() -> data.Dataset:
    whole = data.load("digits")
    return replace(whole, train=whole.train.first(24), test=whole.test.first(8))


@pytest.mark.parametrize(
    ("device", "rule"),
    [
        ("li-ecram", lambda: onchip.Pulsed("difference")),
        ("pcm", onchip.MixedPrecision),
        ("hfo2-reram", lambda: onchip.TikiTaka("agad")),
    ],
)
def test_learning_goes_on_alike(
    device: str, rule: Callable[[], onchip.Rule], tmp_path: Path
) -> None:
    def learn(chip: CrossbarNetwork, seed: int) -> Any:
        phases = learning.Phases(free_iterations=4, nudged_iterations=3)
        options: dict[str, Any] = {"phases": phases, "epochs": 1, "batch_size": 8, "seed": seed}
        return onchip.train(chip, digits(), rule=rule(), learning_rate=0.3, **options)

    card = load_array_card("default").model_copy(update={"wires": None})
    layout = {"pair_baseline": "bottom" if device == "pcm" else "middle", "scale_headroom": 4.0}
    card = card.model_copy(update={"layout": card.layout.model_copy(update=layout)})
    chip = map_to_crossbar(mlp((1, 8, 8), 10, (6,)), device, card, seed=1)
    learn(chip, 0)
    chip.advance_time(60.0)
    save(chip, tmp_path / "chip.h5")
    loaded = load(tmp_path / "chip.h5")
    mine, theirs = learn(chip, 1), learn(loaded, 1)
    for name, value in chip.state_dict().items():
        assert torch.equal(value.nan_to_num(), loaded.state_dict()[name].nan_to_num()), name
    assert [replace(r, seconds=0.0) for r in mine] == [replace(r, seconds=0.0) for r in theirs]
