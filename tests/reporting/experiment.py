"""A tiny experiment for the tests of the report, and made-up outcomes of its runs."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from pipeline import switches
from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.params import Ablation, Params
from pipeline.reporting.estimates import Estimate, Estimates
from pipeline.reporting.report import build_estimates
from pipeline.reporting.results import MEASURED_COLUMNS, Results, mark_still_rising
from pipeline.tasks.registry import AllParams, read_params
from tests.conftest import PRESETS, training

STEPS = 2000
"""Budget of made-up runs."""
ABLATIONS: dict[str, dict[str, object]] = {
    "learned-causal": {"positional": "learned"},
    "nope-causal": {},
    "null": {"positional": "rotary"},  # pandas would read this name as a missing value
    "learned-full": {"positional": "learned", "attention": "full"},
    "nope-full": {"attention": "full"},
    "nope-causal-1-layer": {"layers": 1},
    "no-residual-0": {"residual_free": [0]},
    "no-residual-1": {"residual_free": [1]},
    "no-residual-mlp-0": {"residual_free": {"mlp": [0]}},
    "forward-0": {"residual_free": [0], "residual_substitute": "detached"},
    "nope-causal-adamw": {},
}
TRAINED = ("learned-causal", "nope-causal", "null", "nope-full", "no-residual-0", "forward-0")
"""The ablations of `ABLATIONS` that the tests really train and measure."""
SCORES: dict[str, Sequence[float]] = {
    "learned-causal": [0.9985, 0.999, 1.0],
    "nope-causal": [0.994, 0.9965, 0.9925],
    "null": [1.0, 1.0, 0.9995],
    "learned-full": [0.9995, 1.0, 0.998],
    "nope-full": [0.0415, 0.052, 0.049],
    "nope-causal-1-layer": [0.0385, 0.041, 0.0525],
    "no-residual-0": [0.93, 0.9915, 0.71],
    "no-residual-1": [0.995, 0.9935, 0.9955],
    "no-residual-mlp-0": [0.9975, 0.994, 0.9955],
    "forward-0": [0.99, 0.9915, 0.991],
    "nope-causal-adamw": [0.0655, 0.13, 0.0505],
}
"""Made-up test exact match of three seeds of each ablation: 0.99 and above has converged."""


def experiment(
    ablations: Mapping[str, Mapping[str, object]] = ABLATIONS,
    *,
    declared: Sequence[tuple[str, str]] = (("nope-causal", "learned-causal"),),
    **settings: object,
) -> Params:
    """Return the params of ablations with these model switches, trained for a few steps on two-digit addition."""
    smoke = read_params(PRESETS / "smoke.yaml")
    sizes = {"train_size": 200, "validation_size": 50, "test_size": 50}
    content = smoke.model_dump() | {
        "tasks": {"addition": {"name": "addition", "digits": 2, **sizes}},
        "model": {"layers": 2, "heads": 2, "width": 8, "positional": "none"},
        "training": training(**({"optimizer": "muon", "steps": 4, "evaluate_every": 2} | settings)).model_dump(),
        "ablations": {name: {"task": "addition", "model": dict(model)} for name, model in ablations.items()},
        "comparisons": [
            {"first": first, "second": second} for first, second in declared if {first, second} <= set(ablations)
        ],
    }
    if "nope-causal-adamw" in ablations:
        content["ablations"]["nope-causal-adamw"]["training"] = {"optimizer": "adamw"}
    content["search"] |= {"task": "addition"}
    return AllParams.model_validate(content)


def trained() -> Params:
    """Return the params of the ablations that the tests really train and measure."""
    return experiment({name: ABLATIONS[name] for name in TRAINED}, snapshots=1)


def made_up(scores: Mapping[str, Sequence[float]], **options: object) -> Params:
    """Return the params of these ablations of `ABLATIONS`, with a seed for each score, and a budget of `STEPS`."""
    names = {name: ABLATIONS.get(name, {}) for name in scores}
    seeds = range(1, 1 + max(map(len, scores.values())))
    params = experiment(names, steps=STEPS, evaluate_every=100, seeds=list(seeds), **options)
    for name, values in scores.items():
        params.ablations[name].training["seeds"] = list(seeds)[: len(values)]
    return params


def ablation(name: str = "a", seeds: Sequence[int] = (1, 2, 3), **switches: object) -> Ablation:
    """Return one ablation with these model switches, and a budget of `STEPS`."""
    return experiment({name: switches}, steps=STEPS, evaluate_every=100, seeds=list(seeds)).ablation(name)


def runs(scores: Mapping[str, Sequence[float]], ablations: Sequence[Ablation]) -> pd.DataFrame:
    """Return the evaluations of runs with these scores: those of 0.99 converged after 1,000 to 1,200 steps."""
    return pd.DataFrame(
        [
            _run(ablation, seed, score)
            for ablation in ablations
            for seed, score in zip(ablation.training.seeds, scores[ablation.name], strict=True)
        ]
    )


def _run(ablation: Ablation, seed: int, score: float) -> dict[str, object]:
    converged = score >= 0.99
    steps = 1000 + seed % 3 * 100 if converged else STEPS
    return {
        "ablation": ablation.name,
        "seed": seed,
        "task": ablation.dataset,
        **switches.switch_columns(ablation),
        "parameters": 1000,
        "steps": steps,
        "converged": int(converged),
        "steps_to_50": 800,
        "steps_to_90": 900 if score >= 0.9 else None,
        "steps_to_converge": steps if converged else None,
        "area_above_curve": 900.0,
        "proved": int(is_order_blind(ablation.model)),
        "diverged": 0,
        "validation_exact_match": score,
        "test_exact_match": score,
        "test_examples": 2000,
        **{f"digit_{k}": score ** (k / 10) if score else 0.1 * k for k in range(1, 4)},
        **{f"carries_{k}": score ** (1 + k / 2) for k in range(3)},
        **{f"carries_{k}_examples": count for k, count in enumerate((320, 780, 700))},
    }


def history(runs: pd.DataFrame) -> pd.DataFrame:
    """Return learning curves that end with the scores of these runs; those that did not converge rise late."""
    rows = []
    for run in runs.to_dict("records"):
        steps = np.arange(100, run["steps"] + 100, 100)
        middle = (900 if run["converged"] else 1400) + run["seed"] % 7 * 30
        curve = run["test_exact_match"] / (1 + np.exp((middle - steps) / 60))
        curve[-1] = run["test_exact_match"]
        rows.append(
            pd.DataFrame(
                {"ablation": run["ablation"], "seed": run["seed"], "step": steps, "validation_exact_match": curve}
            )
        )
    return pd.concat(rows, ignore_index=True)


def results_of(
    scores: Mapping[str, Sequence[float]], measured: pd.DataFrame | None = None, **options: object
) -> Results:
    """Return the results of ablations with these scores."""
    params = made_up(scores, **options)
    evaluations = runs(scores, params.all_ablations())
    curves = history(evaluations)
    evaluations = evaluations.assign(still_rising=mark_still_rising(evaluations, curves))
    nothing = pd.DataFrame(columns=list(MEASURED_COLUMNS)).astype({"value": float})
    return Results(
        params.all_ablations(), params.comparisons, evaluations, curves, nothing if measured is None else measured
    )


def estimates_of(scores: Mapping[str, Sequence[float]], **options: object) -> Estimates:
    """Return the estimates of ablations with these scores."""
    return Estimates(build_estimates(results_of(scores, **options)))


def find(estimates: Estimates, quantity: str, ablation: str, **columns: object) -> Estimate:
    """Return an estimate that must be there."""
    estimate = estimates.find(quantity, ablation=ablation, **columns)
    assert estimate is not None
    return estimate
