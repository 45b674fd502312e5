"""Tables of runs as the stage `evaluate` writes them, made up: what a cell is, and what its seeds reached."""

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import files
from pipeline.params import Params, read
from tests.conftest import PRESETS, model, task, training
from tests.reporting.mechanism.synthetic import measured

SEEDS = (111, 222, 333)
STEPS = 2000
CEILING = 0.0532


def cell(
    name: str, scores: list[float], *, residual_free: str | tuple[str, str] = "", **properties: object
) -> pd.DataFrame:
    """One cell: a row per seed, its `scores` being the shares of 2,000 test examples answered right."""
    attention, mlp = (residual_free, residual_free) if isinstance(residual_free, str) else residual_free
    described = {
        "positional": "none",
        "positional_every_layer": 0,
        "attention": "causal",
        "layers": 3,
        "heads": 4,
        "width": 64,
        "residual_free_attention": attention,
        "residual_free_mlp": mlp,
        "residual_free_initialisation": "normal",
        "optimizer": "muon",
        "parameters": 150_000,
    }
    return pd.DataFrame([_run(name, 111 * (i + 1), score, described | properties) for i, score in enumerate(scores)])


def _run(name: str, seed: int, score: float, described: dict[str, object]) -> dict[str, object]:
    converged = score >= 0.99
    learned = {
        "steps": 1000 + seed // 111 % 3 * 100 if converged else STEPS,
        "converged": int(converged),
        "steps_to_converge": 1000 + seed // 111 % 3 * 100 if converged else None,
        "diverged": 0,
        "validation_exact_match": score,
        "test_exact_match": score,
        "test_examples": 2000,
    }
    digits = {f"digit_{k}": score ** (0.4 * k / 4) if score else 0.1 * k for k in range(1, 5)}
    carries = {f"carries_{k}": score ** (1 + k / 2) for k in range(4)}
    examples = {f"carries_{k}_examples": n for k, n in enumerate((320, 780, 700, 200))}
    return {"ablation": name, "seed": seed} | described | learned | digits | carries | examples


def grid() -> pd.DataFrame:
    """Sixteen cells of three seeds, as the default grid might come out."""
    return pd.concat(
        [
            cell("learned-causal", [0.9985, 0.999, 1.0], positional="learned"),
            cell("none-causal", [0.994, 0.9965, 0.9925]),
            cell("learned-full", [0.9995, 1.0, 0.998], positional="learned", attention="full"),
            cell("none-full", [0.0415, 0.052, 0.049], attention="full"),
            cell("rotary-causal", [1.0, 1.0, 0.9995], positional="rotary"),
            cell("none-causal-1-layer", [0.0385, 0.041, 0.0525], layers=1),
            cell("none-causal-2-layers", [0.991, 0.43, 0.9905], layers=2),
            cell("none-causal-no-residual-0", [0.9905, 0.978, 0.992], residual_free="0"),
            cell("none-causal-no-residual-1", [0.93, 0.9915, 0.71], residual_free="1"),
            cell("none-causal-no-residual-2", [0.995, 0.9935, 0.9955], residual_free="2"),
            cell("none-causal-no-residual-0-1", [0.0005, 0.31, 0.0], residual_free="0 1"),
            cell("none-causal-no-residual-1-2", [0.001, 0.0, 0.0005], residual_free="1 2"),
            cell("learned-causal-no-residual-0-1", [0.9945, 0.42, 0.991], residual_free="0 1", positional="learned"),
            cell("none-causal-no-residual-attention-1", [0.9915, 0.96, 0.993], residual_free=("1", "")),
            cell("none-causal-no-residual-mlp-1", [0.9975, 0.994, 0.9955], residual_free=("", "1")),
            cell("none-causal-adamw", [0.0655, 0.13, 0.0505], optimizer="adamw"),
        ],
        ignore_index=True,
    )


def order_blind(runs: pd.DataFrame) -> set[str]:
    """The cells that cannot know the order."""
    blind = (runs["positional"] == "none") & ((runs["attention"] == "full") | (runs["layers"] == 1))
    return set(runs.loc[blind, "ablation"])


def history(runs: pd.DataFrame) -> pd.DataFrame:
    """Learning curves that end where the runs ended: `ablation, seed, step, validation_exact_match, ...`."""
    rows = []
    for run in runs.to_dict("records"):
        steps = np.arange(100, run["steps"] + 100, 100)
        late = 900 if run["converged"] else 1400
        shares = run["test_exact_match"] / (1 + np.exp((late + run["seed"] % 7 * 30 - steps) / 60))
        shares[-1] = run["test_exact_match"]
        rows += [
            {
                "ablation": run["ablation"],
                "seed": run["seed"],
                "step": int(step),
                "train_loss": 2.3 * (1 - share) + 0.01,
                "validation_loss": 2.3 * (1 - share) + 0.012,
                "validation_exact_match": share,
                "gradient_norm": 0.5,
                "learning_rate": 0.02,
                "diverged": 0,
            }
            for step, share in zip(steps, shares, strict=True)
        ]
    return pd.DataFrame(rows)


def params(runs: pd.DataFrame) -> Params:
    """The `params.yaml` that would have given these cells: three digits, 2,000 test examples."""
    properties = ["positional", "attention", "layers", "residual_free_attention", "residual_free_mlp", "optimizer"]
    ablations = {}
    for name, cell in runs.groupby("ablation", sort=False):
        positional, attention, layers, *residual_free, optimizer = (cell[column].iloc[0] for column in properties)
        lists = [[int(layer) for layer in text.split()] for text in residual_free]
        switches = {"positional": positional, "attention": attention, "layers": int(layers)}
        switches["residual_free"] = {"attention": lists[0], "mlp": lists[1]}
        ablations[str(name)] = {
            "model": switches,
            "training": {"optimizer": optimizer, "seeds": [int(seed) for seed in cell["seed"]]},
        }
    content = {
        "task": task(digits=3, train_size=10_000, validation_size=1000, test_size=2000).model_dump(),
        "model": model(layers=3, heads=4, width=64).model_dump(),
        "training": training(steps=STEPS, evaluate_every=100).model_dump(),
        "ablations": ablations,
        "search": read(PRESETS / "smoke.yaml").search.model_dump(),
        "tracking": {"uri": "sqlite:///mlflow.db", "experiment": "breaking-symmetry"},
    }
    return Params.model_validate(content)


def write(runs: pd.DataFrame, folder: Path) -> None:
    """The files that the stage `report` reads, below `folder`."""
    curves = history(runs)
    for name, cell in runs.groupby("ablation", sort=False):
        files.write_csv(folder / "reports" / "evaluation" / f"{name}.csv", cell)
        files.write_csv(
            folder / "models" / str(name) / "history.csv", curves[curves["ablation"] == name].drop(columns="ablation")
        )
    for measurement, table in measured(runs).items():
        for name, rows in table.groupby("ablation", sort=False):
            files.write_csv(folder / "reports" / "analysis" / str(name) / f"{measurement}.csv", rows)
