"""Stage `generate`: the dataset that `params.yaml` describes."""

from pipeline import dataset
from pipeline.params import Params
from pipeline.stages import DATA


def run(params: Params, task: str) -> None:
    """Write `data/<task>/`.

    Raises:
        UserError: no such task, or more examples asked for than exist.
    """
    dataset.write(DATA / task, params.task(task))
