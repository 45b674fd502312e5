"""Results of a search as tables: its trials, their runs, and estimates computed from both."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState
from statsmodels.stats.multitest import multipletests

from pipeline import switches
from pipeline.params import Ablation, Params
from pipeline.reporting.estimates import Estimates, complete_columns
from pipeline.search import plan, race, space
from pipeline.search.effects import areas_of_common_rungs, joint_removal_cost, removal_cost
from pipeline.search.space import Choices

FINISHED = ("complete", "proved")  # states of trials that have a result: trained, or known from the proof
RUN_COLUMNS = {
    "trial": "Int64", "rung": "Int64", "seed": "Int64", "steps": "Int64", "converged": "Int64",
    "steps_to_converge": "Int64", "area": "float", "score": "float", "stopped": "Int64", "diverged": "Int64",
}  # fmt: skip
"""Columns of `runs.csv`, and the types of their values."""


@dataclass(frozen=True)
class SearchResults:
    """Results of a search, from which the report is built. Trials are numbered in the order of the plan."""

    name: str
    params: Params
    ablations: dict[int, Ablation]
    """Trial -> the ablation that it trains."""
    patterns: dict[int, Choices]
    curves: dict[int, dict[int, float]]
    """Trial -> mean score of its runs after each evaluation, one rung after the other."""
    trials: pd.DataFrame
    """Table `trials.csv`: a row per trial."""
    runs: pd.DataFrame
    """Table `runs.csv`: a row per run."""

    @classmethod
    def read(cls, params: Params, study: optuna.Study) -> "SearchResults":
        """Read the results of a search so far from its study."""
        trials, runs, ablations, patterns, curves = [], [], {}, {}, {}
        stored = plan.find_trials(study)
        for number, (position, pattern) in enumerate(plan.read_plan(params, study.user_attrs).items()):
            ablations[number], patterns[number] = space.build_ablation(params, position[0], pattern), pattern
            curves[number] = stored[position].intermediate_values if position in stored else {}
            trial_runs = _read_runs(stored.get(position))
            runs += [{"trial": number, **run} for run in trial_runs]
            state = stored[position].state.name.lower() if position in stored else "waiting"
            trials.append({
                "trial": number, "state": "proved" if state == "complete" and not trial_runs else state,
                **switches.switch_columns(ablations[number]),
                **{name: value for name, value in pattern.items() if not name.startswith("residual_free_")},
                "generation": position[1], "residuals_kept": race.count_residuals(ablations[number]),
            })  # fmt: skip
        run_table = pd.DataFrame(runs, columns=[*RUN_COLUMNS]).astype(RUN_COLUMNS)
        summary = _summarise_runs(run_table, params.search.converges_share)
        table = pd.DataFrame(trials, columns=None if trials else ["trial", "state"]).join(summary, on="trial")
        is_proved = table["state"] == "proved"
        for name, value in {"verdict": "does not converge", "probability": 0.0, "runs": 0, "converged": 0}.items():
            table[name] = table[name].mask(is_proved, value)
        return cls(study.study_name, params, ablations, patterns, curves, table, run_table)

    @cached_property
    def groups(self) -> dict[str, pd.DataFrame]:
        """Name -> rows of the finished trials with the same number of layers and positional encoding."""
        finished = self.trials[self.trials["state"].isin(FINISHED)]
        by = finished.groupby(["layers", "positional"], sort=False) if len(finished) else ()
        return {f"{layers}-layers-{positional}": group for (layers, positional), group in by}

    def is_sampled(self, group: str) -> bool:
        """Return True if only some of the patterns with the number of layers of a group were tried."""
        return not space.is_enumerated(self.params, int(group.partition("-")[0]))

    @cached_property
    def estimates(self) -> Estimates:
        """The estimates of each group of trials, such as `2-layers-none`."""
        rows, search = pd.DataFrame([*self._map_rows(), *self._effect_rows()]), self.params.search
        return Estimates(complete_columns(rows.assign(task=search.task, budget=search.steps)))

    def _map_rows(self) -> Iterator[dict[str, Any]]:
        for name, group in self.groups.items():
            fewest = race.find_fewest_connections(group)
            common = {"ablation": name, "n": len(group), "method": fewest.pop("method")}
            yield {**common, "quantity": "fewest_probability", "unit": "share", "value": fewest.pop("probability")}
            yield {**common, "quantity": "fewest_connections", "unit": "count", **fewest}
            decided = (group["verdict"] != "undecided").mean()
            yield {**common, "quantity": "patterns_decided", "unit": "runs", "value": decided, "method": "count"}

    def _effect_rows(self) -> Iterator[dict[str, Any]]:
        for name, group in self.groups.items():
            if self.is_sampled(name):
                continue
            areas = areas_of_common_rungs(self.runs[self.runs["trial"].isin(group["trial"])])
            patterns = {trial: self.patterns[trial] for trial in group["trial"]}
            connections = space.list_connections(self.params, group["layers"].iloc[0])
            known = {item: cost for item in connections if (cost := removal_cost(areas, patterns, item))}
            corrected = multipletests([cost["p"] for cost in known.values()], method="holm")[1] if known else ()
            for (parameter, cost), p in zip(known.items(), corrected, strict=True):
                connection = dict(zip(("sublayer", "layer"), connections[parameter], strict=True))
                row = {"ablation": name, "quantity": "removal_cost", "unit": "steps"}
                yield {**row, **connection, **cost, "p_corrected": p}
            for pair in product(known, known):
                (first_sublayer, i), (second_sublayer, j) = (connections[parameter] for parameter in pair)
                if (first_sublayer, second_sublayer) == ("attention", "mlp"):
                    row = {"ablation": name, "quantity": "joint_removal_cost", "unit": "steps"}
                    yield {**row, "key": f"attention={i} mlp={j}", **joint_removal_cost(areas, patterns, pair)}


def _read_runs(trial: FrozenTrial | None) -> list[dict[str, Any]]:
    """Return a row per run of a finished trial."""
    if trial is None or trial.state != TrialState.COMPLETE:
        return []
    rungs = [trial.user_attrs[name] for name in sorted(trial.user_attrs) if name.startswith("rung ")]
    return [{"rung": number, **run} for number, rung in enumerate(rungs) for run in rung["runs"]]


def _summarise_runs(runs: pd.DataFrame, share: float) -> pd.DataFrame:
    """Return the columns of `trials.csv` that the runs of each trial give; `area` is the mean of the first rung's."""
    groups = runs.groupby("trial")
    table = groups[["converged", "stopped", "diverged"]].sum()
    table.insert(0, "runs", groups.size().astype("Int64"))
    counts = [(int(row["converged"]), int(row["runs"])) for _, row in table.iterrows()]
    table["converged_share"] = (table["converged"] / table["runs"]).astype(float)
    table["probability"] = [race.probability_of_convergence(*count, share) for count in counts]
    table["verdict"] = [race.decide(*count, share) for count in counts]
    table["area"] = runs[runs["rung"] == 0].groupby("trial")["area"].mean()
    return table.assign(score=groups["score"].mean())
