"""Command `track`: make MLflow show what the files hold."""

from pipeline import tracking
from pipeline.params import Params
from pipeline.stages import EVALUATION, MODELS


def run(params: Params) -> None:
    """Bring the runs of every trained cell of the grid up to date, and say per cell what was done.

    Raises:
        Unreachable: no MLflow answers.
    """
    for cell in params.cells():
        folder = MODELS / cell.name
        if (folder / "config.json").exists():
            done = tracking.sync(params.tracking, folder, EVALUATION / f"{cell.name}.csv")
        else:
            done = "not trained yet"
        print(f"{cell.name}: {done}")
