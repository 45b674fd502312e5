"""Scores of predictions: exact match of answers, greedily decoded or teacher-forced, and bits per token."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from pipeline.dataset import IGNORED, Examples, is_correct
from pipeline.transformer.attention import Samples, select_positions
from pipeline.transformer.model import Edit, Transformer, unedited

NO_TOKEN = -1
"""The decoded token where logits are not finite."""
BATCH = 1024
"""Examples predicted at a time: bounds the memory of the logits."""
Predict = Callable[[Int[Tensor, "batch length"], Int[Tensor, "batch reads"]], Float[Tensor, "batch reads vocabulary"]]
"""Function of tokens and positions that returns the logits of the token after each position."""


@dataclass(frozen=True)
class Accuracy:
    """Shares of correct answers."""

    examples: int
    exact_match: float
    by_place: list[float]
    """Share of correct characters, in the order in which the answer is produced."""
    by_stratum: dict[tuple[str, int], tuple[float, int]]
    """(Stratum, value) -> exact match (NaN without examples), and the number of examples."""

    def columns(self, character: str) -> dict[str, float]:
        """The shares as columns of `runs.csv`; `character` is what the task calls a character of the answer."""
        strata = {f"{stratum}_{value}": shares for (stratum, value), shares in self.by_stratum.items()}
        return (
            {"test_exact_match": self.exact_match, "test_examples": self.examples}
            | {f"{character}_{number}": share for number, share in enumerate(self.by_place, start=1)}
            | {name: share for name, (share, _) in strata.items()}
            | {f"{name}_examples": count for name, (_, count) in strata.items()}
        )


def greedy(predict: Predict, examples: Examples) -> Int[Tensor, "examples answer"]:
    """Answers decoded greedily: each token is the most likely one after the prompt and the tokens decoded before it.

    The true answers are erased first.
    """
    tokens = F.pad(examples.tokens, (0, 1))  # room for the last token of an answer, which is never read
    positions, in_answer = examples.positions, examples.targets != IGNORED
    erased = torch.zeros_like(tokens).scatter_(1, positions + 1, 1).bool()
    tokens = tokens.masked_fill(erased, 0)
    answers = []
    for index in range(positions.shape[1]):
        position = positions[:, index : index + 1]
        logits = predict(tokens[:, :-1], position)[:, 0]
        answer = torch.where(logits.isfinite().all(-1), logits.argmax(-1), NO_TOKEN)
        answers.append(answer)
        written = torch.where(in_answer[:, index], answer.clamp(min=0), tokens.gather(1, position + 1)[:, 0])
        tokens = tokens.scatter(1, position + 1, written[:, None])
    return torch.stack(answers, dim=1)


def accuracy(
    answers: Int[Tensor, "examples answer"],
    examples: Examples,
    table: pd.DataFrame,
    strata: Mapping[str, Sequence[int]],
) -> Accuracy:
    """Compare decoded answers with the targets of `examples`.

    Args:
        table: the examples as text, with a column for each of `strata`.
        strata: column -> the values it may have.
    """
    counts = (examples.targets != IGNORED).numpy()
    is_right = is_correct(answers, examples.targets)
    correct: np.ndarray = is_right.numpy()
    exact: np.ndarray = is_right.all(1).numpy()
    groups = {
        (name, value): exact[table[name].to_numpy() == value] for name, values in strata.items() for value in values
    }
    return Accuracy(
        examples=len(exact),
        exact_match=float(exact.mean()),
        by_place=[float(correct[counts[:, index], index].mean()) for index in range(correct.shape[1])],
        by_stratum={
            key: (float(group.mean()) if len(group) else float("nan"), len(group)) for key, group in groups.items()
        },
    )


def answer_logits(
    model: Transformer,
    examples: Examples,
    *,
    mask: Callable[[Samples], Bool[Tensor, "*layers samples length length"]] = lambda samples: samples.visible,
    edit: Edit = unedited,
) -> Float[Tensor, "examples reads vocabulary"]:
    """Logits of whole answers at once, each token given the true ones before it (teacher forcing).

    An answer is correct exactly if greedy decoding produces it, at a fraction of the cost, and the network can be
    changed while it computes: `mask` returns the attention mask to use, `edit` is as in `Transformer.residual_stream`,
    with all positions. The prompts have one length.
    """
    samples = model.samples(examples.tokens, examples.positions)
    last = model.residual_stream(samples.tokens, mask(samples), edit=edit)[-1]
    return model.logits(select_positions(last, samples.read_at)).view(*examples.positions.shape, -1)


def correct_answers(
    logits: Float[Tensor, "examples reads vocabulary"], examples: Examples
) -> Bool[Tensor, " examples"]:
    """Whether the whole answer to each example is correct."""
    return is_correct(logits.argmax(-1), examples.targets).all(-1)


def bits_per_token(predict: Predict, examples: Examples) -> Float64[Tensor, " examples"]:
    """Cross-entropy of each example's predictions, in bits per predicted token; NaN where logits are not finite."""
    results = []
    for index in torch.arange(len(examples)).tensor_split(math.ceil(len(examples) / BATCH)):
        batch = examples[index]
        logits, targets = predict(batch.tokens, batch.positions).double(), batch.targets
        nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
        results.append(nats.view(targets.shape).sum(1) / (targets != IGNORED).sum(1) / math.log(2))
    return torch.cat(results)
