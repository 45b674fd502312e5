"""Greedy decoding reads its own tokens and not the true answer; scores equal those counted by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.dataset import Dataset, Examples, encode_table
from pipeline.measurement.common.scoring import accuracy_columns, decode_greedily, decode_where_wrong
from pipeline.training.module import has_correct_answer
from tests.conftest import task
from tests.measurement.hand_set import task_examples, untrained

VOCABULARY = list("$=abc")


def examples(*texts: tuple[str, str]) -> Examples:
    return encode_table(pd.DataFrame(texts, columns=["prompt", "answer"]), VOCABULARY, "$")


def decoded(answers: Tensor) -> list[str]:
    return ["".join(VOCABULARY[token] for token in answer) for answer in answers.tolist()]


def repeat(shift: int):  # type: ignore[no-untyped-def]
    """A predictor of the token `shift` positions after the position that is read."""

    def predict(tokens: Tensor, positions: Tensor) -> Tensor:
        source = (positions + shift).clamp(0, tokens.shape[1] - 1)
        return F.one_hot(tokens.gather(1, source), len(VOCABULARY)).float()

    return predict


def test_decoded_tokens_are_read_again() -> None:
    """A predictor that repeats the token two before continues a period of two from the prompt into the answer."""
    assert decoded(decode_greedily(repeat(-1), examples(("ab", "ab"), ("cab", "ab")))) == ["aba", "aba"]


def test_the_true_answer_is_erased() -> None:
    """A predictor that looks one token ahead, where the true answer would be, finds padding."""
    assert decoded(decode_greedily(repeat(1), examples(("a=", "bc"), ("a=", "cb")))) == ["$$$", "$$$"]


def test_logits_that_are_not_finite_decode_to_no_token() -> None:
    answers = decode_greedily(lambda _, positions: torch.full((*positions.shape, 5), torch.nan), examples(("a=", "b")))
    assert (answers == -1).all()


def test_scores_equal_those_counted_by_hand() -> None:
    targets = examples(("a=", "bc"), ("a=", "bb"), ("a=", "b"), ("a=", "cc"))
    answers = torch.tensor([[3, 4, 0], [3, 4, 0], [3, 0, 2], [-1, -1, -1]])
    tables = {"test": pd.DataFrame({"carries": [0, 0, 1, 1]})}
    scores = accuracy_columns(answers, Dataset(task(), VOCABULARY, tables, {"test": targets}, {}))
    digits = {"digit_1": 3 / 4, "digit_2": 2 / 4, "digit_3": 2 / 3}
    carries = {"carries_0": 0.5, "carries_1": 0.5, "carries_2": np.nan}
    counts = {"carries_0_examples": 2, "carries_1_examples": 2, "carries_2_examples": 0}
    expected = {"test_exact_match": 0.5, "test_examples": 4} | digits | carries | counts
    assert scores == pytest.approx(expected, nan_ok=True)
    assert list(scores) == list(expected)


@pytest.mark.parametrize("attention", ["causal", "full"])
def test_teacher_forcing_and_greedy_decoding_agree_on_exact_match(attention: str) -> None:
    """The targets of half of the examples are the model's own answers, so that some answers are correct."""
    data, transformer = task_examples(50), untrained(attention=attention)
    with torch.inference_mode():
        half = len(data) // 2
        targets = torch.cat((decode_greedily(transformer, data)[:half], data.targets[half:]))
        tokens = F.pad(data.tokens, (0, 1)).scatter(1, data.positions + 1, targets)[:, :-1]
        forced = has_correct_answer(transformer(tokens, data.positions)[None], targets)[0]
        examples = Examples(tokens, data.positions, targets)
        answers = decode_greedily(transformer, examples)
        assert torch.equal(decode_where_wrong(transformer, examples), answers)
    produced = (answers == targets).all(1)
    assert forced.tolist() == produced.tolist()
    assert forced[:half].all()
