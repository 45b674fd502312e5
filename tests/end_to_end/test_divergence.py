"""Runs whose loss is NaN, one or all of an ablation: recorded, reported, and without effect on other runs."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from pipeline import dataset
from pipeline.params import Model, Params, Tracking
from pipeline.training import population
from pipeline.training.fit import fit
from pipeline.transformer.model import Transformer
from tests.projects import run_stages

DIVERGING = 1
"""Seed of the run whose weights are NaN."""
UNSTABLE = {"optimizer": "adamw", "learning_rate": 1e30, "gradient_clip": None}


@pytest.fixture
def params(smoke: Params, store: Tracking) -> Params:
    """The smoke preset with a small ablation of which one run diverges, and one of which all runs do."""
    ablation = {"task": "addition", "model": {"positional": "none", "width": 8}}
    changes = {
        "ablations": {"one-of-two": ablation, "all": ablation | {"training": UNSTABLE}},
        "comparisons": [],
        "training": smoke.training.model_dump() | {"seeds": [DIVERGING, 2], "steps": 20, "evaluate_every": 10},
    }
    return type(smoke).model_validate(smoke.model_dump() | changes)


def test_a_run_that_diverges_is_reported_and_changes_no_other(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset.write(Path("data/addition"), params.task("addition"))
    data = dataset.read(Path("data/addition"), params.task("addition"))
    undisturbed = fit(params.ablation("one-of-two"), data).history
    initial_model = population.build_initial_model

    def with_nan(config: Model, *, seed: int, **inputs: int) -> Transformer:
        model = initial_model(config, seed=seed, **inputs)
        if seed == DIVERGING:
            with torch.no_grad():
                next(model.parameters()).fill_(torch.nan)
        return model

    monkeypatch.setattr(population, "build_initial_model", with_nan)
    history = fit(params.ablation("one-of-two"), data).history
    assert history["diverged"].tolist() == [1, 0, 0]
    assert history.iloc[1].equals(undisturbed.iloc[1])  # to the bit, until the other run is dropped
    run_stages(params)
    history = pd.read_csv("models/one-of-two/history.csv").set_index(["seed", "step"])
    assert history["diverged"].to_dict() == {(DIVERGING, 10): 1, (2, 10): 0, (2, 20): 0}
    runs = pd.read_csv("reports/runs.csv").set_index(["ablation", "seed"])
    assert runs["diverged"].to_dict() == {("one-of-two", 1): 1, ("one-of-two", 2): 0, ("all", 1): 1, ("all", 2): 1}
    measured = pd.read_csv("reports/symmetry.csv").query("trained == 1")
    assert set(zip(measured["ablation"], measured["seed"], strict=True)) == {("one-of-two", 2)}
    ablations = pd.read_csv("reports/ablations.csv").set_index("ablation")
    assert ablations["diverged"].to_dict() == {"one-of-two": 1, "all": 2}
