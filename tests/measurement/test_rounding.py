"""The written digits of a measurement do not depend on the number of threads or on the processor's kernels."""

import os
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from pipeline import dataset, files
from pipeline.measurement.catalogue import measurements
from pipeline.measurement.registry import round_measured_values
from pipeline.params import Params
from pipeline.stages import analyze
from pipeline.training.artifact import Artifact
from pipeline.training.convergence import history_columns
from pipeline.training.population import build_initial_model
from tests.measurement.hand_set import with_large_weights

PROJECT = Path(__file__).parent.parent.parent
ATTENTION = {"order-dependent": "causal", "order-blind": "full"}
"""Ablation -> attention, without positional encoding; the tables of the second hold many zeros."""
OTHER_KERNELS = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own: softmax, GELU, sums
    "MKL_CBWR": "COMPATIBLE",  # torch's matrix products: SSE2
    "OPENBLAS_CORETYPE": "Haswell",  # NumPy's
}
"""On a processor with AVX-512, these change the last digits of measurements before they are rounded."""


@pytest.fixture(scope="module")
def experiment(smoke: Params) -> Params:
    ablations = {
        name: {"task": "addition", "model": {"positional": "none", "attention": attention}, "training": {"seeds": [1]}}
        for name, attention in ATTENTION.items()
    }
    values = smoke.model_dump(mode="json", exclude_unset=True) | {"ablations": ablations, "comparisons": []}
    return type(smoke).model_validate(values)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, experiment: Params) -> Path:
    """A folder with params.yaml, the data, and for each ablation a model with large weights."""
    folder = tmp_path_factory.mktemp("trained")
    files.write_json(folder / "params.yaml", experiment.model_dump(mode="json", exclude_unset=True))  # JSON is YAML
    for ablation in experiment.all_ablations():
        dataset.write(folder / "data" / ablation.dataset, ablation.task)
        data = dataset.read(folder / "data" / ablation.dataset, ablation.task)
        model = build_initial_model(ablation.model, seed=0, **data.transformer_arguments)
        weights = with_large_weights(model).state_dict()
        history = pd.DataFrame([dict.fromkeys(history_columns(), 0) | {"seed": 1, "step": 100}])
        description = (ablation, data.vocabulary, data.input_length, 1, data.digests)
        artifact = Artifact(*description, history, weights={1: weights})
        artifact.write(folder / "models" / ablation.name)
    return folder


def tables(folder: Path) -> dict[str, bytes]:
    """The tables in a folder, which are moved away."""
    found = {f"{file.parent.name}/{file.name}": file.read_bytes() for file in folder.glob("reports/*/*/*.csv")}
    shutil.rmtree(folder / "reports")
    return found


def analyzed(folder: Path, experiment: Params, threads: int) -> dict[str, bytes]:
    """The tables that this process writes with so many threads."""
    usual = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with chdir(folder), threadpool_limits(threads):
            for name in ATTENTION:
                analyze.run(experiment, name)
    finally:
        torch.set_num_threads(usual)
    return tables(folder)


@pytest.fixture(scope="module")
def expected(trained: Path, experiment: Params) -> dict[str, bytes]:
    """The tables written with one thread; a table of another version is in the folder before."""
    files.write_text(trained / "reports" / "analysis" / "order-blind" / "of_another_version.csv", "ablation\n")
    return analyzed(trained, experiment, threads=1)


def test_analysis_writes_every_measurement_and_leaves_no_other_table(expected: dict[str, bytes]) -> None:
    assert set(expected) == {f"{ablation}/{name}.csv" for ablation in ATTENTION for name in measurements()}


def test_another_number_of_threads_writes_the_same_bytes(
    trained: Path, experiment: Params, expected: dict[str, bytes]
) -> None:
    assert analyzed(trained, experiment, threads=2) == expected


def test_other_kernels_write_the_same_bytes(trained: Path, expected: dict[str, bytes]) -> None:
    environment = os.environ | {"PYTHONPATH": str(PROJECT)} | OTHER_KERNELS
    for name in ATTENTION:
        command = [sys.executable, "-m", "pipeline", "analyze", name]
        subprocess.run(command, cwd=trained, env=environment, check=True, timeout=400)
    assert tables(trained) == expected


def test_a_change_that_is_impossible_is_written_as_zero(expected: dict[str, bytes]) -> None:
    """Rounding errors do not show: full attention without encoding is blind to order."""
    header, *rows = expected["order-blind/symmetry.csv"].decode().splitlines()
    assert header.endswith("max_logit_change,total_variation,changed_argmax_share")
    assert all(row.endswith(",0,0,0") for row in rows)


@given(st.floats(1e-3, 1e6), st.floats(-1, 1))
def test_rounding_keeps_six_digits_and_no_noise(number: float, noise: float) -> None:
    table = pd.DataFrame({"layer": [7], "number": [number], "nothing": [noise * 1e-11], "unknown": [float("nan")]})
    kept = round_measured_values(table)
    assert kept["layer"].tolist() == [7]
    assert kept["number"].item() == pytest.approx(number, rel=5.1e-6)
    assert str(kept["nothing"].item()) == "0.0"
    assert np.isnan(kept["unknown"].item())
    pd.testing.assert_frame_equal(round_measured_values(kept), kept)
