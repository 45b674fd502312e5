"""How an ablation is trained."""

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
    """The seeds; every one is a member of its own."""
    if repeated := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise ValueError(f"seed {repeated[0]} is listed twice; every seed is one member")
    return seeds


class Training(Config):
    """How one ablation is trained: all its seeds together, as one population."""

    seeds: Annotated[list[Seed], Field(min_length=1)]
    optimizer: OptimizerName = "muon"
    learning_rate: PositiveFloat
    adamw_learning_rate: PositiveFloat = 0.003
    """With Muon: the rate of what Muon does not train (embeddings, norms). Unused with AdamW."""
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    weight_decay: NonNegativeFloat = 0.1
    gradient_clip: PositiveFloat | None = 1.0
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: NonNegativeInt
    final_learning_rate: Fraction = 0.1
    """With the cosine schedule: the rate that it ends at, as a fraction of the highest."""
    decay_steps: PositiveInt | None = None
    """With the cosine schedule: the steps it takes, warm-up included; what comes after has the final rate. None: all
    of `steps`, so that a run with a larger budget is another run from its first steps on."""
    steps: PositiveInt
    batch_size: PositiveInt
    evaluate_every: PositiveInt
    snapshots: Annotated[int, Field(ge=0, le=100)] = 0
    """How many times, logarithmically spaced, the weights are kept along training (for `analyze`); 0 for never."""
    converged_at: Annotated[float, Field(gt=0.0, le=1.0)] = 0.99
    """Validation exact match from which on an evaluation counts."""
    converged_at_bits: PositiveFloat | None = None
    """The same for tasks that are scored by bits per token: the most at which it counts. None: there is no such number,
    and every member trains to the end of its budget."""
    converged_for: PositiveInt = 2
    """How many evaluations in a row must count: a single one lets a model pass now and then that is not as good."""
    stop_when_converged: bool = True
    loss_on: Literal["answer", "all"] = "answer"
    """`all`: every token."""
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto"
    precision: Literal["32-true", "bf16-mixed", "64-true"] = "32-true"
    deterministic: bool = True
    compiled: bool = False
    """`torch.compile`, with CUDA graphs on a GPU. It takes up to a minute, and again whenever members stop, so that it
    is for long trainings."""
    threads: PositiveInt = 1
    """Processor threads of one ablation. Results depend on it in their last digits, and ablations side by side
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
    def _fits_together(self) -> Self:
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
