"""The base class of tasks: options in `params.yaml`, and the generator of examples.

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
from pipeline.params.score import EXACT_MATCH, Score

SPLITS = ("train", "validation", "test")
"""Names of the splits of a dataset."""


class Task(Config, ABC):
    """Base class of tasks: options, and a generator of examples. Equal options give equal examples.

    A table of examples has a row per example: `prompt` and `answer` (text), a column of whole numbers for each of
    `strata`, and further columns that help a reader.
    """

    score: ClassVar[Score] = EXACT_MATCH
    """Score by which models that learn the task are judged."""
    answer_unit: ClassVar[str] = "place"
    """Noun for a character of an answer; `digit` gives the columns `digit_1`, `digit_2`, ... of `evaluation.csv`."""
    name: str
    train_size: PositiveInt
    validation_size: PositiveInt
    test_size: PositiveInt
    seed: Seed = 1

    @property
    def sizes(self) -> dict[str, int]:
        """Number of examples of each split."""
        return {split: getattr(self, f"{split}_size") for split in SPLITS}

    @property
    @abstractmethod
    def description(self) -> str:
        """The task in a few words, as Markdown, such as "the sum of five digits modulo 3"."""

    @property
    @abstractmethod
    def vocabulary(self) -> list[str]:
        """All characters of prompts, answers and `end_token`, sorted."""

    @property
    def end_token(self) -> str:
        """Character that ends an answer; "" if all answers have one length."""
        return ""

    @property
    @abstractmethod
    def answer_position_names(self) -> Sequence[str]:
        """Name of each character of the longest answer, `end_token` included, such as `ones`, `tens`, `hundreds`."""

    @property
    @abstractmethod
    def strata(self) -> Mapping[str, Sequence[int]]:
        """All values of each column of examples, such as `carries`, by which scores are broken down."""

    @abstractmethod
    def draw_splits(self) -> dict[str, pd.DataFrame]:
        """Draw a table of examples for each split. No prompt is in two splits, unless shuffled data become equal.

        Raises:
            UserError: fewer examples exist than the sizes request.
        """

    @abstractmethod
    def enumerate_examples(self) -> tuple[pd.DataFrame, Float[np.ndarray, " examples"]] | None:
        """Return all examples of the task and their probabilities in the test split; None if the examples are too many.

        From these, the exact ceiling of order-blind predictors is computed. Some orders of a prompt may stand for all
        orders of the prompt, with their total probability, if the ceiling remains the same.
        """

    @property
    def order_matters(self) -> bool:
        """True if answers depend on the order of the prompt's tokens; False for an order-free control."""
        return True

    @property
    def unshuffled(self) -> "Task":
        """The task with unshuffled data: a copy of a shuffled task, or the unchanged task itself."""
        return self

    @model_serializer(mode="wrap")
    def _options_first(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Serialize the options of the subclass before the sizes and the seed."""
        shared = Task.model_fields.keys() - {"name"}
        return dict(sorted(handler(self).items(), key=lambda item: item[0] in shared))
