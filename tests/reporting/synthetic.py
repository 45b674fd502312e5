"""A made-up experiment: ablations, the scores of their runs, and measurements of them."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import wraps
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pipeline import files
from pipeline import switches as described
from pipeline.measurement.catalogue import measurements
from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.params import Ablation, Comparison, Overrides, Params
from pipeline.reporting.experiment import comparisons, report, rescue, tables
from pipeline.reporting.experiment.report import PlacedSection
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.style import png
from pipeline.stages.report import OWN_TOKEN
from pipeline.tasks.registry import read_params
from tests.conftest import PRESETS, model, task, training

SEEDS = (111, 222, 333)
STEPS = 2000
CEILING = 0.0532
TASK = task(digits=3, train_size=10_000, validation_size=1000, test_size=2000)
POSITIONS = 5
MOMENTS = ((0, 0), (20, 0), (STEPS, 1))
"""(step, trained)."""

Grid = Mapping[str, tuple[Ablation, Sequence[float]]]
"""Name -> the ablation, and its seeds' shares of 2,000 test examples answered right."""


def ablation(
    name: str, scores: Sequence[float], *, dataset: str = "addition", optimizer: str = "muon", **switches: object
) -> Grid:
    """An ablation of three layers without positional encoding, but for `switches`, as a grid of one."""
    made = Ablation(
        name=name,
        dataset=dataset,
        task=TASK,
        model=model(**{"layers": 3, "heads": 4, "width": 64, **switches}),
        training=training(
            steps=STEPS, evaluate_every=100, optimizer=optimizer, seeds=[111 * (i + 1) for i in range(len(scores))]
        ),
    )
    return {name: (made, scores)}


def grid() -> Grid:
    """Seventeen ablations of three seeds, as the default grid might come out."""
    return {
        **ablation("learned-causal", [0.9985, 0.999, 1.0], positional="learned"),
        **ablation("nope-causal", [0.994, 0.9965, 0.9925]),
        **ablation("learned-full", [0.9995, 1.0, 0.998], positional="learned", attention="full"),
        **ablation("nope-full", [0.0415, 0.052, 0.049], attention="full"),
        **ablation("rotary-causal", [1.0, 1.0, 0.9995], positional="rotary"),
        **ablation("nope-causal-1-layer", [0.0385, 0.041, 0.0525], layers=1),
        **ablation("nope-causal-2-layers", [0.991, 0.43, 0.9905], layers=2),
        **ablation("nope-causal-no-residual-0", [0.9905, 0.978, 0.992], residual_free=[0]),
        **ablation("nope-causal-no-residual-1", [0.93, 0.9915, 0.71], residual_free=[1]),
        **ablation("forward-1", [0.99, 0.9915, 0.991], residual_free=[1], residual_substitute="forward"),
        **ablation("nope-causal-no-residual-2", [0.995, 0.9935, 0.9955], residual_free=[2]),
        **ablation("nope-causal-no-residual-0-1", [0.0005, 0.31, 0.0], residual_free=[0, 1]),
        **ablation("nope-causal-no-residual-1-2", [0.001, 0.0, 0.0005], residual_free=[1, 2]),
        **ablation("learned-causal-no-residual-0-1", [0.9945, 0.42, 0.991], residual_free=[0, 1], positional="learned"),
        **ablation("nope-causal-no-residual-attention-1", [0.9915, 0.96, 0.993], residual_free={"attention": [1]}),
        **ablation("nope-causal-no-residual-mlp-1", [0.9975, 0.994, 0.9955], residual_free={"mlp": [1]}),
        **ablation("nope-causal-adamw", [0.0655, 0.13, 0.0505], optimizer="adamw"),
    }


def without(made: Grid, *names: str) -> Grid:
    """The grid but for these ablations."""
    return {name: entry for name, entry in made.items() if name not in names}


def listed(made: Grid) -> list[Ablation]:
    """Its ablations."""
    return [one for one, _ in made.values()]


def remembered(make: Callable[[Grid], Any]) -> Callable[[Grid], Any]:
    """Made once of each grid, since every test asks for it; a copy is given, which the test may change."""
    known: dict[str, Any] = {}

    @wraps(make)
    def given(made: Grid) -> Any:
        key = repr(made)
        if key not in known:
            known[key] = make(made)
        return deepcopy(known[key])

    return given


@remembered
def runs(made: Grid) -> pd.DataFrame:
    """A row per (ablation, seed), as the stage `evaluate` writes them, with what the report adds."""
    rows = [
        _run(one, seed, score)
        for one, scores in made.values()
        for seed, score in zip(one.training.seeds, scores, strict=True)
    ]
    table = pd.DataFrame(rows)
    return table.assign(still_rising=tables.still_rising(table, history(made, table)))


