"""Mutated chip files give a chip or one line, in a process that has little memory and no mercy.

NEUROSIM_EP_FUZZ_EXAMPLES mutates so many files of each kind instead of a few.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = int(os.environ.get("NEUROSIM_EP_FUZZ_EXAMPLES", "60"))
WORKER = Path(__file__).with_name("chip_fuzz.py")
PACKAGE = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="bounds memory and time as Linux does")
@pytest.mark.parametrize("kind", ["bytes", "sealed", "schema"])
def test_mutated_files(kind: str, tmp_path: Path) -> None:
    paths = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", WORKER, kind, str(EXAMPLES), tmp_path],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120 + EXAMPLES,
        check=False,
    )
    # -14 is a file that took a minute, -11 a crash of a library.
    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout)
    loaded = [counts.get(name, 0) for name in ("loaded equal", "loaded")]
    assert counts["refused"] + sum(loaded) >= EXAMPLES
    assert counts["refused"] >= EXAMPLES // 2
    assert loaded[0] > 0
