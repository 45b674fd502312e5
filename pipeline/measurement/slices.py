"""What each vertical slice is about: which tokens can be read from the column above a position."""

import numpy as np
import pandas as pd

from pipeline.measurement.probes import tokens_read
from pipeline.measurement.registry import Subject, measurement
from pipeline.measurement.tables import tidy


@measurement(
    "Which tokens can be read above a position?",
    {"accuracy": "held-out accuracy of a linear probe", "chance": "chance"},
)
def slices(subject: Subject) -> pd.DataFrame:
    """A linear probe from the state at each depth and position to the token at every position, over independent random
    rows; if slices stay about their own tokens, the diagonal (`position` = `token_position`) dominates."""
    tokens = subject.random.numpy()
    vocabulary = subject.model.embedding.num_embeddings
    accuracy = np.array(
        [
            [tokens_read(layer[:, position], tokens, vocabulary) for position in range(tokens.shape[1])]
            for layer in subject.stream(subject.random).numpy()
        ]
    )
    return tidy(
        ("depth", "position", "token_position"), accuracy=accuracy, chance=np.full_like(accuracy, 1 / vocabulary)
    )
