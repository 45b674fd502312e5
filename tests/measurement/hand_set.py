"""Tiny transformers whose answer is known, because their weights are set by hand."""

import numpy as np
import pandas as pd
import torch

from pipeline.dataset import Examples, encode
from pipeline.measurement.registry import MeasurementInput, random_rows
from pipeline.tasks.catalogue import problems
from pipeline.training.population import initial_model
from pipeline.transformer.model import Transformer
from tests.conftest import ablation, model, task

LENGTH = 7
VOCABULARY = 12


def rows(count: int = 100) -> Examples:
    """Task rows of two-digit addition, `LENGTH` + 1 tokens and more long."""
    asked = problems(task(validation_size=count))
    return encode(asked.splits()["validation"], asked.vocabulary, asked.end)


def subject(
    transformer: Transformer, *, count: int = 400, length: int = LENGTH, of: Examples | None = None, **switches: object
) -> MeasurementInput:
    """A subject around a model of these switches; `of`: other rows than `rows()`."""
    random = random_rows(count, length, VOCABULARY)
    return MeasurementInput(transformer.double(), ablation("hand-set", model_=switches), of or rows(), random)


def short_rows() -> Examples:
    """In which nothing can change places: a digit, and what stands last."""
    return encode(pd.DataFrame({"prompt": ["1=", "2="], "answer": "1"}), ["1", "2", "="], "")


def untrained(seed: int = 0, length: int = 16, **switches: object) -> Transformer:
    """As a member starts."""
    inputs = {"vocabulary": VOCABULARY, "length": length, "donors": random_rows(6, length, VOCABULARY)}
    return initial_model(model(**switches), seed=seed, **inputs).eval()


@torch.no_grad()
def silent(**switches: object) -> Transformer:
    """Every layer adds nothing: the residual stream is the embeddings, at every depth."""
    made = untrained(**switches)
    for block in made.blocks:
        block.attention.transformation.output.weight.zero_()
        block.mlp.transformation.output.weight.zero_()
    return made


@torch.no_grad()
def uniform(**switches: object) -> Transformer:
    """Attends to all it sees alike, with values and output the identity: a layer's attention gives the mean of the
    normalised states; the MLP adds nothing."""
    made = silent(**switches)
    for block in made.blocks:
        attention = block.attention.transformation
        width = attention.output.in_features
        attention.query_key_value.weight.zero_()
        attention.query_key_value.weight[2 * width :] = torch.eye(width)
        attention.output.weight.copy_(torch.eye(width))
    return made


@torch.no_grad()
def copying(position: int, **switches: object) -> Transformer:
    """Learned encoding, one head; every token attends to `position` alone, without residual connection: from the first
    layer on the stream at every position is about the token there."""
    made = silent(**switches, positional="learned", heads=1)
    width = made.embedding.embedding_dim
    table = torch.zeros_like(made.positional.table.weight)
    table[position, 0] = 100.0  # outshines the embeddings' share of unit 0, which is taken away below
    made.embedding.weight[:, 0] = 0.0
    made.positional.table.weight.copy_(table)
    attention = made.blocks[0].attention.transformation
    attention.query_key_value.weight.zero_()
    # The norm turns `position` into the only token with a large unit 0; the constant query asks for it.
    made.blocks[0].attention.norm.bias[1] = 1.0
    made.embedding.weight[:, 1] = 0.0
    attention.query_key_value.weight[0, 1] = 100.0
    attention.query_key_value.weight[width, 0] = 100.0
    attention.query_key_value.weight[2 * width :] = torch.eye(width)
    attention.output.weight.copy_(torch.eye(width))
    return made


@torch.no_grad()
def counting(**switches: object) -> Transformer:
    """The learned encoding is the position itself, in a unit that the embeddings leave free."""
    made = silent(**switches, positional="learned")
    made.embedding.weight[:, 0] = 0.0
    made.positional.table.weight.zero_()
    made.positional.table.weight[:, 0] = torch.arange(len(made.positional.table.weight)) / 10
    return made


def numbers(table: pd.DataFrame, column: str, **keys: object) -> np.ndarray:
    """The values of `column` in the rows with these keys."""
    for name, value in keys.items():
        table = table[table[name] == value]
    return table[column].to_numpy(float)
