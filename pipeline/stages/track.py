"""Command `track`: make the view show what the files hold."""

from pipeline.params import Params
from pipeline.stages import EVALUATION, MODELS, TESTED
from pipeline.tracking import connect
from pipeline.tracking.cells import end_killed, sync
from pipeline.training.checkpoints import CONFIG


def run(params: Params) -> None:
    """Bring the runs of every trained cell of the grid up to date, and say per cell what was done; what a kill left
    running is marked killed.

    Raises:
        Unreachable: no back end answers.
    """
    end_killed(connect(params.tracking))
    for cell in params.cells():
        folder = MODELS / cell.name
        if (folder / CONFIG).exists():
            done = sync(params.tracking, cell, folder, EVALUATION / cell.name / TESTED)
        else:
            done = "not trained yet"
        print(f"{cell.name}: {done}")
