"""Where in depth the order of two tokens lies: states of a prompt in which they are swapped, put into one in which they
are not (interchange interventions: Geiger et al. 2021, arXiv 2106.02997)."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pipeline.dataset import Examples
from pipeline.measurement.registry import MeasurementInput, measurement
from pipeline.measurement.symmetry import PROMPTS, TOLERANCE, same_length_examples
from pipeline.transformer.model import Transformer


def swappable(
    examples: Examples, count: int = PROMPTS
) -> tuple[Int[Tensor, "examples prompt"], Int[Tensor, "examples 2"]]:
    """Prompts alike long, and in each two positions before the last whose tokens differ and are not always the same in
    the task; always the same ones. Prompts without such positions are left out."""
    alike, length = same_length_examples(examples, count)
    tokens = examples.tokens[alike, :length].numpy()
    free = np.flatnonzero((tokens != tokens[:1]).any(0))
    free = free[free < length - 1]
    drawn, chosen, pairs = np.random.default_rng(0), [], []
    for row in tokens:
        order = drawn.permutation(free)
        differing = [(order[0], other) for other in order[1:] if row[order[0]] != row[other]]
        if differing:
            chosen.append(row)
            pairs.append(sorted(differing[0]))
    return (
        torch.from_numpy(np.array(chosen, np.int64).reshape(-1, length)),
        torch.from_numpy(np.array(pairs, np.int64).reshape(-1, 2)),
    )


def places(pairs: Int[Tensor, "rows 2"], length: int) -> dict[str, Bool[Tensor, "rows length"]]:
    """The sets of positions whose states are put in."""
    position = torch.arange(length)
    pair = (position == pairs[:, :1]) | (position == pairs[:, 1:])
    last = (position == length - 1).expand_as(pair)
    return {"swapped pair": pair, "last": last, "rest": ~(pair | last), "all but the last": ~last}


@torch.no_grad()
def recoveries(
    model: Transformer, prompts: Int[Tensor, "rows length"], pairs: Int[Tensor, "rows 2"]
) -> Float[Tensor, "depths sets"]:
    """How far the logits move from those of the prompts to those of the swapped ones: 0 not at all, 1 all the way;
    over all rows together, so that rows whose logits hardly differ hardly count. NaN where none differs at all, or none
    is there."""
    rows, length = prompts.shape
    if not rows:
        return torch.full((len(model.blocks) + 1, len(places(pairs, length))), torch.nan)
    swapped = prompts.scatter(1, pairs, prompts.gather(1, pairs.flip(1)))
    last = torch.full((rows, 1), length - 1)
    (tokens, visible, _), (others, _, _) = (model.samples(of, last) for of in (prompts, swapped))
    plain, other = model.residual_stream(tokens, visible), model.residual_stream(others, visible)
    before, goal = (model.logits(stream[-1][:, -1:]) for stream in (plain, other))

    def patched(depth: int, put_in: Bool[Tensor, "rows length"]) -> Tensor:
        def edit(at: int, x: Tensor) -> Tensor:
            return torch.where(put_in[..., None], other[depth], x) if at == depth else x

        return model.logits(model.residual_stream(tokens, visible, edit=edit)[-1][:, -1:])

    way = goal - before
    if way.abs().max() <= TOLERANCE:
        return torch.full((len(plain), len(places(pairs, length))), torch.nan, dtype=way.dtype)
    sets = places(pairs, length).values()
    moved = [[((patched(depth, one) - before) * way).sum() for one in sets] for depth in range(len(plain))]
    return torch.tensor(moved, dtype=way.dtype) / way.square().sum()


@measurement("Where does the order of two tokens lie?", {"recovery": "share of a swap that its states bring about"})
def interchange(subject: MeasurementInput) -> pd.DataFrame:
    """How much of what swapping two tokens of a prompt does to the first prediction is done by the swapped prompt's
    states alone, put in at one depth at some positions: the swapped pair, the last, the rest. At depth 0 the pair is
    all there is; in the end it is the last. Where the pair's share falls, order has left its place."""
    prompts, pairs = swappable(subject.examples)
    found = recoveries(subject.model, prompts, pairs)
    return pd.DataFrame(
        [
            {"places": name, "depth": depth, "recovery": found[depth, place].item()}
            for place, name in enumerate(places(pairs, prompts.shape[1]))
            for depth in range(len(found))
        ]
    )
