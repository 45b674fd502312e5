"""The shape of token rows: padding, positions and targets. (What the tokens say is in test_dataset.py.)"""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.rows import IGNORED, encode

VOCABULARY = list("$+=abc")
words = st.text(alphabet="abc+=", min_size=1, max_size=6)
tables = st.lists(st.tuples(words, words), min_size=1, max_size=8).map(
    lambda texts: pd.DataFrame(texts, columns=["prompt", "answer"])
)


def test_a_row_by_hand() -> None:
    rows = encode(pd.DataFrame({"prompt": ["ab=", "b="], "answer": ["ca", "c"]}), VOCABULARY, "$")
    assert rows.tokens.tolist() == [[3, 4, 2, 5, 3, 0], [4, 2, 5, 0, 0, 0]]
    assert rows.answer_positions.tolist() == [[2, 3, 4], [1, 2, 2]]
    assert rows.answer_targets.tolist() == [[5, 3, 0], [5, 0, IGNORED]]
    assert rows.all_positions.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert rows.all_targets.tolist() == [[4, 2, 5, 3, 0], [2, 5, 0, IGNORED, IGNORED]]


@given(table=tables, end=st.sampled_from(["", "$"]), more=st.integers(0, 5))
def test_padding_changes_neither_positions_nor_targets(table: pd.DataFrame, end: str, more: int) -> None:
    rows = encode(table, VOCABULARY, end)
    longest = rows.tokens.shape[1]
    longer = encode(table, VOCABULARY, end, length=longest + more)
    assert (longer.tokens[:, :longest] == rows.tokens).all()
    assert (longer.tokens[:, longest:] == 0).all()
    assert (longer.answer_positions == rows.answer_positions).all()
    assert (longer.answer_targets == rows.answer_targets).all()
    assert (longer.all_targets[:, : longest - 1] == rows.all_targets).all()
    assert (longer.all_targets[:, longest - 1 :] == IGNORED).all()


@given(table=tables, end=st.sampled_from(["", "$"]))
def test_answer_targets_are_the_targets_of_all_positions_seen_at_the_answer(table: pd.DataFrame, end: str) -> None:
    rows = encode(table, VOCABULARY, end)
    counts = rows.answer_targets != IGNORED
    seen = np.take_along_axis(rows.all_targets, rows.answer_positions, axis=1)
    assert (seen == rows.answer_targets)[counts].all()
    last = rows.answer_positions.max(axis=1, keepdims=True)
    assert (np.where(counts, last, rows.answer_positions) == last).all()  # a shorter answer repeats its last position


@given(st.integers(1, 9), st.integers(1, 9))
def test_a_row_is_as_long_as_what_stands_in_it(prompt: int, answer: int) -> None:
    table = pd.DataFrame({"prompt": ["1" * prompt, "1" * 9], "answer": ["2" * answer, "2" * 9]})
    assert encode(table, ["1", "2", "="], "=").lengths.tolist() == [prompt + answer + 1, 19]
