"""What is committed comes out here, too, whichever of the processors it was seen on this one is."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from pipeline.environment import CPUINFO
from tests.projects import PROJECT, run

CELL, STEPS = "nope-causal-1-layer", 100
TRAIN = f"""
from pipeline.environment import disable_avx512
disable_avx512()
import sys
from pathlib import Path
import pandas as pd
from pipeline import dataset, files
from pipeline.training.fit import fit
folder = Path(sys.argv[1])
ablation = read_params().ablation("{CELL}")
shorter = ablation.model_copy(update={{"training": ablation.training.model_copy(update={{"steps": {STEPS}}})}})
dataset.write(folder / "data", ablation.task)
files.write_csv(folder / "history.csv", fit(shorter, dataset.read(folder / "data", ablation.task)).history)
"""


def test_the_committed_learning_curve_is_that_of_any_processor_it_was_seen_on(tmp_path: Path) -> None:
    if not CPUINFO.exists() or "AuthenticAMD" not in (said := CPUINFO.read_text()) or " avx2 " not in said:
        pytest.skip("seen on AMD's processors with AVX2, alone and beside AVX-512")
    run(PROJECT, sys.executable, "-c", TRAIN, str(tmp_path))
    here = pd.read_csv(tmp_path / "history.csv")
    committed = pd.read_csv(PROJECT / "reports" / "learning_curves.csv")
    committed = committed[(committed["ablation"] == CELL) & (committed["step"] <= STEPS)]
    assert len(committed)
    pd.testing.assert_frame_equal(here, committed[here.columns].reset_index(drop=True), check_exact=True)
