"""How many arrays a network takes: against mapped networks, the cost model and a count by hand."""

import pytest

from neurosim_ep.crossbar import edge_tiles, load_array_card, map_to_crossbar, tile_lines
from neurosim_ep.crossbar.cost import read_cost
from neurosim_ep.models import hopfield_resnet13, mlp, vgg5

NETWORKS = {
    "mlp": lambda: mlp((1, 8, 8), 10, (33,)),
    "vgg5": lambda: vgg5(1, 10, (4, 6, 8, 8), image_size=16),
    "resnet13": lambda: hopfield_resnet13(3, 10, (4, 6, 8, 8), image_size=16),
    "identity": lambda: hopfield_resnet13(3, 10, (4, 6, 8, 8), image_size=16, skip="identity"),
}


def card(rows, columns, mapping):
    default = load_array_card("default")
    layout = default.layout.model_copy(
        update={"rows": rows, "columns": columns, "mapping": mapping}
    )
    return default.model_copy(update={"layout": layout, "wires": None})


@pytest.mark.parametrize("mapping", ["differential_pair", "offset_column"])
@pytest.mark.parametrize("name", NETWORKS)
def test_counts_are_those_of_the_mapped_network(name, mapping):
    array = card(32, 5, mapping)
    network = NETWORKS[name]()
    chip = map_to_crossbar(network, "ideal", array)
    tiles = edge_tiles(network, array)
    assert tiles == edge_tiles(chip, array)
    assert sum(each.arrays for each in tiles) == chip.report.arrays
    assert sum(each.devices for each in tiles) == chip.report.devices
    used = sum(each.devices for each in tiles) / sum(each.crossings for each in tiles)
    assert used == pytest.approx(chip.report.utilisation_fraction, rel=1e-12)
    assert [each.arrays for each in tiles] == [each.matrix.arrays for each in chip.storages]
    for each, storage in zip(tiles, chip.storages, strict=True):
        assert each.reads_per_image == read_cost(storage, "forward").array_reads


def test_the_papers_network_by_hand():
    # 28 input channels of nine rows fit on 256 rows: 128, 256 and 512 channels take 5, 10 and 19.
    tiles = {
        each.where: each for each in edge_tiles(hopfield_resnet13(), load_array_card("default"))
    }
    assert {where: (each.row_tiles, each.column_tiles) for where, each in tiles.items()} == {
        "0 -> 1": (1, 1),
        "0 -> 2": (1, 1),
        "1 -> 2": (5, 1),
        "2 -> 3": (5, 1),
        "2 -> 4": (1, 1),
        "3 -> 4": (10, 1),
        "4 -> 5": (10, 2),
        "4 -> 6": (1, 2),
        "5 -> 6": (19, 2),
        "6 -> 7": (19, 2),
        "6 -> 8": (2, 2),
        "7 -> 8": (19, 2),
        "8 -> 9": (8, 1),
    }
    first = tiles["0 -> 1"]
    assert (first.kind, first.rows, first.columns) == ("convolution 3x3", 27, 128)
    assert first.utilisation_fraction == pytest.approx(27 * 128 / 256**2)
    assert first.reads_per_image == 32 * 32
    assert tiles["1 -> 2"].kind == "convolution 3x3, stride 2"
    assert sum(each.devices for each in tiles.values()) == 2 * 9_740_032


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match=r"layout\.rows: 8 is not allowed; must be at least 9"):
        edge_tiles(hopfield_resnet13(), card(8, 8, "differential_pair"))


def test_the_table_has_a_line_per_edge_and_the_sum():
    tiles = edge_tiles(NETWORKS["vgg5"](), card(32, 5, "differential_pair"))
    lines = tile_lines(tiles)
    assert len(lines) == 1 + len(tiles) + 1
    assert "convolution 3x3, pooled" in lines[1]
    assert lines[-2].startswith("4 -> 5   dense")
    assert lines[-1].startswith(f"all: {sum(each.arrays for each in tiles)} arrays, ")
