"""Wrong inputs of a sweep: one line, before anything trains."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("pictures")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--vary=speed=1",), r"speed: unknown field"),
        (("--vary=beta=0.1,-1",), r"learning\.beta: -1 .*greater than 0"),
        (("--vary=beta=0.1", "--set=beta=0.2"), r"vary: learning\.beta is not allowed"),
        (("--vary=beta=0.1", "--set=beta"), r"set: \"beta\" .*key=value"),
        (("--vary=network.widths=[4];[0]",), r"network\.widths: \[0\]"),
        (("--vary=device.states=4",), r"device\.states: .*without a device card, --device"),
        (("--vary=beta=1", "--array=ideal"), r"on_chip\.device_card: absent"),
        (("--vary=device=pcm,pcn", "--set=rule=digital"), r"pcn\": neither a shipped device card"),
        (("--vary=device=pcm", "--device=pcm"), r"vary: device is not allowed"),
        (("--vary=beta=1", "--device=pcm", "--set=device=pcm"), r"device: \"pcm\" .*set already"),
        (("--vary=beta=1", "--device=pcm"), r"learning\.momentum: 0\.9 .*on_chip\.rule"),
        (("--vary=rule=digital,pulsed", "--device=pcm"), r"learning\.momentum: 0\.9"),
        (("--vary=device.states=4,0", "--device=li-ecram", "--set=rule=digital"),
         r"device\.states: 0 .*at least 1"),
        (("--vary=array.adc_bits=4", "--device=ideal", "--array=ideal", "--set=rule=digital"),
         r"array\.adc_bits: .*no converters"),
        (("--vary=device.pulse_response=none", "--device=li-ecram", "--set=momentum=0",
          "--set=nesterov=false"), r"table \[pulse_response\]"),
        (("--vary=seed=1,2",), r"recipe\.seed"),
        (("--vary=beta=1", "--seeds=0"), r"seeds: 0 .*at least 1"),
        (("--vary=beta=1", "--jobs=0"), r"jobs: 0 .*at least 1"),
        (("--vary=run.threads=1,2", "--jobs=2"), r"jobs: 2 .*run\.threads is varied"),
        (("--vary=beta=1", "--reference=EP"), r"reference: \"EP\" .*LABEL=PERCENT"),
        (("--vary=beta=1", "--reference=EP=971"), r"reference: \"EP=971\.0\" .*0 to 100"),
        (("--vary=run.device=cpu,cuda:99",), r"run\.device.*cuda:99"),
        (("--vary=data.name=digits,mnist", "--data-dir=nowhere"), r"nowhere"),
        (("--vary=beta=1", "--out=taken"), r"out: \"taken\" .*a folder"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line_before_anything_starts(
    invoke, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    Path("taken").write_text("")
    done = invoke("sweep", "digits", *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    (only,) = done.stderr.splitlines()
    assert re.search(line, only), only
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_an_array_that_is_too_small_is_refused_before_training(invoke, tmp_path: Path) -> None:
    done = invoke(
        "sweep", "vgg5-small-fashion-mnist", "--vary=array.layout.rows=64,4", "--device=ideal",
        "--set=rule=digital", "--set=widths=[2,2,2,2]",
    )  # fmt: skip
    assert done.exit_code == 2
    (only,) = done.stderr.splitlines()
    assert re.search(r"rows: 4 .*9", only), only
    assert list(tmp_path.iterdir()) == []
