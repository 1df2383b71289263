"""Recorded pulses: what was pulsed is in the file, killed or not, and other files are refused."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from neurosim_ep.crossbar import CrossbarNetwork, load_array_card, map_to_crossbar
from neurosim_ep.devices import load_device_card
from neurosim_ep.models import mlp, vgg5
from neurosim_ep.onchip import recording
from neurosim_ep.onchip.pulse_file import load_pulses
from neurosim_ep.onchip.recording import PulseRecorder

Change = Callable[[h5py.File], None]
BATCHES = 7  # per epoch, of the updates made here


def chip_of(
    device: str = "li-ecram", array: str = "ideal", seed: int = 5, bias_rows: bool = False
) -> CrossbarNetwork:
    network = mlp((1, 2, 3), 4, (5,)).double()
    return map_to_crossbar(network, device, array, seed=seed, bias_rows=bias_rows)


def counts_of(update: int, shape: tuple[int, ...], side: int) -> Tensor:
    generator = torch.Generator().manual_seed(1000 * update + side)
    return torch.poisson(torch.full(shape, 0.7), generator=generator)


def apply(recorder: PulseRecorder, updates: range) -> None:
    """Updates that depend on nothing but their number."""
    for update in updates:
        for place, shape in enumerate(((6, 5), (5, 4))):
            if (update + place) % 5:  # some have no pulses on an edge
                up, down = (counts_of(update, shape, 2 * place + side) for side in (0, 1))
                recorder.record(place, up, down)
        epoch, batch = divmod(update, BATCHES)
        recorder.end_update(epoch, batch, 0.5**epoch)


def content(path: Path) -> dict[str, object]:
    """Everything in a file, but for what HDF5 adds of its own."""
    found: dict[str, object] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        found.update({f"{name}@{key}": str(value) for key, value in item.attrs.items()})
        if isinstance(item, h5py.Dataset):
            found[name] = (item.shape, item.dtype, item[()].tobytes() if item.shape else item[()])

    with h5py.File(path, "r") as file:
        found.update({key: str(value) for key, value in file.attrs.items()})
        file.visititems(visit)
    return found


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A file of 10 updates."""
    path = tmp_path / "pulses.h5"
    with PulseRecorder(path, chip_of()) as recorder:
        apply(recorder, range(10))
    return path


