"""What a study found, as tables, from its trials: a row per trial, as in `trials.csv`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.measurement.intervals import exact_interval
from pipeline.measurement.order_blind import is_order_blind
from pipeline.params import Model, Training, checked

SUBLAYERS = ("attention", "mlp")
PATTERN = ("residual_free_attention", "residual_free_mlp")
SETTINGS = ("heads", "width", "positional", "attention", "optimizer", "learning_rate")
CONFIGURATION = ("layers", *PATTERN, *SETTINGS)
"""The columns that say what a trial trained."""


def evidence(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that were trained to their end, in the order of their numbers. What two workers trained at the same
    time counts once, as does what was repeated: the same seeds give the same members, not more of them."""
    known = trials[(trials["state"] == "complete") & trials["repeats"].isna()].sort_values("trial")
    known = known.assign(**{name: known[name].fillna("") for name in PATTERN})
    return known.drop_duplicates(list(CONFIGURATION))


def solved(trials: pd.DataFrame) -> pd.DataFrame:
    """The evidence of which every member converged."""
    known = evidence(trials)
    return known[known["converged"] == known["members"]]


def order_blind(trials: pd.DataFrame, model: Model) -> pd.DataFrame:
    """The evidence that cannot know the order of its input, whatever it learns."""
    known = evidence(trials)
    blind = [is_order_blind(architecture(trial, model)) for _, trial in known.iterrows()]
    return known[np.array(blind, bool)]


def pareto_front(trials: pd.DataFrame, minimized: str = "residuals_kept") -> pd.DataFrame:
    """The trials that no other beats in one of share converged (more is better) and `minimized` (less is better)
    without losing in the other; of equals, all. Sorted by `minimized`."""
    known = evidence(trials)
    share, size = (known[name].to_numpy(float) for name in ("converged_share", minimized))
    as_good = (share[:, None] >= share) & (size[:, None] <= size)
    better = (share[:, None] > share) | (size[:, None] < size)
    beaten = pd.Series((as_good & better).any(axis=0), index=known.index)
    front = known[~beaten]
    return front.sort_values([minimized, "trial"])


def ranked(trials: pd.DataFrame, minimized: str = "residuals_kept") -> pd.DataFrame:
    """Best first: more members converged, then less of `minimized`, then more exact, then earlier."""
    order = ["converged_share", minimized, "validation_exact_match", "trial"]
    return evidence(trials).sort_values(order, ascending=[False, True, False, True])


def sparsest_by_depth(trials: pd.DataFrame) -> pd.DataFrame:
    """A row per depth: `layers, tried, solved` (configurations of which every member converged), `best_converged` (the
    most of `members` that did in one), `best_exact_match`, and of the solved one that keeps the fewest residual
    connections (of equals, the most exact) all of `trial, residuals_kept` and `CONFIGURATION`; empty without any."""
    named = ["trial", "residuals_kept", *CONFIGURATION[1:]]
    rows = []
    for layers, tried in evidence(trials).groupby("layers"):
        full = ranked(solved(tried))
        rows.append(
            {
                "layers": layers,
                "tried": len(tried),
                "solved": len(full),
                "best_converged": tried["converged"].max(),
                "members": tried["members"].max(),
                "best_exact_match": tried["validation_exact_match"].max(),
                **(full.iloc[0][named].to_dict() if len(full) else {}),
            }
        )
    columns = ["layers", "tried", "solved", "best_converged", "members", "best_exact_match", *named]
    return pd.DataFrame(rows, columns=columns).astype({"trial": "Int64", "residuals_kept": "Int64"})


def shallowest(trials: pd.DataFrame) -> int | None:
    """The fewest layers with which every member of some configuration converged."""
    full = solved(trials)
    return int(full["layers"].min()) if len(full) else None