def _run(one: Ablation, seed: int, score: float) -> dict[str, object]:
    converged = score >= 0.99
    steps = 1000 + seed // 111 % 3 * 100 if converged else STEPS
    learned = {
        "parameters": 150_000 + 1000 * (one.model.positional == "learned"),
        "steps": steps,
        "converged": int(converged),
        "steps_to_converge": steps if converged else None,
        "diverged": 0,
        "validation_exact_match": score,
        "test_exact_match": score,
        "test_examples": 2000,
    }
    digits = {f"digit_{k}": score ** (0.4 * k / 4) if score else 0.1 * k for k in range(1, 5)}
    carries = {f"carries_{k}": score ** (1 + k / 2) for k in range(4)}
    examples = {f"carries_{k}_examples": n for k, n in enumerate((320, 780, 700, 200))}
    who = {"ablation": one.name, "seed": seed, "task": one.dataset}
    return who | described.columns(one) | learned | digits | carries | examples


def history(made: Grid, table: pd.DataFrame | None = None) -> pd.DataFrame:
    """Learning curves that end where the runs ended: `ablation, seed, step, validation_exact_match, ...`."""
    rows = []
    for run in (runs(made) if table is None else table).to_dict("records"):
        steps = np.arange(100, run["steps"] + 100, 100)
        late = 900 if run["converged"] else 1400
        shares = run["test_exact_match"] / (1 + np.exp((late + run["seed"] % 7 * 30 - steps) / 60))
        shares[-1] = run["test_exact_match"]
        rows += [
            {"ablation": run["ablation"], "seed": run["seed"], "step": int(step), "validation_exact_match": share}
            for step, share in zip(steps, shares, strict=True)
        ]
    return pd.DataFrame(rows)


@remembered
def members(made: Grid) -> dict[str, pd.DataFrame]:
    """Measurement -> its table, as the stage `analyze` would have written it for these ablations."""
    rows: dict[str, list[dict[str, object]]] = {}

    def add(name: str, **values: object) -> None:
        rows.setdefault(name, []).append({**member, **values})

    for one, _ in made.values():
        blind, causal = is_order_blind(one.model), one.model.attention == "causal"
        encoded, whole = one.model.positional != "none", described.is_intact(one)
        for seed, (step, trained) in product(one.training.seeds, MOMENTS):
            noise = np.random.default_rng([seed, step, len(one.name)])
            member = {"ablation": one.name, "seed": seed, "step": step, "trained": trained}
            depths = range(one.model.layers + 1)
            for depth in depths:
                add(
                    "effective_rank", depth=depth, effective_rank=5.5 - depth * (0.4 if whole else 1.3) + noise.random()
                )
                for sublayer in ("attention", "mlp") if depth < one.model.layers else ("output",):
                    size = (0.5 if whole else 0.02) + noise.random()
                    share = 0.5 if depth < one.model.layers else np.nan
                    values = {"entering": size, "jacobian": 1 / size, "update_share": share}
                    add("activation_scale", layer=depth, sublayer=sublayer, **values)
                for position in range(POSITIONS):
                    feels = not blind and (encoded or depth > 1)
                    change = 0.3 * depth * feels * (1 + noise.random())
                    others = change or 0.1 * (causal and depth > 0 and position < POSITIONS - 1)
                    changes = {"change_of_token": others, "change_in_place": others}
                    add("permutation_sensitivity", depth=depth, position=position, **changes)
            if step and not trained:
                continue
            add(
                "symmetry",
                order_blind_predicted=int(blind),
                max_logit_change=0.0 if blind else 0.5 + noise.random(),
                total_variation=0.0 if blind else 0.1,
                changed_argmax_share=0.0 if blind else 0.2,
            )
            add("cost", flops_per_step=1e8 * one.model.layers)
            for layer in range(one.model.layers if causal else 0):
                effect = (1.0 + noise.random()) * (layer < one.model.layers - 1)
                add("mask_removal", layer=layer, max_logit_change=effect, total_variation=effect / 4)
            for layers in (*map(str, range(one.model.layers)), "all"):
                effect = 0.5 * causal * (layers != str(one.model.layers - 1)) * noise.random()
                add("mask_permutation", layers=layers, total_variation=effect, exact_match_lost=effect / 2)
            for depth, (place, part) in product(
                depths, enumerate(("swapped pair", "last", "rest", "all but the last"))
            ):
                recovery = np.nan if blind else float(place == 1) if depth == one.model.layers else 0.5 * noise.random()
                add("interchange", positions=part, depth=depth, recovery=recovery)
            for depth in depths:
                sham = 0.8 * noise.random()
                add("position_erasure", depth=depth, mean_erased=0.2, size_erased=0.1, sham=sham, untouched=0.9)
            for depth, (which, target) in product(depths, product(("random", "task"), ("position", "distance"))):
                r2 = 0.8 * (encoded or (causal and depth > 0)) + 0.02 * noise.random()
                add("position_probe", inputs=which, target=target, depth=depth, r2=r2, error=3 * (1 - r2))
            for depth, which in product(depths, ("random", "task")):
                score = 0.5 + 0.1 * (causal and depth > 0) + 0.01 * (noise.random() - 0.5)
                add("adjacency", inputs=which, depth=depth, adjacency=score)
            for depth in depths:
                add("correlation", depth=depth, within=0.3 + 0.01 * noise.random(), across=0.01 * depth)
                own = 0.9 if whole or depth == 0 else 0.2
                for position, token in product(range(POSITIONS), repeat=2):
                    accuracy = own if position == token else 0.1 + 0.2 * (token == 0) + 0.01 * noise.random()
                    keys = {"depth": depth, "position": position, "token_position": token}
                    add("token_probe", **keys, accuracy=accuracy, chance=0.1)
    return {name: pd.DataFrame(table) for name, table in sorted(rows.items())}


