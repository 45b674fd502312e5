"""The scores that a task may have: how good a trained model is, and when that is good enough."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from pipeline.params.training import Training


@dataclass(frozen=True)
class Score(ABC):
    """A measure of a model's predictions on one split, as one number."""

    name: ClassVar[str]
    """In the names of columns."""
    words: ClassVar[str]
    share_words: ClassVar[str]
    """The result of `share`, in words."""
    higher_is_better: ClassVar[bool]

    def column(self, split: str) -> str:
        """The column of tables that holds the score on a split, such as `validation_exact_match`."""
        return f"{split}_{self.name}"

    @abstractmethod
    def threshold(self, training: Training) -> float | None:
        """The score that an evaluation must reach to count towards convergence; None where no score is enough."""

    @abstractmethod
    def reached(self, scores: ArrayLike, threshold: float | None, examples: int) -> Bool[np.ndarray, "*shape"]:
        """Return True for each of `scores`, computed on `examples` examples, that is as good as `threshold`.

        NaN never is, and no score is as good as None.
        """

    @abstractmethod
    def share(self, scores: ArrayLike) -> Float[np.ndarray, "*shape"]:
        """The scores between 0 and 1, where 1 is perfect."""


class ExactMatch(Score):
    """The share of examples whose whole answer is right."""

    name = "exact_match"
    words = "exact match"
    share_words = "exact match"
    higher_is_better = True

    def threshold(self, training: Training) -> float:
        return training.converged_at

    def required_count(self, threshold: float, examples: int) -> int:
        """The least number of right answers that reaches `threshold`. It is computed in decimal: 0.55 of 20 is 11."""
        return math.ceil(Fraction(str(threshold)) * examples)

    def right_count(self, scores: ArrayLike, examples: int) -> Int[np.ndarray, "*shape"]:
        """The number of right answers behind each score, be it rounded to float32 or to seven digits; 0 for NaN."""
        return np.rint(np.nan_to_num(np.asarray(scores, float)) * examples).astype(int)

    def reached(self, scores: ArrayLike, threshold: float | None, examples: int) -> Bool[np.ndarray, "*shape"]:
        """Compare numbers of right answers, as `Score.reached` says, so that rounding a score changes nothing."""
        counts = self.right_count(scores, examples)
        return np.full(counts.shape, False) if threshold is None else counts >= self.required_count(threshold, examples)

    def share(self, scores: ArrayLike) -> Float[np.ndarray, "*shape"]:
        return np.asarray(scores, float)


class Bits(Score):
    """The cross-entropy of the model's predictions, in bits per token."""

    name = "bits"
    words = "bits per token"
    share_words = "probability of the next token"
    higher_is_better = False

    def threshold(self, training: Training) -> float | None:
        return training.converged_at_bits

    def reached(self, scores: ArrayLike, threshold: float | None, examples: int) -> Bool[np.ndarray, "*shape"]:
        return np.asarray(scores, float) <= (-np.inf if threshold is None else threshold)

    def share(self, scores: ArrayLike) -> Float[np.ndarray, "*shape"]:
        """The geometric mean of the probabilities given to the right tokens: 2 ** -bits."""
        return 2.0 ** -np.asarray(scores, float)


EXACT_MATCH = ExactMatch()
BITS = Bits()
SCORES: tuple[Score, ...] = (EXACT_MATCH, BITS)
