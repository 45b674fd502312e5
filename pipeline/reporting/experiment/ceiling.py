"""The order-blind ceiling: the best exact match of any predictor that sees the prompt's tokens, but not their order."""

import numpy as np
import pandas as pd
from jaxtyping import Int

from pipeline.params import Task


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
    likelihood = pd.DataFrame(
        {"bag": number_multisets(table["prompt"]), "answer": pd.factorize(table["answer"])[0], "weight": weight}
    )
    by_answer = likelihood.groupby(["bag", "answer"], sort=False)["weight"].sum()
    return round(float(by_answer.groupby(level="bag", sort=False).max().sum()), 12)  # probabilities add up to 1


def number_multisets(texts: pd.Series) -> Int[np.ndarray, " texts"]:
    """Return a number for each text; two texts have the same number if and only if they have the same characters."""
    longest = int(texts.str.len().max())
    code_points = texts.to_numpy(dtype=f"<U{longest}").view(np.uint32).reshape(len(texts), longest)
    ordered = np.sort(code_points, axis=1)
    return np.unique(np.ascontiguousarray(ordered).view(f"V{4 * longest}").ravel(), return_inverse=True)[1]
