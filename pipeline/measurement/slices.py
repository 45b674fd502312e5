"""What each vertical slice is about: which tokens can be read from the column above a position."""

import pandas as pd
import torch

from pipeline.measurement.probes import tokens_read
from pipeline.measurement.registry import MeasurementInput, measurement
from pipeline.measurement.tables import tidy


@measurement(
    "Which tokens can be read above a position?",
    {"accuracy": "held-out accuracy of a linear probe", "chance": "chance"},
)
def slices(subject: MeasurementInput) -> pd.DataFrame:
    """A linear probe from the state at each depth and position to the token at every position, over independent random
    rows; if slices stay about their own tokens, the diagonal (`position` = `token_position`) dominates."""
    vocabulary = subject.model.embedding.num_embeddings
    above = subject.random_stream.transpose(1, 2)  # [layers, length, rows, width]: a probe for each position
    accuracy = torch.stack([tokens_read(layer, subject.random, vocabulary) for layer in above])
    return tidy(
        ("depth", "position", "token_position"), accuracy=accuracy, chance=torch.full_like(accuracy, 1 / vocabulary)
    )
