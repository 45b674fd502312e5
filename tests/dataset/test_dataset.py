"""Rows are the text in tokens, and a dataset on disk is whole, unaltered and the one asked for."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import dataset, files
from pipeline.dataset.rows import IGNORED, encode
from pipeline.errors import UserError
from pipeline.params import task as params_task
from pipeline.tasks.catalogue import problems
from tests.conftest import task

VOCABULARY = list("$+=abc")
words = st.text(alphabet="abc+=", min_size=1, max_size=6)


@given(texts=st.lists(st.tuples(words, words), min_size=1, max_size=8), end=st.sampled_from(["", "$"]))
def test_rows_say_what_the_text_says(texts: list[tuple[str, str]], end: str) -> None:
    rows = encode(pd.DataFrame(texts, columns=["prompt", "answer"]), VOCABULARY, end)
    for row, (prompt, answer) in enumerate(texts):
        text = prompt + answer + end
        assert "".join(VOCABULARY[token] for token in rows.tokens[row, : len(text)]) == text
        targets = rows.answer_targets[row][rows.answer_targets[row] != IGNORED]
        assert "".join(VOCABULARY[token] for token in targets) == answer + end
        assert rows.answer_positions[row, 0] == len(prompt) - 1
        after = rows.all_targets[row][rows.all_targets[row] != IGNORED]
        assert "".join(VOCABULARY[token] for token in after) == text[1:]


def test_a_character_that_is_not_in_the_vocabulary_is_refused() -> None:
    with pytest.raises(UserError, match="the character 'z' is not in the vocabulary"):
        encode(pd.DataFrame({"prompt": ["a"], "answer": ["z"]}), VOCABULARY, "")


@pytest.mark.parametrize("chosen", [{}, {"zero_pad": False}, {"zero_pad": False, "delimiters": True, "reverse": False}])
def test_what_is_written_is_what_is_read(tmp_path: Path, chosen: dict[str, object]) -> None:
    asked = task(**chosen)
    dataset.write(tmp_path, problems(asked))
    data = dataset.read(tmp_path, asked)
    assert {name: len(table) for name, table in data.tables.items()} == {"train": 200, "validation": 50, "test": 50}
    assert len({rows.tokens.shape[1] for rows in data.rows.values()}) == 1
    table = data.tables["test"]
    assert (table["a"] + table["b"] == table["sum"]).all()
    assert np.isin(data.rows["test"].tokens, range(len(data.vocabulary))).all()


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        dataset.write(tmp_path / folder, problems(task()))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_an_altered_a_missing_and_a_foreign_dataset_are_refused(tmp_path: Path) -> None:
    dataset.write(tmp_path, problems(task()))
    with pytest.raises(UserError, match=r"made with seed 1, but params.yaml says 2"):
        dataset.read(tmp_path, task(seed=2))
    path = tmp_path / "train.csv"
    files.write_text(path, path.read_text().replace("1", "2", 1))
    with pytest.raises(UserError, match=r"train.csv: altered or truncated"):
        dataset.read(tmp_path, task())
    path.unlink()
    with pytest.raises(UserError, match=r"train.csv: no such file; `python -m pipeline generate .*` makes it"):
        dataset.read(tmp_path, task())
    with pytest.raises(UserError, match=r"is of addition, not of reverse"):
        dataset.read(
            tmp_path,
            params_task(
                {"name": "reverse", "digits": 3, "train_size": 9, "validation_size": 9, "test_size": 9}, "task"
            ),
        )
