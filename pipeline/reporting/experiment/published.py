"""The runs found in the authors' public notebooks, to lie beside ours.

`residual_ablation_runs.csv` holds 218 runs of C. Zuo, M. Guerzhoy, "Breaking Symmetry When Training Transformers"
(arXiv 2402.05969): causal decoders of 6 layers whose layers, counted from 0, lack both residual connections.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import pandas as pd

from pipeline import switches
from pipeline.params import Ablation
from pipeline.reporting.intervals import rank_correlation

LAYERS = 6
THEIRS: dict[str, dict[str, object]] = {
    "model": {"layers": LAYERS, "heads": 6, "width": 384, "dropout": 0.2},
    "training": {
        "optimizer": "adamw",
        "learning_rate": 2.6441e-4,
        "warmup_steps": 400,
        "steps": 5000,
        "batch_size": 256,
        "loss_on": "all",
        "stop_when_converged": False,
    },
}
"""Their settings, as far as ours have the same names; of the data, the report says what differs."""

COLUMNS = (
    "positional",
    "ablations",
    "budget",
    "rank_correlation",
    "low",
    "high",
    "both",
    "neither",
    "only_ours",
    "only_theirs",
)
FEWEST = 10
"""Ablations that a rank correlation takes at least."""
LEARNED = 0.5
"""The exact match from which a published ablation counts as one that learns."""


@dataclass(frozen=True)
class Published:
    """The published runs of one ablation; exact match as shares, each the maximum over a run's evaluations."""

    runs: int
    median: float
    low: float
    """The smallest of the runs' maxima."""
    high: float


@cache
def runs() -> pd.DataFrame:
    """All of them: `positional, residual_free_layers, run, max_test_exact_match_percent`."""
    content = files("pipeline.reporting.experiment").joinpath("residual_ablation_runs.csv")
    with content.open() as file:
        return pd.read_csv(file, dtype={"residual_free_layers": str}, keep_default_na=False)


def for_ablation(ablation: Ablation) -> Published | None:
    """The published runs beside an ablation, or None where there are none.

    A counterpart is causal, has the same positional encoding, and lacks both residual connections in the same layers;
    where we have not as many, in layers of the same roles: the first, the last, or an inner one, of which theirs had
    four. One layer has no counterpart: it is order-blind without positional encoding, six are not.
    """
    model, free = ablation.model, ablation.model.residual_free
    if ablation.task.name != "addition":
        return None
    if model.attention != "causal" or free.attention != free.mlp or model.layers == 1:
        return None
    usual = [one for one in switches.SWITCHES if one.default is not None and one.field != "residual_free"]
    if any(switch.value_of(ablation) != switch.default for switch in usual):
        return None
    table = runs()
    theirs = table["residual_free_layers"].map(lambda free: called(map(int, free.split()), LAYERS, model.layers))
    same = (table["positional"] == model.positional) & (theirs == places(ablation))
    shares = table.loc[same, "max_test_exact_match_percent"] / 100
    if shares.empty:
        return None
    return Published(len(shares), float(shares.median()), float(shares.min()), float(shares.max()))


def called(free: Iterable[int], layers: int, ours: int) -> str:
    """The layers without residual connections, of so many, beside an ablation of ours of `ours` layers: by number where that
    has as many as theirs, such as `layers 0, 1`, else by what they are to the others, such as `first, inner`."""
    free = sorted(free)
    if ours == LAYERS:
        return switches.layers_in_words(free) if free else ""
    return ", ".join("first" if layer == 0 else "last" if layer == layers - 1 else "inner" for layer in free)


def places(ablation: Ablation) -> str:
    """The layers that an ablation and its counterpart lack residual connections in; nothing where it has them all."""
    return called(ablation.model.residual_free.mlp, ablation.model.layers, ablation.model.layers)


def agreement(ablations: Sequence[Ablation], table: pd.DataFrame) -> pd.DataFrame:
    """How well our ablations of their depth go with theirs, ablation by ablation: a row for each positional encoding, and one for
    `all`, where there are at least `FEWEST` with the usual optimizer. `rank_correlation`, with its interval: of their
    medians with how few steps ours take; `both`, `neither`, `only_ours`, `only_theirs`: how many ablations learn, which is
    that half of our runs converge, and that the median of theirs is at least `LEARNED`.

    Args:
        table: a row per ablation: `ablation, runs, budget, converged, restricted_steps, published_median`.
    """
    usual = switches.ablations_with(ablations, layers=LAYERS, optimizer=switches.common_values(ablations)["optimizer"])
    deep = {ablation.name: ablation.model.positional for ablation in usual}
    paired = table[table["ablation"].isin(deep) & table["published_median"].notna()]
    of = paired["ablation"].map(deep)
    rows = []
    for name in ("all", *of.unique()):
        some = paired if name == "all" else paired[of == name]
        if len(some) < FEWEST:
            continue
        ours, theirs = 2 * some["converged"] >= some["runs"], some["published_median"] >= LEARNED
        learned = (ours & theirs, ~ours & ~theirs, ours & ~theirs, theirs & ~ours)
        found = rank_correlation(-some["restricted_steps"], some["published_median"])
        rows.append([name, len(some), some["budget"].min(), *found, *(int(each.sum()) for each in learned)])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def what_differs(ablation: Ablation) -> list[str]:
    """What of the ablation's model and training is not as theirs was, in words."""
    found = []
    for section, values in THEIRS.items():
        for field, theirs in values.items():
            if (ours := getattr(getattr(ablation, section), field)) != theirs:
                found.append(f"{field.replace('_', ' ')} {_said(ours)}, not {_said(theirs)}")
    return found


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else f"`{value}`"
