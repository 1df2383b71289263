"""What each table and figure trains, and what is refused before anything trains."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from neurosim_ep.config import load_recipe
from neurosim_ep.experiments.build import build_network
from neurosim_ep.experiments.reproduce.paper import MEMORY_MIB
from neurosim_ep.experiments.reproduce.plans import Planned, plan
from neurosim_ep.experiments.reproduce.targets import entries_of, selected

# arXiv 2509.26003, Tables I and II: data set, network, prior best, ours, backpropagation.
PAPER = [
    ("cifar10", "vgg5", 90.3, 92.84, 92.11),
    ("cifar10", "hopfield-resnet13", None, 93.92, 93.78),
    ("cifar100", "vgg5", 68.4, 70.78, 72.54),
    ("cifar100", "hopfield-resnet13", None, 71.05, 75.12),
    ("fashion-mnist", "vgg5", 93.53, 94.34, None),
    ("fashion-mnist", "hopfield-resnet13", None, 94.15, None),
]
HERE = Path("runs")


def by_key(target: str, **settings: object) -> dict[str, Planned]:
    return {row.entry.key: row for row in plan(target, HERE, **settings)}  # type: ignore[arg-type]


def test_table1_holds_the_papers_numbers_with_the_counterparts_beside_them() -> None:
    rows = [(e.key, e.prior_best_percent, e.paper_percent) for e in entries_of("table1")]
    expected = []
    for dataset, network, prior, ep, bp in PAPER:
        expected += [(f"{dataset}/{network}/ep", prior, ep), (f"{dataset}/{network}/bp", None, bp)]
    assert rows == expected


def test_table2_holds_both_ways_where_the_paper_has_both() -> None:
    rows = {e.key: e.paper_percent for e in entries_of("table2")}
    expected = {}
    for dataset, network, _, ep, bp in PAPER[:4]:
        expected |= {f"{dataset}/{network}/bp": bp, f"{dataset}/{network}/ep": ep}
    assert rows == expected


def test_memory_is_of_the_deep_network_on_cifar10() -> None:
    assert MEMORY_MIB == {"ep": 1612.0, "bp": 1324.0}
    assert {e.recipe for e in entries_of("memory")} == {
        "hopfield-resnet13-cifar10",
        "hopfield-resnet13-cifar10-bp",
    }


@pytest.mark.parametrize("target", ["table1", "table2", "fig4"])
def test_faithful_rows_train_the_shipped_recipes_unchanged(target: str) -> None:
    for row in plan(target, HERE):
        assert row.recipes == (load_recipe(row.entry.recipe),)


def test_the_fast_schedule_settles_by_tolerance_in_fewer_epochs() -> None:
    rows = by_key("table1", schedule="fast")
    for dataset, network, *_ in PAPER:
        ep = rows[f"{dataset}/{network}/ep"].recipes[0]
        bp = rows[f"{dataset}/{network}/bp"].recipes[0]
        slow = load_recipe(f"{network}-{dataset}")
        assert ep.name == f"{network}-{dataset}-fast"
        assert ep.settling.order == "coloured"
        assert ep.settling.tolerance is not None
        # A fifth of the epochs, and less than half of the iterations even where none is saved.
        assert 5 * ep.learning.epochs <= slow.learning.epochs
        assert ep.settling.nudged_iterations < slow.settling.nudged_iterations
        assert (ep.network, ep.data) == (slow.network, slow.data)
        assert bp.learning.epochs == ep.learning.epochs


def test_figure2_leaves_out_the_skip_edges_and_nothing_else() -> None:
    rows = by_key("fig2")
    skip = rows["cifar10/hopfield-resnet13/ep/skip"].recipes[0]
    without = rows["cifar10/hopfield-resnet13/ep/no-skip"].recipes[0]
    edges = {(edge.pre, edge.post) for edge in build_network(without).edge_list()}
    assert edges == {(n, n + 1) for n in range(9)}
    small = {"widths": (2, 2, 2, 2)}
    one, other = (
        build_network(r.model_copy(update={"network": r.network.model_copy(update=small)}))
        for r in (skip, without)
    )
    # Main edges are drawn as widely: within the bound of the same gain.
    main = [edge for edge in one.edge_list() if edge.post == edge.pre + 1]
    for there, here in zip(main, other.edge_list(), strict=True):
        assert there.geometry.weight_shape == here.geometry.weight_shape
    changed = {"skip": skip.network.skip, "gains": skip.network.gains}
    again = without.model_copy(
        update={"network": without.network.model_copy(update=changed), "name": skip.name}
    )
    assert again == skip


def test_figure3_varies_bound_and_augmentation_of_both_networks() -> None:
    rows = [row.recipes[0] for row in plan("fig3", HERE)]
    varied = [(r.network.model, r.network.alpha, r.data.randaugment_operations) for r in rows]
    assert sorted(varied, key=str) == sorted(
        (
            (model, alpha, operations)
            for model in ("vgg5", "hopfield_resnet13")
            for alpha in (1.0, 6.0, "random")
            for operations in (0, 3)
        ),
        key=str,
    )
    assert len({row.folders[0] for row in plan("fig3", HERE)}) == 12


def test_targets_share_the_runs_of_the_same_training() -> None:
    table = by_key("table1", seeds=2)["cifar10/hopfield-resnet13/ep"]
    for target, key in (
        ("fig2", "cifar10/hopfield-resnet13/ep/skip"),
        ("fig3", "cifar10/hopfield-resnet13/ep/relu6/randaugment"),
        ("fig4", "cifar10/hopfield-resnet13/ep"),
        ("table2", "cifar10/hopfield-resnet13/ep"),
    ):
        row = by_key(target, seeds=2)[key]
        assert (row.folders, row.recipes) == (table.folders, table.recipes)
    assert [recipe.seed for recipe in table.recipes] == [0, 1]


def test_only_takes_rows_that_hold_all_words_of_a_choice() -> None:
    rows = entries_of("table1")
    chosen = [e.key for e in selected(rows, ["cifar10/bp", "vgg5/fashion-mnist/ep"])]
    assert chosen == ["cifar10/vgg5/bp", "cifar10/hopfield-resnet13/bp", "fashion-mnist/vgg5/ep"]
    assert selected(rows, []) == rows


WRONG = [
    (("table3",), r'target: "table3" .*one of table1, table2'),
    (("table1", "--only", "imagenet"), r'only: "imagenet" .*cifar10'),
    (("table1", "--only", "cifar10/cifar100"), r'only: "cifar10/cifar100"'),
    (("table1", "--budget", "-1"), r"budget: -1.0 .*at least 0"),
    (("table1", "--budget", "nan"), r"budget: nan "),
    (("table1", "--seeds", "0"), r"seeds: 0 .*at least 1"),
    (("table1", "--scale", "huge"), r'scale: "huge" .*full, small, tiny'),
    (("table1", "--schedule", "slow"), r'schedule: "slow" .*faithful, fast'),
    (("fig2", "--scale", "tiny", "--set", "speed=3"), r"speed: unknown field"),
    (("fig2", "--scale", "tiny", "--set", "epochs=0"), r"learning\.epochs: 0"),
    (("fig3", "--scale", "tiny", "--set", "alpha=3"), r"network\.alpha: 3.0 .*left alone"),
    (("table1", "--set", "data.name=mnist"), r"data\.name: .*left alone"),
    (("table1", "--data-dir", "nowhere"), "nowhere"),
    (("fig2", "--scale", "tiny", "--set", "device=cuda:99"), r"run\.device.*cuda:99"),
    (("fig2", "--scale", "tiny", "--out", "file"), r'out: "file" .*a folder'),
    (("memory", "--budget", "5"), r"budget: 5.0 .*memory"),
    (("memory", "--seeds", "2"), r"seeds: 2 .*memory"),
]


@pytest.mark.parametrize(("arguments", "line"), WRONG)
def test_wrong_input_is_one_line_before_anything_trains(
    invoke, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    (tmp_path / "file").write_text("mine")
    done = invoke("reproduce", *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    (only,) = done.stderr.splitlines()
    assert re.search(line, only), only
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"
