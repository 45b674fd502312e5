"""The end of a study: what its answer names is trained again with fresh seeds. The storage keeps what became of it."""

from collections.abc import Sequence

import optuna
import pandas as pd

from pipeline.search.result import Outcomes


def store(study: optuna.Study, trial: int, found: Outcomes) -> None:
    """Keep what became of a trial's members with fresh seeds."""
    study.set_user_attr(_key(trial), found)


def stored(study: optuna.Study, trials: Sequence[int], seeds: Sequence[int]) -> dict[int, pd.DataFrame]:
    """Trial -> what became of its members with these seeds: a row each, as in `training.history.outcomes`. Of those of
    which that is known."""
    kept = study.user_attrs
    found = {trial: pd.DataFrame(kept[_key(trial)]) for trial in trials if _key(trial) in kept}
    return {trial: members for trial, members in found.items() if seeds and list(members["seed"]) == list(seeds)}


def _key(trial: int) -> str:
    return f"confirmed-{trial}"
