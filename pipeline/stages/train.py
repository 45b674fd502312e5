"""Stage `train`: dataset and cell in, trained members out; whoever tracks watches."""

from collections.abc import Sequence

from pytorch_lightning import Callback

from pipeline import dataset
from pipeline.params import Params
from pipeline.stages import CHECKPOINTS, DATA, MODELS
from pipeline.stages.progress import ShowProgress
from pipeline.tracking.cells import LiveRuns
from pipeline.training import checkpoints
from pipeline.training.fit import fit
from pipeline.training.resume import Checkpoints


def run(params: Params, ablation: str, watching: Sequence[Callback] = ()) -> None:
    """Train all seeds of `ablation` and write `models/<ablation>/`; who else is `watching` is told of every step.

    Raises:
        Refused: no such ablation, no dataset (or another than `params.yaml` says), no such accelerator.
    """
    cell = params.cell(ablation)
    data = dataset.read(DATA / cell.dataset, cell.task)
    with LiveRuns(params.tracking, cell, data.digests) as live:
        with Checkpoints(CHECKPOINTS / ablation, cell, data.digests) as kept:
            callbacks = [ShowProgress(), *watching]
            trained = fit(cell, data, on_evaluation=live.log_evaluation, callbacks=callbacks, kept=kept)
            checkpoints.write(MODELS / ablation, cell, data, trained)
        live.record(MODELS / ablation)
