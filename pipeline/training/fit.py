"""Function `fit`, which trains all seeds of an ablation."""

import sys
from collections.abc import Callable, Sequence

import pandas as pd
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from pipeline.dataset import Dataset
from pipeline.environment import keep_freed_memory, limit_threads, silence_lightning
from pipeline.errors import UserError
from pipeline.params import Ablation
from pipeline.training.artifact import Artifact
from pipeline.training.checkpoints import AtomicCheckpointIO, Checkpoints
from pipeline.training.convergence import HistoryRows, history_columns
from pipeline.training.data import PopulationData
from pipeline.training.module import PopulationModule


def fit(
    ablation: Ablation,
    dataset: Dataset,
    *,
    on_evaluation: Callable[[HistoryRows], None] = lambda rows: None,
    callbacks: Sequence[Callback] = (),
    checkpoints: Checkpoints | None = None,
) -> Artifact:
    """Train all seeds of `ablation` on `dataset`, in one Lightning `fit`.

    Args:
        on_evaluation: function called after every evaluation with the new rows of the history, one per seed.
        checkpoints: the checkpoints to resume from and to write (default: none).

    Raises:
        UserError: the accelerator does not exist, or the batch is larger than the dataset.
    """
    training = ablation.training
    data = PopulationData(dataset, training)
    module = PopulationModule(ablation, data, on_evaluation)
    silence_lightning()
    keep_freed_memory()
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
            callbacks=[*callbacks, *([checkpoints] if checkpoints else [])],
            plugins=[AtomicCheckpointIO()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ModuleNotFoundError):  # the latter if a package for the accelerator is missing
        raise UserError(f"training.accelerator: {training.accelerator!r} is not on this machine") from None
    newest = checkpoints.newest_checkpoint if checkpoints else None
    if newest:
        print(f"{ablation.name}: resumes at step {int(newest.stem.removeprefix('step-'))}", file=sys.stderr)
    try:
        with limit_threads(training.threads):
            trainer.fit(module, data, ckpt_path=newest)
    except (SystemExit, RuntimeError):
        # Lightning turns Ctrl-C into an exit, or in the middle of vmap into a RuntimeError while it cleans up
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    parameters = sum(parameter.numel() for parameter in module.population.skeleton.parameters())
    history = pd.DataFrame(module.history, columns=history_columns(ablation.task.score))
    weights, vocabulary, length = module.collect_final_weights(), dataset.vocabulary, dataset.input_length
    return Artifact(ablation, vocabulary, length, parameters, dataset.digests, history, weights, module.snapshots)
