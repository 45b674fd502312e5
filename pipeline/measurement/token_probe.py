"""Token probe: which tokens can be read from the states above a position?"""

import pandas as pd
import torch

from pipeline.measurement.common.linear_probe import token_accuracy
from pipeline.measurement.registry import MeasurementInput, measurement, tidy_table


@measurement(
    "Which tokens can be read above a position?",
    {"accuracy": "held-out accuracy of a linear probe", "chance": "chance"},
)
def token_probe(inputs: MeasurementInput) -> pd.DataFrame:
    """Accuracy of a linear probe from the state at each depth and position to the token at every position, over
    independent random examples. If the states above each position keep describing the token there, accuracy is
    highest where `position` = `token_position`."""
    vocabulary = inputs.model.embedding.num_embeddings
    by_position = inputs.random_stream.transpose(1, 2)  # [depths, length, examples, width]: a probe per position
    accuracy = torch.stack([token_accuracy(states, inputs.random_tokens, vocabulary) for states in by_position])
    return tidy_table(
        ("depth", "position", "token_position"), accuracy=accuracy, chance=torch.full_like(accuracy, 1 / vocabulary)
    )
