"""Stage `train`: dataset and ablation in, trained members out; whoever tracks watches."""

from collections.abc import Sequence

from pytorch_lightning import Callback

from pipeline import dataset
from pipeline.params import Params
from pipeline.stages import CHECKPOINTS, DATA, MODELS
from pipeline.stages.progress import ShowProgress
from pipeline.tracking.ablations import LiveRuns
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.fit import fit


def run(params: Params, name: str, watching: Sequence[Callback] = ()) -> None:
    """Train all seeds of `name` and write `models/<ablation>/`; who else is `watching` is told of every step.

    Raises:
        UserError: no such ablation, no dataset (or another than `params.yaml` says), no such accelerator.
    """
    ablation = params.ablation(name)
    data = dataset.read(DATA / ablation.dataset, ablation.task)
    with LiveRuns(params.tracking, ablation, data.digests) as live:
        with Checkpoints(CHECKPOINTS / name, ablation, data.digests) as checkpoints:
            callbacks = [ShowProgress(), *watching]
            artifact = fit(
                ablation, data, on_evaluation=live.log_evaluation, callbacks=callbacks, checkpoints=checkpoints
            )
            artifact.write(MODELS / name)
        live.complete(MODELS / name)
