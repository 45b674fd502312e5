"""Linear probes: how well a linear map predicts numbers or tokens from states.

Ridge regression on standardised columns in closed form, in float64, for many probes at once; fitted on the first half
of the examples, evaluated on the second.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float64, Int
from torch import Tensor

RIDGE_PENALTY = 1.0
"""Weight of the squared coefficients of standardised columns in a probe's loss, beside the sum of squared errors."""
CONSTANT_COLUMN_TOLERANCE = 1e-9
"""Largest ratio of a column's standard deviation to its root mean square at which the column counts as constant."""
TIE_TOLERANCE = 1e-9
"""Largest difference between two tokens' scores that counts as a tie, in which the smaller token is predicted."""


class RegressionScores(NamedTuple):
    """Scores of probes that predict numbers, on the held-out examples."""

    error: Float64[Tensor, "probes labels"]
    """Mean absolute error of the predicted labels, in the labels' unit."""
    r2: Float64[Tensor, "probes labels"]
    """Share of the labels' variance that the probe explains (R²)."""


def regression_scores(
    states: Float64[Tensor, "probes examples length width"],
    state_positions: Int[Tensor, "sides samples"],
    labels: Float64[Tensor, "examples samples labels"],
) -> RegressionScores:
    """Return the scores of linear probes that predict `labels[:, n]` from the states at `state_positions[:, n]`."""
    truth = labels[len(labels) // 2 :]
    error = held_out_predictions(states, state_positions, labels) - truth
    spread = (truth - truth.mean((0, 1))).square().sum((0, 1))
    return RegressionScores(error=error.abs().mean((1, 2)), r2=1 - error.square().sum((1, 2)) / spread)


def token_accuracy(
    states: Float64[Tensor, "probes examples width"], tokens: Int[Tensor, "examples positions"], vocabulary: int
) -> Float64[Tensor, "probes positions"]:
    """Return the accuracy of linear probes for the token at each position: least squares on one-hot targets."""
    one_hot = F.one_hot(tokens, vocabulary).double().flatten(1)
    only_position = torch.zeros(1, 1, dtype=torch.int64)
    predictions = held_out_predictions(states[:, :, None], only_position, one_hot[:, None])
    scores = predictions.view(*predictions.shape[:2], -1, vocabulary) - TIE_TOLERANCE * torch.arange(vocabulary)
    return (scores.argmax(-1) == tokens[len(tokens) // 2 :]).double().mean(1)


def held_out_predictions(
    states: Float64[Tensor, "probes examples length width"],
    state_positions: Int[Tensor, "sides samples"],
    labels: Float64[Tensor, "examples samples labels"],
) -> Float64[Tensor, "probes held_out samples labels"]:
    """Return the predictions for the second half of the examples, of probes fitted on the first half.

    The samples are never written out: an example of 11 tokens has 55 pairs of positions, but their Gram matrix only
    depends on how often each position is on each side, and together with which other (`co_occurrence`).
    """
    half = len(labels) // 2
    positions = F.one_hot(state_positions, states.shape[2]).double()  # [sides, samples, length]
    co_occurrence = torch.einsum("sni,tnj->sitj", positions, positions)
    mean = torch.einsum("si,piw->psw", positions.mean(1), states[:, :half].mean(1))
    intercept = labels[:half].mean((0, 1))
    centred = states[:, None] - mean[:, :, None, None]  # [probes, sides, examples, length, width]
    fitted, held_out = centred[:, :, :half], centred[:, :, half:]
    partners = torch.einsum("sitj,ptrjv->pstriv", co_occurrence, fitted)
    gram = torch.einsum("psriw,pstriv->pswtv", fitted, partners)
    label_sums = torch.einsum("sni,rnl->sril", positions, labels[:half] - intercept)
    moments = torch.einsum("psriw,sril->pswl", fitted, label_sums)
    samples = half * state_positions.shape[1]
    slopes = _ridge_slopes(gram.flatten(3).flatten(1, 2), moments.flatten(1, 2), mean.flatten(1), samples)
    terms = torch.einsum("psriw,pswl->psril", held_out, slopes.view_as(moments))
    return intercept + sum(terms[:, side, :, position] for side, position in enumerate(state_positions))


def _ridge_slopes(
    gram_matrix: Float64[Tensor, "probes columns columns"],
    label_moments: Float64[Tensor, "probes columns labels"],
    column_means: Float64[Tensor, "probes columns"],
    sample_count: int,
) -> Float64[Tensor, "probes columns labels"]:
    """Return the slopes of a ridge regression on centred columns, penalised as if each column had variance 1.

    So one penalty suits the small states before training and the large ones after it. `gram_matrix` and `label_moments`
    are of the centred columns.
    """
    squares = gram_matrix.diagonal(dim1=-2, dim2=-1)
    varies = squares > CONSTANT_COLUMN_TOLERANCE**2 * (squares + sample_count * column_means.square())
    per_unit = torch.where(varies, (sample_count / squares).sqrt(), 0.0)
    standard = per_unit[..., None] * gram_matrix * per_unit[..., None, :]
    penalised = standard + RIDGE_PENALTY * torch.eye(gram_matrix.shape[-1], dtype=gram_matrix.dtype)
    return per_unit[..., None] * torch.cholesky_solve(
        per_unit[..., None] * label_moments, torch.linalg.cholesky(penalised)
    )
