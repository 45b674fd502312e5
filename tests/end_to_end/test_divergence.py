"""Runs whose loss is NaN, one or all of an ablation: recorded, reported, and without effect on other runs."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from pipeline import dataset
from pipeline.params import Model, Params, Tracking
from pipeline.stages import analyze, evaluate, report, train
from pipeline.tasks.catalogue import problems
from pipeline.training import population
from pipeline.training.fit import fit
from pipeline.transformer.model import Transformer

SICK = 1
"""The seed whose weights are no numbers."""
WILD = {"optimizer": "adamw", "learning_rate": 1e30, "gradient_clip": None}


@pytest.fixture
def params(smoke: Params, store: Tracking) -> Params:
    """The smoke preset with one small ablation of which one member diverges, and one of which all do."""
    ablation = {"task": "addition", "model": {"positional": "none", "width": 8}}
    changes = {
        "ablations": {"one-of-two": ablation, "all": ablation | {"training": WILD}},
        "comparisons": [],
        "training": smoke.training.model_dump() | {"seeds": [SICK, 2], "steps": 20, "evaluate_every": 10},
    }
    return Params.model_validate(smoke.model_dump() | changes)


def test_a_run_that_diverges_is_told_and_spoils_no_other(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset.write(Path("data/addition"), problems(params.task("addition")))
    rows = dataset.read(Path("data/addition"), params.task("addition"))
    healthy = fit(params.ablation("one-of-two"), rows).history
    initial_model = population.initial_model

    def sick(config: Model, *, seed: int, **inputs: int) -> Transformer:
        model = initial_model(config, seed=seed, **inputs)
        if seed == SICK:
            with torch.no_grad():
                next(model.parameters()).fill_(torch.nan)
        return model

    monkeypatch.setattr(population, "initial_model", sick)
    beside = fit(params.ablation("one-of-two"), rows).history
    assert beside["diverged"].tolist() == [1, 0, 0]
    assert beside.iloc[1].equals(healthy.iloc[1])  # to the bit, until the other run is dropped
    for name in params.ablations:
        for stage in (train, evaluate, analyze):
            stage.run(params, name)
    report.run(params)

    history = pd.read_csv("models/one-of-two/history.csv").set_index(["seed", "step"])
    assert history["diverged"].to_dict() == {(SICK, 10): 1, (2, 10): 0, (2, 20): 0}
    runs = pd.read_csv("reports/runs.csv").set_index(["ablation", "seed"])
    assert runs["diverged"].to_dict() == {("one-of-two", 1): 1, ("one-of-two", 2): 0, ("all", 1): 1, ("all", 2): 1}
    measured = pd.read_csv("reports/symmetry.csv").query("trained == 1")
    assert set(zip(measured["ablation"], measured["seed"], strict=True)) == {("one-of-two", 2)}
    told = Path("reports/summary.md").read_text()
    assert "A run **diverged** when" in told
    (header,) = (line for line in told.splitlines() if line.startswith("| Ablation | Converged |"))
    column = header.split(" | ").index("Diverged")
    rows_told = {
        line.split(" | ")[0]: line.split(" | ")[column] for line in told.splitlines() if line.startswith("| `")
    }
    assert rows_told == {"| `one-of-two`": "1/2", "| `all`": "2/2"}
