"""Whether a residual-free cell fails because position is lost or because it is hard to train: the identity control."""

import numpy as np
import pandas as pd

from pipeline.reporting import figures
from pipeline.reporting.comparisons import compared
from pipeline.reporting.evidence import each, outcome
from pipeline.reporting.mechanism import drawings, pairs
from pipeline.reporting.mechanism.finding import Finding, Measured
from pipeline.reporting.page import Figure, Section, Table
from pipeline.reporting.wording import count, p_value, plural

TITLE = "Or is it only trainability?"
CONTROL = (
    "A network without a residual connection may fail because it lost the positions, or only because little signal "
    "and gradient pass it at the start. The **control** is the same cell, but what lacks a residual connection starts "
    "close to the identity: what attention attends to passes on unchanged (values and output lean to the identity; "
    "queries and keys start as everywhere), and the MLP computes gelu(x) − gelu(−x) = x. This is an identity-leaning "
    "start, not the shaped attention of [arXiv 2302.10322](https://arxiv.org/abs/2302.10322). A rescue says that the "
    "network can learn the task without the connection, not what the connection does for the position in a network "
    "that has it."
)
OUTCOMES = Figure(
    "trainability.png",
    "Test exact match of every run with normal and with identity start, and effective rank by depth before training",
    "Left: a mark per run, filled if it converged. Right: how many directions the positions of a row span in the "
    "untrained network, a line per seed; at the dotted line all positions say the same.",
)


def section(measured: Measured) -> Finding:
    """The section, from the runs and the tables `effective_rank` and `gradient_norm`."""
    cells = pairs.with_start(measured.cells)
    found = pairs.controls(cells)
    paragraphs, tables, pictures, images = [CONTROL], [], [], {}
    short = None
    if found:
        verdicts = [verdict(measured.runs, *pair) for pair in found]
        told = {str(cell["ablation"]): outcome(cell) for cell in each(cells)}
        for (plain, control), (_, words) in zip(found, verdicts, strict=True):
            paragraphs.append(f"**`{plain}`** {told[plain]}; its control `{control}` {told[control]}. {words}")
        short = _in_short([name for name, _ in verdicts])
        text, differences = compared(measured.runs, [(control, plain) for plain, control in found])
        paragraphs += [*text, "This is one task at one scale: what fails here may train elsewhere, and the reverse."]
        tables += differences
        ranks = measured.tables.get("effective_rank", pd.DataFrame(columns=["ablation", "seed", "effective_rank"]))
        ranks = pairs.initial(ranks) if len(ranks) else ranks
        pictures.append(OUTCOMES)
        images[OUTCOMES.name] = figures.png(lambda: drawings.start_and_outcome(measured.runs, ranks, found))
    else:
        paragraphs.append(
            "This grid has no pair of a residual-free cell and its control (`residual_free_initialisation: identity`), "
            "so it cannot tell the two apart."
        )
    text, at_start = _start(measured, cells)
    return Finding(Section(TITLE, paragraphs + text, pictures, tables + at_start, level=3), short, images)


def verdict(runs: pd.DataFrame, plain: str, control: str) -> tuple[str, str]:
    """What a control says about its plain cell, over the seeds both have.

    Returns:
        One of `unpaired`, `nothing`, `trainability`, `partly`, `undecided`, and that in words.
    """
    both = runs.pivot(index="seed", columns="ablation", values="converged")[[plain, control]].dropna()
    if both.empty:
        return "unpaired", "The two share no seed, so the control decides nothing here."
    failed = both[both[plain] == 0]
    rescued, n = int(failed[control].sum()), len(failed)
    broken = int((both[both[plain] == 1][control] == 0).sum())
    aside = f" (In {plural(broken, 'other run')} it is the control that does not converge.)" if broken else ""
    if not n:
        return "nothing", f"The plain cell converged in every shared run: there is nothing to explain.{aside}"
    of = f"Of the runs that failed, the control converged in {count(rescued, n)}"
    if rescued == n:
        return "trainability", (
            f"{of}: these failures were a matter of **trainability**, not of a position that the network cannot "
            f"keep.{aside}"
        )
    if rescued:
        return "partly", f"{of}: those were a matter of **trainability**; the others stay unexplained.{aside}"
    return "undecided", (
        f"{of}: an easier start is not enough, which **does not decide** the question; it points away from the start "
        f"alone as the cause.{aside}"
    )


