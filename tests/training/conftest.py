"""Datasets of the tests of training."""

from collections.abc import Callable

import pytest

from pipeline import dataset
from pipeline.dataset import Dataset
from pipeline.params import Task


@pytest.fixture(scope="session")
def make_dataset(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Task], Dataset]:
    """Function that draws the dataset of a task."""

    def make(task: Task) -> Dataset:
        folder = tmp_path_factory.mktemp("data")
        dataset.write(folder, task)
        return dataset.read(folder, task)

    return make
