"""Whether nearby embeddings are alike (Zuo, Guerzhoy, Guerzhoy, COLING 2025, arXiv 2501.00073)."""

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.measurement.registry import MeasurementInput, measurement
from pipeline.measurement.tables import tidy


@measurement("Are nearby embeddings alike?", {"adjacency": "adjacency score"}, reference=0.5)
def adjacency(subject: MeasurementInput) -> pd.DataFrame:
    """Share of pairs (i, j), j < i - 1, with S[i, j+1] > S[i, j], where S holds the cosine similarities of a row's
    states at one depth; one half is chance. Before training it tells how large what attention adds is beside the
    embeddings: after the last layer 0.51 with GPT-2's initialisation at width 48, 0.68 at width 384 and six layers, but
    0.80 and 0.94 with PyTorch's own initialisation of linear maps, and again 0.51 and 0.53 if the embeddings are as
    large as PyTorch's own are (tests/measurement/test_structure.py holds these numbers). The untrained models of the
    authors' notebook, with about 0.9, will differ from ours in that."""
    by_rows = {"random": subject.random_stream, "task": subject.task_stream}
    tables = [tidy(("depth",), adjacency=score(stream)).assign(rows=name) for name, stream in by_rows.items()]
    return pd.concat(tables)[["rows", "depth", "adjacency"]]


def score(stream: Float[Tensor, "layers rows length width"]) -> Float[Tensor, " layers"]:
    """The adjacency score of each layer, the mean over rows. Equal similarities (equal tokens) count one half, so that
    chance is exactly that."""
    states = normalize(stream, dim=-1)
    similarity = states @ states.transpose(-1, -2)
    nearer = similarity.diff(dim=-1)  # [.., i, j] = S[i, j+1] - S[i, j]
    length = stream.shape[-2]
    i, j = torch.tril_indices(length, length - 1, offset=-2)
    difference = nearer[..., i, j]
    difference = difference.where(difference.abs() > 1e-6, 0.0)  # equal or nearly so: else rounding would decide
    return ((difference.sign() + 1) / 2).mean((-1, -2))
