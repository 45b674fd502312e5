"""Linear probes: how well a linear map predicts numbers or tokens from states.

Ridge regression on standardised columns in closed form, in float64, for many probes at once; fitted on the first half
of the examples, evaluated on the second.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float64, Int
from torch import Tensor


def regression_scores(
    states: Float64[Tensor, "probes examples length width"],
    state_positions: Int[Tensor, "sides samples"],
    labels: Float64[Tensor, "examples samples labels"],
) -> tuple[Float64[Tensor, "probes labels"], Float64[Tensor, "probes labels"]]:
    """Return the scores of linear probes that predict `labels[:, n]` from the states at `state_positions[:, n]`, on the
    held-out examples: the mean absolute error, and the share of the labels' variance that the probe explains (R²)."""
    truth = labels[len(labels) // 2 :]
    # One probe at a time takes two thirds of the time of all at once, because intermediate results stay in the cache.
    error = torch.cat([held_out_predictions(probe[None], state_positions, labels) for probe in states]) - truth
    spread = (truth - truth.mean((0, 1))).square().sum((0, 1))
    return error.abs().mean((1, 2)), 1 - error.square().sum((1, 2)) / spread


def token_accuracy(
    states: Float64[Tensor, "probes examples width"], tokens: Int[Tensor, "examples positions"], vocabulary: int
) -> Float64[Tensor, "probes positions"]:
    """Return the accuracy of linear probes for the token at each position: least squares on one-hot targets."""
    one_hot = F.one_hot(tokens, vocabulary).double().flatten(1)
    predictions = held_out_predictions(states[:, :, None], torch.zeros(1, 1).long(), one_hot[:, None])
    # In a tie, also one broken by rounding, the smallest token is predicted.
    scores = predictions.view(*predictions.shape[:2], -1, vocabulary) - 1e-9 * torch.arange(vocabulary)
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
    gram = torch.einsum("psriw,pstriv->pswtv", fitted, partners).flatten(3).flatten(1, 2)  # [probes, columns, columns]
    label_sums = torch.einsum("sni,rnl->sril", positions, labels[:half] - intercept)
    moments = torch.einsum("psriw,sril->pswl", fitted, label_sums)
    # Columns are penalised, with weight 1, as if each had variance 1, so that one penalty suits the small states before
    # training and the large ones after it. Constant columns, but for rounding, are left out.
    samples, squares = half * state_positions.shape[1], gram.diagonal(dim1=-2, dim2=-1)
    varies = squares > 1e-9**2 * (squares + samples * mean.flatten(1).square())
    per_unit = torch.where(varies, (samples / squares).sqrt(), 0.0)[..., None]
    penalised = per_unit * gram * per_unit.mT + torch.eye(gram.shape[-1], dtype=gram.dtype)
    slopes = per_unit * torch.cholesky_solve(per_unit * moments.flatten(1, 2), torch.linalg.cholesky(penalised))
    terms = torch.einsum("psriw,pswl->psril", held_out, slopes.view_as(moments))
    return intercept + sum(terms[:, side, :, position] for side, position in enumerate(state_positions))
