"""The settings of training."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from pipeline.params.config import Config, Fraction, Seed

OptimizerName = Literal["adamw", "muon"]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


def check_distinct_seeds(seeds: list[int]) -> list[int]:
    """The seeds, unchanged.

    Raises:
        ValueError: a seed is listed twice.
    """
    if repeated := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise ValueError(f"seed {repeated[0]} is listed twice")
    return seeds


class Training(Config):
    """The section `training`. All seeds of an ablation train together, as one population."""

    seeds: Annotated[list[Seed], Field(min_length=1)]
    optimizer: OptimizerName = "muon"
    learning_rate: PositiveFloat
    adamw_learning_rate: PositiveFloat = 0.003
    """With Muon: the rate of the parameters that AdamW trains (embeddings, norms). Unused with AdamW alone."""
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    weight_decay: NonNegativeFloat = 0.1
    gradient_clip: PositiveFloat | None = 1.0
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: NonNegativeInt
    final_learning_rate: Fraction = 0.1
    """With the cosine schedule: the last rate, as a fraction of `learning_rate`."""
    decay_steps: PositiveInt | None = None
    """With the cosine schedule: the steps until the final rate, warm-up included. None: all of `steps`, so that
    another budget makes another run from its first step."""
    steps: PositiveInt
    batch_size: PositiveInt
    evaluate_every: PositiveInt
    snapshots: Annotated[int, Field(ge=0, le=100)] = 0
    """Number of times that the weights are saved along training, at logarithmically spaced steps, for `analyze`."""
    converged_at: Annotated[float, Field(gt=0.0, le=1.0)] = 0.99
    """Validation exact match at or above which an evaluation counts towards convergence."""
    converged_at_bits: PositiveFloat | None = None
    """For tasks scored in bits per token: the bits at or below which an evaluation counts. None: no run converges, and
    every run uses its whole budget."""
    converged_for: PositiveInt = 2
    """Number of evaluations in a row that must count. One alone may be lucky."""
    stop_when_converged: bool = True
    loss_on: Literal["answer", "all"] = "answer"
    """`all`: every token after the first."""
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    precision: Literal["32-true", "bf16-mixed", "64-true"] = "32-true"
    deterministic: bool = True
    compiled: bool = False
    """True to use `torch.compile`, with CUDA graphs on a GPU. Compiling takes up to a minute, and again whenever a
    run stops, so it pays in long trainings only."""
    threads: PositiveInt = 1
    """Processor threads of one ablation. Results depend on it in their last digits. Several ablations at a time
    (`python -m pipeline repro`) use a processor better than threads do."""

    @field_validator("betas", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        return check_distinct_seeds(seeds)

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.steps % self.evaluate_every:
            raise ValueError(
                f"evaluate_every: {self.evaluate_every} does not divide steps {self.steps}; "
                f"the last step is always evaluated"
            )
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps: {self.warmup_steps} is more than steps {self.steps}")
        if self.decay_steps is not None and self.decay_steps < self.warmup_steps:
            raise ValueError(f"decay_steps: {self.decay_steps} is less than warmup_steps {self.warmup_steps}")
        return self
