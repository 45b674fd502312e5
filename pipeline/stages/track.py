"""Command `track`: make the view show what the files hold."""

from pipeline.params import Params
from pipeline.stages import EVALUATION, MODELS, TESTED
from pipeline.tracking import connect
from pipeline.tracking.ablations import end_killed, sync
from pipeline.training.artifact import CONFIG


def run(params: Params) -> None:
    """Bring the runs of every trained ablation of the grid up to date, and say per ablation what was done; what a kill left
    running is marked killed.

    Raises:
        Unreachable: no back end answers.
    """
    end_killed(connect(params.tracking))
    for ablation in params.all_ablations():
        folder = MODELS / ablation.name
        if (folder / CONFIG).exists():
            done = sync(params.tracking, ablation, folder, EVALUATION / ablation.name / TESTED)
        else:
            done = "not trained yet"
        print(f"{ablation.name}: {done}")
