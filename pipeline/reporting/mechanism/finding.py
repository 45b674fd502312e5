"""What a section about the mechanism is written from, and what it gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from pipeline.reporting.page import Section


@dataclass(frozen=True)
class Measured:
    """Everything there is to write from."""

    tables: Mapping[str, pd.DataFrame]
    """Measurement -> its rows for all cells: `ablation, seed, step, trained` (1: the member as its last step left it;
    0 with step 0: at initialisation; 0 with a later step: a snapshot), then its keys, then its values. A member whose
    weights are not finite is left out."""
    runs: pd.DataFrame
    """A row per (ablation, seed), as in `runs.csv`."""
    cells: pd.DataFrame
    """`tables.ablations` of them, in the order of the grid."""


@dataclass(frozen=True)
class Finding:
    """A section, its answer in one sentence (None where the grid cannot give one), and its pictures."""

    section: Section
    short: str | None
    images: dict[str, bytes] = field(default_factory=dict)
    """The PNG of every figure of the section, by its name."""
