"""What became of a trial. Apart from what trains it, so that a study can be read without torch."""

from dataclasses import dataclass
from typing import Any

Outcomes = list[dict[str, Any]]
"""Per seed: `seed, steps, converged, steps_to_converge, diverged`, and its `score`."""
Curve = list[dict[str, Any]]
"""Per evaluation: `step, members_converged`, and the members' mean score as its task has it."""


@dataclass(frozen=True)
class Result:
    """What became of a trial's members; finite whatever happened to them."""

    members: int
    converged: int
    score: float
    """On validation, in [0, 1] (`Score.share`): mean over members, at their last step."""
    residuals_kept: int
    parameters: int
    flops: float
    """Training FLOPs of all members."""
    steps: float
    """Mean over members."""
    given_up: int
    diverged: int
    """Members."""

    @property
    def converged_share(self) -> float:
        """Of the members."""
        return self.converged / self.members

    @property
    def values(self) -> tuple[float, float]:
        """To maximise: members converged, ties broken by their mean score. To minimise: residual connections kept."""
        return (self.converged + self.score) / (self.members + 1), float(self.residuals_kept)
