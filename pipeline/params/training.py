"""The section `training` of `params.yaml`."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pipeline.params.config import Config, Distinct, Fraction, Seed

OptimizerName = Literal["adamw", "muon"]
"""Names of the optimizers."""
MomentDecay = Annotated[float, Field(ge=0.0, lt=1.0)]
"""Decay rate of an optimizer's moving average of gradients or squared gradients."""


class Training(Config):
    """The section `training` of `params.yaml`. All seeds of an ablation train together, as one population."""

    seeds: Annotated[list[Seed], Field(min_length=1), Distinct]
    optimizer: OptimizerName = "muon"
    learning_rate: PositiveFloat
    """Highest learning rate. The optimizer `muon` leaves embeddings and norms to AdamW, with 0.3 times this rate."""
    tuned: list[Literal["learning_rate"]] = Field([])
    """Settings that were tuned for each ablation by itself: they do not count as differences between ablations."""
    betas: Annotated[tuple[MomentDecay, MomentDecay], Field(strict=False)] = (0.9, 0.99)  # accepts a list of YAML
    weight_decay: NonNegativeFloat = 0.1
    gradient_clip: PositiveFloat | None = 1.0
    average: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.97
    """Share that the running average of the weights keeps at each step; 0 for none. The average is what is evaluated,
    kept as the run's weights, and measured."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after warm-up: constant, or falling as half a cosine."""
    warmup_steps: NonNegativeInt
    final_learning_rate: Fraction = 0.1
    """Last learning rate of the cosine schedule, as a fraction of `learning_rate`."""
    decay_steps: PositiveInt | None = None
    """Number of steps, warm-up included, in which the cosine schedule reaches the final learning rate. None for all of
    `steps`: a run with a larger budget then has other learning rates from the start."""
    steps: PositiveInt
    batch_size: PositiveInt
    evaluate_every: PositiveInt
    snapshots: Annotated[int, Field(ge=0, le=100)] = 0
    """Number of logarithmically spaced steps at which the weights are saved during training, for `analyze`."""
    converged_at: Annotated[float, Field(gt=0.0, le=1.0)] = 0.99
    """Least validation exact match at which an evaluation counts towards convergence."""
    converged_at_bits: PositiveFloat | None = None
    """Largest validation score at which an evaluation counts towards convergence, for tasks scored in bits per token.
    None: no run converges, and every run uses its whole budget."""
    converged_for: PositiveInt = 2
    """Number of consecutive evaluations that must reach the threshold before a run has converged; one may be lucky."""
    stop_when_converged: bool = True
    loss_on: Literal["answer", "all"] = "answer"
    """Tokens that the training loss includes: those of the answer, or all but the first."""
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    precision: Literal["32-true", "bf16-mixed", "64-true"] = "32-true"
    deterministic: bool = True
    compiled: bool = False
    """True to use `torch.compile`, with CUDA graphs on a GPU. Compiling takes up to a minute, at the start and whenever
    a run stops, so only long trainings become faster."""
    threads: PositiveInt = 1
    """Number of processor threads of one training, on which the last digits of results depend. Several ablations at a
    time (`python -m pipeline repro`) use a processor better than threads."""

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.steps % self.evaluate_every:
            raise ValueError(f"evaluate_every: {self.evaluate_every} does not divide steps {self.steps}")
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps: {self.warmup_steps} is more than steps {self.steps}")
        if self.decay_steps is not None and self.schedule != "cosine":
            raise ValueError(f"decay_steps: {self.decay_steps} has no effect with schedule {self.schedule!r}")
        if self.decay_steps is not None and self.decay_steps < self.warmup_steps:
            raise ValueError(f"decay_steps: {self.decay_steps} is less than warmup_steps {self.warmup_steps}")
        return self
