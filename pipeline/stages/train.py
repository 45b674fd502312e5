"""Stage `train`: dataset and cell in, trained members out; MLflow watches."""

from pipeline import tracking
from pipeline.params import Params
from pipeline.stages import DATA, MODELS
from pipeline.tasks import dataset
from pipeline.training import checkpoints
from pipeline.training.fit import fit
from pipeline.training.progress import ShowProgress


def run(params: Params, ablation: str) -> None:
    """Train all seeds of `ablation` and write `models/<ablation>/`.

    Raises:
        Refused: no such ablation, no dataset (or another than `params.yaml` says), no such accelerator.
    """
    cell = params.cell(ablation)
    data = dataset.read(DATA / params.task.name, params.task)
    with tracking.LiveRuns(params.tracking, cell, params.task, data.digests) as live:
        trained = fit(cell, data, on_evaluation=live.log_evaluation, callbacks=[ShowProgress()])
        checkpoints.write(MODELS / ablation, cell, data, trained)
        live.record(MODELS / ablation)
