"""Decoding produces what the predictor says, sees no answer, and is scored by hand-countable rules."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline import dataset
from pipeline.dataset import Examples, encode
from pipeline.measurement.accuracy import greedy, score
from pipeline.tasks.catalogue import problems
from pipeline.training.module import answers_correct
from pipeline.training.population import initial_model
from tests.conftest import model, task

VOCABULARY = list("$=abc")


def rows(*texts: tuple[str, str]) -> Examples:
    return encode(pd.DataFrame(texts, columns=["prompt", "answer"]), VOCABULARY, "$")


def said(answers: Tensor) -> list[str]:
    return ["".join(VOCABULARY[token] for token in row) for row in answers.tolist()]


def echo(shift: int):  # type: ignore[no-untyped-def]
    """A predictor that says the token `shift` places before or after the position it is asked about."""

    def predict(tokens: Tensor, positions: Tensor) -> Tensor:
        at = (positions + shift).clamp(0, tokens.shape[1] - 1)
        return F.one_hot(tokens.gather(1, at), len(VOCABULARY)).float()

    return predict


def test_what_is_said_is_read_again() -> None:
    """Repeating the token two before copies a two-token period on, from the prompt into the answer."""
    answers = greedy(echo(-1), rows(("ab", "ab"), ("cab", "ab")))
    assert said(answers) == ["aba", "aba"]


def test_the_true_answer_is_not_there_to_be_found() -> None:
    """Looking one token ahead, where the answer stands, finds it erased."""
    answers = greedy(echo(1), rows(("a=", "bc"), ("a=", "cb")))
    assert said(answers) == ["$$$", "$$$"]


def test_scores_are_those_counted_by_hand() -> None:
    asked = rows(("a=", "bc"), ("a=", "bb"), ("a=", "b"), ("a=", "cc"))
    produced = torch.tensor([[3, 4, 0], [3, 4, 0], [3, 0, 2], [-1, -1, -1]])
    scored = score(produced, asked, pd.DataFrame({"carries": [0, 0, 1, 1]}), {"carries": range(3)})
    assert scored.exact_match == 0.5
    assert scored.by_place == pytest.approx([3 / 4, 2 / 4, 2 / 3])
    assert [scored.by_stratum["carries", count] for count in (0, 1)] == [(0.5, 2), (0.5, 2)]
    assert np.isnan(scored.by_stratum["carries", 2][0])
    assert scored.columns("digit")["carries_2_examples"] == 0


def test_logits_that_are_not_numbers_say_nothing() -> None:
    answers = greedy(lambda tokens, positions: torch.full((*positions.shape, 5), torch.nan), rows(("a=", "b")))
    assert (answers == -1).all()


@pytest.mark.parametrize("attention", ["causal", "full"])
def test_teacher_forcing_and_greedy_decoding_agree_on_exact_match(attention: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Also where some answers are right: the targets are what the model itself says, for half of the rows."""
    asked = task()
    dataset.write(tmp_path, problems(asked))
    data = dataset.read(tmp_path, asked).examples["test"]
    member = initial_model(model(attention=attention), vocabulary=12, length=data.tokens.shape[1], seed=0).eval()
    with torch.inference_mode():
        answers = greedy(member, data)
        half = slice(0, len(data) // 2)
        targets = torch.cat((answers[half], data.targets[half.stop :]))
        tokens = F.pad(data.tokens, (0, 1)).scatter(1, data.positions + 1, targets)[:, :-1]
        forced = Examples(tokens, data.positions, targets)
        teacher = answers_correct(member(tokens, data.positions)[None], targets)[0]
        decoded = (greedy(member, forced) == targets).all(1)
    assert teacher.tolist() == decoded.tolist()
    assert teacher[half].all()