def residual_map(trials: pd.DataFrame) -> pd.DataFrame:
    """How often the task was learned without a connection: `layers` (the depth; missing: all depths together), `layer,
    sublayer, lacking` (configurations without it), `solved` (of these, how many of which every member converged), and
    `low, high`, the exact 95% interval of their share."""
    known = evidence(trials)
    depths: list[tuple[int | None, pd.DataFrame]] = [(None, known)]
    depths += [(int(str(layers)), tried) for layers, tried in known.groupby("layers")]
    rows = []
    for layers, tried in depths:
        for layer in range(int(tried["layers"].max()) if len(tried) else 0):
            for sublayer in SUBLAYERS:
                without = tried[[layer in free for free in tried[f"residual_free_{sublayer}"].map(layers_of)]]
                k, n = len(solved(without)), len(without)
                rows.append([layers, layer, sublayer, n, k, *exact_interval(k, n)])
    columns = ["layers", "layer", "sublayer", "lacking", "solved", "low", "high"]
    return pd.DataFrame(rows, columns=columns).astype({"layers": "Int64"})


def best_so_far(trials: pd.DataFrame, minimized: str = "residuals_kept") -> pd.DataFrame:
    """`trial, best`: the least of `minimized` among the trials up to this one of which every member converged, from the
    first such trial to the last of all."""
    known = evidence(trials)
    values = known[minimized].astype(float).where(known["trial"].isin(solved(trials)["trial"]), np.inf)
    best = pd.DataFrame({"trial": known["trial"], "best": values.cummin()})
    return best[np.isfinite(best["best"])]


def layers_of(text: object) -> list[int]:
    """`0 2` as numbers; nothing where nothing is said."""
    return [int(layer) for layer in text.split()] if isinstance(text, str) else []


def architecture(trial: pd.Series, model: Model) -> Model:
    """What the trial trained, where `model` is what the study did not vary."""
    asked: dict[str, Any] = {name: int(trial[name]) for name in ("layers", "heads", "width")}
    asked |= {name: str(trial[name]) for name in ("positional", "attention")}
    asked["residual_free"] = {name: layers_of(trial[f"residual_free_{name}"]) for name in SUBLAYERS}
    asked["positional_every_layer"] = model.positional_every_layer and asked["positional"] in ("learned", "sinusoidal")
    return checked(Model, model.model_dump() | asked, f"trial {trial['trial']}")


def stanza(trial: pd.Series, model: Model, training: Training) -> tuple[str, dict[str, Any]]:
    """A cell that repeats the trial's configuration: its name, and how it differs from the shared sections. Two trials
    have the same name only if they are the same configuration."""
    wanted = architecture(trial, model)
    base = model.model_dump(mode="json")
    changed = {key: value for key, value in wanted.model_dump(mode="json").items() if value != base[key]}
    free = wanted.residual_free
    if "residual_free" in changed and free.attention == free.mlp:
        changed["residual_free"] = list(free.mlp)
    asked: dict[str, Any] = {"optimizer": str(trial["optimizer"]), "learning_rate": float(trial["learning_rate"])}
    trained = {key: value for key, value in asked.items() if value != getattr(training, key)}

    lacking = [_dashed(name, getattr(free, name)) for name in SUBLAYERS if getattr(free, name)]
    parts: list[str] = [f"search-{wanted.layers}-layer{'s' * (wanted.layers > 1)}"]
    parts += ["no-residual", *lacking] if lacking else []
    parts += [wanted.attention] if wanted.attention != "causal" else []
    parts += [wanted.positional] if wanted.positional != "none" else []
    parts += [_dashed(name, [changed[name]]) for name in ("heads", "width") if name in changed]
    parts += [asked["optimizer"]] if "optimizer" in trained else []
    parts += [_dashed("rate", [trained["learning_rate"]])] if "learning_rate" in trained else []
    sections = {"model": changed, "training": trained}
    return "-".join(parts), {name: section for name, section in sections.items() if section}


def _dashed(name: str, numbers: Sequence[object]) -> str:
    """`mlp-0-1`, `rate-0-003`."""
    return "-".join([name, *(str(number).replace(".", "-").replace("+", "") for number in numbers)])
