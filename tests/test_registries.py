"""A registry is closed: what `params.yaml` may name is what there is, in the same order."""

from collections.abc import Mapping
from typing import Any, get_args

import pytest

from pipeline.params.model import AttentionName, PositionalName, SubstituteName
from pipeline.params.training import OptimizerName
from pipeline.training.optimizers import OPTIMIZERS
from pipeline.transformer.attention import PATTERNS
from pipeline.transformer.positional import POSITIONAL
from pipeline.transformer.substitutes import SUBSTITUTES


@pytest.mark.parametrize(
    ("allowed", "there"),
    [
        pytest.param(get_args(PositionalName), POSITIONAL, id="positional"),
        pytest.param(get_args(AttentionName), PATTERNS, id="attention"),
        pytest.param(get_args(SubstituteName), SUBSTITUTES, id="residual_substitute"),
        pytest.param(get_args(OptimizerName), OPTIMIZERS, id="optimizer"),
    ],
)
def test_what_may_be_named_is_what_there_is(allowed: tuple[str, ...], there: Mapping[str, Any]) -> None:
    assert allowed == tuple(there)
