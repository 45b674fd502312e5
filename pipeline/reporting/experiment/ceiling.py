"""What can be known without order: the ceiling for every predictor that sees a bag of tokens."""

import numpy as np
import pandas as pd
from jaxtyping import Int

from pipeline.tasks import Problems


def ceiling(problems: Problems) -> float | None:
    """The best exact match of any predictor whose answer depends only on the multiset of prompt tokens and the last.

    By greedy decoding an order-blind model's whole answer is such a function: the first token is, and each next one
    is a function of the prompt's tokens and those already said. All problems are enumerated; of each group with the
    same multiset the best predictor gets the most likely answer right. (The last token is always `=`.)

    None where the problems are too many to enumerate.
    """
    enumerated = problems.enumerated()
    if enumerated is None:
        return None
    table, weight = enumerated
    likelihood = pd.DataFrame(
        {"bag": bags(table["prompt"]), "answer": pd.factorize(table["answer"])[0], "weight": weight}
    )
    by_answer = likelihood.groupby(["bag", "answer"], sort=False)["weight"].sum()
    return round(float(by_answer.groupby(level="bag", sort=False).max().sum()), 12)  # of probabilities that add up to 1


def bags(texts: pd.Series) -> Int[np.ndarray, " texts"]:
    """A number for each text, the same for two texts if and only if one is a permutation of the other."""
    longest = int(texts.str.len().max())
    code_points = texts.to_numpy(dtype=f"<U{longest}").view(np.uint32).reshape(len(texts), longest)
    ordered = np.sort(code_points, axis=1)
    return np.unique(np.ascontiguousarray(ordered).view(f"V{4 * longest}").ravel(), return_inverse=True)[1]
