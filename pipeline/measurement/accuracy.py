"""How often the answer is right: exact match, per character of the answer, per stratum of the problems."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.dataset import IGNORED, Examples, is_correct

UNREADABLE = -1
"""What a model says whose logits are not finite: no token at all."""

Predict = Callable[[Int[Tensor, "batch length"], Int[Tensor, "batch 1"]], Float[Tensor, "batch 1 vocabulary"]]


@dataclass(frozen=True)
class Accuracy:
    """Shares of right answers among `examples` test rows."""

    examples: int
    exact_match: float
    by_place: list[float]
    """Share of right characters, in the order in which the answer is produced."""
    by_stratum: dict[tuple[str, int], tuple[float, int]]
    """(Stratum, value) -> exact match (NaN where there is no such row), and how many rows there are."""

    def columns(self, place: str) -> dict[str, float]:
        """As columns of `runs.csv`; `place`: what a character of the answer is called."""
        names = {f"{stratum}_{value}": scored for (stratum, value), scored in self.by_stratum.items()}
        return (
            {"test_exact_match": self.exact_match, "test_examples": self.examples}
            | {f"{place}_{number}": share for number, share in enumerate(self.by_place, start=1)}
            | {name: share for name, (share, _) in names.items()}
            | {f"{name}_examples": rows for name, (_, rows) in names.items()}
        )


def greedy(predict: Predict, examples: Examples) -> Int[Tensor, "examples answer"]:
    """The answers that greedy decoding produces: each token is the arg-max given the prompt and the tokens said
    before it. The true answers are erased first."""
    tokens = F.pad(examples.tokens, (0, 1))  # room for the last token of an answer, which is never read
    positions, said = examples.positions, examples.targets != IGNORED
    erased = torch.zeros_like(tokens).scatter_(1, positions + 1, 1).bool()
    tokens = tokens.masked_fill(erased, 0)
    answers = []
    for place in range(positions.shape[1]):
        at = positions[:, place : place + 1]
        logits = predict(tokens[:, :-1], at)[:, 0]
        answer = torch.where(logits.isfinite().all(-1), logits.argmax(-1), UNREADABLE)
        answers.append(answer)
        written = torch.where(said[:, place], answer.clamp(min=0), tokens.gather(1, at + 1)[:, 0])
        tokens = tokens.scatter(1, at + 1, written[:, None])
    return torch.stack(answers, dim=1)


def score(
    answers: Int[Tensor, "examples answer"],
    examples: Examples,
    table: pd.DataFrame,
    strata: Mapping[str, Sequence[int]],
) -> Accuracy:
    """Compare what was produced with what is right.

    Args:
        table: the problems, with a column for each of `strata`.
        strata: column -> the values it may have.
    """
    counts = (examples.targets != IGNORED).numpy()
    right = is_correct(answers, examples.targets)
    found: np.ndarray = right.numpy()
    exact: np.ndarray = right.all(1).numpy()
    groups = {
        (name, value): exact[table[name].to_numpy() == value] for name, values in strata.items() for value in values
    }
    return Accuracy(
        examples=len(exact),
        exact_match=float(exact.mean()),
        by_place=[float(found[counts[:, place], place].mean()) for place in range(found.shape[1])],
        by_stratum={
            key: (float(group.mean()) if len(group) else float("nan"), len(group)) for key, group in groups.items()
        },
    )
