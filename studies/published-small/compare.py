"""Compare this study's ablations with the runs that Zuo and Guerzhoy published, ablation by ablation.

Run `python studies/published-small/compare.py`. It reads `reports/ablations.csv` (this study) and
`residual_ablation_runs.csv` (218 runs found in the notebooks of the authors' public code), both in its own folder, and
writes `comparison.csv` (a row per ablation), `agreement.csv` (rank correlations) and `comparison.md` (both, to read).
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

FOLDER = Path(__file__).parent
OPTIMIZER = "muon"
"""Rank correlations leave out the two ablations that were trained with AdamW."""
LEARNED = 0.5
"""An ablation learned if half of its runs converged (ours), or if the median exact match is at least this (theirs)."""
CAPTION = """# The study beside the published runs

Written by `python studies/published-small/compare.py`. Ours: test exact match at the last step, and steps to converge
(a run that did not converge counts as its budget). Theirs: the **maximum** test exact match over a run's 21
evaluations, read from notebooks and **not checked against the printed paper** (6 layers, 6 heads, width 384, AdamW,
5,000 steps; other data, loss and decoding). So the two are beside each other, not against each other. Layers are
counted from 0; the ablation lacks both residual connections in those named.
"""


def compare(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Return a row per ablation of ours that has published runs.

    Args:
        ours: `ablations.csv` of the study.
        theirs: a row per published run: `positional, residual_free_layers, run, max_test_exact_match_percent`.
    """
    shares = theirs.assign(share=theirs["max_test_exact_match_percent"] / 100)
    published = shares.groupby(["positional", "residual_free_layers"])["share"].agg(
        published_runs="count", published_median="median", published_min="min", published_max="max"
    )
    columns = ["ablation", "positional", "residual_free_mlp", "optimizer", "budget", "runs", "converged"]
    scores = ["restricted_steps", "test_exact_match_median", "test_exact_match_min", "test_exact_match_max"]
    both_sublayers = ours[ours["residual_free_attention"] == ours["residual_free_mlp"]]
    renamed = both_sublayers[columns + scores].rename(columns={"residual_free_mlp": "residual_free_layers"})
    return renamed.merge(published.reset_index(), on=["positional", "residual_free_layers"])


def agreement(compared: pd.DataFrame) -> pd.DataFrame:
    """Return how well the ablations agree: a row for all of them and one for each positional encoding.

    `rank_correlation` (Spearman's) is that of the published medians with how few steps ours take; `low` and `high` are
    its 95 % interval. `fewer_missing_correlation` is that of the published medians with how few layers lack their
    connections. `partial_correlation`, with `partial_p`, is what is left of the first given the number of these layers
    and the positional encoding. The last four columns count ablations that learned in both studies, in neither, or in
    one only.
    """
    same_optimizer = compared[compared["optimizer"] == OPTIMIZER]
    groups = {"all": same_optimizer} | {str(name): rows for name, rows in same_optimizer.groupby("positional")}
    table = []
    for name, rows in groups.items():
        ours = 2 * rows["converged"] >= rows["runs"]
        theirs = rows["published_median"] >= LEARNED
        few_steps, published = -rows["restricted_steps"], rows["published_median"]
        missing_layers = rows["residual_free_layers"].str.count(r"\d+")
        correlation, low, high = rank_correlation(few_steps, published)
        partial, p = partial_rank_correlation(few_steps, published, [missing_layers, rows["positional"]])
        table.append(
            {
                "positional": name,
                "ablations": len(rows),
                "rank_correlation": correlation,
                "low": low,
                "high": high,
                "fewer_missing_correlation": stats.spearmanr(-missing_layers, published).statistic,
                "partial_correlation": partial,
                "partial_p": p,
                "both": int((ours & theirs).sum()),
                "neither": int((~ours & ~theirs).sum()),
                "only_ours": int((ours & ~theirs).sum()),
                "only_theirs": int((~ours & theirs).sum()),
            }
        )
    return pd.DataFrame(table)