def _in_short(verdicts: list[str]) -> str:
    said = {
        "trainability": "the control converged wherever the plain cell failed (trainability, not lost position)",
        "partly": "it converged in some of the runs that failed",
        "undecided": "it failed too (undecided)",
        "nothing": "the plain cell never failed",
        "unpaired": "no seed is shared",
    }
    parts = [f"in {verdicts.count(name)} {words}" for name, words in said.items() if name in verdicts]
    return f"Of {plural(len(verdicts), 'residual-free cell')} with an identity start as control: {'; '.join(parts)}."


def _start(measured: Measured, cells: pd.DataFrame) -> tuple[list[str], list[Table]]:
    """Effective rank and gradient of the untrained residual-free cells against their whole counterparts."""
    found = pairs.whole(cells)
    ranks, gradients = (measured.tables.get(name, pd.DataFrame()) for name in ("effective_rank", "gradient_norm"))
    if not found:
        return ["No residual-free cell has a counterpart with every residual connection to compare its start to."], []
    if ranks.empty or gradients.empty:
        return ["The effective rank and the gradient at the start were not measured here."], []
    layers = ranks["ablation"].map(cells.set_index("ablation")["layers"])
    ranks = ranks[ranks["depth"] == layers]
    untrained, trained = pairs.initial(ranks), pairs.trained(ranks)
    first = pairs.initial(gradients[gradients["layer"] == 0])
    norms = first.assign(size=np.log(first["gradient_norm"].where(first["gradient_norm"] > 0)))
    norm, rank_difference = (pairs.compared(*what, found) for what in ((norms, "size"), (untrained, "effective_rank")))
    rows: list[list[str]] = []
    ratios: dict[str, list[float]] = {}
    starts = cells.set_index("ablation")[pairs.START]
    for (cell, whole), gradient, rank in zip(found, norm, rank_difference, strict=True):
        if gradient:
            ratios.setdefault(starts[cell], []).append(float(np.exp(gradient.median)))
        rows.append(
            [
                f"`{cell}`",
                *(_mean(untrained, name) for name in (cell, whole)),
                p_value(rank.p).removeprefix("p = ") if rank else "–",
                _mean(trained, cell),
                f"{np.exp(gradient.median):.2g} ({np.exp(gradient.low):.2g} to {np.exp(gradient.high):.2g})"
                if gradient
                else "–",
                p_value(gradient.p).removeprefix("p = ") if gradient else "–",
                str(gradient.seeds if gradient else 0),
            ]
        )
    text = (
        "Before training, each residual-free cell beside the same cell with every residual connection. The **effective "
        "rank** is the number of directions that the positions of one row span after the last layer (1: all say the "
        "same); the **gradient ratio** is the norm of the answer loss's gradient in the first layer over that of the "
        "counterpart. "
    )
    for start, found_ratios in ratios.items():
        text += (
            f"With {'an identity' if start == 'identity' else 'a normal'} start the first layer gets less "
            f"gradient than the counterpart's in {sum(ratio < 1 for ratio in found_ratios)} of "
            f"{plural(len(found_ratios), 'cell')} (median over seeds; ratios from "
            f"{min(found_ratios):.2g} to {max(found_ratios):.2g}). "
        )
    text += "p: sign-flip permutation test, paired by seed, Holm-corrected down each column." + pairs.caution(norm)
    headers = ["Cell", "Rank", "Rank, whole", "p (rank)", "Rank, trained", "Gradient ratio", "p (gradient)", "Seeds"]
    caption = "Rank: mean over seeds (bootstrap 95% interval); ratio: median over shared seeds (min to max)"
    return [text], [Table(headers, rows, caption=caption)]


def _mean(ranks: pd.DataFrame, name: str) -> str:
    values = ranks.loc[ranks["ablation"] == name, "effective_rank"]
    return pairs.estimate(values.tolist(), lambda value: f"{value:.2f}")
