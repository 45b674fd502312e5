"""How much of the gradient reaches each layer."""

import pandas as pd
import torch
import torch.nn.functional as F

from pipeline.dataset.rows import NOTHING
from pipeline.measurement.registry import Subject, measurement
from pipeline.measurement.tables import tidy

ROWS = 128
"""As many as a batch of the default experiment."""


@measurement("How much gradient reaches each layer?", {"gradient_norm": "norm of the gradient"}, along_training=True)
def gradient_norm(subject: Subject) -> pd.DataFrame:
    """Norm of the gradient of the answer's mean cross-entropy (nats) with respect to all weights of a layer."""
    rows = subject.rows
    positions = torch.from_numpy(rows.answer_positions[:ROWS]).long()
    targets = torch.from_numpy(rows.answer_targets[:ROWS]).long()
    logits = subject.model(subject.tokens[:ROWS], positions)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=NOTHING)
    layers = [list(block.parameters()) for block in subject.model.blocks]
    weights = [weight for layer in layers for weight in layer]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
    squares = torch.stack([gradient.square().sum() for gradient in gradients]).view(len(layers), -1)
    return tidy(("layer",), gradient_norm=squares.sum(1).sqrt())
