"""What is written of a measurement depends on the model alone: not on threads, nor on the kernels that a processor is
given."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline import dataset, files
from pipeline.dataset import Dataset
from pipeline.measurement.catalogue import measurements
from pipeline.measurement.tables import rounded
from pipeline.params import Model, Params
from pipeline.stages import analyze
from pipeline.tasks.catalogue import problems
from pipeline.training.artifact import Artifact
from pipeline.training.convergence import history_columns
from pipeline.training.population import initial_model

PROJECT = Path(__file__).parent.parent.parent
CELLS = {"knows-order": "causal", "order-blind": "full"}
"""Ablation -> its attention, without positional encoding: the tables of the second hold many zeros."""
OTHERWISE = {
    "threads": dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "2"),
    "kernels": {
        "ATEN_CPU_CAPABILITY": "avx2",  # torch's own: softmax, GELU, sums
        "MKL_CBWR": "COMPATIBLE",  # torch's matrix products: SSE2
        "OPENBLAS_CORETYPE": "Haswell",  # NumPy's
    },
}
"""Each changes the last digits of what is measured, before it is rounded (on a processor with AVX-512, two cores)."""


@pytest.fixture(scope="module")
def experiment(smoke: Params) -> Params:
    """The smoke preset with `CELLS` instead of its own, of one member each."""
    ablations = {
        name: {"task": "addition", "model": {"positional": "none", "attention": attention}, "training": {"seeds": [1]}}
        for name, attention in CELLS.items()
    }
    return Params.model_validate(
        smoke.model_dump(mode="json", exclude_unset=True) | {"ablations": ablations, "comparisons": []}
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, experiment: Params) -> Path:
    """A folder with the experiment, its data, and for each ablation a member of large weights and a snapshot."""
    folder = tmp_path_factory.mktemp("trained")
    files.write_json(folder / "params.yaml", experiment.model_dump(mode="json", exclude_unset=True))  # JSON is YAML
    for ablation in experiment.all_ablations():
        data = folder / "data" / ablation.dataset
        dataset.write(data, problems(ablation.task))
        rows = dataset.read(data, ablation.task)
        weights = large(ablation.model, rows)
        history = [dict.fromkeys(history_columns(), 0) | {"seed": 1, "step": 100}]
        about = (ablation, rows.vocabulary, rows.length, 1, rows.digests)
        artifact = Artifact(*about, pd.DataFrame(history), weights={1: weights}, snapshots={(1, 50): weights})
        artifact.write(folder / "models" / ablation.name)
    return folder


def large(config: Model, rows: Dataset) -> dict[str, Tensor]:
    """Weights about as large as trained ones."""
    start = initial_model(config, vocabulary=len(rows.vocabulary), length=rows.length, seed=0).state_dict()
    noise = torch.Generator().manual_seed(0)
    return {name: weight + 0.2 * torch.randn(weight.shape, generator=noise) for name, weight in start.items()}


def tables(trained: Path, folder: Path, environment: dict[str, str]) -> dict[str, bytes]:
    """What a process with this environment writes, analysing the ablations in a folder of its own."""
    for shared in ("data", "models", "params.yaml"):
        (folder / shared).symlink_to(trained / shared)
    script = (
        f"from pipeline import params, stages\nfrom pipeline.stages import analyze\nfor ablation in {list(CELLS)}:\n"
    )
    script += "    analyze.run(params.read(), ablation)\n"
    command = [sys.executable, "-c", script]
    path = {"PYTHONPATH": str(PROJECT)}
    subprocess.run(command, cwd=folder, env=os.environ | path | environment, check=True, timeout=400)
    return {f"{file.parent.name}/{file.name}": file.read_bytes() for file in sorted(folder.glob("reports/*/*/*.csv"))}


@pytest.fixture(scope="module")
def usual(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return tables(trained, tmp_path_factory.mktemp("usual"), {})


@pytest.mark.parametrize("what", OTHERWISE)
def test_other_threads_and_kernels_write_the_same_bytes(
    trained: Path, usual: dict[str, bytes], tmp_path: Path, what: str
) -> None:
    found = tables(trained, tmp_path, OTHERWISE[what])
    assert len(found) == len(CELLS) * len(measurements())
    assert [name for name, content in found.items() if content != usual[name]] == []


def test_what_cannot_move_is_written_as_nothing(usual: dict[str, bytes], tmp_path: Path) -> None:
    """Not as what rounding leaves: to full attention without encoding the order of the tokens is nothing."""
    (tmp_path / "symmetry.csv").write_bytes(usual["order-blind/symmetry.csv"])
    measured = pd.read_csv(tmp_path / "symmetry.csv")
    assert (measured[["max_logit_change", "total_variation", "changed_argmax_share"]] == 0).all(axis=None)


def test_analysis_leaves_no_table_of_another_version(
    trained: Path, tmp_path: Path, experiment: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shared in ("data", "models"):
        (tmp_path / shared).symlink_to(trained / shared)
    old = tmp_path / "reports" / "analysis" / "order-blind" / "of_an_earlier_version.csv"
    old.parent.mkdir(parents=True)
    old.write_text("ablation\n")
    monkeypatch.chdir(tmp_path)
    analyze.run(experiment, "order-blind")
    assert sorted(file.stem for file in old.parent.glob("*.csv")) == list(measurements())


@given(st.floats(1e-3, 1e6), st.floats(-1, 1))
def test_rounding_keeps_six_digits_and_no_noise(number: float, noise: float) -> None:
    table = pd.DataFrame({"layer": [7], "number": [number], "nothing": [noise * 1e-11], "unknown": [float("nan")]})
    kept = rounded(table)
    assert kept["layer"].tolist() == [7]
    assert kept["number"].item() == pytest.approx(number, rel=5.1e-6)
    assert str(kept["nothing"].item()) == "0.0"
    assert np.isnan(kept["unknown"].item())
    pd.testing.assert_frame_equal(rounded(kept), kept)
