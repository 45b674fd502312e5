"""Stage `train`: train the runs of an ablation, with checkpoints, progress and tracking."""

from collections.abc import Sequence

from pytorch_lightning import Callback

from pipeline import dataset
from pipeline.params import Params
from pipeline.stages import CHECKPOINTS, DATA, MODELS
from pipeline.stages.progress import ProgressDisplay
from pipeline.tracking.ablations import LiveRuns
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.fit import fit


def run(params: Params, ablation_name: str, callbacks: Sequence[Callback] = ()) -> None:
    """Train all seeds of an ablation and write `models/<ablation>/`; `callbacks` are further ones for Lightning.

    Raises:
        UserError: there is no such ablation or accelerator, or the dataset is missing or of other settings.
    """
    ablation = params.ablation(ablation_name)
    data = dataset.read(DATA / ablation.dataset, ablation.task)
    callbacks = [ProgressDisplay(), *callbacks]
    with LiveRuns(params.tracking, ablation, data.digests) as live:
        with Checkpoints(CHECKPOINTS / ablation_name, ablation, data.digests) as checkpoints:
            artifact = fit(
                ablation, data, on_evaluation=live.log_evaluation, callbacks=callbacks, checkpoints=checkpoints
            )
            artifact.write(MODELS / ablation_name)
        live.add_final_results(MODELS / ablation_name)
