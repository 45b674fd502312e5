"""Lightning data module of a training. All examples lie on the device; a batch holds only indices of examples."""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.params import Training

VALIDATION_BATCH_SIZE = 1024
"""Number of examples in a validation batch, small enough for the memory of a GPU."""


class BatchOrder:
    """Endless iterable of training batches, each the indices `[member, batch]` of examples.

    Each epoch is a permutation that depends on the seed alone, without its last examples if they do not fill a batch.
    """

    def __init__(self, example_count: int, batch_size: int, seeds: list[int]) -> None:
        if batch_size > example_count:
            raise UserError(f"training.batch_size: {batch_size} is more than the {example_count} training examples")
        self.example_count, self.batch_size, self.seeds = example_count, batch_size, seeds
        self.batches_to_skip = 0
        """Number of batches to skip at the start; greater than 0 when a training resumes from a checkpoint."""

    def __iter__(self) -> Iterator[Int[Tensor, "member batch"]]:
        return itertools.islice(self._generate_batches(), self.batches_to_skip, None)

    def _generate_batches(self) -> Iterator[Int[Tensor, "member batch"]]:
        generators = [np.random.default_rng(seed) for seed in self.seeds]
        while True:
            epoch = torch.from_numpy(np.stack([generator.permutation(self.example_count) for generator in generators]))
            for start in range(0, self.example_count - self.batch_size + 1, self.batch_size):
                yield epoch[:, start : start + self.batch_size]


class PopulationData(LightningDataModule):
    """Data module with the training and validation examples of a dataset, whose loaders yield indices of examples."""

    def __init__(self, dataset: Dataset, training: Training) -> None:
        super().__init__()
        self.transformer_arguments = dataset.transformer_arguments
        train = dataset.examples["train"]
        self.training_examples = train if training.loss_on == "answer" else train.with_all_targets()
        self.validation_examples = dataset.examples["validation"]
        self.batch_order = BatchOrder(len(train), training.batch_size, training.seeds)

    def train_dataloader(self) -> BatchOrder:
        return self.batch_order

    def val_dataloader(self) -> DataLoader[int]:
        return DataLoader(range(len(self.validation_examples)), VALIDATION_BATCH_SIZE)  # type: ignore[arg-type]
