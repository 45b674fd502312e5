"""Train one ablation: the function that the `train` stage, the search and the tests call."""

import logging
import sys
import warnings
from collections.abc import Callable, Sequence

import pandas as pd
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.params import Ablation
from pipeline.training.artifact import Artifact
from pipeline.training.checkpoints import Checkpoints, DurableIO, KeepCheckpoints
from pipeline.training.convergence import History, history_columns
from pipeline.training.data import PopulationData
from pipeline.training.module import PopulationModule
from pipeline.training.processor import keep_freed_memory, limit_threads


def fit(
    ablation: Ablation,
    dataset: Dataset,
    *,
    on_evaluation: Callable[[History], None] = lambda rows: None,
    callbacks: Sequence[Callback] = (),
    kept: Checkpoints | None = None,
) -> Artifact:
    """Train all seeds of `ablation` on `dataset` in one Lightning `fit`, which resumes from the checkpoints in `kept`.

    Raises:
        UserError: the accelerator is not there, or the batch is larger than the dataset.
    """
    training = ablation.training
    data = PopulationData(dataset, training)
    module = PopulationModule(
        ablation,
        data,
        inputs=dataset.inputs,
        on_evaluation=on_evaluation,
    )
    _quieten_lightning()
    try:
        trainer = Trainer(
            accelerator=training.accelerator,
            devices=1,
            precision=training.precision,
            deterministic=training.deterministic,
            max_steps=training.steps,
            max_epochs=-1,
            val_check_interval=training.evaluate_every,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            callbacks=[*callbacks, *([KeepCheckpoints(kept)] if kept else [])],
            plugins=[DurableIO()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ModuleNotFoundError):  # the latter, for what the accelerator needs
        raise UserError(f"training.accelerator: {training.accelerator!r} is not on this machine") from None
    keep_freed_memory()
    last = kept.last if kept else None
    if last:
        print(f"{ablation.name}: goes on at step {int(last.stem.removeprefix('step-'))}", file=sys.stderr)
    try:
        with limit_threads(training.threads):
            trainer.fit(module, data, ckpt_path=last)
    except (SystemExit, RuntimeError):
        # Lightning answers Ctrl-C with an exit; in the middle of vmap, it stumbles over its own tidying up
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    return Artifact(
        ablation,
        dataset.vocabulary,
        dataset.length,
        module.parameters_per_member,
        dataset.digests,
        pd.DataFrame(module.history, columns=history_columns(ablation.task.score)),
        module.final_weights(),
        module.snapshots,
    )


def _quieten_lightning() -> None:
    """Lightning's advice is for other set-ups: the batches are index tables, so loader workers have nothing to do."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # its own use of torch, not ours
    warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
