"""Linear probes: what a linear map can read from states. Ridge regression on standardised columns in closed form, in
float64, many probes at once; fitted on the first half of the rows, judged on the second."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float64, Int
from torch import Tensor

RIDGE = 1.0
"""Weight of the penalty on the coefficients of standardised columns, against a sum of squares over all samples."""
CONSTANT = 1e-9
"""A column that varies by no more than this share of its size is constant: what is left is rounding."""
TIE = 1e-9
"""Scores closer than this are equal, and the token that comes first is said: who is ahead by the last digit is chance.
Scores estimate numbers that are 0 or 1."""


class Read(NamedTuple):
    """How well numbers are read on the held-out rows."""

    error: Float64[Tensor, "probes labels"]
    """Mean absolute error, in the labels' unit."""
    r2: Float64[Tensor, "probes labels"]
    """Share of the variance that is explained."""


def regression(
    states: Float64[Tensor, "probes rows length width"],
    sides: Int[Tensor, "sides samples"],
    labels: Float64[Tensor, "rows samples labels"],
) -> Read:
    """How well each of the labels is read from the samples of a row; a sample is the states at some positions side by
    side: its s-th part stands at `sides[s]`."""
    said = held_out_predictions(states, sides, labels)
    truth = labels[len(labels) // 2 :]
    wrong = said - truth
    spread = (truth - truth.mean((0, 1))).square().sum((0, 1))
    return Read(error=wrong.abs().mean((1, 2)), r2=1 - wrong.square().sum((1, 2)) / spread)


def tokens_read(
    states: Float64[Tensor, "probes rows width"], tokens: Int[Tensor, "rows places"], vocabulary: int
) -> Float64[Tensor, "probes places"]:
    """How often the token at each place is read right: least squares on one-hot targets, one for all places."""
    one_hot = F.one_hot(tokens, vocabulary).double().flatten(1)
    said = held_out_predictions(states[:, :, None], torch.zeros(1, 1, dtype=torch.int64), one_hot[:, None])
    scores = said.view(*said.shape[:2], -1, vocabulary) - TIE * torch.arange(vocabulary)
    return (scores.argmax(-1) == tokens[len(tokens) // 2 :]).double().mean(1)


def held_out_predictions(
    states: Float64[Tensor, "probes rows length width"],
    sides: Int[Tensor, "sides samples"],
    labels: Float64[Tensor, "rows samples labels"],
) -> Float64[Tensor, "probes held_out samples labels"]:
    """What probes fitted on the first half of the rows say about the others.

    No sample is written out: a row of 11 tokens has 55 pairs of positions, but all that their Gram matrix needs of them
    is how often each position stands on each side, and beside which other (`together`).
    """
    half = len(labels) // 2
    places = F.one_hot(sides, states.shape[2]).double()  # [sides, samples, length]
    together = torch.einsum("sni,tnj->sitj", places, places)
    mean = torch.einsum("si,piw->psw", places.mean(1), states[:, :half].mean(1))
    level = labels[:half].mean((0, 1))
    centred = states[:, None] - mean[:, :, None, None]  # [probes, sides, rows, length, width]
    fitted, held_out = centred[:, :, :half], centred[:, :, half:]
    beside = torch.einsum("sitj,ptrjv->pstriv", together, fitted)
    gram = torch.einsum("psriw,pstriv->pswtv", fitted, beside)
    by_place = torch.einsum("sni,rnl->sril", places, labels[:half] - level)
    moments = torch.einsum("psriw,sril->pswl", fitted, by_place)
    samples = half * sides.shape[1]
    slopes = _ridge(gram.flatten(3).flatten(1, 2), moments.flatten(1, 2), mean.flatten(1), samples)
    read = torch.einsum("psriw,pswl->psril", held_out, slopes.view_as(moments))
    return level + sum(read[:, side, :, at] for side, at in enumerate(sides))


def _ridge(
    gram: Float64[Tensor, "probes columns columns"],
    moments: Float64[Tensor, "probes columns labels"],
    mean: Float64[Tensor, "probes columns"],
    samples: int,
) -> Float64[Tensor, "probes columns labels"]:
    """Slopes on the columns as they are, penalised as if each had variance one, so that the same ridge suits the small
    states of initialisation and the large ones of the end. `gram` and `moments` are of the centred columns."""
    squares = gram.diagonal(dim1=-2, dim2=-1)
    varies = squares > CONSTANT**2 * (squares + samples * mean.square())
    per_unit = torch.where(varies, (samples / squares).sqrt(), 0.0)
    standard = per_unit[..., None] * gram * per_unit[..., None, :]
    penalised = standard + RIDGE * torch.eye(gram.shape[-1], dtype=gram.dtype)
    return per_unit[..., None] * torch.cholesky_solve(per_unit[..., None] * moments, torch.linalg.cholesky(penalised))
