"""Weights to and from aihwkit's layers: the layers then compute what the edges read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neurosim_ep.crossbar import load_array_card, map_to_crossbar
from neurosim_ep.exchange import (
    aihwkit_layers,
    aihwkit_problem,
    map_to_aihwkit,
    put_aihwkit_weights,
    take_aihwkit_weights,
)
from neurosim_ep.models import HopfieldNetwork, WeightStorage, hopfield_resnet13, mlp, vgg5

REASON = aihwkit_problem()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")

NETWORKS: dict[str, Callable[[], HopfieldNetwork]] = {
    "mlp": lambda: mlp((1, 4, 4), 3, (5,)),
    "vgg5": lambda: vgg5(1, 4, (3, 2, 3, 2)),
    "resnet": lambda: hopfield_resnet13(in_channels=3, num_outputs=4, widths=(2, 3, 3, 2)),
}


def perfect(kind: str = "SingleRPUConfig", **mapping: object) -> Any:
    from aihwkit.simulator import configs

    config = getattr(configs, kind)()
    if kind == "SingleRPUConfig":
        # Bounds and write noise of no device are in the way.
        config.device = configs.ConstantStepDevice(
            w_max=2.0, w_min=-2.0, w_max_dtod=0.0, w_min_dtod=0.0
        )
        config.backward.is_perfect = True
    config.forward.is_perfect = True
    for name, value in mapping.items():
        assert hasattr(config.mapping, name)
        setattr(config.mapping, name, value)
    return config


SCALINGS: list[dict[str, object]] = [
    {},
    {"weight_scaling_omega": 0.6},
    {"weight_scaling_omega": 0.6, "weight_scaling_columnwise": True},
    {"learn_out_scaling": True, "out_scaling_columnwise": True},
    {"weight_scaling_omega": 0.4, "learn_out_scaling": True},
    {"max_input_size": 7, "max_output_size": 2, "weight_scaling_omega": 0.5},
]


def emptied(network: HopfieldNetwork) -> HopfieldNetwork:
    """Initial weights come from one seed: zeros tell what was taken from what was there."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return network


def weighted(network: HopfieldNetwork) -> list[Any]:
    return [e for e in network.edge_list() if isinstance(e.storage, WeightStorage)]


def outputs(network: HopfieldNetwork, layers: nn.ModuleList) -> list[tuple[Tensor, Tensor]]:
    """For every edge, what its layer computes and what it reads, from the same states."""
    found = []
    for edge, layer in zip(weighted(network), layers, strict=True):
        pre = torch.rand(3, *edge.geometry.pre_shape, generator=torch.Generator().manual_seed(7))
        driven = pre if hasattr(layer, "kernel_size") else pre.flatten(1)
        computed = layer(driven).detach().view(3, *edge.geometry.linear_shape)
        found.append((computed, edge.storage.forward_read(pre).detach()))
    return found


