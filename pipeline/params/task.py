"""The base class of tasks: their options in `params.yaml`, and how their examples are drawn.

A task is one class in `pipeline/tasks/`; `tests/tasks/test_conformance.py` tests every task against this interface.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Float
from pydantic import PositiveInt, model_serializer
from pydantic.functional_serializers import SerializerFunctionWrapHandler

from pipeline.params.config import Config, Seed
from pipeline.params.score import BITS, EXACT_MATCH, Score

__all__ = ["BITS", "SPLITS", "OrderFree", "Score", "Task"]

SPLITS = ("train", "validation", "test")


class Task(Config, ABC):
    """A task: its options, and the generator of its examples. Equal options give equal examples.

    A table of examples has a row per example: `prompt` and `answer` (text), a column of whole numbers for each of
    `strata`, and what else helps a reader.
    """

    score: ClassVar[Score] = EXACT_MATCH
    answer_unit: ClassVar[str] = "place"
    """The noun for one character of an answer: `digit` gives the columns `digit_1`, `digit_2`, ... of the scores."""
    name: str
    train_size: PositiveInt
    validation_size: PositiveInt
    test_size: PositiveInt
    seed: Seed = 1

    @property
    @abstractmethod
    def words(self) -> str:
        """The task in a few words of Markdown."""

    @property
    @abstractmethod
    def vocabulary(self) -> list[str]:
        """The characters that prompts, answers and `end` may contain, sorted."""

    @property
    def end(self) -> str:
        """The character that closes an answer; empty where all answers have one length."""
        return ""

    @property
    @abstractmethod
    def answer_positions(self) -> Sequence[str]:
        """Name of each character of the longest answer, `end` included, in the order of their production."""

    @property
    @abstractmethod
    def strata(self) -> Mapping[str, Sequence[int]]:
        """Columns by which scores are broken down -> all values of the column."""

    @abstractmethod
    def splits(self) -> dict[str, pd.DataFrame]:
        """Draw the examples of each of `SPLITS`. No prompt is in two splits, except by the chance of a shuffle.

        Raises:
            UserError: the task has fewer examples than its sizes ask for.
        """

    @abstractmethod
    def enumerated(self) -> tuple[pd.DataFrame, Float[np.ndarray, " examples"]] | None:
        """All examples, and the probability with which the test split draws each; None where there are too many.

        The exact ceiling of order-blind predictors is computed from them. Some orders of a prompt may stand for all
        its orders, with their weight, where that leaves the ceiling as it is.
        """

    @property
    def order_matters(self) -> bool:
        """True if answers depend on the order of the prompt's tokens; False for an order-free control."""
        return True

    @property
    def unshuffled(self) -> "Task":
        """The same task with its data in their own order; the task itself where they are not shuffled."""
        return self

    @model_serializer(mode="wrap")
    def _sizes_last(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write what is learned before the sizes."""
        content = handler(self)
        return {
            key: content[key] for key in sorted(content, key=lambda key: key in Task.model_fields and key != "name")
        }


class OrderFree(Task):
    """An order-free control: a task whose answers do not depend on the order of the prompt's tokens."""

    @property
    def order_matters(self) -> bool:
        return False
