"""Adjacency score: are the states of neighbouring positions alike? (Zuo, Guerzhoy, Guerzhoy 2025, arXiv 2501.00073.)"""

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.measurement.registry import MeasurementInput, measurement, tidy_table


@measurement("Are nearby embeddings alike?", {"adjacency": "adjacency score"}, no_effect_value=0.5)
def adjacency(inputs: MeasurementInput) -> pd.DataFrame:
    """Share of pairs (i, j), j < i - 1, with S[i, j+1] > S[i, j], where S holds the cosine similarities of the states
    of one example at one depth; chance is one half. Before training, the score depends on how large attention's output
    is beside the embeddings: after the last layer it is 0.51 with GPT-2's initialisation at width 48, and 0.68 at width
    384 with six layers. With PyTorch's initialisation of linear maps it is 0.80 and 0.94, and if the embeddings are
    PyTorch's too, 0.51 and 0.53. The untrained models of the authors' notebook, with about 0.9, differ from ours in
    this."""
    tables = {name: tidy_table(("depth",), adjacency=adjacency_score(x)) for name, x in inputs.streams.items()}
    return pd.concat(tables, names=["inputs"]).reset_index("inputs")


def adjacency_score(stream: Float[Tensor, "depths examples length width"]) -> Float[Tensor, " depths"]:
    """Mean adjacency score of the examples at each depth. Equal similarities (equal tokens) count one half."""
    states = normalize(stream, dim=-1)
    similarity = states @ states.transpose(-1, -2)
    nearer = similarity.diff(dim=-1)  # [.., i, j] = S[i, j+1] - S[i, j]
    length = stream.shape[-2]
    i, j = torch.tril_indices(length, length - 1, offset=-2)
    difference = nearer[..., i, j]
    difference = difference.where(difference.abs() > 1e-6, 0.0)  # or rounding would decide between equal similarities
    return ((difference.sign() + 1) / 2).mean((-1, -2))