@pytest.mark.parametrize("scaling", SCALINGS, ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_layers_compute_what_edges_read_and_give_the_weights_back(
    name: str, scaling: dict[str, object]
) -> None:
    network = NETWORKS[name]()
    layers = aihwkit_layers(network, perfect(**scaling))
    for computed, read in outputs(network, layers):
        assert float(read.abs().max()) > 0.05
        torch.testing.assert_close(computed, read, rtol=1e-5, atol=1e-5)
    other = emptied(NETWORKS[name]())
    take_aihwkit_weights(other, layers)
    for mine, theirs in zip(other.weights, network.weights, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_scales_that_aihwkit_learned_are_part_of_a_weight() -> None:
    network = NETWORKS["vgg5"]()
    config = perfect(learn_out_scaling=True, out_scaling_columnwise=True)
    layers = aihwkit_layers(network, config)
    for layer in layers:
        for tile in layer.analog_tiles():
            tile.set_learned_out_scales(torch.linspace(0.5, 2.0, tile.out_size))
    other = emptied(NETWORKS["vgg5"]())
    take_aihwkit_weights(other, layers)
    for computed, read in outputs(other, layers):
        torch.testing.assert_close(computed, read, rtol=1e-5, atol=1e-5)
    # Writing takes them into account too: they are 1 again, not in the way.
    assert max(put_aihwkit_weights(network, layers)) < 1e-6
    for computed, read in outputs(network, layers):
        torch.testing.assert_close(computed, read, rtol=1e-5, atol=1e-5)


def test_inference_layers_hold_weights_too() -> None:
    network = NETWORKS["vgg5"]()
    layers = aihwkit_layers(network, perfect("InferenceRPUConfig", weight_scaling_omega=1.0))
    for computed, read in outputs(network, layers):
        torch.testing.assert_close(computed, read, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mapping", ["differential_pair", "offset_column"])
@pytest.mark.parametrize("scale", ["layer", "column"])
@pytest.mark.parametrize("tiles", [{}, {"max_input_size": 7, "max_output_size": 2}], ids=str)
def test_a_chips_window_becomes_a_tiles_weight_of_one(
    mapping: str, scale: str, tiles: dict[str, object]
) -> None:
    array = load_array_card("ideal")
    layout = array.layout.model_copy(update={"mapping": mapping, "scale": scale})
    array = array.model_copy(update={"layout": layout})
    chip = map_to_crossbar(NETWORKS["vgg5"](), "reram-array-om", array, seed=4)
    layers = aihwkit_layers(chip, perfect(**tiles), scale="window")
    for storage, layer in zip(chip.storages, layers, strict=True):
        window = storage.matrix.devices.card.window
        g = storage.matrix.devices.conductance
        if mapping == "differential_pair":
            expected = (g[0] - g[1]) / window.range_siemens
        else:
            columns, at = storage.matrix.tiling.columns, storage.matrix.tiling.tile_columns
            reference = g[0][:, columns:].repeat_interleave(at, 1)[:, :columns]
            expected = (g[0][:, :columns] - reference) / (0.5 * window.range_siemens)
        unscaled = layer.get_weights(apply_weight_scaling=False)[0].flatten(1)
        torch.testing.assert_close(unscaled, expected.T, rtol=1e-5, atol=1e-6)
    # Drift and errors are in the weights; the reads' own noise is not.
    other = emptied(NETWORKS["vgg5"]())
    take_aihwkit_weights(other, layers)
    for mine, storage in zip(other.weights, chip.storages, strict=True):
        effective = storage.effective_weight()
        torch.testing.assert_close(mine.detach(), effective, rtol=1e-5, atol=1e-6)


def test_weights_go_into_any_model_and_bounds_clip_what_is_beyond() -> None:
    from aihwkit.nn import AnalogConv2d, AnalogLinear, AnalogSequential
    from aihwkit.simulator.configs import ConstantStepDevice, SingleRPUConfig

    network = vgg5(1, 4, (3, 2, 3, 2))
    shapes = [e.geometry for e in weighted(network)]
    config = perfect()

    def layer(geometry: Any, config: Any) -> nn.Module:
        if hasattr(geometry, "kernel"):
            channels, columns = geometry.pre_shape[0], geometry.linear_shape[0]
            sizes = (geometry.kernel, geometry.stride, geometry.padding)
            return AnalogConv2d(channels, columns, *sizes, bias=True, rpu_config=config)
        columns = geometry.linear_shape[0]
        return AnalogLinear(geometry.fan_in, columns, bias=True, rpu_config=config)

    for container in (nn.Sequential, AnalogSequential):
        model = container(*(m for g in shapes for m in (layer(g, config), nn.ReLU())))
        analog = [m for m in model if hasattr(m, "analog_module")]
        biases = [m.get_weights()[1].clone() for m in analog]
        assert max(put_aihwkit_weights(network, model)) == 0.0
        for one, bias in zip(analog, biases, strict=True):
            assert torch.equal(one.get_weights()[1], bias)
        other = emptied(vgg5(1, 4, (3, 2, 3, 2)))
        take_aihwkit_weights(other, model)
        for mine, theirs in zip(other.weights, network.weights, strict=True):
            assert torch.equal(mine, theirs)
        for edge, bias in zip(weighted(other), biases, strict=True):
            assert torch.equal(other.biases[edge.post - 1].detach(), bias)
        # Tiles say less of themselves, but hold the same.
        take_aihwkit_weights(other, [one.analog_module for one in analog])
    narrow = SingleRPUConfig(device=ConstantStepDevice(w_max_dtod=0.0, w_min_dtod=0.0))
    model = nn.Sequential(*(layer(g, narrow) for g in shapes))
    with torch.no_grad():
        network.weights[2].mul_(2.0 / network.weights[2].abs().max())
    # 0.6 is aihwkit's own bound.
    assert max(put_aihwkit_weights(network, model)) == pytest.approx(0.7, abs=1e-3)


@pytest.mark.parametrize("scale", ["layer", "window"])
def test_mapped_convolutions_and_analog_biases(scale: Any) -> None:
    from aihwkit.nn import AnalogConv2dMapped, AnalogLinear

    chip = map_to_crossbar(vgg5(1, 4, (3, 2, 3, 2)), "ideal", "ideal")
    config = perfect(max_input_size=18, max_output_size=2, digital_bias=False)
    layers: list[Any] = list(aihwkit_layers(chip, config, scale=scale))
    second = chip.edge_list()[1].geometry
    assert second.pre_shape[0] == 3
    sizes = (second.kernel, second.stride, second.padding)  # type: ignore[attr-defined]
    layers[1] = AnalogConv2dMapped(3, 2, *sizes, bias=False, rpu_config=config)
    assert layers[1].analog_tile_count() > 1
    whole = perfect(digital_bias=False, max_input_size=0, max_output_size=0)
    layers[4] = AnalogLinear(layers[4].in_features, 4, bias=True, rpu_config=whole)
    assert layers[4].analog_module.analog_bias
    bias = layers[4].get_weights()[1].clone()
    assert max(put_aihwkit_weights(chip, layers, scale=scale)) < 1e-6
    torch.testing.assert_close(layers[4].get_weights()[1], bias)
    for place, (computed, read) in enumerate(outputs(chip, nn.ModuleList(layers))):
        computed = computed - bias if place == 4 else computed
        torch.testing.assert_close(computed, read, rtol=1e-5, atol=1e-5)


def test_networks_on_arrays_are_programmed() -> None:
    source = mlp((1, 4, 4), 3, (5,))
    layers = aihwkit_layers(source, perfect())
    for hosted in (
        map_to_crossbar(emptied(mlp((1, 4, 4), 3, (5,))), "ideal", "ideal", bias_rows=True),
        map_to_aihwkit(emptied(mlp((1, 4, 4), 3, (5,))), perfect()),
    ):
        take_aihwkit_weights(hosted, layers)
        pre = torch.rand(2, 1, 4, 4)
        read = hosted.edge_list()[0].storage.forward_read(pre)
        expected = source.edge_list()[0].storage.forward_read(pre)
        torch.testing.assert_close(read, expected, rtol=1e-5, atol=1e-5)


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    aihwkit_layers(mlp((1, 2, 2), 3, (5,)), perfect())
    assert torch.equal(torch.rand(2), expected)


def refusals() -> dict[str, tuple[Callable[[HopfieldNetwork, list[Any]], object], str]]:
    from aihwkit.nn import AnalogConv2d, AnalogLinear

    def other_step(network: HopfieldNetwork, layers: list[Any]) -> None:
        first = AnalogConv2d(1, 3, 3, stride=2, padding=1, bias=False, rpu_config=perfect())
        take_aihwkit_weights(network, [first, *layers[1:]])

    def with_bias(network: HopfieldNetwork, layers: list[Any]) -> None:
        last = AnalogLinear(layers[-1].in_features, 4, bias=True, rpu_config=perfect())
        tile = last.analog_module
        tile.bias.data = torch.full((4,), float("inf"))
        take_aihwkit_weights(network, [*layers[:-1], last])

    def infinite(network: HopfieldNetwork, layers: list[Any]) -> None:
        with torch.no_grad():
            network.weights[1].fill_(float("nan"))
        put_aihwkit_weights(network, layers)

    return {
        "fewer": (
            lambda n, ls: take_aihwkit_weights(n, ls[:-1]),
            "model: 4 analog layers is not allowed; must be 5 analog layers, one for each edge "
            "with weights",
        ),
        "order": (
            lambda n, ls: put_aihwkit_weights(n, ls[::-1]),
            r"layers\[0\]: weight: \[4, .*\] is not allowed; must be \[3, 9\], the \(out, in\) of "
            r"edge 0, PooledConvolution",
        ),
        "no layer": (
            lambda n, ls: take_aihwkit_weights(n, [*ls[:-1], nn.Linear(2, 4)]),
            r"layers\[4\]: Linear is not allowed; must be a layer or tile of aihwkit",
        ),
        "step": (other_step, r"layers\[0\]: kernel_size \(3, 3\), stride \(2, 2\), .*; must be"),
        "bias": (with_bias, r"layers\[4\]: bias: NaN or infinity is not allowed; must be finite"),
        "infinite": (infinite, "edge 1: NaN or infinity is not allowed; must be finite"),
        "window": (
            lambda n, ls: put_aihwkit_weights(n, ls, scale="window"),
            "scale: window is not allowed; must be layer, where the network is not on arrays",
        ),
        "scale": (
            lambda n, ls: put_aihwkit_weights(n, ls, scale="tile"),  # type: ignore[arg-type]
            "scale: tile is not allowed; must be layer or window",
        ),
    }


CASES = ["fewer", "order", "no layer", "step", "bias", "infinite", "window", "scale"]


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_refused_in_one_line_and_nothing_changes(case: str) -> None:
    change, message = refusals()[case]
    network = NETWORKS["vgg5"]()
    layers = list(aihwkit_layers(NETWORKS["vgg5"](), perfect()))
    before = [weight.detach().clone() for weight in network.weights]
    held = [layer.get_weights()[0].clone() for layer in layers]
    with pytest.raises(ValueError, match=message) as caught:
        change(network, layers)
    assert "\n" not in str(caught.value)
    if case != "infinite":
        assert all(torch.equal(a, b) for a, b in zip(network.weights, before, strict=True))
    assert all(torch.equal(x.get_weights()[0], y) for x, y in zip(layers, held, strict=True))
