"""How often the answer is right: exact match, per answer character, per number of carries."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.tasks.rows import NOTHING, Rows

UNREADABLE = -1
"""What a model says whose logits are not finite: no token at all."""

Predict = Callable[[Int[Tensor, "batch length"], Int[Tensor, "batch 1"]], Float[Tensor, "batch 1 vocabulary"]]


@dataclass(frozen=True)
class Accuracy:
    """Shares of right answers among `examples` test rows."""

    examples: int
    exact_match: float
    by_digit: list[float]
    """In the order in which the answer is produced."""
    by_carries: list[float]
    """Exact match by number of carries; NaN where there is no such row."""
    carries_examples: list[int]

    def columns(self) -> dict[str, float]:
        """As columns of `runs.csv`."""
        return (
            {"test_exact_match": self.exact_match, "test_examples": self.examples}
            | {f"digit_{place}": share for place, share in enumerate(self.by_digit, start=1)}
            | {f"carries_{count}": share for count, share in enumerate(self.by_carries)}
            | {f"carries_{count}_examples": rows for count, rows in enumerate(self.carries_examples)}
        )


def greedy(predict: Predict, rows: Rows) -> Int[Tensor, "rows answer"]:
    """The answers that greedy decoding produces: each token is the arg-max given the prompt and the tokens said
    before it. The true answers are erased first."""
    tokens = torch.from_numpy(rows.tokens.astype(np.int64))
    positions = torch.from_numpy(rows.answer_positions.astype(np.int64))
    said = torch.from_numpy(rows.answer_targets != NOTHING)
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


def score(answers: Int[Tensor, "rows answer"], rows: Rows, carries: Int[np.ndarray, " rows"], digits: int) -> Accuracy:
    """Compare what was produced with what is right; numbers of `digits` digits carry at most `digits` times."""
    counts = rows.answer_targets != NOTHING
    right = (answers.numpy() == rows.answer_targets) | ~counts
    exact = right.all(axis=1)
    groups = [exact[carries == count] for count in range(digits + 1)]
    return Accuracy(
        examples=len(exact),
        exact_match=float(exact.mean()),
        by_digit=[float(right[counts[:, place], place].mean()) for place in range(right.shape[1])],
        by_carries=[float(group.mean()) if len(group) else float("nan") for group in groups],
        carries_examples=[len(group) for group in groups],
    )