# --- what a file holds -------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 3])
def test_every_nth_update_is_recorded(tmp_path: Path, every: int) -> None:
    path = tmp_path / "pulses.h5"
    with PulseRecorder(path, chip_of(), every=every) as recorder:
        apply(recorder, range(11))
        assert recorder.updates == 11
    pulses, numbers = load_pulses(path), list(range(0, 11, every))
    assert pulses.update.tolist() == numbers
    assert pulses.epoch.tolist() == [number // BATCHES for number in numbers]
    assert pulses.batch.tolist() == [number % BATCHES for number in numbers]
    rates = [[0.5 ** (number // BATCHES)] * 2 for number in numbers]
    assert pulses.learning_rate.tolist() == rates
    for place, (target, shape) in enumerate(zip(pulses.targets, ((6, 5), (5, 4)), strict=True)):
        assert target.name == f"edge {place}"
        for side, found in enumerate((target.up, target.down)):
            assert found.dtype == torch.int32
            for row, number in enumerate(numbers):
                wanted = counts_of(number, shape, 2 * place + side)
                if (number + place) % 5 == 0:
                    wanted = torch.zeros(shape)
                assert torch.equal(found[row], wanted.int())


def test_a_part_can_be_read(recorded: Path) -> None:
    whole, part = load_pulses(recorded), load_pulses(recorded, start=3, stop=7)
    assert part.update.tolist() == [3, 4, 5, 6]
    assert torch.equal(part.targets[1].down, whole.targets[1].down[3:7])
    assert torch.equal(part.learning_rate, whole.learning_rate[3:7])
    assert load_pulses(recorded, start=-2).update.tolist() == [8, 9]
    assert load_pulses(recorded, start=10).targets[0].up.shape == (0, 6, 5)


def test_all_pulses_of_one_update_are_added(tmp_path: Path) -> None:
    with PulseRecorder(tmp_path / "pulses.h5", chip_of()) as recorder:
        one, none = torch.ones(6, 5), torch.zeros(6, 5)
        recorder.record(0, one, none)
        recorder.record(0, 2 * one, one)
        recorder.end_update(0, 0, [0.1, 0.2])
        recorder.end_update(0, 1, 0.3)
    pulses = load_pulses(tmp_path / "pulses.h5")
    assert torch.equal(pulses.targets[0].up, torch.stack([3 * one, none]).int())
    assert torch.equal(pulses.targets[0].down, torch.stack([one, none]).int())
    assert pulses.learning_rate.tolist() == [[0.1, 0.2], [0.3, 0.3]]


def test_the_file_explains_itself(tmp_path: Path) -> None:
    path, chip = tmp_path / "pulses.h5", chip_of(array="default", bias_rows=True)
    PulseRecorder(path, chip).close()
    with h5py.File(path) as file:
        assert file.attrs["device_card"] == "li-ecram"
        assert file.attrs["array_card"] == "default"
        assert file.attrs["mapping"] == "differential_pair"
        assert (file.attrs["scale"], file.attrs["chip_seed"]) == ("layer", 5)
        assert file.attrs["version_torch"] == torch.__version__
        assert "edge 1: layer 1 to layer 2, Dense((5,), (4,))" in file["network"][()].decode()
        assert file["cards/device"][()].decode().startswith('name = "li-ecram"')
        assert list(file["pulses"]) == ["bias_1", "bias_2", "edge_0", "edge_1"]
        for name, item in file.items():
            if isinstance(item, h5py.Dataset) and item.shape:
                assert item.dims[0].label == "recorded update", name
        group = file["pulses/edge_0"]
        assert [group["up"].dims[axis].label for axis in range(3)] == [
            "recorded update",
            "row",
            "column",
        ]
        assert "up pulse on G+" in group.attrs["increment"]
        matrix = chip.storages[0].matrix
        assert group.attrs["device_seed"] == matrix.devices.seed
        np.testing.assert_array_equal(group["weight_step"], matrix.weight_step)
        np.testing.assert_array_equal(group["weight_per_siemens"], matrix.units)
    assert [target.name for target in load_pulses(path).targets] == [
        "edge 0",
        "edge 1",
        "bias 1",
        "bias 2",
    ]


def test_what_an_increment_is_follows_the_mapping_and_the_card(tmp_path: Path) -> None:
    offset = load_array_card("ideal")
    layout = offset.layout.model_copy(update={"mapping": "offset_column"})
    offset = offset.model_copy(update={"layout": layout})
    for number, (device, array, said) in enumerate(
        (
            ("li-ecram", "ideal", "up pulse on G+ and one down pulse on G-"),
            ("pcm", "ideal", "a decrement: one up pulse on G-"),
            ("li-ecram", offset, "pulse on the weight's device"),
        )
    ):
        chip = map_to_crossbar(mlp((1, 2, 3), 4, (5,)), device, array)
        path = tmp_path / f"{number}.h5"
        PulseRecorder(path, chip).close()
        assert said in str(load_pulses(path).targets[0].attributes["increment"])


def test_pulses_on_a_convolution_are_recorded_as_its_matrix(tmp_path: Path) -> None:
    chip = map_to_crossbar(vgg5(1, 4, (3, 2, 3, 2)), "li-ecram")
    path = tmp_path / "pulses.h5"
    up = torch.zeros(2, 3, 3, 3)
    up[1, 2, 0, 1] = 9.0
    with PulseRecorder(path, chip) as recorder:
        recorder.record(1, up, torch.zeros_like(up))
        recorder.end_update(0, 0, 0.1)
    found = load_pulses(path).targets[1].up[0]
    assert found.shape == (27, 2)
    assert int(found[2 * 9 + 0 * 3 + 1, 1]) == int(found.sum()) == 9


def test_the_callback_is_told_what_the_devices_get(tmp_path: Path) -> None:
    """Recorded increments and decrements add up to the devices' own counters."""
    chip, path = chip_of("symmetric-1000"), tmp_path / "pulses.h5"
    with PulseRecorder(path, chip) as recorder:
        for update in range(4):
            for place, storage in enumerate(chip.storages):
                up = counts_of(update, tuple(storage.weight.shape), place)
                storage.pulse(up, up.flip(0))
                recorder.record(place, up, up.flip(0))
            recorder.end_update(0, update, 0.1)
    for target, storage in zip(load_pulses(path).targets, chip.storages, strict=True):
        total = (target.up + target.down).sum(0)
        assert torch.equal(storage.matrix.devices.pulse_count, torch.stack([total, total]).long())


def test_counts_as_large_as_a_file_can_hold(tmp_path: Path) -> None:
    with PulseRecorder(tmp_path / "pulses.h5", chip_of()) as recorder:
        most = torch.full((5, 4), 65_535.0)
        recorder.record(1, most, torch.zeros_like(most))
        recorder.end_update(0, 0, 0.1)
    assert torch.equal(load_pulses(tmp_path / "pulses.h5").targets[1].up[0], most.int())


# --- killed and resumed ------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "kept"), [(1, 0), (1, 4), (1, 10), (3, 4), (3, 6), (3, 7)])
def test_resumed_files_are_as_if_never_stopped(tmp_path: Path, every: int, kept: int) -> None:
    """The checkpoint is older than the file: updates after it are made once more."""
    whole, stopped = tmp_path / "whole.h5", tmp_path / "stopped.h5"
    with PulseRecorder(whole, chip_of(), every=every) as recorder:
        apply(recorder, range(20))
    with PulseRecorder(stopped, chip_of(), every=every) as recorder:
        apply(recorder, range(10))
        recorder.record(0, torch.ones(6, 5), torch.ones(6, 5))  # of an update that never ended
    with PulseRecorder(stopped, chip_of(), every=every, updates=kept) as recorder:
        assert recorder.updates == kept
        apply(recorder, range(kept, 20))
    assert content(stopped) == content(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped.h5", "whole.h5"]


def test_killed_at_any_moment_the_file_is_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the file after each of the writer's steps is what a kill there leaves behind."""
    whole, chip = tmp_path / "whole.h5", chip_of()
    copies: list[Path] = []
    append = recording._append

    def watched(dataset: h5py.Dataset, value: object) -> None:
        append(dataset, value)
        copies.append(tmp_path / f"{len(copies)}.h5")
        shutil.copy(whole, copies[-1])

    monkeypatch.setattr(recording, "_append", watched)
    with PulseRecorder(whole, chip) as recorder:
        apply(recorder, range(2))
    monkeypatch.undo()
    steps, wanted, everything = len(copies) // 2, load_pulses(whole), content(whole)
    assert steps == 8  # two edges of two sides, and four numbers
    for number, copy in enumerate(copies, start=1):
        found = load_pulses(copy)
        assert found.update.tolist() == list(range(number // steps))
        for mine, theirs in zip(found.targets, wanted.targets, strict=True):
            assert torch.equal(mine.up, theirs.up[: number // steps])
        with PulseRecorder(copy, chip, updates=number // steps) as recorder:
            apply(recorder, range(number // steps, 2))
        assert content(copy) == everything


def test_a_growing_file_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "pulses.h5"
    with PulseRecorder(path, chip_of()) as recorder:
        for update in range(3):
            apply(recorder, range(update, update + 1))
            with h5py.File(path, "r", swmr=True) as file:
                assert file["update"][...].tolist() == list(range(update + 1))


def test_a_killed_process_leaves_a_file_to_go_on_with(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed.h5", tmp_path / "whole.h5"
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\nimport test_recording as t\n"
        f"t.apply(t.PulseRecorder(Path({str(killed)!r}), t.chip_of()), range(10**6))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 120.0
        while not killed.exists() or killed.stat().st_size < 65_000:
            assert process.poll() is None, "the process ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    done = len(load_pulses(killed).update)
    with PulseRecorder(killed, chip_of(), updates=max(done - 5, 0)) as recorder:
        apply(recorder, range(max(done - 5, 0), done + 5))
    with PulseRecorder(whole, chip_of()) as recorder:
        apply(recorder, range(done + 5))
    assert content(killed) == content(whole)


def test_a_run_without_a_checkpoint_yet_begins_again(tmp_path: Path) -> None:
    path = tmp_path / "pulses.h5"
    with PulseRecorder(path, chip_of(), updates=0) as recorder:  # there is no file yet
        apply(recorder, range(2))
    PulseRecorder(path, chip_of(), updates=0).close()
    assert len(load_pulses(path).update) == 0


# --- what is refused ---------------------------------------------------------------------------


def refused(call: Callable[[], object], *said: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        call()
    assert "\n" not in str(caught.value)
    for text in said:
        assert text in str(caught.value)


def test_bad_counts_are_refused_and_leave_the_update_as_it_was(tmp_path: Path) -> None:
    path, none, one = tmp_path / "pulses.h5", torch.zeros(6, 5), torch.ones(6, 5)
    with PulseRecorder(path, chip_of()) as recorder:
        recorder.record(0, one, none)
        for up, down, said in (
            (65_535 * one, none, "up: 65536 is not allowed; must be at most 65535"),
            (none, 70_000 * one, "down: 70000.0 is not allowed; must be a whole number from 0 to"),
            (-one, none, "up: -1.0 is not allowed"),
            (none, 0.5 * one, "down: 0.5 is not allowed"),
            (torch.nan * one, none, "up: nan is not allowed"),
            (one.T, none, "up: shape: [5, 6] is not allowed; must be [1, 2, 3, 5] or [6, 5]"),
        ):
            refused(lambda u=up, d=down: recorder.record(0, u, d), said)
        refused(lambda: recorder.record(2, one, none), "place: 2 is not allowed; must be from 0 to")
        recorder.end_update(0, 0, 0.1)
    assert torch.equal(load_pulses(path).targets[0].up[0], one.int())


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    path, chip = tmp_path / "pulses.h5", chip_of()
    card = load_device_card("li-ecram").model_copy(update={"pulse_response": None})
    programmed = map_to_crossbar(mlp((1, 2, 3), 4, (5,)), card)
    refused(lambda: PulseRecorder(path, programmed), "device: ", "[pulse_response]")
    refused(lambda: PulseRecorder(path, chip, every=0), "every: 0 is not allowed")
    refused(lambda: PulseRecorder(path, chip, updates=-1), "updates: -1 is not allowed")
    refused(lambda: PulseRecorder(path, chip, updates=3), "pulses.h5: no such file")
    assert list(tmp_path.iterdir()) == []


def test_files_are_not_overwritten_or_gone_on_with_by_others(recorded: Path) -> None:
    before = recorded.read_bytes()
    chip = chip_of()
    refused(lambda: PulseRecorder(recorded, chip), "pulses.h5: there is a file already")
    for other, said in (
        (lambda: PulseRecorder(recorded, chip_of("mo-ecram"), updates=4), "cards/device: another"),
        (lambda: PulseRecorder(recorded, chip_of(seed=6), updates=4), "attribute chip_seed: 5"),
        (lambda: PulseRecorder(recorded, chip, every=2, updates=4), "attribute every: 1"),
        (lambda: PulseRecorder(recorded, chip, updates=11), "10 recorded updates are not allowed"),
        (
            lambda: PulseRecorder(
                recorded, map_to_crossbar(mlp((1, 2, 3), 4, (6,)).double(), "li-ecram", seed=5),
                updates=4,
            ),
            "attribute columns: 5",
        ),
    ):  # fmt: skip
        refused(other, "pulses.h5: ", said)
    assert recorded.read_bytes() == before
    assert [path.name for path in recorded.parent.iterdir()] == ["pulses.h5"]


def _delete(name: str) -> Change:
    return lambda file: file.__delitem__(name)


def _replace(name: str, values: object) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    return change


def _attribute(group: str, name: str, value: object) -> Change:
    return lambda file: file[group].attrs.__setitem__(name, value)


def _huge(file: h5py.File) -> None:
    """A claim of many terabytes that takes no space in the file."""
    for name in ("update", "epoch", "batch", "learning_rate"):
        file[name].resize(10**12, 0)
    for target in file["pulses"].values():
        for side in ("up", "down"):
            target[side].resize(10**12, 0)


EDGE = "pulses/edge_0"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_attribute("/", "format", "neurosim-ep conductances"), "attribute format: "),
        (_attribute("/", "format_version", 2), "attribute format_version: 2 is not allowed"),
        (_attribute("/", "every", 2), "update is damaged; must be every 2 from 0"),
        (_attribute("/", "every", 0), "attribute every: 0 is not allowed"),
        (_delete("update"), "update is missing"),
        (_delete("pulses"), "pulses is missing"),
        (_replace("epoch", np.zeros(9, int)), "epoch has shape (9,); must be (10,)"),
        (_replace("learning_rate", np.full((10, 2), np.nan)), "learning_rate holds values"),
        (_replace("update", np.float32(3.0)), "update has shape ()"),
        (_replace(f"{EDGE}/up", np.zeros((10, 5, 6), "u2")), "up has shape (10, 5, 6)"),
        (_replace(f"{EDGE}/up", np.zeros((10, 6, 5))), "up has type float64"),
        (_attribute(EDGE, "place", "x"), "attribute pulses/edge_0.place: 'x' is not allowed"),
        (_attribute(EDGE, "name", 3), "attribute pulses/edge_0.name: 3 is not allowed"),
        (_huge, "update is damaged"),
    ],
)
def test_wrong_content_is_refused_in_one_line(recorded: Path, change: Change, said: str) -> None:
    with h5py.File(recorded, "r+") as file:
        change(file)
    refused(lambda: load_pulses(recorded), "pulses.h5: ", said)


@pytest.mark.parametrize("killed", [False, True])
def test_mutated_files_are_read_or_refused_in_one_line(tmp_path: Path, killed: bool) -> None:
    path, draw, count = tmp_path / "pulses.h5", random.Random(0), 0
    with PulseRecorder(path, chip_of()) as recorder:
        apply(recorder, range(10))
        whole = path.read_bytes()
    whole = whole if killed else path.read_bytes()
    for number in range(60):
        damaged = bytearray(whole)
        if number % 3 == 0:
            damaged = damaged[: draw.randrange(len(whole))]
        else:
            for _ in range(draw.randrange(1, 20)):
                place = draw.randrange(8192 if number % 3 == 1 else len(damaged))
                damaged[place] = draw.randrange(256)
        path, said = tmp_path / f"damaged-{number}.h5", ""
        path.write_bytes(damaged)
        try:
            load_pulses(path)
        except ValueError as error:
            said, count = str(error), count + 1
        assert "\n" not in said
    assert count >= 20
