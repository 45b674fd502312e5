"""What is committed comes out here, too, whichever of the processors it was seen on this one is."""

import io
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

PROJECT = Path(__file__).parent.parent.parent
CELL, STEPS = "nope-causal-1-layer", 100
TRAIN = f"""
from pipeline.engines.machine import compute_alike
compute_alike()
import tempfile
from pathlib import Path
import pandas as pd
from pipeline import dataset
from pipeline.params import read
from pipeline.tasks.catalogue import problems
from pipeline.training.fit import fit
cell = read().cell("{CELL}")
shorter = cell.model_copy(update={{"training": cell.training.model_copy(update={{"steps": {STEPS}}})}})
with tempfile.TemporaryDirectory() as folder:
    dataset.write(Path(folder), problems(cell.task))
    history = fit(shorter, dataset.read(Path(folder), cell.task)).history
print(pd.DataFrame(history).to_csv(index=False, float_format="%.7g"))
"""


def test_the_committed_learning_curve_is_that_of_any_processor_it_was_seen_on() -> None:
    processor = Path("/proc/cpuinfo")
    if not processor.exists() or "AuthenticAMD" not in (said := processor.read_text()) or " avx2 " not in said:
        pytest.skip("seen on AMD's processors with AVX2, alone and beside AVX-512")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRAIN], cwd=PROJECT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    here = pd.read_csv(io.StringIO(done.stdout))
    committed = pd.read_csv(PROJECT / "reports" / "learning_curves.csv")
    committed = committed[(committed["ablation"] == CELL) & (committed["step"] <= STEPS)]
    assert len(committed)
    pd.testing.assert_frame_equal(here, committed[here.columns].reset_index(drop=True), check_exact=True)
