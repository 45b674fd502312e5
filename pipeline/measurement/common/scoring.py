"""Scores of predictions: exact match of answers, greedily decoded or teacher-forced, and bits per token."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from pipeline.dataset import IGNORED_TARGET, Examples, is_correct
from pipeline.transformer.attention import Samples, select_positions
from pipeline.transformer.model import StateEditor, Transformer, leave_states_unchanged

NO_TOKEN = -1
"""Token that stands for a prediction whose logits are not finite."""
BATCH_SIZE = 1024
"""Number of examples predicted at a time, which bounds the memory of the logits."""
PredictLogits = Callable[
    [Int[Tensor, "batch length"], Int[Tensor, "batch reads"]], Float[Tensor, "batch reads vocabulary"]
]
"""Function of tokens and positions that returns the logits for the token after each position."""


def decode_greedily(predict: PredictLogits, examples: Examples) -> Int[Tensor, "examples answer"]:
    """Decode answers: each token is the most likely one after the prompt and the tokens decoded before.

    The true answers are erased first.
    """
    tokens = F.pad(examples.tokens, (0, 1))  # room for the last token of an answer, which is never read
    positions, in_answer = examples.positions, examples.targets != IGNORED_TARGET
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


def accuracy_columns(
    answers: Int[Tensor, "examples answer"],
    examples: Examples,
    table: pd.DataFrame,
    strata: Mapping[str, Sequence[int]],
    character_name: str,
) -> dict[str, float]:
    """Return the shares of correct answers of one run, as columns of `runs.csv`.

    Args:
        table: the examples as text, with a column for each of `strata`.
        strata: possible values of some columns; each value is scored by itself (NaN without examples).
        character_name: the task's word for a character of the answer; each is scored by itself, in decoding order.
    """
    counts = (examples.targets != IGNORED_TARGET).numpy()
    is_right = is_correct(answers, examples.targets)
    correct: np.ndarray = is_right.numpy()
    exact: np.ndarray = is_right.all(1).numpy()
    groups = {
        f"{name}_{value}": exact[table[name].to_numpy() == value] for name, values in strata.items() for value in values
    }
    return (
        {"test_exact_match": float(exact.mean()), "test_examples": len(exact)}
        | {
            f"{character_name}_{index + 1}": float(correct[counts[:, index], index].mean())
            for index in range(counts.shape[1])
        }
        | {name: float(group.mean()) if len(group) else float("nan") for name, group in groups.items()}
        | {f"{name}_examples": len(group) for name, group in groups.items()}
    )


def answer_logits(
    model: Transformer,
    examples: Examples,
    *,
    choose_mask: Callable[[Samples], Bool[Tensor, "*layers samples length length"]] = lambda samples: (
        samples.attention_mask
    ),
    edit_states: StateEditor = leave_states_unchanged,
) -> Float[Tensor, "examples reads vocabulary"]:
    """Return the logits of whole answers, each token given the true tokens before it (teacher forcing).

    An answer is correct exactly if greedy decoding produces it, at a fraction of the cost, and the network can be
    changed while it computes: `choose_mask` returns the attention mask to use, `edit_states` changes the states of all
    positions at any depth. The prompts have one length.
    """
    samples = model.samples(examples.tokens, examples.positions)
    last = model.residual_stream(samples.tokens, choose_mask(samples), edit_states=edit_states)[-1]
    return model.logits(select_positions(last, samples.output_positions)).view(*examples.positions.shape, -1)


def answers_are_correct(
    logits: Float[Tensor, "examples reads vocabulary"], examples: Examples
) -> Bool[Tensor, " examples"]:
    """Return True for each example whose whole answer is correct."""
    return is_correct(logits.argmax(-1), examples.targets).all(-1)


def bits_per_token(predict: PredictLogits, examples: Examples) -> Float64[Tensor, " examples"]:
    """Return the cross-entropy of each example's predictions, in bits per token; NaN where logits are not finite."""
    results = []
    for index in torch.arange(len(examples)).tensor_split(math.ceil(len(examples) / BATCH_SIZE)):
        batch = examples[index]
        logits, targets = predict(batch.tokens, batch.positions).double(), batch.targets
        nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED_TARGET, reduction="none")
        results.append(nats.view(targets.shape).sum(1) / (targets != IGNORED_TARGET).sum(1) / math.log(2))
    return torch.cat(results)
