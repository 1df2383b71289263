"""Golden files: agreement with the handed-out ones, and what is said of wrong and damaged ones.

The files made here are made by this program: they test the reading and the comparing.  Agreement
with another code is tested where ../shared/golden is there.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from neurosim_ep.experiments.golden.reader import GoldenReader
from neurosim_ep.experiments.golden.validate import Case, _case, _comparisons, validate
from neurosim_ep.models import hopfield_resnet13, vgg5

HANDED_OUT = sorted((Path(__file__).parents[3] / "shared" / "golden").glob("*.h5"))
KINDS = {
    "states": "free/t002/state/01",
    "energy": "free/t003/energy",
    "cost": "free/cost",
    "nudged states": "nudged_minus/state/03",
    "gradient": "gradient/weight/02",
    "clipped gradient": "gradient_clipped/bias/01",
    "optimiser steps": "after_step2/weight/00",
}
Make = Callable[..., Path]


@pytest.mark.parametrize("path", HANDED_OUT or [None], ids=lambda p: p.stem if p else "none here")
def test_handed_out_files_agree(path: Path | None) -> None:
    if path is None:
        pytest.skip("../shared/golden is not there")
    errors = validate(path)
    assert errors.keys() == KINDS.keys()
    assert max(errors.values()) < 1e-9


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a golden file of a narrow network with this program's own results."""

    def write(model: str = "vgg5", name: str = "golden.h5", **changes: object) -> Path:
        attributes: dict[str, object] = {
            "model": model,
            "widths": np.array([2, 2, 3, 2]),
            "in_channels": 1,
            "num_outputs": 4,
            "activation": "relu6",
            "beta": 0.2,
            "cost": "MSE",
            "variant": "centered",
            "order": "asynchronous",
            "free_iterations": 3,
            "nudged_iterations": 2,
        } | changes
        draw = np.random.default_rng(0)
        path = tmp_path / name
        build = {"vgg5": vgg5, "hopfield_resnet13": hopfield_resnet13}[model]
        network = build(1, 4, (2, 2, 3, 2))
        biases, free = len(network.biases), len(network.layers)
        with h5py.File(path, "w") as file:
            file.attrs.update(attributes)
            file["input"] = draw.standard_normal((2, 1, 32, 32))
            file["label"] = np.array([1, 3])
            for number, parameter in enumerate(network.parameters()):
                kind, place = ("bias", number) if number < biases else ("weight", number - biases)
                file[f"{kind}/{place:02d}"] = parameter.detach().double().numpy()
                for group in ("gradient", "gradient_clipped", "after_step1", "after_step2"):
                    file[f"{group}/{kind}/{place:02d}"] = np.zeros(tuple(parameter.shape))
            groups = [f"free/t{t:03d}" for t in (1, 2, 3)] + ["nudged_plus", "nudged_minus"]
            for group, layer in itertools.product(groups, range(1, free)):
                file[f"{group}/state/{layer:02d}"] = np.zeros((2, *network.layers[layer].shape))
            for group in groups[:3]:
                file[f"{group}/energy"] = np.zeros(2)
            file["free/cost"], file["free/error"] = np.zeros(2), np.zeros(2, bool)
        _fill(path)
        return path

    return write


def _fill(path: Path) -> None:
    """Replace every zero array by this program's result, in the order of the comparisons."""
    results: list[np.ndarray] = []
    names: list[str] = []

    class Recorder(GoldenReader):
        def array(self, name, shape=None, kind="f"):  # type: ignore[no-untyped-def]
            names.append(name)
            return super().array(name, shape, kind)

    with Recorder(path) as reader:
        case: Case = _case(reader)
        names.clear()
        for _, mine, _ in _comparisons(case, reader):
            results.append(mine.detach().numpy().copy())
    with h5py.File(path, "r+") as file:
        for name, result in zip(names, results, strict=True):
            file[name][...] = result.astype(file[name].dtype)


@pytest.mark.parametrize("model", ["vgg5", "hopfield_resnet13"])
@pytest.mark.parametrize(
    ("cost", "variant", "order", "activation"),
    [
        ("MSE", "centered", "asynchronous", "relu6"),
        ("CE", "positive", "synchronous", "hard-sigmoid"),
        ("MSE", "negative", "forward", "hard-sigmoid"),
        ("CE", "negative", "backward", "relu6"),
    ],
)
def test_every_kind_of_case_is_handled(
    make: Make, model: str, cost: str, variant: str, order: str, activation: str
) -> None:
    path = make(model, cost=cost, variant=variant, order=order, activation=activation)
    assert max(validate(path).values()) < 1e-12