def rank_correlation(first: "pd.Series[float]", second: "pd.Series[float]") -> tuple[float, float, float]:
    """Return Spearman's rank correlation of pairs and the ends of its 95 % interval (Bonett and Wright, 2000).

    All three are NaN for fewer than four pairs, or if all values of one side are equal.
    """
    if len(first) < 4 or first.nunique() == 1 or second.nunique() == 1:
        return np.nan, np.nan, np.nan
    rho = float(stats.spearmanr(first, second).statistic)
    half_width = stats.norm.ppf(0.975) * np.sqrt((1 + rho**2 / 2) / (len(first) - 3))
    centre = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    return rho, float(np.tanh(centre - half_width)), float(np.tanh(centre + half_width))


def partial_rank_correlation(
    first: "pd.Series[float]", second: "pd.Series[float]", given: "Sequence[pd.Series[Any]]"
) -> tuple[float, float]:
    """Return the rank correlation of pairs given other variables, and its two-sided p-value (t test).

    It is the correlation of what is left of both sides' ranks after linear regression on the ranks of the others.
    """
    others = np.column_stack([np.ones(len(first)), *map(stats.rankdata, given)])
    ranks = np.column_stack([stats.rankdata(first), stats.rankdata(second)])
    coefficients, _, rank, _ = np.linalg.lstsq(others, ranks)
    rho = float(np.corrcoef((ranks - others @ coefficients).T)[0, 1])
    freedom = len(first) - 1 - rank
    return rho, float(2 * stats.t.sf(abs(rho) * np.sqrt(freedom / max(1 - rho**2, 1e-12)), freedom))


def as_markdown(compared: pd.DataFrame, agreements: pd.DataFrame) -> str:
    """Return both tables for people, below the caption."""
    correlations = [
        (
            row.positional, row.ablations, f"{row.rank_correlation:.2f} ({row.low:.2f} to {row.high:.2f})",
            f"{row.fewer_missing_correlation:.2f}", f"{row.partial_correlation:.2f} (p = {row.partial_p:.2f})",
            row.both, row.neither, row.only_ours, row.only_theirs,
        )
        for row in agreements.itertuples()
    ]  # fmt: skip
    ablations = [
        (
            f"`{row.ablation}`",
            row.residual_free_layers or "–",
            f"{row.converged}/{row.runs}",
            f"{row.restricted_steps:,.0f} of {row.budget:,}",
            f"{row.test_exact_match_median:.1%} ({row.test_exact_match_min:.1%} to {row.test_exact_match_max:.1%})",
            f"{row.published_median:.2%} ({row.published_min:.2%} to {row.published_max:.2%})",
        )
        for row in compared.itertuples()
    ]
    correlation_headers = [
        "Positional encoding",
        "Ablations",
        "Rank correlation (95 % interval)",
        "Of theirs with few missing layers",
        "Given missing layers and encoding",
    ]
    counts = ["Learned in both", "in neither", "only ours", "only theirs"]
    headers = [
        "Ablation",
        "Layers without",
        "Converged",
        "Mean steps",
        "Ours: median (range)",
        "Theirs: median (range)",
    ]
    return "\n".join(
        [CAPTION, *_table(correlation_headers + counts, correlations), "", *_table(headers, ablations), ""]
    )


def _table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [headers, ["---"] * len(headers), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]


def main(folder: Path = FOLDER) -> None:
    """Read the two tables in `folder` and write the comparison there."""
    text_columns = {"residual_free_layers": str, "residual_free_attention": str, "residual_free_mlp": str}
    ours, theirs = (
        pd.read_csv(folder / name, dtype=text_columns, keep_default_na=False, na_values={"restricted_steps": ""})
        for name in ("reports/ablations.csv", "residual_ablation_runs.csv")
    )
    compared = compare(ours, theirs)
    agreements = agreement(compared)
    compared.to_csv(folder / "comparison.csv", index=False, float_format="%.7g")
    agreements.to_csv(folder / "agreement.csv", index=False, float_format="%.7g")
    (folder / "comparison.md").write_text(as_markdown(compared, agreements))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
