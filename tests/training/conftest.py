"""Datasets and checkpoints of the tests of training."""

import os
from collections.abc import Callable, Iterator

import pytest

from pipeline import dataset
from pipeline.dataset import Dataset
from pipeline.params import Task
from pipeline.training import checkpoints


@pytest.fixture(scope="session")
def make_dataset(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Task], Dataset]:
    """Function that draws the dataset of a task."""

    def make(task: Task) -> Dataset:
        folder = tmp_path_factory.mktemp("data")
        dataset.write(folder, task)
        return dataset.read(folder, task)

    return make


@pytest.fixture(scope="module")
def _checkpoint_after_every_step() -> Iterator[None]:
    """Without waiting for the disk, because no test cuts its power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "MAX_TIME_SHARE", float("inf"))
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield
