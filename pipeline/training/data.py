"""The data module: the dataset lives on the device as tensors, and a batch is a table of row numbers."""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int
from pytorch_lightning import LightningDataModule
from torch import Tensor

from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.params import Training

VALIDATION_ROWS = 1024
"""Rows of one validation batch: bounds the memory of an evaluation."""


class BatchOrder:
    """Endless batches of row numbers `[member, batch]`: every member reads every epoch in an order of its own, which
    depends on its seed alone. What does not fill a batch at the end of an epoch is left for the next shuffle."""

    def __init__(self, rows: int, batch_size: int, seeds: list[int]) -> None:
        if batch_size > rows:
            raise UserError(f"training.batch_size: {batch_size} is more than the {rows} training examples")
        self.rows, self.batch_size, self.seeds = rows, batch_size, seeds
        self.start = 0
        """How many batches were read before."""

    def __iter__(self) -> Iterator[Int[Tensor, "member batch"]]:
        return itertools.islice(self._batches(), self.start, None)

    def _batches(self) -> Iterator[Int[Tensor, "member batch"]]:
        generators = [np.random.default_rng(seed) for seed in self.seeds]
        while True:
            epoch = torch.from_numpy(np.stack([generator.permutation(self.rows) for generator in generators]))
            for start in range(0, self.rows - self.batch_size + 1, self.batch_size):
                yield epoch[:, start : start + self.batch_size]


class ValidationBatches:
    """All row numbers, once, in batches of `VALIDATION_ROWS`. (A plain list Lightning would take for loaders.)"""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Int[Tensor, " batch"]]:
        return iter(torch.arange(self.rows).split(VALIDATION_ROWS))


class PopulationData(LightningDataModule):
    """Row numbers for Lightning's loops; the rows themselves are `training` and `validation`."""

    def __init__(self, dataset: Dataset, training: Training) -> None:
        super().__init__()
        train = dataset.examples["train"]
        self.training = train if training.loss_on == "answer" else train.at_all_positions()
        self.validation = dataset.examples["validation"]
        self.order = BatchOrder(len(train), training.batch_size, training.seeds)

    def train_dataloader(self) -> BatchOrder:
        return self.order

    def val_dataloader(self) -> ValidationBatches:
        return ValidationBatches(len(self.validation))