@pytest.mark.parametrize(("kind", "name"), KINDS.items())
def test_a_small_error_is_found_where_it_is(make: Make, kind: str, name: str) -> None:
    path = make()
    with h5py.File(path, "r+") as file:
        values = file[name][...]
        values.flat[0] += 1e-6 * np.linalg.norm(values)
        file[name][...] = values
    errors = validate(path)
    assert errors.pop(kind) == pytest.approx(1e-6, rel=1e-3)
    assert max(errors.values()) < 1e-12


def test_a_wrong_answer_flag_is_found(make: Make) -> None:
    path = make()
    with h5py.File(path, "r+") as file:
        file["free/error"][...] = ~file["free/error"][...]
    assert validate(path)["cost"] >= 1.0


def test_exit_codes(make: Make, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from neurosim_ep.cli import app

    good, bad, foreign = make(), make(name="bad.h5"), tmp_path / "foreign.h5"
    with h5py.File(bad, "r+") as file:
        file["free/cost"][...] *= 1 + 1e-6
    foreign.write_text("not HDF5")
    invoke = CliRunner().invoke
    assert invoke(app, ["validate", str(good)]).exit_code == 0
    assert invoke(app, ["validate", str(good), str(bad)]).exit_code == 1
    assert invoke(app, ["validate", str(bad), "--tolerance", "1e-5"]).exit_code == 0
    assert invoke(app, ["validate", str(good), str(foreign)]).exit_code == 2
    assert invoke(app, ["validate", str(good), "--tolerance", "0"]).exit_code == 2


def _delete(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(name)


def _replace(name: str, values: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    return change


def _attribute(name: str, value: object) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


def _huge(file: h5py.File) -> None:
    """A claim of many terabytes that takes no space in the file."""
    del file["input"]
    file.create_dataset("input", (10**8, 1, 32, 32), chunks=(1, 1, 32, 32), dtype="f8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_delete("weight/01"), "weight/01 is missing"),
        (_delete("free"), "free is missing"),
        (_delete("nudged_plus"), "nudged_plus/state/01 is missing"),
        (_replace("weight/01", np.zeros((2, 2, 3))), "weight/01 has shape (2, 2, 3)"),
        (_replace("weight/01", np.full((2, 2, 3, 3), np.nan)), "weight/01 holds values"),
        (_replace("weight/01", "text"), "weight/01 has type"),
        (_replace("label", np.array([0, 4])), "label is out of range"),
        (_replace("label", np.array([0.5, 1.0])), "label has type"),
        (_replace("free/t001/state/01", np.zeros(3)), "free/t001/state/01 has shape (3,)"),
        (_replace("input", np.zeros((2, 3, 32, 32))), "input has shape (2, 3, 32, 32)"),
        (_huge, "input has shape (100000000, 1, 32, 32)"),
        (_attribute("model", "resnet50"), "attribute model: 'resnet50'"),
        (_attribute("order", 3), "attribute order: 3"),
        (_attribute("beta", np.nan), "attribute beta: nan"),
        (_attribute("beta", -0.1), "attribute beta: -0.1"),
        (_attribute("widths", np.array([2, 2, 3])), "attribute widths"),
        (_attribute("widths", np.array([2, 2, 3, 10**9])), "attribute widths"),
        (_attribute("free_iterations", 10**9), "attribute free_iterations: 1000000000"),
        (_attribute("nudged_iterations", 0.5), "attribute nudged_iterations: 0.5"),
        (lambda file: file.attrs.__delitem__("cost"), "attribute cost is missing"),
    ],
)
def test_wrong_content_is_refused_in_one_line(
    make: Make, change: Callable[[h5py.File], None], said: str
) -> None:
    path = make()
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ValueError, match=r"golden\.h5: ") as caught:
        validate(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mutated_files_give_a_report_or_one_line(make: Make, tmp_path: Path) -> None:
    whole, draw = make().read_bytes(), random.Random(0)
    refused = 0
    for number in range(60):
        damaged = bytearray(whole)
        if number % 3 == 0:
            damaged = damaged[: draw.randrange(len(whole))]
        else:
            for _ in range(draw.randrange(1, 20)):
                # Metadata lies everywhere, densest at the front.
                place = draw.randrange(4096 if number % 3 == 1 else len(damaged))
                damaged[place] = draw.randrange(256)
        path = tmp_path / f"damaged-{number}.h5"
        path.write_bytes(damaged)
        try:
            said = sorted(validate(path))
        except ValueError as error:
            said, refused = str(error).splitlines(), refused + 1
        assert len(said) == 1 or said == sorted(KINDS)
    assert refused >= 20


def test_reading_leaves_the_default_dtype_alone(make: Make) -> None:
    validate(make())
    assert torch.get_default_dtype() == torch.float32
