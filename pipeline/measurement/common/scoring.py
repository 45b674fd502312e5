"""Scores of predictions: exact match of answers, greedily decoded or teacher-forced, and bits per token."""

import math
from collections.abc import Callable

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from torch import Tensor

from pipeline.dataset import IGNORED_TARGET, Dataset, Examples, is_correct
from pipeline.params.score import EXACT_MATCH

PredictLogits = Callable[[Int[Tensor, "batch length"], Int[Tensor, "batch reads"]], Float[Tensor, "batch reads _"]]
"""Function of tokens and positions, such as a model, that returns the logits for the token after each position."""


def score_on_test_split(predict: PredictLogits, data: Dataset) -> dict[str, float]:
    """Score a model on the test examples by its task's type of score, and return columns of `runs.csv`."""
    examples = data.examples["test"]
    if data.task.score == EXACT_MATCH:
        return accuracy_columns(decode_where_wrong(predict, examples), data)
    bits = bits_per_token(predict, examples)
    return {"test_bits": bits.mean().item(), "test_examples": len(bits)}


def decode_where_wrong(predict: PredictLogits, examples: Examples) -> Int[Tensor, "examples answer"]:
    """Return the answers of `decode_greedily`, in a third of the time if most of them are correct.

    An answer is correct exactly if each of its tokens is predicted from the true tokens before it (teacher forcing).
    One forward pass finds these answers, and only the others are decoded.
    """
    tokens = most_likely_tokens(predict(examples.tokens, examples.positions))
    is_wrong = ~is_correct(tokens, examples.targets).all(1)
    if is_wrong.any():
        tokens[is_wrong] = decode_greedily(predict, examples[is_wrong])
    return tokens


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
        answer = most_likely_tokens(predict(tokens[:, :-1], position))[:, 0]
        answers.append(answer)
        written = torch.where(in_answer[:, index], answer.clamp(min=0), tokens.gather(1, position + 1)[:, 0])
        tokens = tokens.scatter(1, position + 1, written[:, None])
    return torch.stack(answers, dim=1)


def most_likely_tokens(logits: Float[Tensor, "*shape vocabulary"]) -> Int[Tensor, "*shape"]:
    """Return the most likely token of each prediction; -1 where logits are not finite."""
    return torch.where(logits.isfinite().all(-1), logits.argmax(-1), -1)


def exact_match(logits: Float[Tensor, "*many examples reads vocabulary"], examples: Examples) -> Float64[Tensor, ""]:
    """Return the share of examples whose whole answer is correct."""
    return is_correct(logits.argmax(-1), examples.targets).all(-1).double().mean()


def accuracy_columns(answers: Int[Tensor, "examples answer"], data: Dataset) -> dict[str, float]:
    """Return the share of correct answers to the test examples: overall, by answer position (in decoding order) and by
    stratum (NaN without examples); also the numbers of examples."""
    targets, table, task = data.examples["test"].targets, data.tables["test"], data.task
    is_right = is_correct(answers, targets)
    exact = pd.Series(is_right.all(1).numpy())
    columns = {"test_exact_match": float(exact.mean()), "test_examples": len(exact)}
    for index, (right, target) in enumerate(zip(is_right.T, targets.T, strict=True)):
        columns[f"{task.answer_unit}_{index + 1}"] = right[target != IGNORED_TARGET].double().mean().item()
    counts: dict[str, float] = {}
    for name, values in task.strata.items():
        for value in values:
            group = exact[table[name] == value]
            columns[f"{name}_{value}"], counts[f"{name}_{value}_examples"] = float(group.mean()), len(group)
    return columns | counts


def bits_per_token(predict: PredictLogits, examples: Examples) -> Float64[Tensor, " examples"]:
    """Return the cross-entropy of each example's predictions, in bits per token; NaN where logits are not finite."""
    results = []
    batch_count = math.ceil(len(examples) / 1024)  # bounds the memory of the logits
    for index in torch.arange(len(examples)).tensor_split(batch_count):
        batch = examples[index]
        logits, targets = predict(batch.tokens, batch.positions).double(), batch.targets
        nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED_TARGET, reduction="none")
        results.append(nats.view(targets.shape).sum(1) / (targets != IGNORED_TARGET).sum(1) / math.log(2))
    return torch.cat(results)
