"""The plan of a search: which patterns are tried, and their trials in Optuna's queue.

The plan depends on the settings of the search and on the results of finished generations alone, not on workers. It is
stored in the study, and a trial whose worker failed is queued again at its position. So any number of workers, killed
or not, gives the same trials.
"""

from collections.abc import Mapping
from inspect import signature
from typing import Any, Literal

import numpy as np
import optuna
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from pipeline.errors import RunError, UserError
from pipeline.params import Params
from pipeline.params.config import shorten_value, suggest_names
from pipeline.search import space
from pipeline.search.space import Choices

PlanPosition = tuple[int, int, int]
"""Position of a trial in the plan: number of layers, generation, index in the generation."""
ALLOWED = {
    "sampler": ("TPESampler", "GPSampler", "RandomSampler"),
    "pruner": ("ThresholdPruner", "PatientPruner", "NopPruner"),
}
"""Samplers that need nothing but the trials so far, and pruners that look at nothing but a run's own curve."""
MAX_FAILURES = 10  # of one trial, after which the search gives up: the trial itself may kill its workers
MAX_DRAWS = 500  # after which a sampler is taken to know no pattern that was not drawn before


def read_plan(params: Params, stored: Mapping[str, Any]) -> dict[PlanPosition, Choices]:
    """Return the pattern at each planned position, in order, from the attributes of the study."""
    search = params.search
    return {
        (layers, generation, index): pattern
        for layers in space.list_depths(params)
        for generation in range(_generation_count(params, layers))
        for index, pattern in enumerate(stored.get(_plan_name(layers, generation), []))
        if space.is_enumerated(params, layers) or generation * search.generation + index < search.trials
    }


def find_trials(study: optuna.Study) -> dict[PlanPosition, FrozenTrial]:
    """Return the trial at each position of the plan, without those that failed."""
    return {_position(trial): trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.FAIL}


def queue_trials(params: Params, study: optuna.Study) -> bool:
    """Queue the trials that can be run now, and return True if the search is complete.

    Only one process at a time may call it. A RunError is raised if a trial has failed `MAX_FAILURES` times.
    """
    trials = find_trials(study)
    complete = {position: trial for position, trial in trials.items() if trial.state == TrialState.COMPLETE}
    stored = study.user_attrs
    for layers in space.list_depths(params):
        for generation in range(_generation_count(params, layers)):
            name = _plan_name(layers, generation)
            planned = [position for position in read_plan(params, stored) if position[0] == layers]
            if name not in stored and set(planned) <= complete.keys():
                before = [complete[position] for position in planned]
                stored[name] = _plan_generation(params, layers, generation, before)
                study.set_user_attr(name, stored[name])
    plan = read_plan(params, stored)
    failed: dict[PlanPosition, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        failed.setdefault(_position(trial), []).append(trial)
    for position in [position for position in plan if position not in trials]:
        attempts = failed.get(position, [])
        if len(attempts) >= MAX_FAILURES:
            raise RunError(f"search: trial {attempts[-1].number} failed {len(attempts)} times: {plan[position]}")
        rungs = [item for trial in attempts[-1:] for item in trial.user_attrs.items() if item[0].startswith("rung ")]
        study.enqueue_trial(plan[position], user_attrs={**dict(rungs), "position": position})
    return plan.keys() <= complete.keys()


def build(params: Params, key: Literal["sampler", "pruner"], **arguments: Any) -> Any:
    """Build Optuna's sampler or pruner; a UserError is raised for a name or an argument that is not allowed."""
    settings = arguments | getattr(params.search, key)
    location, name = f"params.yaml: search.{key}", str(settings.pop("name", None))
    if name not in ALLOWED[key]:
        raise UserError(f"{location}.name: {shorten_value(name)} is unknown{suggest_names(name, ALLOWED[key])}")
    if name == "PatientPruner":
        settings = {"wrapped_pruner": None} | settings
    build = getattr(getattr(optuna, f"{key}s"), name)
    try:
        return build(**settings)
    except (TypeError, ValueError) as error:
        taken = ", ".join(signature(build).parameters)
        raise UserError(f"{location}: {shorten_value(settings)}: {error} (allowed: {taken})") from None


def _position(trial: FrozenTrial) -> PlanPosition:
    layers, generation, index = trial.user_attrs["position"]
    return layers, generation, index


def _plan_name(layers: int, generation: int) -> str:
    return f"plan of {layers} layers, generation {generation}"


def _generation_count(params: Params, layers: int) -> int:
    return 1 if space.is_enumerated(params, layers) else -(-params.search.trials // params.search.generation)


def _plan_generation(params: Params, layers: int, generation: int, before: list[FrozenTrial]) -> list[Choices]:
    """Return all patterns of an enumerated stratum, or those of a sampled generation, which were not drawn before."""
    if space.is_enumerated(params, layers):
        return space.list_patterns(params, layers)
    seed = int(np.random.SeedSequence([params.search.seed, layers, generation]).generate_state(1)[0])
    known, patterns = optuna.create_study(), [trial.params for trial in before]
    known.add_trials(before)
    samplers = build(params, "sampler", seed=seed), RandomSampler(seed)
    for known.sampler in (sampler for sampler in samplers for _ in range(MAX_DRAWS)):
        if len(patterns) == len(before) + params.search.generation:
            break
        pattern = space.suggest_choices(known.ask(), params, layers)
        if pattern not in patterns:
            patterns.append(pattern)
    return patterns[len(before) :]
