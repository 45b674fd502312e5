"""The order-blind ceiling: the best exact match of any predictor that sees the prompt's tokens, but not their order."""

from functools import cache

import numpy as np
import pandas as pd

from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.params import Ablation, Task


@cache
def order_blind_ceiling(task: Task) -> float | None:
    """Return the best exact match of any predictor whose answer depends only on the multiset of prompt tokens.

    An order-blind model under greedy decoding is such a predictor: its first token depends on the multiset alone, and
    each later token on the multiset and the tokens produced before. All examples of the task are enumerated; for each
    multiset the best predictor gives the most likely answer. (The last token of a prompt is always `=`.)

    None if the task has too many examples to enumerate.
    """
    enumerated = task.enumerate_examples()
    if enumerated is None:
        return None
    table, weight = enumerated
    longest = int(table["prompt"].str.len().max())
    code_points = table["prompt"].to_numpy(dtype=f"<U{longest}").view(np.uint32).reshape(len(table), longest)
    multisets = np.ascontiguousarray(np.sort(code_points, axis=1)).view(f"V{4 * longest}").ravel()
    numbers = np.unique(multisets, return_inverse=True)[1]  # equal for prompts with the same characters
    answers = pd.factorize(table["answer"])[0]
    by_answer = pd.Series(weight).groupby([numbers, answers], sort=False).sum()
    return round(float(by_answer.groupby(level=0, sort=False).max().sum()), 12)  # probabilities add up to 1


def is_proved_impossible(ablation: Ablation) -> bool:
    """Return True if the architecture is order-blind, and the ceiling of the task is below the target score."""
    threshold = ablation.convergence_threshold
    if threshold is None or not is_order_blind(ablation.model):
        return False
    ceiling = order_blind_ceiling(ablation.task)
    return ceiling is not None and ceiling < threshold
