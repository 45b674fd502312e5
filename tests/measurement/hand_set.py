"""Tiny transformers whose weights are set by hand, so that the results of measurements are known."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from pipeline.dataset import Examples, encode_table
from pipeline.measurement.registry import MeasurementInput
from pipeline.training.population import build_initial_model
from pipeline.transformer.model import Transformer
from tests.conftest import ablation, model, task

LENGTH = 8
VOCABULARY = 12


def task_examples(count: int = 100) -> Examples:
    """Two-digit additions, of which the model reads `LENGTH` tokens."""
    addition = task(validation_size=count)
    return encode_table(addition.draw_splits()["validation"], addition.vocabulary, addition.end_token)


def inputs_of(
    build: Callable[..., Transformer], *, count: int = 400, examples: Examples | None = None, **switches: object
) -> MeasurementInput:
    """The input of measurements of the model that `build` makes with these switches."""
    config = ablation("hand-set", model_=switches)
    return MeasurementInput(build(**switches).double(), config, examples or task_examples(), count)


def unpermutable_examples() -> Examples:
    """Prompts of two tokens: there is nothing to permute before the last one."""
    return encode_table(pd.DataFrame({"prompt": ["1=", "2="], "answer": "1"}), ["1", "2", "="], "")


def untrained(seed: int = 0, length: int = 16, **switches: object) -> Transformer:
    """A model before training."""
    donors = torch.randint(VOCABULARY, (6, length), generator=torch.Generator().manual_seed(0))
    inputs = {"vocabulary": VOCABULARY, "length": length, "donors": donors}
    return build_initial_model(model(**switches), seed=seed, **inputs).eval()


@torch.no_grad()
def with_large_weights(transformer: Transformer, size: float = 0.3, seed: int = 1) -> Transformer:
    """Make the weights about as large as trained ones, so that every path affects the prediction."""
    for weight in transformer.parameters():
        if weight.ndim == 2:
            weight.add_(size * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))
    return transformer


def large(**switches: object) -> Transformer:
    """A model with large weights."""
    return with_large_weights(untrained(**switches))


@torch.no_grad()
def silent(**switches: object) -> Transformer:
    """A model whose layers add nothing: the residual stream is the embeddings at every depth."""
    transformer = untrained(**switches)
    for block in transformer.blocks:
        block.attention.transformation.output.weight.zero_()
        block.mlp.transformation.output.weight.zero_()
    return transformer


@torch.no_grad()
def uniform(**switches: object) -> Transformer:
    """A model whose attention returns the mean of the normalised states that it attends to; the MLP adds nothing."""
    transformer = silent(**switches)
    for block in transformer.blocks:
        attention = block.attention.transformation
        width = attention.output.in_features
        attention.query_key_value.weight.zero_()
        attention.query_key_value.weight[2 * width :] = torch.eye(width)
        attention.output.weight.copy_(torch.eye(width))
    return transformer


@torch.no_grad()
def copying(position: int, **switches: object) -> Transformer:
    """A model in which every token attends to `position` alone, without residual connection.

    After the first layer, the states at all positions depend on the token at `position` alone. It has one head and
    learned encodings.
    """
    transformer = uniform(**switches, positional="learned", heads=1)
    attention, table = transformer.blocks[0].attention, transformer.positional.table.weight
    transformer.embedding.weight[:, :2] = 0.0
    table.zero_()
    # After the norm, only the token at `position` has a large unit 0; the constant query, in unit 1, selects it.
    table[position, 0] = 100.0
    attention.norm.bias[1] = 1.0
    query_key_value = attention.transformation.query_key_value.weight
    query_key_value[0, 1] = query_key_value[len(query_key_value) // 3, 0] = 100.0
    return transformer


@torch.no_grad()
def counting(**switches: object) -> Transformer:
    """A silent model whose learned encoding is the position itself, in a unit that the embeddings do not use."""
    transformer = silent(**switches, positional="learned")
    table = transformer.positional.table.weight
    transformer.embedding.weight[:, 0] = 0.0
    table.zero_()
    table[:, 0] = torch.arange(len(table)) / 10
    return transformer


def values(table: pd.DataFrame, column: str, **keys: object) -> np.ndarray:
    """The values of `column` in the rows with these keys."""
    for name, value in keys.items():
        table = table[table[name] == value]
    return table[column].to_numpy(float)
