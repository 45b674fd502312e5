"""The page of a search: its answer, what was tried, and which residual connections can go."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pipeline import switches
from pipeline.params.score import BITS
from pipeline.reporting import figures
from pipeline.reporting.page import Picture, show_picture, to_markdown
from pipeline.reporting.wording import count_in_words, percent
from pipeline.search.results import SUBLAYERS, SearchResults

TITLE = "How few layers, how few residual connections?"
ROLES = {"shallowest": "fewest layers", "sparsest": "fewest residual connections", "unsolved": "best; none converged"}
"""Kind of best trial -> what it is the best in."""
NOTE = (
    "A configuration is **solved** if all its runs converged. The best of many trials looks better than it is. "
    "So the best were trained again, to the end of their budget, with fresh seeds: read those columns. Intervals are "
    "95 %; steps are means, in which a run that did not converge counts as its whole budget."
)


def build_page(results: SearchResults, ablation_lines: Sequence[str]) -> tuple[str, list[Picture]]:
    """Return the page in Markdown, and its figures; `ablation_lines` are the best ablations as lines of params.yaml."""
    texts = [f"# {TITLE}", *_alarms(results)]
    if results.distinct_trials.empty:
        return "\n\n".join([*texts, "No trial is complete: there is no answer yet.", _course(results)]) + "\n", []
    map_picture = residual_map(results)
    texts += [
        "## The answer", NOTE, to_markdown(answer_table(results)),
        *_limits(results),
        "## What was tried", _course(results),
        "By number of layers:", to_markdown(depth_table(results)),
        "Configurations that no other beats, by runs converged and residual connections kept:",
        to_markdown(front_table(results)),
        "## Which residual connections can go", show_picture(map_picture),
    ]  # fmt: skip
    if results.importances:
        importances = pd.DataFrame(results.importances).T.map("{:.2f}".format).rename_axis("Parameter").reset_index()
        texts += [
            "## What the search was sensitive to",
            "Importance (PED-ANOVA); each column sums to 1.",
            to_markdown(importances),
        ]
    lines = "\n".join(ablation_lines)
    texts += [
        "## Ready-made ablations",
        "Lines for `ablations` in `params.yaml`; `python -m pipeline search --promote N` adds the first N.",
        f"```yaml\n{lines}\n```",
    ]
    return "\n\n".join(texts) + "\n", [map_picture]


def answer_table(results: SearchResults) -> pd.DataFrame:
    """Return a table with a row per best configuration: its converged runs in the search and with fresh seeds."""
    estimates, trials = results.estimates(), results.distinct_trials
    roles: dict[int, list[str]] = {}
    for positional in results.positional_encodings:
        for kind, trial in results.best_trials(positional).items():
            words = f"{ROLES[kind]}, {switches.positional_encoding_in_words(positional)}"
            roles.setdefault(int(trial["trial"]), []).append(words)
    rows = []
    for number in results.confirmation_candidates:
        trial = trials[trials["trial"] == number].iloc[0]
        cells = {
            header: estimates.find(quantity, ablation=f"trial-{number}")
            for header, quantity in (
                ("In the search", "converged"),
                ("With fresh seeds", "fresh_converged"),
                ("Steps, fresh seeds", "fresh_restricted_steps"),
            )
        }
        rows.append(
            {"Configuration": trial_in_words(results, trial), "Best in": "; ".join(roles.get(number, []))}
            | {header: str(estimate or "") for header, estimate in cells.items()}
        )
    return pd.DataFrame(rows)


def depth_table(results: SearchResults) -> pd.DataFrame:
    """Return a table with a row per encoding and number of layers: configurations tried and solved, and the best."""
    trials = results.trials.set_index("trial", drop=False)
    return pd.DataFrame(
        {
            "Encoding": switches.positional_encoding_in_words(row["positional"]),
            "Layers": str(row["layers"]),
            "Tried": str(row["tried"]),
            "Solved": str(row["solved"]),
            "Most runs converged": f"{row['best_converged']} of {row['runs']}",
            f"Best {results.score_words}": percent(row["best_score"]),
            "Fewest connections": trial_in_words(results, trials.loc[row["trial"]]) if row["solved"] else "",
        }
        for row in results.depth_table().to_dict("records")
    )


def front_table(results: SearchResults) -> pd.DataFrame:
    """Return a table of the trials on the Pareto front."""
    return pd.DataFrame(
        {
            "Runs converged": f"{trial['converged']} of {trial['runs']}",
            f"Mean {results.score_words}": percent(trial["score"]),
            "Residual connections kept": f"{trial['residuals_kept']} of {2 * trial['layers']}",
            "Configuration": trial_in_words(results, trial),
        }
        for _, trial in results.pareto_front().iterrows()
    )


def residual_map(results: SearchResults) -> Picture:
    """Return the figure of how often configurations without each residual connection were solved."""
    counts = results.residual_map_table()
    pooled = counts["layers"].isna()
    panels = {"all depths": counts[pooled]}
    panels |= {count_in_words(int(str(depth)), "layer"): rows for depth, rows in counts[~pooled].groupby("layers")}
    draw = partial(
        figures.draw_heat, {title: _heat(rows) for title, rows in list(panels.items())[:6]}, x_label="", y_label="",
        color_label="Share of configurations solved",
    )  # fmt: skip
    caption = (
        "Of the configurations without this connection (whatever else they lack), those of which all runs converged. "
        "The search prefers configurations that resemble good ones, so these are no random sample."
    )
    return Picture("residual_map", "How often all runs converged without a residual connection", caption, draw)


def _heat(counts: pd.DataFrame) -> figures.Heat:
    layers = 1 + int(counts["layer"].max())
    tried, solved = (
        counts.pivot(index="layer", columns="sublayer", values=name)[list(SUBLAYERS)].to_numpy(int)
        for name in ("lacking", "solved")
    )
    shares = np.divide(solved, tried, out=np.full((layers, 2), np.nan), where=tried > 0)
    texts = [[f"{a}/{b}" if b else "" for a, b in zip(*row, strict=True)] for row in zip(solved, tried, strict=True)]
    names = [f"layer {layer}" for layer in range(layers)]
    return figures.Heat(names, ["attention", "MLP"], shares, texts)


def trial_in_words(results: SearchResults, trial: Any) -> str:
    """Describe a trial: its number, architecture and other settings."""
    return f"trial {trial['trial']}: {results.architecture_in_words(trial)}{results.other_settings_in_words(trial)}"


def _alarms(results: SearchResults) -> Iterator[str]:
    """Yield a warning for each order-blind trial with converged runs: it has seen the order, so there is a bug."""
    task, blind = results.params.task(results.params.search.task), results.order_blind_trials
    if task.score == BITS or not task.order_matters:
        return
    for _, trial in blind[blind["converged"] > 0].iterrows():
        yield (
            f"> **BUG IN THE INSTRUMENT.** {trial_in_words(results, trial)} is order-blind by construction, but "
            f"{trial['converged']} of {trial['runs']} runs converged. No number of this search can be trusted."
        )


def _limits(results: SearchResults) -> Iterator[str]:
    """Yield what the search leaves open."""
    if not results.is_space_exhausted:
        yield (
            f"The space was sampled, not tried in full ({len(results.distinct_trials)} configurations of "
            f"{results.space_size or 'many'}). That none converged without a connection does not prove that none can."
        )
    if not results.confirmation_runs:
        yield "Nothing was trained again with fresh seeds (`search.confirm`), so the best looks better than it is."


def _course(results: SearchResults) -> str:
    """Return how many trials were complete, repeated, lost and given up, in a paragraph."""
    search, trials, distinct = results.params.search, results.trials, results.distinct_trials
    complete = int((trials["state"] == "complete").sum())
    wanted = f" {results.trials_required} are required." if complete < results.trials_required else ""
    counts = {
        "complete": complete,
        "distinct configurations": len(distinct),
        "run again after a worker was lost": int(trials["retries"].notna().sum()),
        "failed": int((trials["state"] == "failed").sum()),
        "stopped early, as no run got better": int(distinct["given_up"].sum()),
    }
    listed = ", ".join(f"{count} {words}" for words, count in counts.items())
    return (
        f"Study `{results.name}`, {count_in_words(len(search.seeds), 'run')} for each trial, at most "
        f"{search.steps:,} steps. Trials: {listed}.{wanted} Runs that diverged: {int(distinct['diverged'].sum())}."
    )
