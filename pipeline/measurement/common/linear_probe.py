"""Linear probes: what a linear map can read from states.

Ridge regression on standardised columns in closed form, in float64, for many probes at once; fitted on the first half
of the examples, evaluated on the second.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float64, Int
from torch import Tensor

RIDGE = 1.0
"""Weight of the squared coefficients of standardised columns, beside the sum of squared errors over all samples."""
CONSTANT = 1e-9
"""A column whose standard deviation is below this share of its root mean square counts as constant."""
TIE = 1e-9
"""Scores (estimates of 0 or 1) closer than this are equal, and the smallest token wins: rounding must not decide."""


class RegressionScores(NamedTuple):
    """Errors of the predicted numbers on the held-out examples."""

    error: Float64[Tensor, "probes labels"]
    """Mean absolute error, in the labels' unit."""
    r2: Float64[Tensor, "probes labels"]
    """Explained share of the variance."""


def regression_scores(
    states: Float64[Tensor, "probes examples length width"],
    sides: Int[Tensor, "sides samples"],
    labels: Float64[Tensor, "examples samples labels"],
) -> RegressionScores:
    """Scores of probes for numbers. Sample n of an example is its states at positions `sides[:, n]`, concatenated."""
    truth = labels[len(labels) // 2 :]
    error = held_out_predictions(states, sides, labels) - truth
    spread = (truth - truth.mean((0, 1))).square().sum((0, 1))
    return RegressionScores(error=error.abs().mean((1, 2)), r2=1 - error.square().sum((1, 2)) / spread)


def token_accuracy(
    states: Float64[Tensor, "probes examples width"], tokens: Int[Tensor, "examples positions"], vocabulary: int
) -> Float64[Tensor, "probes positions"]:
    """Accuracy of probes for the token at each position: least squares on one-hot targets, all positions at once."""
    one_hot = F.one_hot(tokens, vocabulary).double().flatten(1)
    own_state = torch.zeros(1, 1, dtype=torch.int64)
    predictions = held_out_predictions(states[:, :, None], own_state, one_hot[:, None])
    scores = predictions.view(*predictions.shape[:2], -1, vocabulary) - TIE * torch.arange(vocabulary)
    return (scores.argmax(-1) == tokens[len(tokens) // 2 :]).double().mean(1)


def held_out_predictions(
    states: Float64[Tensor, "probes examples length width"],
    sides: Int[Tensor, "sides samples"],
    labels: Float64[Tensor, "examples samples labels"],
) -> Float64[Tensor, "probes held_out samples labels"]:
    """Predictions for the second half of the examples, by probes fitted on the first half.

    The samples are never written out: an example of 11 tokens has 55 pairs of positions, but their Gram matrix only
    depends on how often each position is on each side, and together with which other (`co_occurrence`).
    """
    half = len(labels) // 2
    positions = F.one_hot(sides, states.shape[2]).double()  # [sides, samples, length]
    co_occurrence = torch.einsum("sni,tnj->sitj", positions, positions)
    mean = torch.einsum("si,piw->psw", positions.mean(1), states[:, :half].mean(1))
    intercept = labels[:half].mean((0, 1))
    centred = states[:, None] - mean[:, :, None, None]  # [probes, sides, examples, length, width]
    fitted, held_out = centred[:, :, :half], centred[:, :, half:]
    partners = torch.einsum("sitj,ptrjv->pstriv", co_occurrence, fitted)
    gram = torch.einsum("psriw,pstriv->pswtv", fitted, partners)
    label_sums = torch.einsum("sni,rnl->sril", positions, labels[:half] - intercept)
    moments = torch.einsum("psriw,sril->pswl", fitted, label_sums)
    samples = half * sides.shape[1]
    slopes = _ridge(gram.flatten(3).flatten(1, 2), moments.flatten(1, 2), mean.flatten(1), samples)
    terms = torch.einsum("psriw,pswl->psril", held_out, slopes.view_as(moments))
    return intercept + sum(terms[:, side, :, position] for side, position in enumerate(sides))


def _ridge(
    gram: Float64[Tensor, "probes columns columns"],
    moments: Float64[Tensor, "probes columns labels"],
    mean: Float64[Tensor, "probes columns"],
    samples: int,
) -> Float64[Tensor, "probes columns labels"]:
    """Ridge regression slopes for unstandardised columns, penalised as if each had variance 1.

    So one ridge suits the small states before training and the large ones after it. `gram` and `moments` are of the
    centred columns.
    """
    squares = gram.diagonal(dim1=-2, dim2=-1)
    varies = squares > CONSTANT**2 * (squares + samples * mean.square())
    per_unit = torch.where(varies, (samples / squares).sqrt(), 0.0)
    standard = per_unit[..., None] * gram * per_unit[..., None, :]
    penalised = standard + RIDGE * torch.eye(gram.shape[-1], dtype=gram.dtype)
    return per_unit[..., None] * torch.cholesky_solve(per_unit[..., None] * moments, torch.linalg.cholesky(penalised))
