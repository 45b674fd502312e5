"""Stage `generate`: the dataset that `params.yaml` describes."""

from pipeline.params import Params
from pipeline.stages import DATA
from pipeline.tasks import dataset


def run(params: Params) -> None:
    """Write `data/<task>/`.

    Raises:
        Refused: more examples asked for than exist.
    """
    dataset.write(DATA / params.task.name, params.task)