def ablations(made: Grid, ceiling: float | None = CEILING) -> pd.DataFrame:
    """`tables.ablations` of the grid."""
    flops = {one.name: 1e8 * one.model.layers for one in listed(made)}
    return tables.ablation_table(listed(made), runs(made), {one.dataset: ceiling for one in listed(made)}, flops)


def declared(made: Grid) -> list[Comparison]:
    """What a sceptic would have declared of this grid: the first ablations against the second."""
    first, *others = list(made)[:6]
    return [Comparison(first=name, second=others[0]) for name in [first, *others[1:]]] if others else []


def evidence(made: Grid, *, measured: bool = True) -> TaskResults:
    """What the findings are written from, as the stage `report` puts it together."""
    of_members = members(made) if measured else {}
    if measured:
        of_members["own_token"] = own = tables.own_token_table(of_members["token_probe"])
        of_members["own_token_added"] = tables.added_by_training(own, OWN_TOKEN["own_token"])
    values = {name: list(one.values) for name, one in measurements().items()} | OWN_TOKEN
    of_ablations = ablations(made)
    written = {
        "runs.csv": runs(made),
        "ablations.csv": of_ablations,
        "symmetry.csv": of_members["symmetry"].drop(columns="step") if measured else pd.DataFrame(columns=["ablation"]),
        **{
            f"measurements/{name}.csv": tables.summarise(of_members.get(name, pd.DataFrame()), of)
            for name, of in values.items()
        },
    }
    found = TaskResults("addition", TASK, listed(made), written, of_members, history(made), CEILING)
    written["comparisons.csv"] = comparisons.add_p_values(
        comparisons.comparison_table(found, declared(made)), declared(made), runs(made)
    )
    written["rescue.csv"] = rescue.rescue_table(listed(made), runs(made))
    return found


def told(made: Grid, *, measured: bool = True) -> list[PlacedSection]:
    """All that the report tells of the grid."""
    return report.collect_sections([evidence(made, measured=measured)], measurements())


def params(made: Grid) -> Params:
    """The `params.yaml` that would have given these ablations."""
    smoke = read_params(PRESETS / "smoke.yaml")
    first = next(iter(made.values()))[0]
    ablations = {
        one.name: Overrides(task=one.dataset, model=one.model.model_dump(), training=one.training.model_dump())
        for one in listed(made)
    }
    return Params(
        tasks=dict.fromkeys(dict.fromkeys(one.dataset for one in listed(made)), TASK),
        model=first.model,
        training=first.training,
        ablations=ablations,
        comparisons=declared(made),
        search=smoke.search,
    )


def without_pictures(patch: pytest.MonkeyPatch) -> None:
    """Every figure is a blank one: they are most of what a report costs."""
    blank = png(lambda: Figure(figsize=(1, 1)))
    patch.setattr(report, "png", lambda draw: blank)


def write(made: Grid, folder: Path) -> None:
    """The files that the stage `report` reads, below `folder`."""
    results, curves, measured = runs(made), history(made), members(made)
    for name in made:
        model, *others = (folder / part / name for part in ("models", "reports/evaluation", "reports/analysis"))
        own = curves[curves["ablation"] == name].drop(columns="ablation")
        files.write_csv(model / "history.csv", own)
        files.write_manifest(model, subject=name)
        files.write_csv(others[0] / "evaluation.csv", results[results["ablation"] == name])
        for measurement, table in measured.items():
            files.write_csv(others[1] / f"{measurement}.csv", table[table["ablation"] == name])
        for other in others:
            files.write_manifest(other, subject=files.open_verified(model, made_by="").digest)
