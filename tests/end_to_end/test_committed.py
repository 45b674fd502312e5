"""The committed learning curves are reproduced to the bit on this machine."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from pipeline.environment import CPU_INFO_FILE
from tests.projects import PROJECT, run

ABLATION, STEPS = "nope-causal-1-layer", 50
TRAIN = f"""
from pipeline.environment import disable_avx512
disable_avx512()
import sys
from pathlib import Path
import pandas as pd
from pipeline import dataset, files
from pipeline.tasks.registry import read_params
from pipeline.training.fit import fit
folder = Path(sys.argv[1])
ablation = read_params().ablation("{ABLATION}")
shorter = ablation.model_copy(update={{"training": ablation.training.model_copy(update={{"steps": {STEPS}}})}})
dataset.write(folder / "data", ablation.task)
files.write_csv(folder / "history.csv", fit(shorter, dataset.read(folder / "data", ablation.task)).history)
"""


def test_the_committed_learning_curve_is_reproduced_on_any_processor_it_was_made_on(tmp_path: Path) -> None:
    if not CPU_INFO_FILE.exists() or not {"AuthenticAMD", "avx2"} <= set(CPU_INFO_FILE.read_text().split()):
        pytest.skip("the committed results are from AMD processors with AVX2")
    run(PROJECT, sys.executable, "-c", TRAIN, str(tmp_path))
    retrained = pd.read_csv(tmp_path / "history.csv")
    committed = pd.read_csv(PROJECT / "reports" / "learning_curves.csv")
    committed = committed[(committed["ablation"] == ABLATION) & (committed["step"] <= STEPS)]
    assert len(committed)
    pd.testing.assert_frame_equal(retrained, committed[retrained.columns].reset_index(drop=True), check_exact=True)
