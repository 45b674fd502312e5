"""What is learned: problems as text, and their splits.

A task is a section of `params.yaml` (`pipeline/params/task.py`), a class here that keeps the promises of `Problems`,
and a line in `catalogue.py`; `tests/tasks/test_conformance.py` holds every task to them.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float

from pipeline.params import Task

SPLITS = ("train", "validation", "test")


@runtime_checkable
class Problems(Protocol):
    """The problems of a task, as its section in `params.yaml` describes them. The same section gives the same problems.

    A table of problems has a row per problem with `prompt` and `answer` (text), a column of whole numbers for each of
    `strata`, and whatever else a person wants to read.
    """

    @property
    def task(self) -> Task:
        """The section."""

    @property
    def in_words(self) -> str:
        """What is learned, in a few words with `code` as in Markdown."""

    @property
    def end(self) -> str:
        """What closes an answer: one character, or nothing where all answers are equally long."""

    @property
    def vocabulary(self) -> list[str]:
        """The characters that prompts, answers and `end` may have, sorted."""

    @property
    def place(self) -> str:
        """What a character of the answer is called, such as `digit`: the columns of the scores by place."""

    @property
    def places(self) -> Sequence[str]:
        """The name of each character of the longest answer, `end` included, in the order they are produced."""

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        """Column of the tables -> every value it may have: what scores are broken down by."""

    def splits(self) -> dict[str, pd.DataFrame]:
        """The tables of `SPLITS`, of the sizes the section says; no prompt is in two of them (but by the chance of a
        shuffle, as `windows.py` says).

        Raises:
            UserError: there are fewer problems than asked for.
        """

    def enumerated(self) -> tuple[pd.DataFrame, Float[np.ndarray, " problems"]] | None:
        """All problems there are, and the probability with which the test split draws each (for the exact ceiling of
        order-blind predictors); None where they are too many. Of problems that differ by order alone, some may stand
        for all, with the weight of all, where they say the same to who does not know it."""
