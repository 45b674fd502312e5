"""The questions of the experiment, each answered in words that are written from the numbers.

Cells are found by what they are; where the grid lacks those a question needs, the answer says which would do.
"""

from collections.abc import Callable

import pandas as pd

from pipeline.reporting import cells as grid
from pipeline.reporting.comparisons import compared
from pipeline.reporting.evidence import Answer, Evidence, against_ceiling, each, lacks, outcome, result, unanswered
from pipeline.reporting.residual_connections import residuals
from pipeline.reporting.wording import listed, percent, plural


def without_positional(evidence: Evidence) -> Answer:
    """Does a decoder without positional encoding learn the task at all?"""
    question = "Does a causal decoder without positional encoding learn addition at all?"
    none = evidence.base(positional="none", attention="causal")
    if none.empty:
        return unanswered(question, "`positional: none`, `attention: causal`")
    encoded = evidence.base(attention="causal").drop(none.index)
    paragraphs = [" ".join(map(result, [*each(none), *each(encoded)]))]
    if evidence.ceiling is not None:
        paragraphs[0] += f" A predictor blind to order could reach {percent(evidence.ceiling)} at most."
    pairs = [(without, other) for without in none["ablation"] for other in encoded["ablation"]]
    if encoded.empty:
        paragraphs.append(lacks("`positional: learned`, `attention: causal`, to compare with"))
    told, table = compared(evidence.runs, pairs)
    first = none.iloc[0]
    short = f"Without positional encoding the causal decoder {outcome(first)}"
    learned = encoded[encoded["positional"] == "learned"]
    if len(learned):
        short += f"; with learned positional encoding it {outcome(learned.iloc[0])}"
    return Answer(question, short + ".", paragraphs + told, table)


def without_mask(evidence: Evidence) -> Answer:
    """What is left when the causal mask goes too?"""
    question = "What is left without the causal mask?"
    none = evidence.base(positional="none", attention="full")
    if none.empty:
        return unanswered(question, "`positional: none`, `attention: full`")
    paragraphs = [" ".join(f"{result(cell)} {against_ceiling(cell)}" for cell in each(none))]
    encoded = evidence.base(attention="full").drop(none.index)
    if encoded.empty:
        paragraphs.append(lacks("`positional: learned`, `attention: full`, to tell the mask from the encoding"))
    else:
        paragraphs.append("With full attention and an encoding: " + " ".join(map(result, each(encoded))))
    short = f"Without positional encoding and without the causal mask the model {outcome(none.iloc[0])}"
    if none["runs_above_ceiling"].sum():
        short += ", **above what is possible without order: a bug in the instrument**"
    elif evidence.ceiling is not None:
        short += f", where at most {percent(evidence.ceiling)} is possible without order"
    learned = encoded[encoded["positional"] == "learned"]
    if len(learned):
        short += f"; full attention with learned positional encoding {outcome(learned.iloc[0])}"
    return Answer(question, short + ".", paragraphs)


def depth(evidence: Evidence) -> Answer:
    """From which depth on does the causal mask tell the order?"""
    question = "From which depth on does the causal mask tell the order?"
    shared = grid.base(evidence.cells)
    plain = {"residual_free_attention": "", "residual_free_mlp": "", "optimizer": shared["optimizer"]}
    same_width = {"heads": shared["heads"], "width": shared["width"]}
    cells = grid.find(evidence.cells, positional="none", attention="causal", **plain, **same_width)
    cells = cells.sort_values("layers", kind="stable")
    depths = sorted(set(cells["layers"]))
    if len(depths) < 2:
        return unanswered(question, "`positional: none`, `attention: causal` and another depth, such as `layers: 1`")
    paragraphs = [" ".join(f"{result(cell)} {against_ceiling(cell)}".strip() for cell in each(cells))]
    learned = sorted(set(cells.loc[cells["converged"] > 0, "layers"]))
    if not learned:
        short = f"No run without positional encoding converged at any depth tried ({listed(list(map(str, depths)))})."
        return Answer(question, short, paragraphs)
    enough = cells[cells["layers"] == learned[0]]
    shallower = cells[cells["layers"] < learned[0]]
    if shallower.empty:
        short = f"Without PE already the shallowest causal decoder tried, that of {_runs_by_depth(enough)}."
        return Answer(question, short, paragraphs)
    deepest = int(shallower["layers"].max())
    short = (
        f"Without positional encoding the causal decoder of {_runs_by_depth(shallower)} (best test exact match "
        f"{percent(shallower['test_exact_match_max'].max())}); that of {_runs_by_depth(enough)}."
    )
    between = [str(layers) for layers in range(deepest + 1, learned[0])]
    if between:
        paragraphs.append(lacks(f"`layers: {listed(between, 'or')}`, to find where the change lies"))
    return Answer(question, short, paragraphs)


def _runs_by_depth(cells: pd.DataFrame) -> str:
    """`1 layer converged: 0 of 3 runs`."""
    depths = [str(layers) for layers in sorted(set(cells["layers"]))]
    noun = "layer" if depths == ["1"] else "layers"
    converged, runs = int(cells["converged"].sum()), int(cells["runs"].sum())
    return f"{listed(depths, 'or')} {noun} converged in {converged} of {plural(runs, 'run')}"


def optimizers(evidence: Evidence) -> Answer:
    """Is the result one of the optimizer?"""
    question = "Does the optimizer matter?"
    same = [key for key in grid.PROPERTIES if key != "optimizer"]
    pairs = [
        (one, other)
        for _, alike in evidence.cells.groupby(same, sort=False)
        for one in each(alike[alike["optimizer"] == "muon"])
        for other in each(alike[alike["optimizer"] == "adamw"])
    ]
    if not pairs:
        return unanswered(question, "the other `optimizer` (`adamw` or `muon`) and nothing else changed")
    distinct = {cell["ablation"]: cell for pair in pairs for cell in pair}
    told, table = compared(evidence.runs, [(one["ablation"], other["ablation"]) for one, other in pairs])
    paragraphs = [
        " ".join(map(result, distinct.values())),
        *told,
        "This compares two recipes, each with its own learning rate, at the number of steps given; it does not say "
        "what either optimizer could reach with more tuning or more steps.",
    ]
    short = "; ".join(
        f"`{one['ablation']}` (Muon) {outcome(one)}, `{other['ablation']}` (AdamW) {outcome(other)}"
        for one, other in pairs
    )
    return Answer(question, short + ".", paragraphs, table)


QUESTIONS: tuple[Callable[[Evidence], Answer], ...] = (without_positional, without_mask, depth, residuals, optimizers)
"""All of them, in the order of the design."""


def answers(evidence: Evidence) -> list[Answer]:
    """Every question's answer."""
    return [question(evidence) for question in QUESTIONS]
