"""Stage `train`: train the runs of an ablation, with checkpoints, progress and tracking."""

from collections.abc import Sequence

from pytorch_lightning import Callback

from pipeline import dataset
from pipeline.params import Params
from pipeline.stages import CHECKPOINTS, DATA, MODELS
from pipeline.stages.progress import ShowProgress
from pipeline.tracking.ablations import LiveRuns
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.fit import fit


def run(params: Params, ablation_name: str, callbacks: Sequence[Callback] = ()) -> None:
    """Train all seeds of an ablation, with further `callbacks` of Lightning, and write `models/<ablation>/`.

    Raises:
        UserError: no such ablation, its dataset is missing or another than in params.yaml, or no such accelerator.
    """
    ablation = params.ablation(ablation_name)
    data = dataset.read(DATA / ablation.dataset, ablation.task)
    with LiveRuns(params.tracking, ablation, data.digests) as live:
        with Checkpoints(CHECKPOINTS / ablation_name, ablation, data.digests) as checkpoints:
            artifact = fit(
                ablation,
                data,
                on_evaluation=live.log_evaluation,
                callbacks=[ShowProgress(), *callbacks],
                checkpoints=checkpoints,
            )
            artifact.write(MODELS / ablation_name)
        live.complete(MODELS / ablation_name)
