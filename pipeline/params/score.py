"""Scores of trained models, exact match and bits per token, and the thresholds at which runs converge."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from pipeline.params.training import Training


@dataclass(frozen=True)
class Score(ABC):
    """Base class of scores: one number for the quality of a model's predictions on a split."""

    name: ClassVar[str]
    """Name of the score in names of columns, such as `test_exact_match`."""
    label: ClassVar[str]
    """Name of the score in text for readers."""
    share_label: ClassVar[str]
    """Name of the result of `as_share` in text for readers."""
    higher_is_better: ClassVar[bool]

    def column(self, split: str) -> str:
        """Return the name of the column with the score on a split, such as `validation_exact_match`."""
        return f"{split}_{self.name}"

    @abstractmethod
    def convergence_threshold(self, training: Training) -> float | None:
        """Return the score that an evaluation must reach to count towards convergence, None if runs cannot converge."""

    @abstractmethod
    def reaches(self, scores: ArrayLike, threshold: float | None, example_count: int) -> Bool[np.ndarray, "*shape"]:
        """Return True for each score that is at least as good as `threshold`; False for NaN, or if `threshold` is None.

        `example_count`: number of examples on which each score was computed.
        """

    @abstractmethod
    def as_share(self, scores: ArrayLike) -> Float[np.ndarray, "*shape"]:
        """Return the scores on a scale from 0 to 1, where 1 is perfect."""


class ExactMatch(Score):
    """Score: the share of examples whose whole answer is right."""

    name = "exact_match"
    label = "exact match"
    share_label = "exact match"
    higher_is_better = True

    def convergence_threshold(self, training: Training) -> float:
        return training.converged_at

    def reaches(self, scores: ArrayLike, threshold: float | None, example_count: int) -> Bool[np.ndarray, "*shape"]:
        """Return True for each score that reaches `threshold`, decided on numbers of right answers, so exactly."""
        right_answers = np.rint(np.nan_to_num(np.asarray(scores, float)) * example_count)
        # exact in decimal: 0.55 of 20 is 11, and in floating point 11.000000000000002
        required = np.inf if threshold is None else math.ceil(Fraction(str(threshold)) * example_count)
        return right_answers >= required

    def as_share(self, scores: ArrayLike) -> Float[np.ndarray, "*shape"]:
        return np.asarray(scores, float)


class BitsPerToken(Score):
    """Score: the cross-entropy of the predicted tokens, in bits per token."""

    name = "bits"
    label = "bits per token"
    share_label = "probability of the next token"
    higher_is_better = False

    def convergence_threshold(self, training: Training) -> float | None:
        return training.converged_at_bits

    def reaches(self, scores: ArrayLike, threshold: float | None, example_count: int) -> Bool[np.ndarray, "*shape"]:
        return np.asarray(scores, float) <= (-np.inf if threshold is None else threshold)

    def as_share(self, scores: ArrayLike) -> Float[np.ndarray, "*shape"]:
        """Return the geometric mean of the probabilities of the right tokens: 2 ** -bits."""
        return 2.0 ** -np.asarray(scores, float)


EXACT_MATCH = ExactMatch()
BITS = BitsPerToken()
SCORES: tuple[Score, ...] = (EXACT_MATCH, BITS)
