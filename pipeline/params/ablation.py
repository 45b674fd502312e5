"""An ablation with all its settings: what one training depends on, and nothing else of `params.yaml`."""

from typing import Any

from pydantic import SerializeAsAny

from pipeline.errors import UserError
from pipeline.params.config import Config
from pipeline.params.model import Model
from pipeline.params.task import Task
from pipeline.params.training import Training


class Ablation(Config):
    """An ablation with complete settings: the shared `model` and `training` with the overrides applied."""

    name: str
    dataset: str
    """Name of the ablation's task in `tasks`, and of the folder of the dataset in `data/`."""
    task: SerializeAsAny[Task]
    model: Model
    training: Training

    @property
    def convergence_threshold(self) -> float | None:
        """Score that an evaluation must reach to count towards convergence, or None if runs cannot converge."""
        return self.task.score.convergence_threshold(self.training)

    @property
    def uncounted_evaluations(self) -> int:
        """Number of evaluations that count for no threshold: training does not see the evaluated network yet."""
        return max(0, self.model.final_from - 1) // self.training.evaluate_every

    def resolved_settings(self) -> dict[str, Any]:
        """Return all settings of the ablation as plain values, defaults included."""
        return self.model_dump(mode="json", exclude={"dataset"})

    def check_trainable(self, location: str) -> None:
        """Check that runs can converge, and that batches are large enough for a substitute that uses donors."""
        training, model = self.training, self.model
        if model.final_from >= training.steps:
            key = "positional_until" if model.final_from == model.positional_until else "residual_fade_steps"
            raise UserError(
                f"{location}: model.{key} {model.final_from} must be less than training.steps {training.steps}"
            )
        evaluations = training.steps // training.evaluate_every - self.uncounted_evaluations
        if self.convergence_threshold is not None and evaluations < training.converged_for:
            raise UserError(
                f"{location}: no run can converge: converged_for {training.converged_for} evaluations in a row, but "
                f"steps {training.steps} evaluated every {training.evaluate_every} have {evaluations} that count"
            )
        if model.uses_donors and min(training.batch_size, self.task.train_size) < 2:
            raise UserError(
                f"{location}: residual_substitute {model.residual_substitute!r} needs the states of other examples; "
                f"batch_size and train_size must be at least 2"
            )
