"""Stage `generate`: draw the dataset of a task and write it to a folder."""

from pipeline import dataset
from pipeline.params import Params
from pipeline.stages import DATA


def run(params: Params, task_name: str) -> None:
    """Draw the dataset of a task and write it to `data/<task>/`.

    Raises:
        UserError: there is no such task, or it has fewer examples than requested.
    """
    dataset.write(DATA / task_name, params.task(task_name))
