"""One table of results in two forms, read back with pyarrow."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neurosim_ep.config import Recipe
from neurosim_ep.experiments import sweep
from neurosim_ep.experiments.run import Result
from neurosim_ep.experiments.sweeps.cells import CellResult
from neurosim_ep.experiments.sweeps.table import varied_column, write_results

Small = Callable[..., Recipe]


def cell(seed: int, values: dict[str, str], *, done: bool) -> CellResult:
    result = Result(3, 95.5, 96.25, 2, 97.0, 12.5) if done else None
    numbers = {"updates": 7, "cost.training_image.energy_joule": 1.5e-9} if done else {}
    status = "finished" if done else "failed"
    message = "" if done else 'not "finite", at all'
    return CellResult(values, seed, seed + 5, Path(), status, message, result, numbers)


def test_both_forms_hold_the_same_typed_table(tmp_path: Path) -> None:
    cells = [
        cell(0, {"array.adc_bits": "4", "device": "pcm"}, done=False),
        cell(1, {"array.adc_bits": "none", "device": "my,card.toml"}, done=True),
    ]
    write_results(tmp_path, cells)
    table = pq.read_table(tmp_path / "results.parquet")
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert table.column_names == list(rows[0])
    assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
        "array.adc_bits": "int64", "device": "string", "seed": "int64", "device_seed": "int64",
        "status": "string", "last_percent": "double", "best_by_validation_percent": "double",
        "best_epoch": "int64", "best_by_test_percent": "double", "epochs": "int64",
        "seconds": "double", "updates": "double", "cost.training_image.energy_joule": "double",
        "message": "string",
    }  # fmt: skip
    assert table.to_pylist() == [
        {
            "array.adc_bits": 4, "device": "pcm", "seed": 0, "device_seed": 5, "status": "failed",
            "last_percent": None, "best_by_validation_percent": None, "best_epoch": None,
            "best_by_test_percent": None, "epochs": None, "seconds": None, "updates": None,
            "cost.training_image.energy_joule": None, "message": 'not "finite", at all',
        },
        {
            "array.adc_bits": None, "device": "my,card.toml", "seed": 1, "device_seed": 6,
            "status": "finished", "last_percent": 95.5, "best_by_validation_percent": 96.25,
            "best_epoch": 2, "best_by_test_percent": 97.0, "epochs": 3, "seconds": 12.5,
            "updates": 7.0, "cost.training_image.energy_joule": 1.5e-9, "message": None,
        },
    ]  # fmt: skip
    for typed, told in zip(table.to_pylist(), rows, strict=True):
        for name, value in typed.items():
            if isinstance(value, float | int):
                assert float(told[name]) == value
            elif value is not None:
                assert told[name] == value
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "results.parquet"]


@pytest.mark.parametrize(
    ("texts", "kind", "values"),
    [
        (["1", "2"], pa.int64(), [1, 2]),
        (["1", "0.5"], pa.float64(), [1.0, 0.5]),
        (["1e30", "none"], pa.float64(), [1e30, None]),
        (["true", "false"], pa.bool_(), [True, False]),
        (["true", "1"], pa.string(), ["true", "1"]),
        (["none", "none"], pa.string(), ["none", "none"]),
        (["none", "pulsed"], pa.string(), ["none", "pulsed"]),
        (["[8]", "[8, 8]"], pa.string(), ["[8]", "[8, 8]"]),
        ([str(10**30), "1"], pa.string(), [str(10**30), "1"]),
    ],
)
def test_varied_values_get_the_narrowest_type(
    texts: list[str], kind: pa.DataType, values: list[object]
) -> None:
    column = varied_column(texts)
    assert column.type == kind
    assert column.to_pylist() == values


@pytest.mark.usefixtures("pictures")
def test_a_sweep_writes_it(small: Small, tmp_path: Path) -> None:
    done = sweep(small("epochs=1"), ["beta=0.1,0.3"], 2, tmp_path)
    table = pq.read_table(tmp_path / "results.parquet").to_pydict()
    assert table["learning.beta"] == [0.1, 0.1, 0.3, 0.3]
    assert table["seed"] == [0, 1, 0, 1]
    assert table["last_percent"] == [cell.row["last_percent"] for cell in done.cells]
